//! The store: one thread that writes, snapshots and tables for everybody else.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError};
use tokio::sync::{oneshot, watch};

use super::StateError;
use super::entry::Entry;
use super::epochs::{Done, Epochs, Pending};
use super::file::{Opened, Opener, beside, builder, create, new_meta, open};
use super::kept::{Kept, Room};
use super::keys::KeyRecord;
use super::news::Ear;
use super::rows::{self, Meta};
use super::spend::{Spend, Spending};
use super::table::KeyTable;
use super::writer::{Job, Worker};
use crate::clock::Moment;
use crate::log::{PidLock, end_thread, require_private_dir, require_private_file};

/// Revocations, uses, nonces, proofs and answers that are kept, where the configuration (`state.entries`) says no less: a hundred
/// bytes each in memory at most.
pub const ENTRIES: usize = 2_000_000;

/// Changes that may wait to be written.
pub(super) const MAX_QUEUED: usize = 1024;

/// The longest that a caller waits for a change: a disk that hangs never answers. Opening again after a failure checks
/// every page, which takes less.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a missing file may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It must be there. For every start that finds a ledger with records: a state that was lost must not be replaced
    /// by an empty one (L7).
    Existing,
    /// A first start: it is made if it is missing.
    CreateIfMissing,
}

/// Something to be made durable in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Changed key records, from the transitions of [`KeyTable`], in order.
    pub keys: Vec<KeyRecord>,
    /// Revocations. One that says no more than what is there changes nothing.
    pub revoked: Vec<Entry>,
    /// A tenant whose epoch ends, and the present in seconds since 1970.
    pub bumped: Vec<(String, i64)>,
    /// The longest that a passport may live from now on, in seconds.
    pub lifetime_s: Option<u64>,
    /// What was done while no daemon ran is on record; every tenant is in this epoch at least, and in a new one.
    pub settled: Option<u64>,
}

impl Change {
    /// A change of keys.
    pub fn keys(keys: Vec<KeyRecord>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// Revocations.
    pub fn revoked(revoked: Vec<Entry>) -> Self {
        Self { revoked, ..Self::default() }
    }

    /// The end of a tenant's epoch.
    pub fn bumped(tenant: &str, now: i64) -> Self {
        Self { bumped: vec![(tenant.to_owned(), now)], ..Self::default() }
    }
}

/// The state as of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The key table.
    pub keys: Arc<KeyTable>,
    /// Grows with every change, over restarts.
    pub generation: u64,
    /// The newest audit record on whose strength something was changed; 0 before the first.
    pub audit_seq: u64,
    /// When the store was made, in seconds since 1970.
    pub created: i64,
    /// The newest time that is known to have been. A clock that stands before it went back.
    pub mark: i64,
    /// The longest that a passport may live, in seconds, by any configuration that there was.
    pub longest_s: u64,
    /// The epochs that tenants are in, by what is durable: what is issued says one of these.
    pub epochs: Arc<Epochs>,
    /// What was done while no daemon ran, and is not on record yet.
    pub pending: Vec<Pending>,
}

impl Snapshot {
    pub(super) fn new(meta: &Meta, keys: Arc<KeyTable>, epochs: Arc<Epochs>) -> Self {
        Self {
            keys,
            generation: meta.generation,
            audit_seq: meta.audit_seq,
            created: meta.created,
            mark: meta.mark,
            pending: meta.pending.clone(),
            longest_s: meta.longest_s,
            epochs,
        }
    }
}

/// What a commit came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The generation that has it.
    pub generation: u64,
    /// Revocations of something that was not revoked.
    pub new: usize,
    /// The epoch that has begun; 0 where none has.
    pub epoch: u64,
}

/// What readers see, and the writer changes.
pub(super) struct Shared {
    pub(super) snapshot: ArcSwap<Snapshot>,
    pub(super) kept: RwLock<Kept>,
    pub(super) room: Mutex<Room>,
    /// Grows, under the lock of `kept`, with everything there that can turn an acceptance into a refusal.
    pub(super) revision: AtomicU64,
    /// The newest time that was seen; the next commit has it.
    pub(super) seen: AtomicI64,
    pub(super) trouble: Mutex<Option<String>>,
    /// The snapshot's generation, to be waited for.
    pub(super) generation: watch::Sender<u64>,
    /// Since when the thread has been at the disk; none while it waits for work.
    pub(super) busy_since: Mutex<Option<Instant>>,
    /// None after a failed write: redb refuses further ones until it is opened again.
    pub(super) db: RwLock<Option<Database>>,
    /// Who is told what is durable.
    pub(super) ear: OnceLock<Ear>,
}

/// The handle to the state; clones share it. The thread ends when it is closed or the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
    pub(super) shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    pub(super) patience: Duration,
}

