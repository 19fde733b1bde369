//! The one thread that climbs the ladder beyond a new session: it alone logs in, finalises and initialises.
//!
//! Everybody else leaves the module before. Whether it helped, only a real signature says: a dead SoftHSM still answers
//! session info and random bytes.

use super::shared::{Shared, counted};
use super::state::{Asked, Phase};
use crate::hsm::HsmError;
use crate::hsm::device::Device;
use crate::hsm::ladder::{Fault, Rung};
use crate::hsm::ring::Ring;
use crate::wire::link::{KeyRole, LinkRefusal, PROBE_PREFIX};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use zeroize::Zeroize as _;

/// Keys that are tried before nothing is said to work: the first may be one that is gone.
pub const PROBES: usize = 4;

/// Why the healer can't have the module for itself.
enum Blocked {
    /// Threads are stuck in it.
    Stuck(u32),
    /// The end has begun.
    Ending,
}

/// Starts the healer.
pub(super) fn spawn<D: Device>(shared: &Arc<Shared<D>>) -> Result<(), HsmError> {
    let own = Arc::clone(shared);
    std::thread::Builder::new()
        .name("hsm-healer".to_owned())
        .spawn(move || run(&own))
        .map(drop)
        .map_err(|error| HsmError::Host("start the healing thread", error))
}

