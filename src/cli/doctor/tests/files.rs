//! Sockets, files and directories.

use super::healthy::there;
use super::*;

fn file(facts: &mut Facts) -> &mut Files {
    facts.files.as_mut().unwrap()
}

fn dir<'a>(facts: &'a mut Facts, name: &str) -> &'a mut Directory {
    file(facts).directories.iter_mut().find(|directory| directory.name == name).unwrap()
}

fn pin_is(facts: &mut Facts, found: Found) {
    file(facts).pin.places[0].1 = found;
}

#[test]
fn bad_sockets() {
    judged(&[
        (
            "socket",
            |facts| facts.sockets[0].found = Found::Missing,
            Status::Fail,
            &["/run/p/socket.sock (server.socket)", START],
        ),
        (
            "socket",
            |facts| (facts.sockets[0].found, facts.sockets[0].parent) = (Found::Missing, false),
            Status::Fail,
            &["(server.socket) is not there, nor is the directory for it", "RuntimeDirectory=", START],
        ),
        (
            "admin socket",
            |facts| (facts.sockets[1].found, facts.sockets[1].sure) = (Found::Missing, false),
            Status::Skipped,
            &["the configuration, which may name another", "give --admin-socket"],
        ),
        (
            "socket",
            |facts| facts.sockets[0].found = Found::Hidden("no".into()),
            Status::Skipped,
            &["skipped: no", "as root"],
        ),
        (
            "socket",
            |facts| facts.sockets[0].found = there(Kind::File, 900, 800, 0o660),
            Status::Fail,
            &["is not a socket", "move it away"],
        ),
        (
            "socket",
            |facts| facts.sockets[0].found = there(Kind::Socket, 7, 800, 0o660),
            Status::Fail,
            &["belongs to uid 7", "a stranger may serve it", "find out who made it"],
        ),
        (
            "socket",
            |facts| facts.sockets[0].found = there(Kind::Socket, 900, 800, 0o666),
            Status::Fail,
            &["has mode 0666, but server.socket_mode is 0660"],
        ),
        (
            "socket",
            |facts| facts.sockets[0].found = there(Kind::Socket, 900, 7, 0o660),
            Status::Fail,
            &["belongs to gid 7, but server.socket_group is clients (gid 800)"],
        ),
        ("socket", |facts| facts.sockets[0].knock = Knock::Refused, Status::Fail, &["nobody listens at ", START]),
        (
            "socket",
            |facts| facts.sockets[0].knock = Knock::Denied,
            Status::Skipped,
            &["uid 0 may not connect", "mode 0660, group clients", "add the user to the group clients"],
        ),
        (
            "socket",
            |facts| facts.sockets[0].knock = Knock::Failed("late".into()),
            Status::Fail,
            &["takes no connection: late"],
        ),
        (
            "signer socket",
            |facts| facts.sockets[2].found = there(Kind::Socket, 0, 0, 0o666),
            Status::Fail,
            &["mode 0666: everybody may connect"],
        ),
        ("ceremony", |facts| facts.sockets[3].found = Found::Missing, Status::Warn, &["passportd-ceremony.socket"]),
    ]);
}

