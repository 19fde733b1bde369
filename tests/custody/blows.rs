//! Blows that a signer does not parry: it is killed, stopped, crashed by its module, or kept waiting for a login.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::beside::{Company, recovers, recovers_since};
use super::support::passports::demo;
use super::support::{House, Options, eventually, root_or_skip, rounds};
use super::times::keep;

const KILLS: u32 = 10;
/// How long a blow lasts.
const LASTS: Duration = Duration::from_secs(3);

#[test]
fn a_signer_is_killed_ten_times() {
    let mut house = House::start(Options::default());
    let company = Company::start(&house, 4);
    let mut slowest = Duration::ZERO;
    for _ in 0..KILLS {
        let killed = Instant::now();
        house.kill("signer");
        eventually("readyz follows", LASTS, || (house.get("/readyz").0 == 503).then_some(()));
        // The pause of `run`, which is longer the more often a role falls, is part of it.
        slowest = slowest.max(recovers_since(&house, killed));
    }
    keep(&house, "the slowest of ten times `SIGKILL`", None, slowest);
    let told = company.end(&house, &["hsm_unavailable"]);
    assert!(told.problems.contains_key("hsm_unavailable"), "requests were under way");
    assert_eq!(house.metric("passport_signer_restarts_total"), f64::from(KILLS));
}

#[test]
fn a_signer_is_stopped_for_three_seconds() {
    let house = House::start(Options::default().set("hsm.op_timeout_ms", 500));
    let signer = house.pid("signer");
    let company = Company::start(&house, 4);
    house.freeze("signer");
    let begun = Instant::now();
    let problem = eventually("it shows", LASTS, || house.raw().issue(demo("first")).err());
    assert!(problem.retryable && begun.elapsed() < Duration::from_secs(2), "{problem:?} after {:?}", begun.elapsed());
    let told = begun.elapsed();
    std::thread::sleep(LASTS.saturating_sub(told));
    house.signal("signer", Signal::SIGCONT);
    keep(&house, "SIGSTOP", Some(told), recovers(&house));
    company.end(&house, &["hsm_unavailable", "hsm_timeout", "busy"]);
    assert_eq!(house.pid("signer"), signer, "the same signer");
}

#[test]
fn a_module_that_crashes_takes_the_signer_along_and_nobody_else() {
    if !root_or_skip("a module that crashes") {
        return;
    }
    let house = House::start(Options::default().fault());
    let signer = house.pid("signer");
    let company = Company::start(&house, 4);
    // Each signer that is started meanwhile, too.
    house.fault("C_Sign kill=SEGV after=20");
    let begun = Instant::now();
    eventually("another is started", LASTS, || (house.pid("signer") != signer).then_some(()));
    std::thread::sleep(LASTS.saturating_sub(begun.elapsed()));
    house.no_fault();
    keep(&house, "`C_Sign kill=SEGV after=20`", None, recovers(&house));
    company.end(&house, &["hsm_unavailable"]);
    assert!(house.log().contains("SIGSEGV"), "{}", house.log());
    assert!(house.metric("passport_signer_restarts_total") >= 2.0);
}

/// Thirty seconds in `make soak`.
#[test]
fn a_slow_login_is_waited_for_beside_verifiers() {
    if !root_or_skip("a slow login") {
        return;
    }
    let takes = Duration::from_secs(u64::from(rounds(4).clamp(4, 30)));
    let mut house = House::start(Options::default().fault().set("hsm.op_timeout_ms", 200));
    let company = Company::start(&house, 2);
    house.fault(&format!("C_Login log delay={}", takes.as_millis()));
    let begun = Instant::now();
    house.kill("signer");
    let started = house.pid("signer");
    // It is over when that call comes back.
    eventually("the login is under way", LASTS, || (house.calls("C_Login") == 1).then_some(()));
    let over = Instant::now() + takes;
    while begun.elapsed() < takes.saturating_sub(Duration::from_millis(500)) {
        assert_eq!(house.pid("signer"), started, "its start is not given up");
        assert_eq!(house.get("/readyz").0, 503, "{:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(100));
    }
    house.no_fault();
    std::thread::sleep(over.saturating_duration_since(Instant::now()));
    keep(&house, &format!("`C_Login delay={}`", takes.as_millis()), None, recovers_since(&house, over));
    company.end(&house, &["hsm_unavailable"]);
    assert_eq!((house.calls("C_Login"), house.pid("signer")), (1, started), "one login, of one signer");
}
