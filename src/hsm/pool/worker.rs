//! One worker: takes a job, signs, and sees to it that the signature is verified and answered.

use super::job::{Job, Kind, Task, Ticket};
use super::release::Signed;
use super::shared::Shared;
use super::state::{Phase, Slot, State};
use crate::hsm::HsmError;
use crate::hsm::device::{DERIVED, Device, SIGNATURE};
use crate::hsm::ladder::{Fault, Rung};
use crate::hsm::ring::{Ring, RingKey};
use crate::secret::scrubbed;
use crate::wire::link::{KeyRole, LinkRefusal};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;
use zeroize::{Zeroize, Zeroizing};

/// Enough for any module seen; most of it is never touched.
const STACK: usize = 512 * 1024;
/// Attempts that a request gets within its time: one, one on a new session, and one after the healer.
pub const ATTEMPTS: u32 = 3;

/// A session, and the keys that it was opened for.
struct Open<D: Device> {
    ring: Arc<Ring>,
    session: D::Session,
    /// Signatures that did not verify when it was opened.
    bad: u64,
}

/// What a worker does next.
enum Next {
    Work(Task, Arc<Ring>),
    /// See whether the session still lives.
    Keep,
    /// Close the session, so that the module can be finalised.
    Close,
    /// The worker was given up, or the pool is closed.
    Leave,
}

/// What the module returned, unverified.
enum Made {
    Signature([u8; SIGNATURE]),
    Derived(Zeroizing<[u8; DERIVED]>),
}

/// What came of a job.
enum Outcome {
    Made(usize, Made),
    /// No fault of the HSM's.
    Refused(LinkRefusal),
    /// For another worker: there is no session for this one.
    Crowded,
    /// With the rung that is next.
    Failed(Option<Rung>, HsmError),
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
    let mut last = Instant::now();
    loop {
        match next(shared, id, open.is_some(), last) {
            Next::Work(mut task, ring) => {
                let derives = task.kind == Kind::Derive;
                let work = || {
                    let outcome = perform(shared, id, &mut open, &ring, &mut task);
                    finish(shared, id, ring, task, outcome)
                };
                // What it derives is a key; a signature is for everybody.
                if !(if derives { scrubbed(work) } else { work() }) {
                    // Given up, and back after all: out of the module before `next` counts it so.
                    drop(open.take());
                }
            }
            Next::Keep => keep(shared, id, &mut open),
            Next::Close => drop(open.take()),
            Next::Leave => return,
        }
        last = Instant::now();
    }
}

/// Waits for something to do. A worker that is about to enter the module is marked so before the lock is let go.
fn next<D: Device>(shared: &Shared<D>, id: u64, has_session: bool, last: Instant) -> Next {
    let mut state = shared.lock();
    loop {
        let phase = state.phase;
        let Some(slot) = state.workers.get(&id) else {
            state.stuck = state.stuck.saturating_sub(1);
            shared.out.notify_all();
            return Next::Leave;
        };
        if phase == Phase::Closed {
            state.workers.remove(&id);
            return Next::Leave;
        }
        let retired = slot.retired;
        let job = if phase == Phase::Serving && !retired { state.queue.pop_front() } else { None };
        let idle_out =
            has_session && phase == Phase::Serving && shared.idles_out(last).is_some_and(|left| left.is_zero());
        let ring = Arc::clone(&state.ring);
        let slot = state.workers.entry(id).or_default();
        if let Some(job) = job {
            *slot = Slot { since: Some(Instant::now()), job: Some((job.deadline, job.ticket)), ..Slot::default() };
            return Next::Work(job.task, ring);
        }
        if has_session && (phase != Phase::Serving || idle_out) {
            *slot = Slot { since: Some(Instant::now()), ..Slot::default() };
            if std::mem::take(&mut state.watchdog_sleeps) {
                shared.watch.notify_one();
            }
            return if idle_out { Next::Keep } else { Next::Close };
        }
        *slot = Slot { parked: phase != Phase::Serving, retired, ..Slot::default() };
        if slot.parked {
            shared.out.notify_all();
        }
        state = wait(shared, state, retired, has_session, last);
    }
}

