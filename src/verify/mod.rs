//! Verdicts on signatures: `verify_many` over the keys that this daemon knows. No state, no I/O.

mod keyring;

pub use keyring::{Keyring, KeyringError};
pub use strict25519::{Item, PreparedKey};

/// How [`verify_many`] verifies: one by one, as `ed25519-dalek` does. For the log.
pub const PATH: &str = "dalek";

/// Verifies each item on its own with `verify_strict`; `verdicts` is cleared and filled, one entry per item, in order.
pub fn verify_many(items: &[Item<'_>], verdicts: &mut Vec<bool>) {
    strict25519::verify_many(items, verdicts);
}
