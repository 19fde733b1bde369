//! The thread that compresses closed segments and removes old ones, as far as checkpoints cover them and in nobody's way; and keeps where
//! the tree stands, and looks how much room there is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::Chain;
use super::entry::{Entry, Outcome};
use super::event::Event;
use super::growth::Growth;
use super::room::{self, Room};
use crate::clock::Moment;
use crate::log::{Committer, Keeper, LogError, end_thread, usage};
use crate::metrics::Metrics;

/// How often it is looked what has become old, and the tree is kept, where no checkpoint comes.
const LOOK: Duration = Duration::from_secs(60);

/// How long the end waits for the thread. What it does not finish the next start does.
const END: Duration = Duration::from_secs(2);

const DAY_S: i64 = 86_400;

/// Of so many seconds of the past, in the records' own time, segments may go right after a start.
const HEAD_START_S: i64 = 7_200;

/// How long records are kept, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older segments are removed; 0: none.
    pub days: u32,
    /// Whether closed segments are compressed.
    pub compress: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self { days: 90, compress: true }
    }
}

/// The handle to the thread, which ends when the last one is dropped.
#[derive(Debug)]
pub(super) struct Keeping {
    covered: Arc<AtomicU64>,
    sure: Arc<Mutex<Option<Moment>>>,
    room: Arc<Mutex<Option<Room>>>,
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeping {
    /// For the ledger in `dir`.
    pub(super) fn start(
        dir: &Path,
        changes: Arc<AtomicU64>,
        ledger: Committer<Entry>,
        (growth, metrics): (Arc<Growth>, Option<Arc<Metrics>>),
        retention: Retention,
        now: fn() -> Moment,
    ) -> std::io::Result<Self> {
        let (covered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sure, room) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
        let (wake, woken) = sync_channel(1);
        let keeper = Keeper::<Chain>::new(dir, changes, Arc::clone(&stop));
        let worker = Worker {
            dir: dir.to_owned(),
            keeper,
            ledger,
            growth,
            metrics,
            room: Arc::clone(&room),
            growing: room::Growth::default(),
            low: false,
            retention,
            now,
            covered: Arc::clone(&covered),
            sure: Arc::clone(&sure),
            stop: Arc::clone(&stop),
            since: Instant::now(),
            oldest: None,
            told: 0,
        };
        let thread = thread::Builder::new().name("retention".to_owned()).spawn(move || worker.run(&woken))?;
        Ok(Self { covered, sure, room, stop, wake, thread: Mutex::new(Some(thread)) })
    }

    /// A checkpoint covers the records up to this one; `sure` is the time, none where the clock may be wrong.
    pub(super) fn checkpointed(&self, seq: u64, sure: Option<Moment>) {
        *self.sure.lock().unwrap_or_else(PoisonError::into_inner) = sure;
        self.covered.fetch_max(seq, Ordering::Relaxed);
        // One that is awake, or about to be, looks anyway.
        self.wake.try_send(()).unwrap_or_default();
    }

    /// What was seen last.
    pub(super) fn room(&self) -> Option<Room> {
        *self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread.
    pub(super) fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let wake = || {
            self.wake.try_send(()).unwrap_or_default();
            true
        };
        thread.map(|thread| end_thread(thread, wake, Instant::now() + END));
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    dir: PathBuf,
    keeper: Keeper<Chain>,
    ledger: Committer<Entry>,
    growth: Arc<Growth>,
    metrics: Option<Arc<Metrics>>,
    room: Arc<Mutex<Option<Room>>>,
    growing: room::Growth,
    /// Whether it was said that there is little.
    low: bool,
    retention: Retention,
    now: fn() -> Moment,
    covered: Arc<AtomicU64>,
    /// The time of the newest checkpoint, unless the clock was in doubt: then nothing is removed.
    sure: Arc<Mutex<Option<Moment>>>,
    stop: Arc<AtomicBool>,
    /// When this began, and of when the oldest segment was that there was then.
    since: Instant,
    oldest: Option<i64>,
    /// The last record of which it is on record that it goes.
    told: u64,
}

/// Segments that were written before this time go, in seconds since 1970: those that are older than so many days, but of the
/// past that is there no more than twice the time that this process runs. A clock that is ahead, which a start can't always tell
/// (`MAX_AHEAD_S`), does not take all of a ledger away before somebody sees it.
fn limit(days: u32, sure: Moment, oldest: i64, up: Duration) -> i64 {
    let old = sure.unix().saturating_sub(DAY_S.saturating_mul(i64::from(days)));
    let up = i64::try_from(up.as_secs()).unwrap_or(i64::MAX);
    old.min(oldest.saturating_add(HEAD_START_S).saturating_add(up.saturating_mul(2)))
}

impl Worker {
    fn run(mut self, woken: &Receiver<()>) {
        let mut failed = false;
        let mut unkept = false;
        loop {
            self.look();
            match woken.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Disconnected) => return,
                _ if self.stop.load(Ordering::Relaxed) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
            }
            match self.growth.keep() {
                Ok(()) => unkept = false,
                Err(_) if unkept => {}
                Err(error) => {
                    unkept = true;
                    warn!(name: "tree_not_kept", %error, "the next start reads more of the ledger");
                }
            }
            match self.turn() {
                Ok(()) => failed = false,
                Err(_) if self.stop.load(Ordering::Relaxed) => return,
                Err(LogError::Damaged { .. } | LogError::Twice { .. } | LogError::Base { .. }) if failed => {}
                Err(error @ (LogError::Damaged { .. } | LogError::Twice { .. } | LogError::Base { .. })) => {
                    failed = true;
                    let dir = self.dir.display();
                    error!(name: "ledger_damaged", %dir, %error, "the ledger is damaged; nothing is compressed or removed");
                }
                Err(error) => warn!(name: "ledger_not_kept", %error, "a segment could not be compressed or removed"),
            }
        }
    }

