//! The commit loop: one thread drains what has arrived, writes it with one call, syncs once, then tells everybody.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

#[cfg(test)]
use super::segments::Shelf;
use super::segments::{Segments, Volatile};
use super::terms::{CommitError, Pace, Receipt};
use super::wait;
use super::writer::Writer;
use super::{Break, Head, LogError, Recovered, Seal};

/// How many entries one group may have: more than a batch of the wire, of which each passport takes 256 bytes of a frame
/// of 1 MiB at least, so that the records of a batch stand or fall together.
pub const MAX_GROUP: usize = 4096;

/// How long an error message is kept and recorded at most: a path, the system's word, and what to do.
pub(super) const MAX_ERROR: usize = 400;

struct Group<E> {
    entries: Vec<E>,
    since: Instant,
    ack: oneshot::Sender<Result<Receipt, CommitError>>,
}

enum Job<E> {
    Store(Group<E>),
    /// To be answered when the thread comes by.
    Turn(oneshot::Sender<()>),
    Close,
}

/// What producers and the thread both see.
struct Shared {
    started: Instant,
    queued: AtomicUsize,
    /// When the oldest entry in work arrived, in µs since `started`, plus 1; 0: none.
    oldest: AtomicU64,
    entries: AtomicU64,
    commits: AtomicU64,
    refused: AtomicU64,
    busy: AtomicU64,
    head: Mutex<Head>,
    trouble: Mutex<Option<String>>,
}

/// A handle to a log; clones share it. The thread ends, after storing what has arrived, when [`Committer::close`] is
/// called or the last handle is dropped.
pub struct Committer<E> {
    jobs: SyncSender<Job<E>>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    max_queued: usize,
    patience: Duration,
}

impl<E> Clone for Committer<E> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            shared: Arc::clone(&self.shared),
            thread: Arc::clone(&self.thread),
            max_queued: self.max_queued,
            patience: self.patience,
        }
    }
}

