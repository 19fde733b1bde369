//! What the service manager is told (sd_notify(3)): a line of status, and which phase the process is in.
//!
//! The socket is connected at the start: Landlock (Linux 6.12) keeps a confined process from abstract sockets of others,
//! and lets a connected one be. `sd_notify::notify` connects for every message and knows no abstract address.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The longest status line in bytes; a longer one is cut.
const MAX_STATUS: usize = 240;
/// How long a manager that does not read may hold us up.
const PATIENCE: Duration = Duration::from_millis(200);

/// The phases that the manager knows of; each message fits one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

/// The way to the service manager; without one, everything that is said is dropped.
#[derive(Debug)]
pub struct Manager {
    socket: Option<UnixDatagram>,
    said: Mutex<Said>,
}

#[derive(Debug)]
struct Said {
    phase: Phase,
    status: String,
}

impl Manager {
    /// The manager that `NOTIFY_SOCKET` names. One that can't be reached is none: a service must not fail by it.
    pub fn from_environment() -> Self {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => Self::at(&address).unwrap_or_else(|error| {
                tracing::warn!(name: "manager_unreachable", ?address, %error, "can't reach the service manager at NOTIFY_SOCKET");
                Self::none()
            }),
            _ => Self::none(),
        }
    }

    /// Nobody.
    pub const fn none() -> Self {
        Self { socket: None, said: Mutex::new(Said { phase: Phase::Starting, status: String::new() }) }
    }

    /// The manager at an address: a path, or `@` and a name of the abstract namespace.
    ///
    /// # Errors
    /// When there is none.
    pub fn at(address: &OsStr) -> io::Result<Self> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: Some(socket), ..Self::none() })
    }

    /// It starts still, and may take as long as `within` from now on.
    pub fn starting(&self, status: &str, within: Duration) {
        let mut said = self.lock();
        if said.phase == Phase::Starting {
            said.status = one_line(status);
            let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
            self.send(&[NotifyState::Status(&said.status), NotifyState::ExtendTimeoutUsec(within)]);
        }
    }

    /// It serves from now on.
    pub fn ready(&self, status: &str) {
        let mut said = self.lock();
        if said.phase == Phase::Starting {
            said.phase = Phase::Serving;
            said.status = one_line(status);
            self.send(&[NotifyState::Ready, NotifyState::Status(&said.status)]);
        }
    }

    /// It reads its configuration again; [`Manager::reloaded`] ends that.
    pub fn reloading(&self) {
        // Held until it is said: the end, which may begin meanwhile, is to be told after this and not before.
        let said = self.lock();
        if said.phase == Phase::Serving {
            // The time is asked for by systemd ≥ 253 with Type=notify-reload, and passed over by others.
            let now = NotifyState::monotonic_usec_now().ok();
            let states = [NotifyState::Reloading].into_iter().chain(now).chain([NotifyState::Status("reloading")]);
            self.send(&states.collect::<Vec<_>>());
        }
    }

    /// The reload is over, whatever came of it. Says nothing once the end has begun: that would be taken back.
    pub fn reloaded(&self, status: &str) {
        let mut said = self.lock();
        if said.phase == Phase::Serving {
            said.status = one_line(status);
            self.send(&[NotifyState::Ready, NotifyState::Status(&said.status)]);
        }
    }

    /// It ends, and may take as long as `within` for it (or until it says more).
    pub fn stopping(&self, status: &str, within: Duration) {
        let mut said = self.lock();
        if said.phase != Phase::Stopping {
            said.phase = Phase::Stopping;
            said.status = one_line(status);
            let within = u32::try_from(within.as_micros()).unwrap_or(u32::MAX);
            let states = [
                NotifyState::Stopping,
                NotifyState::Status(&said.status),
                // A TimeoutStopSec= that is shorter than what is configured would cut requests off.
                NotifyState::ExtendTimeoutUsec(within),
            ];
            self.send(&states);
        }
    }

    /// How it stands; sent when it is something new.
    pub fn status(&self, status: &str) {
        let (mut said, status) = (self.lock(), one_line(status));
        if said.phase != Phase::Starting && said.status != status {
            said.status = status;
            self.send(&[NotifyState::Status(&said.status)]);
        }
    }

    /// It makes progress.
    pub fn alive(&self) {
        self.send(&[NotifyState::Watchdog]);
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One datagram. A failure changes nothing that we could do better.
    fn send(&self, states: &[NotifyState<'_>]) {
        let Some(socket) = &self.socket else { return };
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        if let Err(error) = socket.send(text.as_bytes()) {
            debug!(name: "notify_failed", %error, "can't notify the service manager");
        }
    }
}

/// How often to say that it makes progress, where the manager watches: three times within what it waits for.
pub fn watchdog_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|patience| patience / 3)
}

