//! The warning before a key signs, and the way back from it.

use std::time::{Duration, Instant};

use passportd::wire::{AdminOk, AdminOp, Code, Problem, Verdict};

use super::support::house::FIRST_KEY;
use super::support::passports::{demo, for_demo};
use super::support::{House, Options, ledger};
use super::{ask, kid, published, rollback, said, staged};

/// The records of an event, in order: the kid of each.
fn records(house: &House, event: &str) -> Vec<String> {
    let all = ledger::records(&house.ledger());
    let of_it = all.iter().filter(|record| record["event"] == event && record["outcome"] == "ok");
    of_it.map(|record| record["kid"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_way_back_is_there_until_somebody_confirms_and_what_was_signed_stays_good() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let old = raw.issue(demo("old")).unwrap();
    let refused = rollback(&house).unwrap_err();
    assert!(refused.code == Code::OpDenied && refused.message.contains("no retired key"), "{refused:?}");
    let second = staged(&house, 2);
    house.activate(&second).unwrap();
    let new = raw.issue(demo("new")).unwrap();
    assert_eq!(new.kid, second);
    assert_eq!(said(&house, &second)["rollback_to"], FIRST_KEY);
    let back = rollback(&house).unwrap();
    assert_eq!(back, AdminOk::Activated { kid: FIRST_KEY.to_owned(), retired: Some(second.clone()) });
    assert_eq!(raw.issue(demo("back")).unwrap().kid, FIRST_KEY, "from the answer on");
    assert_eq!(published(&mut raw), [kid(1), kid(2)].into());
    for passport in [&old, &new] {
        assert!(matches!(raw.verify(for_demo(), passport), Ok(Verdict::Accepted(_))), "{}", passport.kid);
    }
    // Asked twice, as after an answer that was lost, it goes no further back; and the key that retired never signs again.
    assert_eq!(rollback(&house).unwrap_err().code, Code::OpDenied);
    assert_eq!(house.activate(&second).unwrap_err().code, Code::OpDenied);
    let third = staged(&house, 3);
    house.activate(&third).unwrap();
    let confirm = |kid: &str| ask(&house, AdminOp::Confirm { kid });
    assert_eq!(confirm(FIRST_KEY).unwrap_err().code, Code::OpDenied, "it does not sign");
    assert_eq!((confirm(&third), confirm(&third)), (Ok(AdminOk::Done), Ok(AdminOk::Done)));
    let refused = rollback(&house).unwrap_err();
    assert!(refused.code == Code::OpDenied && refused.message.contains("confirmed"), "{refused:?}");
    assert_eq!(raw.issue(demo("stays")).unwrap().kid, third);
    assert_eq!(records(&house, "key_rolled_back"), [FIRST_KEY]);
    assert_eq!(records(&house, "key_confirmed"), [third]);
    assert_eq!(records(&house, "key_retired"), [FIRST_KEY.to_owned(), second, FIRST_KEY.to_owned()]);
}

#[test]
fn a_key_signs_once_verifiers_have_had_the_time_to_fetch_it() {
    // A first key follows none: the house has activated it at once.
    let house = House::start(Options::default().set("cache.jwks_ttl_s", 4));
    let began = Instant::now();
    let second = staged(&house, 2);
    let refused = ask(&house, AdminOp::Activate { kid: &second }).unwrap_err();
    let Problem { code, retryable, retry_after_ms, .. } = refused.clone();
    assert_eq!((code, retryable), (Code::NotReady, true), "{refused:?}");
    assert!(retry_after_ms.is_some_and(|millis| (1..=4000).contains(&millis)), "{refused:?}");
    assert!(refused.message.contains("verifiers may hold a key set without it"), "{}", refused.message);
    assert_eq!(house.raw().issue(demo("x")).unwrap().kid, FIRST_KEY);
    assert_eq!(published(&mut house.raw()), [kid(1), kid(2)].into(), "it is published meanwhile");
    // Who waits as long as the daemon says gets it.
    loop {
        match ask(&house, AdminOp::Activate { kid: &second }) {
            Err(Problem { retry_after_ms: Some(millis), .. }) => {
                std::thread::sleep(Duration::from_millis(millis.into()));
            }
            answer => break assert!(matches!(answer, Ok(AdminOk::Activated { .. })), "{answer:?}"),
        }
    }
    // Times are whole seconds.
    assert!(began.elapsed() >= Duration::from_secs(3));
    assert_eq!(house.raw().issue(demo("x")).unwrap().kid, second);
    // In an emergency nobody waits, and it says why.
    let third = staged(&house, 3);
    let now = ask(&house, AdminOp::ActivateNow { kid: &third, reason: "v2 was seen elsewhere" });
    assert_eq!(now, Ok(AdminOk::Activated { kid: third.clone(), retired: Some(second) }));
    let last = ledger::records(&house.ledger()).into_iter().rfind(|one| one["event"] == "key_activated").unwrap();
    assert_eq!((&last["kid"], &last["reason"]), (&third.into(), &"at_once".into()));
    assert_eq!(last["detail"], "v2 was seen elsewhere");
}
