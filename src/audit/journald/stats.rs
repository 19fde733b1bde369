//! What the journald thread, the commit thread and readers of metrics share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Moment;

/// What became of the records.
#[derive(Debug, Default)]
pub struct JournaldStats {
    sent: AtomicU64,
    resent: AtomicU64,
    dropped: AtomicU64,
    down: AtomicBool,
    /// When the oldest record was made that journald has not taken, in microseconds since 1970; 0 for none.
    waits_since: AtomicI64,
}

impl JournaldStats {
    /// Records handed to journald; a sent datagram is no receipt.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Those of them that it may have had before: it was gone in between.
    pub fn resent(&self) -> u64 {
        self.resent.load(Ordering::Relaxed)
    }

    /// Records that journald will not get: those that are in no ledger and found no room, and those that the ledger no longer has.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether it takes records.
    pub fn up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    /// The age of the oldest record that it has not taken; zero when it has them all.
    pub fn lag(&self, now: Moment) -> Duration {
        match self.waits_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_micros(u64::try_from(now.micros().saturating_sub(since)).unwrap_or(0)),
        }
    }

    pub(super) fn set_up(&self, up: bool) {
        self.down.store(!up, Ordering::Relaxed);
    }

    /// One more that was handed over, or was not.
    pub(super) fn count(&self, sent: bool) {
        let counter = if sent { &self.sent } else { &self.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// One more of those that were handed over had been before.
    pub(super) fn again(&self) {
        self.resent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lost(&self, records: u64) {
        self.dropped.fetch_add(records, Ordering::Relaxed);
    }

    /// The next one to be handed over was made at this time, in microseconds since 1970.
    pub(super) fn waits_since(&self, made: i64) {
        self.waits_since.store(made.max(1), Ordering::Relaxed);
    }

    /// None is waiting.
    pub(super) fn caught_up(&self) {
        self.waits_since.store(0, Ordering::Relaxed);
    }
}

/// Between the commit thread and the one that reads along in the ledger.
#[derive(Debug)]
pub(in crate::audit) struct Shared {
    pub(super) stats: Arc<JournaldStats>,
    newest: AtomicU64,
    ends: AtomicBool,
}

impl Shared {
    /// For a ledger whose newest record is `head`.
    pub(super) fn new(head: u64) -> Self {
        Self { stats: Arc::default(), newest: AtomicU64::new(head), ends: AtomicBool::new(false) }
    }

    /// A record is durable. All that it costs the commit thread.
    pub(super) fn durable(&self, seq: u64, made: Moment) {
        self.newest.store(seq, Ordering::Release);
        if self.stats.waits_since.load(Ordering::Relaxed) == 0 {
            self.stats.waits_since(made.micros());
        }
    }

    /// The newest durable record. Whoever reads this sees the files as they were made before.
    pub(super) fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    /// There will be no more records.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::Release);
    }

    pub(super) fn ends(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }
}
