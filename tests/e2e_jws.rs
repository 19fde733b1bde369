//! Passports as compact JWS: issued, verified in every way, revoked, refused; and read by JOSE libraries of other hands.
#![cfg(test)]

#[path = "interop/others.rs"]
mod others;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};
use passportd::client::{IssueRequest, Want as Wanted};
use passportd::passport::proof::{ProofClaims, Purpose, ath, with_signature};
use passportd::passport::{OwnedPassport, thumbprint};
use passportd::wire::{
    Code, IssueSpec, Issued, Passport, PassportForm, Possession, Problem, Revocation, ServiceOk, ServiceOp, Verdict,
    Want,
};
use serde_json::{Value, json};

use others::{by_jsonwebtoken, by_others, holds};
use support::options::POLICY;
use support::passports::{demo, for_demo};
use support::raw::Raw;
use support::{House, Options, skipped};

/// `demo` has both forms, `plain` has envelopes alone; those of `few` take something.
fn policy() -> String {
    let template = |name: &str, keys: &str| {
        format!(
            "[[template]]\nname = {name:?}\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
             audiences = [\"demo\"]\nmax_ttl_s = 3600\n{keys}\n"
        )
    };
    let both = "forms = [\"envelope\", \"jws\"]";
    POLICY
        .replace("templates = [\"demo\"]", "templates = [\"demo\", \"plain\", \"few\", \"bound\"]")
        .replace("max_ttl_s = 3600\n", &format!("max_ttl_s = 3600\n{both}\n"))
        + &template("plain", "")
        + &template("few", &format!("limit = 2\noffline_risk = true\n{both}"))
        + &template("bound", &format!("proof = \"required\"\noffline_risk = true\n{both}"))
}

fn house() -> House {
    House::start(Options::default().policy(&policy()))
}

fn jws<'a>(template: &'a str, sub: &'a str) -> IssueSpec<'a> {
    IssueSpec { template, sub, form: PassportForm::Jws, ..IssueSpec::default() }
}

fn issue(raw: &mut Raw, spec: IssueSpec<'_>) -> Result<String, Problem> {
    match raw.ask(ServiceOp::Issue(spec))? {
        ServiceOk::Issued(Issued::Jws { text }) => Ok(text),
        other => panic!("{other:?}"),
    }
}

fn verify(raw: &mut Raw, text: &str) -> Verdict {
    match raw.ask(ServiceOp::Verify { want: for_demo(), passport: Passport::Jws { text } }) {
        Ok(ServiceOk::Verdict(verdict)) => verdict,
        other => panic!("{other:?}"),
    }
}

fn part(text: &str, at: usize) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text.split('.').nth(at).unwrap()).unwrap()
}

fn claims(text: &str) -> Value {
    serde_json::from_slice(&part(text, 1)).unwrap()
}

/// The text with another part in place of one.
fn with(text: &str, at: usize, bytes: &[u8]) -> String {
    let other = Base64UrlUnpadded::encode_string(bytes);
    text.split('.').enumerate().map(|(n, old)| if n == at { &other } else { old }).collect::<Vec<_>>().join(".")
}

/// With one bit of the signature changed.
fn bent(text: &str) -> String {
    let mut sig = part(text, 2);
    sig[7] ^= 0x10;
    with(text, 2, &sig)
}

