//! What must outlive the process: the key table, in an embedded store of one file.
//!
//! Readers take an immutable snapshot and never wait. One thread writes, several changes with one sync. A change names
//! the sequence number of its audit record (L2: the record is durable first), and a ledger that is behind its state
//! refuses to start.

mod dump;
mod entry;
mod epochs;
mod file;
/// For `cargo fuzz` and the replay of its corpora; no product is built with it.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod kept;
mod keys;
mod look;
mod named;
mod newer;
mod news;
mod pages;
mod parent;
mod rows;
mod spend;
mod store;
mod table;
mod told;
mod tools;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use entry::{Answer, Entry, Owner, What};
pub use epochs::{Done, Epochs, Pending};
pub use kept::{Full, Kept, Room};
pub use keys::{EXPIRED, KeyError, KeyRecord, KeyState, MAX_KEYS, MAX_KID, NewKey, PAST_LAST_S, Role, STANDINGS};
pub use look::{MAX_LOOK, look};
pub use named::{Named, NamedParent};
pub use news::{Ear, News};
pub use pages::{MAX_SCANNED, Page};
pub use parent::Parent;
pub use spend::{REPEAT_S, Spend, Spending};
pub use store::{Change, Committed, ENTRIES, Mode, Snapshot, Store};
pub use table::KeyTable;
pub use tools::{Backup, By, Restored, export, import, reset_clock, restore};

use crate::log::{PlaceError, remedy};

/// Why the state cannot be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Operator: the file, its directory, its lock.
    #[error("state: {0}")]
    Place(#[from] PlaceError),
    /// Operator: no file where one must be.
    #[error(
        "{path}: there is no state file, but there has been one (the ledger has records). Without it keys that still \
         verify and key versions that were used would be forgotten: put a backup in its place with `passportctl state restore`"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// Operator: written by a newer passportd.
    #[error("{path}: has format {found}, this passportd knows {known}; use the passportd that wrote it")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format found.
        found: String,
        /// The format known.
        known: u32,
    },
    /// Host: what is in the file is not what was written.
    #[error(
        "{path}: is damaged ({what}); `passportctl state check` looks at it, `passportctl state restore` puts the newest backup in its place"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// Operator: not what was exported.
    #[error("{path}: {what}")]
    Text {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// Host: reading or writing failed.
    #[error("{path}: {what}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed.
        what: String,
    },
    /// Operator: the ledger was replaced by an older one, or lost its end.
    #[error(
        "the state was changed on the strength of audit record {state_seq}, but the ledger ends at record {head_seq}: \
         the ledger was cut off or replaced by an older copy. Restore the ledger that belongs to this state"
    )]
    AheadOfLedger {
        /// The newest audit record that the state knows.
        state_seq: u64,
        /// The ledger's newest record.
        head_seq: u64,
    },
    /// Operator: the state was replaced by an older one.
    #[error(
        "the ledger says that the state was changed on the strength of audit record {ledger_seq}, but this state knows of \
         no change after record {state_seq}: it is an older copy, in which later keys are forgotten and retired ones sign \
         again. Put the state that belongs to this ledger back, or have this one declared a backup: `passportctl state restore`"
    )]
    BehindLedger {
        /// The newest audit record that the state knows.
        state_seq: u64,
        /// The newest that it knew when the ledger was last written.
        ledger_seq: u64,
    },
    /// The change is not allowed in the present state of the keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The peer's, the tenant's or everybody's share is used up.
    #[error("{}", .0.says())]
    Full(Full),
    /// The peer's: a text is longer than is kept.
    #[error("an id, subject or nonce is longer than 256 bytes, or there is no such time")]
    TooLong,
    /// Us: too many changes are waiting.
    #[error("too many state changes are waiting to be written; try again")]
    Busy,
    /// Host: the change is not durable. It may be found done after a restart; ask again before repeating it.
    #[error("the state cannot be written: {0}")]
    Unavailable(String),
    /// Us: the daemon is stopping.
    #[error("the state is closed")]
    Closed,
}

impl StateError {
    /// The same once more: several callers may share one failure.
    fn again(&self) -> Self {
        match self {
            Self::Busy => Self::Busy,
            Self::Closed => Self::Closed,
            Self::Full(full) => Self::Full(*full),
            other => Self::Unavailable(match other {
                Self::Unavailable(why) => why.clone(),
                other => other.to_string(),
            }),
        }
    }

    /// The host failed to read or write the file.
    fn of_host(path: &Path, error: &io::Error) -> Self {
        Self::Io { path: path.to_owned(), what: format!("{error}{}", remedy(error)) }
    }
}

#[cfg(test)]
mod ending_tests;
#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod news_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tools_tests;
