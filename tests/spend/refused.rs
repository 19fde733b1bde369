//! Refused verifications on record: what an auditor wants to know of, as many a second as a uid may have, and how many more there were.

use std::time::Duration;

use passportd::passport::OwnedEnvelope;
use passportd::wire::{AdminOp, Code, Revocation, ServiceOp, Verdict, Want};
use serde_json::Value;

use crate::asked::{Seen, bent, few, house, once};
use crate::support::house::House;
use crate::support::passports::{claims, demo, for_demo, on_wire};
use crate::support::{eventually, ledger};

/// Records of refused verifications, oldest first.
fn refused(house: &House) -> Vec<Value> {
    let all = ledger::records(&house.ledger());
    all.into_iter().filter(|one| one["event"] == "verify_refused").collect()
}

/// How many refusals the ledger tells of, one by one and in summaries.
fn told(house: &House) -> u64 {
    let all = ledger::records(&house.ledger());
    let counted = all.iter().filter(|one| one["event"] == "verify_refused" || one["event"] == "refusals_suppressed");
    counted.map(|one| one["count"].as_u64().unwrap_or(1)).sum()
}

fn newest(house: &House, how_many: usize) -> Value {
    let all = eventually("it is on record", Duration::from_secs(5), || {
        Some(refused(house)).filter(|all| all.len() >= how_many)
    });
    assert_eq!(all.len(), how_many);
    all.last().unwrap().clone()
}

fn revoke(house: &House, passport: &OwnedEnvelope) {
    let claims = claims(passport);
    let what = vec![Revocation::Id { jti: claims["jti"].as_str().unwrap(), exp: None }];
    house.admin_raw().admin(AdminOp::Revoke { tenant: "t1", what, reason: "a test" }).unwrap();
}

fn assert_names(record: &Value, reason: &str, passport: &OwnedEnvelope) {
    let said = claims(passport);
    assert_eq!((&record["reason"], &record["outcome"]), (&reason.into(), &"refused".into()));
    for (member, claim) in [("jti", "jti"), ("sub", "sub"), ("kid", "kid"), ("exp", "exp")] {
        assert_eq!(record[member], said[claim], "{record}");
    }
    assert_eq!(record["template"], said["cap"]["template"], "{record}");
    assert!(record["uid"].is_number() && record["pid"].is_number() && record["action"] == "verify", "{record}");
}

#[test]
fn what_is_revoked_replayed_used_up_unproven_or_forged_is_on_record_with_what_is_known_of_it() {
    let mut house = house();
    let mut raw = house.raw();
    let (limited, nonce, free) =
        (raw.issue(few(1)).unwrap(), raw.issue(once("n")).unwrap(), raw.issue(demo("alice")).unwrap());
    assert_eq!((raw.see(&limited), raw.see(&nonce)), (Seen::Left(Some(0)), Seen::Left(Some(99))));
    assert_eq!(raw.see(&limited), Seen::Refused(Code::LimitExceeded));
    assert_names(&newest(&house, 1), "limit_exceeded", &limited);
    assert_eq!(raw.see(&nonce), Seen::Refused(Code::Replayed));
    assert_names(&newest(&house, 2), "replayed", &nonce);
    // A proof for a passport that names no key.
    let proof = passportd::wire::Possession::Pop { proof: "eyJ" };
    let unproven = raw.with(for_demo(), &free, None, Some(proof)).unwrap();
    let Seen::Unproven(why) = unproven else { panic!("{unproven:?}") };
    let record = newest(&house, 3);
    assert_names(&record, "pop_invalid", &free);
    assert_eq!(record["detail"], why.as_str());
    revoke(&house, &free);
    assert_eq!(raw.see(&free), Seen::Refused(Code::Revoked));
    assert_names(&newest(&house, 4), "revoked", &free);
    // Whoever knows an id can claim it. That is told apart from the passport itself.
    assert_eq!(raw.see(&bent(&free)), Seen::Refused(Code::Revoked));
    let claimed = |record: &Value, of: &OwnedEnvelope| {
        let said = claims(of);
        let (kid, jti) = (said["kid"].as_str().unwrap(), said["jti"].as_str().unwrap());
        assert_eq!(record["detail"], format!("not authentic; it claims kid {kid}, jti {jti}"));
        assert!(["jti", "sub", "kid", "exp", "template"].iter().all(|member| record.get(member).is_none()), "{record}");
    };
    claimed(&newest(&house, 5), &free);
    let other = raw.issue(demo("bob")).unwrap();
    assert_eq!(raw.see(&bent(&other)), Seen::Refused(Code::VerifyFailed));
    let forged = newest(&house, 6);
    assert_eq!(forged["reason"], "verify_failed");
    claimed(&forged, &other);
    // What is only looked at, or refused for what it says of itself, is counted.
    raw.ask(ServiceOp::Introspect { want: for_demo(), passport: on_wire(&free) }).unwrap();
    let more = Want { scopes: vec!["everything"], ..for_demo() };
    assert_eq!(raw.verify(more, &other).unwrap(), Verdict::Refused(Code::ScopeDenied));
    house.stop();
    assert_eq!((refused(&house).len(), told(&house)), (6, 6));
}