fn run<D: Device>(shared: &Shared<D>) {
    let mut last = Instant::now();
    let mut state = shared.lock();
    loop {
        if state.lost.is_some() || matches!(state.phase, Phase::Closing | Phase::Closed) {
            let asked = state.asked.take();
            drop(state);
            return answer(asked, Err(LinkRefusal::HsmUnavailable));
        }
        if state.heal.is_some() || state.asked.is_some() {
            drop(state);
            heal(shared);
            last = Instant::now();
            state = shared.lock();
            continue;
        }
        state = match shared.idles_out(last) {
            Some(left) if left.is_zero() => {
                state.healing = Some(Instant::now());
                state.watchdog_sleeps = false;
                drop(state);
                keep(shared);
                last = Instant::now();
                shared.lock()
            }
            Some(left) => shared.healer.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
            None => shared.healer.wait(state).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

/// Looks after the session that holds the login.
fn keep<D: Device>(shared: &Shared<D>) {
    shared.watch.notify_one();
    let outcome = shared.device.keep();
    shared.lock().healing = None;
    shared.out.notify_all();
    if let Err(error) = outcome {
        shared.want(Rung::Login, &error);
    }
}

/// Climbs until something helps, or the process has to end.
fn heal<D: Device>(shared: &Shared<D>) {
    let asked = shared.lock().asked.take();
    let outcome = match gather(shared) {
        Ok(()) => climb(shared, asked.is_some()),
        Err(Blocked::Ending) => Err(LinkRefusal::HsmUnavailable),
        Err(Blocked::Stuck(stuck)) => blocked(shared, stuck),
    };
    answer(asked, outcome);
}

fn answer(asked: Option<Asked>, outcome: Result<Arc<Ring>, LinkRefusal>) {
    if let Some(asked) = asked {
        // Whoever asked may have given up.
        asked.send(outcome).unwrap_or_default();
    }
}

/// Waits until everybody has left the module. The watchdog sees to it that this takes no longer than a call may.
fn gather<D: Device>(shared: &Shared<D>) -> Result<(), Blocked> {
    let mut state = shared.lock();
    state.hush();
    shared.phase_changed();
    loop {
        if matches!(state.phase, Phase::Closing | Phase::Closed) {
            return Err(Blocked::Ending);
        }
        if state.stuck > 0 {
            return Err(Blocked::Stuck(state.stuck));
        }
        if state.all_out() {
            return Ok(());
        }
        state = shared.out.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

/// A module can't be finalised under a thread that is inside it: the process has to end, if there was need. A login might
/// still be made, but the stuck threads' sessions keep the old one.
fn blocked<D: Device>(shared: &Shared<D>, stuck: u32) -> Result<Arc<Ring>, LinkRefusal> {
    let mut state = shared.lock();
    let Some((_, why)) = state.heal.take() else {
        state.resume();
        drop(state);
        shared.phase_changed();
        return Err(LinkRefusal::HsmUnavailable);
    };
    state.ladder.tried(Rung::Process, false, Instant::now());
    drop(state);
    let why = format!("{why}, and {} in the module, so it can't be started afresh", counted(stuck));
    shared.lose(HsmError::Lost(why));
    Err(LinkRefusal::HsmUnavailable)
}

fn climb<D: Device>(shared: &Shared<D>, asked: bool) -> Result<Arc<Ring>, LinkRefusal> {
    let mut rung = match &shared.lock().heal {
        Some((rung, _)) if !asked => *rung,
        _ => Rung::Module,
    };
    // On the front's word it is done at once: a ceremony has made a key. Whoever asks too often is told to wait there.
    let mut at_once = asked;
    loop {
        if rung == Rung::Module && !std::mem::take(&mut at_once) && !pause(shared) {
            return Err(LinkRefusal::HsmUnavailable);
        }
        let outcome = step(shared, rung);
        let hopeless = tried(shared, rung, outcome.is_ok());
        let error = match outcome {
            Ok(()) => return Ok(resume(shared, rung)),
            Err(error) => error,
        };
        if error.refused_pin() {
            shared.lose(error);
            return Err(LinkRefusal::HsmUnavailable);
        }
        if rung == Rung::Login {
            tracing::warn!(name: "ladder_rung", rung = rung.name(), %error, "another login did not help");
            rung = Rung::Module;
            continue;
        }
        go_down(shared, &error);
        // Who asks while this goes on would wait for the end of it.
        let others = shared.lock().asked.take();
        answer(others, Err(LinkRefusal::HsmUnavailable));
        if hopeless {
            shared.lose(HsmError::Lost(error.detail()));
            return Err(LinkRefusal::HsmUnavailable);
        }
        if asked {
            // Whoever asked is told, and the healer goes on by itself.
            shared.want(Rung::Module, &error);
            return Err(LinkRefusal::HsmUnavailable);
        }
    }
}

/// Notes what came of a rung. `true` if another process is wanted.
fn tried<D: Device>(shared: &Shared<D>, rung: Rung, well: bool) -> bool {
    let now = Instant::now();
    let mut state = shared.lock();
    state.healing = None;
    state.ladder.tried(rung, well, now);
    let hopeless = !well && state.ladder.hopeless(now);
    if hopeless {
        state.ladder.tried(Rung::Process, false, now);
    }
    drop(state);
    shared.out.notify_all();
    hopeless
}

/// Serves again.
fn resume<D: Device>(shared: &Shared<D>, rung: Rung) -> Arc<Ring> {
    let (was_down, why, ring) = {
        let mut state = shared.lock();
        let was_down = state.phase == Phase::Down;
        let why = state.heal.take().map(|(_, why)| why);
        state.resume();
        (was_down, why, Arc::clone(&state.ring))
    };
    shared.phase_changed();
    if let Some(error) = why {
        tracing::warn!(name: "ladder_rung", rung = rung.name(), error, "a rung of the ladder helped");
    }
    if was_down {
        tracing::info!(name: "hsm_up_inside", "the HSM signs again");
    }
    ring
}

/// Refuses everybody from now on, and says so once.
fn go_down<D: Device>(shared: &Shared<D>, error: &HsmError) {
    let (news, tickets) = {
        let mut state = shared.lock();
        (matches!(state.phase, Phase::Serving | Phase::Quiescing), state.go_down())
    };
    if news {
        tracing::error!(name: "hsm_down_inside", %error, "the HSM does not sign; the signer goes on trying");
    }
    tickets.into_iter().for_each(|ticket| ticket.refuse(LinkRefusal::HsmUnavailable));
}

/// Waits until the module may be started afresh again, with everybody refused if that takes any time. `false` if the end
/// comes first.
fn pause<D: Device>(shared: &Shared<D>) -> bool {
    let mut state = shared.lock();
    loop {
        if matches!(state.phase, Phase::Closing | Phase::Closed) {
            return false;
        }
        let now = Instant::now();
        let left = state.ladder.module_due(now).saturating_duration_since(now);
        if left.is_zero() {
            return true;
        }
        if state.phase == Phase::Quiescing {
            let why = state.heal.as_ref().map(|(_, why)| why.clone()).unwrap_or_default();
            drop(state);
            go_down(shared, &HsmError::Lost(why));
            state = shared.lock();
            continue;
        }
        state = shared.healer.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}

/// One rung, and a signature to see whether it helped.
fn step<D: Device>(shared: &Shared<D>, rung: Rung) -> Result<(), HsmError> {
    {
        let mut state = shared.lock();
        // With the lock that says who is in the module: who closes it then waits for us, or we do not begin.
        if matches!(state.phase, Phase::Closing | Phase::Closed) {
            return Err(HsmError::Lost("the end has begun".to_owned()));
        }
        state.healing = Some(Instant::now());
        state.watchdog_sleeps = false;
    }
    shared.watch.notify_one();
    if rung == Rung::Login {
        shared.device.login()?;
    } else {
        let ring = Arc::new(shared.device.reinitialise()?);
        shared.lock().ring = ring;
    }
    probe(shared)
}

/// A signature that verifies, by any of a few keys. Without a key there is nothing to sign, and nothing to try.
fn probe<D: Device>(shared: &Shared<D>) -> Result<(), HsmError> {
    let ring = Arc::clone(&shared.lock().ring);
    let signs = |role| matches!(role, KeyRole::Passport | KeyRole::Audit);
    let usable = ring.keys().iter().enumerate().filter(|(_, key)| key.usable() && signs(key.role));
    let mut failed = None;
    for (position, _) in usable.take(PROBES) {
        match probe_with(shared, &ring, position) {
            Ok(()) => return Ok(()),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn probe_with<D: Device>(shared: &Shared<D>, ring: &Arc<Ring>, position: usize) -> Result<(), HsmError> {
    let mut challenge = [0; 32];
    getrandom::fill(&mut challenge)
        .map_err(|error| HsmError::Host("get random bytes", std::io::Error::other(error.to_string())))?;
    let message = [PROBE_PREFIX, &challenge].concat();
    let mut session = match shared.device.open(ring) {
        Err(error) if error.fault() == Fault::Capacity => shared.device.share(ring)?,
        opened => opened?,
    };
    let mut signature = shared.device.sign(&mut session, position, &message)?;
    let public = ring.get(position).and_then(|key| key.public.as_ref());
    if public.is_some_and(|public| public.verify(&message, &signature)) {
        return Ok(());
    }
    signature.zeroize();
    shared.count_bad();
    let reason = "the signature does not verify".to_owned();
    Err(HsmError::Call { what: "sign", reason, fault: Fault::Device })
}
