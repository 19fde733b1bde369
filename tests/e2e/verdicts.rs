//! Every reason for which a passport is refused.

use std::collections::BTreeSet;

use passportd::passport::OwnedEnvelope;
use passportd::wire::problem::Use;
use passportd::wire::{Code, ServiceOk, ServiceOp, Verdict, Want};
use serde_json::json;

use crate::support::passports::{demo, for_demo, on_wire};
use crate::support::{House, Options};

/// Reasons that take more than a passport, `tests/revoke` and `tests/spend`; and the one that only other verifiers have.
const NOT_YET: [Code; 4] = [Code::Revoked, Code::Replayed, Code::LimitExceeded, Code::NeedsDaemon];

struct Case {
    name: &'static str,
    want: Want<'static>,
    passport: OwnedEnvelope,
    reason: Code,
    authentic: bool,
}

fn case(name: &'static str, reason: Code, authentic: bool, passport: OwnedEnvelope) -> Case {
    Case { name, want: for_demo(), passport, reason, authentic }
}

/// Passports that are wrong on the outside: no key is needed to make them.
fn damaged(good: &OwnedEnvelope) -> Vec<Case> {
    let with = |change: &dyn Fn(&mut OwnedEnvelope)| {
        let mut one = good.clone();
        change(&mut one);
        one
    };
    let text = |from: &str, to: &str| {
        let text = String::from_utf8(good.msg.clone()).unwrap();
        assert!(text.contains(from));
        text.replacen(from, to, 1).into_bytes()
    };
    vec![
        case("alg none", Code::BadAlg, false, with(&|one| one.alg = "none".into())),
        case("alg ES256", Code::BadAlg, false, with(&|one| one.alg = "ES256".into())),
        case("alg in lower case", Code::BadAlg, false, with(&|one| one.alg = "ed25519".into())),
        case("another kid beside it", Code::BadKid, false, with(&|one| one.kid = "ed25519/t1/auth/v2".into())),
        case(
            "a kid of no form",
            Code::BadKid,
            false,
            with(&|one| {
                one.kid = "ed25519/t1/auth/v01".into();
                one.msg = text("auth/v1\"", "auth/v01\"");
            }),
        ),
        case(
            "a key that is not there",
            Code::UnknownKid,
            false,
            with(&|one| {
                one.kid = "ed25519/t1/auth/v7".into();
                one.msg = text("auth/v1\"", "auth/v7\"");
            }),
        ),
        case(
            "another issuer",
            Code::UnknownKid,
            false,
            with(&|one| one.msg = text("passportd.test", "passportd.tesu")),
        ),
        case("one bit of the signature", Code::VerifyFailed, false, with(&|one| one.sig[40] ^= 4)),
        case("a zero signature", Code::VerifyFailed, false, with(&|one| one.sig = vec![0; 64])),
        case("another subject", Code::VerifyFailed, false, with(&|one| one.msg = text("alice", "malice"))),
        case(
            "more scopes",
            Code::VerifyFailed,
            false,
            with(&|one| one.msg = text("[\"read\"]", "[\"read\",\"write\"]")),
        ),
        case("a short signature", Code::Malformed, false, with(&|one| one.sig.truncate(63))),
        case("a long signature", Code::Malformed, false, with(&|one| one.sig.push(0))),
        case("no payload", Code::Malformed, false, with(&|one| one.msg.clear())),
        case("white space", Code::Malformed, false, with(&|one| one.msg.push(b'\n'))),
        case(
            "members out of order",
            Code::Malformed,
            false,
            with(&|one| one.msg = text("{\"aud\"", "{\"sub\":\"x\",\"aud\"")),
        ),
        case(
            "a member twice",
            Code::Malformed,
            false,
            with(&|one| {
                one.msg = text("\"epoch\":0", "\"epoch\":0,\"epoch\":0");
            }),
        ),
        case("a float", Code::Malformed, false, with(&|one| one.msg = text("\"epoch\":0", "\"epoch\":0.0"))),
        case("a jwk in it", Code::Malformed, false, with(&|one| one.msg = text("\"jti\"", "\"jku\":\"x\",\"jti\""))),
        case("a large payload", Code::TooLarge, false, with(&|one| one.msg = vec![b'{'; 4097])),
    ]
}

