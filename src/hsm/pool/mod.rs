//! Workers that sign: a bounded queue, one session each, a deadline for every request, and a watchdog.
//!
//! - A request that finds the queue full is told so at once.
//! - Each request gets exactly one answer: from its worker, or from the watchdog when its time is up.
//! - A worker whose call does not come back is given up and replaced; its thread can't be stopped. After
//!   [`MAX_STUCK`] of them the process ends by `abort`: `exit` would run the module's destructors under those threads,
//!   which crashed 14 of 20 times.
//! - Sessions are never shared, closed on any error and opened afresh, and the request tried once more.
//! - Nothing is released that does not verify strictly against the pinned key: a faulty signature beside a good one of
//!   the same message gives the private key away.

mod checker;
mod state;
mod watchdog;
mod worker;

use super::HsmError;
use super::device::{DERIVED, Device, SIGNATURE};
use super::ring::Ring;
use crate::wire::link::LinkRefusal;
use state::{Job, Phase, State, Task, Ticket, Work};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Threads that may be lost inside the module before the process ends.
pub const MAX_STUCK: u32 = 4;
/// How many times `op_timeout` the module may take to start afresh: a login and some hundred calls.
pub const RESTART_FACTOR: u32 = 6;
/// Requests that fail one after the other before the process ends: a new session each did not help.
pub const MAX_FAILURES: u32 = 8;

/// What a worker or the watchdog calls, once, with the outcome.
pub type Answer = Box<dyn FnOnce(Result<[u8; SIGNATURE], LinkRefusal>) + Send>;
/// The same for a derived key.
pub type DeriveAnswer = Box<dyn FnOnce(Result<Zeroizing<[u8; DERIVED]>, LinkRefusal>) + Send>;

/// Bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Workers, a session each.
    pub sessions: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// How long a request may take, waiting included, and how long one stay in the module.
    pub op_timeout: Duration,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Signatures released.
    pub signatures: u64,
    /// Signatures that did not verify and were destroyed.
    pub bad_signatures: u64,
    /// Sessions opened after an error.
    pub reopened: u64,
    /// Requests that wait now.
    pub queued: u32,
    /// Workers given up whose call has not come back.
    pub stuck: u32,
}

/// The pool. Cloning gives another handle to the same one.
pub struct Pool<D: Device> {
    shared: Arc<Shared<D>>,
}

impl<D: Device> Clone for Pool<D> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<D: Device> {
    device: D,
    limits: Limits,
    state: Mutex<State>,
    /// A job came, or the phase changed.
    work: Condvar,
    /// A worker closed its session.
    parked: Condvar,
    /// There is something to watch again.
    watch: Condvar,
    signatures: AtomicU64,
    bad_signatures: AtomicU64,
    reopened: AtomicU64,
    /// Where signatures are verified while requests wait; none once the pool is closed.
    checker: Mutex<Option<SyncSender<checker::Signed>>>,
    /// Called once when the process should end.
    lost: Box<dyn Fn() + Send + Sync>,
}

impl<D: Device> Shared<D> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records why the process should end. The first reason stays.
    fn lose(&self, error: HsmError) {
        tracing::error!(name: "signer_ends", %error, "the signer ends");
        let first = {
            let mut state = self.lock();
            let first = state.lost.is_none();
            state.lost.get_or_insert(error);
            first
        };
        if first {
            (self.lost)();
        }
    }
}

impl<D: Device> Pool<D> {
    /// Starts the workers and the watchdog. `lost` is called, from any thread, when the pool has become useless;
    /// [`Pool::lost`] then says why.
    ///
    /// # Errors
    /// [`HsmError::Host`] when a thread can't be started.
    pub fn start(device: D, ring: Ring, limits: Limits, lost: Box<dyn Fn() + Send + Sync>) -> Result<Self, HsmError> {
        let shared = Arc::new(Shared {
            device,
            limits,
            state: Mutex::new(State::new(ring, limits.queue)),
            work: Condvar::new(),
            parked: Condvar::new(),
            watch: Condvar::new(),
            signatures: AtomicU64::new(0),
            bad_signatures: AtomicU64::new(0),
            reopened: AtomicU64::new(0),
            checker: Mutex::new(None),
            lost,
        });
        checker::spawn(&shared)?;
        for _ in 0..limits.sessions {
            worker::spawn(&shared)?;
        }
        watchdog::spawn(&shared)?;
        Ok(Self { shared })
    }

