//! What all threads of a pool have in common.

use super::Limits;
use super::state::State;
use crate::hsm::HsmError;
use crate::hsm::device::Device;
use crate::hsm::ladder::Rung;
use crate::hsm::ring::Ring;
use crate::verify::Verifier;
use crate::wire::link::LinkRefusal;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct Shared<D: Device> {
    pub(super) device: D,
    pub(super) limits: Limits,
    pub(super) state: Mutex<State>,
    /// A job came, or the phase changed.
    pub(super) work: Condvar,
    /// The phase changed, for workers that take no jobs.
    pub(super) retired: Condvar,
    /// Somebody left the module.
    pub(super) out: Condvar,
    /// There is something to watch again.
    pub(super) watch: Condvar,
    /// There is something to heal, or the end.
    pub(super) healer: Condvar,
    pub(super) signatures: AtomicU64,
    pub(super) bad_signatures: AtomicU64,
    /// Those since the last that did verify.
    pub(super) bad_in_a_row: AtomicU32,
    /// How what was signed is verified.
    pub(super) verifier: Verifier,
    /// Called once when the process should end.
    pub(super) lost: Box<dyn Fn() + Send + Sync>,
}

impl<D: Device> Shared<D> {
    pub(super) fn new(
        device: D,
        ring: Ring,
        limits: Limits,
        verifier: Verifier,
        lost: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self {
            device,
            limits,
            state: Mutex::new(State::new(ring, limits.queue)),
            work: Condvar::new(),
            retired: Condvar::new(),
            out: Condvar::new(),
            watch: Condvar::new(),
            healer: Condvar::new(),
            signatures: AtomicU64::new(0),
            bad_signatures: AtomicU64::new(0),
            bad_in_a_row: AtomicU32::new(0),
            verifier,
            lost,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn phase_changed(&self) {
        self.work.notify_all();
        self.retired.notify_all();
    }

    /// Has the healer do at least this.
    pub(super) fn want(&self, rung: Rung, why: &HsmError) {
        self.lock().want(rung, why);
        self.phase_changed();
        self.healer.notify_one();
    }

    /// Records why the process should end. The first reason stays.
    pub(super) fn lose(&self, error: HsmError) {
        tracing::error!(name: "signer_ends", %error, "the signer ends");
        let (first, tickets) = {
            let mut state = self.lock();
            let first = state.lost.is_none();
            state.lost.get_or_insert(error);
            (first, state.go_down())
        };
        tickets.into_iter().for_each(|ticket| ticket.refuse(LinkRefusal::HsmUnavailable));
        if first {
            (self.lost)();
        }
    }

    /// What is left until a session that was `last` used then is looked after; none if none is.
    pub(super) fn idles_out(&self, last: Instant) -> Option<Duration> {
        self.limits.keepalive.map(|keepalive| keepalive.saturating_sub(last.elapsed()))
    }

    /// A worker has left the module.
    pub(super) fn left(&self, id: u64) {
        if let Some(slot) = self.lock().workers.get_mut(&id) {
            slot.since = None;
        }
    }

    /// Whether a worker that gets no session leaves the work to others; the last one does not.
    pub(super) fn retires(&self, id: u64) -> bool {
        let (retires, news, sessions) = {
            let mut state = self.lock();
            let retires = state.active() > 1;
            if let Some(slot) = state.workers.get_mut(&id) {
                slot.retired = retires;
            }
            (retires, !std::mem::replace(&mut state.limited, true), state.active())
        };
        if news {
            self.say_limited(sessions);
        }
        retires
    }

    pub(super) fn say_limited(&self, limit: usize) {
        let wanted = self.limits.sessions;
        let why = "the token gives fewer sessions than configured";
        tracing::warn!(name: "sessions_limited", sessions = wanted, limit, "{why}");
    }

    /// The session that holds the login, for the last worker, which finds no other.
    pub(super) fn share(&self, ring: &Arc<Ring>) -> Result<D::Session, HsmError> {
        self.device.share(ring).inspect_err(|_| {
            let stuck = self.lock().stuck;
            if stuck > 0 {
                self.lose(HsmError::Lost(format!("no session is left, and {} in the module", counted(stuck))));
            }
        })
    }

    pub(super) fn count_bad(&self) {
        self.bad_signatures.fetch_add(1, Ordering::Relaxed);
        self.bad_in_a_row.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) fn counted(stuck: u32) -> String {
    match stuck {
        1 => "1 thread is stuck".to_owned(),
        more => format!("{more} threads are stuck"),
    }
}