#[test]
fn of_a_batch_each_kind_is_one_record_with_how_many_there_were() {
    let mut house = house();
    let mut raw = house.raw();
    let (good, gone, used) =
        (raw.issue(demo("alice")).unwrap(), raw.issue(demo("bob")).unwrap(), raw.issue(few(1)).unwrap());
    revoke(&house, &gone);
    let batch: Vec<_> =
        [bent(&good), gone.clone(), good.clone(), used.clone(), bent(&good), used.clone(), used.clone()].into();
    let verdicts = raw.verify_batch(for_demo(), &batch).unwrap();
    assert_eq!(verdicts.iter().filter(|one| !one.is_accepted()).count(), 5);
    eventually("three kinds are on record", Duration::from_secs(5), || (refused(&house).len() == 3).then_some(()));
    let mut said: Vec<_> = refused(&house);
    said.sort_by_key(|one| one["reason"].as_str().unwrap().to_owned());
    assert_names(&said[0], "limit_exceeded", &used);
    assert_names(&said[1], "revoked", &gone);
    assert_eq!(said[2]["reason"], "verify_failed");
    let counts: Vec<_> = said.iter().map(|one| one["count"].as_u64()).collect();
    assert_eq!(counts, [Some(2), None, Some(2)]);
    house.stop();
    assert_eq!(told(&house), 5);
}

/// Of a flood ten a second have records, and its number is the one of the metrics: after the end nothing is missing.
#[test]
fn a_flood_of_bad_signatures_is_some_records_and_its_number() {
    let mut house = house();
    let mut raw = house.raw();
    let (good, limited) = (raw.issue(demo("alice")).unwrap(), raw.issue(few(1)).unwrap());
    let bad = bent(&good);
    assert_eq!(raw.see(&limited), Seen::Left(Some(0)));
    let begun = std::time::Instant::now();
    let batch: Vec<_> = std::iter::once(good.clone()).chain(std::iter::repeat_n(bad.clone(), 63)).collect();
    for _ in 0..100 {
        let verdicts = raw.verify_batch(for_demo(), &batch).unwrap();
        assert!(matches!(verdicts[0], Verdict::Accepted(_)) && verdicts[1] == Verdict::Refused(Code::VerifyFailed));
        assert_eq!(raw.see(&limited), Seen::Refused(Code::LimitExceeded));
        assert_eq!(raw.see(&bad), Seen::Refused(Code::VerifyFailed));
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let counted = house.metric("passport_failures_total{reason=\"verify_failed\"}");
    assert_eq!(counted, 6400.0);
    // A summary comes while it runs, too.
    let summary = eventually("a summary", Duration::from_secs(15), || {
        ledger::records(&house.ledger()).into_iter().find(|one| one["event"] == "refusals_suppressed")
    });
    let detail = summary["detail"].as_str().unwrap();
    assert!(detail.contains("verify_failed ") && detail.contains("limit_exceeded "), "{summary}");
    assert!(summary["uid"].is_number() && summary.get("pid").is_none(), "{summary}");
    house.stop();
    assert!(refused(&house).len() <= 10 * (seconds + 1), "{} in {seconds} s", refused(&house).len());
    assert_eq!(told(&house), 6400 + 100);
    ledger::assert_chain(&house.ledger());
    // Whatever is on record of a passport, it is not the passport.
    let text = ledger::records(&house.ledger()).iter().map(Value::to_string).collect::<String>();
    for bytes in [&good.sig, &good.msg, &bad.sig] {
        use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let spelt = [Base64::encode_string(bytes), Base64UrlUnpadded::encode_string(bytes), hex];
        assert!(spelt.iter().all(|one| !text.contains(&one.chars().take(24).collect::<String>())));
    }
}
