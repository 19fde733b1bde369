//! After the answer nobody accepts it; before and beside it everything goes on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use passportd::passport::OwnedEnvelope;
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Revocation, ServiceOk, ServiceOp, Verdict};

use crate::support::house::{FIRST_KEY, House};
use crate::support::passports::{claims, demo, for_demo, on_wire};
use crate::support::raw::Raw;
use crate::support::{Options, Roles, eventually};

fn revoke(raw: &mut Raw, passport: &OwnedEnvelope) -> bool {
    match raw.ask(ServiceOp::Revoke { passport: on_wire(passport) }) {
        Ok(ServiceOk::Revoked { new }) => new,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn subject<'a>(sub: &'a str) -> AdminOp<'a> {
    AdminOp::Revoke { tenant: "t1", what: vec![Revocation::Subject { sub, before: None }], reason: "a test" }
}

/// Alone, in a batch beside another, and by introspection: the same.
fn assert_verdict(house: &House, passport: &OwnedEnvelope, refused: Option<Code>) {
    let mut raw = house.raw();
    let said = |verdict: &Verdict| match verdict {
        Verdict::Accepted(_) => None,
        Verdict::Refused(code) => Some(*code),
        other => panic!("it takes nothing: {other:?}"),
    };
    assert_eq!(said(&raw.verify(for_demo(), passport).unwrap()), refused);
    let batch = raw.verify_batch(for_demo(), &[passport.clone(), passport.clone()]).unwrap();
    assert_eq!(batch.iter().map(said).collect::<Vec<_>>(), [refused, refused]);
    match raw.ask(ServiceOp::Introspect { want: for_demo(), passport: on_wire(passport) }) {
        Ok(ServiceOk::Introspection(it)) => assert_eq!((it.active, it.reason), (refused.is_none(), refused)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_revoked_passport_is_accepted_by_nobody_at_once_and_after_a_restart() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let mut raw = house.raw();
    let (passport, other) = (raw.issue(demo("alice")).unwrap(), raw.issue(demo("alice")).unwrap());
    assert_verdict(&house, &passport, None);
    assert!(revoke(&mut raw, &passport));
    assert_verdict(&house, &passport, Some(Code::Revoked));
    assert_verdict(&house, &other, None);
    assert!(!revoke(&mut raw, &passport), "once more says nothing new");
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    assert_verdict(&house, &passport, Some(Code::Revoked));
    assert_verdict(&house, &other, None);
    let jti = claims(&passport)["jti"].as_str().unwrap().to_owned();
    let ledger = std::fs::read_to_string(house.ledger().join("00000000000000000001.jsonl")).unwrap();
    let recorded = |event: &str| ledger.lines().filter(|line| line.contains(event) && line.contains(&jti)).count();
    assert!(recorded("\"passport_revoked\"") >= 1, "{ledger}");
    house.assert_on_record([&passport.msg[..], &other.msg[..]]);
}

#[test]
fn a_subject_that_is_revoked_gets_new_passports_in_the_next_second() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let (old, other) = (raw.issue(demo("alice")).unwrap(), raw.issue(demo("bob")).unwrap());
    assert_eq!(house.admin_raw().admin(subject("alice")), Ok(AdminOk::Revoked { new: 1 }));
    assert_verdict(&house, &old, Some(Code::Revoked));
    assert_verdict(&house, &other, None);
    // Whoever asks at once waits for the second to end, and gets one that is good.
    let new = raw.issue(demo("alice")).unwrap();
    assert_verdict(&house, &new, None);
    assert_verdict(&house, &old, Some(Code::Revoked));
    let batch = raw.ask(ServiceOp::IssueBatch(vec![demo("alice"), demo("bob")])).unwrap();
    assert!(matches!(batch, ServiceOk::IssuedBatch(all) if all.iter().all(Result::is_ok)));
}

#[test]
fn the_end_of_an_epoch_revokes_all_that_a_tenant_was_issued() {
    let mut house = House::start(Options::default());
    let mut raw = house.raw();
    let old = raw.issue(demo("alice")).unwrap();
    assert_eq!(claims(&old)["epoch"], 0);
    let bump = || AdminOp::BumpEpoch { tenant: "t1", reason: "a test" };
    for epoch in 1..=2 {
        assert_eq!(house.admin_raw().admin(bump()), Ok(AdminOk::EpochBumped { epoch }));
    }
    assert_verdict(&house, &old, Some(Code::Revoked));
    let new = raw.issue(demo("alice")).unwrap();
    assert_eq!(claims(&new)["epoch"], 2);
    assert_verdict(&house, &new, None);
    assert!(house.stop().success());
    house.boot();
    house.wait_ready();
    assert_verdict(&house, &old, Some(Code::Revoked));
    assert_verdict(&house, &new, None);
    assert_eq!(claims(&house.raw().issue(demo("bob")).unwrap())["epoch"], 2);
}

#[test]
fn what_a_compromised_key_signed_is_accepted_no_more_and_it_signs_no_more() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let old = raw.issue(demo("alice")).unwrap();
    let compromise = || AdminOp::Compromise { kid: FIRST_KEY, reason: "a test" };
    assert_eq!(house.admin_raw().admin(compromise()), Ok(AdminOk::Done));
    assert_verdict(&house, &old, Some(Code::UnknownKid));
    assert_eq!(raw.issue(demo("alice")).unwrap_err().code, Code::NotReady);
    let Ok(ServiceOk::Keys(set)) = raw.ask(ServiceOp::Keys { if_etag: None }) else { panic!("no keys") };
    assert!(!String::from_utf8(set.jwks).unwrap().contains(FIRST_KEY));
    assert_eq!(house.metric("passport_keys{state=\"compromised\"}"), 1.0);
    assert_eq!(house.admin_raw().admin(compromise()), Ok(AdminOk::Done), "once more says nothing new");
}

