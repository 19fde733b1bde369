//! The thread that compresses closed segments and removes old ones: as far as checkpoints cover them, and in nobody's way.

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
use crate::clock::Moment;
use crate::log::{Committer, Keeper, LogError, end_thread};

/// How often it is looked what has become old, where no checkpoint comes.
const LOOK: Duration = Duration::from_secs(600);

/// How long the end waits for the thread. What it does not finish the next start does.
const END: Duration = Duration::from_secs(2);

const DAY_S: i64 = 86_400;

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
        retention: Retention,
        now: fn() -> Moment,
    ) -> std::io::Result<Self> {
        let (covered, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (wake, woken) = sync_channel(1);
        let keeper = Keeper::<Chain>::new(dir, changes, Arc::clone(&stop));
        let worker = Worker {
            dir: dir.to_owned(),
            keeper,
            ledger,
            retention,
            now,
            covered: Arc::clone(&covered),
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new().name("retention".to_owned()).spawn(move || worker.run(&woken))?;
        Ok(Self { covered, stop, wake, thread: Mutex::new(Some(thread)) })
    }

    /// A checkpoint covers the records up to this one.
    pub(super) fn checkpointed(&self, seq: u64) {
        self.covered.fetch_max(seq, Ordering::Relaxed);
        // One that is awake, or about to be, looks anyway.
        self.wake.try_send(()).unwrap_or_default();
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
    retention: Retention,
    now: fn() -> Moment,
    covered: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, woken: &Receiver<()>) {
        let mut failed = false;
        loop {
            match woken.recv_timeout(LOOK) {
                Err(RecvTimeoutError::Disconnected) => return,
                _ if self.stop.load(Ordering::Relaxed) => return,
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
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
        let now = (self.now)();
        let before = now.unix().saturating_sub(DAY_S.saturating_mul(i64::from(self.retention.days)));
        while let Some(old) = self.keeper.old(covered, self.ledger.head().seq, before)? {
            let detail = format!("records {} to {}, covered by a checkpoint of size {covered}", old.first, old.last);
            let entry = Entry::new(Event::LedgerPruned, Outcome::Ok, (self.now)()).detail(&detail);
            // On record first (L2); if that can't be done they stay.
            if let Err(error) = self.ledger.store_blocking(vec![entry]) {
                warn!(name: "ledger_not_kept", %error, "old records could not be removed");
                return Ok(());
            }
            self.keeper.remove(&old, covered)?;
        }
        Ok(())
    }
}