impl<E: Send + 'static> Committer<E> {
    /// Starts the thread on an opened log. If the log ended torn, the break is recorded before this returns; when that
    /// fails (a full disk) the log starts unhealthy and goes on trying.
    pub fn start<S: Seal<Entry = E>>(
        mut segments: Segments,
        found: Recovered,
        seal: S,
        pace: Pace,
    ) -> Result<Self, LogError> {
        let (max_bytes, current) = (segments.config.max_bytes, segments.current.take());
        Self::spawn(Writer::new(seal, Box::new(segments), max_bytes, current, found.head, found.gap), pace)
    }

    /// Starts the thread on a log that is kept nowhere: amnesia mode.
    pub fn volatile<S: Seal<Entry = E>>(seal: S, pace: Pace) -> Result<Self, LogError> {
        Self::spawn(Writer::new(seal, Box::new(Volatile), u64::MAX, None, Head::GENESIS, None), pace)
    }

    /// One whose disk a test has made.
    #[cfg(test)]
    pub(crate) fn over<S: Seal<Entry = E>>(shelf: Box<dyn Shelf>, seal: S, pace: Pace) -> Result<Self, LogError> {
        Self::spawn(Writer::new(seal, shelf, u64::MAX, None, Head::GENESIS, None), pace)
    }

    pub(super) fn spawn<S: Seal<Entry = E>>(writer: Writer<S>, pace: Pace) -> Result<Self, LogError> {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            queued: AtomicUsize::new(0),
            oldest: AtomicU64::new(0),
            entries: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            head: Mutex::new(writer.head),
            trouble: Mutex::new(None),
        });
        // A group has at least one entry, so a queue of max_queued groups is never the first bound to be met; one place
        // more is for a watchdog's question.
        let (jobs, inbox) = sync_channel(pace.max_queued.saturating_add(1));
        let mut worker =
            Worker { inbox, shared: Arc::clone(&shared), writer, pace, retry: pace.retry_first, not_before: None };
        if worker.writer.gap.is_some() {
            worker.commit(None);
        }
        let thread = thread::Builder::new().name("log".to_owned()).spawn(move || worker.run());
        let thread = Arc::new(Mutex::new(Some(thread.map_err(LogError::Thread)?)));
        Ok(Self { jobs, shared, thread, max_queued: pace.max_queued, patience: pace.patience })
    }

    /// Hands in a group: all of it is stored in one piece and order, or nothing is acknowledged. Never blocks; await
    /// the receiver (or `blocking_recv` it) for the moment from which the group is durable.
    pub fn submit(&self, entries: Vec<E>) -> Result<oneshot::Receiver<Result<Receipt, CommitError>>, CommitError> {
        let count = entries.len();
        if count == 0 || count > MAX_GROUP {
            return Err(CommitError::Refused(format!("a group has 1 to {MAX_GROUP} entries, this one {count}")));
        }
        let room = |queued: usize| queued.checked_add(count).filter(|sum| *sum <= self.max_queued);
        if let Err(waiting) = self.shared.queued.fetch_update(Relaxed, Relaxed, room) {
            self.shared.busy.fetch_add(1, Relaxed);
            return Err(CommitError::Busy { waiting, max: self.max_queued });
        }
        let (ack, receiver) = oneshot::channel();
        match self.jobs.try_send(Job::Store(Group { entries, since: Instant::now(), ack })) {
            Ok(()) => Ok(receiver),
            Err(error) => {
                self.shared.queued.fetch_sub(count, Relaxed);
                Err(match error {
                    TrySendError::Full(_) => CommitError::Busy { waiting: self.max_queued, max: self.max_queued },
                    TrySendError::Disconnected(_) => CommitError::Closed,
                })
            }
        }
    }

    /// Hands in a group and waits until it is durable, but not beyond [`Pace::patience`]. What comes too late, or is no
    /// longer waited for, may be stored all the same: the caller must not act on it.
    pub async fn store(&self, entries: Vec<E>) -> Result<Receipt, CommitError> {
        if let Some(why) = self.stuck() {
            // Behind a write that hangs nobody's turn will come in time.
            return Err(CommitError::Unavailable(why));
        }
        match tokio::time::timeout(self.patience, self.submit(entries)?).await {
            Ok(answer) => answer.unwrap_or(Err(CommitError::Closed)),
            Err(_) => Err(self.late()),
        }
    }

    /// Asks the thread to show that it comes by: the receiver hears of it once what was handed in before has been settled,
    /// well or not. For one watchdog, that waits for its answer before it asks again.
    ///
    /// # Errors
    /// [`CommitError::Closed`], or [`CommitError::Busy`] when more than one asks.
    pub fn turn(&self) -> Result<oneshot::Receiver<()>, CommitError> {
        let (came_by, receiver) = oneshot::channel();
        self.jobs.try_send(Job::Turn(came_by)).map(|()| receiver).map_err(|error| match error {
            TrySendError::Full(_) => CommitError::Busy { waiting: self.max_queued, max: self.max_queued },
            TrySendError::Disconnected(_) => CommitError::Closed,
        })
    }

    /// [`Committer::store`] for threads outside a runtime. Blocks, for no longer than [`Pace::patience`].
    pub fn store_blocking(&self, entries: Vec<E>) -> Result<Receipt, CommitError> {
        if let Some(why) = self.stuck() {
            return Err(CommitError::Unavailable(why));
        }
        let answer = wait::block_until(self.submit(entries)?, Instant::now() + self.patience);
        answer.ok_or_else(|| self.late())?.unwrap_or(Err(CommitError::Closed))
    }

    fn late(&self) -> CommitError {
        CommitError::Unavailable(format!("no answer from the disk in {:?}", self.patience))
    }

    /// Stores what has arrived, then ends the thread. Blocks, for no longer than [`Pace::patience`], and not at all on a
    /// disk that hangs: what is left then goes with the process. Further groups are refused as [`CommitError::Closed`].
    /// Whether the thread has ended.
    pub fn close(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let patience = if self.stuck().is_some() { Duration::ZERO } else { self.patience };
        // A queue that is gone has a thread that is gone, which is what is wanted; a full one is tried again.
        let tell = || !matches!(self.jobs.try_send(Job::Close), Err(TrySendError::Full(_)));
        thread.is_none_or(|thread| wait::end_thread(thread, tell, Instant::now() + patience))
    }
}

impl<E> Committer<E> {
    /// The newest durable line.
    pub fn head(&self) -> Head {
        *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the log cannot be written at present; none when the last commit was stored and none is overdue.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone().or_else(|| self.stuck())
    }

    /// That a write has been under way for longer than anybody waits.
    fn stuck(&self) -> Option<String> {
        let lag = self.lag();
        (lag >= self.patience).then(|| format!("a write has been under way for {} s; look at the disk", lag.as_secs()))
    }

    /// How long the oldest entry in work has been waiting; zero when nothing is.
    pub fn lag(&self) -> Duration {
        match self.shared.oldest.load(Relaxed) {
            0 => Duration::ZERO,
            since => self.shared.started.elapsed().saturating_sub(Duration::from_micros(since - 1)),
        }
    }

    /// Entries handed in and not yet settled.
    pub fn queued(&self) -> usize {
        self.shared.queued.load(Relaxed)
    }

    /// Entries stored since the start.
    pub fn stored(&self) -> u64 {
        self.shared.entries.load(Relaxed)
    }

    /// Commits (each one sync) since the start.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Relaxed)
    }

    /// Entries that could not be stored since the start.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Relaxed)
    }

    /// Groups turned away because the queue was full.
    pub fn busy(&self) -> u64 {
        self.shared.busy.load(Relaxed)
    }
}

