//! Asking: the daemon's sockets, its metrics port, and what the kernel shows of its process.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use serde_json::Value;
use tokio::net::UnixStream;

use super::super::admin::status_document;
use super::super::context::Context;
use super::super::scrape;
use super::facts::{Daemon, Found, Knock, Port, Process, Said, Socket};
use super::gather::{found, gid_of, uid_of};
use crate::cli::CliError;
use crate::client::{AdminClient, Client, ClientError, Options};
use crate::config::{Config, Loaded, Server};
use crate::wire::{AdminOk, AdminOp};

/// The longest that one question may take: a daemon that is stuck is a finding, and there are several to ask.
const PATIENCE: Duration = Duration::from_secs(3);

/// What answered, and how.
pub(super) struct Asked {
    pub(super) sockets: Vec<Socket>,
    pub(super) daemon: Daemon,
}

/// Asks everything that can be asked. Without a configuration the sockets are where they are by default.
pub(super) async fn all(context: &Context<'_>, loaded: Option<&Loaded>) -> Asked {
    let default = Config::default();
    let config = loaded.map_or(&default, |loaded| &*loaded.config);
    let patience = context.global.patience().min(PATIENCE);
    let server = &config.server;
    let service = context.global.socket.as_ref().unwrap_or(&server.socket);
    let admin = context.global.admin_socket.as_ref().unwrap_or(&server.admin_socket);
    let mut sockets =
        vec![socket("socket", "server.socket", service), socket("admin socket", "server.admin_socket", admin)];
    if loaded.is_some() {
        sockets.extend(
            server.listeners.iter().map(|one| socket(&format!("listener {}", one.name), "socket", &one.socket)),
        );
    }
    // Without a configuration the places are guessed, but for those that were given.
    for (one, given) in sockets.iter_mut().zip([&context.global.socket, &context.global.admin_socket]) {
        one.sure = loaded.is_some() || given.is_some();
    }
    for one in &mut sockets {
        one.owners = owners(server);
        one.knock = knock(&one.path, patience).await;
    }
    if loaded.is_some() {
        configure(&mut sockets, server);
        let ceremony = context.global.ceremony_socket.as_ref().unwrap_or(&config.hsm.ceremony_socket);
        sockets.push(socket("signer socket", "hsm.socket", &config.hsm.socket));
        sockets.push(socket("ceremony", "hsm.ceremony_socket", ceremony));
    }
    let options = |path: &PathBuf| {
        let name = concat!("passportctl/", env!("CARGO_PKG_VERSION")).to_owned();
        Options { socket: path.clone(), timeout: patience, name }
    };
    let (admin, status) = admins(options(admin)).await;
    let port = match (loaded, server.metrics_addr) {
        (None, _) => Port::Unknown,
        (Some(_), None) => Port::Off,
        (Some(_), Some(address)) if is_elsewhere(address) => Port::Elsewhere { address },
        (Some(_), Some(address)) => {
            let answer = scrape::get(address, "/readyz", patience).map(|page| (page.status, page.body));
            Port::Asked { address, answer: answer.map_err(|error| error.to_string()) }
        }
    };
    let process = pid(status.as_ref().ok(), &sockets).map(process);
    let daemon = Daemon { service: services(options(service)).await, admin, status, port, process };
    Asked { sockets, daemon }
}

/// A datagram socket takes no port from anybody, and is refused an address that is not this host's.
fn is_elsewhere(address: SocketAddr) -> bool {
    let bound = UdpSocket::bind(SocketAddr::new(address.ip(), 0));
    bound.is_err_and(|error| error.kind() == ErrorKind::AddrNotAvailable)
}

/// Without what the configuration says of it.
fn socket(name: &str, key: &str, path: &Path) -> Socket {
    let found = found(path);
    let group_name = match &found {
        Found::There(stat) => nix::unistd::Group::from_gid(stat.gid.into()).ok().flatten().map(|group| group.name),
        _ => None,
    };
    let (name, key, path) = (name.to_owned(), key.to_owned(), path.to_owned());
    let knock = Knock::NotTried;
    let parent = path.parent().is_some_and(Path::is_dir);
    Socket { name, key, path, parent, sure: true, found, group_name, knock, mode: None, group: None, owners: None }
}

/// The front binds as root, before it becomes its user; under systemd it is that user from its start.
fn owners(server: &Server) -> Option<Vec<u32>> {
    let user = uid_of(server.user.as_ref()?).ok().flatten()?;
    Some(vec![0, user, nix::unistd::geteuid().as_raw()])
}

