//! Strict Ed25519 verification for few, long-lived keys.
//!
//! A verdict is exactly what `ed25519-dalek`'s `verify_strict` says about the same key, message and signature, whatever
//! else is in the batch and in whatever order. That is why there is no batch equation in here: `verify_batch` of dalek
//! answers for the batch as a whole, accepts what the strict rules refuse, and changes its mind with the company an
//! item is in (`tests/vectors/INDEX.md` counts how often).
//!
//! Keys are checked once, when they are loaded, so that the checks of every later verification are fewer:
//! [`PreparedKey::new`] refuses keys that are not canonical, or that are not of prime order.
//!
//! ```
//! use strict25519::{Item, PreparedKey, verify_many};
//!
//! // RFC 8032 §7.1, TEST 2: a message of one byte, 0x72.
//! let key = PreparedKey::new(&[
//!     0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc, //
//!     0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c,
//! ])?;
//! let signature = [
//!     0x92, 0xa0, 0x09, 0xa9, 0xf0, 0xd4, 0xca, 0xb8, 0x72, 0x0e, 0x82, 0x0b, 0x5f, 0x64, 0x25, 0x40, //
//!     0xa2, 0xb2, 0x7b, 0x54, 0x16, 0x50, 0x3f, 0x8f, 0xb3, 0x76, 0x22, 0x23, 0xeb, 0xdb, 0x69, 0xda, //
//!     0x08, 0x5a, 0xc1, 0xe4, 0x3e, 0x15, 0x99, 0x6e, 0x45, 0x8f, 0x36, 0x13, 0xd0, 0xf1, 0x1d, 0x8c, //
//!     0x38, 0x7b, 0x2e, 0xae, 0xb4, 0x30, 0x2a, 0xee, 0xb0, 0x0d, 0x29, 0x16, 0x12, 0xbb, 0x0c, 0x00,
//! ];
//!
//! let items = [
//!     Item { key: &key, message: &[0x72], signature: &signature },
//!     Item { key: &key, message: &[0x73], signature: &signature },
//! ];
//! let mut verdicts = Vec::new();
//! verify_many(&items, &mut verdicts);
//! assert_eq!(verdicts, [true, false]);
//! # Ok::<(), strict25519::KeyError>(())
//! ```
#![deny(unsafe_code)]

#[cfg(test)]
mod agreement;
mod dispatch;
mod engine;
mod field;
mod inverse;
mod key;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod point;
mod portable;
mod scalar;
mod self_test;
mod small_order;
mod table;
#[cfg(test)]
mod testing;

pub use engine::{Way, verify_many_by};
pub use key::{KeyError, PreparedKey};
pub use self_test::SelfTestError;
pub use table::Window;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Bytes of an encoded public key (RFC 8032 §5.1.5).
pub const KEY_LENGTH: usize = 32;

/// Bytes of a signature (RFC 8032 §5.1.6).
pub const SIGNATURE_LENGTH: usize = 64;

/// One question: is `signature` a signature of `message` under `key`?
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The key, prepared. Items of one batch may have different keys.
    pub key: &'a PreparedKey,
    /// The signed bytes, exactly.
    pub message: &'a [u8],
    /// The signature, R ‖ s.
    pub signature: &'a [u8; SIGNATURE_LENGTH],
}

impl Item<'_> {
    /// The first half of the signature: the encoding of R.
    #[inline(always)]
    fn r(&self) -> &[u8; 32] {
        let (halves, _) = self.signature.as_chunks::<32>();
        halves.first().unwrap_or(&[0; 32])
    }

    /// The second half: the number s, in little-endian words.
    #[inline(always)]
    fn s(&self) -> [u64; 4] {
        let (halves, _) = self.signature.as_chunks::<32>();
        field::words(halves.get(1).unwrap_or(&[0; 32]))
    }

    /// Whether the signature passes the checks that need no point: s < L (RFC 8032 §5.1.7), and R is none of the points
    /// of small order.
    #[inline(always)]
    fn may_hold(&self) -> bool {
        scalar::is_below_order(self.s()) && !small_order::has_small_order(self.r())
    }
}

/// Answers every item by itself: afterwards `verdicts[i]` says whether `items[i]` verified. By the fastest way that
/// this processor has.
///
/// `verdicts` is emptied first and has one entry per item at the end, so no verdict of an earlier call can be taken
/// for one of this call; an empty batch gives no verdicts. The vector is an argument so that its memory is used again.
pub fn verify_many(items: &[Item<'_>], verdicts: &mut Vec<bool>) {
    verify_many_by(Way::fastest(), items, verdicts);
}
