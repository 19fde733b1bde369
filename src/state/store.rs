//! The store: one thread that writes, snapshots for everybody else.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use redb::backends::InMemoryBackend;
use redb::{Database, DatabaseError};
use tokio::sync::{oneshot, watch};

use super::StateError;
use super::file::{Opener, beside, builder, create, new_meta, open};
use super::keys::KeyRecord;
use super::rows::{self, Meta};
use super::table::KeyTable;
use crate::clock::Moment;
use crate::log::{PidLock, end_thread, require_private_dir, require_private_file};

/// Changes that may wait to be written.
pub(super) const MAX_QUEUED: usize = 1024;

/// Changes that share one sync.
pub(super) const MAX_GROUP: usize = 256;

/// How long after a failed write the file is left alone.
const RETRY: Duration = Duration::from_secs(1);

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
}

impl Change {
    /// A change of keys.
    pub fn keys(keys: Vec<KeyRecord>) -> Self {
        Self { keys }
    }
}

/// The state as of one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The key table.
    pub keys: Arc<KeyTable>,
    /// Grows with every commit, over restarts.
    pub generation: u64,
    /// The newest audit record on whose strength something was changed; 0 before the first.
    pub audit_seq: u64,
    /// When the store was made, in seconds since 1970.
    pub created: i64,
    /// When the newest key was staged; without keys, when the store was made. A clock that stands before it went back.
    pub newest: i64,
}

impl Snapshot {
    pub(super) fn new(meta: &Meta, keys: Arc<KeyTable>) -> Self {
        let newest = keys.iter().map(|key| key.staged_at).max().unwrap_or(meta.created);
        Self { keys, generation: meta.generation, audit_seq: meta.audit_seq, created: meta.created, newest }
    }
}

type Ack = oneshot::Sender<Result<u64, StateError>>;

enum Job {
    Commit { change: Change, audit_seq: u64, ack: Ack },
    Close,
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    trouble: Mutex<Option<String>>,
    /// The snapshot's generation, to be waited for.
    generation: watch::Sender<u64>,
    /// Since when the thread has been at the disk; none while it waits for work.
    busy_since: Mutex<Option<Instant>>,
}

