//! How secrets are sealed, as the signer needs to know it. What does it is a room of its own, `seal`, which `boot` hands in.

use crate::wire::sealed::{Namespace, SealKid, Sealed};
use zeroize::Zeroizing;

/// Bytes of what the HSM derives, and of the keys that come of it.
pub const KEY: usize = super::device::DERIVED;

/// Where a secret belongs. Its key is derived for it, and what is sealed opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct SealPlace<'a> {
    /// The signer's own issuer, which tells instances apart.
    pub issuer: &'a str,
    /// The namespace.
    pub namespace: Namespace<'a>,
    /// The secret's name in it.
    pub name: &'a str,
    /// The key.
    pub kid: SealKid<'a>,
}

/// The blob does not open here. Deliberately without a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unopenable;

/// Seals and opens, with keys that the HSM derives.
pub trait Sealer: Send + Sync {
    /// What the HSM is to hash under the seal key, for the key of this namespace and version.
    fn derivation(&self, place: &SealPlace<'_>) -> Vec<u8>;

    /// The key, from what the HSM made of it.
    fn key(&self, derived: &[u8; KEY]) -> Zeroizing<[u8; KEY]>;

    /// Seals; none if there is no randomness.
    fn seal(&self, key: &[u8; KEY], place: &SealPlace<'_>, plain: &[u8]) -> Option<Vec<u8>>;

    /// Opens what was sealed in this very place.
    ///
    /// # Errors
    /// [`Unopenable`].
    fn open(
        &self,
        key: &[u8; KEY],
        place: &SealPlace<'_>,
        sealed: &Sealed<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Unopenable>;
}
