//! What can go wrong between `passportctl` and the daemon, and with what it is given.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use passportd::wire::{Code, Greeting, Problem, encode_frame};

use super::fake::Fake;
use super::support::{House, Options, people, root_or_skip, skipped};
use super::tool::{Ran, run, tool};

fn ping(socket: &Path) -> Ran {
    run(&mut tool(&["ping", "--timeout", "5", "--socket", socket.to_str().unwrap()]), "")
}

/// Answers the first frame of each connection with these bytes.
fn answering(answer: Vec<u8>) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let read = stream.read(&mut [0; 512]).unwrap();
            assert!(read > 4, "a Hello");
            drop(stream.write_all(&answer));
        }
    });
    (dir, socket)
}

#[test]
fn a_daemon_that_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("none.sock");
    ping(&socket).says(1, "/none.sock: No such file or directory");
    ping(&socket).says(1, "is passportd running, and is this its socket?");
    drop(UnixListener::bind(&socket).unwrap());
    ping(&socket).says(1, "/none.sock: Connection refused");
    ping(&socket).says(1, "nobody listens any more: is passportd running?");
    fs::write(dir.path().join("file"), "").unwrap();
    ping(&dir.path().join("file")).says(1, "/file: Connection refused");
}

#[test]
fn a_user_who_is_not_in_the_group() {
    if !root_or_skip("another user") {
        return;
    }
    let Some((front, stranger)) = people::unprivileged_users() else {
        return skipped("another user: there are no two unprivileged users");
    };
    let (uid, gid) = people::ids(&stranger);
    let house =
        House::start(Options::default().set("server.socket_mode", "0660").set("server.socket_group", front.as_str()));
    let mut command = Command::new(tool_for_all(house.dir()));
    command.env_clear().args(["ping", "--socket"]).arg(house.socket()).uid(uid).gid(gid);
    let ran = run(&mut command, "");
    ran.says(1, "/passportd.sock: Permission denied");
    ran.says(1, "this user may not reach the socket: add it to the socket's group");
}

/// A copy of the tool where every user may start it: the build lies where only its own user may look.
pub(crate) fn tool_for_all(dir: &Path) -> std::path::PathBuf {
    let copy = dir.join("passportctl");
    fs::copy(env!("CARGO_BIN_EXE_passportctl"), &copy).unwrap();
    super::table::mode(&copy, 0o755);
    copy
}

#[test]
fn a_daemon_of_another_version() {
    let mut refusal = Vec::new();
    encode_frame(&Greeting::Refused(Problem::new(Code::UnsupportedVersion)), &mut refusal).unwrap();
    let (_dir, socket) = answering(refusal.clone());
    ping(&socket).says(4, "unsupported_version: ");

    // A greeting of wire version 9.
    let mut later = refusal;
    later[4] = 9;
    let (_dir, socket) = answering(later);
    ping(&socket).says(1, "wire version 9 is not spoken here");
    ping(&socket).says(1, "install passportd and passportctl of one version");

    let (_dir, socket) = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec());
    ping(&socket).says(1, "is this passportd's socket?");
}

#[test]
fn what_policy_does_not_grant() {
    let house = House::start(Options::default());
    let issue = |template| {
        let socket = house.socket();
        let mut command = tool(&["issue", "--sub", "alice", "--template", template, "--socket"]);
        run(command.arg(socket), "")
    };
    assert_eq!(issue("demo").code, Some(0));
    let denied = issue("dmeo");
    denied.says(4, "op_denied: ");
    denied.says(4, "`passportctl whoami` shows what the daemon sees in you");
}

#[test]
fn input_that_is_not_a_passport() {
    let fake = Fake::start();
    let passport = fake.run(&["issue", "--template", "demo", "--sub", "alice"]).stdout;
    fake.fed(&["verify"], "").says(2, "stdin: it is empty; expected JSON");
    fake.fed(&["verify"], "not json").says(2, "stdin: not JSON: expected ident at line 1 column 2");
    fake.fed(&["verify"], passport.split_at(passport.len() / 2).0).says(2, "stdin: not JSON: EOF");
    fake.fed(&["verify"], &passport.replacen("msg_b64", "msg64", 1)).says(2, "unknown field `msg64`");
    let no_subject = fake.run(&["issue", "--template", "demo"]);
    assert_eq!((no_subject.code, no_subject.stdout.as_str()), (Some(2), ""));
    assert!(no_subject.stderr.contains("--sub <SUB>") && no_subject.stderr.contains("--help"), "{no_subject:?}");

    // Whole, but changed on the way: that is a verdict, not an error.
    let at = passport.find("msg_b64\":\"").unwrap() + 40;
    let other = if passport.as_bytes()[at] == b'A' { "B" } else { "A" };
    let mut tampered = passport;
    tampered.replace_range(at..=at, other);
    let ran = fake.fed(&["verify", "--aud", "demo"], &tampered);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(3), ""), "{ran:?}");
    assert!(ran.stdout.starts_with("refused: "), "{ran:?}");
}

#[test]
fn a_pin_that_can_t_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let pin = dir.path().join("pin");
    let list = || run(&mut tool(&["hsm", "list", "--pin-file", pin.to_str().unwrap()]), "");
    list().says(2, "/pin: No such file or directory");
    fs::write(&pin, "4711\n").unwrap();
    super::table::mode(&pin, 0o644);
    list().says(2, "/pin has mode 0644, so others may use it; run: chmod 0400 ");
    super::table::mode(&pin, 0o400);
    let socket = dir.path().join("c.sock");
    let mut command = tool(&["hsm", "list", "--pin-file", pin.to_str().unwrap(), "--ceremony-socket"]);
    let ran = run(command.arg(&socket), "");
    ran.says(1, "/c.sock: No such file or directory");
    ran.says(1, "start it with `systemctl start passportd-ceremony.socket`");
}
