//! Sockets and the metrics port.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::proc;
use super::table::{By, CONFIG, Mistake, OTHER, check, give, put, set, text};
use super::workshop::Workshop;

const SOCKETS: &[Mistake] = &[
    Mistake {
        what: "a socket in no directory",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.socket", "/nonexistent/p.sock"),
        code: CONFIG,
        finds: "socket",
        says: &["/nonexistent/p.sock: can't bind", "does its directory exist, and may we write to it?", "No such file"],
    },
    Mistake {
        what: "a socket where the front's user may not write",
        role: "front",
        by: By::Front,
        spoil: |_| {},
        code: CONFIG,
        finds: "",
        says: &["/passportd.sock: can't bind", "may we write to it?", "Permission denied"],
    },
    Mistake {
        what: "a path that no address holds",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.socket", format!("/run/{}", "x".repeat(103))),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`server.socket`: the path of a Unix socket has at most 99 bytes"],
    },
    Mistake {
        what: "a relative path",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.socket", "p.sock"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`server.socket`: expected an absolute path"],
    },
    Mistake {
        what: "a file in the socket's place",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            drop(fs::remove_file(shop.path("passportd.sock")));
            put(&shop.path("passportd.sock"), "precious");
        },
        code: CONFIG,
        finds: "socket",
        says: &["/passportd.sock exists and is not a socket", "move it away or configure another path"],
    },
    Mistake {
        what: "a stranger's socket in its place",
        role: "front",
        by: By::Front,
        spoil: |shop| {
            fs::create_dir(shop.path("run")).unwrap();
            give(&shop.path("run"), shop.front().unwrap().0);
            drop(UnixListener::bind(shop.path("run/p.sock")).unwrap());
            give(&shop.path("run/p.sock"), shop.signer().unwrap().0);
            set(shop, "server.socket", text(&shop.path("run/p.sock")));
        },
        code: CONFIG,
        finds: "socket",
        says: &["/run/p.sock belongs to uid ", ", not to us; remove it if nobody needs it"],
    },
    Mistake {
        what: "a stranger's socket, and root who starts",
        role: "front",
        by: By::Root,
        spoil: |shop| {
            drop(fs::remove_file(shop.path("passportd.sock")));
            drop(UnixListener::bind(shop.path("passportd.sock")).unwrap());
            give(&shop.path("passportd.sock"), shop.signer().unwrap().0);
        },
        code: CONFIG,
        finds: "socket",
        says: &["/passportd.sock belongs to uid ", ", not to us; remove it if nobody needs it"],
    },
    Mistake {
        what: "a stranger's socket of ceremonies, and root who starts",
        role: "run",
        by: By::Root,
        spoil: |shop| {
            drop(fs::remove_file(shop.path("ceremony.sock")));
            drop(UnixListener::bind(shop.path("ceremony.sock")).unwrap());
            give(&shop.path("ceremony.sock"), shop.front().unwrap().0);
        },
        code: CONFIG,
        finds: "ceremony",
        says: &["/ceremony.sock belongs to uid ", ", not to us; remove it if nobody needs it"],
    },
    Mistake {
        what: "one socket for services and admins",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.admin_socket", text(&shop.path("passportd.sock"))),
        code: CONFIG,
        finds: "config",
        says: &["server.socket and server.admin_socket are the same socket", "passportd.toml:"],
    },
    Mistake {
        what: "the signer's socket in no directory",
        role: "signer",
        by: By::Tester,
        spoil: |shop| set(shop, "hsm.socket", "/nonexistent/s.sock"),
        code: CONFIG,
        finds: "signer socket",
        says: &["/nonexistent/s.sock: can't bind", "does its directory exist"],
    },
    Mistake {
        what: "metrics on an address of another host",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.metrics_addr", "203.0.113.7:9909"),
        code: CONFIG,
        finds: "metrics",
        says: &["can't listen on [server] metrics_addr 203.0.113.7:9909", "configure another address, or \"off\""],
    },
    Mistake {
        what: "metrics on a name",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.metrics_addr", "localhost:9909"),
        code: CONFIG,
        finds: "config",
        says: &["`server.metrics_addr`: expected a numeric address and port such as \"127.0.0.1:9909\""],
    },
];

#[test]
fn their_paths() {
    check(SOCKETS);
}

#[test]
fn a_socket_that_somebody_serves() {
    let shop = Workshop::new();
    let before = shop.files();
    for (socket, role) in [("passportd.sock", "front"), ("signer.sock", "signer"), ("ceremony.sock", "run")] {
        drop(fs::remove_file(shop.path(socket)));
        let served = UnixListener::bind(shop.path(socket)).unwrap();
        let ended = shop.start(role, &[]);
        assert_eq!(ended.status.and_then(|status| status.code()), Some(CONFIG), "{role}: {}", ended.said);
        let says = format!("/{socket} is served by another process; stop it, or configure another path");
        assert!(ended.said.contains(&says), "{role}: {}", ended.said);
        drop(served);
        fs::remove_file(shop.path(socket)).unwrap();
    }
    assert_eq!(shop.files(), before);
}

#[test]
fn a_taken_port_is_named_and_may_come_free() {
    let shop = Workshop::new();
    let before = shop.files();
    let addr = proc::metrics_addr(shop.dir());
    let held = TcpListener::bind(&addr).unwrap();
    let ended = shop.start("front", &[]);
    assert_eq!(ended.status.and_then(|status| status.code()), Some(OTHER), "{}", ended.said);
    let says = format!("can't listen on [server] metrics_addr {addr}: Address already in use");
    for says in [says.as_str(), "configure another address, or \"off\""] {
        assert!(ended.said.contains(says), "{says}: {}", ended.said);
    }
    drop(held);
    assert_eq!(shop.files(), before);
}
