//! The one thread that writes: what has arrived is decided in the order of its arrival, and becomes durable with one commit.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, PoisonError, RwLockWriteGuard};
use std::time::{Duration, Instant};

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::StateError;
use super::entry::Entry;
use super::epochs::Epochs;
use super::file::{Opened, Opener, open};
use super::kept::{Kept, Room};
use super::keys::{KeyRecord, KeyState};
use super::newer::new_revocations;
use super::news::News;
use super::rows::{self, EpochRecord, Meta, RowError, Rows};
use super::spend::{Spend, Spending, decide};
use super::store::{Change, Committed, Shared, Snapshot};
use super::table::KeyTable;
use super::told::{Told, answer, refuse};
use crate::log::PidLock;

/// Requests that share one commit.
pub(super) const MAX_GROUP: usize = 256;

/// Rows that are removed with one commit.
pub(super) const MAX_EVICTED: usize = 4096;

/// How long after a failed write the file is left alone.
const RETRY: Duration = Duration::from_secs(1);

pub(super) type Ack<T> = oneshot::Sender<Result<T, StateError>>;

/// What the thread is asked for.
pub(super) enum Job {
    Commit {
        change: Change,
        audit_seq: u64,
        ack: Ack<Committed>,
    },
    Spend {
        spend: Spend,
        ack: Ack<Spending>,
    },
    Evict {
        now: i64,
    },
    /// Makes the newest time that was seen durable.
    Mark,
    Close,
}

/// A commit in the making.
struct Group {
    meta: Meta,
    keys: Arc<KeyTable>,
    epochs: Arc<Epochs>,
    rows: Rows,
    told: Vec<Told>,
    news: Vec<News>,
    /// Something was revoked.
    revised: bool,
    /// Something has an audit record of its own.
    recorded: bool,
    /// The mark is to be durable.
    marked: bool,
}

pub(super) struct Worker {
    path: PathBuf,
    opener: Opener,
    not_before: Option<Instant>,
    inbox: Receiver<Job>,
    shared: Arc<Shared>,
    /// More went before this time than one commit removes.
    evicting: Option<i64>,
    /// What a commit would have changed that failed.
    doubtful: Vec<News>,
    /// Released last, when the file is closed.
    _lock: Option<PidLock>,
}

impl Worker {
    pub(super) fn new(
        path: PathBuf,
        opener: Opener,
        inbox: Receiver<Job>,
        shared: Arc<Shared>,
        lock: Option<PidLock>,
    ) -> Self {
        Self { path, opener, not_before: None, inbox, shared, evicting: None, doubtful: Vec::new(), _lock: lock }
    }

