//! Sockets that systemd has opened for us and hands over by name (sd_listen_fds(3)). Each must be what the configuration
//! says: another path, address, owner or mode would mean that two files disagree about who can reach the daemon.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// What sd_notify says where there is no `LISTEN_FDNAMES`; systemd itself gives the name of the socket unit.
const NAMELESS: [&str; 2] = ["", "unknown"];

/// Why the start stops. The operator's to mend: a `.socket` unit and `passportd.toml` disagree.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// The variables of systemd contradict each other, or a descriptor is not open.
    #[error(
        "can't take the sockets that systemd hands over: {0}; LISTEN_FDS and LISTEN_FDNAMES come from the .socket units of this service"
    )]
    Environment(io::Error),
    /// A socket without a name.
    #[error("an inherited socket ({found}) has no name; write FileDescriptorName= into its .socket unit: one of {}", names.join(", "))]
    Nameless {
        /// What it is.
        found: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// A name that the configuration does not know.
    #[error(
        "systemd hands over a socket named \"{name}\" ({found}), and the configuration has no such listener: it knows {}; \
         correct FileDescriptorName= in the .socket unit, or add it to the configuration",
        names.join(", ")
    )]
    Unknown {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
        /// The names that there are.
        names: Vec<String>,
    },
    /// Two sockets of one name.
    #[error("systemd hands over two sockets named \"{name}\": {first} and {second}; keep one ListenStream= for it")]
    Twice {
        /// The name.
        name: String,
        /// What the first is.
        first: String,
        /// What the second is.
        second: String,
    },
    /// Something about it is not as configured.
    #[error(
        "the inherited socket \"{name}\" {found}, but [server] {setting} says {configured}; change the .socket unit or the configuration so that they agree"
    )]
    Differs {
        /// Its name.
        name: String,
        /// What it is.
        found: String,
        /// The setting that it belongs to.
        setting: String,
        /// What the setting says.
        configured: String,
    },
    /// A role that listens for nobody was handed sockets.
    #[error(
        "the role {role} was handed sockets ({found}), and only the front takes any; correct Service= in their .socket units"
    )]
    NotOurs {
        /// The role.
        role: &'static str,
        /// Their names.
        found: String,
    },
}

/// One socket as it came.
#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    /// Neither: what it is, for the message.
    Other(&'static str),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => match socket.local_addr() {
                Ok(addr) => match addr.as_pathname() {
                    Some(path) => write!(f, "the Unix socket {}", path.display()),
                    None => f.write_str("a Unix socket without a path"),
                },
                Err(_) => f.write_str("a Unix socket"),
            },
            Self::Tcp(socket) => match socket.local_addr() {
                Ok(addr) => write!(f, "the TCP socket {addr}"),
                Err(_) => f.write_str("a TCP socket"),
            },
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// The sockets that came, and have not been taken.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, Socket)>,
}

/// What a Unix listener is to be.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Its name: `main`, `admin`, or that of a `[[server.listener]]`.
    pub name: &'a str,
    /// The settings that say its path, mode, group and owner, for messages.
    pub settings: [&'a str; 4],
    /// Its path.
    pub path: &'a Path,
    /// The uid of its configured owner.
    pub user: Option<u32>,
    /// Its permission bits.
    pub mode: u32,
    /// The gid of its configured group.
    pub group: Option<u32>,
    /// Uid and gid that the front will have.
    pub own: (u32, u32),
}

