//! Public keys, checked once.

use std::fmt;
use std::sync::Arc;

use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::{Signature, VerifyingKey};
use sha2::{Digest as _, Sha512};

use crate::field::words;
use crate::table::{Table, Window};
use crate::{KEY_LENGTH, SIGNATURE_LENGTH, portable};

/// Why a public key is not fit to verify with. Whoever handed in the key is at fault, never a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyError {
    /// The 32 bytes are not the encoding of any point of the curve.
    NotAPoint,
    /// The bytes decode, but are not the one encoding that the point has (RFC 8032 §5.1.2): two encodings of one key
    /// would be two names of one key.
    NonCanonical,
    /// The point has order 1, 2, 4 or 8: there are signatures under it that fit almost every message.
    SmallOrder,
    /// The point has a component of small order beside the prime-order one. No honest key generation makes such a
    /// key, and libraries disagree about its signatures (ed25519-speccheck, case 3).
    MixedOrder,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAPoint => "the public key is not a point of edwards25519",
            Self::NonCanonical => "the public key is not canonically encoded",
            Self::SmallOrder => "the public key has small order: anyone could forge for it",
            Self::MixedOrder => "the public key has a component of small order",
        })
    }
}

impl std::error::Error for KeyError {}

/// A public key that was found fit, ready to verify with. Costs one point decompression and two scalar
/// multiplications to make (about 0.1 ms), and its table 0.4 to 1.5 ms more, so make it once per key. Clones share the
/// table.
#[derive(Clone)]
pub struct PreparedKey {
    key: VerifyingKey,
    table: Option<Arc<Table>>,
}

impl PreparedKey {
    /// Checks the encoded public key `bytes` (RFC 8032 §5.1.2). Without a table it is verified with as the reference
    /// does it, one signature at a time.
    ///
    /// # Errors
    /// Says which of the demands the key does not meet: see [`KeyError`].
    pub fn new(bytes: &[u8; KEY_LENGTH]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        let point = key.to_edwards();
        // dalek decodes by the ZIP 215 rules, which admit y >= p and a sign bit on x = 0.
        if point.compress().to_bytes() != *bytes {
            return Err(KeyError::NonCanonical);
        }
        if key.is_weak() {
            return Err(KeyError::SmallOrder);
        }
        if !point.is_torsion_free() {
            return Err(KeyError::MixedOrder);
        }
        Ok(Self { key, table: None })
    }

    /// A key of mixed order, which [`PreparedKey::new`] refuses: the ways must agree on it all the same, which shows that they
    /// treat k as the number it is, and not modulo the order of a point.
    #[cfg(test)]
    pub(crate) fn unchecked(bytes: &[u8; KEY_LENGTH]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes).ok().map(|key| Self { key, table: None })
    }

    /// The same key with a table of that width, which the fast ways need. Should the table not hold what it must, the key
    /// is without one, and verified with as the reference does it.
    #[must_use]
    pub fn with_table(self, window: Window) -> Self {
        let table = Table::of_negative(self.key.as_bytes(), window).filter(|table| self.agrees(table));
        Self { table: table.map(Arc::new), ..self }
    }

    /// Whether one sum by the table, which takes a row of each window, is that of the reference.
    fn agrees(&self, table: &Table) -> bool {
        let hash = |tag: &[u8]| Sha512::new().chain_update(tag).chain_update(self.as_bytes()).finalize();
        let [s, k] = [b"s", b"k"].map(|tag| Scalar::from_bytes_mod_order_wide(&hash(tag).into()));
        let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-self.key.to_edwards(), &s);
        portable::sum(table, words(s.as_bytes()), words(k.as_bytes())) == expected.compress().to_bytes()
    }

    /// The width of its table, if it has one.
    pub fn window(&self) -> Option<Window> {
        self.table.as_ref().map(|table| table.window)
    }

    /// Whether both have one table in memory.
    pub fn shares_table_with(&self, other: &Self) -> bool {
        self.table.as_ref().zip(other.table.as_ref()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The encoded key, as it was given to [`PreparedKey::new`].
    pub fn as_bytes(&self) -> &[u8; KEY_LENGTH] {
        self.key.as_bytes()
    }

    /// Whether `signature` is a strict Ed25519 signature of `message` under this key, by the reference:
    /// `ed25519-dalek`'s `verify_strict`.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
        self.key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    pub(crate) fn table(&self) -> Option<&Table> {
        self.table.as_deref()
    }
}

impl PartialEq for PreparedKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PreparedKey {}

impl fmt::Debug for PreparedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedKey").field("key", &self.as_bytes()).field("window", &self.window()).finish()
    }
}
