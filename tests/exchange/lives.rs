//! What a ticket says, and how often it and its passport are good.

use std::time::Duration;

use passportd::wire::{Code, IssueSpec, TicketSpec};
use serde_json::json;

use crate::asked::{Got, ONCE, for_demo, from, house, plain, records, said};
use crate::support::eventually;

#[test]
fn a_ticket_says_what_its_passport_says_for_one_and_once() {
    let house = house();
    let mut raw = house.raw();
    let spec = IssueSpec { action: Some("open"), ctx: Some(r#"{"door":7}"#), ..from("web") };
    let passport = raw.issue(spec).unwrap();
    let wish = TicketSpec { scopes: vec!["read"], ttl_s: Some(30), ..plain() };
    let ticket = raw.exchange(&passport, wish).ticket();
    let (parent, mut said) = (said(&passport), said(&ticket));
    let times = (said["iat"].as_i64().unwrap(), said["exp"].as_i64().unwrap());
    assert_eq!(times.1 - times.0, 30);
    assert_ne!(said["jti"], parent["jti"]);
    let mut expected = parent.clone();
    expected["aud"] = json!(["demo"]);
    expected["scopes"] = json!(["read"]);
    expected["cap"]["limit"] = json!(1);
    expected["par"] = json!({"iat": parent["iat"], "jti": parent["jti"], "kid": parent["kid"]});
    for member in ["iat", "exp", "jti"] {
        expected[member] = said[member].take();
        said[member] = expected[member].clone();
    }
    assert_eq!(said, expected);
    let record = &records(&house, "ticket_issued", &said["jti"])[..];
    let [record] = record else { panic!("one record: {record:?}") };
    assert_eq!((&record["sub"], &record["aud"], &record["exp"]), (&json!("alice"), &json!("demo"), &json!(times.1)));
    assert!(record["detail"].as_str().unwrap().contains(parent["jti"].as_str().unwrap()), "{record}");
    assert_eq!(raw.word(&ticket), ONCE);
    assert_eq!(raw.word(&ticket), "limit_exceeded");
    assert_eq!(raw.word(&passport), "accepted", "the passport has no limit");
    let others = raw.exchange(&passport, TicketSpec { aud: "api", ..plain() }).ticket();
    assert_eq!(raw.word(&others), "bad_aud");
}

#[test]
fn a_limited_passport_gives_a_use_for_each_ticket_and_no_more() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(IssueSpec { limit: Some(3), ..from("few") }).unwrap();
    let first = raw.exchange(&passport, plain());
    assert_eq!(first.left(), Some(2));
    assert_eq!(raw.word(&passport), "left Some(1)");
    assert_eq!(raw.exchange(&passport, plain()).left(), Some(0));
    assert_eq!(raw.exchange(&passport, plain()), Got::Refused(Code::LimitExceeded));
    assert_eq!(raw.word(&passport), "limit_exceeded");
    assert_eq!(raw.word(&first.ticket()), ONCE, "what was given is good");
    let accepted = records(&house, "passport_accepted", &said(&passport)["jti"]);
    let exchanged = accepted.iter().filter(|one| one["action"] == "exchange").count();
    assert_eq!((accepted.len(), exchanged), (3, 2), "{accepted:?}");
    let once = raw.issue(IssueSpec { nonce: Some("n-1"), ..from("once") }).unwrap();
    assert!(said(&raw.exchange(&once, plain()).ticket()).get("nonce").is_none());
    assert_eq!(raw.exchange(&once, plain()), Got::Refused(Code::Replayed));
}

#[test]
fn a_ticket_is_no_passport_to_make_tickets_from() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let ticket = raw.exchange(&passport, plain()).ticket();
    assert_eq!(raw.exchange(&ticket, plain()), Got::Refused(Code::ScopeDenied));
    assert_eq!(raw.word(&ticket), ONCE, "asking took nothing");
}