impl Store {
    /// Opens the store in the file `path`, whose directory must be ours alone. The file has mode 0600; beside it stands
    /// `<path>.lock` with our pid.
    ///
    /// Every page and every row is checked. `now` becomes the creation time of a new file.
    pub fn open(path: &Path, mode: Mode, now: Moment) -> Result<Self, StateError> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        require_private_dir(dir)?;
        let lock = PidLock::acquire(&beside(path, ".lock"), path)?;
        match (path.symlink_metadata(), mode) {
            (Ok(_), _) => {}
            (Err(e), Mode::CreateIfMissing) if e.kind() == std::io::ErrorKind::NotFound => create(dir, path, now)?,
            (Err(e), Mode::Existing) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(StateError::Missing { path: path.to_owned() });
            }
            (Err(e), _) => return Err(StateError::of_host(path, &e)),
        }
        require_private_file(path)?;
        let file = path.to_owned();
        let opener = Box::new(move || builder().open(&file));
        Self::start(path.to_owned(), opener, Some(lock))
    }

    /// A store that lives as long as the process: amnesia mode and tests.
    pub fn memory(now: Moment) -> Result<Self, StateError> {
        let path = PathBuf::from("(memory)");
        let db =
            builder().create_with_backend(InMemoryBackend::new()).map_err(|e| rows::RowError::from(e).at(&path))?;
        rows::create(&db, &new_meta(now)).map_err(|e| e.at(&path))?;
        // Memory does not fail; were it to, there would be nothing to open again.
        let db = Mutex::new(Some(db));
        let opener = Box::new(move || {
            db.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(DatabaseError::RepairAborted)
        });
        Self::start(path, opener, None)
    }

    pub(super) fn start(path: PathBuf, opener: Opener, lock: Option<PidLock>) -> Result<Self, StateError> {
        let Opened { db, snapshot, kept } = open(&path, &opener)?;
        let shared = Arc::new(Shared {
            generation: watch::Sender::new(snapshot.generation),
            snapshot: ArcSwap::from_pointee(snapshot),
            kept: RwLock::new(kept),
            room: Mutex::new(Room::of(ENTRIES)),
            revision: AtomicU64::new(0),
            seen: AtomicI64::new(i64::MIN),
            trouble: Mutex::new(None),
            busy_since: Mutex::new(None),
            db: RwLock::new(Some(db)),
            ear: OnceLock::new(),
        });
        let (jobs, inbox) = sync_channel(MAX_QUEUED);
        let worker = Worker::new(path.clone(), opener, inbox, Arc::clone(&shared), lock);
        let thread = thread::Builder::new().name("state".to_owned()).spawn(move || worker.run());
        let thread = thread.map_err(|e| StateError::Io { path, what: format!("cannot start its thread: {e}") })?;
        Ok(Self { jobs, shared, thread: Arc::new(Mutex::new(Some(thread))), patience: PATIENCE })
    }

    /// The state as of the newest commit.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    /// The key table as of the newest commit.
    pub fn keys(&self) -> Arc<KeyTable> {
        Arc::clone(&self.shared.snapshot.load().keys)
    }

    /// Revocations, epochs, uses and nonces. A revocation shows here before it is durable, never after it was acknowledged.
    /// Whoever holds this keeps the writer waiting.
    pub fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.shared.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Grows with everything in [`Store::kept`] that can turn an acceptance into a refusal. To be read while that is held; a
    /// verdict is released only if it is still the same.
    pub fn revision(&self) -> u64 {
        self.shared.revision.load(Ordering::Acquire)
    }

    /// Grows with every commit.
    pub fn generation(&self) -> u64 {
        self.shared.snapshot.load().generation
    }

    /// The generation, to be waited for. It also grows by a change whose caller was told that it failed: one that came
    /// too late, or that was found to be durable when the file was opened again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Why nothing can be written at present; none when the newest commit did not fail and none is overdue.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone().or_else(|| self.stuck())
    }

    /// That a write has been under way for longer than anybody waits.
    fn stuck(&self) -> Option<String> {
        let since = *self.shared.busy_since.lock().unwrap_or_else(PoisonError::into_inner);
        let lag = since.map(|since| since.elapsed()).filter(|lag| *lag >= self.patience)?;
        Some(format!("a write has been under way for {} s; look at the disk", lag.as_secs()))
    }

    /// Refuses a ledger that ends before the newest record that the state was changed on the strength of, and one that
    /// knows the state with a newer change (`ledger_seq`, see `Audit::state_is_at`) than this one has. That a change is on
    /// record proves nothing: it is there before it is made, and may have come to nothing.
    pub fn check_against_ledger(&self, head_seq: u64, ledger_seq: u64) -> Result<(), StateError> {
        let state_seq = self.shared.snapshot.load().audit_seq;
        if state_seq > head_seq {
            return Err(StateError::AheadOfLedger { state_seq, head_seq });
        }
        // One that was restored is older, and says so.
        let restored = self.shared.snapshot.load().pending.iter().any(|one| matches!(one.what, Done::Restored { .. }));
        if state_seq < ledger_seq && !restored {
            Err(StateError::BehindLedger { state_seq, ledger_seq })
        } else {
            Ok(())
        }
    }

    /// Makes a change durable, then visible; `audit_seq` is its audit record, which must be durable already. Cancelling the future does not take the change back.
    pub async fn commit(&self, change: Change, audit_seq: u64) -> Result<Committed, StateError> {
        self.settled(|| self.submit(change, audit_seq)).await
    }

    /// Completes when all that was asked for before is durable, or has come to nothing.
    ///
    /// # Errors
    /// As [`Store::commit`].
    pub async fn settle(&self) -> Result<(), StateError> {
        self.commit(Change::default(), 0).await.map(drop)
    }

    /// Takes what an acceptance takes, durably, or says why it must not be accepted. The order in which several are
    /// decided is that in which they arrive here.
    ///
    /// # Errors
    /// [`StateError::Full`], [`StateError::Busy`], [`StateError::Unavailable`]: nobody may be told that it was accepted.
    pub async fn spend(&self, spend: Spend) -> Result<Spending, StateError> {
        self.settled(|| {
            let (ack, receiver) = oneshot::channel();
            self.enqueue(Job::Spend { spend, ack })?;
            Ok(receiver)
        })
        .await
    }

    /// The same for several, in their order.
    ///
    /// # Errors
    /// As [`Store::spend`], of all; some may have been taken.
    pub async fn spend_many(&self, spends: Vec<Spend>) -> Result<Vec<Spending>, StateError> {
        let mut waiting = Vec::with_capacity(spends.len());
        for spend in spends {
            let (ack, receiver) = oneshot::channel();
            self.enqueue(Job::Spend { spend, ack })?;
            waiting.push(receiver);
        }
        let mut spent = Vec::with_capacity(waiting.len());
        for receiver in waiting {
            spent.push(self.settled(|| Ok(receiver)).await?);
        }
        Ok(spent)
    }

    /// How much may be kept from now on, and whose.
    pub fn set_room(&self, room: Room) {
        *self.shared.room.lock().unwrap_or_else(PoisonError::into_inner) = room;
    }

    /// Forgets what can no longer matter at `now` (seconds since 1970). Done when there is nothing else to do.
    ///
    /// # Errors
    /// [`StateError::Busy`] or [`StateError::Closed`].
    pub fn evict(&self, now: i64) -> Result<(), StateError> {
        self.enqueue(Job::Evict { now })
    }

    /// The clock has shown `now` (seconds since 1970), and nothing speaks against it: the next commit says so.
    pub fn observe(&self, now: i64) {
        self.shared.seen.fetch_max(now, Ordering::Relaxed);
    }

    /// Makes the newest time that was seen durable.
    ///
    /// # Errors
    /// As [`Store::evict`].
    pub fn mark(&self) -> Result<(), StateError> {
        self.enqueue(Job::Mark)
    }

    async fn settled<T>(
        &self,
        submit: impl FnOnce() -> Result<oneshot::Receiver<Result<T, StateError>>, StateError>,
    ) -> Result<T, StateError> {
        if let Some(why) = self.stuck() {
            // Behind a write that hangs nobody's turn will come in time.
            return Err(StateError::Unavailable(why));
        }
        let late = |_| Err(StateError::Unavailable(format!("no answer from the disk in {:?}", self.patience)));
        let answer = tokio::time::timeout(self.patience, submit()?).await;
        answer.map_or_else(late, |answer| answer.unwrap_or(Err(StateError::Closed)))
    }

    /// [`Store::commit`] where there is no runtime.
    pub fn commit_blocking(&self, change: Change, audit_seq: u64) -> Result<Committed, StateError> {
        self.submit(change, audit_seq)?.blocking_recv().unwrap_or(Err(StateError::Closed))
    }

    pub(super) fn submit(
        &self,
        change: Change,
        audit_seq: u64,
    ) -> Result<oneshot::Receiver<Result<Committed, StateError>>, StateError> {
        let (ack, receiver) = oneshot::channel();
        self.enqueue(Job::Commit { change, audit_seq, ack })?;
        Ok(receiver)
    }

    fn enqueue(&self, job: Job) -> Result<(), StateError> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StateError::Busy,
            TrySendError::Disconnected(_) => StateError::Closed,
        })
    }

    /// Writes what has arrived, closes the file and releases the lock. Blocks, but not for ever: a disk that hangs keeps
    /// its thread until the process ends. Whether the thread has ended.
    pub fn close(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let patience = if self.stuck().is_some() { Duration::ZERO } else { self.patience };
        // A queue that is gone has a thread that is gone, which is what is wanted; a full one is tried again.
        let tell = || !matches!(self.jobs.try_send(Job::Close), Err(TrySendError::Full(_)));
        thread.is_none_or(|thread| end_thread(thread, tell, Instant::now() + patience))
    }
}