    pub(super) fn run(mut self) {
        while let Some(job) = self.wait() {
            let (mut jobs, mut stop) = (Vec::new(), false);
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Close => stop = true,
                    job => jobs.push(job),
                }
                if !stop && jobs.len() < MAX_GROUP {
                    next = self.inbox.try_recv().ok();
                }
            }
            if stop && self.shared.seen.load(Ordering::Relaxed) > self.shared.snapshot.load().mark {
                jobs.push(Job::Mark);
            }
            self.busy(true);
            self.group(jobs);
            self.busy(false);
            if stop {
                break;
            }
        }
        // Handles may outlive the thread, the file is to be closed.
        self.shared.set_db(None);
    }

    /// The next job. While the file is closed after a failure it is tried again without one, so that health recovers.
    fn wait(&mut self) -> Option<Job> {
        loop {
            if let Some(now) = self.evicting.filter(|_| self.shared.is_open()) {
                match self.inbox.try_recv() {
                    Ok(job) => return Some(job),
                    Err(TryRecvError::Empty) => return Some(Job::Evict { now }),
                    Err(TryRecvError::Disconnected) => return None,
                }
            }
            let Some(at) = self.not_before.filter(|_| !self.shared.is_open()) else { return self.inbox.recv().ok() };
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

    fn kept(&self) -> RwLockWriteGuard<'_, Kept> {
        self.shared.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides all of them, writes what follows, and tells everybody.
    fn group(&mut self, jobs: Vec<Job>) {
        if let Err(why) = self.ready() {
            return jobs.into_iter().for_each(|job| refuse(job, &StateError::Unavailable(why.clone())));
        }
        let before = self.shared.snapshot.load_full();
        let mut group = Group::after(&before, self.shared.seen.load(Ordering::Relaxed));
        let room = *self.shared.room.lock().unwrap_or_else(PoisonError::into_inner);
        let expired = self.expired(&jobs);
        {
            let mut kept = self.kept();
            for (key, entry) in expired {
                kept.remove(&entry);
                group.rows.gone.push(key);
            }
            jobs.into_iter().for_each(|job| group.job(job, &mut kept, &room));
            // A mark alone is nothing that anybody waits for.
            group.meta.generation += u64::from(group.is_change());
            if group.revised {
                // Under the lock: who has seen the tables has the revision that belongs to them.
                self.shared.revision.fetch_add(1, Ordering::Release);
            }
        }
        if !group.is_change() && !group.marked {
            return group.told.into_iter().for_each(Told::done);
        }
        match self.write(&group) {
            // The commit point: durable, then acknowledged.
            Ok(()) => {
                self.show(Snapshot::new(&group.meta, group.keys, group.epochs));
                self.note(None);
                self.shared.tell(group.news);
                group.told.into_iter().for_each(Told::done);
            }
            Err(error) => {
                let why = error.to_string();
                self.shared.set_db(None);
                self.doubtful = group.news;
                self.not_before = Some(Instant::now() + RETRY);
                self.note(Some(why.clone()));
                group.told.into_iter().for_each(|told| told.failed(&StateError::Unavailable(why.clone())));
            }
        }
    }

    /// What goes before the time that a job names, or that there was too much of the last time.
    fn expired(&mut self, jobs: &[Job]) -> Vec<(Vec<u8>, Entry)> {
        let asked = jobs.iter().filter_map(|job| if let Job::Evict { now } = job { Some(*now) } else { None });
        let Some(now) = asked.max().max(self.evicting) else { return Vec::new() };
        let read = match &*self.shared.db() {
            Some(db) => rows::guarded(|| rows::expired(db, now, MAX_EVICTED)),
            None => return Vec::new(),
        };
        let expired = match read {
            Ok(expired) => expired,
            Err(error) => {
                self.note(Some(error.at(&self.path).to_string()));
                Vec::new()
            }
        };
        self.evicting = (expired.len() == MAX_EVICTED).then_some(now);
        expired
    }

    fn write(&self, group: &Group) -> Result<(), StateError> {
        let db = self.shared.db();
        let db = db.as_ref().ok_or(StateError::Closed)?;
        rows::guarded(|| rows::commit(db, &group.rows, &group.meta)).map_err(|e| e.at(&self.path))
    }

    /// Opens the database again after a failure. What the failed commit left is read back: it may have become durable.
    fn ready(&mut self) -> Result<(), String> {
        if self.shared.is_open() {
            return Ok(());
        }
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Err(trouble.unwrap_or_default());
        }
        match open(&self.path, &self.opener) {
            Ok(Opened { db, snapshot, kept }) => {
                self.shared.set_db(Some(db));
                self.not_before = None;
                let doubtful = std::mem::take(&mut self.doubtful);
                let came: Vec<News> = doubtful.into_iter().filter(|news| news.holds(&kept)).collect();
                {
                    let mut shown = self.kept();
                    *shown = kept;
                    self.shared.revision.fetch_add(1, Ordering::Release);
                }
                self.note(None);
                self.show(snapshot);
                self.shared.tell(came);
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
}

impl Group {
    fn after(before: &Snapshot, seen: i64) -> Self {
        let meta = Meta {
            created: before.created,
            audit_seq: before.audit_seq,
            generation: before.generation,
            longest_s: before.longest_s,
            mark: before.mark.max(seen),
            floor: before.epochs.floor,
            pending: before.pending.clone(),
        };
        let (keys, epochs) = (Arc::clone(&before.keys), Arc::clone(&before.epochs));
        Self {
            meta,
            keys,
            epochs,
            rows: Rows::default(),
            told: Vec::new(),
            news: Vec::new(),
            revised: false,
            recorded: false,
            marked: false,
        }
    }

    /// Whether something changes. A change that says nothing is a commit all the same if it has an audit record.
    fn is_change(&self) -> bool {
        let Rows { keys, epochs, put, gone } = &self.rows;
        self.recorded || !(keys.is_empty() && epochs.is_empty() && put.is_empty() && gone.is_empty())
    }

    fn job(&mut self, job: Job, kept: &mut Kept, room: &Room) {
        match job {
            Job::Commit { change, audit_seq, ack } => match self.change(change, audit_seq, kept, room) {
                Ok(committed) => self.told.push(Told::Committed(ack, committed)),
                Err(error) => answer(ack, Err(error)),
            },
            Job::Spend { spend, ack } => match self.spend(&spend, kept, room) {
                Ok(spending) => self.told.push(Told::Spent(ack, spending)),
                Err(error) => answer(ack, Err(error)),
            },
            Job::Mark => self.marked = true,
            Job::Evict { .. } | Job::Close => {}
        }
    }

    /// All of a change, or nothing of it.
    fn change(
        &mut self,
        change: Change,
        audit_seq: u64,
        kept: &mut Kept,
        room: &Room,
    ) -> Result<Committed, StateError> {
        let Change { mut keys, revoked, bumped, lifetime_s, settled } = change;
        let longest_s = self.meta.longest_s.max(lifetime_s.unwrap_or_default());
        for key in &mut keys {
            *key = KeyRecord { audit_seq, ..key.clone() }.with_end(longest_s);
        }
        let table = self.keys.apply(&keys)?;
        let (revoked, new) = new_revocations(revoked, kept, room)?;
        let mut committed = Committed { generation: self.meta.generation + 1, new, ..Committed::default() };
        let mut rows = Rows::default();
        for key in &keys {
            rows.key(key).map_err(unwritable)?;
            self.meta.mark = self.meta.mark.max(key.staged_at);
        }
        for (tenant, since) in bumped {
            let epoch = kept.epoch(&tenant).saturating_add(1);
            kept.set_epoch(&tenant, epoch);
            // What is issued says the old one until this is durable: one that comes to nothing must not be said.
            Arc::make_mut(&mut self.epochs).own.insert(tenant.clone(), epoch);
            committed.epoch = epoch;
            self.revised = true;
            self.news.push(News::Epoch { tenant: Some(tenant.clone()), epoch });
            rows.epoch(&EpochRecord { tenant, epoch, since, audit_seq }).map_err(unwritable)?;
        }
        if let Some(floor) = settled {
            let floor = kept.epochs().map(|(_, epoch)| epoch.saturating_add(1)).fold(floor, u64::max);
            kept.raise_floor(floor);
            Arc::make_mut(&mut self.epochs).floor = kept.floor();
            (self.meta.floor, self.revised) = (kept.floor(), true);
            self.meta.pending.clear();
            self.news.push(News::Epoch { tenant: None, epoch: kept.floor() });
        }
        for key in keys.iter().filter(|key| key.state == KeyState::Compromised) {
            kept.compromise(&key.kid);
            self.revised = true;
            self.news.push(News::Compromised { tenant: key.tenant.clone(), kid: key.kid.clone() });
        }
        for entry in revoked {
            kept.put(&entry);
            self.revised = true;
            rows.put.push(entry.row());
            self.news.push(News::Revoked(entry));
        }
        self.keys = Arc::new(table);
        self.recorded |= audit_seq > 0 || lifetime_s.is_some();
        self.meta.audit_seq = self.meta.audit_seq.max(audit_seq);
        self.meta.longest_s = self.meta.longest_s.max(lifetime_s.unwrap_or_default());
        self.rows.append(rows);
        Ok(committed)
    }

    fn spend(&mut self, spend: &Spend, kept: &mut Kept, room: &Room) -> Result<Spending, StateError> {
        if !spend.fits() {
            return Err(StateError::TooLong);
        }
        let (spending, rows) = decide(spend, kept, room).map_err(StateError::Full)?;
        for entry in rows {
            kept.put(&entry);
            self.rows.put.push(entry.row());
        }
        Ok(spending)
    }
}

fn unwritable(error: RowError) -> StateError {
    error.at(std::path::Path::new("state"))
}