impl Inherited {
    /// Takes over what systemd has opened for this process; nothing where `LISTEN_PID` names another one or is not there.
    /// `LISTEN_PID` and `LISTEN_FDS` are removed from the environment: call it before any thread is started.
    ///
    /// # Errors
    /// [`InheritError::Environment`].
    pub fn from_environment() -> Result<Self, InheritError> {
        // The strict reader first: `listenfd` would take sockets without LISTEN_PID, and numbers that do not parse for none.
        let count = sd_notify::listen_fds().map_err(InheritError::Environment)?.len();
        // The names of another process's sockets, left in the environment, are too many for none.
        if count == 0 {
            return Ok(Self::default());
        }
        let named: Vec<_> = sd_notify::listen_fds_with_names().map_err(InheritError::Environment)?.collect();
        let mut owner = ListenFd::from_env();
        let take = |(at, (fd, name))| {
            let socket = take(&mut owner, at).map_err(InheritError::Environment)?;
            match raw(&socket) {
                Some(taken) if taken != fd => Err(InheritError::Environment(io::Error::other(format!(
                    "descriptor {fd} was expected, and {taken} found; unset LISTEN_FDS_FIRST_FD"
                )))),
                _ => Ok((name, socket)),
            }
        };
        let sockets = named.into_iter().enumerate().map(take).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { sockets })
    }

    /// That every socket has a name, that the name is one of `names`, and that none comes twice. To be asked before
    /// anything is bound.
    ///
    /// # Errors
    /// [`InheritError`] for the first that is wrong.
    pub fn only(&self, names: &[String]) -> Result<(), InheritError> {
        let mut seen = BTreeSet::new();
        for (name, socket) in &self.sockets {
            let (found, names) = (socket.to_string(), names.to_vec());
            if NAMELESS.contains(&name.as_str()) {
                return Err(InheritError::Nameless { found, names });
            }
            if !names.contains(name) {
                return Err(InheritError::Unknown { name: name.clone(), found, names });
            }
            if !seen.insert(name) {
                let first = self.sockets.iter().find(|(other, _)| other == name);
                let first = first.map(|(_, socket)| socket.to_string()).unwrap_or_default();
                return Err(InheritError::Twice { name: name.clone(), first, second: found });
            }
        }
        Ok(())
    }

    /// That there is none, for a role that listens for nobody.
    ///
    /// # Errors
    /// [`InheritError::NotOurs`].
    pub fn none_for(&self, role: &'static str) -> Result<(), InheritError> {
        if self.sockets.is_empty() {
            return Ok(());
        }
        let found: Vec<_> = self.sockets.iter().map(|(name, socket)| format!("\"{name}\", {socket}")).collect();
        Err(InheritError::NotOurs { role, found: found.join("; ") })
    }

    /// The Unix listener of that name, if it came, ready for use.
    ///
    /// # Errors
    /// [`InheritError::Differs`] where it is not as configured.
    pub fn unix(&mut self, expected: &Expected<'_>) -> Result<Option<UnixListener>, InheritError> {
        let Some(socket) = self.take(expected.name) else { return Ok(None) };
        let differs = |setting: &str, found: String, configured: String| {
            let name = expected.name.to_owned();
            InheritError::Differs { name, found, setting: setting.to_owned(), configured }
        };
        let [at, ..] = expected.settings;
        let wanted = format!("{}, a listening Unix stream socket", expected.path.display());
        let Socket::Unix(listener) = socket else { return Err(differs(at, format!("is {socket}"), wanted)) };
        let path = listener.local_addr().ok().and_then(|addr| addr.as_pathname().map(Path::to_owned));
        if path.as_deref() != Some(expected.path) {
            return Err(differs(at, format!("is {}", Socket::Unix(listener)), expected.path.display().to_string()));
        }
        if !listens(&listener) {
            return Err(differs(at, "does not listen".to_owned(), wanted));
        }
        if let Some((setting, found, configured)) = trouble(expected) {
            return Err(differs(&setting, found, configured));
        }
        ready(listener.set_nonblocking(true), listener).map(Some)
    }

    /// The TCP listener of that name, if it came, ready for use. `configured` is none where the port is off.
    ///
    /// # Errors
    /// [`InheritError::Differs`] where it is not as configured.
    pub fn tcp(
        &mut self,
        name: &str,
        setting: &str,
        configured: Option<SocketAddr>,
    ) -> Result<Option<TcpListener>, InheritError> {
        let Some(socket) = self.take(name) else { return Ok(None) };
        let differs = |found: String| InheritError::Differs {
            name: name.to_owned(),
            found,
            setting: setting.to_owned(),
            configured: configured
                .map_or_else(|| "\"off\"".to_owned(), |addr| format!("{addr}, a listening TCP socket")),
        };
        let Socket::Tcp(listener) = socket else { return Err(differs(format!("is {socket}"))) };
        if configured.is_none() || listener.local_addr().ok() != configured {
            return Err(differs(format!("is {}", Socket::Tcp(listener))));
        }
        if !listens(&listener) {
            return Err(differs("does not listen".to_owned()));
        }
        ready(listener.set_nonblocking(true), listener).map(Some)
    }

    fn take(&mut self, name: &str) -> Option<Socket> {
        let at = self.sockets.iter().position(|(other, _)| other == name)?;
        Some(self.sockets.swap_remove(at).1)
    }
}

