//! `run`: the small, single-threaded parent that starts the other roles where systemd does not.
//!
//! It keeps front and signer running, each restarted with a growing pause; starts a ceremony for each connection to the
//! ceremony socket; passes SIGHUP on to the front; and takes everybody along when it ends. It parses no byte of a stranger.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{BootError, EXIT_CONFIG, ends};
use crate::config::Loaded;
use crate::sandbox::no_bytes;
use crate::server::listen::{Access, bind};

/// The first pause before a role is started again; doubled up to [`PAUSE_MAX`], and forgotten after [`CALM`].
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
const CALM: Duration = Duration::from_secs(10);
/// The pause after a failed `accept`: out of descriptors, it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Ceremonies under way at once; further connections wait to be accepted. While one makes keys, another that would is
/// told that it is busy.
const CEREMONIES: usize = 2;

/// Runs until SIGTERM, SIGINT or SIGQUIT.
///
/// # Errors
/// [`BootError`] when the ceremony socket can't be bound or signals can't be received. A role that can't be started is
/// tried again.
pub(super) async fn run(loaded: &Loaded, config: Option<PathBuf>, amnesia: bool) -> Result<u8, BootError> {
    let hsm = &loaded.config.hsm;
    if loaded.config.security.amnesia {
        // The roles see to themselves; this is for the parent.
        no_bytes()?;
    }
    let access = Access { mode: 0o600, group: None, user: None, heir_of: None };
    let ceremonies = UnixListener::from_std(bind(&hsm.ceremony_socket, access)?).map_err(BootError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(BootError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(BootError::Signals)?;
    let mut quit = signal(SignalKind::quit()).map_err(BootError::Signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(BootError::Signals)?;
    let mut house = House::new(config, amnesia, hsm.module_config.clone().map(|file| (hsm.module_env.clone(), file)))?;
    let code = loop {
        tokio::select! {
            _ = terminate.recv() => break 0,
            _ = interrupt.recv() => break 0,
            _ = quit.recv() => break 0,
            _ = hangup.recv() => {
                house.front.signal(Signal::SIGHUP);
                house.signer.revive();
            }
            stream = next(&ceremonies), if house.ceremonies.len() < CEREMONIES => house.ceremony(stream),
            // The front goes on: what is issued already is still verified, and readyz says what is wrong.
            ended = house.signer.ended() => {
                house.signer.fell(ended);
            }
            ended = house.front.ended() => if house.front.fell(ended) { break EXIT_CONFIG },
            () = House::reap(&mut house.ceremonies) => {}
        }
    };
    let House { front, signer, ceremonies, .. } = &mut house;
    let roles = async {
        front.stop(ends::front(&loaded.config)).await;
        signer.stop(ends::signer(&loaded.config)).await;
    };
    tokio::join!(roles, end_all(ceremonies));
    Ok(code)
}

/// The next connection. What fails is tried again, for ever: nobody else would.
async fn next(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(name: "ceremony_accept_failed", %error, "can't accept a ceremony; pausing");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What every role is started with.
#[derive(Clone)]
struct Origin {
    program: PathBuf,
    config: Option<PathBuf>,
    amnesia: bool,
    /// The module's own configuration file, and the variable in which the module looks for it.
    module_config: Option<(String, PathBuf)>,
}

struct House {
    origin: Origin,
    signer: Kept,
    front: Kept,
    ceremonies: Vec<Child>,
}

impl House {
    fn new(
        config: Option<PathBuf>,
        amnesia: bool,
        module_config: Option<(String, PathBuf)>,
    ) -> Result<Self, BootError> {
        let program = std::env::current_exe().map_err(BootError::Program)?;
        let origin = Origin { program, config, amnesia, module_config };
        let kept = |role| Kept {
            role,
            origin: origin.clone(),
            child: None,
            started: Instant::now(),
            pause: PAUSE_MIN,
            due: Some(Instant::now()),
        };
        let (signer, front) = (kept("signer"), kept("front"));
        Ok(Self { origin, signer, front, ceremonies: Vec::new() })
    }

    fn ceremony(&mut self, stream: UnixStream) {
        let fd = stream.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| OwnedFd::from(stream)));
        let spawned = fd.and_then(|fd| command(&self.origin, "ceremony").stdin(fd).spawn());
        match spawned {
            Ok(child) => self.ceremonies.push(child),
            Err(error) => error!(name: "ceremony_not_started", %error, "can't start a ceremony"),
        }
    }

    /// Completes when a ceremony has ended; never while there is none.
    async fn reap(ceremonies: &mut Vec<Child>) {
        let Some(child) = ceremonies.first_mut() else { return std::future::pending().await };
        let ended = child.wait().await;
        ceremonies.remove(0);
        let status = ended.ok().and_then(|status| status.code());
        info!(name: "ceremony_ended", ?status, "a ceremony ended");
    }
}

/// Lets ceremonies come to their end: a kill while SoftHSM writes its token loses the token (DESIGN §8).
async fn end_all(ceremonies: &mut [Child]) {
    let all = async {
        for ceremony in ceremonies {
            drop(ceremony.wait().await);
        }
    };
    if tokio::time::timeout(ends::CEREMONY, all).await.is_err() {
        warn!(name: "ceremony_killed", "a ceremony did not end in time; killing it");
    }
}

/// `hsm.module_config` reaches the module by an environment variable; only the roles that load the module look at it.
fn command(origin: &Origin, role: &str) -> Command {
    let mut command = Command::new(&origin.program);
    for name in not_for(role, std::env::var("WATCHDOG_PID").ok().as_deref(), std::process::id()) {
        command.env_remove(name);
    }
    if let Some((name, file)) = &origin.module_config {
        command.env(name, file);
    }
    command.arg(role).arg("--parent").arg(std::process::id().to_string()).kill_on_drop(true);
    if let Some(config) = &origin.config {
        command.arg("--config").arg(config);
    }
    if origin.amnesia {
        command.arg("--amnesia");
    }
    command.stdin(Stdio::null());
    command
}

/// What a role does not inherit. A service manager that watches `run` (WATCHDOG_PID= names it) is given the front's sign of
/// life, which stands for work, and nobody else's: a signer that lives would speak for a front that hangs.
fn not_for(role: &str, watched: Option<&str>, own: u32) -> &'static [&'static str] {
    let ours = watched.is_some_and(|pid| pid.parse() == Ok(own));
    match role {
        "front" if ours => &["WATCHDOG_PID"],
        "front" => &[],
        _ => &["WATCHDOG_PID", "WATCHDOG_USEC"],
    }
}

/// A role that is kept running.
struct Kept {
    role: &'static str,
    origin: Origin,
    child: Option<Child>,
    started: Instant,
    pause: Duration,
    /// When it is started again; none: never, since only a person can help.
    due: Option<Instant>,
}

impl Kept {
    /// Starts the role when it is due, and completes when it has ended.
    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        if self.child.is_none() {
            match self.due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
            self.started = Instant::now();
            self.child = Some(command(&self.origin, self.role).spawn()?);
        }
        match self.child.as_mut() {
            Some(child) => child.wait().await,
            None => std::future::pending().await,
        }
    }

    /// Plans the next start. `true` if there is no point in one: the configuration is at fault.
    fn fell(&mut self, ended: std::io::Result<ExitStatus>) -> bool {
        self.child = None;
        if let Ok(status) = &ended
            && status.code() == Some(i32::from(EXIT_CONFIG))
        {
            let why = "it ended for a reason that only a person can mend (see above); not started again";
            error!(name: "service_given_up", service = self.role, "{why}");
            self.due = None;
            return true;
        }
        if ended.as_ref().is_ok_and(ExitStatus::success) && self.started.elapsed() > CALM {
            info!(name: "service_recycled", service = self.role, "it ended to be started afresh");
            (self.due, self.pause) = (Some(Instant::now()), PAUSE_MIN);
            return false;
        }
        if self.started.elapsed() > CALM {
            self.pause = PAUSE_MIN;
        }
        let reason = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
        let pause_ms = self.pause.as_millis();
        error!(name: "service_crashed", service = self.role, reason, pause_ms, "it ended; starting it again");
        self.due = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        false
    }

    /// Starts it once more if it was given up: somebody may have mended what was wrong.
    fn revive(&mut self) {
        if self.child.is_none() && self.due.is_none() {
            info!(name: "service_revived", service = self.role, "it was given up, and is started again on SIGHUP");
            (self.due, self.pause) = (Some(Instant::now()), PAUSE_MIN);
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid
            && let Err(error) = kill(Pid::from_raw(pid), signal)
        {
            warn!(name: "signal_not_passed", service = self.role, %error, "can't pass the signal on");
        }
    }

    async fn stop(&mut self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        let Some(child) = self.child.as_mut() else { return };
        if tokio::time::timeout(grace, child.wait()).await.is_err() {
            warn!(name: "service_killed", service = self.role, "did not end in time; killing it");
            if let Err(error) = child.kill().await {
                warn!(name: "service_not_killed", service = self.role, %error, "can't kill it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn signer() -> Kept {
        let origin =
            Origin { program: PathBuf::from("/nonexistent"), config: None, amnesia: false, module_config: None };
        Kept { role: "signer", origin, child: None, started: Instant::now(), pause: PAUSE_MIN, due: None }
    }

    /// As wait(2) codes an exit.
    fn exit(code: u8) -> std::io::Result<ExitStatus> {
        Ok(ExitStatus::from_raw(i32::from(code) << 8))
    }

    fn killed() -> std::io::Result<ExitStatus> {
        Ok(ExitStatus::from_raw(9))
    }

    /// Falls, and is to be started again after `pause`.
    #[track_caller]
    fn falls(kept: &mut Kept, ended: std::io::Result<ExitStatus>, pause: Duration) {
        let before = Instant::now();
        assert!(!kept.fell(ended), "there is a point in starting it again");
        let (due, after) = (kept.due.unwrap(), Instant::now());
        assert!((before + pause..=after + pause).contains(&due), "{:?}, not {pause:?}", due - before);
    }

    #[test]
    fn the_pause_doubles_from_fall_to_fall_up_to_its_bound() {
        let mut kept = signer();
        let mut expected = PAUSE_MIN;
        for fall_no in 0..10 {
            // However it ended, or if it could not be started at all.
            let ended = match fall_no % 4 {
                0 => killed(),
                1 => Err(std::io::ErrorKind::NotFound.into()),
                code => exit(code),
            };
            falls(&mut kept, ended, expected);
            expected = (expected * 2).min(PAUSE_MAX);
        }
        assert_eq!((expected, kept.pause), (PAUSE_MAX, PAUSE_MAX));
    }

    #[test]
    fn who_ran_calmly_for_a_while_is_started_again_at_once() {
        let mut kept = signer();
        kept.pause = PAUSE_MAX;
        falls(&mut kept, killed(), PAUSE_MAX);
        kept.started = Instant::now() - CALM - Duration::from_secs(1);
        falls(&mut kept, killed(), PAUSE_MIN);
        kept.started = Instant::now();
        falls(&mut kept, killed(), PAUSE_MIN * 2);
    }

    #[test]
    fn the_front_alone_inherits_a_watchdog_of_ours() {
        assert_eq!(not_for("front", Some("42"), 42), ["WATCHDOG_PID"], "it is to be the front's");
        assert!(not_for("front", Some("41"), 42).is_empty(), "another's, which the front can tell by its number");
        assert!(not_for("front", None, 42).is_empty());
        for role in ["signer", "ceremony"] {
            assert_eq!(not_for(role, Some("42"), 42), ["WATCHDOG_PID", "WATCHDOG_USEC"], "{role}");
        }
    }

    #[test]
    fn who_ends_in_order_after_a_while_is_started_afresh_at_once_and_who_does_so_at_once_has_fallen() {
        let mut kept = signer();
        falls(&mut kept, exit(0), PAUSE_MIN);
        kept.started = Instant::now() - CALM - Duration::from_secs(1);
        falls(&mut kept, exit(0), Duration::ZERO);
        assert_eq!(kept.pause, PAUSE_MIN);
    }

    #[test]
    fn what_only_a_person_can_mend_is_not_started_again_until_somebody_says_so() {
        let mut kept = signer();
        assert!(kept.fell(exit(EXIT_CONFIG)));
        assert_eq!((kept.due, kept.pause), (None, PAUSE_MIN));
        kept.revive();
        assert!(kept.due.take().is_some_and(|due| due <= Instant::now()));
        falls(&mut kept, killed(), PAUSE_MIN);
        let due = kept.due;
        kept.revive();
        assert_eq!(kept.due, due, "it is to be started again in any case");
    }
}