/// Until there is something new. Who is retired must not take a wake-up that was meant for somebody who signs.
fn wait<'a, D: Device>(
    shared: &'a Shared<D>,
    state: MutexGuard<'a, State>,
    retired: bool,
    has_session: bool,
    last: Instant,
) -> MutexGuard<'a, State> {
    let bell = if retired { &shared.retired } else { &shared.work };
    match shared.idles_out(last).filter(|_| has_session) {
        Some(left) => bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
        None => bell.wait(state).unwrap_or_else(PoisonError::into_inner),
    }
}

/// The key at its position in the ring of now; the keys may have been read again since the request was judged.
fn find<'a>(ring: &'a Arc<Ring>, task: &Task) -> Result<(usize, &'a RingKey), LinkRefusal> {
    let position = match task.ring.get(task.position) {
        Some(_) if Arc::ptr_eq(&task.ring, ring) => task.position,
        Some(key) => ring.position(&key.kid).ok_or(LinkRefusal::UnknownKid)?,
        None => return Err(LinkRefusal::Internal),
    };
    let key = ring.get(position).filter(|key| key.usable()).ok_or(LinkRefusal::UnknownKid)?;
    let fits = match task.kind {
        Kind::Sign => key.public.is_some(),
        Kind::Derive => key.role == KeyRole::Seal,
    };
    if fits { Ok((position, key)) } else { Err(LinkRefusal::PurposeDenied) }
}