#[test]
fn bad_files() {
    judged(&[
        (
            "module",
            |facts| file(facts).module = Module::Broken { path: "/x.so".into(), why: "no".into() },
            Status::Fail,
            &["/x.so: no", "correct hsm.module"],
        ),
        (
            "module",
            |facts| file(facts).module = Module::Chain(vec![("/x.so".into(), 0, 0o644), ("/".into(), 7, 0o755)]),
            Status::Fail,
            &["/ belongs to uid 7", "chown root /"],
        ),
        (
            "module",
            |facts| file(facts).module = Module::Chain(vec![("/x.so".into(), 0, 0o775)]),
            Status::Fail,
            &["mode 0775: others than root may change it", "chmod go-w /x.so"],
        ),
        ("pin", |facts| pin_is(facts, Found::Missing), Status::Fail, &["/etc/p/pin is not there", "install -m 0400"]),
        ("pin", |facts| pin_is(facts, Found::Hidden("no".into())), Status::Skipped, &["skipped: no"]),
        ("pin", |facts| pin_is(facts, there(Kind::Link, 0, 0, 0o777)), Status::Fail, &["is a symbolic link"]),
        ("pin", |facts| pin_is(facts, there(Kind::Other, 0, 0, 0o400)), Status::Fail, &["is not a regular file"]),
        (
            "pin",
            |facts| pin_is(facts, there(Kind::File, 7, 0, 0o400)),
            Status::Fail,
            &["belongs to uid 7", "chown 901 /etc/p/pin"],
        ),
        (
            "pin",
            |facts| pin_is(facts, there(Kind::File, 0, 0, 0o440)),
            Status::Fail,
            &["mode 0440", "chmod 0400 /etc/p/pin"],
        ),
        (
            "pin",
            |facts| pin_is(facts, Found::There(Stat { kind: Kind::File, uid: 0, gid: 0, mode: 0o400, len: 0 })),
            Status::Fail,
            &["/etc/p/pin is empty"],
        ),
        (
            "pin",
            |facts| {
                file(facts).pin.configured = false;
                pin_is(facts, Found::Missing);
            },
            Status::Warn,
            &["hsm.pin_file is not set", "/etc/p/pin", "LoadCredential=hsm-pin:FILE"],
        ),
        (
            "state",
            |facts| dir(facts, "state").found = there(Kind::Directory, 7, 7, 0o700),
            Status::Fail,
            &["chown -R 900 "],
        ),
        (
            "state",
            |facts| dir(facts, "state").found = there(Kind::Directory, 900, 7, 0o770),
            Status::Fail,
            &["chmod 0700 "],
        ),
        (
            "state",
            |facts| dir(facts, "state").found = there(Kind::File, 900, 7, 0o700),
            Status::Fail,
            &["is not a directory"],
        ),
        ("state", |facts| dir(facts, "state").found = Found::Missing, Status::Ok, &["it is made when it is needed"]),
        (
            "ledger",
            |facts| {
                let ledger = dir(facts, "ledger");
                (ledger.found, ledger.made) = (Found::Missing, false);
            },
            Status::Fail,
            &["(audit.dir) is not there", "mkdir -p /var/lib/p/ledger && chown 900 "],
        ),
        (
            "hsm state",
            |facts| dir(facts, "hsm state").found = Found::Missing,
            Status::Fail,
            &["(hsm.state_dir) is not there", "mkdir -p /var/lib/p/hsm-state && chown 901 "],
        ),
        (
            "signer dir",
            |facts| dir(facts, "signer dir").found = there(Kind::Directory, 900, 900, 0o700),
            Status::Fail,
            &["belongs to uid 900, must belong to uid 901", "chown -R 901 /var/lib/p/signer-dir"],
        ),
        (
            "signer dir",
            |facts| dir(facts, "signer dir").found = there(Kind::Directory, 901, 901, 0o500),
            Status::Fail,
            &["has mode 0500: uid 901 may not read and write there", "chmod 0700 /var/lib/p/signer-dir"],
        ),
        (
            "hsm state",
            |facts| dir(facts, "hsm state").found = there(Kind::Directory, 901, 901, 0o500),
            Status::Ok,
            &["mode 0500"],
        ),
        ("ledger", |facts| dir(facts, "ledger").free_mib = Some(15), Status::Fail, &["15 MiB are free", "make room"]),
        ("ledger", |facts| dir(facts, "ledger").free_mib = Some(16), Status::Warn, &["16 MiB are free", "make room"]),
        ("ledger", |facts| dir(facts, "ledger").free_mib = Some(256), Status::Ok, &["256 MiB free"]),
        ("ledger", |facts| dir(facts, "ledger").found = Found::Hidden("no".into()), Status::Skipped, &["skipped: no"]),
        ("state file", |facts| file(facts).state.1 = there(Kind::File, 7, 7, 0o600), Status::Fail, &["chown 900 "]),
        ("state file", |facts| file(facts).state.1 = there(Kind::File, 900, 7, 0o640), Status::Fail, &["chmod 0600 "]),
        (
            "state file",
            |facts| file(facts).state.1 = there(Kind::Link, 900, 7, 0o600),
            Status::Fail,
            &["not a regular file"],
        ),
        (
            "clock",
            |facts| facts.now = 500,
            Status::Warn,
            &["490 s behind the newest audit record", "set the clock right"],
        ),
    ]);
}