/// The handle to the state; clones share it. The thread ends when it is closed or the last handle is dropped.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
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
        let (db, snapshot) = open(&path, &opener)?;
        let shared = Arc::new(Shared {
            generation: watch::Sender::new(snapshot.generation),
            snapshot: ArcSwap::from_pointee(snapshot),
            trouble: Mutex::new(None),
            busy_since: Mutex::new(None),
        });
        let (jobs, inbox) = sync_channel(MAX_QUEUED);
        let worker = Worker {
            path: path.clone(),
            opener,
            db: Some(db),
            not_before: None,
            inbox,
            shared: Arc::clone(&shared),
            _lock: lock,
        };
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

    /// Grows with every commit. A verdict is released only if it is still what it was before the checks.
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
        if state_seq < ledger_seq { Err(StateError::BehindLedger { state_seq, ledger_seq }) } else { Ok(()) }
    }

    /// Makes a change durable, then visible; `audit_seq` is its audit record, which must be durable already. Returns
    /// the generation that has it. Cancelling the future does not take the change back.
    pub async fn commit(&self, change: Change, audit_seq: u64) -> Result<u64, StateError> {
        if let Some(why) = self.stuck() {
            // Behind a write that hangs nobody's turn will come in time.
            return Err(StateError::Unavailable(why));
        }
        let late = |_| Err(StateError::Unavailable(format!("no answer from the disk in {:?}", self.patience)));
        let answer = tokio::time::timeout(self.patience, self.submit(change, audit_seq)?).await;
        answer.map_or_else(late, |answer| answer.unwrap_or(Err(StateError::Closed)))
    }

    /// [`Store::commit`] for tests without a runtime.
    #[cfg(test)]
    pub(super) fn commit_blocking(&self, change: Change, audit_seq: u64) -> Result<u64, StateError> {
        self.submit(change, audit_seq)?.blocking_recv().unwrap_or(Err(StateError::Closed))
    }

    pub(super) fn submit(
        &self,
        change: Change,
        audit_seq: u64,
    ) -> Result<oneshot::Receiver<Result<u64, StateError>>, StateError> {
        let (ack, receiver) = oneshot::channel();
        self.jobs.try_send(Job::Commit { change, audit_seq, ack }).map_err(|error| match error {
            TrySendError::Full(_) => StateError::Busy,
            TrySendError::Disconnected(_) => StateError::Closed,
        })?;
        Ok(receiver)
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

struct Worker {
    path: PathBuf,
    opener: Opener,
    /// None after a failed write: redb refuses further ones until it is opened again.
    db: Option<Database>,
    not_before: Option<Instant>,
    inbox: Receiver<Job>,
    shared: Arc<Shared>,
    /// Released last, when the file is closed.
    _lock: Option<PidLock>,
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.wait() {
            let (mut group, mut stop) = (Vec::new(), false);
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Commit { change, audit_seq, ack } => group.push((change, audit_seq, ack)),
                    Job::Close => stop = true,
                }
                if !stop && group.len() < MAX_GROUP {
                    next = self.inbox.try_recv().ok();
                }
            }
            self.busy(true);
            self.commit(group);
            self.busy(false);
            if stop {
                break;
            }
        }
    }

    /// The next job. While the file is closed after a failure it is tried again without one, so that health recovers.
    fn wait(&mut self) -> Option<Job> {
        loop {
            let Some(at) = self.not_before.filter(|_| self.db.is_none()) else { return self.inbox.recv().ok() };
            match self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Timeout) => {
                    self.busy(true);
                    drop(self.ready());
                    self.busy(false);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn busy(&self, busy: bool) {
        *self.shared.busy_since.lock().unwrap_or_else(PoisonError::into_inner) = busy.then(Instant::now);
    }

    fn commit(&mut self, group: Vec<(Change, u64, Ack)>) {
        if group.is_empty() {
            return;
        }
        if let Err(why) = self.ready() {
            return Self::fail(group.into_iter().map(|(.., ack)| ack), &why);
        }
        let before = self.shared.snapshot.load_full();
        let mut meta = Meta { created: before.created, audit_seq: before.audit_seq, generation: before.generation + 1 };
        let (mut keys, mut changed, mut acks) = (Arc::clone(&before.keys), Vec::new(), Vec::new());
        for (mut change, audit_seq, ack) in group {
            change.keys.iter_mut().for_each(|key| key.audit_seq = audit_seq);
            match keys.apply(&change.keys) {
                Ok(table) => {
                    keys = Arc::new(table);
                    meta.audit_seq = meta.audit_seq.max(audit_seq);
                    changed.append(&mut change.keys);
                    acks.push(ack);
                }
                Err(error) => answer(ack, Err(error.into())),
            }
        }
        if acks.is_empty() {
            return;
        }
        match self.write(&changed, &meta) {
            // The commit point: durable, then visible, then acknowledged.
            Ok(()) => {
                self.show(Snapshot::new(&meta, keys));
                self.note(None);
                acks.into_iter().for_each(|ack| answer(ack, Ok(meta.generation)));
            }
            Err(error) => {
                let why = error.to_string();
                self.db = None;
                self.not_before = Some(Instant::now() + RETRY);
                self.note(Some(why.clone()));
                Self::fail(acks.into_iter(), &why);
            }
        }
    }

    fn write(&self, changed: &[KeyRecord], meta: &Meta) -> Result<(), StateError> {
        let Some(db) = &self.db else { return Err(StateError::Closed) };
        rows::guarded(|| rows::commit(db, changed, meta)).map_err(|e| e.at(&self.path))
    }

    /// Opens the database again after a failure. What the failed commit left is read back: it may have become durable.
    fn ready(&mut self) -> Result<(), String> {
        if self.db.is_some() {
            return Ok(());
        }
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Err(trouble.unwrap_or_default());
        }
        match open(&self.path, &self.opener) {
            Ok((db, snapshot)) => {
                (self.db, self.not_before) = (Some(db), None);
                self.note(None);
                self.show(snapshot);
                Ok(())
            }
            Err(error) => {
                self.not_before = Some(Instant::now() + RETRY);
                self.note(Some(error.to_string()));
                Err(error.to_string())
            }
        }
    }

    fn show(&self, snapshot: Snapshot) {
        let generation = snapshot.generation;
        self.shared.snapshot.store(Arc::new(snapshot));
        self.shared.generation.send_if_modified(|known| std::mem::replace(known, generation) != generation);
    }

    fn note(&self, trouble: Option<String>) {
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn fail(acks: impl Iterator<Item = Ack>, why: &str) {
        acks.for_each(|ack| answer(ack, Err(StateError::Unavailable(why.to_owned()))));
    }
}

/// A caller that went away needs no answer.
fn answer(ack: Ack, result: Result<u64, StateError>) {
    drop(ack.send(result));
}
