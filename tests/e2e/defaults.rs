//! What a passport says when the wish says little: audience, lifetime, scopes, start, context.

use passportd::wire::{Code, IssueSpec, Problem, Verdict, Want};
use serde_json::{Value, json};

use crate::support::passports::{claims, demo, for_demo};
use crate::support::{House, Options};

/// Templates that differ in what they leave open.
const POLICY: &str = r#"
[[peer]]
name = "tester"
uid = @UID@
rps = 10000000
allow = ["issue", "verify", "status", "reload", "stage", "activate"]
templates = ["one", "own", "many", "short", "open", "acting", "user"]
verify_as = ["a", "b", "passportd.test"]

[[template]]
name = "one"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["a"]
scopes = ["read", "write"]
default_scopes = ["read"]
max_ttl_s = 100000

[[template]]
name = "own"
tenant = "t1"
purpose = "auth"
subjects = ["svc/*"]
audiences = ["a", "passportd.test", "b"]
max_ttl_s = 7200

[[template]]
name = "many"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["a", "b"]
max_ttl_s = 3600

[[template]]
name = "short"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["a"]
max_ttl_s = 90
default_ttl_s = 30

[[template]]
name = "open"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
max_ttl_s = 3600

[[template]]
name = "acting"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["a"]
actions = ["open", "close"]
max_ttl_s = 3600

[[template]]
name = "user"
tenant = "t1"
purpose = "auth"
subjects = ["alice", "bob"]
audiences = ["a"]
max_ttl_s = 3600
"#;

fn wish<'a>(template: &'a str, sub: &'a str) -> IssueSpec<'a> {
    IssueSpec { template, sub, ..IssueSpec::default() }
}

/// The claims, or the code and message of the problem.
fn said(house: &House, spec: IssueSpec<'_>) -> Result<Value, (Code, String)> {
    let issued = house.raw().issue(spec);
    issued.map(|passport| claims(&passport)).map_err(|Problem { code, message, .. }| (code, message))
}

fn code(house: &House, spec: IssueSpec<'_>) -> Code {
    said(house, spec).expect_err("a problem").0
}

fn lifetime(claims: &Value) -> i64 {
    claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
}

#[test]
fn the_audience_is_the_only_one_else_the_issuer_else_refused() {
    let house = House::start(Options::default().policy(POLICY));
    assert_eq!(said(&house, wish("one", "x")).unwrap()["aud"], json!(["a"]));
    assert_eq!(said(&house, wish("own", "svc/x")).unwrap()["aud"], json!(["passportd.test"]));
    assert_eq!(code(&house, wish("many", "x")), Code::BadAud);
    assert_eq!(code(&house, wish("open", "x")), Code::BadAud, "require_aud");
    let named = IssueSpec { aud: vec!["b", "a"], ..wish("many", "x") };
    assert_eq!(said(&house, named).unwrap()["aud"], json!(["b", "a"]), "as they were named");
    let foreign = IssueSpec { aud: vec!["a", "c"], ..wish("many", "x") };
    assert_eq!(code(&house, foreign), Code::BadAud);
}

#[test]
fn who_verifies_as_one_need_not_say_so_and_as_several_must() {
    let nobody = || Want::default();
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    assert!(matches!(raw.verify(nobody(), &passport), Ok(Verdict::Accepted(_))), "the only one it may verify as");
    let house = House::start(Options::default().policy(POLICY));
    let mut raw = house.raw();
    let passport = raw.issue(wish("one", "x")).unwrap();
    assert_eq!(raw.verify(nobody(), &passport).unwrap_err().code, Code::BadAud);
    let as_c = Want { aud: Some("c"), ..Want::default() };
    assert_eq!(raw.verify(as_c, &passport).unwrap_err().code, Code::BadAud, "no verdict as somebody else");
}

#[test]
fn without_require_aud_a_template_without_audiences_is_for_everybody() {
    let house = House::start(Options::default().policy(POLICY).set("security.require_aud", false));
    let mut raw = house.raw();
    let open = raw.issue(wish("open", "x")).unwrap();
    assert_eq!(claims(&open)["aud"], json!([]));
    for aud in [None, Some("a"), Some("b")] {
        let verdict = raw.verify(Want { aud, ..Want::default() }, &open).unwrap();
        assert!(matches!(verdict, Verdict::Accepted(_)), "{aud:?}");
    }
    // One that has audiences is still for those alone.
    let one = raw.issue(wish("one", "x")).unwrap();
    assert_eq!(raw.verify(Want { aud: Some("b"), ..Want::default() }, &one), Ok(Verdict::Refused(Code::BadAud)));
    assert_eq!(code(&house, wish("many", "x")), Code::BadAud, "and several stay ambiguous");
}

#[test]
fn the_lifetime_is_the_default_and_never_longer_than_template_and_configuration_allow() {
    let options = Options::default().policy(POLICY).set("passport.default_ttl_s", 1000).set("passport.max_ttl_s", 5000);
    let house = House::start(options);
    let of = |template, sub, ttl_s| lifetime(&said(&house, IssueSpec { ttl_s, ..wish(template, sub) }).unwrap());
    assert_eq!(of("one", "x", None), 1000, "the configured default");
    assert_eq!(of("short", "x", None), 30, "the template's own default");
    assert_eq!(of("short", "x", Some(60)), 60);
    assert_eq!(of("short", "x", Some(91)), 90, "cut to the template's bound");
    assert_eq!(of("own", "svc/x", Some(7200)), 5000, "cut to max_ttl_s");
    assert_eq!(of("one", "x", Some(u32::MAX)), 5000);
    assert_eq!(of("one", "x", Some(1)), 1);
    assert_eq!(code(&house, IssueSpec { ttl_s: Some(0), ..wish("one", "x") }), Code::Malformed);
}

