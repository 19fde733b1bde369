//! What readyz and Health say in each phase: the table of docs/LIFECYCLE.md.

use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOp, Code, ServiceOp, Verdict};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;

use crate::support::passports::{demo, for_demo};
use crate::support::{House, Options, Roles, Users, eventually};

const PATIENCE: Duration = Duration::from_secs(20);
const NAMES: [&str; 8] = ["hsm", "policy", "audit", "state", "clock", "keys", "issuing", "serving"];

/// What the port says: status, `issue_ready`, `verify_ready`, and the conditions that don't hold, each with its detail.
type Said = (u16, bool, bool, Vec<(String, String)>);

fn readyz(house: &House) -> Said {
    let (status, body) = house.get("/readyz");
    let report: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {status} {body}"));
    let conditions = report["conditions"].as_array().unwrap();
    let names: Vec<_> = conditions.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, NAMES, "every condition by its name, always");
    for one in conditions {
        assert_eq!(one["ok"] == false, one["detail"].is_string(), "a detail for what does not hold: {body}");
    }
    let failing = conditions.iter().filter(|one| one["ok"] == false);
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let failing = failing.map(|one| (text(one, "name"), text(one, "detail"))).collect();
    let ready = |name: &str| report[name].as_bool().unwrap();
    (status, ready("issue_ready"), ready("verify_ready"), failing)
}

fn failing(name: &str, detail: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), detail.to_owned())]
}

/// The detail that admins see.
fn detail(house: &House, name: &str) -> String {
    let health = house.health();
    health.conditions.into_iter().find(|one| one.name == name).unwrap().detail
}

#[test]
fn a_pause_stops_issuing_and_a_drain_all_and_both_are_named() {
    let house = House::start(Options::default());
    assert_eq!(readyz(&house), (200, true, true, Vec::new()));
    let mut admin = house.admin_raw();
    admin.admin(AdminOp::PauseIssue { reason: "secret incident 42" }).unwrap();
    assert_eq!(readyz(&house), (503, false, true, failing("issuing", "paused by an admin")));
    assert!(!house.get("/readyz").1.contains("42"), "the port asks nobody who they are");
    assert_eq!(detail(&house, "issuing"), "paused: secret incident 42");
    admin.admin(AdminOp::ResumeIssue).unwrap();
    assert_eq!(readyz(&house), (200, true, true, Vec::new()));
    admin.admin(AdminOp::Drain).unwrap();
    assert_eq!(readyz(&house), (503, false, false, failing("serving", "no new work is taken")));
    assert_eq!(detail(&house, "serving"), "drained by an admin");
    admin.admin(AdminOp::Undrain).unwrap();
    assert_eq!(readyz(&house), (200, true, true, Vec::new()));
    assert_eq!(house.get("/healthz").0, 200);
}

#[test]
fn without_the_hsm_it_verifies_and_without_a_key_it_does_nothing() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    house.kill("signer");
    let lost = (503, false, true, failing("hsm", "the HSM does not sign"));
    eventually("it is noticed", PATIENCE, || (readyz(&house) == lost).then_some(()));
    assert!(!detail(&house, "hsm").is_empty());
    assert_eq!(house.get("/healthz").0, 200, "it lives");
    house.start_role("signer");
    house.wait_ready();

    let house = House::start(Options::default().without_keys());
    let none = (503, false, false, failing("keys", "no key signs passports"));
    eventually("the signer is there", PATIENCE, || (readyz(&house) == none).then_some(()));
    assert!(detail(&house, "keys").contains("passportctl hsm init"));
}

#[test]
fn with_a_clock_that_went_back_it_only_verifies() {
    let mut house = House::start(Options::default().users(Users::Own));
    let passport = house.raw().issue(passportd::wire::IssueSpec { ttl_s: Some(3600), ..demo("x") }).unwrap();
    house.restart_with_a_key_of_later();
    let behind = (503, false, true, failing("clock", "the clock can't be right"));
    eventually("all else is well", PATIENCE, || (readyz(&house) == behind).then_some(()));
    let mut raw = house.raw();
    let problem = raw.issue(demo("x")).unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::ClockSuspect, false), "{problem:?}");
    let batch = raw.ask(ServiceOp::IssueBatch(vec![demo("x"); 2])).unwrap_err();
    assert_eq!(batch.code, Code::ClockSuspect, "{batch:?}");
    assert_eq!(house.metric("passport_issuance_blocked_total{reason=\"clock_suspect\"}"), 2.0);
    assert!(matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    assert_eq!(crate::support::ledger::issued(&house.ledger()).len(), 1, "that of before");
}

/// What a state that can't be written keeps from being done is changes of keys.
#[test]
fn a_state_that_can_t_be_written_is_named_and_everything_is_issued_and_verified() {
    let house = House::start(Options::default().users(Users::Own));
    house.ceremony(PlanKind::Generate, "t1", "auth");
    // A file beyond this is a full disk to the front (EFBIG); the ledger is shorter.
    let bound = |current| {
        let front = Pid::from_raw(house.pid("front"));
        let maximum = prlimit_of(&house);
        prlimit(front, Resource::Fsize, Rlimit { current, maximum }).unwrap();
    };
    bound(Some(64 << 10));
    let next = "ed25519/t1/auth/v2";
    let refused = house.admin_raw().admin(AdminOp::Stage { kid: next }).unwrap_err();
    assert_eq!(refused.code, Code::StoreUnavailable, "{refused:?}");
    let named = (200, true, true, failing("state", "the state can't be written"));
    eventually("it is named", PATIENCE, || (readyz(&house) == named).then_some(()));
    assert!(detail(&house, "state").contains("/front/state.redb: "), "{}", detail(&house, "state"));
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    assert!(matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    bound(None);
    eventually("it is written again", PATIENCE, || (readyz(&house) == (200, true, true, Vec::new())).then_some(()));
    house.stage(next).unwrap();
}

/// The hard limit of a file's size, which stays.
fn prlimit_of(house: &House) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", house.pid("front"))).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max file size")).unwrap();
    line.split_whitespace().nth(4).unwrap().parse().ok()
}

#[test]
fn while_it_ends_the_port_still_answers_and_says_so() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let mut raw = house.raw();
    house.freeze("signer");
    // Keeps the end waiting, as long as the signer may take for an answer.
    raw.request(ServiceOp::Issue(demo("x")));
    eventually("it is under way", PATIENCE, || {
        (house.metric("passport_connections{socket=\"service\"}") == 1.0).then_some(())
    });
    house.signal("front", Signal::SIGTERM);
    let said = eventually("it drains", PATIENCE, || {
        let said = readyz(&house);
        said.3.contains(&("serving".to_owned(), "no new work is taken".to_owned())).then_some(said)
    });
    assert_eq!((said.0, said.1, said.2), (503, false, false));
    house.signal("signer", Signal::SIGCONT);
    assert!(house.stop().success());
}
