//! Verdicts on signatures: the keys that this daemon knows, and the way in which they verify. No I/O.

mod budget;
mod keyring;
mod possession;
#[cfg(feature = "daemon")]
mod verdicts;
mod verifier;
#[cfg(feature = "daemon")]
mod ways;

pub use budget::Budget;
pub use keyring::{Keyring, KeyringError};
pub use possession::possession;
pub use strict25519::{Item, PreparedKey, Way, Window};
#[cfg(feature = "daemon")]
pub use verdicts::Verdicts;
pub use verifier::{Difference, Net, Verifier};
#[cfg(feature = "daemon")]
pub use ways::{say_difference, say_way, ways};
