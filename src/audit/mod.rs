//! Audit records: what is written before its effect leaves the process (L2), hash-chained in the ledger, and copied to
//! journald.
//!
//! Order for every decision that changes or refuses something: build an [`Entry`], `record(entry).await?`, then answer.
//! An error means that the operation fails as `audit_unavailable`.

mod chain;
mod entry;
mod event;
/// For `cargo fuzz` and the replay of its corpora; no product is built with it.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod growth;
mod journald;
mod life;
mod meaning;
mod notes;
pub mod reading;
mod record;
mod retention;
mod room;
mod since;
mod tree;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use entry::{Entry, MAX_COUNT, MAX_DETAIL, MAX_TEXT, Outcome, Peer};
pub use event::{Event, Priority};
pub use growth::{NoTree, Recovery};
pub use journald::JournaldStats;
pub use meaning::{Meaning, meaning};
pub use notes::Notes;
pub use retention::Retention;
pub use room::Room;
pub use since::keys_since;
pub use tree::Tree;

/// Where journald listens.
pub use crate::log::journal::SOCKET as JOURNALD_SOCKET;

/// Why a ledger does not verify.
pub use crate::log::LogError as ChainError;
/// What is wrong with the place that a ledger, or the state, is kept in.
pub use crate::log::PlaceError;
/// What [`verify_chain`] found.
pub use crate::log::Report as ChainReport;

use crate::clock::Moment;
use crate::log::{
    self, CommitError, Committer, Hash, Head, LogError, Pace, Receipt, Recovered, SegmentConfig, Segments,
};
use crate::metrics::Metrics;
use chain::Chain;
use growth::{Growing, Growth, MAX_AT_START};
use journald::{Journald, Source};
use retention::Keeping;

/// How the ledger is kept.
#[derive(Clone, Debug)]
pub struct AuditConfig {
    /// The size of its files.
    pub segment: SegmentConfig,
    /// Queue, commit and retry bounds.
    pub pace: Pace,
    /// journald's socket ([`JOURNALD_SOCKET`]); none turns that sink off.
    pub journald: Option<PathBuf>,
    /// The clock for the records that the ledger makes itself (breaks): [`Moment::now`], or a test's.
    pub now: fn() -> Moment,
    /// Where durable records are counted.
    pub metrics: Option<Arc<Metrics>>,
}

