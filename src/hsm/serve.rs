//! The signer from its PIN to its last signature. `boot` calls [`run_signer`] once the sandbox is entered.

use super::device::{Device as _, Pkcs11Device};
use super::guard::Bounds;
use super::pool::{Limits, Pool};
use super::recycle::{LOOK, Recycle, resident_kib};
use super::reread::Reread;
use super::ring::Ring;
use super::sealer::Sealer;
use super::server::{Desk, Door, Memory, Token};
use super::{HsmError, ModuleConfig};
use crate::secret::Pin;
use crate::verify::{Verifier, Way, say_difference, say_way};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long the front may take to close a link on which it has all its replies.
const WAY: Duration = Duration::from_secs(1);

/// How often the manager is told that the module starts still.
const EXTENSION: Duration = Duration::from_secs(5);
/// The main loop turns at least this often, to see to what comes without an event: keys that are old, retired, or gone.
const TIDY: Duration = Duration::from_secs(1);

/// All that the signer is given.
pub struct SignerPlan {
    /// The module.
    pub module: ModuleConfig,
    /// What it signs.
    pub bounds: Bounds,
    /// How signatures are verified before they are released, the best way first; none is the reference.
    pub ways: &'static [Way],
    /// How it seals.
    pub sealer: Box<dyn Sealer>,
    /// The user PIN.
    pub pin: Pin,
    /// The private socket, bound.
    pub listener: UnixListener,
    /// The uid of the front; nobody else is served.
    pub front_uid: u32,
    /// Who is told how it stands.
    pub manager: Box<dyn Manager>,
}

/// Who started the signer, and watches it: systemd, or nobody.
pub trait Manager: Send {
    /// The module starts still, and may take this long from now on.
    fn starting(&self, within: Duration);
    /// The keys are read and connections are taken; says so and how many keys can be used.
    fn ready(&self, usable_keys: usize);
    /// How often it wants to hear [`Manager::alive`]; none if it does not watch.
    fn watches(&self) -> Option<Duration>;
    /// The main loop turns, and the pool answers within its time.
    fn alive(&self);
    /// The end has begun.
    fn stopping(&self);
}

/// Why the signer ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// SIGTERM, SIGINT or SIGQUIT.
    Asked,
    /// It had grown beyond its bound, and is to be started afresh.
    Recycled,
}

/// Runs until SIGTERM, SIGINT or SIGQUIT, or until it has grown beyond its bound. Threads are started in here, so the sandbox must be entered before.
///
/// Whatever it returns, the process must then end by [`super::leave`]: a thread may still be inside the module, and `exit`
/// would run the module's destructors under it.
///
/// # Errors
/// [`HsmError`]: what is wrong with the set-up, or why the HSM was lost. After [`HsmError::refused_pin`] the process must
/// end with 78, so that nobody tries the PIN again.
pub fn run_signer(plan: SignerPlan) -> Result<ExitReason, HsmError> {
    // Before any thread, so that none takes the signal instead of the descriptor.
    let signals = termination_signals()?;
    let (wake, woken) = wake_ups()?;
    let limits = Limits {
        sessions: plan.module.sessions,
        queue: plan.module.queue,
        op_timeout: plan.module.op_timeout,
        login_timeout: plan.module.login_timeout,
        max_stuck: plan.module.max_stuck,
        keepalive: plan.module.keepalive,
    };
    let growth = plan.module.recycle_kib;
    let fleeting = plan.module.fleeting.clone();
    let kept = fleeting.is_none();
    let mut reread = Reread::of(&plan.module.state_dir);
    let memory = if kept { Memory::open(&plan.module.state_dir)? } else { Memory::volatile() };
    let Some((device, ring)) = start(plan.module, plan.pin, &limits, &signals, &*plan.manager)? else {
        return Ok(ExitReason::Asked);
    };
    let (module, token) = device.describe();
    for key in ring.keys().iter().filter(|key| !key.usable()) {
        tracing::warn!(name: "key_unused", kid = key.kid, problem = key.problem, "a key is not used");
    }
    for orphan in ring.orphans() {
        tracing::warn!(name: "object_orphaned", orphan, "an object in the HSM belongs to no key");
    }
    // The other end may be full of earlier wake-ups; one is enough.
    let tell = move || drop((&wake).write(&[1]));
    let verifier = Verifier::start(plan.ways).map_err(|error| HsmError::Host("start the verifier", error))?;
    say_way(verifier.way());
    let pool = Pool::start(device, ring, limits, verifier, Box::new(tell))?;
    let token = Token { module, token, sessions: pool.health().sessions, boot_id: random_id()? };
    let recycle = Recycle::new(resident_kib(), growth, Instant::now());
    let desk = Arc::new(Desk::new(pool.clone(), plan.bounds, memory, plan.sealer, token, recycle, fleeting));
    let door = Door::new(plan.listener, plan.front_uid)?;
    plan.manager.ready(pool.ring().keys().iter().filter(|key| key.usable()).count());
    tracing::info!(name: "ready", ready = 1, "serving the front");
    let events = Events { signals, woken };
    let ended = serve(&door, &desk, &events, &*plan.manager, &recycle, &mut |now| {
        // Keys of its own are nobody else's to retire or to bring back.
        if kept {
            look_at_keys(&pool, &mut reread, now);
        }
        pool.take_differences().iter().for_each(say_difference);
        (pool.in_time(now), reread.next())
    });
    let ended = match ended {
        Ok(ExitReason::Recycled) => give_way(&door, &desk, &events, &recycle, limits.op_timeout, &*plan.manager),
        ended => ended,
    };
    plan.manager.stopping();
    let quiet = pool.close();
    let lost = pool.lost();
    if !quiet {
        tracing::error!(name: "signer_aborts", "a thread is still inside the module; leaving it there");
    }
    match (lost, quiet) {
        (Some(error), _) => Err(error),
        (None, true) => ended,
        (None, false) => Err(HsmError::Lost("a thread is still inside the module".to_owned())),
    }
}

