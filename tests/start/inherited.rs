//! Sockets that are open before the front is, as systemd hands them over: taken by name when they are as configured, and
//! otherwise a reason not to start that names both sides.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::{AdminOk, AdminOp, ServiceOk, ServiceOp};
use toml::Value;

use super::proc;
use super::support::raw::Raw;
use super::support::{eventually, process};
use super::workshop::Workshop;

const PATIENCE: Duration = Duration::from_secs(20);

/// How a role is started with sockets. At most three: a shell moves them from its standard streams to where systemd puts them.
struct Handed<'a> {
    role: &'a str,
    sockets: Vec<OwnedFd>,
    /// `LISTEN_FDNAMES`; none leaves it out.
    names: Option<&'a str>,
    /// `LISTEN_PID`, as the shell reads it.
    pid: &'a str,
}

impl Handed<'_> {
    fn front(sockets: Vec<OwnedFd>, names: &str) -> Handed<'_> {
        Handed { role: "front", sockets, names: Some(names), pid: "$$" }
    }

    fn start(self, shop: &Workshop) -> Child {
        let count = self.sockets.len();
        let moved: String = ["3<&0", "4<&1", "5<&2"][..count].join(" ");
        let names = self.names.map(|names| format!("LISTEN_FDNAMES='{names}'")).unwrap_or_default();
        let script = format!(
            "exec {moved}; exec 0</dev/null 1>>'{log}' 2>&1; exec env LISTEN_PID={pid} LISTEN_FDS={count} {names} \
             '{program}' {role} --config '{config}'",
            log = shop.path("one.log").display(),
            pid = self.pid,
            program = env!("CARGO_BIN_EXE_passportd"),
            role = self.role,
            config = shop.path("passportd.toml").display(),
        );
        fs::write(shop.path("one.log"), "").unwrap();
        let mut streams = self.sockets.into_iter().map(Stdio::from).chain(std::iter::repeat_with(Stdio::null));
        let mut next = || streams.next().unwrap();
        let mut command = Command::new("sh");
        command.env_clear().env("PATH", "/usr/bin:/bin").args(["-c", &script]);
        command.env("SOFTHSM2_CONF", shop.path("softhsm2.conf"));
        command.stdin(next()).stdout(next()).stderr(next()).spawn().unwrap()
    }
}

fn said(shop: &Workshop) -> String {
    fs::read_to_string(shop.path("one.log")).unwrap()
}

/// A socket as its unit would make it. The configuration of these tests says mode 0666 and no group.
fn unix(path: &Path, mode: u32) -> UnixListener {
    drop(fs::remove_file(path));
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    listener
}

fn end(mut child: Child) -> Option<i32> {
    process::signal(i32::try_from(child.id()).unwrap(), Signal::SIGTERM);
    child.wait().unwrap().code()
}

#[test]
fn sockets_that_are_as_configured_are_taken_and_stay_when_the_front_goes() {
    let shop = Workshop::new();
    let web = shop.path("web.sock");
    let listener =
        toml::Table::from_iter([("name", "web"), ("socket", web.to_str().unwrap())].map(|(k, v)| (k.into(), v.into())));
    shop.set(&[("server.listener", Value::Array(vec![Value::Table(listener)]))]);
    let (main, admin) = (shop.path("passportd.sock"), shop.path("admin.sock"));
    let metrics = TcpListener::bind(proc::metrics_addr(shop.dir())).unwrap();
    let sockets = [unix(&main, 0o666), unix(&admin, 0o666)];
    let inodes = [&main, &admin].map(|path| fs::metadata(path).unwrap().ino());
    // A peer that was there first: nobody was turned away.
    let mut early = Raw::connect(&main).unwrap();
    let mut handed: Vec<OwnedFd> = sockets.iter().map(|one| one.try_clone().unwrap().into()).collect();
    handed.push(metrics.try_clone().unwrap().into());
    let front = Handed::front(handed, "main:admin:metrics").start(&shop);
    early.greet().unwrap();
    assert_eq!(early.ask(ServiceOp::Ping), Ok(ServiceOk::Pong));
    let mut raw = Raw::connect(&admin).unwrap().welcomed().0;
    assert!(matches!(raw.admin(AdminOp::Status), Ok(AdminOk::Status(_))));
    let mut scrape = TcpStream::connect(metrics.local_addr().unwrap()).unwrap();
    scrape.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    scrape.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.") && answer.ends_with("ok\n"), "{answer}");
    // What did not come is bound as ever.
    assert_eq!(fs::metadata(&web).unwrap().mode() & 0o7777, 0o660);
    drop(Raw::connect(&web).unwrap().welcomed());
    assert_eq!(end(front), Some(0), "{}", said(&shop));
    assert_eq!([&main, &admin].map(|path| fs::metadata(path).unwrap().ino()), inodes, "they are systemd's");
    Raw::connect(&main).expect("a peer waits in the queue for the next front");

    // The listener of a single service, and nothing else.
    let inherited = unix(&web, 0o660);
    drop((sockets, metrics));
    let front = Handed::front(vec![inherited.try_clone().unwrap().into()], "web").start(&shop);
    let mut raw = Raw::connect(&web).unwrap().welcomed().0;
    let Ok(ServiceOk::WhoAmI(identity)) = raw.ask(ServiceOp::WhoAmI) else { panic!("{}", said(&shop)) };
    assert_eq!(identity.listener, "web");
    eventually("the others are bound", PATIENCE, || Raw::connect(&main).ok()?.greet().ok());
    assert_eq!(end(front), Some(0), "{}", said(&shop));
}

