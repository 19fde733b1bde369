//! What the signer does about a module that hangs, starts slowly, gives few sessions, or leaks.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::beside::{Beside, Company, recovers};
use super::proc;
use super::support::passports::demo;
use super::support::{House, Options, Roles, eventually, process, root_or_skip};
use super::times::keep;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn more_calls_that_hang_than_may_end_the_signer_and_the_next_one_serves() {
    if !root_or_skip("calls that hang") {
        return;
    }
    let options = Options::default().roles(Roles::Apart).fault().set("hsm.op_timeout_ms", 300);
    let mut house = House::start(options.set("hsm.max_stuck", 2));
    let (signer, beside) = (house.pid("signer"), Beside::start(&house));
    house.fault("C_Sign hang");
    let begun = Instant::now();
    assert!(house.raw().issue(demo("first")).unwrap_err().retryable);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    // Whoever asks keeps it busy; its own probes would, too.
    for _ in 0..3 {
        assert!(house.raw().issue(demo("next")).is_err());
    }
    // By `_exit`: neither SIGABRT nor the SIGSEGV of destructors under the threads that are still inside.
    let status = house.ended(signer);
    assert_eq!(status.code(), Some(1), "{status}");
    let log = house.log();
    assert!(log.contains("3 threads are stuck in the module"), "{log}");
    house.no_fault();
    house.start_role("signer");
    eventually("passports are issued again", PATIENCE, || house.raw().issue(demo("again")).ok());
    assert!(beside.end(&house) > 0);
}

#[test]
fn signers_that_end_by_calls_that_hang_are_followed_by_one_that_serves() {
    if !root_or_skip("calls that hang") {
        return;
    }
    let lasts = Duration::from_secs(5);
    let house = House::start(Options::default().fault().set("hsm.op_timeout_ms", 300).set("hsm.max_stuck", 2));
    let (signer, company) = (house.pid("signer"), Company::start(&house, 4));
    house.fault("C_Sign hang");
    let begun = Instant::now();
    eventually("it shows", Duration::from_secs(2), || house.raw().issue(demo("first")).err());
    let answered = begun.elapsed();
    eventually("the next is started", lasts, || (house.pid("signer") != signer).then_some(()));
    // To it the same happens.
    std::thread::sleep(lasts.saturating_sub(begun.elapsed()));
    house.no_fault();
    keep(&house, "`C_Sign hang`, until more threads are stuck than may", Some(answered), recovers(&house));
    company.end(&house, &["busy", "hsm_timeout", "hsm_unavailable"]);
    let log = house.log();
    assert!(log.contains("3 threads are stuck in the module"), "{log}");
    assert!(house.metric("passport_signer_restarts_total") >= 1.0);
}

#[test]
fn a_slow_login_is_waited_for_and_made_once() {
    if !root_or_skip("a slow login") {
        return;
    }
    let options = Options::default().roles(Roles::Apart).fault().set("hsm.op_timeout_ms", 200);
    let mut house = House::start(options);
    house.kill("signer");
    // Longer than everything else may take together.
    house.fault("C_Login log delay=3000");
    let begun = Instant::now();
    house.start_role("signer");
    eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(house.calls("C_Login"), 1);
    assert_eq!(house.end("signer", Signal::SIGTERM).code(), Some(0));
}

/// With fewer sessions than configured, the login's among them.
fn few_sessions(sessions: u32) {
    if !root_or_skip("few sessions") {
        return;
    }
    let options = Options::default().roles(Roles::Apart).fault().set("hsm.sessions", 8);
    let mut house = House::start(options);
    house.kill("signer");
    house.fault(&format!("sessions={sessions}"));
    house.start_role("signer");
    eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
    house.wait_ready();
    let company = Company::start(&house, 4);
    std::thread::sleep(Duration::from_secs(1));
    // Everybody leaves the module and comes back to as few.
    house.fault(&format!("sessions={sessions}\nC_Sign log for=1 rv=0x190"));
    eventually("the call was made", PATIENCE, || (house.calls("C_Sign") > 0).then_some(()));
    std::thread::sleep(Duration::from_secs(1));
    let told = company.end(&house, &[]);
    assert!(told.jtis.len() > 100, "{}", told.jtis.len());
    let log = house.log();
    assert_eq!(log.matches("the token gives fewer sessions than configured").count(), 1, "{log}");
    assert!(log.contains(&format!("limit={}", (sessions - 1).max(1))), "{log}");
}