/// Has the module started afresh for keys that are retired now, or that may be there again.
fn look_at_keys(pool: &Pool<Pkcs11Device>, reread: &mut Reread, now: Instant) {
    let ring = pool.ring();
    if reread.retired(&ring) && pool.begin_reinitialising().is_ok() {
        tracing::info!(name: "retirement_seen", "a key was retired; the module is started afresh without it");
    }
    if reread.searches(&ring, now) {
        // Where the module is down it is started afresh in any case.
        drop(pool.begin_reinitialising());
    }
}

/// Starts the module in a thread of its own, since no call of it can be ended. None if the end was asked for meanwhile: it
/// then has the time of a call to come back.
fn start(
    config: ModuleConfig,
    pin: Pin,
    limits: &Limits,
    signals: &SignalFd,
    manager: &dyn Manager,
) -> Result<Option<(Pkcs11Device, Ring)>, HsmError> {
    let (wake, woken) = wake_ups()?;
    let (tell, told) = mpsc::sync_channel(1);
    let begin = move || {
        // Nobody may listen any more, which changes nothing.
        tell.send(Pkcs11Device::start(config, pin)).unwrap_or_default();
        drop((&wake).write(&[1]));
    };
    std::thread::Builder::new()
        .name("hsm-start".to_owned())
        .spawn(begin)
        .map_err(|error| HsmError::Host("start the thread that starts the module", error))?;
    let longest = limits.start_timeout();
    let mut deadline = Instant::now() + longest;
    let mut asked = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(outcome) = told.try_recv() {
            let (device, ring) = outcome?;
            if !asked {
                return Ok(Some((device, ring)));
            }
            drop(device.close());
            return Ok(None);
        }
        if left.is_zero() && asked {
            tracing::error!(name: "signer_aborts", "a thread is still inside the module; leaving it there");
            return Ok(None);
        }
        if left.is_zero() {
            return Err(HsmError::Lost(format!("the module does not start within {} s", longest.as_secs_f32())));
        }
        let [signal, answered] = wait([signals.as_fd(), woken.as_fd()], Some(left.min(EXTENSION)))?;
        if !signal && !answered && !asked {
            manager.starting(EXTENSION * 2);
        }
        if signal && matches!(signals.read_signal(), Ok(Some(_))) && !asked {
            asked = true;
            manager.stopping();
            deadline = Instant::now() + limits.op_timeout;
        }
    }
}

