//! Sockets of every kind, as they would have come, against one configuration.

use std::os::unix::fs::PermissionsExt;

use super::*;

const MODE: u32 = 0o660;

fn own() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn expected(path: &Path) -> Expected<'_> {
    Expected {
        name: "main",
        settings: ["socket", "socket_mode", "socket_group", "listener.user"],
        path,
        user: None,
        mode: MODE,
        group: None,
        own: own(),
    }
}

fn listening(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(MODE)).unwrap();
    listener
}

fn came(sockets: impl IntoIterator<Item = (&'static str, Socket)>) -> Inherited {
    Inherited { sockets: sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)).collect() }
}

fn names() -> Vec<String> {
    ["main", "admin", "metrics"].map(str::to_owned).to_vec()
}

/// What is said about a socket that came as `main`.
fn said(socket: Socket, expected: &Expected<'_>) -> String {
    came([("main", socket)]).unix(expected).unwrap_err().to_string()
}

#[test]
fn a_socket_as_configured_is_taken_once_and_its_file_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let mut inherited = came([("main", Socket::Unix(listening(&path)))]);
    inherited.only(&names()).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    let listener = inherited.unix(&expected(&path)).unwrap().unwrap();
    assert!(inherited.unix(&expected(&path)).unwrap().is_none());
    let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
    listener.accept().unwrap();
    drop(listener);
    assert_eq!(fs::metadata(&path).unwrap().ino(), before, "it is systemd's to remove");
}

#[test]
fn what_did_not_come_is_left_to_be_bound() {
    assert!(Inherited::default().unix(&expected(Path::new("/x"))).unwrap().is_none());
    assert!(Inherited::default().tcp("metrics", "metrics_addr", None).unwrap().is_none());
    Inherited::default().none_for("signer").unwrap();
}

#[test]
fn another_path_names_both() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("s.sock"), dir.path().join("other.sock"));
    let said = said(Socket::Unix(listening(&other)), &expected(&path));
    let (path, other) = (path.display(), other.display());
    let both = format!("\"main\" is the Unix socket {other}, but [server] socket says {path};");
    assert!(said.contains(&both) && said.contains("change the .socket unit or the configuration"), "{said}");
}

#[test]
fn another_kind_of_socket_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = tcp.local_addr().unwrap();
    assert!(said(Socket::Tcp(tcp), &expected(&path)).contains(&format!("is the TCP socket {addr}, but")));
    assert!(said(Socket::Other("a Unix datagram socket"), &expected(&path)).contains("is a Unix datagram socket, but"));
}

#[test]
fn a_socket_that_does_not_listen_is_refused() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    let said = said(Socket::Unix(UnixListener::from(fd)), &expected(&path));
    assert!(said.contains("does not listen") && said.contains("a listening Unix stream socket"), "{said}");
}

#[test]
fn another_mode_or_group_names_the_setting_and_both_values() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = listening(&path);
    let socket = || Socket::Unix(listener.try_clone().unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let mode = said(socket(), &expected(&path));
    assert!(mode.contains("has mode 0666, but [server] socket_mode says 0660"), "{mode}");
    fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).unwrap();
    let (_, gid) = own();
    let group = said(socket(), &Expected { group: Some(gid + 1), ..expected(&path) });
    assert!(
        group.contains(&format!("belongs to gid {gid}, but [server] socket_group says gid {}", gid + 1)),
        "{group}"
    );
    came([("main", socket())]).unix(&Expected { group: Some(gid), ..expected(&path) }).unwrap().unwrap();
    let (uid, _) = own();
    let owner = said(socket(), &Expected { user: Some(uid + 1), ..expected(&path) });
    assert!(
        owner.contains(&format!("belongs to uid {uid}, but [server] listener.user says uid {}", uid + 1)),
        "{owner}"
    );
    came([("main", socket())]).unix(&Expected { user: Some(uid), ..expected(&path) }).unwrap().unwrap();
    if own() != (0, 0) {
        let (uid, gid) = own();
        let stranger = said(socket(), &Expected { own: (uid + 1, gid), ..expected(&path) });
        assert!(stranger.contains("must belong to root or to uid"), "{stranger}");
    }
}

#[test]
fn a_socket_whose_path_was_taken_away_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = listening(&path);
    fs::remove_file(&path).unwrap();
    assert!(said(Socket::Unix(listener.try_clone().unwrap()), &expected(&path)).contains("has lost its path (No such"));
    fs::write(&path, b"precious").unwrap();
    assert!(said(Socket::Unix(listener), &expected(&path)).contains("something else is there now"));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn names_that_are_missing_unknown_or_given_twice_are_refused_before_anything_is_bound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = listening(&path);
    let socket = || Socket::Unix(listener.try_clone().unwrap());
    let said = |inherited: Inherited| inherited.only(&names()).unwrap_err().to_string();
    for name in ["", "unknown"] {
        let said = said(came([(name, socket())]));
        assert!(
            said.contains("has no name; write FileDescriptorName= into") && said.contains("main, admin, metrics"),
            "{said}"
        );
    }
    let unknown = said(came([("admin", socket()), ("passportd.socket", socket())]));
    let place = format!("named \"passportd.socket\" (the Unix socket {})", path.display());
    assert!(unknown.contains(&place) && unknown.contains("it knows main, admin, metrics"), "{unknown}");
    let twice = said(came([("main", socket()), ("admin", socket()), ("main", Socket::Other("no stream socket"))]));
    let both = format!("named \"main\": the Unix socket {} and no stream socket; keep one", path.display());
    assert!(twice.contains(&both), "{twice}");
    let ours = came([("main", socket())]).none_for("signer").unwrap_err().to_string();
    assert!(ours.contains("the role signer was handed sockets (\"main\", the Unix socket"), "{ours}");
}

#[test]
fn the_metrics_port_is_the_configured_address_or_none() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let taken = |socket, configured| came([("metrics", socket)]).tcp("metrics", "metrics_addr", configured);
    let socket = || Socket::Tcp(listener.try_clone().unwrap());
    assert_eq!(taken(socket(), Some(addr)).unwrap().unwrap().local_addr().unwrap(), addr);
    let other: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let said = |socket, configured| taken(socket, configured).unwrap_err().to_string();
    let differs = said(socket(), Some(other));
    assert!(
        differs.contains(&format!("\"metrics\" is the TCP socket {addr}, but [server] metrics_addr says {other}")),
        "{differs}"
    );
    assert!(said(socket(), None).contains("[server] metrics_addr says \"off\""));
    let dir = tempfile::tempdir().unwrap();
    let unix = Socket::Unix(listening(&dir.path().join("s.sock")));
    assert!(said(unix, Some(addr)).contains("is the Unix socket"));
}
