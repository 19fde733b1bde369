//! Answers for calls that do not come back.

use super::job::Ticket;
use super::shared::{Shared, counted};
use super::state::{Phase, State};
use super::worker;
use crate::hsm::HsmError;
use crate::hsm::device::Device;
use crate::wire::link::LinkRefusal;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// The watchdog looks this many times within the time that a request may take, so no answer is later than an eighth.
const LOOKS: u32 = 8;
/// And no more often than this.
const SHORTEST_LOOK: Duration = Duration::from_millis(2);

/// What a look found.
struct Late {
    tickets: Vec<Ticket>,
    given_up: usize,
    stuck: u32,
}

/// Starts the watchdog.
pub(super) fn spawn<D: Device>(shared: &Arc<Shared<D>>) -> Result<(), HsmError> {
    let own = Arc::clone(shared);
    std::thread::Builder::new()
        .name("hsm-watchdog".to_owned())
        .spawn(move || run(&own))
        .map(drop)
        .map_err(|error| HsmError::Host("start the watchdog thread", error))
}

fn run<D: Device>(shared: &Arc<Shared<D>>) {
    let look = (shared.limits.op_timeout / LOOKS).max(SHORTEST_LOOK);
    let limit = shared.limits.start_timeout();
    let mut told = false;
    let mut state = shared.lock();
    while state.phase != Phase::Closed {
        if !state.anything_to_watch() {
            // An idle signer wakes up for nothing.
            state.watchdog_sleeps = true;
            state = shared.watch.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        state = shared.watch.wait_timeout(state, look).unwrap_or_else(PoisonError::into_inner).0;
        let now = Instant::now();
        let late = find_late(&mut state, now, shared.limits.op_timeout);
        let hangs = state.healing.is_some_and(|since| now.duration_since(since) > limit);
        drop(state);
        if hangs && !std::mem::replace(&mut told, true) {
            shared.lose(HsmError::Lost(format!("the module does not start afresh within {} s", limit.as_secs_f32())));
        }
        act(shared, late);
        state = shared.lock();
    }
}

/// Takes late requests out of the queue and the workers, and gives up workers that stayed inside for too long.
fn find_late(state: &mut State, now: Instant, op_timeout: Duration) -> Late {
    let mut tickets = Vec::new();
    // All requests get the same time, so the oldest is in front.
    while let Some(job) = state.queue.pop_front_if(|job| job.deadline <= now) {
        tickets.push(job.ticket);
    }
    let mut given_up = 0;
    state.workers.retain(|_, slot| {
        if let Some((_, ticket)) = slot.job.take_if(|(deadline, _)| *deadline <= now) {
            tickets.push(ticket);
        }
        // A request may have used up its time in the queue; the call itself gets as much again.
        let stays = slot.since.is_none_or(|since| now.duration_since(since) < op_timeout);
        if !stays {
            given_up += 1;
            tickets.extend(slot.job.take().map(|(_, ticket)| ticket));
        }
        stays
    });
    state.stuck = state.stuck.saturating_add(u32::try_from(given_up).unwrap_or(u32::MAX));
    Late { tickets, given_up, stuck: state.stuck }
}

fn act<D: Device>(shared: &Arc<Shared<D>>, late: Late) {
    for ticket in late.tickets {
        ticket.refuse(LinkRefusal::Timeout);
    }
    if late.given_up == 0 {
        return;
    }
    let limit = shared.limits.max_stuck;
    let why = "a call into the HSM's module does not come back";
    tracing::error!(name: "module_stuck", stuck = late.stuck, limit, "{why}");
    // Somebody may wait for it to leave.
    shared.out.notify_all();
    if late.stuck > limit {
        return shared.lose(HsmError::Lost(format!("{} in the module", counted(late.stuck))));
    }
    for _ in 0..late.given_up {
        if let Err(error) = worker::spawn(shared) {
            shared.lose(error);
        }
    }
}