/// Which of these can be read, after this long at the latest.
fn wait<const N: usize>(polled: [BorrowedFd<'_>; N], longest: Option<Duration>) -> Result<[bool; N], HsmError> {
    // Rounded up: a poll that ends too early would turn once more for nothing.
    let longest = longest.map(|longest| longest + Duration::from_millis(1));
    let pause = longest.map_or(PollTimeout::NONE, |longest| PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX));
    let mut polled = polled.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut polled, pause) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(HsmError::Host("wait for connections", errno.into())),
    }
    Ok(polled.map(|fd| fd.any().unwrap_or(false)))
}

/// What ends the main loop.
struct Events {
    signals: SignalFd,
    /// The pool is lost.
    woken: UnixStream,
}

impl Events {
    fn asked(&self) -> bool {
        matches!(self.signals.read_signal(), Ok(Some(_)))
    }
}

fn serve(
    door: &Door,
    desk: &Arc<Desk<Pkcs11Device>>,
    events: &Events,
    manager: &dyn Manager,
    recycle: &Recycle,
    look_after: &mut dyn FnMut(Instant) -> (bool, Option<Instant>),
) -> Result<ExitReason, HsmError> {
    let every = manager.watches();
    let mut due = every.map(|every| Instant::now() + every);
    let mut look = (recycle.at_kib() > 0).then(|| Instant::now() + LOOK);
    let mut search = None;
    loop {
        // Rounded up: a poll that ends too early would turn once more for nothing.
        let next = [due, look, search].into_iter().flatten().min();
        let left = next.map_or(TIDY, |next| next.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let polled = [door.listener().as_fd(), events.signals.as_fd(), events.woken.as_fd()];
        let [accept, signal, lost] = wait(polled, Some(left.min(TIDY)))?;
        if lost || (signal && events.asked()) {
            return Ok(ExitReason::Asked);
        }
        if accept {
            door.accept(desk);
        }
        let now = Instant::now();
        desk.tidy(now);
        let in_time;
        (in_time, search) = look_after(now);
        if let (Some(at), Some(every)) = (due, every)
            && now >= at
        {
            // A pool whose watch has stopped answers nobody; the manager then ends us, as it ends one that stands still.
            if in_time {
                manager.alive();
            }
            due = Some(now + every);
        }
        if look.is_some_and(|look| now >= look) {
            if recycle.due(resident_kib(), now) {
                return Ok(ExitReason::Recycled);
            }
            look = Some(now + LOOK);
        }
    }
}

/// Lets the front go elsewhere: it gets its replies, and closes the link. One that does not is not waited for longer than a
/// call may take.
fn give_way(
    door: &Door,
    desk: &Arc<Desk<Pkcs11Device>>,
    events: &Events,
    recycle: &Recycle,
    op_timeout: Duration,
    manager: &dyn Manager,
) -> Result<ExitReason, HsmError> {
    let (rss_kib, limit_kib) = (resident_kib(), recycle.at_kib());
    tracing::info!(name: "signer_recycles", rss_kib, limit_kib, "the module has grown; the signer is started afresh");
    door.leave();
    let deadline = Instant::now() + op_timeout + WAY;
    while !door.is_empty() && Instant::now() < deadline {
        manager.alive();
        let polled = [door.listener().as_fd(), events.signals.as_fd(), events.woken.as_fd()];
        let [accept, signal, lost] = wait(polled, Some(WAY / 100))?;
        if accept {
            // To be closed at once: nobody is to wait for a greeting that does not come.
            door.accept(desk);
        }
        if lost || (signal && events.asked()) {
            return Ok(ExitReason::Asked);
        }
    }
    Ok(ExitReason::Recycled)
}

/// A byte written to the one shows at the other.
fn wake_ups() -> Result<(UnixStream, UnixStream), HsmError> {
    let (wake, woken) = UnixStream::pair().map_err(|error| HsmError::Host("make a socket pair", error))?;
    woken.set_nonblocking(true).map_err(|error| HsmError::Host("use a socket pair", error))?;
    Ok((wake, woken))
}

fn termination_signals() -> Result<SignalFd, HsmError> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.add(Signal::SIGQUIT);
    let fails = |errno: Errno| HsmError::Host("wait for SIGTERM", errno.into());
    mask.thread_block().map_err(fails)?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(fails)
}

fn random_id() -> Result<u64, HsmError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| HsmError::Host("get random bytes", std::io::Error::other(error.to_string())))?;
    Ok(u64::from_le_bytes(bytes))
}