    /// The keys as they are now.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.shared.lock().ring)
    }

    /// Queues a signature over `message` by the key at `position` of `ring`. `answer` is called exactly once, from
    /// another thread or, when the queue is full, from this one.
    pub fn sign(&self, ring: Arc<Ring>, position: usize, message: Vec<u8>, answer: Answer) {
        self.queue(Task { ring, position, work: Work::Sign(message) }, Ticket::sign(answer));
    }

    /// Queues a derivation from `input` under the seal key at `position` of `ring`. `answer` is called as by
    /// [`Pool::sign`].
    pub fn derive(&self, ring: Arc<Ring>, position: usize, input: Vec<u8>, answer: DeriveAnswer) {
        self.queue(Task { ring, position, work: Work::Derive(input) }, Ticket::derive(answer));
    }

    fn queue(&self, task: Task, ticket: Ticket) {
        let job = Job { task, deadline: Instant::now() + self.shared.limits.op_timeout, ticket };
        let refused = {
            let mut state = self.shared.lock();
            match state.admit(job) {
                Ok(wake_watchdog) => {
                    if wake_watchdog {
                        self.shared.watch.notify_one();
                    }
                    None
                }
                Err(job) => Some(job),
            }
        };
        match refused {
            None => self.shared.work.notify_one(),
            Some((job, refusal)) => job.ticket.refuse(refusal),
        }
    }

    /// Lets the workers finish what they do, starts the module afresh, reads the keys, and goes on. Requests that wait
    /// stay in the queue.
    ///
    /// # Errors
    /// [`LinkRefusal::Busy`] while another call is at it; [`LinkRefusal::HsmUnavailable`] when a worker does not come
    /// back in time or is stuck (the module can't be finalised under it), or when the module does not start again,
    /// after which the pool is lost.
    pub fn reinitialise(&self) -> Result<Arc<Ring>, LinkRefusal> {
        self.quiesce()?;
        self.shared.lock().restarting = Some(Instant::now());
        self.shared.watch.notify_one();
        let outcome = self.shared.device.reinitialise();
        let mut state = self.shared.lock();
        state.restarting = None;
        state.phase = Phase::Serving;
        match outcome {
            Ok(ring) => {
                state.ring = Arc::new(ring);
                let ring = Arc::clone(&state.ring);
                drop(state);
                self.shared.work.notify_all();
                Ok(ring)
            }
            Err(error) => {
                drop(state);
                self.shared.lose(error);
                self.shared.work.notify_all();
                Err(LinkRefusal::HsmUnavailable)
            }
        }
    }

    /// Whether the pool keeps its promise that each request is answered in time: its own watch does that, eight times
    /// within `op_timeout`, so an answer that is late by all of it shows that the watch has stopped.
    pub fn in_time(&self, now: Instant) -> bool {
        let slack = self.shared.limits.op_timeout;
        self.shared.lock().in_time(now, slack, slack * (RESTART_FACTOR + 1))
    }

    /// Stops the workers and closes the module. `false` if a thread is still inside it: then the process must end by
    /// `abort`, not by `exit`.
    #[must_use]
    pub fn close(&self) -> bool {
        let quiet = self.quiesce().is_ok();
        let waiting = {
            let mut state = self.shared.lock();
            state.phase = Phase::Closed;
            std::mem::take(&mut state.queue)
        };
        for job in waiting {
            job.ticket.refuse(LinkRefusal::HsmUnavailable);
        }
        self.shared.work.notify_all();
        self.shared.watch.notify_all();
        drop(self.shared.checker.lock().unwrap_or_else(PoisonError::into_inner).take());
        quiet && self.shared.device.close().is_ok()
    }

    /// Why the process should end, if it should. Taken: a second call finds nothing.
    pub fn lost(&self) -> Option<HsmError> {
        self.shared.lock().lost.take()
    }

    /// Counts.
    pub fn counts(&self) -> Counts {
        let (queued, stuck) = {
            let state = self.shared.lock();
            (state.queue.len(), state.stuck)
        };
        Counts {
            signatures: self.shared.signatures.load(Ordering::Relaxed),
            bad_signatures: self.shared.bad_signatures.load(Ordering::Relaxed),
            reopened: self.shared.reopened.load(Ordering::Relaxed),
            queued: u32::try_from(queued).unwrap_or(u32::MAX),
            stuck,
        }
    }

    /// Waits until every worker has closed its session.
    fn quiesce(&self) -> Result<(), LinkRefusal> {
        let deadline = Instant::now() + self.shared.limits.op_timeout;
        let mut state = self.shared.lock();
        if state.phase != Phase::Serving {
            return Err(LinkRefusal::Busy);
        }
        state.phase = Phase::Quiescing;
        self.shared.work.notify_all();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stuck == 0 && state.all_parked() {
                return Ok(());
            }
            if state.stuck > 0 || left.is_zero() {
                state.phase = Phase::Serving;
                drop(state);
                self.shared.work.notify_all();
                return Err(LinkRefusal::HsmUnavailable);
            }
            state = self.shared.parked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests;