/// Sixteen connections that verify without a pause, alone and in batches: whatever is asked after the answer to a revocation is
/// refused, and nothing that is not revoked ever is.
#[test]
fn beside_verifiers_that_never_rest_no_revocation_comes_late() {
    const CONNECTIONS: usize = 16;
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let good = raw.issue(demo("good")).unwrap();
    let spec = |sub| IssueSpec { ttl_s: Some(600), ..demo(sub) };
    let passports: Vec<_> = (0..40).map(|_| raw.issue(spec("bad")).unwrap()).collect();
    // So many of them are revoked, in order; the answers have come.
    let (revoked, asked, end) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for number in 0..CONNECTIONS {
            let (house, good, passports, revoked, asked, end) = (&house, &good, &passports, &revoked, &asked, &end);
            scope.spawn(move || {
                let mut raw = house.raw();
                while !end.load(Ordering::SeqCst) {
                    let gone = usize::try_from(revoked.load(Ordering::SeqCst)).unwrap();
                    let mut items: Vec<_> = passports[..gone].iter().rev().take(7).cloned().collect();
                    let bad = items.len();
                    items.push(good.clone());
                    let verdicts = if number % 2 == 0 {
                        raw.verify_batch(for_demo(), &items).unwrap()
                    } else {
                        items.iter().map(|item| raw.verify(for_demo(), item).unwrap()).collect()
                    };
                    assert!(verdicts[..bad].iter().all(|one| *one == Verdict::Refused(Code::Revoked)), "{verdicts:?}");
                    assert!(matches!(verdicts[bad], Verdict::Accepted(_)));
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for passport in &passports {
            assert!(revoke(&mut raw, passport));
            let before = asked.load(Ordering::SeqCst);
            revoked.fetch_add(1, Ordering::SeqCst);
            eventually("each has asked again", Duration::from_secs(20), || {
                (asked.load(Ordering::SeqCst) >= before + 2 * u64::try_from(CONNECTIONS).unwrap()).then_some(())
            });
        }
        end.store(true, Ordering::SeqCst);
    });
}