#[test]
fn no_ticket_says_more_than_its_passport() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let asked = |raw: &mut crate::support::raw::Raw, spec| raw.exchange(&passport, spec);
    assert_eq!(asked(&mut raw, TicketSpec { aud: "files", ..plain() }), Got::Refused(Code::BadAud));
    let more = TicketSpec { scopes: vec!["read", "list"], ..plain() };
    assert_eq!(asked(&mut raw, more), Got::Refused(Code::ScopeDenied));
    assert_eq!(asked(&mut raw, TicketSpec { ttl_s: Some(0), ..plain() }), Got::Problem(Code::Malformed));
    let all = asked(&mut raw, TicketSpec { ttl_s: Some(3600), ..plain() }).ticket();
    let claims = said(&all);
    assert_eq!(claims["scopes"], said(&passport)["scopes"], "all of them, where none is named");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    let short = raw.issue(IssueSpec { ttl_s: Some(5), ..from("demo") }).unwrap();
    assert_eq!(said(&raw.exchange(&short, plain()).ticket())["exp"], said(&short)["exp"], "it ends with its passport");
    // The skew lets a passport be accepted that has expired, and no ticket be made from it.
    eventually("the passport's end has come", Duration::from_secs(10), || {
        (raw.exchange(&short, plain()) == Got::Refused(Code::Expired)).then_some(())
    });
    assert_eq!(raw.word(&short), "accepted");
    let later = raw.issue(IssueSpec { nbf: Some(said(&passport)["iat"].as_i64().unwrap() + 100), ..from("demo") });
    let later = later.unwrap();
    // So often asked, it may have to wait for its rate.
    eventually("it is not valid yet", Duration::from_secs(10), || {
        let got = raw.exchange(&later, plain());
        assert!(matches!(got, Got::Refused(Code::Nbf) | Got::Problem(Code::RateLimited)), "{got:?}");
        (got == Got::Refused(Code::Nbf)).then_some(())
    });
}

#[test]
fn a_ticket_that_nobody_used_goes() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(from("demo")).unwrap();
    let brief = || TicketSpec { ttl_s: Some(1), ..plain() };
    let (unused, used) = (raw.exchange(&passport, brief()).ticket(), raw.exchange(&passport, brief()).ticket());
    assert_eq!(house.metric("passport_tickets_active"), 2.0);
    assert_eq!(raw.word(&used), ONCE);
    assert_eq!(house.metric("passport_tickets_active"), 1.0);
    // A second of life, and two of skew, though passports have 120.
    eventually("the ticket expires", Duration::from_secs(10), || {
        let looked = raw.ask(passportd::wire::ServiceOp::Introspect {
            want: for_demo(),
            passport: crate::support::passports::on_wire(&unused),
        });
        let Ok(passportd::wire::ServiceOk::Introspection(seen)) = looked else { panic!("{looked:?}") };
        (seen.reason == Some(Code::Expired)).then_some(())
    });
    assert_eq!(raw.word(&unused), "expired");
    eventually("it is counted", Duration::from_secs(10), || {
        (house.metric("passport_tickets_expired_total") == 1.0).then_some(())
    });
    assert_eq!(house.metric("passport_tickets_active"), 0.0);
    assert_eq!(house.metric("passport_tickets_issued_total"), 2.0);
    assert_eq!(raw.word(&used), "expired");
    assert_eq!(house.metric("passport_tickets_invalid_total"), 2.0, "refused twice, one each");
    assert_eq!(house.metric("passport_stream_openings_total{by=\"ticket\"}"), 1.0);
    assert_eq!(house.metric("passport_stream_openings_total{by=\"passport\"}"), 0.0);
    assert_eq!(raw.word(&passport), "accepted");
    assert_eq!(house.metric("passport_stream_openings_total{by=\"passport\"}"), 1.0);
    // In a batch of which another item takes something, too.
    let few = raw.issue(IssueSpec { limit: Some(3), ..from("few") }).unwrap();
    let fresh = raw.exchange(&passport, plain()).ticket();
    raw.verify_batch(for_demo(), &[unused, few, fresh]).unwrap();
    assert_eq!(house.metric("passport_tickets_invalid_total"), 3.0);
    assert_eq!(house.metric("passport_stream_openings_total{by=\"ticket\"}"), 2.0);
    assert_eq!(house.metric("passport_stream_openings_total{by=\"passport\"}"), 2.0);
}
