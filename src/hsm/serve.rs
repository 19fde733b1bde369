//! The signer from its PIN to its last signature. `boot` calls [`run_signer`] once the sandbox is entered.

use super::device::Pkcs11Device;
use super::guard::Bounds;
use super::pool::{Limits, Pool};
use super::sealer::Sealer;
use super::server::{Desk, Door, Token};
use super::{HsmError, ModuleConfig};
use crate::secret::Pin;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The main loop turns at least this often.
const TIDY: Duration = Duration::from_secs(5);

/// All that the signer is given.
pub struct SignerPlan {
    /// The module.
    pub module: ModuleConfig,
    /// What it signs.
    pub bounds: Bounds,
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
    /// Called before this process ends itself by `abort`, to let the log be written.
    pub last_words: fn(),
}

/// Who started the signer, and watches it: systemd, or nobody.
pub trait Manager: Send {
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
}

/// Runs until SIGTERM, SIGINT or SIGQUIT. Threads are started in here, so the sandbox must be entered before.
///
/// Ends the process itself, by `abort`, when a thread is still inside the module at the end: `exit` would run the
/// module's destructors under it.
///
/// # Errors
/// [`HsmError`]: what is wrong with the set-up, or why the HSM was lost. After [`HsmError::refused_pin`] the process must
/// exit with 78, so that nobody tries the PIN again.
pub fn run_signer(plan: SignerPlan) -> Result<ExitReason, HsmError> {
    // Before any thread, so that none takes the signal instead of the descriptor.
    let signals = termination_signals()?;
    let (wake, woken) = UnixStream::pair().map_err(|error| HsmError::Host("make a socket pair", error))?;
    woken.set_nonblocking(true).map_err(|error| HsmError::Host("use a socket pair", error))?;
    let limits =
        Limits { sessions: plan.module.sessions, queue: plan.module.queue, op_timeout: plan.module.op_timeout };
    let (device, ring) = Pkcs11Device::start(plan.module, plan.pin)?;
    let (module, token) = device.describe();
    for key in ring.keys().iter().filter(|key| !key.usable()) {
        tracing::warn!(name: "key_unused", kid = key.kid, problem = key.problem, "a key is not used");
    }
    for orphan in ring.orphans() {
        tracing::warn!(name: "object_orphaned", orphan, "an object in the HSM belongs to no key");
    }
    // The other end may be full of earlier wake-ups; one is enough.
    let tell = move || drop((&wake).write(&[1]));
    let pool = Pool::start(device, ring, limits, Box::new(tell))?;
    let sessions = u32::try_from(limits.sessions).unwrap_or(u32::MAX);
    let token = Token { module, token, sessions, boot_id: random_id()? };
    let desk = Arc::new(Desk::new(pool.clone(), plan.bounds, plan.sealer, token));
    let door = Door::new(plan.listener, plan.front_uid)?;
    plan.manager.ready(pool.ring().keys().iter().filter(|key| key.usable()).count());
    tracing::info!(name: "ready", ready = 1, "serving the front");
    let ended = serve(&door, &desk, &signals, &woken, &*plan.manager, &|| pool.in_time(Instant::now()));
    plan.manager.stopping();
    let quiet = pool.close();
    if let Some(error) = pool.lost() {
        if quiet || error.refused_pin() {
            return Err(error);
        }
        tracing::error!(name: "signer_aborts", %error, "ending by abort: a thread may be inside the module");
        (plan.last_words)();
        std::process::abort();
    }
    if !quiet {
        tracing::error!(name: "signer_aborts", "ending by abort: a thread is still inside the module");
        (plan.last_words)();
        std::process::abort();
    }
    ended
}

fn serve(
    door: &Door,
    desk: &Arc<Desk<Pkcs11Device>>,
    signals: &SignalFd,
    woken: &UnixStream,
    manager: &dyn Manager,
    in_time: &dyn Fn() -> bool,
) -> Result<ExitReason, HsmError> {
    let every = manager.watches();
    let mut due = every.map(|every| Instant::now() + every);
    loop {
        // Rounded up: a poll that ends too early would turn once more for nothing.
        let left = due.map_or(TIDY, |due| due.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let pause = PollTimeout::try_from(left.min(TIDY)).unwrap_or(PollTimeout::MAX);
        let mut polled = [
            PollFd::new(door.listener().as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(woken.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut polled, pause) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(HsmError::Host("wait for connections", errno.into())),
        }
        let [accept, signal, lost] = polled.map(|fd| fd.any().unwrap_or(false));
        if lost {
            return Ok(ExitReason::Asked);
        }
        if signal && matches!(signals.read_signal(), Ok(Some(_))) {
            return Ok(ExitReason::Asked);
        }
        if accept {
            door.accept(desk);
        }
        let now = Instant::now();
        desk.tidy(now);
        if let (Some(at), Some(every)) = (due, every)
            && now >= at
        {
            // A pool whose watch has stopped answers nobody; the manager then ends us, as it ends one that stands still.
            if in_time() {
                manager.alive();
            }
            due = Some(now + every);
        }
    }
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