/// The loop's state: the queue, and when a failed disk is tried again.
struct Worker<S: Seal> {
    inbox: Receiver<Job<S::Entry>>,
    shared: Arc<Shared>,
    writer: Writer<S>,
    pace: Pace,
    retry: Duration,
    not_before: Option<Instant>,
}

impl<S: Seal> Worker<S> {
    fn run(mut self) {
        loop {
            // While something is wrong nobody may be calling, so the loop itself finds out when it is over.
            let job = match self.not_before {
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.inbox.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            match job {
                Ok(Job::Store(group)) if self.failing() => self.refuse(group),
                Ok(Job::Store(group)) => {
                    if self.commit(Some(group)) {
                        break;
                    }
                }
                // A watchdog that no longer waits needs no answer.
                Ok(Job::Turn(came_by)) => came_by.send(()).unwrap_or_default(),
                Err(RecvTimeoutError::Timeout) => {
                    self.commit(None);
                }
                Ok(Job::Close) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    /// Whether the disk failed so recently that trying again is not worth a caller's wait.
    fn failing(&self) -> bool {
        self.not_before.is_some_and(|at| Instant::now() < at)
    }

    fn refuse(&mut self, group: Group<S::Entry>) {
        let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.writer.count_refused(group.entries.len());
        self.settle_failed(group, &CommitError::Unavailable(trouble.unwrap_or_default()));
    }

    fn settle_failed(&self, group: Group<S::Entry>, error: &CommitError) {
        self.shared.queued.fetch_sub(group.entries.len(), Relaxed);
        self.shared.refused.fetch_add(u64::try_from(group.entries.len()).unwrap_or(u64::MAX), Relaxed);
        // A producer that went away needs no answer.
        drop(group.ack.send(Err(error.clone())));
    }

    /// One commit: seals `first` and whatever else has arrived, stores it, answers. Returns whether to stop after it.
    fn commit(&mut self, first: Option<Group<S::Entry>>) -> bool {
        let since = first.as_ref().map_or_else(Instant::now, |group| group.since);
        let waited = since.saturating_duration_since(self.shared.started).as_micros();
        self.shared.oldest.store(u64::try_from(waited).unwrap_or(u64::MAX).saturating_add(1), Relaxed);
        self.writer.begin();
        let (mut sealed, mut stop, mut next, mut came_by) = (Vec::new(), false, first, None);
        while let Some(group) = next {
            match self.writer.seal_group(&group.entries) {
                Ok(heads) => sealed.push((group, heads)),
                Err(why) => self.settle_failed(group, &CommitError::Refused(why)),
            }
            if self.writer.buffer.len() >= self.pace.max_commit_bytes {
                break;
            }
            next = match self.inbox.try_recv() {
                Ok(Job::Store(group)) => Some(group),
                Ok(Job::Turn(asked)) => {
                    // Answered once this is stored; what comes after it makes the next commit.
                    came_by = Some(asked);
                    None
                }
                Ok(Job::Close) => {
                    stop = true;
                    None
                }
                Err(_) => None,
            };
        }
        let stored = self.writer.store();
        self.settle(sealed, stored);
        self.shared.oldest.store(0, Relaxed);
        if let Some(came_by) = came_by {
            came_by.send(()).unwrap_or_default();
        }
        stop
    }

    fn settle(&mut self, sealed: Vec<(Group<S::Entry>, Vec<Head>)>, stored: io::Result<Option<Break>>) {
        let count: usize = sealed.iter().map(|(group, _)| group.entries.len()).sum();
        match stored {
            // The commit point: what was sealed is on stable storage.
            Ok(closed) => {
                *self.shared.head.lock().unwrap_or_else(PoisonError::into_inner) = self.writer.head;
                self.shared.entries.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Relaxed);
                self.shared.commits.fetch_add(1, Relaxed);
                *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
                (self.retry, self.not_before) = (self.pace.retry_first, None);
                self.writer.announce_break(closed.as_ref());
                for (group, heads) in sealed {
                    self.shared.queued.fetch_sub(group.entries.len(), Relaxed);
                    if let (Some(first), Some(last)) = (heads.first(), heads.last()) {
                        drop(group.ack.send(Ok(Receipt { first: first.seq, last: last.seq })));
                    }
                    for (entry, at) in group.entries.into_iter().zip(heads) {
                        self.writer.seal.durable(entry, at);
                    }
                }
            }
            Err(error) => {
                let mut why = error.to_string();
                why.truncate(why.floor_char_boundary(MAX_ERROR));
                self.writer.note_failure(&why, count);
                *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.clone());
                self.not_before = Some(Instant::now() + self.retry);
                self.retry = self.retry.saturating_mul(2).min(self.pace.retry_max);
                for (group, _) in sealed {
                    self.settle_failed(group, &CommitError::Unavailable(why.clone()));
                }
            }
        }
    }
}
