//! One worker: takes a job, signs, and sees to it that the signature is verified and answered.

use super::checker::{Signed, hand_over};
use super::state::{Phase, Slot, Task, Work};
use super::{MAX_FAILURES, Shared};
use crate::hsm::HsmError;
use crate::hsm::device::{DERIVED, Device, SIGNATURE};
use crate::hsm::ring::Ring;
use crate::wire::link::{KeyRole, LinkRefusal};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use zeroize::{Zeroize, Zeroizing};

/// Enough for any module seen; most of it is never touched.
const STACK: usize = 512 * 1024;

/// A session, and the keys that it was opened for.
struct Open<D: Device> {
    ring: Arc<Ring>,
    session: D::Session,
}

/// What the module returned, unverified.
enum Made {
    Signature([u8; SIGNATURE]),
    Derived(Zeroizing<[u8; DERIVED]>),
}

/// What a worker does next.
enum Next {
    Perform(Task, Arc<Ring>),
    /// Close the session, so that the module can be finalised.
    Close,
    /// The worker was given up, or the pool is closed.
    Leave,
}

/// Starts a worker.
pub(super) fn spawn<D: Device>(shared: &Arc<Shared<D>>) -> Result<(), HsmError> {
    let id = shared.lock().enrol();
    let own = Arc::clone(shared);
    let started = std::thread::Builder::new().name(format!("hsm-{id}")).stack_size(STACK).spawn(move || run(&own, id));
    match started {
        Ok(_detached) => Ok(()),
        Err(error) => {
            shared.lock().workers.remove(&id);
            Err(HsmError::Host("start a worker thread", error))
        }
    }
}

fn run<D: Device>(shared: &Shared<D>, id: u64) {
    let mut open: Option<Open<D>> = None;
    loop {
        match next(shared, id, open.is_some()) {
            Next::Perform(task, ring) => {
                let outcome = perform(shared, &mut open, &ring, &task);
                if !finish(shared, id, ring, task, outcome) {
                    // Given up, and back after all: out of the module before `next` counts it so.
                    drop(open.take());
                }
            }
            Next::Close => drop(open.take()),
            Next::Leave => return,
        }
    }
}

