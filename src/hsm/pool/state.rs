//! What the pool's mutex guards.

use super::{Answer, DeriveAnswer, HsmError, Ring};
use crate::hsm::device::DERIVED;
use crate::wire::link::LinkRefusal;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Where the pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Jobs are taken.
    Serving,
    /// Workers close their sessions and wait; jobs stay queued.
    Quiescing,
    /// For ever.
    Closed,
}

/// Who is answered.
enum Asker {
    Signature(Answer),
    Derived(DeriveAnswer),
}

/// The right to answer a request, once. Dropped without an answer, it answers that we have a defect.
pub(super) struct Ticket(Option<Asker>);

impl Ticket {
    pub(super) const fn sign(answer: Answer) -> Self {
        Self(Some(Asker::Signature(answer)))
    }

    pub(super) const fn derive(answer: DeriveAnswer) -> Self {
        Self(Some(Asker::Derived(answer)))
    }

    pub(super) fn signed(mut self, signature: [u8; 64]) {
        match self.0.take() {
            Some(Asker::Signature(answer)) => answer(Ok(signature)),
            other => self.0 = other,
        }
    }

    pub(super) fn derived(mut self, key: Zeroizing<[u8; DERIVED]>) {
        match self.0.take() {
            Some(Asker::Derived(answer)) => answer(Ok(key)),
            other => self.0 = other,
        }
    }

    pub(super) fn refuse(mut self, refusal: LinkRefusal) {
        self.settle(refusal);
    }

    fn settle(&mut self, refusal: LinkRefusal) {
        match self.0.take() {
            Some(Asker::Signature(answer)) => answer(Err(refusal)),
            Some(Asker::Derived(answer)) => answer(Err(refusal)),
            None => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.settle(LinkRefusal::Internal);
    }
}

/// What is asked of the module.
pub(super) enum Work {
    /// A signature over these bytes, which is verified before it is released.
    Sign(Vec<u8>),
    /// HMAC-SHA256 of these bytes.
    Derive(Vec<u8>),
}

/// What is to be done, and with which key.
pub(super) struct Task {
    /// The keys that the request was judged by.
    pub(super) ring: Arc<Ring>,
    /// The key in them.
    pub(super) position: usize,
    pub(super) work: Work,
}

pub(super) struct Job {
    pub(super) task: Task,
    pub(super) deadline: Instant,
    pub(super) ticket: Ticket,
}

/// One worker, as others see it.
#[derive(Default)]
pub(super) struct Slot {
    /// Since when it has been inside the module; `None` outside.
    pub(super) since: Option<Instant>,
    /// The request that it serves. Whoever takes the ticket out answers it.
    pub(super) job: Option<(Instant, Ticket)>,
    /// It holds no session and waits for the phase to change.
    pub(super) parked: bool,
}

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) ring: Arc<Ring>,
    pub(super) queue: VecDeque<Job>,
    bound: usize,
    /// Workers that are relied upon. One that was given up is no longer here.
    pub(super) workers: HashMap<u64, Slot>,
    next_worker: u64,
    /// Given up, and still inside the module.
    pub(super) stuck: u32,
    /// Requests that failed since the last that did not.
    pub(super) failures: u32,
    /// Since when the module is being started afresh.
    pub(super) restarting: Option<Instant>,
    /// Why the process should end.
    pub(super) lost: Option<HsmError>,
    /// The watchdog sleeps until it is told that there is work.
    pub(super) watchdog_sleeps: bool,
}

impl State {
    pub(super) fn new(ring: Ring, bound: usize) -> Self {
        Self {
            phase: Phase::Serving,
            ring: Arc::new(ring),
            queue: VecDeque::new(),
            bound,
            workers: HashMap::new(),
            next_worker: 0,
            stuck: 0,
            failures: 0,
            restarting: None,
            lost: None,
            watchdog_sleeps: false,
        }
    }

    /// Queues a job; `true` if the watchdog must be woken. Else the job, and why not.
    pub(super) fn admit(&mut self, job: Job) -> Result<bool, (Job, LinkRefusal)> {
        if self.lost.is_some() || self.phase == Phase::Closed {
            return Err((job, LinkRefusal::HsmUnavailable));
        }
        if self.queue.len() >= self.bound {
            return Err((job, LinkRefusal::Busy));
        }
        self.queue.push_back(job);
        Ok(std::mem::take(&mut self.watchdog_sleeps))
    }

    /// Counts a new worker in.
    pub(super) fn enrol(&mut self) -> u64 {
        let id = self.next_worker;
        self.next_worker += 1;
        self.workers.insert(id, Slot::default());
        id
    }

    /// Whether every answer that was due `slack` ago has been given, and no restart is older than `longest`.
    pub(super) fn in_time(&self, now: Instant, slack: Duration, longest: Duration) -> bool {
        let in_time = |deadline: Instant| now.saturating_duration_since(deadline) <= slack;
        // All requests get the same time, so the oldest is in front.
        self.queue.front().is_none_or(|job| in_time(job.deadline))
            && self.workers.values().all(|slot| slot.job.as_ref().is_none_or(|(deadline, _)| in_time(*deadline)))
            && self.restarting.is_none_or(|since| now.saturating_duration_since(since) <= longest)
    }

    pub(super) fn all_parked(&self) -> bool {
        self.workers.values().all(|slot| slot.parked)
    }

    /// Whether a deadline could pass.
    pub(super) fn anything_to_watch(&self) -> bool {
        !self.queue.is_empty()
            || self.restarting.is_some()
            || self.workers.values().any(|slot| slot.since.is_some() || slot.job.is_some())
    }
}
