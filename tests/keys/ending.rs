//! The end of a retired key: by itself, on record first, not by a clock that may be wrong; and what comes after it.

use std::time::Duration;

use passportd::state::PAST_LAST_S;
use passportd::wire::{AdminOk, AdminOp, Code, Cursor, Problem, ServiceOk, ServiceOp, Topic, Verdict, Watched, What};

use super::support::clock::Clock;
use super::support::house::FIRST_KEY;
use super::support::passports::{demo, for_demo};
use super::support::raw::Raw;
use super::support::{House, Options, Users, eventually, ledger};
use super::{ask, kid, published, said, staged};

const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a passport lives here.
const LIFETIME_S: i64 = 60;

fn destroyed(house: &House, kid: &str) -> Result<AdminOk, Problem> {
    ask(house, AdminOp::Destroyed { kid })
}

fn watched(raw: &mut Raw, after: Option<Cursor>) -> Watched {
    match raw.ask(ServiceOp::Watch { topics: vec![Topic::Keys], after, wait_ms: 1000 }).unwrap() {
        ServiceOk::Watched(watched) => watched,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_retired_key_ends_by_itself_and_not_by_a_clock_that_may_be_wrong() {
    let clock = Clock::new();
    let options = Options::default().users(Users::Own).set("passport.max_ttl_s", LIFETIME_S);
    let options = options.set("passport.default_ttl_s", LIFETIME_S).set("passport.clock_skew_s", 600);
    let mut house = House::start(clock.options(options));
    let old = house.raw().issue(demo("old")).unwrap();
    let second = staged(&house, 2);
    house.activate(&second).unwrap();
    let until = said(&house, FIRST_KEY)["verifies_until"].as_i64().unwrap();
    assert_eq!(until, said(&house, FIRST_KEY)["retired_at"].as_i64().unwrap() + LIFETIME_S + PAST_LAST_S);
    let refused = destroyed(&house, FIRST_KEY).unwrap_err();
    assert!(refused.code == Code::OpDenied && refused.message.contains("still verifies"), "{refused:?}");

    // A clock that jumps to the end is in doubt, and nothing ends by it.
    let both = || [kid(1), kid(2)].into();
    clock.step(LIFETIME_S + PAST_LAST_S + 60);
    eventually("the clock is in doubt", PATIENCE, || {
        let clock = house.health().conditions.into_iter().find(|one| one.name == "clock").unwrap();
        (!clock.ok).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(published(&mut house.raw()), both());
    assert_eq!(said(&house, FIRST_KEY)["state"], "retired");

    // After a restart it may be right; the end is a few seconds away.
    clock.step(LIFETIME_S + PAST_LAST_S - 60);
    assert!(house.stop().success());
    let now = passportd::clock::Moment::now().unix();
    clock.step(until - now - 8);
    house.boot();
    house.wait_ready();
    let mut raw = house.raw();
    assert_eq!(published(&mut raw), both());
    let Watched::Begin { cursor } = watched(&mut raw, None) else { panic!("it begins") };
    eventually("it has ended", PATIENCE, || (published(&mut house.raw()) == [second.clone()].into()).then_some(()));
    assert_eq!(raw.verify(for_demo(), &old), Ok(Verdict::Refused(Code::UnknownKid)));
    let key = &said(&house, FIRST_KEY);
    assert_eq!((&key["state"], &key["verifies_until"]), (&"expired".into(), &until.into()));
    let Watched::Events { events, .. } = watched(&mut raw, Some(cursor)) else { panic!("watchers hear of it") };
    let expired = What::Key { kid: FIRST_KEY.to_owned(), state: "expired".to_owned() };
    assert_eq!(events.into_iter().map(|event| event.what).collect::<Vec<_>>(), [expired]);
    let ended = || {
        let records = ledger::records(&house.ledger());
        records.iter().filter(|one| one["event"] == "key_expired" && one["kid"] == FIRST_KEY).count()
    };
    assert_eq!(ended(), 1);
    assert_eq!(house.metric("passport_keys{state=\"expired\"}"), 1.0);
    // The signer still has it, so nobody has destroyed it.
    let refused = destroyed(&house, FIRST_KEY).unwrap_err();
    assert!(refused.code == Code::OpDenied && refused.message.contains("still sees"), "{refused:?}");
}

#[test]
fn only_what_is_over_and_gone_is_destroyed() {
    let house = House::start(Options::default());
    let second = staged(&house, 2);
    let code = |kid: &str| destroyed(&house, kid).unwrap_err().code;
    assert_eq!(code("ed25519/t1/auth/v9"), Code::OpDenied, "nobody knows it");
    assert_eq!(code(FIRST_KEY), Code::OpDenied, "it signs");
    assert_eq!(code(&second), Code::OpDenied, "the HSM holds it");
    ask(&house, AdminOp::Compromise { kid: &second, reason: "a test" }).unwrap();
    assert_eq!(code(&second), Code::OpDenied, "the HSM still holds it");
    house.raw().issue(demo("x")).unwrap();
}
