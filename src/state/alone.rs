//! The state without a daemon: what services that verify for themselves link of it, which is the tables of what is revoked.

#[path = "entry.rs"]
#[expect(dead_code, reason = "its rows are the store's")]
mod entry;
#[path = "kept.rs"]
#[expect(dead_code, reason = "uses, nonces and shares are the store's")]
mod kept;
#[path = "named.rs"]
mod named;

pub use entry::{Answer, Entry, Owner, What};
pub use kept::{Full, Kept, Room};
pub use named::{Named, NamedParent};
