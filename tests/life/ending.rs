//! The end of each role: what it still does, for how long, and how it looks from outside.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use passportd::wire::{ServiceOk, ServiceOp};

use crate::ear::Ear;
use crate::support::passports::demo;
use crate::support::{House, Hsm, Options, Roles, eventually, process};

const PATIENCE: Duration = Duration::from_secs(20);

/// A token whose files are pipes that nobody writes to: whatever the module reads next, it does not come back.
struct Hung(Vec<PathBuf>);

/// SoftHSM reads its files again and again, whole; kryoptic's file has to be one.
fn of_pipes() -> Options {
    Options::default().module(Hsm::SoftHsm)
}

impl Hung {
    fn under(house: &House) -> Self {
        let token = fs::read_dir(house.dir().join("store")).unwrap().map(|entry| entry.unwrap().path());
        let token = token.into_iter().find(|path| path.is_dir()).expect("a token");
        let files = fs::read_dir(token).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.extension().is_none_or(|extension| extension == "object"));
        let files: Vec<_> = files.filter(|path| path.is_file()).collect();
        for file in &files {
            let owner = fs::metadata(file).unwrap();
            fs::remove_file(file).unwrap();
            nix::unistd::mkfifo(file, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
            chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        Self(files)
    }

    /// Waits until the module is inside. It stays there while what this returns lives.
    fn inside(&self) -> File {
        // Opening a pipe to write, without waiting, fails for as long as nobody reads (fifo(7)).
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        eventually("the module reads", PATIENCE, || self.0.iter().find_map(|path| options.open(path).ok()))
    }

    /// Takes the pipes to another directory, where [`Hung::let_go`] finds them.
    fn aside(self, dir: &std::path::Path) -> Self {
        let moved = self.0.into_iter().map(|pipe| {
            let to = dir.join(pipe.file_name().unwrap());
            fs::rename(&pipe, &to).unwrap();
            to
        });
        Self(moved.collect())
    }

    /// Whoever waits for a writer goes on, and finds that there is nothing to read.
    fn let_go(&self) {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        self.0.iter().for_each(|pipe| drop(options.open(pipe)));
    }
}

#[test]
fn once_it_ends_nobody_gets_in_and_who_is_in_has_an_answer() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let mut raw = house.raw();
    house.freeze("signer");
    // Keeps the end waiting.
    raw.request(ServiceOp::Issue(demo("x")));
    assert_eq!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong), "what stands before it has begun");
    house.signal("front", Signal::SIGTERM);
    for socket in [house.socket(), house.admin_socket()] {
        eventually("nobody listens", PATIENCE, || {
            UnixStream::connect(&socket).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused).then_some(())
        });
    }
    assert_eq!(house.get("/healthz").0, 200, "it has not ended");
    house.signal("signer", Signal::SIGCONT);
    assert!(raw.reply().result.is_ok(), "what was under way is finished");
    assert!(house.stop().success());
    assert!(house.log().contains("drained open=0"), "{}", house.log());
}

#[test]
fn what_outlasts_the_graceful_time_is_cut_off() {
    let options = Options::default().roles(Roles::Apart).set("hsm.op_timeout_ms", 30_000);
    let mut house = House::start(options.set("server.graceful_shutdown_timeout_s", 1));
    let mut raw = house.raw();
    house.freeze("signer");
    raw.request(ServiceOp::Issue(demo("x")));
    assert_eq!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong), "what stands before it has begun");
    let (front, begun) = (house.pid("front"), Instant::now());
    house.signal("front", Signal::SIGTERM);
    eventually("it ends", PATIENCE, || process::gone(front).then_some(()));
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_secs(1) && took < Duration::from_secs(11),
        "the second, and what it announces: {took:?}"
    );
    assert!(matches!(raw.body(), Ok(None) | Err(_)), "there is no answer");
    assert_eq!(house.stop().code(), Some(0), "in order all the same");
    assert!(house.log().contains("drained open=1"), "{}", house.log());
}

#[test]
fn run_waits_for_a_call_of_the_module_as_long_as_the_signer_does() {
    // Longer than a few seconds that somebody might find enough for an end.
    let options = of_pipes().set("hsm.op_timeout_ms", 4_000).set("server.graceful_shutdown_timeout_s", 0);
    let mut house = House::start(options);
    let mut raw = house.raw();
    let hung = Hung::under(&house);
    raw.request(ServiceOp::Issue(demo("x")));
    let _inside = hung.inside();
    assert_eq!(house.stop().code(), Some(0));
    let log = house.log();
    assert!(log.contains("a thread is still inside the module; leaving it there"), "it ended by itself: {log}");
    assert!(!log.contains("killing it"), "{log}");
}

