//! What is told to the service manager, over a socket like systemd's.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::wire::{AdminOp, Code};

use crate::ear::Ear;
use crate::support::options::POLICY;
use crate::support::passports::demo;
use crate::support::process::OWN_WATCHDOG;
use crate::support::{House, Options, Roles};

/// A house whose front has an ear to talk to.
fn front(ear: &Ear) -> Options {
    Options::default().roles(Roles::Apart).environment("front", "NOTIFY_SOCKET", &ear.address)
}

/// What takes long to read: 48 MiB of it.
struct SlowPolicy(Vec<PathBuf>);

impl SlowPolicy {
    fn of(house: &House) -> Self {
        let line = format!("# {}\n", "x".repeat(98));
        let text = line.repeat(250 * 1024 / line.len());
        let names: Vec<_> = (0..192).map(|n| format!("50-{n}.toml")).collect();
        names.iter().for_each(|name| house.write_policy(name, &text));
        Self(names.iter().map(|name| house.dir().join("policy.d").join(name)).collect())
    }

    fn remove(self) {
        self.0.iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
}

fn status(part: &str) -> impl Fn(&str) -> bool {
    move |line| line.strip_prefix("STATUS=").is_some_and(|status| status.contains(part))
}

#[test]
fn the_front_says_in_which_phase_it_is_at_an_abstract_address_too() {
    let mut ear = Ear::abstract_name();
    // The address is connected before Landlock, which would refuse it (Linux 6.12).
    let mut house = House::start(front(&ear));
    let ready = ear.next();
    assert!(ready.starts_with("READY=1\nSTATUS=serving;"), "{ready:?}");
    assert_eq!(ear.until(status("serving; keys 1")), "STATUS=serving; keys 1\n");

    let mut admin = house.admin_raw();
    admin.admin(AdminOp::PauseIssue { reason: "incident 42\nREADY=1" }).unwrap();
    assert_eq!(ear.next(), "STATUS=serving; issuing paused by an admin; keys 1\n", "why is not for every user");
    admin.admin(AdminOp::ResumeIssue).unwrap();
    assert_eq!(ear.next(), "STATUS=serving; keys 1\n");
    admin.admin(AdminOp::Drain).unwrap();
    assert_eq!(ear.next(), "STATUS=drained by an admin; keys 1\n");
    admin.admin(AdminOp::Undrain).unwrap();
    assert_eq!(ear.next(), "STATUS=serving; keys 1\n");

    house.kill("signer");
    assert_eq!(ear.next(), "STATUS=serving; the HSM does not sign; keys 1\n");
    house.start_role("signer");
    ear.until(status("serving; keys 1"));

    assert!(house.stop().success());
    let stopping = ear.until(|line| line == "STOPPING=1");
    let lines: Vec<_> = stopping.lines().collect();
    // The graceful time of 3 s, and 10 s to close the books.
    assert_eq!(lines[2], "EXTEND_TIMEOUT_USEC=13000000", "{stopping:?}");
    assert!(lines[1].starts_with("STATUS=ending; connections "), "{stopping:?}");
    let heard = ear.so_far();
    let after = heard.iter().position(|one| *one == stopping).unwrap();
    assert!(!heard[after..].iter().any(|one| one.contains("READY=1")), "{heard:#?}");
    assert!(!heard.iter().any(|one| one.contains("WATCHDOG")), "nobody watches");
}

#[test]
fn a_reload_is_announced_and_over_before_the_admin_hears_of_it() {
    let mut ear = Ear::abstract_name();
    let house = House::start(front(&ear));
    ear.until(status("serving; keys 1"));
    for (policy, good) in
        [(format!("{POLICY}# new\n"), true), ("[[peer]]\n".to_owned(), false), (POLICY.to_owned(), true)]
    {
        house.write_policy("00-start.toml", &policy);
        ear.so_far();
        assert_eq!(house.admin_raw().admin(AdminOp::Reload).is_ok(), good);
        let heard = ear.so_far();
        let [begun, over] = &heard[..] else { panic!("{heard:#?}") };
        let lines: Vec<_> = begun.lines().collect();
        assert_eq!((lines[0], lines[2]), ("RELOADING=1", "STATUS=reloading"), "{begun:?}");
        assert!(lines[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse::<u64>().unwrap() > 0, "{begun:?}");
        assert_eq!(over, "READY=1\nSTATUS=serving; keys 1\n", "whether it was good or not");
    }
    house.signal("front", Signal::SIGHUP);
    ear.until(|line| line == "RELOADING=1");
    assert_eq!(ear.next(), "READY=1\nSTATUS=serving; keys 1\n");
}

/// The longest that `passportctl` waits for anything else, and some more.
const OTHERS_WAIT: Duration = Duration::from_secs(12);

#[test]
fn passportctl_waits_for_the_verdict_on_a_reload_however_long_that_takes() {
    let mut ear = Ear::abstract_name();
    let house = House::start(front(&ear));
    ear.until(status("serving; keys 1"));
    let _slow = SlowPolicy::of(&house);
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().args(["reload", "--output", "json", "--admin-socket"]).arg(house.admin_socket());
    let mut asked = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    ear.until(|line| line == "RELOADING=1");
    house.freeze("front");
    let begun = Instant::now();
    while begun.elapsed() < OTHERS_WAIT {
        assert_eq!(asked.try_wait().unwrap(), None, "it gave up, and the daemon goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    house.signal("front", Signal::SIGCONT);
    let output = asked.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let records = crate::support::ledger::records(&house.ledger());
    let reloaded = records.iter().rfind(|one| one["event"] == "policy_reloaded").unwrap()["detail"].to_string();
    assert!(reloaded.contains(told["new_policy"].as_str().unwrap()), "{told} {reloaded}");
}

#[test]
fn sigterm_during_a_reload_does_not_wait_for_it_and_nothing_changes() {
    let mut ear = Ear::abstract_name();
    let mut house = House::start(front(&ear));
    ear.until(status("serving; keys 1"));
    let _slow = SlowPolicy::of(&house);
    let mut admin = house.admin_raw();
    let problem = std::thread::scope(|scope| {
        let asked = scope.spawn(|| admin.admin(AdminOp::Reload));
        ear.until(|line| line == "RELOADING=1");
        house.signal("front", Signal::SIGTERM);
        asked.join().unwrap().unwrap_err()
    });
    assert_eq!(problem.code, Code::Draining, "{problem:?}");
    assert!(problem.message.contains("not reloaded, what was in force stays so: the daemon is ending"), "{problem:?}");
    assert!(house.stop().success());
    let heard = ear.so_far();
    let at = heard.iter().position(|one| one.starts_with("RELOADING=1")).unwrap();
    assert!(!heard[at..].iter().any(|one| one.contains("READY=1")), "{heard:#?}");
    let records = crate::support::ledger::records(&house.ledger());
    let events: Vec<_> = records.iter().map(|one| one["event"].as_str().unwrap()).collect();
    assert_eq!(events[events.len() - 2..], ["config_refused", "daemon_stopping"]);
    let given_up = &records[events.len() - 2];
    assert_eq!(
        (&given_up["outcome"], &given_up["reason"]),
        (&"failed".into(), &"ending".into()),
        "no word on the files"
    );
    assert!(!events.contains(&"policy_reloaded"));
}

#[test]
fn the_front_and_the_signer_say_that_they_make_progress_where_somebody_watches() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (mut front, mut signer) = (Ear::abstract_name(), Ear::at(&dir.path().join("signer")));
    let mut options = Options::default().roles(Roles::Apart);
    for (role, ear) in [("front", &front), ("signer", &signer)] {
        options = options.environment(role, "NOTIFY_SOCKET", &ear.address).environment(role, "WATCHDOG_USEC", "90000");
    }
    let mut house = House::start(options);
    // Idle, and with work.
    for ear in [&mut front, &mut signer] {
        (0..3).for_each(|_| drop(ear.until(|line| line == "WATCHDOG=1")));
        let heard = ear.so_far();
        assert!(heard[0].starts_with("READY=1\nSTATUS=serving; "), "{heard:#?}");
    }
    let mut raw = house.raw();
    (0..50).for_each(|_| drop(raw.issue(demo("x")).unwrap()));
    for ear in [&mut front, &mut signer] {
        (0..3).for_each(|_| drop(ear.until(|line| line == "WATCHDOG=1")));
    }
    drop(raw);
    assert!(house.stop().success());
    let stopping = signer.until(|line| line == "STOPPING=1");
    assert_eq!(stopping, "STOPPING=1\nSTATUS=ending\nEXTEND_TIMEOUT_USEC=10000000\n");
}

#[test]
fn under_run_the_fronts_work_is_the_sign_of_life_and_nothing_else_is() {
    let mut ear = Ear::abstract_name();
    let options = Options::default().environment("run", "NOTIFY_SOCKET", &ear.address);
    let (name, own) = OWN_WATCHDOG;
    let mut house = House::start(options.environment("run", "WATCHDOG_USEC", "90000").environment("run", name, own));
    (0..3).for_each(|_| drop(ear.until(|line| line == "WATCHDOG=1")));
    // `run` and the signer live on.
    house.freeze("front");
    ear.so_far();
    std::thread::sleep(Duration::from_millis(300));
    let heard = ear.so_far();
    assert!(!heard.iter().any(|one| one.contains("WATCHDOG")), "{heard:#?}");
    house.signal("front", Signal::SIGCONT);
    ear.until(|line| line == "WATCHDOG=1");
    house.kill("front");
    ear.so_far();
    ear.until(|line| line == "READY=1");
    ear.until(|line| line == "WATCHDOG=1");
}

#[test]
fn sighups_that_come_during_a_reload_are_one_more() {
    let mut ear = Ear::abstract_name();
    let house = House::start(front(&ear));
    ear.until(status("serving; keys 1"));
    // A reload that was over before the last of them proves nothing, so it is tried again.
    assert!((0..10).any(|_| all_during_one_reload(&house, &mut ear)), "no reload lasted long enough");
    for _ in 0..2 {
        ear.until(|line| line == "READY=1");
    }
    ear.so_far();
    // Its turn comes after whatever else waits for one.
    house.admin_raw().admin(AdminOp::Reload).unwrap();
    let reloads = ear.so_far().iter().filter(|one| one.starts_with("RELOADING=1")).count();
    assert_eq!(reloads, 1, "the admin's own");
}

/// Eleven SIGHUPs, and whether the reload of the first was still under way when the front had got the last.
fn all_during_one_reload(house: &House, ear: &mut Ear) -> bool {
    let slow = SlowPolicy::of(house);
    ear.so_far();
    house.signal("front", Signal::SIGHUP);
    ear.until(|line| line == "RELOADING=1");
    for _ in 0..10 {
        house.signal("front", Signal::SIGHUP);
        // Those that come at one time are one to the kernel already; and the last needs its time to arrive.
        std::thread::sleep(Duration::from_millis(5));
    }
    let during = !ear.so_far().iter().any(|one| one.contains("READY=1"));
    slow.remove();
    if !during {
        // Nothing of these may be left when the next are sent.
        house.admin_raw().admin(AdminOp::Reload).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        house.admin_raw().admin(AdminOp::Reload).unwrap();
        ear.so_far();
    }
    during
}

#[test]
fn a_watchdog_of_another_process_is_not_ours() {
    let mut ear = Ear::abstract_name();
    let options = front(&ear).environment("front", "WATCHDOG_USEC", "3000").environment("front", "WATCHDOG_PID", "1");
    let mut house = House::start(options);
    house.raw().issue(demo("x")).unwrap();
    assert!(house.stop().success());
    ear.until(|line| line == "STOPPING=1");
    let heard = ear.so_far();
    assert!(!heard.iter().any(|one| one.contains("WATCHDOG")), "{heard:#?}");
}
