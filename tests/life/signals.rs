//! What each signal does to each role: docs/LIFECYCLE.md, over real processes.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::ceremony::{PlanKind, Request, Response, call};

use crate::ear::Ear;
use crate::support::options::POLICY;
use crate::support::passports::demo;
use crate::support::softhsm::PIN;
use crate::support::{House, Options, Roles, eventually, ledger, process};

const PATIENCE: Duration = Duration::from_secs(20);

/// What no role heeds. By default most of these end a process, some with a core.
const HEEDED_BY_NONE: [Signal; 14] = [
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
    Signal::SIGPWR,
    Signal::SIGSTKFLT,
    Signal::SIGXFSZ,
    Signal::SIGWINCH,
    Signal::SIGURG,
    Signal::SIGCHLD,
    Signal::SIGCONT,
];

/// Sends all of them, and a real-time one. A signal that ends a process does so before `kill` returns, as far as others can
/// see: none of its threads runs again.
fn send_all(pid: i32) {
    HEEDED_BY_NONE.iter().for_each(|one| process::signal(pid, *one));
    // 40 lies between SIGRTMIN and SIGRTMAX, which have no names in nix.
    let sent = Command::new("sh").arg("-c").arg(format!("kill -40 {pid}")).status().unwrap();
    assert!(sent.success());
}

#[test]
fn signals_without_a_meaning_end_no_role_and_disturb_nobody() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let roles = ["run", "signer", "front"];
    let before = roles.map(|role| house.pid(role));
    for pid in before {
        send_all(pid);
    }
    // The signer reads its configuration at the start; a terminal that goes away is not its end.
    house.signal("signer", Signal::SIGHUP);
    let passport = raw.issue(demo("x")).unwrap();
    assert_eq!(roles.map(|role| house.pid(role)), before);
    assert!(!house.log().contains("starting it again"), "{}", house.log());
    house.assert_on_record([&passport.msg[..]]);
}

#[test]
fn a_ceremony_heeds_nothing_before_it_is_done() {
    let house = House::start(Options::default());
    let (here, there) = UnixStream::pair().unwrap();
    let log = fs::File::options().append(true).open(house.dir().join("log")).unwrap();
    let mut command = process::command("ceremony", house.dir());
    command.stdin(OwnedFd::from(there)).stdout(Stdio::null()).stderr(log);
    let mut child = command.spawn().unwrap();
    drop(command);
    let pid = i32::try_from(child.id()).unwrap();
    eventually("it has its mask", PATIENCE, || holds_back(pid, Signal::SIGTERM).then_some(()));
    send_all(pid);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP] {
        process::signal(pid, signal);
    }
    let request = Request {
        plan: PlanKind::Generate,
        tenant: Some("t1".to_owned()),
        purpose: Some("auth".to_owned()),
        ..Request::default()
    };
    let response = call(here, &request, PIN.as_bytes()).unwrap();
    assert!(matches!(response, Response::Done(_)), "{response:?}");
    assert!(child.wait().unwrap().success());
    house.stage("ed25519/t1/auth/v2").unwrap();
}

/// Whether a process's first thread holds a signal back (`SigBlk` of proc_pid_status(5)).
fn holds_back(pid: i32, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = mask.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap());
    mask & (1 << (signal as i32 - 1)) != 0
}

#[test]
fn a_sighup_during_the_start_is_kept_until_it_can_be_heeded() {
    let mut ear = Ear::abstract_name();
    let options = Options::default().roles(Roles::Apart).environment("front", "NOTIFY_SOCKET", &ear.address);
    let mut house = House::start(options);
    house.stop();
    ear.so_far();
    house.start_role("signer");
    house.start_role("front");
    let front = house.pid("front");
    eventually("it has its mask", PATIENCE, || holds_back(front, Signal::SIGUSR1).then_some(()));
    house.signal("front", Signal::SIGHUP);
    ear.until(|line| line == "READY=1");
    ear.until(|line| line == "RELOADING=1");
    ear.until(|line| line == "READY=1");
    assert_eq!(house.pid("front"), front);
}

#[test]
fn sigquit_is_an_end_in_order_for_every_role() {
    for roles in [Roles::Run, Roles::Apart] {
        let mut house = House::start(Options::default().roles(roles));
        let passport = house.raw().issue(demo("x")).unwrap();
        let first = if roles == Roles::Run { vec!["run"] } else { vec!["front", "signer"] };
        for role in &first {
            let pid = house.pid(role);
            house.signal(role, Signal::SIGQUIT);
            eventually("it ends", PATIENCE, || process::role_of(pid).is_none().then_some(()));
        }
        assert_eq!(house.stop().code(), Some(0), "{roles:?}: {}", house.log());
        assert_eq!(ledger::records(&house.ledger()).pop().unwrap()["event"], "daemon_stopping");
        house.assert_on_record([&passport.msg[..]]);
    }
}

#[test]
fn sighup_at_run_reloads_the_front_and_the_front_alone() {
    let house = House::start(Options::default());
    let before = ["run", "signer", "front"].map(|role| house.pid(role));
    house.write_policy("00-start.toml", &format!("{POLICY}# new\n"));
    let reloads = || ledger::records(&house.ledger()).iter().filter(|one| one["event"] == "policy_reloaded").count();
    let count = reloads();
    house.signal("run", Signal::SIGHUP);
    eventually("it is on record", PATIENCE, || (reloads() == count + 1).then_some(()));
    assert_eq!(["run", "signer", "front"].map(|role| house.pid(role)), before);
}
