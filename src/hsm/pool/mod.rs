//! Workers that sign: a bounded queue, one session each, a deadline for every request, a watchdog, and a healer.
//!
//! - A request that finds the queue full is told so at once.
//! - Each request gets exactly one answer: from its worker, from the watchdog when its time is up, or from the healer when
//!   the HSM is known not to sign.
//! - A worker whose call does not come back is given up and replaced; its thread can't be stopped. After `max_stuck` of them
//!   the process ends by [`super::leave`]: `exit` would run the module's destructors under those threads, which crashed 14
//!   of 20 times.
//! - Sessions are never shared, closed on any error and opened afresh, and the request tried once more; what that does not
//!   mend is the healer's, by the rungs of the ladder. A request waits for it as long as its time allows.
//! - Nothing is released that does not verify strictly against the pinned key: a faulty signature beside a good one of
//!   the same message gives the private key away.

mod healer;
mod job;
mod release;
mod shared;
mod state;
mod watchdog;
mod worker;

pub use healer::PROBES;
pub use worker::ATTEMPTS;

use super::HsmError;
use super::device::{DERIVED, Device, SIGNATURE};
use super::ladder::Rung;
use super::ring::Ring;
use crate::verify::{Difference, Verifier};
use crate::wire::link::LinkRefusal;
use job::{Job, Waiting};
use shared::Shared;
use state::Phase;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How many times `op_timeout` the module may take to start afresh, beside its login: some hundred calls.
pub const RESTART_FACTOR: u32 = 6;

/// What is called, once, with the outcome.
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
    /// How long a login may take.
    pub login_timeout: Duration,
    /// Threads that may be lost inside the module before the process ends.
    pub max_stuck: u32,
    /// After this long without use a session is looked after; none: never.
    pub keepalive: Option<Duration>,
}

impl Limits {
    /// How long the module may take to start, or to start afresh.
    pub fn start_timeout(&self) -> Duration {
        self.login_timeout + self.op_timeout * RESTART_FACTOR
    }
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Signatures released.
    pub signatures: u64,
    /// Signatures that did not verify and were destroyed.
    pub bad_signatures: u64,
    /// How often each rung was tried, in the order of [`Rung::ALL`].
    pub ladder: [u64; 4],
    /// Requests that wait now.
    pub queued: u32,
    /// Workers given up whose call has not come back.
    pub stuck: u32,
}

/// How the pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolHealth {
    /// Counts.
    pub counts: Counts,
    /// Workers that sign.
    pub sessions: u32,
    /// Sessions that the token lets sign, if it says so.
    pub limit: Option<u32>,
    /// Threads that may be lost.
    pub max_stuck: u32,
    /// Requests are refused at once, until the HSM signs again.
    pub down: bool,
    /// The rung that was tried last.
    pub rung: Option<Rung>,
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

