//! What accepting takes, and what takes nothing.

use std::collections::BTreeMap;

use passportd::wire::{Code, IssueSpec, Passport, Problem, ServiceOk, ServiceOp, Verdict};

use crate::asked::{Seen, bent, few, house, once, records, seen};
use crate::support::passports::{claims, demo, for_demo, on_wire};
use crate::support::raw::{Raw, request};

const JKT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

fn introspected(raw: &mut Raw, passport: Passport<'_>) -> (bool, Option<Code>) {
    match raw.ask(ServiceOp::Introspect { want: for_demo(), passport }) {
        Ok(ServiceOk::Introspection(it)) => (it.active, it.reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn issuing_says_no_more_than_the_template_allows() {
    let house = house();
    let mut raw = house.raw();
    assert_eq!(claims(&raw.issue(few(3)).unwrap())["cap"]["limit"], 3);
    assert_eq!(claims(&raw.issue(IssueSpec { limit: None, ..few(1) }).unwrap())["cap"]["limit"], 10);
    assert_eq!(claims(&raw.issue(once("n-1")).unwrap())["nonce"], "n-1");
    let bound = IssueSpec { template: "bound", jkt: Some(JKT), ..few(2) };
    assert_eq!(claims(&raw.issue(bound.clone()).unwrap())["cnf"]["jkt"], JKT);
    let refused = |error: Problem| (error.code, error.message);
    let allows = "the template does not allow this subject, scope, action, limit, nonce, key or uid";
    for spec in [
        few(11),
        few(0),
        IssueSpec { limit: Some(1), ..demo("alice") },
        IssueSpec { nonce: Some("n"), ..few(1) },
        IssueSpec { jkt: Some(JKT), ..few(1) },
    ] {
        assert_eq!(refused(raw.issue(spec).unwrap_err()), (Code::ScopeDenied, allows.to_owned()));
    }
    let demands = "the template demands a nonce, or the thumbprint of a key, that the request does not name";
    for spec in [IssueSpec { nonce: None, ..once("") }, IssueSpec { jkt: None, ..bound.clone() }] {
        assert_eq!(refused(raw.issue(spec).unwrap_err()), (Code::ScopeDenied, demands.to_owned()));
    }
    let long = "n".repeat(129);
    for spec in [once(""), once(&long), IssueSpec { jkt: Some("short"), ..bound }] {
        assert_eq!(raw.issue(spec).unwrap_err().code, Code::Malformed);
    }
}

#[test]
fn each_acceptance_takes_one_use_and_is_on_record_and_looking_takes_none() {
    let mut house = house();
    let mut raw = house.raw();
    let (passport, again) = (raw.issue(few(3)).unwrap(), raw.issue(once("n")).unwrap());
    for _ in 0..5 {
        assert_eq!(introspected(&mut raw, on_wire(&passport)), (true, None));
    }
    for left in [2, 1, 0] {
        assert_eq!(raw.see(&passport), Seen::Left(Some(left)));
    }
    assert_eq!(raw.see(&passport), Seen::Refused(Code::LimitExceeded));
    assert_eq!(introspected(&mut raw, on_wire(&passport)), (false, Some(Code::LimitExceeded)));
    assert_eq!(raw.see(&again), Seen::Left(Some(99)));
    assert_eq!(raw.see(&again), Seen::Refused(Code::Replayed));
    assert_eq!(introspected(&mut raw, on_wire(&again)), (false, Some(Code::Replayed)));
    let other = raw.issue(once("n")).unwrap();
    assert_eq!(raw.see(&other), Seen::Refused(Code::Replayed), "the nonce was used, by whichever passport");
    let details: Vec<_> = records(&house, &passport).iter().map(|one| one["detail"].clone()).collect();
    assert_eq!(details, ["uses left: 2", "uses left: 1", "uses left: 0"]);
    assert_eq!((records(&house, &again).len(), records(&house, &other).len()), (1, 0));
    assert_eq!(house.metric("ekey_verify_replay_blocked_total"), 3.0);
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let mut raw = house.raw();
    assert_eq!(raw.see(&passport), Seen::Refused(Code::LimitExceeded));
    assert_eq!(raw.see(&other), Seen::Refused(Code::Replayed));
}

/// Only who holds an authentic passport may use it up.
#[test]
fn a_forgery_takes_nothing() {
    let house = house();
    let mut raw = house.raw();
    let (passport, nonce) = (raw.issue(few(1)).unwrap(), raw.issue(once("n")).unwrap());
    for one in [&passport, &nonce] {
        let forged = bent(one);
        for _ in 0..3 {
            assert_eq!(raw.see(&forged), Seen::Refused(Code::VerifyFailed));
            assert_eq!(raw.with(for_demo(), &forged, Some([1; 16]), None), Ok(Seen::Refused(Code::VerifyFailed)));
        }
        let batch = raw.verify_batch(for_demo(), &[forged.clone(), forged]).unwrap();
        assert_eq!(batch, vec![Verdict::Refused(Code::VerifyFailed); 2]);
    }
    let elsewhere = passportd::wire::Want { scopes: vec!["write"], ..for_demo() };
    assert_eq!(raw.verify(elsewhere, &passport), Ok(Verdict::Refused(Code::ScopeDenied)), "nor what is refused");
    assert_eq!(raw.with(for_demo(), &passport, Some([1; 16]), None), Ok(Seen::Left(Some(0))));
    assert_eq!(raw.see(&nonce), Seen::Left(Some(99)));
}

#[test]
fn a_batch_takes_what_its_items_take_one_after_the_other() {
    let house = house();
    let mut raw = house.raw();
    let (two, free, nonce) =
        (raw.issue(few(2)).unwrap(), raw.issue(demo("bob")).unwrap(), raw.issue(once("n")).unwrap());
    let items = [&two, &free, &two, &bent(&two), &nonce, &two, &nonce, &free].map(Clone::clone);
    let verdicts = raw.verify_batch(for_demo(), &items).unwrap();
    let expected = [
        Seen::Left(Some(1)),
        Seen::Free,
        Seen::Left(Some(0)),
        Seen::Refused(Code::VerifyFailed),
        Seen::Left(Some(99)),
        Seen::Refused(Code::LimitExceeded),
        Seen::Refused(Code::Replayed),
        Seen::Free,
    ];
    assert_eq!(verdicts.into_iter().map(seen).collect::<Vec<_>>(), expected);
    assert_eq!((records(&house, &two).len(), records(&house, &free).len()), (2, 0));
    // More than wait for the disk at one time.
    let many: Vec<_> = (0..150).map(|_| raw.issue(few(1)).unwrap()).collect();
    let verdicts = raw.verify_batch(for_demo(), &many).unwrap();
    assert!(verdicts.into_iter().map(seen).all(|one| one == Seen::Left(Some(0))));
    let verdicts = raw.verify_batch(for_demo(), &many).unwrap();
    assert_eq!(verdicts, vec![Verdict::Refused(Code::LimitExceeded); 150]);
}

#[test]
fn what_is_revoked_is_not_accepted_whatever_it_has_left() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(few(10)).unwrap();
    assert_eq!(raw.with(for_demo(), &passport, Some([1; 16]), None), Ok(Seen::Left(Some(9))));
    assert_eq!(raw.ask(ServiceOp::Revoke { passport: on_wire(&passport) }), Ok(ServiceOk::Revoked { new: true }));
    assert_eq!(raw.see(&passport), Seen::Refused(Code::Revoked));
    let again = raw.with(for_demo(), &passport, Some([1; 16]), None);
    assert_eq!(again, Ok(Seen::Refused(Code::Revoked)), "nor is an answer repeated");
    assert_eq!(records(&house, &passport).len(), 1);
}

/// What takes something is answered when the disk has it; whatever came with it in one read is answered all the same.
#[test]
fn whatever_arrives_together_each_request_has_one_answer() {
    let house = house();
    let mut raw = house.raw();
    let (free, limited) = (raw.issue(demo("bob")).unwrap(), raw.issue(few(10)).unwrap());
    let (bent_free, bent_limited) = (bent(&free), bent(&limited));
    for order in 0..6_u64 {
        let (mut bytes, mut expected) = (Vec::new(), BTreeMap::new());
        let passport = raw.issue(few(10)).unwrap();
        let verify = |passport| ServiceOp::Verify { want: for_demo(), passport: on_wire(passport) };
        for n in 0..60_u64 {
            let (op, due) = match (n + order) % 6 {
                0 => (verify(&free), "free"),
                1 => (verify(&bent_limited), "forged"),
                2 => (verify(&bent_free), "forged"),
                3 => (verify(&passport), "left"),
                4 if n % 12 < 6 => (ServiceOp::Ping, "pong"),
                4 => {
                    let with = on_wire(&bent_limited);
                    (ServiceOp::VerifyWith { want: for_demo(), passport: with, retry: None, proof: None }, "forged")
                }
                _ => (verify(&free), "free"),
            };
            bytes.extend(request(1000 + n, op));
            expected.insert(1000 + n, due);
        }
        raw.send(&bytes).unwrap();
        while !expected.is_empty() {
            let reply = raw.reply();
            let due = expected.remove(&reply.id).expect("one answer each");
            let came = match reply.result.unwrap() {
                ServiceOk::Pong => "pong",
                ServiceOk::Verdict(verdict) => match seen(verdict) {
                    Seen::Free => "free",
                    Seen::Left(Some(_)) => "left",
                    Seen::Refused(Code::VerifyFailed) => "forged",
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            assert_eq!(came, due, "request {} of round {order}", reply.id);
        }
        assert_eq!(raw.see(&passport), Seen::Refused(Code::LimitExceeded), "ten were asked for, and ten accepted");
    }
}
