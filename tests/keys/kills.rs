//! Kills in the middle of every change of a key: afterwards it has happened or it has not, what happened is on record, what was
//! answered has happened, and the key set contains what signs.

use std::time::Duration;

use passportd::clock::Moment;
use passportd::state::{Change, Mode, NewKey, Role, Store};
use passportd::wire::{AdminOk, AdminOp, Code, Problem};

use super::support::passports::demo;
use super::support::raw::Raw;
use super::support::{House, Options, Users, ledger, rounds};
use super::{ask, kid, published, said};

/// Sends an operation, kills the front after a while, and starts it again. What it answered, if it did.
fn killed(
    house: &mut House,
    after: Duration,
    op: impl FnOnce(&mut Raw) -> Result<AdminOk, Problem> + Send + 'static,
) -> Option<AdminOk> {
    let mut admin = house.admin_raw();
    let asked = std::thread::spawn(move || {
        // Without an answer the connection is closed, which is a panic of the test's client.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| op(&mut admin))).ok()
    });
    std::thread::sleep(after);
    house.kill("front");
    let answer = asked.join().unwrap();
    house.wait_ready();
    // One that is just going down may say so.
    answer.and_then(Result::ok)
}

/// What signs is published, and the newest record of its kind is there for whatever a key is.
fn check(house: &House, kid: &str, done: bool, state: &str, event: &str) -> bool {
    let mut raw = house.raw();
    let signs = raw.issue(demo("x")).unwrap().kid;
    assert!(published(&mut raw).contains(&signs), "{signs} is not in the key set");
    assert_eq!(said(house, &signs)["state"], "active");
    let known = ledger::records(&house.ledger());
    let recorded = known.iter().any(|one| one["event"] == event && one["kid"] == kid && one["outcome"] == "ok");
    let AdminOk::Status(text) = ask(house, AdminOp::Status).unwrap() else { panic!("no status") };
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let key = status["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid);
    let happened = key.is_some_and(|key| match event {
        "key_confirmed" => !key["confirmed_at"].is_null(),
        _ => key["state"] == state,
    });
    assert!(!happened || recorded, "{kid} is {state} without a {event}");
    assert!(!done || happened, "{kid}: {event} was answered, and is gone");
    happened
}

#[test]
fn a_kill_between_any_two_steps_leaves_a_change_done_or_not_done() {
    let mut house = House::start(Options::default());
    for round in 0..rounds(3) {
        let millis = |step: u32| Duration::from_millis(u64::from((round * 5 + step * 3) % 14));
        let signs = house.raw().issue(demo("x")).unwrap().kid;
        let made = house.ceremony(passportd::wire::ceremony::PlanKind::Generate, "t1", "auth");
        let next = made.keys.into_iter().find(|key| key.made_now).unwrap().kid;
        // The signer has the new key by then: what is killed is the front's part.
        let one = next.clone();
        let answer = killed(&mut house, millis(1), move |admin| admin.admin(AdminOp::Stage { kid: &one }));
        check(&house, &next, answer.is_some(), "staged", "key_staged");
        house.stage(&next).unwrap();
        let one = next.clone();
        let answer = killed(&mut house, millis(2), move |admin| admin.admin(AdminOp::Activate { kid: &one }));
        check(&house, &next, answer.is_some(), "active", "key_activated");
        house.activate(&next).unwrap();
        if round % 2 == 0 {
            let back = AdminOp::Rollback { tenant: "t1", purpose: "auth", reason: "a test" };
            let answer = killed(&mut house, millis(3), move |admin| admin.admin(back));
            let back = check(&house, &signs, answer.is_some(), "active", "key_rolled_back");
            assert_eq!(said(&house, &next)["state"], if back { "retired" } else { "active" });
        } else {
            let one = next.clone();
            let answer = killed(&mut house, millis(3), move |admin| admin.admin(AdminOp::Confirm { kid: &one }));
            check(&house, &next, answer.is_some(), "active", "key_confirmed");
        }
    }
    assert!(published(&mut house.raw()).len() > 1);
    house.assert_on_record([]);
}

/// Starts anew with staged keys that are not in the HSM.
fn with_absent_keys(house: &mut House, purposes: &[String]) {
    house.stop();
    let now = Moment::now();
    let store = Store::open(&house.dir().join("front/state.redb"), Mode::Existing, now).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (purpose, seed) in purposes.iter().zip(1..) {
        let public = Some(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes());
        let (tenant, purpose, role) = ("t1".to_owned(), purpose.clone(), Role::Passport);
        let kid = format!("ed25519/{tenant}/{purpose}/v1");
        let key = NewKey { kid, tenant, purpose, version: 1, role, public, created: now.unix() };
        let change = Change::keys(store.keys().stage(key, now.unix()).unwrap());
        runtime.block_on(store.commit(change, 1)).unwrap();
    }
    store.close();
    house.boot();
    house.wait_ready();
}

#[test]
fn a_key_that_is_gone_is_destroyed_for_good_whenever_the_front_is_killed() {
    let mut house = House::start(Options::default().users(Users::Own));
    let purposes: Vec<_> = (0..rounds(3)).map(|n| format!("gone{n}")).collect();
    with_absent_keys(&mut house, &purposes);
    for (purpose, millis) in purposes.iter().zip((0..14).step_by(3).cycle()) {
        let gone = format!("ed25519/t1/{purpose}/v1");
        let one = gone.clone();
        let answer = killed(&mut house, Duration::from_millis(millis), move |admin| {
            admin.admin(AdminOp::Destroyed { kid: &one })
        });
        check(&house, &gone, answer.is_some(), "destroyed", "key_destroyed");
        // Again is the same, and it never comes back.
        for _ in 0..2 {
            assert_eq!(ask(&house, AdminOp::Destroyed { kid: &gone }), Ok(AdminOk::Done));
        }
        assert!(!published(&mut house.raw()).contains(&gone));
        assert_eq!(ask(&house, AdminOp::Activate { kid: &gone }).unwrap_err().code, Code::OpDenied);
    }
    assert_eq!(published(&mut house.raw()), [kid(1)].into());
}