impl<D: Device> Pool<D> {
    /// Starts the workers, the watchdog and the healer. `lost` is called, from any thread, when the pool has become
    /// useless; [`Pool::lost`] then says why.
    ///
    /// # Errors
    /// [`HsmError::Host`] when a thread can't be started.
    pub fn start(
        device: D,
        ring: Ring,
        limits: Limits,
        verifier: Verifier,
        lost: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Self, HsmError> {
        let most = device.limit().map_or(limits.sessions, |limit| limit.clamp(1, limits.sessions));
        let shared = Arc::new(Shared::new(device, ring, limits, verifier, lost));
        if most < limits.sessions {
            shared.lock().limited = true;
            shared.say_limited(most);
        }
        for _ in 0..most {
            worker::spawn(&shared)?;
        }
        watchdog::spawn(&shared)?;
        healer::spawn(&shared)?;
        Ok(Self { shared })
    }

    /// The keys as they are now.
    pub fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.shared.lock().ring)
    }

    /// Queues a signature over `message` by the key at `position` of `ring`. `answer` is called exactly once, from
    /// another thread or, when it is refused at once, from this one.
    pub fn sign(&self, ring: Arc<Ring>, position: usize, message: Vec<u8>, answer: Answer) {
        self.queue(ring, position, message, Waiting::Signature(answer));
    }

    /// Queues the HMAC-SHA256 of `input` under the seal key at `position` of `ring`, as [`Pool::sign`].
    pub fn derive(&self, ring: Arc<Ring>, position: usize, input: Vec<u8>, answer: DeriveAnswer) {
        self.queue(ring, position, input, Waiting::Derived(answer));
    }

    fn queue(&self, ring: Arc<Ring>, position: usize, message: Vec<u8>, waiting: Waiting) {
        let job = Job::new(ring, position, message, Instant::now() + self.shared.limits.op_timeout, waiting);
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
    /// [`LinkRefusal::Busy`] while another call is at it; [`LinkRefusal::HsmUnavailable`] when a worker is stuck (the module
    /// can't be finalised under it), while the HSM is down (the healer is at it), or when the module does not start again,
    /// which the healer then goes on trying.
    pub fn reinitialise(&self) -> Result<Arc<Ring>, LinkRefusal> {
        let answer = self.begin_reinitialising()?;
        // A healer that does not come back ends the process; whoever asked need not wait for that.
        let longest = self.shared.limits.start_timeout() + self.shared.limits.op_timeout;
        answer.recv_timeout(longest).unwrap_or(Err(LinkRefusal::HsmUnavailable))
    }

    /// As [`Pool::reinitialise`], without waiting for it. What comes of it shows in [`Pool::ring`].
    ///
    /// # Errors
    /// [`LinkRefusal::Busy`] and [`LinkRefusal::HsmUnavailable`]: nothing was begun.
    pub fn begin_reinitialising(
        &self,
    ) -> Result<std::sync::mpsc::Receiver<Result<Arc<Ring>, LinkRefusal>>, LinkRefusal> {
        let mut state = self.shared.lock();
        if state.asked.is_some() {
            return Err(LinkRefusal::Busy);
        }
        if state.stuck > 0 || !state.takes_jobs() {
            return Err(LinkRefusal::HsmUnavailable);
        }
        let (asked, answer) = sync_channel(1);
        state.asked = Some(asked);
        state.hush();
        drop(state);
        self.shared.phase_changed();
        self.shared.healer.notify_one();
        Ok(answer)
    }

    /// Whether the pool keeps its promise that each request is answered in time: its own watch does that, eight times
    /// within `op_timeout`, so an answer that is late by all of it shows that the watch has stopped.
    pub fn in_time(&self, now: Instant) -> bool {
        let limits = &self.shared.limits;
        self.shared.lock().in_time(now, limits.op_timeout, limits.start_timeout() + limits.op_timeout)
    }

    /// Stops the workers and closes the module. `false` if a thread is still inside it: then the process must end by
    /// [`super::leave`] without another call into the module.
    #[must_use]
    pub fn close(&self) -> bool {
        let quiet = self.empty();
        let tickets = {
            let mut state = self.shared.lock();
            let tickets = state.go_down();
            state.phase = Phase::Closed;
            tickets
        };
        tickets.into_iter().for_each(|ticket| ticket.refuse(LinkRefusal::HsmUnavailable));
        self.shared.phase_changed();
        self.shared.watch.notify_all();
        self.shared.healer.notify_all();
        quiet && self.shared.device.close().is_ok()
    }

    /// What was noticed since the last call of the way in which signatures are verified.
    pub fn take_differences(&self) -> Vec<Difference> {
        self.shared.verifier.take_differences()
    }

    /// Why the process should end, if it should. Taken: a second call finds nothing.
    pub fn lost(&self) -> Option<HsmError> {
        self.shared.lock().lost.take()
    }

    /// How it stands.
    pub fn health(&self) -> PoolHealth {
        // With a single session the one worker is lent the one that holds the login.
        let limit = self.shared.device.limit().and_then(|limit| u32::try_from(limit.max(1)).ok());
        let state = self.shared.lock();
        let counts = Counts {
            signatures: self.shared.signatures.load(Ordering::Relaxed),
            bad_signatures: self.shared.bad_signatures.load(Ordering::Relaxed),
            ladder: state.ladder.counts(),
            queued: u32::try_from(state.queue.len()).unwrap_or(u32::MAX),
            stuck: state.stuck,
        };
        PoolHealth {
            counts,
            sessions: u32::try_from(state.active()).unwrap_or(u32::MAX),
            limit,
            max_stuck: self.shared.limits.max_stuck,
            down: state.phase == Phase::Down,
            rung: state.ladder.last(),
        }
    }

    /// Waits until everybody has left the module and closed their session, for as long as a call may take.
    fn empty(&self) -> bool {
        let deadline = Instant::now() + self.shared.limits.op_timeout;
        let mut state = self.shared.lock();
        if state.phase == Phase::Closed {
            return false;
        }
        state.phase = Phase::Closing;
        self.shared.phase_changed();
        self.shared.out.notify_all();
        self.shared.healer.notify_all();
        loop {
            if state.all_out() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.stuck > 0 || left.is_zero() {
                return false;
            }
            state = self.shared.out.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod heal_tests;
#[cfg(test)]
mod staged;
#[cfg(test)]
mod tests;