    /// How much room there is.
    fn look(&mut self) {
        let Ok(usage) = usage(&self.dir) else { return };
        let room = self.growing.at(Instant::now(), usage);
        if let Some(metrics) = &self.metrics {
            let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            metrics.ledger.bytes.set(number(usage.bytes));
            metrics.ledger.segments.set(number(usage.segments));
            metrics.ledger.free_bytes.set(number(usage.free));
            metrics.ledger.left.set(i64::from(room.days_left).saturating_mul(DAY_S));
        }
        if room.is_low() && !self.low {
            let (dir, free_mib) = (self.dir.display(), usage.free >> 20);
            warn!(name: "ledger_room_low", %dir, free_mib, days_left = room.days_left, "the ledger runs out of room");
        }
        self.low = room.is_low();
        *self.room.lock().unwrap_or_else(PoisonError::into_inner) = Some(room);
    }

    /// Everything that can be done now.
    fn turn(&mut self) -> Result<(), LogError> {
        let covered = self.covered.load(Ordering::Relaxed);
        if self.retention.compress {
            while let Some(segment) = self.keeper.compress_one(covered, self.ledger.head().seq)? {
                info!(name: "segment_compressed", segment, "compressed");
            }
        }
        if self.retention.days == 0 {
            return Ok(());
        }
        let Some(sure) = *self.sure.lock().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
        while let Some(old) = self.keeper.oldest(covered, self.ledger.head().seq, sure.unix())? {
            let oldest = *self.oldest.get_or_insert(old.written);
            if old.written >= limit(self.retention.days, sure, oldest, self.since.elapsed()) {
                break;
            }
            let removal = self.keeper.prepare(&old, covered)?;
            // On record first (L2), once: what then can't be removed is tried again.
            if self.told < old.last {
                let detail =
                    format!("records {} to {}, covered by a checkpoint of size {covered}", old.first, old.last);
                let entry = Entry::new(Event::LedgerPruned, Outcome::Ok, (self.now)()).detail(&detail);
                if let Err(error) = self.ledger.store_blocking(vec![entry]) {
                    warn!(name: "ledger_not_kept", %error, "old records could not be removed");
                    return Ok(());
                }
                self.told = old.last;
            }
            self.keeper.remove(removal)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_takes_no_more_than_twice_the_time_that_passes() {
        let (oldest, day) = (1_700_000_000, Duration::from_secs(86_400));
        let right = Moment::from_unix(oldest).plus(90 * DAY_S);
        let ahead = right.plus(300 * DAY_S);
        // The oldest record is just of 90 days ago: nothing is older.
        assert_eq!(limit(90, right, oldest, day), oldest);
        assert_eq!(limit(90, right.plus(60), oldest, day), oldest + 60);
        assert_eq!(limit(90, ahead, oldest, Duration::ZERO), oldest + HEAD_START_S);
        assert_eq!(limit(90, ahead, oldest, day), oldest + HEAD_START_S + 2 * DAY_S);
        assert_eq!(
            limit(u32::MAX, Moment::from_unix(i64::MAX), i64::MAX, Duration::MAX),
            i64::MAX / 1_000_000 - i64::from(u32::MAX) * DAY_S
        );
    }
}