#[test]
fn bad_contents() {
    judged(&[
        (
            "readable",
            |facts| {
                let refused = vec![("/etc/p/policy.d/10.toml".into(), "/etc/p/policy.d".into())];
                file(facts).unread = Some(Unread { user: "passportd".into(), refused });
            },
            Status::Fail,
            &[
                "passportd, the front's user, may not read /etc/p/policy.d/10.toml: /etc/p/policy.d does not let it",
                "chmod g+rX",
            ],
        ),
        ("readable", |facts| file(facts).unread = None, Status::Ok, &["no user of its own"]),
        (
            "module config",
            |facts| file(facts).module_config = Some(("/etc/p/m.conf".into(), Found::Missing)),
            Status::Fail,
            &["/etc/p/m.conf (hsm.module_config) is not there", "create it"],
        ),
        (
            "module config",
            |facts| file(facts).module_config = Some(("/etc/p/m.conf".into(), there(Kind::File, 0, 0, 0o664))),
            Status::Fail,
            &["mode 0664", "chmod go-w /etc/p/m.conf"],
        ),
        (
            "pin",
            |facts| file(facts).pin.unfit = Some("it is empty".into()),
            Status::Fail,
            &["/etc/p/pin: it is empty", "alone, on one line"],
        ),
        (
            "pin note",
            |facts| file(facts).pin_note.1 = there(Kind::File, 0, 0, 0o600),
            Status::Fail,
            &["belongs to uid 0, must belong to uid 901", "chown 901 /var/lib/p/hsm-state/signer/pin.json"],
        ),
        (
            "pin note",
            |facts| file(facts).pin_note.1 = there(Kind::File, 901, 901, 0o200),
            Status::Fail,
            &["has mode 0200: uid 901 may not read it", "chmod 0600 "],
        ),
        (
            "pin note",
            |facts| file(facts).pin_note.1 = there(Kind::Link, 901, 901, 0o777),
            Status::Fail,
            &["is not a regular file", "move it away"],
        ),
        (
            "key list",
            |facts| file(facts).key_list.found = Found::Missing,
            Status::Ok,
            &["is not there yet; passportctl hsm init writes it"],
        ),
        (
            "key list",
            |facts| file(facts).key_list.found = there(Kind::File, 901, 901, 0o640),
            Status::Fail,
            &["has mode 0640", "chown 901 /var/lib/p/hsm-state/keys.json && chmod 0600 "],
        ),
        (
            "key list",
            |facts| file(facts).key_list.found = there(Kind::File, 7, 901, 0o600),
            Status::Fail,
            &["belongs to uid 7"],
        ),
        (
            "key list",
            |facts| file(facts).key_list.found = there(Kind::Link, 901, 901, 0o600),
            Status::Fail,
            &["is not a regular file", "backups/"],
        ),
        (
            "key list",
            |facts| file(facts).key_list.keys = Read::Bad(vec!["layout 2".into()]),
            Status::Fail,
            &["layout 2", "use the passportd that wrote it; never edit it"],
        ),
        ("key list", |facts| file(facts).key_list.keys = Read::Hidden("no".into()), Status::Skipped, &["skipped: no"]),
        (
            "state file",
            |facts| (file(facts).state.1, file(facts).rows) = (Found::Missing, Read::Good(0)),
            Status::Fail,
            &["is not there, but has been", "restore the newest backup"],
        ),
        (
            "state rows",
            |facts| file(facts).rows = Read::Bad(vec!["is damaged".into()]),
            Status::Fail,
            &["is damaged", "from one backup"],
        ),
        ("state rows", |facts| file(facts).rows = Read::Hidden("open".into()), Status::Skipped, &["skipped: open"]),
        (
            "state rows",
            |facts| file(facts).rows = Read::Good(8),
            Status::Fail,
            &["knows of record 8, and the ledger ends at record 7", "restore the ledger"],
        ),
        (
            "ledger chain",
            |facts| file(facts).ledger = Read::Bad(vec!["record 3 was altered".into()]),
            Status::Fail,
            &["record 3 was altered", "from one backup"],
        ),
        (
            "ledger chain",
            |facts| file(facts).ledger = Read::Left("open".into()),
            Status::Skipped,
            &["skipped: open", "passportctl status"],
        ),
    ]);
}