#[test]
fn what_is_issued_is_the_text_that_is_specified_and_on_record() {
    let house = house();
    let mut raw = house.raw();
    let text = issue(&mut raw, jws("demo", "alice")).unwrap();
    let claims = claims(&text);
    let header = format!(r#"{{"alg":"EdDSA","kid":{},"typ":"passport+jwt"}}"#, claims["kid"]);
    assert_eq!(part(&text, 0), header.as_bytes());
    assert_eq!(
        (&claims["sub"], &claims["aud"], &claims["scopes"]),
        (&json!("alice"), &json!(["demo"]), &json!(["read"]))
    );
    assert!(matches!(verify(&mut raw, &text), Verdict::Accepted(it) if claims["exp"] == it.exp));
    // A batch of both forms, of which one is refused.
    let specs = vec![jws("demo", "a"), demo("b"), jws("plain", "c"), jws("demo", "d")];
    let Ok(ServiceOk::IssuedBatch(batch)) = raw.ask(ServiceOp::IssueBatch(specs)) else { panic!("no batch") };
    let forms: Vec<_> = batch
        .iter()
        .map(|one| match one {
            Ok(Issued::Jws { .. }) => "jws",
            Ok(Issued::Envelope { .. }) => "envelope",
            Err(problem) => problem.code.name(),
        })
        .collect();
    assert_eq!(forms, ["jws", "envelope", "scope_denied", "jws"]);
    let issued = batch.into_iter().flatten().map(OwnedPassport::from).chain([OwnedPassport::Jws(text)]);
    let payloads: Vec<_> = issued.map(|one| one.payload().into_owned()).collect();
    house.assert_on_record(payloads.iter().map(Vec::as_slice));
}

#[test]
fn a_template_has_the_forms_that_it_says() {
    let house = house();
    let mut raw = house.raw();
    let problem = issue(&mut raw, jws("plain", "alice")).unwrap_err();
    assert_eq!(problem.code, Code::ScopeDenied);
    assert!(raw.ask(ServiceOp::Issue(IssueSpec { template: "plain", ..demo("alice") })).is_ok());
    // What only the daemon can honour needs a word more; without it the policy is not taken.
    house.write_policy("10-test.toml", &policy().replace("offline_risk = true\n", ""));
    let refused = house.admin_raw().admin(passportd::wire::AdminOp::Reload).unwrap_err();
    assert!(refused.message.contains("offline_risk"), "{refused:?}");
    assert!(issue(&mut raw, jws("few", "alice")).is_ok(), "the policy of before holds");
}

#[test]
fn batches_of_both_forms_are_judged_each_as_if_alone() {
    let house = house();
    let mut raw = house.raw();
    let text = issue(&mut raw, jws("demo", "alice")).unwrap();
    let envelope = raw.issue(demo("bob")).unwrap();
    let (bent, other) = (bent(&text), issue(&mut raw, jws("demo", "carol")).unwrap());
    let passport = |text| Passport::Jws { text };
    // A signature over a payload is none over its JWS, and the other way round.
    let sig = with(&text, 1, &envelope.msg);
    let sig = with(&sig, 2, &envelope.sig);
    let taken = (part(&text, 1), part(&text, 2));
    let taken = Passport::Envelope { alg: "Ed25519", kid: &envelope.kid, msg: &taken.0, sig: &taken.1 };
    let mut items = vec![passport(&text), (&envelope).into(), passport(&bent), passport(&other), passport(&sig), taken];
    let refused = Verdict::Refused(Code::VerifyFailed);
    // More than one slice, so that they are judged on different turns.
    items = items.iter().cycle().take(120).cloned().collect();
    let alone: Vec<Verdict> = items[..6]
        .iter()
        .map(|one| match raw.ask(ServiceOp::Verify { want: for_demo(), passport: one.clone() }) {
            Ok(ServiceOk::Verdict(verdict)) => verdict,
            other => panic!("{other:?}"),
        })
        .collect();
    let accepted: Vec<_> = alone.iter().map(Verdict::is_accepted).collect();
    assert_eq!(accepted, [true, true, false, true, false, false]);
    assert_eq!([&alone[2], &alone[4], &alone[5]], [&refused; 3]);
    let Ok(ServiceOk::Verdicts(batch)) = raw.ask(ServiceOp::VerifyBatch { want: for_demo(), items }) else { panic!() };
    assert!(batch.iter().eq(alone.iter().cycle().take(120)), "{batch:?}");
    // Pipelined: verified together.
    let texts = [&text, &bent, &other, &text];
    let mut frames = Vec::new();
    for (id, text) in texts.iter().enumerate() {
        let op = ServiceOp::Verify { want: for_demo(), passport: passport(text) };
        frames.extend(support::raw::request(u64::try_from(id).unwrap() + 500, op));
    }
    raw.send(&frames).unwrap();
    let mut replies: Vec<_> = texts.iter().map(|_| raw.reply()).collect();
    replies.sort_by_key(|reply| reply.id);
    let seen: Vec<_> = replies
        .into_iter()
        .map(|reply| matches!(reply.result, Ok(ServiceOk::Verdict(verdict)) if verdict.is_accepted()))
        .collect();
    assert_eq!(seen, [true, false, true, true]);
}

#[test]
fn what_is_no_jws_of_ours_is_refused_by_name() {
    let house = house();
    let mut raw = house.raw();
    let text = issue(&mut raw, jws("demo", "alice")).unwrap();
    let header = String::from_utf8(part(&text, 0)).unwrap();
    let under = |old: &str, new: &str| with(&text, 0, header.replacen(old, new, 1).as_bytes());
    let mut longer = claims(&text);
    longer["exp"] = json!(longer["exp"].as_i64().unwrap() + 1);
    let longer = with(&text, 1, &serde_json_canonicalizer::to_vec(&longer).unwrap());
    let large = with(&text, 1, &[b'{'; 5000]);
    let giant = format!("{}{text}", "eyJ".repeat(20_000));
    for (text, code) in [
        (bent(&text), Code::VerifyFailed),
        (longer, Code::VerifyFailed),
        // The daemon's own algorithm under its new name, which was not signed.
        (under("EdDSA", "Ed25519"), Code::VerifyFailed),
        (under("EdDSA", "none"), Code::BadAlg),
        (under("EdDSA", "HS256"), Code::BadAlg),
        (under("/v1\"", "/v2\""), Code::BadKid),
        (under("passport+jwt", "JWT"), Code::Malformed),
        (under("passport+jwt", "passport-pop+jwt"), Code::Malformed),
        (under("\"kid\"", "\"crit\":[],\"kid\""), Code::Malformed),
        (format!("{text}="), Code::Malformed),
        (format!("{text}\n"), Code::Malformed),
        (text.rsplit_once('.').unwrap().0.to_owned(), Code::Malformed),
        (String::new(), Code::Malformed),
        (large, Code::TooLarge),
        (giant, Code::TooLarge),
    ] {
        assert_eq!(verify(&mut raw, &text), Verdict::Refused(code), "{text:.300}");
        let passport = || Passport::Jws { text: &text };
        match raw.ask(ServiceOp::Introspect { want: for_demo(), passport: passport() }) {
            Ok(ServiceOk::Introspection(it)) => {
                assert_eq!((it.active, it.reason, it.claims), (false, Some(code), None));
            }
            other => panic!("{other:?}"),
        }
        let problem = raw.ask(ServiceOp::Revoke { passport: passport() }).unwrap_err();
        assert_eq!(problem.code, Code::Malformed, "{problem:?}");
    }
    let elsewhere = Want { scopes: vec!["write"], ..for_demo() };
    let asked = raw.ask(ServiceOp::Verify { want: elsewhere, passport: Passport::Jws { text: &text } });
    assert!(matches!(asked, Ok(ServiceOk::Verdict(Verdict::Refused(Code::ScopeDenied)))), "{asked:?}");
}

#[test]
fn introspection_and_revocation_know_the_form() {
    let mut house = house();
    let mut raw = house.raw();
    let [mine, by_admin, free] = ["a", "b", "c"].map(|sub| issue(&mut raw, jws("demo", sub)).unwrap());
    let introspect = |raw: &mut Raw, text: &str| match raw
        .ask(ServiceOp::Introspect { want: for_demo(), passport: Passport::Jws { text } })
    {
        Ok(ServiceOk::Introspection(it)) => (it.active, it.reason, it.claims.unwrap()),
        other => panic!("{other:?}"),
    };
    assert_eq!(introspect(&mut raw, &mine), (true, None, part(&mine, 1)), "the claims, and not the text");
    let revoke = |raw: &mut Raw| raw.ask(ServiceOp::Revoke { passport: Passport::Jws { text: &mine } });
    assert_eq!(revoke(&mut raw), Ok(ServiceOk::Revoked { new: true }));
    assert_eq!(revoke(&mut raw), Ok(ServiceOk::Revoked { new: false }));
    let jti = claims(&by_admin)["jti"].as_str().unwrap().to_owned();
    let op = passportd::wire::AdminOp::Revoke {
        tenant: "t1",
        what: vec![Revocation::Id { jti: &jti, exp: None }],
        reason: "test",
    };
    house.admin_raw().admin(op).unwrap();
    let revoked = Verdict::Refused(Code::Revoked);
    for again in [false, true] {
        if again {
            house.stop();
            house.boot();
            raw = house.raw();
        }
        assert_eq!([verify(&mut raw, &mine), verify(&mut raw, &by_admin)], [revoked.clone(), revoked.clone()]);
        assert_eq!(introspect(&mut raw, &mine), (false, Some(Code::Revoked), part(&mine, 1)));
        assert!(verify(&mut raw, &free).is_accepted());
    }
}

fn verify_with(raw: &mut Raw, text: &str, retry: u8, proof: Option<Possession<'_>>) -> Result<Verdict, Problem> {
    let passport = Passport::Jws { text };
    match raw.ask(ServiceOp::VerifyWith { want: for_demo(), passport, retry: Some([retry; 16]), proof })? {
        ServiceOk::Verdict(verdict) => Ok(verdict),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_taken_is_taken_once_and_a_retry_belongs_to_its_text() {
    let house = house();
    let mut raw = house.raw();
    let (text, other) = (issue(&mut raw, jws("few", "alice")).unwrap(), issue(&mut raw, jws("few", "alice")).unwrap());
    let seen = |verdict: Verdict| match verdict {
        Verdict::Consumed(it) => (it.left, it.repeated),
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(verify_with(&mut raw, &text, 1, None).unwrap()), (Some(1), false));
    assert_eq!(seen(verify_with(&mut house.raw(), &text, 1, None).unwrap()), (Some(1), true));
    assert_eq!(verify_with(&mut raw, &other, 1, None).unwrap_err().code, Code::Malformed, "another passport");
    let items = vec![Passport::Jws { text: &text }, Passport::Jws { text: &text }];
    let Ok(ServiceOk::Verdicts(batch)) = raw.ask(ServiceOp::VerifyBatch { want: for_demo(), items }) else { panic!() };
    assert!(matches!(&batch[0], Verdict::Consumed(it) if it.left == Some(0)), "{batch:?}");
    assert_eq!(batch[1], Verdict::Refused(Code::LimitExceeded));
    assert_eq!(verify(&mut raw, &text), Verdict::Refused(Code::LimitExceeded));
}

#[test]
fn a_proof_is_for_the_whole_text() {
    let house = house();
    let mut raw = house.raw();
    let key = SigningKey::from_bytes(&[3; 32]);
    let public = key.verifying_key().to_bytes();
    let jkt = thumbprint(&public);
    let text = issue(&mut raw, IssueSpec { jkt: Some(&jkt), ..jws("bound", "alice") }).unwrap();
    let url = "https://api.example/orders";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap();
    let proof = |over: &[u8], jti: &str| {
        let purpose = Purpose::Http { htm: "GET".into(), htu: url.into(), nonce: None };
        let claims = ProofClaims { jti: jti.into(), iat: now, ath: ath(over), purpose };
        let input = claims.signing_input(&public).unwrap();
        with_signature(&input, &key.sign(input.as_bytes()).to_bytes())
    };
    let mut ask = |retry, proof: &str| {
        let proof = Possession::Dpop { proof, htm: "GET", htu: url, nonce: None };
        verify_with(&mut raw, &text, retry, Some(proof)).unwrap()
    };
    for (jti, over) in [("payload", part(&text, 1)), ("input", text.rsplit_once('.').unwrap().0.into())] {
        let verdict = ask(1, &proof(&over, jti));
        assert!(matches!(&verdict, Verdict::Unproven { why } if why.contains("`ath`")), "{jti}: {verdict:?}");
    }
    assert!(matches!(ask(2, &proof(text.as_bytes(), "text")), Verdict::Consumed(_)));
    assert_eq!(verify(&mut house.raw(), &text), Verdict::Refused(Code::PopRequired));
}

#[test]
fn the_largest_reply_is_counted_before_anything_is_signed() {
    let house = house();
    let mut raw = house.raw();
    let ctx = format!("{{\"fill\":\"{}\"}}", "x".repeat(3700));
    let mut batch = |items: usize, form| {
        let spec = IssueSpec { ctx: Some(&ctx), form, ..demo("alice") };
        raw.ask(ServiceOp::IssueBatch(vec![spec; items]))
    };
    // About 3,990 bytes each as envelopes; as JWS, a third more.
    assert!(matches!(batch(240, PassportForm::Envelope), Ok(ServiceOk::IssuedBatch(all)) if all.len() == 240));
    let problem = batch(240, PassportForm::Jws).unwrap_err();
    assert_eq!((problem.code, problem.message.contains("max_frame")), (Code::TooLarge, true), "{problem:?}");
    assert!(matches!(batch(180, PassportForm::Jws), Ok(ServiceOk::IssuedBatch(all)) if all.iter().all(Result::is_ok)));
}

#[tokio::test]
async fn the_client_asks_for_either_form_and_presents_it() {
    let house = house();
    let client = house.client().await;
    let wish = |form| IssueRequest { template: "demo".into(), sub: "alice".into(), form, ..IssueRequest::default() };
    let want = Wanted { aud: Some("demo".into()), ..Wanted::default() };
    let one = client.issue(&wish(PassportForm::Jws)).await.unwrap();
    assert!(matches!(&one, OwnedPassport::Jws(text) if text.starts_with("eyJ")), "{one:?}");
    assert!(client.verify(&one, &want).await.unwrap().is_accepted());
    assert!(client.introspect(&one, &want).await.unwrap().active);
    // More than a frame holds.
    let ctx = serde_json::Map::from_iter([("fill".to_owned(), "x".repeat(3600).into())]);
    let wishes: Vec<_> = (0..400)
        .map(|n| if n % 3 == 0 { PassportForm::Envelope } else { PassportForm::Jws })
        .map(|form| IssueRequest { ctx: Some(ctx.clone()), ..wish(form) })
        .collect();
    let all: Vec<_> = client.issue_batch(&wishes).await.unwrap().into_iter().map(Result::unwrap).collect();
    let forms = all.iter().filter(|one| matches!(one, OwnedPassport::Jws(_))).count();
    assert_eq!((all.len(), forms), (400, 266));
    let verdicts = client.verify_batch(&all, &want).await.unwrap();
    assert!(verdicts.len() == 400 && verdicts.iter().all(Verdict::is_accepted));
    assert_eq!(client.revoke(&one).await.ok(), Some(true));
    assert_eq!(client.verify(&one, &want).await.unwrap(), Verdict::Refused(Code::Revoked));
}

/// With nothing but what the daemon gives: its text and its key set.
#[test]
fn libraries_of_others_accept_what_the_daemon_issued() {
    let house = house();
    let mut raw = house.raw();
    let text = issue(&mut raw, jws("demo", "customer-7")).unwrap();
    let Ok(ServiceOk::Keys(set)) = raw.ask(ServiceOp::Keys { if_etag: None }) else { panic!("no keys") };
    let mut longer = claims(&text);
    longer["exp"] = json!(longer["exp"].as_i64().unwrap() + 1);
    let longer = with(&text, 1, &serde_json_canonicalizer::to_vec(&longer).unwrap());
    let cases = BTreeMap::from([("ours", text.clone()), ("payload", longer), ("signature", bent(&text))]);
    let said = by_jsonwebtoken(&set.jwks, ("passportd.test", "demo"), &cases);
    holds("jsonwebtoken", &said);
    match by_others(&set.jwks, ("passportd.test", "demo"), "customer-7", &cases) {
        Ok(said) => said.iter().for_each(|(library, said)| holds(library, said)),
        Err(why) => skipped(&why),
    }
}