fn ready<T>(made: io::Result<()>, listener: T) -> Result<T, InheritError> {
    made.map(|()| listener).map_err(InheritError::Environment)
}

/// Whether `listen` was called on it (`SO_ACCEPTCONN`).
fn listens(socket: &impl AsFd) -> bool {
    socket_acceptconn(socket).unwrap_or(false)
}

/// `listenfd` tells what a descriptor is by what it can be taken as. Whatever we have no use for stops the start.
fn take(owner: &mut ListenFd, at: usize) -> io::Result<Socket> {
    if let Ok(Some(socket)) = owner.take_unix_listener(at) {
        return Ok(Socket::Unix(socket));
    }
    if let Ok(Some(socket)) = owner.take_tcp_listener(at) {
        return Ok(Socket::Tcp(socket));
    }
    if owner.take_unix_datagram(at).is_ok() {
        return Ok(Socket::Other("a Unix datagram socket"));
    }
    if owner.take_udp_socket(at).is_ok() {
        return Ok(Socket::Other("a UDP socket"));
    }
    Ok(Socket::Other("no stream socket"))
}

fn raw(socket: &Socket) -> Option<RawFd> {
    match socket {
        Socket::Unix(socket) => Some(socket.as_raw_fd()),
        Socket::Tcp(socket) => Some(socket.as_raw_fd()),
        Socket::Other(_) => None,
    }
}

/// What is wrong with the socket's file: the setting, what is found, and what the setting says.
fn trouble(expected: &Expected<'_>) -> Option<(String, String, String)> {
    let Expected { path, settings: [at, mode, group, user], .. } = expected;
    let lost = |found: String| Some(((*at).to_owned(), found, path.display().to_string()));
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => meta,
        Ok(_) => return lost("has lost its path: something else is there now".to_owned()),
        Err(error) => return lost(format!("has lost its path ({error})")),
    };
    let (uid, gid, bits) = (meta.uid(), meta.gid(), meta.mode() & 0o7777);
    let (own_uid, own_gid) = expected.own;
    if bits != expected.mode {
        return Some(((*mode).to_owned(), format!("has mode {bits:04o}"), format!("{:04o}", expected.mode)));
    }
    // Without a configured group nobody but we, and root who may do anything, is let in by it.
    let (fits, wanted) = match expected.group {
        Some(wanted) => (gid == wanted, format!("gid {wanted}")),
        None => (gid == 0 || gid == own_gid, format!("no group, which means root's or our own, gid {own_gid}")),
    };
    if !fits {
        return Some(((*group).to_owned(), format!("belongs to gid {gid}"), wanted));
    }
    let found = format!("belongs to uid {uid}");
    if let Some(wanted) = expected.user {
        return (uid != wanted).then(|| ((*user).to_owned(), found, format!("uid {wanted}")));
    }
    let wanted = format!("a socket, which must belong to root or to uid {own_uid}");
    (uid != 0 && uid != own_uid).then(|| ((*at).to_owned(), found, wanted))
}

#[cfg(test)]
#[path = "inherit_tests.rs"]
mod tests;
