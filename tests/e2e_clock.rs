//! A clock that is wrong: no passport that is over is good again, nothing is issued by it, and a right one is believed.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, IssueSpec, Verdict};
use support::clock::Clock;
use support::passports::{demo, for_demo};
use support::{House, Options, Users, eventually, ledger};

const PATIENCE: Duration = Duration::from_secs(20);
const DAY: i64 = 86_400;
const WRONG: &str = "ERROR front: the clock can't be right";
const RIGHT: &str = "INFO front: the clock may be right again";

/// A house that goes by `clock`, a passport that is good for an hour, and one that is over.
fn house(clock: &Clock) -> (House, OwnedEnvelope, OwnedEnvelope) {
    let options = Options::default().users(Users::Own).set("passport.clock_skew_s", 0);
    let house = House::start(clock.options(options));
    let mut raw = house.raw();
    let good = raw.issue(demo("good")).unwrap();
    let over = raw.issue(IssueSpec { ttl_s: Some(1), ..demo("over") }).unwrap();
    eventually("it is over", PATIENCE, || (verdict(&house, &over) == Verdict::Refused(Code::Expired)).then_some(()));
    (house, good, over)
}

fn verdict(house: &House, passport: &OwnedEnvelope) -> Verdict {
    house.raw().verify(for_demo(), passport).unwrap()
}

fn is_good(house: &House, passport: &OwnedEnvelope) -> bool {
    matches!(verdict(house, passport), Verdict::Accepted(_))
}

/// What the condition `clock` says; none while it holds.
fn trouble(house: &House) -> Option<String> {
    let clock = house.health().conditions.into_iter().find(|one| one.name == "clock").unwrap();
    (!clock.ok).then_some(clock.detail)
}

fn assert_suspect(house: &House, says: &str) {
    let why = trouble(house).expect("the clock is in doubt");
    assert!(why.contains(says), "{says}: {why}");
    let problem = house.raw().issue(demo("x")).unwrap_err();
    assert_eq!(problem.code, Code::ClockSuspect, "{problem:?}");
}

fn recovers(house: &House) {
    house.wait_ready();
    assert_eq!(trouble(house), None);
    let fresh = house.raw().issue(demo("fresh")).unwrap();
    assert!(is_good(house, &fresh));
}

fn start(house: &mut House) {
    house.start_role("front");
    eventually("it answers", PATIENCE, || support::raw::Raw::connect(&house.admin_socket()).ok()?.greet().ok());
}

fn tool(house: &House, clock: &Clock, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.args(arguments).arg("--config").arg(house.dir().join("passportd.toml")).envs(clock.environment());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn a_step_while_it_runs_stops_issuing_and_revives_nothing() {
    let clock = Clock::new();
    let (house, good, over) = house(&clock);
    for (off, says) in [
        (10 * DAY, "was set forward by 86"),
        (-10 * DAY, "was set back by 86"),
        (3650 * DAY, "was set forward by 315"),
        (-20_000 * DAY, "was set back"),
    ] {
        clock.step(off);
        // At once, not when somebody looks the next time.
        assert_suspect(&house, says);
        eventually("readyz says so", PATIENCE, || (house.get("/readyz").0 == 503).then_some(()));
        assert!(!is_good(&house, &over), "{off}: what was over stays so");
        // What would be over by the clock is refused, and what is good by what is known of the time is accepted.
        assert_eq!(is_good(&house, &good), off < 0, "{off}");
        let said = |words: &str| house.log().lines().filter(|line| line.contains(words)).count();
        let right = said(RIGHT);
        eventually("it is logged", PATIENCE, || (said(WRONG) > right).then_some(()));
        clock.step(0);
        recovers(&house);
        eventually("so is the end", PATIENCE, || (said(RIGHT) == right + 1).then_some(()));
        assert_eq!(said(WRONG), right + 1, "once each");
        assert!(is_good(&house, &good), "{off}: corrected");
        assert!(!is_good(&house, &over), "{off}: corrected");
    }
    clock.step(200);
    recovers(&house);
}

#[test]
fn a_clock_put_back_across_a_restart_revives_nothing_even_after_a_kill() {
    let clock = Clock::new();
    let (mut house, good, over) = house(&clock);
    for killed in [false, true] {
        if killed {
            house.kill("front");
        } else {
            house.end("front", Signal::SIGTERM);
        }
        clock.step(-10 * DAY);
        start(&mut house);
        assert_suspect(&house, "s behind a time that has been");
        assert!(!is_good(&house, &over), "killed: {killed}");
        assert!(is_good(&house, &good), "killed: {killed}");
        clock.step(0);
        recovers(&house);
        assert!(is_good(&house, &good) && !is_good(&house, &over));
    }
}

#[test]
fn a_clock_absurdly_far_ahead_at_a_start_is_not_believed() {
    let clock = Clock::new();
    let (mut house, good, over) = house(&clock);
    house.end("front", Signal::SIGTERM);
    clock.step(3650 * DAY);
    start(&mut house);
    assert_suspect(&house, "s ahead of the newest time that is known");
    assert!(!is_good(&house, &good) && !is_good(&house, &over));
    std::thread::sleep(Duration::from_millis(1200));
    clock.step(0);
    recovers(&house);
    assert!(is_good(&house, &good), "the state has not taken it for a time that has been");
    assert!(!is_good(&house, &over));
}

#[test]
fn what_was_believed_wrongly_is_reset_with_an_end_of_every_epoch() {
    let clock = Clock::new();
    let (mut house, good, over) = house(&clock);
    house.stop();
    clock.step(10 * DAY);
    house.boot();
    // The signer has a clock of its own here, and issues nothing by the front's.
    assert_eq!(trouble(&house), None);
    assert!(!is_good(&house, &good), "it has been off for ten days, as it seems");
    let (code, text) = tool(&house, &clock, &["ceremony", "clock-reset", "--yes"]);
    assert!(code == Some(1) && text.contains("is in use by pid"), "{text}");
    house.stop();
    clock.step(0);
    house.boot();
    assert_suspect(&house, "passportctl ceremony clock-reset");
    house.end("front", Signal::SIGTERM);

    let (code, text) = tool(&house, &clock, &["ceremony", "clock-reset"]);
    assert!(code == Some(2) && text.contains("give --yes"), "{text}");
    let (code, text) = tool(&house, &clock, &["ceremony", "clock-reset", "--dry-run"]);
    assert!(code == Some(0) && text.contains("would take the clock, which stands 86"), "{text}");
    let (code, text) = tool(&house, &clock, &["ceremony", "clock-reset", "--reason", "battery", "--yes"]);
    assert!(code == Some(0) && text.contains("the next start revokes every passport"), "{text}");
    start(&mut house);
    recovers(&house);
    for old in [&good, &over] {
        assert!(!is_good(&house, old), "no passport of before is good again");
    }
    assert_eq!(verdict(&house, &good), Verdict::Refused(Code::Revoked));
    let records = ledger::records(&house.ledger());
    let reset: Vec<_> = records.iter().filter(|one| one["event"] == "clock_reset").collect();
    assert!(reset.len() == 1 && reset[0]["detail"].as_str().unwrap().contains("battery"), "{reset:?}");
}