#[test]
fn a_token_of_one_session_signs_with_that_of_the_login() {
    few_sessions(1);
}

#[test]
fn a_token_of_four_sessions_signs_with_three() {
    few_sessions(4);
}

/// Two signers, one after the other, that a module has made grow: each is left, and nobody is told anything but passports.
fn leaks(roles: Roles) {
    if !root_or_skip("a module that leaks") {
        return;
    }
    let mut house = House::start(Options::default().roles(roles).fault().set("hsm.recycle_mib", 16));
    let company = Company::start(&house, 4);
    house.fault("C_Sign leak=16384");
    for recycled in 1..=2 {
        let signer = house.pid("signer");
        let largest = leaves(&mut house, signer, roles);
        eventually("passports are issued again", PATIENCE, || house.raw().issue(demo("again")).ok());
        let fresh = proc::rss_kib(house.pid("signer"));
        println!("left with {largest} KiB, and the next has {fresh} KiB");
        assert!(largest - fresh > 16 << 10, "what it leaked went with it: {largest} KiB, then {fresh} KiB");
        let counted = || (house.metric("passport_signer_recycled_total") >= f64::from(recycled)).then_some(());
        eventually("it is counted", PATIENCE, counted);
    }
    house.no_fault();
    let told = company.end(&house, &[]);
    assert!(told.jtis.len() > 100 && told.slowest < PATIENCE / 4, "{} {:?}", told.jtis.len(), told.slowest);
    assert_eq!(house.metric("passport_signer_restarts_total"), 0.0, "it was announced each time");
    let log = house.log();
    assert_eq!(log.matches("the signer is started afresh").count(), 2, "{log}");
    assert!(!log.contains("it ended; starting it again") && !log.contains("the HSM does not sign"), "in order: {log}");
    let afresh = if roles == Roles::Run { 2 } else { 0 };
    assert_eq!(log.matches("it ended to be started afresh").count(), afresh, "{log}");
}

/// Resident memory in KiB, while there is any.
fn resident(pid: i32) -> Option<i64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Waits until the signer has left and the next has been started; how large it grew.
fn leaves(house: &mut House, signer: i32, roles: Roles) -> i64 {
    let mut largest = 0;
    eventually("it is left behind", PATIENCE * 2, || {
        let alive = process::role_of(signer).is_some() && !process::gone(signer);
        // One that has just ended has no memory any more.
        if let Some(kib) = resident(signer).filter(|_| alive) {
            largest = largest.max(kib);
        }
        (!alive).then_some(())
    });
    if roles == Roles::Apart {
        assert_eq!(house.ended(signer).code(), Some(0));
        // `RestartSec=` of the unit.
        std::thread::sleep(Duration::from_secs(1));
        house.start_role("signer");
    }
    largest
}

#[test]
fn a_module_that_leaks_is_left_behind_twice_and_nobody_is_told() {
    leaks(Roles::Run);
}

#[test]
fn a_module_that_leaks_is_left_behind_twice_under_systemds_pause() {
    leaks(Roles::Apart);
}

#[test]
fn all_calls_hang_and_nobody_waits_for_a_second_deadline() {
    if !root_or_skip("calls that hang") {
        return;
    }
    let deadline = Duration::from_secs(2);
    let house = House::start(Options::default().fault().set("hsm.op_timeout_ms", 2_000).set("hsm.max_stuck", 64));
    // 64 requests under way: more than the 40 that two sessions have inside.
    let company = Company::start(&house, 8);
    house.fault("C_Sign hang");
    let begun = Instant::now();
    let told = eventually("a request runs into its deadline", PATIENCE, || house.raw().issue(demo("first")).err());
    assert!(told.retryable, "{told:?}");
    let answered = begun.elapsed();
    std::thread::sleep(deadline * 2);
    house.no_fault();
    keep(&house, "`C_Sign hang`", Some(answered), recovers(&house));
    let told = company.end(&house, &["busy", "hsm_timeout", "hsm_unavailable"]);
    assert!(
        ["hsm_timeout", "hsm_unavailable"].iter().all(|code| told.problems.contains_key(*code)),
        "{:?}",
        told.problems
    );
    assert!(told.slowest < deadline * 2 - Duration::from_millis(250), "{:?}", told.slowest);
}