/// Waits for something to do. A worker that is about to enter the module is marked so before the lock is let go.
fn next<D: Device>(shared: &Shared<D>, id: u64, has_session: bool) -> Next {
    let mut state = shared.lock();
    loop {
        let phase = state.phase;
        if !state.workers.contains_key(&id) {
            state.stuck = state.stuck.saturating_sub(1);
            return Next::Leave;
        }
        if phase == Phase::Closed {
            state.workers.remove(&id);
            return Next::Leave;
        }
        let job = if phase == Phase::Serving { state.queue.pop_front() } else { None };
        let ring = Arc::clone(&state.ring);
        let slot = state.workers.entry(id).or_default();
        match (phase, job) {
            (_, Some(job)) => {
                *slot = Slot { since: Some(Instant::now()), job: Some((job.deadline, job.ticket)), parked: false };
                return Next::Perform(job.task, ring);
            }
            (Phase::Quiescing, None) if has_session => {
                *slot = Slot { since: Some(Instant::now()), job: None, parked: false };
                return Next::Close;
            }
            (_, None) => {
                *slot = Slot { since: None, job: None, parked: phase == Phase::Quiescing && !has_session };
                if slot.parked {
                    shared.parked.notify_all();
                }
            }
        }
        state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Signs or derives, once more on a fresh session if the first attempt fails: the key's position in the ring, and what the
/// module returned.
fn perform<D: Device>(
    shared: &Shared<D>,
    open: &mut Option<Open<D>>,
    ring: &Arc<Ring>,
    task: &Task,
) -> Result<(usize, Made), LinkRefusal> {
    // The keys may have been read again since the request was judged.
    let position = match task.ring.get(task.position) {
        Some(_) if Arc::ptr_eq(&task.ring, ring) => task.position,
        Some(key) => ring.position(&key.kid).ok_or(LinkRefusal::UnknownKid)?,
        None => return Err(LinkRefusal::Internal),
    };
    let key = ring.get(position).filter(|key| key.usable()).ok_or(LinkRefusal::UnknownKid)?;
    let fits = match task.work {
        Work::Sign(_) => key.public.is_some(),
        Work::Derive(_) => key.role == KeyRole::Seal,
    };
    if !fits {
        return Err(LinkRefusal::PurposeDenied);
    }
    let fresh = !open.as_ref().is_some_and(|open| Arc::ptr_eq(&open.ring, ring));
    let made = attempt(shared, open, ring, position, &task.work).or_else(|error| {
        tracing::warn!(name: "signing_failed", %error, kid = key.kid, "signing failed");
        if matches!(error, HsmError::TooLong(_)) {
            // The message's fault, so neither another session nor an end of the process would help.
            return Err(LinkRefusal::TooLong);
        }
        if fresh {
            return Err(LinkRefusal::HsmUnavailable);
        }
        shared.reopened.fetch_add(1, Ordering::Relaxed);
        attempt(shared, open, ring, position, &task.work).map_err(|error| {
            tracing::warn!(name: "signing_failed_again", %error, kid = key.kid, "signing failed on a new session too");
            LinkRefusal::HsmUnavailable
        })
    })?;
    Ok((position, made))
}

/// One attempt. Any error closes the session.
fn attempt<D: Device>(
    shared: &Shared<D>,
    open: &mut Option<Open<D>>,
    ring: &Arc<Ring>,
    position: usize,
    work: &Work,
) -> Result<Made, HsmError> {
    let mut usable = match open.take().filter(|open| Arc::ptr_eq(&open.ring, ring)) {
        Some(usable) => usable,
        None => Open { ring: Arc::clone(ring), session: shared.device.open(ring)? },
    };
    let made = match work {
        Work::Sign(message) => shared.device.sign(&mut usable.session, position, message).map(Made::Signature),
        Work::Derive(input) => shared.device.derive(&mut usable.session, position, input).map(Made::Derived),
    }?;
    *open = Some(usable);
    Ok(made)
}

/// Sees to the answer, unless the watchdog did. `false` if the worker was given up meanwhile.
fn finish<D: Device>(
    shared: &Shared<D>,
    id: u64,
    ring: Arc<Ring>,
    task: Task,
    outcome: Result<(usize, Made), LinkRefusal>,
) -> bool {
    let (ticket, kept, lost, more) = {
        let mut state = shared.lock();
        state.failures = match &outcome {
            Ok(_) => 0,
            Err(LinkRefusal::HsmUnavailable) => state.failures.saturating_add(1),
            Err(_) => state.failures,
        };
        let lost = state.failures >= MAX_FAILURES;
        let more = !state.queue.is_empty();
        match state.workers.get_mut(&id) {
            Some(slot) => {
                slot.since = None;
                (slot.job.take(), true, lost, more)
            }
            None => (None, false, lost, more),
        }
    };
    match (ticket, outcome, task.work) {
        (Some((_, ticket)), Ok((position, Made::Signature(signature))), Work::Sign(message)) => {
            let signed = Signed { ring, position, message, signature, ticket };
            if more { hand_over(shared, signed) } else { signed.release(shared) }
        }
        (Some((_, ticket)), Ok((_, Made::Derived(key))), _) => ticket.derived(key),
        (Some((_, ticket)), Err(refusal), _) => ticket.refuse(refusal),
        // Answered by its deadline; what was made late goes nowhere. A signature belongs to a message.
        (_, Ok((_, Made::Signature(mut signature))), _) => signature.zeroize(),
        (None, _, _) => {}
    }
    if lost {
        shared.lose(HsmError::Lost(format!("{MAX_FAILURES} signatures failed one after the other")));
    }
    kept
}
