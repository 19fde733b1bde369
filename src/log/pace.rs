//! How patient the commit loop is, and how much it takes.

use std::time::Duration;

/// The bounds of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Entries that may wait; more are refused with [`super::CommitError::Busy`]. An audit entry takes 0.5 KiB, 3 KiB at most.
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
