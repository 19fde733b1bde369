//! Sessions that nobody uses: all are looked after, and what the module has closed meanwhile is replaced before it is missed.

use std::time::{Duration, Instant};

use passportd::wire::ServiceOp;

use super::beside::Beside;
use super::support::passports::demo;
use super::support::{House, Options, eventually, root_or_skip};

/// `hsm.keepalive_s`.
const KEEPALIVE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(15);
/// The threads of a pool of two: the workers, and who holds the login.
const THREADS: [&str; 3] = ["hsm-0", "hsm-1", "hsm-healer"];

/// A house in which nobody asks for a signature, and somebody who verifies.
fn house(test: &str, keepalive_s: i64, sessions: i64) -> Option<(House, Beside)> {
    if !root_or_skip(test) {
        return None;
    }
    let options = Options::default().fault().set("hsm.keepalive_s", keepalive_s).set("hsm.sessions", sessions);
    let house = House::start(options);
    let beside = Beside::start(&house);
    // Several at once, and slow: each worker gets one, and so a session.
    house.fault("C_Sign delay=50");
    let mut raw = house.raw();
    for _ in 0..8 {
        raw.request(ServiceOp::Issue(demo("at first")));
    }
    (0..8).for_each(|_| drop(raw.reply().result.unwrap()));
    Some((house, beside))
}

#[test]
fn idle_sessions_are_looked_after_all_of_them() {
    let Some((house, beside)) = house("idle sessions", 1, 2) else { return };
    house.fault("C_GetSessionInfo log\nC_Sign log\nC_OpenSession log\nC_Login log");
    let begun = Instant::now();
    let of = |thread: &str, callers: &[String]| callers.iter().filter(|caller| *caller == thread).count();
    let callers = eventually("each was looked after three times", PATIENCE, || {
        let callers = house.callers("C_GetSessionInfo");
        THREADS.iter().all(|thread| of(thread, &callers) >= 3).then_some(callers)
    });
    let rounds = usize::try_from(begun.elapsed().as_secs() / KEEPALIVE.as_secs()).unwrap() + 1;
    assert!(THREADS.iter().all(|thread| of(thread, &callers) <= rounds), "more often than asked for: {callers:?}");
    assert!(callers.iter().all(|caller| THREADS.contains(&caller.as_str())), "{callers:?}");
    assert_eq!(["C_Sign", "C_OpenSession", "C_Login"].map(|function| house.calls(function)), [0; 3], "nobody asked");
    // The sessions are those of before.
    house.raw().issue(demo("at last")).unwrap();
    assert_eq!(["C_OpenSession", "C_Login"].map(|function| house.calls(function)), [0; 2]);
    beside.end(&house);
}

#[test]
fn nobody_looks_after_sessions_where_none_was_asked_to() {
    let Some((house, beside)) = house("idle sessions", 0, 2) else { return };
    house.fault("C_GetSessionInfo log");
    std::thread::sleep(KEEPALIVE * 3);
    house.raw().issue(demo("at last")).unwrap();
    assert_eq!(house.calls("C_GetSessionInfo"), 0);
    beside.end(&house);
}

#[test]
fn a_session_that_has_died_idle_is_replaced_before_it_is_missed() {
    let Some((house, beside)) = house("idle sessions", 1, 1) else { return };
    let (worker, login) = (THREADS[0], THREADS[2]);
    // Two answers of the module, and a state without a login.
    for died in ["rv=0xB3", "rv=0xB0", "state=0"] {
        for thread in [worker, login] {
            let before = ["C_GetSessionInfo", "C_Login", "C_OpenSession"].map(|function| house.calls(function));
            let log = "C_Login log\nC_OpenSession log";
            house.fault(&format!("C_GetSessionInfo log {died} for=1 thread={thread}\n{log}"));
            eventually("it has died", PATIENCE, || (house.calls("C_GetSessionInfo") > before[0]).then_some(()));
            // The session that holds the login is missed by all; a worker's by nobody, if the login holds.
            let logs_in = thread == login || died == "state=0";
            if logs_in {
                eventually("another login", PATIENCE, || (house.calls("C_Login") > before[1]).then_some(()));
            }
            house.raw().issue(demo("as if nothing had been")).unwrap();
            assert_eq!(house.calls("C_Login"), before[1] + usize::from(logs_in), "{died} of {thread}");
            let opened = house.callers("C_OpenSession").split_off(before[2]);
            assert_eq!(opened.iter().filter(|by| *by == worker).count(), 1, "{died} of {thread}: {opened:?}");
        }
    }
    assert!(!house.log().contains("signing failed"), "no request has noticed: {}", house.log());
    beside.end(&house);
}