#[test]
fn sockets_for_another_process_are_not_ours() {
    let shop = Workshop::new();
    let main = shop.path("passportd.sock");
    let other = shop.path("other.sock");
    let socket = unix(&other, 0o600);
    let front = Handed { pid: "1", ..Handed::front(vec![socket.into()], "main") }.start(&shop);
    eventually("it serves on its own", PATIENCE, || Raw::connect(&main).ok()?.greet().ok());
    assert_eq!(end(front), Some(0), "{}", said(&shop));
}

/// One way to be handed the wrong thing.
struct Wrong {
    what: &'static str,
    role: &'static str,
    sockets: fn(&Workshop) -> Vec<OwnedFd>,
    names: Option<&'static str>,
    /// All of these must be in the message; `@` stands for the daemon's directory.
    says: &'static [&'static str],
}

fn main_with(mode: u32) -> impl Fn(&Workshop) -> Vec<OwnedFd> {
    move |shop| vec![unix(&shop.path("passportd.sock"), mode).into()]
}

const WRONG: [Wrong; 11] = [
    Wrong {
        what: "another path",
        role: "front",
        sockets: |shop| vec![unix(&shop.path("other.sock"), 0o666).into()],
        names: Some("main"),
        says: &[
            "\"main\" is the Unix socket @/other.sock, but [server] socket says @/passportd.sock",
            "so that they agree",
        ],
    },
    Wrong {
        what: "another mode",
        role: "front",
        sockets: |shop| main_with(0o600)(shop),
        names: Some("main"),
        says: &["\"main\" has mode 0600, but [server] socket_mode says 0666", "change the .socket unit"],
    },
    Wrong {
        what: "the unit's default name",
        role: "front",
        sockets: |shop| main_with(0o666)(shop),
        names: Some("passportd.socket"),
        says: &[
            "\"passportd.socket\" (the Unix socket @/passportd.sock)",
            "it knows main, admin, metrics",
            "FileDescriptorName=",
        ],
    },
    Wrong {
        what: "no names",
        role: "front",
        sockets: |shop| main_with(0o666)(shop),
        names: None,
        says: &["the Unix socket @/passportd.sock) has no name", "FileDescriptorName=", "main, admin, metrics"],
    },
    Wrong {
        what: "an empty name",
        role: "front",
        sockets: |shop| main_with(0o666)(shop),
        names: Some(""),
        says: &["has no name"],
    },
    Wrong {
        what: "more names than sockets",
        role: "front",
        sockets: |shop| main_with(0o666)(shop),
        names: Some("main:admin"),
        says: &["invalid LISTEN_FDNAMES", ".socket units"],
    },
    Wrong {
        what: "one name for two",
        role: "front",
        sockets: |shop| {
            vec![unix(&shop.path("passportd.sock"), 0o666).into(), unix(&shop.path("other.sock"), 0o666).into()]
        },
        names: Some("main:main"),
        says: &["two sockets named \"main\": the Unix socket @/passportd.sock and the Unix socket @/other.sock"],
    },
    Wrong {
        what: "TCP for Unix",
        role: "front",
        sockets: |_| vec![TcpListener::bind(("127.0.0.1", 0)).unwrap().into()],
        names: Some("main"),
        says: &["\"main\" is the TCP socket 127.0.0.1:", "[server] socket says @/passportd.sock, a listening Unix"],
    },
    Wrong {
        what: "another port",
        role: "front",
        sockets: |_| vec![TcpListener::bind(("127.0.0.1", 0)).unwrap().into()],
        names: Some("metrics"),
        says: &["\"metrics\" is the TCP socket 127.0.0.1:", "but [server] metrics_addr says 127."],
    },
    Wrong {
        what: "a file",
        role: "front",
        sockets: |shop| vec![fs::File::open(shop.path("passportd.toml")).unwrap().into()],
        names: Some("main"),
        says: &["\"main\" is no stream socket, but [server] socket says"],
    },
    Wrong {
        what: "the wrong role",
        role: "signer",
        sockets: |shop| main_with(0o666)(shop),
        names: Some("main"),
        says: &["the role signer was handed sockets (\"main\"", "correct Service="],
    },
];

#[test]
fn a_socket_that_differs_stops_the_start_and_both_sides_are_named() {
    let shop = Workshop::new();
    let dir = shop.dir().to_str().unwrap().to_owned();
    let mut wrong = Vec::new();
    for Wrong { what, role, sockets, names, says } in WRONG {
        let sockets = sockets(&shop);
        let bound: Vec<PathBuf> = ["admin.sock", "signer.sock"].map(|name| shop.path(name)).to_vec();
        bound.iter().for_each(|path| drop(fs::remove_file(path)));
        let code = Handed { role, sockets, names, pid: "$$" }.start(&shop).wait().unwrap().code();
        let said = said(&shop);
        let missing: Vec<_> = says.iter().filter(|says| !said.contains(&says.replace('@', &dir))).collect();
        let left: Vec<_> = bound.iter().filter(|path| path.exists()).collect();
        if code != Some(78) || !missing.is_empty() || !left.is_empty() {
            wrong.push(format!("{what}: code {code:?}, not said: {missing:?}, left: {left:?}, said:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
