//! A reader of the log that stands still never stops the daemon.

use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use passportd::wire::ServiceOp;

use super::journal::bind;
use super::support::passports::{demo, for_demo};
use super::support::raw::frame;
use super::support::{House, Options, Roles};
use super::with_env;

/// A pipe that nobody reads, without room for another byte.
fn full_pipe() -> (PipeReader, OwnedFd) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let blocking = OFlag::from_bits_truncate(fcntl(&writer, FcntlArg::F_GETFL).unwrap());
    fcntl(&writer, FcntlArg::F_SETFL(blocking | OFlag::O_NONBLOCK)).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    fcntl(&writer, FcntlArg::F_SETFL(blocking)).unwrap();
    (reader, writer.into())
}

/// The file by which a process of ours opens one of our descriptors.
fn path(fd: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd()).into()
}

/// Every kind of request, and more events than any queue holds.
fn is_of_use(house: &House) {
    let mut raw = house.raw();
    let passport = raw.issue(demo("alice")).unwrap();
    for _ in 0..10_000 {
        raw.send(&frame(&[9])).unwrap();
        raw.reply();
    }
    raw.verify(for_demo(), &passport).unwrap();
    raw.ask(ServiceOp::Health).unwrap();
    assert_eq!(house.get("/healthz").0, 200);
}

#[test]
fn a_full_standard_error_stops_neither_start_nor_requests_nor_end() {
    for roles in [Roles::Run, Roles::Apart] {
        let (reader, pipe) = full_pipe();
        let mut house =
            House::start(with_env(Options::default().roles(roles).log(&path(&pipe)), &[("PASSPORTD_LOG", "trace")]));
        is_of_use(&house);
        // Also one that starts again, when its parent has something to say of it.
        if roles == Roles::Run {
            house.kill("front");
            house.wait_ready();
            is_of_use(&house);
        }
        assert!(house.stop().success());
        drop(reader);
    }
}

#[test]
fn a_standard_error_that_is_read_again_gets_what_waited() {
    let (mut reader, pipe) = full_pipe();
    let mut house =
        House::start(with_env(Options::default().roles(Roles::Apart).log(&path(&pipe)), &[("PASSPORTD_LOG", "debug")]));
    is_of_use(&house);
    let read = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    assert!(house.stop().success());
    drop(house);
    // The last writing end is the test's own.
    drop(pipe);
    let text = read.join().unwrap().unwrap();
    let said = text.trim_start_matches('x');
    for part in [
        "front: serving ready=1",
        "signer: serving the front ready=1",
        "reason=\"unsupported_version\"",
        "front: drained",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
    assert!(said.contains("of=\"answer_refused\" count="), "and the summary\n{said}");
}

#[test]
fn a_journald_that_never_reads_stops_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (_never_read, path) = bind(dir.path());
    let own = UnixDatagram::unbound().unwrap();
    own.set_nonblocking(true).unwrap();
    while own.send_to(b"MESSAGE=x\n", &path).is_ok() {}
    let env = [("PASSPORTD_LOG_TO", path.to_str().unwrap()), ("PASSPORTD_LOG", "trace")];
    let options = with_env(Options::default(), &env);
    let mut house = House::start(options);
    is_of_use(&house);
    assert!(own.send_to(b"MESSAGE=x\n", &path).is_err(), "it is full all the while");
    assert!(house.stop().success());
}