/// Passports that the HSM itself signed, and that are still not good here.
fn signed(house: &House) -> Vec<Case> {
    let good = || house.forge(|_| {});
    let aud = |aud| Want { aud: Some(aud), ..Want::default() };
    vec![
        case("for somebody else", Code::BadAud, true, house.forge(|claims| claims["aud"] = json!(["other"]))),
        case("for nobody", Code::BadAud, true, house.forge(|claims| claims["aud"] = json!([]))),
        Case { want: aud("second"), ..case("asked as another", Code::BadAud, true, good()) },
        Case {
            want: Want { scopes: vec!["read", "write"], ..for_demo() },
            ..case("a scope short", Code::ScopeDenied, true, good())
        },
        case(
            "expired",
            Code::Expired,
            true,
            house.forge(|claims| {
                // Inside the drift that the signer bears with, beyond the skew that verification does.
                claims["exp"] = (claims["iat"].as_i64().unwrap() - 40).into();
                claims["iat"] = (claims["iat"].as_i64().unwrap() - 50).into();
            }),
        ),
        case(
            "issued in the future",
            Code::Nbf,
            true,
            house.forge(|claims| {
                claims["iat"] = (claims["iat"].as_i64().unwrap() + 50).into();
            }),
        ),
        case(
            "not yet",
            Code::Nbf,
            true,
            house.forge(|claims| claims["nbf"] = (claims["exp"].as_i64().unwrap() - 1).into()),
        ),
        Case {
            want: Want { peer_uid: Some(1), ..for_demo() },
            ..case("another user's", Code::PopInvalid, true, house.forge(|claims| claims["cnf"] = json!({"uid": 2})))
        },
        case("some user's", Code::PopRequired, true, house.forge(|claims| claims["cnf"] = json!({"uid": 2}))),
        case(
            "bound to a key",
            Code::PopRequired,
            true,
            house.forge(|claims| {
                claims["cnf"] = json!({"jkt": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"});
            }),
        ),
    ]
}

#[test]
fn every_reason_alone_in_a_batch_and_by_introspection() {
    let policy =
        crate::support::options::POLICY.replace("verify_as = [\"demo\"]", "verify_as = [\"demo\", \"second\"]");
    let house = House::start(Options::default().policy(&policy).set("passport.clock_skew_s", 5));
    let mut raw = house.raw();
    let good = raw.issue(demo("alice")).unwrap();
    let mut cases = damaged(&good);
    cases.extend(signed(&house));
    let mut seen = BTreeSet::new();
    for Case { name, want, passport, reason, authentic } in &cases {
        assert_eq!(raw.verify(want.clone(), passport), Ok(Verdict::Refused(*reason)), "{name}");
        // In good company, which changes nothing, neither for it nor for them.
        let batch = raw.verify_batch(want.clone(), &[good.clone(), passport.clone(), good.clone()]).unwrap();
        assert_eq!(batch[1], Verdict::Refused(*reason), "{name}, in a batch");
        if *want == for_demo() {
            assert!(matches!((&batch[0], &batch[2]), (Verdict::Accepted(_), Verdict::Accepted(_))), "{name}");
        }
        let op = ServiceOp::Introspect { want: want.clone(), passport: on_wire(passport) };
        let Ok(ServiceOk::Introspection(look)) = raw.ask(op) else { panic!("{name}") };
        assert!(!look.active, "{name}");
        assert_eq!(look.claims.as_ref(), authentic.then_some(&passport.msg), "{name}: claims only if authentic");
        // Introspection looks at the signature before the claims, so that it shows none of a forger's.
        assert!(look.reason == Some(*reason) || look.reason == Some(Code::VerifyFailed), "{name}: {look:?}");
        seen.insert(reason.name());
    }
    let possible = Code::ALL.into_iter().filter(|code| matches!(code.used_as(), Use::Verdict | Use::Both));
    let missing: Vec<_> = possible.filter(|code| !seen.contains(code.name())).collect();
    assert_eq!(missing, NOT_YET, "reasons without a case");
    let refused = f64::from(u32::try_from(cases.iter().filter(|case| case.reason == Code::BadAlg).count()).unwrap());
    assert!(house.metric("passport_failures_total{reason=\"bad_alg\"}") >= 2.0 * refused);
}
