//! Whatever ends a passport ends its tickets, also those that another key has signed since.

use std::time::Duration;

use passportd::passport::OwnedEnvelope;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOp, Code, Introspection, Revocation, ServiceOk, ServiceOp};

use crate::asked::{Got, ONCE, for_demo, from, house, plain, said};
use crate::support::house::House;
use crate::support::passports::on_wire;
use crate::support::raw::Raw;

/// A passport, with two tickets.
fn made(raw: &mut Raw) -> (OwnedEnvelope, [OwnedEnvelope; 2]) {
    let passport = raw.issue(from("demo")).unwrap();
    let tickets = [(); 2].map(|()| raw.exchange(&passport, plain()).ticket());
    (passport, tickets)
}

fn revoke(house: &House, what: Revocation<'_>) {
    let op = AdminOp::Revoke { tenant: "t1", what: vec![what], reason: "test" };
    house.admin_raw().admin(op).unwrap();
}

/// However it is asked.
fn assert_ended(raw: &mut Raw, passport: &OwnedEnvelope, ticket: &OwnedEnvelope) {
    assert_eq!(raw.exchange(passport, plain()), Got::Refused(Code::Revoked));
    assert_eq!(raw.word(ticket), "revoked");
    let batch = raw.verify_batch(for_demo(), &[ticket.clone(), passport.clone()]).unwrap();
    assert!(batch.iter().all(|one| crate::asked::word(one) == "revoked"), "{batch:?}");
    match raw.ask(ServiceOp::Introspect { want: for_demo(), passport: on_wire(ticket) }) {
        Ok(ServiceOk::Introspection(Introspection { active: false, reason: Some(Code::Revoked), .. })) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ticket_goes_with_its_passport_by_id_and_by_itself() {
    let house = house();
    let mut raw = house.raw();
    let (passport, [ticket, other]) = made(&mut raw);
    let jti = |passport: &OwnedEnvelope| said(passport)["jti"].as_str().unwrap().to_owned();
    revoke(&house, Revocation::Id { jti: &jti(&other), exp: None });
    assert_eq!(raw.word(&other), "revoked");
    assert_eq!(raw.word(&passport), "accepted", "a ticket's end is nobody else's");
    match raw.ask(ServiceOp::Revoke { passport: on_wire(&passport) }) {
        Ok(ServiceOk::Revoked { new: true }) => {}
        other => panic!("{other:?}"),
    }
    assert_ended(&mut raw, &passport, &ticket);
}

/// The passports of a subject up to a second in which the passport had been issued, and its ticket had not.
#[test]
fn a_ticket_goes_with_its_passports_subject_by_the_passports_time() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let iat = said(&passport)["iat"].as_i64().unwrap();
    std::thread::sleep(Duration::from_millis(2100));
    let ticket = raw.exchange(&passport, plain()).ticket();
    let later = raw.issue(from("demo")).unwrap();
    assert!(said(&ticket)["iat"].as_i64().unwrap() > iat + 1);
    revoke(&house, Revocation::Subject { sub: "alice", before: Some(iat) });
    assert_ended(&mut raw, &passport, &ticket);
    assert_eq!(raw.word(&later), "accepted");
    let fresh = raw.exchange(&later, plain()).ticket();
    assert_eq!(raw.word(&fresh), ONCE);
}

#[test]
fn a_ticket_goes_with_its_passports_key_though_another_signed_it() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let report = house.ceremony(PlanKind::Generate, "t1", "auth");
    let kid = report.keys.iter().find(|key| key.kid.ends_with("/v2")).unwrap().kid.clone();
    house.stage(&kid).unwrap();
    house.activate(&kid).unwrap();
    let ticket = raw.exchange(&passport, plain()).ticket();
    let claims = said(&ticket);
    assert_eq!((&claims["kid"], &claims["par"]["kid"]), (&kid.as_str().into(), &said(&passport)["kid"]));
    let spare = raw.exchange(&passport, plain()).ticket();
    assert_eq!(raw.word(&spare), ONCE);
    let old = said(&passport)["kid"].as_str().unwrap().to_owned();
    house.admin_raw().admin(AdminOp::Compromise { kid: &old, reason: "test" }).unwrap();
    assert_eq!(raw.word(&ticket), "revoked");
    // Its key verifies nothing any more.
    assert!(matches!(raw.exchange(&passport, plain()), Got::Refused(Code::UnknownKid | Code::Revoked)));
    let fresh = raw.issue(from("demo")).unwrap();
    let ticket = raw.exchange(&fresh, plain()).ticket();
    assert_eq!(raw.word(&ticket), ONCE, "what the new key signed for itself");
}

#[test]
fn a_ticket_goes_with_its_tenants_epoch() {
    let house = house();
    let mut raw = house.raw();
    let (passport, [ticket, _]) = made(&mut raw);
    house.admin_raw().admin(AdminOp::BumpEpoch { tenant: "t1", reason: "test" }).unwrap();
    assert_ended(&mut raw, &passport, &ticket);
}

/// Across the end of the daemon, too.
#[test]
fn what_was_used_or_revoked_stays_so_after_a_crash() {
    let mut house = house();
    let mut raw = house.raw();
    let (passport, [used, _]) = made(&mut raw);
    let (gone, [ticket, _]) = made(&mut raw);
    assert_eq!(raw.word(&used), ONCE);
    let jti = said(&gone)["jti"].as_str().unwrap().to_owned();
    revoke(&house, Revocation::Id { jti: &jti, exp: None });
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let mut raw = house.raw();
    assert_eq!(raw.word(&used), "limit_exceeded");
    assert_eq!(raw.word(&ticket), "revoked");
    assert_eq!(raw.word(&passport), "accepted");
}