/// Does the work, on a new session if the one at hand fails.
fn perform<D: Device>(
    shared: &Shared<D>,
    id: u64,
    open: &mut Option<Open<D>>,
    ring: &Arc<Ring>,
    task: &mut Task,
) -> Outcome {
    let (position, key) = match find(ring, task) {
        Ok(found) => found,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    loop {
        let fresh = !open.as_ref().is_some_and(|open| Arc::ptr_eq(&open.ring, ring));
        let error = match attempt(shared, id, open, ring, position, task) {
            Ok(Some(made)) => return Outcome::Made(position, made),
            Ok(None) => return Outcome::Crowded,
            Err(error) => error,
        };
        tracing::warn!(name: "signing_failed", %error, kid = key.kid, "signing failed");
        let fault = error.fault();
        if fault == Fault::Message {
            // Neither another session nor another process would help.
            return Outcome::Refused(LinkRefusal::TooLong);
        }
        task.attempts += 1;
        let mut state = shared.lock();
        if !state.workers.contains_key(&id) {
            // Given up: what it says now is about a module that others have gone on with.
            return Outcome::Failed(None, error);
        }
        let rung = state.ladder.failed(fault, fresh, &key.kid, Instant::now());
        if rung != Some(Rung::Session) || task.attempts >= ATTEMPTS {
            return Outcome::Failed(rung, error);
        }
    }
}

/// One attempt. Any error closes the session. `None` if there is no session to be had, and others go on.
fn attempt<D: Device>(
    shared: &Shared<D>,
    id: u64,
    open: &mut Option<Open<D>>,
    ring: &Arc<Ring>,
    position: usize,
    task: &Task,
) -> Result<Option<Made>, HsmError> {
    // After a signature that was none no session is trusted: any of them may have made it.
    let bad = shared.bad_signatures.load(Ordering::Relaxed);
    let trusted = |open: &Open<D>| Arc::ptr_eq(&open.ring, ring) && open.bad == bad;
    let mut usable = match open.take().filter(trusted) {
        Some(usable) => usable,
        None => match shared.device.open(ring) {
            Ok(session) => Open { ring: Arc::clone(ring), session, bad },
            Err(error) if error.fault() != Fault::Capacity => return Err(error),
            Err(_) if shared.retires(id) => return Ok(None),
            Err(_) => Open { ring: Arc::clone(ring), session: shared.share(ring)?, bad },
        },
    };
    let made = match task.kind {
        Kind::Sign => Made::Signature(shared.device.sign(&mut usable.session, position, &task.message)?),
        Kind::Derive => Made::Derived(shared.device.derive(&mut usable.session, position, &task.message)?),
    };
    *open = Some(usable);
    Ok(Some(made))
}

/// Looks after a session that nobody has used for long, so that the device does not close it.
fn keep<D: Device>(shared: &Shared<D>, id: u64, open: &mut Option<Open<D>>) {
    let outcome = open.as_mut().map_or(Ok(()), |open| shared.device.alive(&mut open.session));
    let Err(error) = outcome else { return shared.left(id) };
    // The next job opens another.
    drop(open.take());
    if error.fault() == Fault::Login {
        shared.want(Rung::Login, &error);
    }
    shared.left(id);
}

/// Sees to the answer, unless the watchdog did. `false` if the worker was given up meanwhile.
fn finish<D: Device>(shared: &Shared<D>, id: u64, ring: Arc<Ring>, task: Task, outcome: Outcome) -> bool {
    let mut state = shared.lock();
    let Some(slot) = state.workers.get_mut(&id) else {
        drop(state);
        // Answered by its deadline; what was made late goes nowhere.
        if let Outcome::Made(_, Made::Signature(mut signature)) = outcome {
            signature.zeroize();
        }
        return false;
    };
    slot.since = None;
    let job = slot.job.take();
    match outcome {
        Outcome::Made(position, made) => {
            // Whether it is a signature is not known yet. That others before it were none counts until one is.
            if shared.bad_in_a_row.load(Ordering::Relaxed) == 0 {
                state.ladder.succeeded();
            }
            drop(state);
            match (job, made) {
                (Some((_, ticket)), made) => release(shared, (ring, position, task.message), made, ticket),
                (None, Made::Signature(mut signature)) => signature.zeroize(),
                (None, Made::Derived(_)) => {}
            }
        }
        Outcome::Refused(refusal) => {
            drop(state);
            if let Some((_, ticket)) = job {
                ticket.refuse(refusal);
            }
        }
        Outcome::Crowded => {
            let prospect = state.takes_jobs();
            let refused = job.and_then(|(deadline, ticket)| {
                if prospect {
                    state.put_back(Job { task, deadline, ticket });
                    return None;
                }
                Some(ticket)
            });
            drop(state);
            shared.work.notify_one();
            if let Some(ticket) = refused {
                ticket.refuse(LinkRefusal::HsmUnavailable);
            }
        }
        Outcome::Failed(rung, error) => failed(shared, state, job, task, rung, &error),
    }
    true
}

fn release<D: Device>(
    shared: &Shared<D>,
    (ring, position, message): (Arc<Ring>, usize, Vec<u8>),
    made: Made,
    ticket: Ticket,
) {
    match made {
        Made::Derived(key) => ticket.derived(key),
        Made::Signature(signature) => Signed { ring, position, message, signature, ticket }.release(shared),
    }
}

/// Calls the healer if it takes one, and lets the request wait for it if there is time and any prospect.
fn failed<D: Device>(
    shared: &Shared<D>,
    mut state: MutexGuard<'_, State>,
    job: Option<(Instant, Ticket)>,
    task: Task,
    rung: Option<Rung>,
    error: &HsmError,
) {
    let now = Instant::now();
    let healed = rung.filter(|rung| *rung > Rung::Session);
    if let Some(rung) = healed {
        state.want(rung, error);
    }
    let waits = healed.is_some() && task.attempts < ATTEMPTS && state.takes_jobs();
    let refused = match job {
        Some((deadline, ticket)) if waits && deadline > now => {
            state.put_back(Job { task, deadline, ticket });
            None
        }
        Some((_, ticket)) => {
            // Without a rung it is one key's own trouble.
            if let Some(due) = rung.and_then(|_| state.ladder.gave_up(now)) {
                state.want(due, error);
            }
            Some((ticket, task))
        }
        None => None,
    };
    let heals = state.heal.is_some();
    drop(state);
    if heals {
        shared.phase_changed();
        shared.healer.notify_one();
    }
    if let Some((ticket, task)) = refused {
        let kid = task.ring.get(task.position).map(|key| key.kid.as_str()).unwrap_or_default();
        tracing::warn!(name: "signing_failed_again", %error, kid, "signing failed on a new session too");
        ticket.refuse(LinkRefusal::HsmUnavailable);
    }
}