#[test]
fn scopes_actions_and_subjects_stay_within_the_template() {
    let house = House::start(Options::default().policy(POLICY));
    assert_eq!(said(&house, wish("one", "x")).unwrap()["scopes"], json!(["read"]), "the default");
    let both = IssueSpec { scopes: vec!["write", "read"], ..wish("one", "x") };
    assert_eq!(said(&house, both).unwrap()["scopes"], json!(["write", "read"]));
    assert_eq!(code(&house, IssueSpec { scopes: vec!["admin"], ..wish("one", "x") }), Code::ScopeDenied);
    assert_eq!(said(&house, wish("many", "x")).map(|_| ()).unwrap_err().0, Code::BadAud);

    let acting = said(&house, IssueSpec { action: Some("open"), ..wish("acting", "x") }).unwrap();
    assert_eq!(acting["cap"], json!({"action": "open", "template": "acting"}));
    assert_eq!(said(&house, wish("acting", "x")).unwrap()["cap"], json!({"template": "acting"}));
    assert_eq!(code(&house, IssueSpec { action: Some("burn"), ..wish("acting", "x") }), Code::ScopeDenied);
    assert_eq!(code(&house, IssueSpec { action: Some("open"), ..wish("one", "x") }), Code::ScopeDenied);

    assert_eq!(said(&house, wish("own", "svc/db")).unwrap()["sub"], "svc/db");
    assert_eq!(code(&house, wish("own", "db")), Code::ScopeDenied);
    assert_eq!(said(&house, wish("user", "bob")).unwrap()["sub"], "bob");
    assert_eq!(code(&house, wish("user", "carol")), Code::ScopeDenied);
}

#[test]
fn a_start_in_the_future_is_a_claim_and_one_in_the_past_is_now() {
    let house = House::start(Options::default().policy(POLICY).set("passport.clock_skew_s", 0));
    let now = passportd::clock::Moment::now().unix();
    let later = said(&house, IssueSpec { nbf: Some(now + 50), ttl_s: Some(60), ..wish("one", "x") }).unwrap();
    assert_eq!((&later["nbf"], lifetime(&later)), (&json!(now + 50), 60), "the lifetime counts from the issue");
    let earlier = said(&house, IssueSpec { nbf: Some(now - 500), ..wish("one", "x") }).unwrap();
    assert_eq!(earlier["nbf"], earlier["iat"], "nobody gets a past in which they had not asked");
    let empty = IssueSpec { nbf: Some(now + 500), ttl_s: Some(60), ..wish("one", "x") };
    assert_eq!(code(&house, empty), Code::Malformed, "it would end before it begins");
    assert!(said(&house, IssueSpec { nbf: Some(i64::MAX), ..wish("one", "x") }).is_err());
    assert!(said(&house, IssueSpec { nbf: Some(i64::MIN), ..wish("one", "x") }).is_ok());
}

#[test]
fn the_context_is_signed_as_canonical_json_or_refused() {
    let house = House::start(Options::default());
    let with = |ctx| said(&house, IssueSpec { ctx: Some(ctx), ..demo("x") });
    let signed = with(" {\"b\": [1, {\"x\": null}], \"a\":\"é\\u0041\"} ").unwrap();
    assert_eq!(signed["ctx"], json!({"a": "éA", "b": [1, {"x": null}]}));
    for bad in ["", "[]", "1", "null", "{", "{} {}", "{\"a\":1.5}", "{\"a\":9007199254740992}", "{\"a\":1e400}"] {
        assert_eq!(with(bad).expect_err(bad).0, Code::Malformed, "{bad:?}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
    assert_eq!(with(&deep).unwrap_err().0, Code::Malformed);
    let nested = "[".repeat(50_000);
    assert_eq!(with(&nested).unwrap_err().0, Code::Malformed);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(4096));
    assert_eq!(with(&long).unwrap_err(), (Code::TooLarge, "limits.max_msg_bytes is 4096".to_owned()));
}

#[test]
fn every_claim_is_there_and_jtis_are_all_different() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passports: Vec<_> = (0..50).map(|_| raw.issue(demo("alice")).unwrap()).collect();
    let one = claims(&passports[0]);
    let members: Vec<_> = one.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, ["aud", "cap", "epoch", "exp", "iat", "iss", "jti", "kid", "scopes", "sub"]);
    assert_eq!((&one["iss"], &one["sub"], &one["epoch"]), (&json!("passportd.test"), &json!("alice"), &json!(0)));
    assert_eq!(one["kid"], passports[0].kid);
    let jtis: std::collections::BTreeSet<_> = passports.iter().map(|one| claims(one)["jti"].to_string()).collect();
    assert_eq!(jtis.len(), 50);
    for passport in &passports {
        let again = serde_json_canonicalizer::to_vec(&claims(passport)).unwrap();
        assert_eq!(again, passport.msg, "the payload is its own canonical form");
        assert!(matches!(raw.verify(for_demo(), passport), Ok(Verdict::Accepted(_))));
    }
    house.assert_on_record(passports.iter().map(|one| &one.msg[..]));
}
