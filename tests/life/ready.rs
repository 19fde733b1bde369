//! What readyz and Health say in each phase: the table of docs/LIFECYCLE.md.

use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::{AdminOp, ServiceOp};
use serde_json::Value;

use crate::support::passports::demo;
use crate::support::{House, Options, Roles, eventually};

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
