//! What the pool's mutex guards.

use super::job::{Job, Ticket};
use super::{HsmError, Ring};
use crate::hsm::ladder::{Ladder, Rung};
use crate::wire::link::LinkRefusal;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

/// Where the pool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Jobs are taken.
    Serving,
    /// Workers close their sessions and wait, so that the healer can have the module for itself; jobs stay queued.
    Quiescing,
    /// The healer goes on trying; jobs are refused at once.
    Down,
    /// Workers close their sessions, for the last time.
    Closing,
    /// For ever.
    Closed,
}

/// Who waits for the module to have been started afresh on the front's word.
pub(super) type Asked = SyncSender<Result<Arc<Ring>, LinkRefusal>>;

/// One worker, as others see it.
#[derive(Default)]
pub(super) struct Slot {
    /// Since when it has been inside the module; `None` outside.
    pub(super) since: Option<Instant>,
    /// The request that it serves. Whoever takes the ticket out answers it.
    pub(super) job: Option<(Instant, Ticket)>,
    /// It holds no session and waits for the phase to change.
    pub(super) parked: bool,
    /// There was no session left for it. It takes no jobs until everybody has left the module once.
    pub(super) retired: bool,
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
    pub(super) ladder: Ladder,
    /// What the healer is to do, and why.
    pub(super) heal: Option<(Rung, String)>,
    /// The front wants the module started afresh.
    pub(super) asked: Option<Asked>,
    /// Since when the healer has been inside the module.
    pub(super) healing: Option<Instant>,
    /// It has been said that there are fewer sessions than configured.
    pub(super) limited: bool,
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
            ladder: Ladder::default(),
            heal: None,
            asked: None,
            healing: None,
            limited: false,
            lost: None,
            watchdog_sleeps: false,
        }
    }

    /// Whether a job has any prospect.
    pub(super) fn takes_jobs(&self) -> bool {
        self.lost.is_none() && matches!(self.phase, Phase::Serving | Phase::Quiescing)
    }

    /// Queues a job; `true` if the watchdog must be woken. Else the job, and why not.
    pub(super) fn admit(&mut self, job: Job) -> Result<bool, (Job, LinkRefusal)> {
        if !self.takes_jobs() {
            return Err((job, LinkRefusal::HsmUnavailable));
        }
        if self.queue.len() >= self.bound {
            return Err((job, LinkRefusal::Busy));
        }
        self.queue.push_back(job);
        Ok(std::mem::take(&mut self.watchdog_sleeps))
    }

    /// Puts a job back where its age belongs: nearly always in front.
    pub(super) fn put_back(&mut self, job: Job) {
        let at = self.queue.iter().position(|other| other.deadline > job.deadline).unwrap_or(self.queue.len());
        self.queue.insert(at, job);
    }

    /// Counts a new worker in.
    pub(super) fn enrol(&mut self) -> u64 {
        let id = self.next_worker;
        self.next_worker += 1;
        self.workers.insert(id, Slot::default());
        id
    }

    /// Has the healer do at least this.
    pub(super) fn want(&mut self, rung: Rung, why: &HsmError) {
        if self.heal.as_ref().is_none_or(|(wanted, _)| *wanted < rung) {
            self.heal = Some((rung, why.detail()));
        }
        self.hush();
    }

    /// Has the workers leave the module.
    pub(super) fn hush(&mut self) {
        if self.phase == Phase::Serving {
            self.phase = Phase::Quiescing;
        }
    }

    /// Serves again, with every worker.
    pub(super) fn resume(&mut self) {
        if matches!(self.phase, Phase::Quiescing | Phase::Down) {
            self.phase = Phase::Serving;
        }
        self.workers.values_mut().for_each(|slot| slot.retired = false);
    }

    /// Refuses what waits, and what comes.
    #[must_use]
    pub(super) fn go_down(&mut self) -> Vec<Ticket> {
        if matches!(self.phase, Phase::Serving | Phase::Quiescing) {
            self.phase = Phase::Down;
        }
        std::mem::take(&mut self.queue).into_iter().map(|job| job.ticket).collect()
    }

    /// Workers that sign.
    pub(super) fn active(&self) -> usize {
        self.workers.values().filter(|slot| !slot.retired).count()
    }

    /// Whether every answer that was due `slack` ago has been given, and the healer has been at it for no longer than
    /// `longest`.
    pub(super) fn in_time(&self, now: Instant, slack: Duration, longest: Duration) -> bool {
        let in_time = |deadline: Instant| now.saturating_duration_since(deadline) <= slack;
        // All requests get the same time, so the oldest is in front.
        self.queue.front().is_none_or(|job| in_time(job.deadline))
            && self.workers.values().all(|slot| slot.job.as_ref().is_none_or(|(deadline, _)| in_time(*deadline)))
            && self.healing.is_none_or(|since| now.saturating_duration_since(since) <= longest)
    }

    /// Whether nobody is inside the module or holds a session, and nobody will.
    pub(super) fn all_out(&self) -> bool {
        self.stuck == 0 && self.healing.is_none() && self.workers.values().all(|slot| slot.parked)
    }

    /// Whether a deadline could pass.
    pub(super) fn anything_to_watch(&self) -> bool {
        !self.queue.is_empty()
            || self.healing.is_some()
            || self.workers.values().any(|slot| slot.since.is_some() || slot.job.is_some())
    }
}