/// Each assignment is a line of the message, so none of a reason that an admin wrote may begin another.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(MAX_STATUS));
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A manager's socket, and what has arrived at it.
    pub(crate) struct Ear(UnixDatagram);

    impl Ear {
        /// One with an address of its own.
        pub(crate) fn abstract_name() -> (Self, String) {
            let name = format!("passportd-test-{}-{:?}", std::process::id(), std::thread::current().id());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            (Self(UnixDatagram::bind_addr(&address).unwrap()), format!("@{name}"))
        }

        /// What has come since this was asked last.
        pub(crate) fn heard(&self) -> Vec<String> {
            self.0.set_nonblocking(true).unwrap();
            let mut buffer = [0; 4096];
            let next = || self.0.recv(&mut buffer).ok().map(|len| String::from_utf8(buffer[..len].to_vec()).unwrap());
            std::iter::from_fn(next).collect()
        }
    }

    #[test]
    fn phases_follow_each_other_and_nothing_takes_the_end_back() {
        let (ear, address) = Ear::abstract_name();
        let manager = Manager::at(OsStr::new(&address)).unwrap();
        manager.reloading();
        manager.reloaded("early");
        manager.status("early");
        assert!(ear.heard().is_empty(), "nothing before READY=1");
        manager.starting("the module starts", Duration::from_secs(10));
        assert_eq!(ear.heard(), ["STATUS=the module starts\nEXTEND_TIMEOUT_USEC=10000000\n"]);
        manager.ready("serving");
        manager.ready("serving");
        manager.status("serving");
        manager.status("paused: a\nREADY=1");
        manager.alive();
        assert_eq!(
            ear.heard(),
            ["READY=1\nSTATUS=serving\n", "STATUS=paused: a READY=1\n", "WATCHDOG=1\n"],
            "what was said already is not said again, and a reason stays one line"
        );
        manager.reloading();
        let reloading = ear.heard().concat();
        let mut lines = reloading.lines();
        assert_eq!(lines.next(), Some("RELOADING=1"));
        let usec: u64 = lines.next().unwrap().strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(usec > 0);
        manager.reloaded("serving");
        assert_eq!(ear.heard(), ["READY=1\nSTATUS=serving\n"]);
        manager.reloading();
        ear.heard();
        manager.stopping("draining", Duration::from_secs(12));
        manager.reloaded("serving");
        manager.ready("serving");
        manager.starting("again", Duration::from_secs(10));
        manager.reloading();
        manager.stopping("draining", Duration::from_secs(12));
        assert_eq!(ear.heard(), ["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=12000000\n"]);
    }

    #[test]
    fn what_is_being_said_is_through_before_the_end_is_told() {
        let (_ear, address) = Ear::abstract_name();
        let manager = Manager::at(OsStr::new(&address)).unwrap();
        manager.ready("serving");
        // Nobody reads. Once the queue is full, what comes next waits in the kernel for as long as PATIENCE.
        let socket = manager.socket.as_ref().unwrap();
        socket.set_nonblocking(true).unwrap();
        while socket.send(b"STATUS=x\n").is_ok() {}
        socket.set_nonblocking(false).unwrap();
        let mut held = 0;
        std::thread::scope(|scope| {
            let reload = scope.spawn(|| manager.reloading());
            while !reload.is_finished() {
                held += u32::from(manager.said.try_lock().is_err());
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        assert!(held > 5, "of some hundred looks {held} found that nobody else may speak");
    }

    #[test]
    fn a_path_is_reached_too_and_none_at_all_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        assert!(Manager::at(path.as_os_str()).is_err());
        let ear = Ear(UnixDatagram::bind(&path).unwrap());
        Manager::at(path.as_os_str()).unwrap().ready("x");
        assert_eq!(ear.heard(), ["READY=1\nSTATUS=x\n"]);
        Manager::none().ready("x");
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        assert_eq!(one_line(&"é".repeat(MAX_STATUS)).len(), MAX_STATUS);
        assert!(one_line(&format!("x{}", "é".repeat(MAX_STATUS))).len() < MAX_STATUS);
    }
}