/// Why something could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Operator or host: the ledger could not be opened.
    #[error("audit ledger: {0}")]
    Open(#[from] LogError),
    /// Host or us: the record is not durable.
    #[error("audit ledger: {0}")]
    Commit(#[from] CommitError),
    /// Host: the thread that compresses and removes.
    #[error("cannot start the thread that compresses and removes old records: {0}")]
    Retention(std::io::Error),
    /// Host: the thread for journald.
    #[error("cannot start the thread that writes to journald: {0}")]
    Journald(std::io::Error),
}

/// What was found and started at open, for the log and the first record.
#[derive(Debug)]
pub struct Opened {
    /// Where the ledger stood, before the break record that [`Recovered::gap`] asks for.
    pub recovered: Recovered,
    /// Whether journald is there; false if it is turned off, too. One that comes later gets the records from here on.
    pub journald: bool,
}

/// The handle to the ledger; clones share it.
#[derive(Clone)]
pub struct Audit {
    ledger: Committer<Entry>,
    state_seq: Arc<AtomicU64>,
    journald: Option<Arc<JournaldStats>>,
    journald_thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    growth: Arc<Growth>,
    /// Where it is, if in files.
    files: Option<Files>,
    keeping: Arc<OnceLock<Keeping>>,
}

#[derive(Clone)]
struct Files {
    dir: PathBuf,
    changes: Arc<AtomicU64>,
    now: fn() -> Moment,
    metrics: Option<Arc<Metrics>>,
}

impl Audit {
    /// Opens the ledger in `dir`, which must exist and be ours alone, and starts its threads.
    ///
    /// # Errors
    /// [`AuditError`].
    pub fn open(dir: &Path, config: &AuditConfig) -> Result<(Self, Opened), AuditError> {
        Self::open_if(dir, config, |_| Ok(())).map(|(audit, opened, ())| (audit, opened))
    }

    /// The same, if what was found there is what `fits`, and with what that gives. Nothing is written before: a break record would
    /// make a ledger that was cut off as long as it ought to be.
    ///
    /// # Errors
    /// [`AuditError`], or that of `fits`.
    pub fn open_if<T, E: From<AuditError>>(
        dir: &Path,
        config: &AuditConfig,
        fits: impl FnOnce(&Recovered) -> Result<T, E>,
    ) -> Result<(Self, Opened, T), E> {
        let (segments, recovered) = Segments::open::<Chain>(dir, config.segment).map_err(AuditError::from)?;
        let given = fits(&recovered)?;
        let copy = recovered.clone();
        let changes = segments.changes();
        let source = Source { dir, changes: Arc::clone(&changes), head: recovered.head.seq, now: (config.now)() };
        let follow = |path: &PathBuf| Journald::follow::<Chain>(path, source);
        let journald = config.journald.as_ref().map(follow).transpose().map_err(AuditError::Journald)?;
        let ledger = |chain| Committer::start(segments, recovered, chain, config.pace);
        let mut audit = Self::start(config, journald, &copy.head, ledger)?;
        audit.files = Some(Files { dir: dir.to_owned(), changes, now: config.now, metrics: config.metrics.clone() });
        let journald = config.journald.as_ref().is_some_and(|path| path.exists());
        Ok((audit, Opened { recovered: copy, journald }, given))
    }

    /// A ledger that is kept nowhere, for amnesia mode: records are chained and numbered. journald keeps what it is sent, so
    /// it is sent the life of the daemon and its keys, and nothing of anybody else ([`Entry::of_life`]).
    pub fn memory(config: &AuditConfig) -> Result<Self, AuditError> {
        Self::start(config, queued(config)?, &Head::GENESIS, |chain| {
            Committer::volatile(Chain { forgets: true, ..chain }, config.pace)
        })
    }

    /// A ledger on a disk that a test has made.
    #[cfg(test)]
    pub(crate) fn over(shelf: Box<dyn log::Shelf>, config: &AuditConfig) -> Result<Self, AuditError> {
        Self::start(config, queued(config)?, &Head::GENESIS, |chain| Committer::over(shelf, chain, config.pace))
    }

    fn start(
        config: &AuditConfig,
        started: Option<(Journald, JoinHandle<()>)>,
        head: &Head,
        ledger: impl FnOnce(Chain) -> Result<Committer<Entry>, LogError>,
    ) -> Result<Self, AuditError> {
        let (journald, thread) = started.unzip();
        let stats = journald.as_ref().map(Journald::stats);
        let (now, metrics, state_seq) = (config.now, config.metrics.clone(), Arc::new(AtomicU64::new(0)));
        // That of an empty ledger; of another it is known once [`Audit::recover`] has read it.
        let growth = Arc::new(Growth::new(head));
        let growing = Growing::new(Arc::clone(&growth));
        let ledger =
            ledger(Chain { journald, now, metrics, state_seq: Arc::clone(&state_seq), growing, forgets: false })?;
        Ok(Self {
            ledger,
            state_seq,
            journald: stats,
            journald_thread: Arc::new(Mutex::new(thread)),
            growth,
            files: None,
            keeping: Arc::default(),
        })
    }

    /// Reads what checkpoints say of the ledger in `ledger`, from what is kept of it in `checkpoints`, where it is kept from now on; what
    /// would take long is read beside everything else. Without it there are checkpoints of a new ledger alone.
    ///
    /// # Errors
    /// [`AuditError::Open`].
    pub fn recover(&self, ledger: &Path, checkpoints: &Path) -> Result<Recovery, AuditError> {
        let committer = self.ledger.clone();
        Ok(self.growth.recover(ledger, checkpoints, move || committer.head(), MAX_AT_START)?)
    }

    /// What a checkpoint says of the records that are durable.
    ///
    /// # Errors
    /// [`NoTree`]: it is not known.
    pub fn tree(&self) -> Result<Tree, NoTree> {
        self.growth.tree()
    }

    /// Keeps it for the next start. It is kept every minute and at the end anyway.
    ///
    /// # Errors
    /// Of the system.
    pub fn keep_tree(&self) -> std::io::Result<()> {
        self.growth.keep()
    }

    /// Has the records from now on say which one the state was last changed on the strength of. To be called once that
    /// change is durable: a state that knows less is then an older copy. A lesser number changes nothing.
    pub fn state_is_at(&self, audit_seq: u64) {
        self.state_seq.fetch_max(audit_seq, Ordering::Relaxed);
    }

    /// A checkpoint covers the records up to this one: what is closed of them may be compressed, and removed once it is old by
    /// the time `sure`; none where the clock may be wrong, and then nothing goes until the next. A lesser number covers nothing
    /// more; none is kept over a start.
    pub fn checkpointed(&self, seq: u64, sure: Option<Moment>) {
        if let Some(keeping) = self.keeping.get() {
            keeping.checkpointed(seq, sure);
        }
    }

    /// Starts the thread that compresses and removes, once; a ledger that is kept nowhere has none.
    ///
    /// # Errors
    /// [`AuditError::Retention`].
    pub fn keep(&self, retention: Retention) -> Result<(), AuditError> {
        let Some(Files { dir, changes, now, metrics }) = &self.files else { return Ok(()) };
        if self.keeping.get().is_none() {
            let (changes, growth) = (Arc::clone(changes), Arc::clone(&self.growth));
            let told = (growth, metrics.clone());
            let keeping = Keeping::start(dir, changes, self.ledger.clone(), told, retention, *now);
            // Of two at once the later one ends.
            drop(self.keeping.set(keeping.map_err(AuditError::Retention)?));
        }
        Ok(())
    }

    /// How much room the ledger takes, and for how long there is more; none of one that is kept nowhere.
    pub fn room(&self) -> Option<Room> {
        self.keeping.get()?.room()
    }

    /// Records one entry; returns its sequence number once it is durable. Cancelling the future does not take the
    /// entry back.
    pub async fn record(&self, entry: Entry) -> Result<u64, AuditError> {
        Ok(self.record_many(vec![entry]).await?.last)
    }

    /// Records up to [`log::MAX_GROUP`] entries in one piece: all are durable, or none is acknowledged. A disk that hangs
    /// is an error after [`Pace::patience`]; a record that it stores later is of something that was then not done.
    pub async fn record_many(&self, entries: Vec<Entry>) -> Result<Receipt, AuditError> {
        Ok(self.ledger.store(entries).await?)
    }

    /// The same for threads outside the runtime (boot, shutdown). Blocks, for no longer than [`Pace::patience`].
    pub fn record_blocking(&self, entry: Entry) -> Result<u64, AuditError> {
        Ok(self.ledger.store_blocking(vec![entry])?.last)
    }

    /// The newest durable record: its sequence number and hash.
    pub fn head(&self) -> (u64, Hash) {
        let head = self.ledger.head();
        (head.seq, head.hash)
    }

    /// Whether the newest commit was stored.
    pub fn healthy(&self) -> bool {
        self.ledger.trouble().is_none()
    }

    /// Why it was not, for readiness and status; none when healthy.
    pub fn trouble(&self) -> Option<String> {
        self.ledger.trouble()
    }

    /// How long the oldest record in work has been waiting; zero when nothing is.
    pub fn lag(&self) -> Duration {
        self.ledger.lag()
    }

    /// Records handed in and not yet settled.
    pub fn queued(&self) -> usize {
        self.ledger.queued()
    }

    /// Completes once the ledger's thread has come by: `false` if it never will. Of one caller at a time.
    pub async fn turn(&self) -> bool {
        match self.ledger.turn() {
            Ok(came_by) => came_by.await.is_ok(),
            Err(_) => false,
        }
    }

    /// What [`Audit::state_is_at`] was told.
    #[cfg(test)]
    pub(crate) fn state_seq(&self) -> u64 {
        self.state_seq.load(Ordering::Relaxed)
    }

    /// Records made durable since the start.
    #[cfg(test)]
    pub(crate) fn recorded(&self) -> u64 {
        self.ledger.stored()
    }

    /// Commits, each one sync, since the start.
    pub fn commits(&self) -> u64 {
        self.ledger.commits()
    }

    /// Records that could not be made durable since the start.
    pub fn refused(&self) -> u64 {
        self.ledger.refused()
    }

    /// Groups turned away because the queue was full.
    pub fn busy(&self) -> u64 {
        self.ledger.busy()
    }

    /// What became of the copies for journald; none when that sink is off.
    pub fn journald(&self) -> Option<&JournaldStats> {
        self.journald.as_deref()
    }

    /// Stores what has arrived and ends both threads. Blocks, for no longer than [`Pace::patience`] and journald's backoff.
    pub fn close(&self) {
        if let Some(keeping) = self.keeping.get() {
            keeping.end();
        }
        self.growth.stop();
        let closed = self.ledger.close();
        if let Err(error) = self.keep_tree() {
            tracing::warn!(name: "tree_not_kept", %error, "the next start reads more of the ledger");
        }
        let thread = self.journald_thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A ledger's thread that hangs still holds the other's queue.
        if let Some(thread) = thread.filter(|_| closed) {
            drop(thread.join());
        }
    }
}

/// The way to journald of records that are in no file.
fn queued(config: &AuditConfig) -> Result<Option<(Journald, JoinHandle<()>)>, AuditError> {
    config.journald.as_ref().map_or(Ok(None), |path| Journald::start(path)).map_err(AuditError::Journald)
}

/// Checks every record of the ledger in `dir`. Memory does not grow with the ledger. While a daemon is writing to it, a
/// torn end may be a write in progress: look again.
///
/// # Errors
/// [`ChainError::Damaged`] names the first record that is altered, missing, repeated, out of order or torn.
pub fn verify_chain(dir: &Path) -> Result<ChainReport, ChainError> {
    log::verify::<Chain>(dir)
}

/// Checks the end of the ledger in `dir`, as [`Audit::open`] does, and leaves it as it is; takes no lock. Returns the
/// sequence number of its newest record, 0 if there is none.
///
/// # Errors
/// As [`verify_chain`]; [`ChainError::Place`] while a daemon writes to it.
pub fn look(dir: &Path) -> Result<u64, ChainError> {
    log::look::<Chain>(dir).map(|head| head.seq)
}

#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