/// Adds the modes and groups that are configured, in the order of [`all`].
fn configure(sockets: &mut [Socket], server: &Server) {
    let group = |name: Option<&String>| name.map(|name| (name.clone(), gid_of(name).ok().flatten()));
    let mut wanted = vec![
        (server.socket_mode, group(server.socket_group.as_ref())),
        (server.admin_socket_mode, group(server.admin_socket_group.as_ref())),
    ];
    wanted.extend(server.listeners.iter().map(|one| (one.mode, group(one.group.as_ref()))));
    for (socket, (mode, group)) in sockets.iter_mut().zip(wanted) {
        (socket.mode, socket.group) = (Some(mode), group);
    }
    for (socket, one) in sockets.iter_mut().skip(2).zip(&server.listeners) {
        if let Some(user) = &one.user {
            socket.owners = uid_of(user).ok().flatten().map(|uid| vec![uid]);
        }
    }
}

async fn knock(path: &Path, patience: Duration) -> Knock {
    use ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    match tokio::time::timeout(patience, UnixStream::connect(path)).await {
        Err(_) => Knock::Failed(format!("no answer in {} s", patience.as_secs())),
        Ok(Ok(stream)) => match getsockopt(&stream, sockopt::PeerCredentials) {
            Ok(peer) => Knock::Answers { uid: peer.uid(), pid: peer.pid() },
            Err(errno) => Knock::Failed(errno.to_string()),
        },
        Ok(Err(error)) => match error.kind() {
            ConnectionRefused => Knock::Refused,
            PermissionDenied => Knock::Denied,
            NotFound => Knock::NotTried,
            _ => Knock::Failed(error.to_string()),
        },
    }
}

async fn services(options: Options) -> Result<Said, ClientError> {
    let client = Client::connect(options).await?;
    Ok(Said { welcome: client.welcome().await?, identity: client.whoami().await? })
}

async fn admins(options: Options) -> (Result<Said, ClientError>, Result<Value, ClientError>) {
    let client = match AdminClient::connect(options).await {
        Ok(client) => client,
        Err(error) => return (Err(error.clone()), Err(error)),
    };
    let said = async {
        match client.ask(AdminOp::WhoAmI).await? {
            AdminOk::WhoAmI(identity) => Ok(Said { welcome: client.welcome().await?, identity }),
            _ => Err(ClientError::WrongAnswer),
        }
    };
    let said = said.await;
    let status = status_document(&client).await.map_err(|error| match error {
        CliError::Client(error) => error,
        _ => ClientError::WrongAnswer,
    });
    (said, status)
}

/// The front, by its own word, or whoever listens; systemd, which hands sockets down, is not it.
fn pid(status: Option<&Value>, sockets: &[Socket]) -> Option<i32> {
    let own = status.and_then(|status| status.pointer("/processes/front/pid")).and_then(Value::as_i64);
    own.and_then(|pid| i32::try_from(pid).ok()).or_else(|| {
        sockets.iter().find_map(|socket| match socket.knock {
            Knock::Answers { pid, .. } if pid > 1 => Some(pid),
            _ => None,
        })
    })
}

fn process(pid: i32) -> Process {
    let program = fs::read_link(format!("/proc/{pid}/exe")).map(|path| path.display().to_string());
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    Process { pid, program: program.map_err(|error| error.to_string()), descriptors: open_files(&limits) }
}

/// The soft limit: `Max open files            1024                 1048576              files` (proc(5)).
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let limits = fs::read_to_string("/proc/self/limits").unwrap();
        let (soft, _) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(open_files(&limits), Some(soft));
        assert_eq!(open_files("Max cpu time unlimited"), None);
    }

    #[test]
    fn an_address_of_documentation_is_nobodys() {
        // RFC 5737.
        assert!(is_elsewhere("203.0.113.7:9909".parse().unwrap()));
        assert!(!is_elsewhere("127.0.0.1:9909".parse().unwrap()) && !is_elsewhere("0.0.0.0:1".parse().unwrap()));
    }

    #[tokio::test]
    async fn who_listens_is_the_kernels_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (uid, pid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getpid().as_raw());
        assert_eq!(knock(&path, PATIENCE).await, Knock::Answers { uid, pid });
        drop(listener);
        assert_eq!(knock(&path, PATIENCE).await, Knock::Refused);
    }
}