#[test]
fn run_kills_who_does_not_end_in_the_time_that_it_announces_and_says_so() {
    let options = Options::default().set("hsm.op_timeout_ms", 50);
    let mut house = House::start(options);
    let run = house.pid("run");
    house.freeze("signer");
    let begun = Instant::now();
    process::signal(run, Signal::SIGTERM);
    eventually("it ends", PATIENCE, || process::gone(run).then_some(()));
    assert!(begun.elapsed() >= Duration::from_millis(5_050), "{:?}", begun.elapsed());
    assert_eq!(house.stop().code(), Some(0));
    let log = house.log();
    let killed: Vec<_> = log.lines().filter(|line| line.contains("did not end in time; killing it")).collect();
    assert!(killed.len() == 1 && killed[0].contains("service=\"signer\""), "{killed:?}");
}

#[test]
fn a_signer_whose_module_does_not_come_back_leaves_it_there() {
    let mut house = House::start(of_pipes().roles(Roles::Apart).set("hsm.op_timeout_ms", 300));
    let mut raw = house.raw();
    let hung = Hung::under(&house);
    raw.request(ServiceOp::Issue(demo("x")));
    let _inside = hung.inside();
    let status = house.end("signer", Signal::SIGTERM);
    // Neither SIGABRT, which says nothing, nor SIGSEGV, which `exit` would end in.
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(house.log().contains("a thread is still inside the module; leaving it there"), "{}", house.log());
    assert!(raw.reply().result.is_err());
}

#[test]
fn sigterm_before_ready_ends_the_front_at_once() {
    let mut ear = Ear::abstract_name();
    let options = Options::default().roles(Roles::Apart).environment("front", "NOTIFY_SOCKET", &ear.address);
    let mut house = House::start(options);
    // A shell without job control has what it starts with `&` ignore the latter two, and that is inherited.
    let heeded = |signal: &Signal| !process::ignored(*signal);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT].into_iter().filter(heeded) {
        assert!(house.end("front", Signal::SIGTERM).success());
        ear.so_far();
        // Stopped somewhere on its way; where it has come too far, again.
        let caught = eventually("it is stopped before READY=1", PATIENCE, || {
            house.start_role("front");
            house.freeze("front");
            if ear.so_far().is_empty() {
                return Some(house.pid("front"));
            }
            house.signal("front", Signal::SIGCONT);
            house.end("front", Signal::SIGTERM);
            ear.so_far();
            None
        });
        process::signal(caught, signal);
        let status = house.end("front", Signal::SIGCONT);
        assert_eq!(status.signal(), Some(signal as i32), "{status}");
        assert!(ear.so_far().is_empty(), "it never was ready");
        house.start_role("front");
        house.wait_ready();
    }
}

#[test]
fn sigterm_while_the_signer_reads_its_keys_is_heeded_once_the_module_answers() {
    let mut ear = Ear::abstract_name();
    let options = of_pipes().roles(Roles::Apart).environment("signer", "NOTIFY_SOCKET", &ear.address);
    let mut house = House::start(options);
    assert!(house.end("signer", Signal::SIGTERM).success());
    ear.so_far();
    let kept = tempfile::tempdir().unwrap();
    let store = house.dir().join("store");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        let done = std::process::Command::new("cp").args(["-a", "--"]).arg(from.join(".")).arg(to).status();
        assert!(done.unwrap().success());
    };
    copy(&store, kept.path());
    let hung = Hung::under(&house);
    house.start_role("signer");
    let (inside, signer) = (hung.inside(), house.pid("signer"));
    process::signal(signer, Signal::SIGTERM);
    // The module comes back, with what it was to read or without it.
    let aside = tempfile::tempdir().unwrap();
    let hung = hung.aside(aside.path());
    copy(kept.path(), &store);
    drop(inside);
    // It may have gone on to the next pipe before that was taken away.
    eventually("it ends", PATIENCE, || {
        hung.let_go();
        process::gone(signer).then_some(())
    });
    let status = house.ended(signer);
    assert!(status.code().is_some(), "by itself, and not by the signal: {status}");
}
