//! What producers agree on with the commit loop: its bounds, and its answers.

use std::time::Duration;

/// The bounds of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Entries that may wait; more are refused with [`CommitError::Busy`]. An audit entry takes 0.5 KiB, 3 KiB at most.
    pub max_queued: usize,
    /// Once a commit has this many bytes, no further group joins it.
    pub max_commit_bytes: usize,
    /// The pause after a first failure, doubled after each further one …
    pub retry_first: Duration,
    /// … up to this: a full disk is noticed to have room again within it.
    pub retry_max: Duration,
    /// The longest that a producer waits. A disk that hangs in `fdatasync` never answers.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            max_queued: 8192,
            max_commit_bytes: 1024 * 1024,
            retry_first: Duration::from_millis(50),
            retry_max: Duration::from_secs(2),
            // A busy disk may take a second or two for a sync; clients give up after ten.
            patience: Duration::from_secs(5),
        }
    }
}

/// Where a group ended up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The sequence number of its first entry; the others follow without a gap.
    pub first: u64,
    /// The sequence number of its last entry.
    pub last: u64,
}

/// Why a group is not durable. Nothing of it will ever be acknowledged, though after a crash it may be found written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Us: more is waiting than the queue's bound.
    #[error("{waiting} log entries are waiting to be written (at most {max}); try again")]
    Busy {
        /// How many wait.
        waiting: usize,
        /// The bound.
        max: usize,
    },
    /// Us: a group too large, or an entry that cannot be written.
    #[error("log entry refused: {0}")]
    Refused(String),
    /// Host: the disk does not take it.
    #[error("the log cannot be written: {0}")]
    Unavailable(String),
    /// Us: the daemon is stopping.
    #[error("the log is closed")]
    Closed,
}
