//! What the pool's mutex guards.

use super::{Answer, HsmError, Ring};
use crate::wire::link::LinkRefusal;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// The right to answer a request, once. Dropped without an answer, it answers that we have a defect.
pub(super) struct Ticket(Option<Answer>);

impl Ticket {
    pub(super) fn answer(mut self, outcome: Result<[u8; 64], LinkRefusal>) {
        if let Some(answer) = self.0.take() {
            answer(outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(answer) = self.0.take() {
            answer(Err(LinkRefusal::Internal));
        }
    }
}

/// What is to be signed.
pub(super) struct Task {
    /// The keys that the request was judged by.
    pub(super) ring: Arc<Ring>,
    /// The key in them.
    pub(super) position: usize,
    pub(super) message: Vec<u8>,
}

pub(super) struct Job {
    pub(super) task: Task,
    pub(super) deadline: Instant,
    pub(super) ticket: Ticket,
}

impl Job {
    pub(super) fn new(ring: Arc<Ring>, position: usize, message: Vec<u8>, deadline: Instant, answer: Answer) -> Self {
        Self { task: Task { ring, position, message }, deadline, ticket: Ticket(Some(answer)) }
    }
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
