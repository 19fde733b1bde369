//! Keys: made, listed, looked at, used, replaced, taken over.

use passportd::passport::parse_jwks;
use passportd::wire::ceremony::{KeyReport, PlanKind, Report, Request, Response};
use passportd::wire::link::{LinkOp, LinkResult, PROBE_PREFIX};
use passportd::wire::{IssueSpec, ServiceOk, ServiceOp, Verdict};
use strict25519::PreparedKey;

use super::support::house::FIRST_KEY;
use super::support::passports::{demo, for_demo, owned};
use super::support::softhsm::{LABEL, PIN};
use super::support::{House, Options, eventually};
use super::{PATIENCE, house};

const V2: &str = "ed25519/t1/auth/v2";

fn list(house: &House) -> Report {
    house.ceremony(PlanKind::List, "t1", "auth")
}

fn key<'a>(report: &'a Report, kid: &str) -> &'a KeyReport {
    report.keys.iter().find(|key| key.kid == kid).unwrap_or_else(|| panic!("{kid}: {report:?}"))
}

/// What pkcs11-tool says.
fn tool(house: &House, arguments: &[&str]) -> String {
    let output = house.hsm().tool(Some(PIN)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn accepted(house: &House, passport: &passportd::passport::OwnedEnvelope) {
    let verdict = house.raw().verify(for_demo(), passport).unwrap();
    assert!(matches!(verdict, Verdict::Accepted(_)), "{verdict:?}");
}

#[test]
fn init_makes_three_keys_that_are_fit() {
    let Some(house) = house(Options::without_keys) else { return };
    let report = house.init();
    let made: Vec<_> = report.keys.iter().filter(|key| key.made_now && key.usable).map(|key| &*key.kid).collect();
    assert_eq!(made, [FIRST_KEY, "ed25519/t1/audit/v1", "hmac-sha256/t1/seal/v1"], "{report:?}");
    assert!(report.backup.is_some() && report.orphans.is_empty() && report.warnings.is_empty(), "{report:?}");
    house.raw().issue(demo("alice")).unwrap();
}

#[test]
fn list_names_module_token_and_keys() {
    let Some(house) = house(|options| options) else { return };
    let report = list(&house);
    assert!(report.module.to_lowercase().contains("kryoptic"), "{report:?}");
    assert!(report.token.starts_with(LABEL), "{report:?}");
    assert!(report.keys.len() == 3 && report.keys.iter().all(|key| key.usable && !key.made_now), "{report:?}");
    // kryoptic lists objects for its mechanisms, too (CKO_MECHANISM): none of them is taken for an orphan.
    assert!(report.orphans.is_empty(), "{report:?}");
}

#[test]
fn attributes_are_as_asked_for() {
    let Some(house) = house(|options| options) else { return };
    let report = list(&house);
    assert!(report.keys.iter().all(|key| key.mechanisms_bound), "CKA_ALLOWED_MECHANISMS is kept: {report:?}");
    let id = &key(&report, FIRST_KEY).cka_id;
    let said = tool(&house, &["-O", "--type", "privkey", "--id", id]);
    let line = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} {said}")).trim().to_owned()
    };
    assert_eq!(line("Usage:"), "sign");
    assert_eq!(line("Access:"), "sensitive, always sensitive, never extractable, local");
}

#[test]
fn passports_are_issued_and_verified() {
    let Some(house) = house(|options| options) else { return };
    let all: Vec<_> = (0..100).map(|n| house.raw().issue(demo(&n.to_string())).unwrap()).collect();
    all.iter().for_each(|passport| accepted(&house, passport));
    // Another implementation says the same.
    let ServiceOk::Keys(keys) = house.ask(ServiceOp::Keys { if_etag: None }).unwrap() else { panic!() };
    let keys = parse_jwks(&keys.jwks).unwrap();
    for passport in &all {
        let published = keys.iter().find(|key| key.kid.to_string() == passport.kid).unwrap();
        let key = ed25519_dalek::VerifyingKey::from_bytes(&published.public).unwrap();
        let sig = ed25519_dalek::Signature::from_slice(&passport.sig).unwrap();
        key.verify_strict(&passport.msg, &sig).unwrap();
    }
    house.assert_on_record(all.iter().map(|passport| passport.msg.as_slice()));
}

#[test]
fn a_batch_is_issued_item_by_item() {
    let Some(house) = house(|options| options) else { return };
    let names: Vec<String> = (0..64).map(|n| n.to_string()).collect();
    let unknown = IssueSpec { template: "none", ..demo("refused") };
    let items: Vec<_> = names.iter().map(|name| demo(name)).chain([unknown]).collect();
    let ServiceOk::IssuedBatch(mut answers) = house.ask(ServiceOp::IssueBatch(items)).unwrap() else { panic!() };
    assert!(answers.len() == 65 && answers.pop().unwrap().is_err());
    let passports: Vec<_> = answers.into_iter().map(|answer| owned(answer.unwrap())).collect();
    let verdicts = house.raw().verify_batch(for_demo(), &passports).unwrap();
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Accepted(_))), "{verdicts:?}");
}

#[test]
fn a_probe_is_a_signature_of_that_key() {
    let Some(house) = house(|options| options) else { return };
    let public = key(&list(&house), FIRST_KEY).public.clone().unwrap();
    let public: [u8; 32] = passportd::passport::hex::decode(&public).unwrap().try_into().unwrap();
    let LinkResult::Probed { challenge, sig } = house.ask_signer(LinkOp::Probe { kid: FIRST_KEY }) else { panic!() };
    assert!(PreparedKey::new(&public).unwrap().verify(&[PROBE_PREFIX, &challenge].concat(), &sig));
    let other = house.ask_signer(LinkOp::Probe { kid: "ed25519/t1/auth/v9" });
    assert!(matches!(other, LinkResult::Refused(_)), "{other:?}");
}

#[test]
fn a_key_is_replaced_by_the_next_version() {
    let Some(house) = house(|options| options) else { return };
    let before = house.raw().issue(demo("before")).unwrap();
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stage(V2).unwrap();
    house.activate(V2).unwrap();
    let after = house.raw().issue(demo("after")).unwrap();
    assert_eq!((&*before.kid, &*after.kid), (FIRST_KEY, V2));
    accepted(&house, &before);
    accepted(&house, &after);
}

#[test]
fn a_signer_that_initialises_the_module_again_sees_a_new_key() {
    let Some(house) = house(|options| options) else { return };
    let signer = house.pid("signer");
    assert!(matches!(house.ask_signer(LinkOp::Probe { kid: V2 }), LinkResult::Refused(_)));
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stage(V2).unwrap();
    assert!(matches!(house.ask_signer(LinkOp::Probe { kid: V2 }), LinkResult::Probed { .. }));
    assert_eq!(house.pid("signer"), signer, "the same process");
}

#[test]
fn a_restart_finds_the_same_keys() {
    let Some(mut house) = house(|options| options) else { return };
    let (before, passport) = (list(&house).keys, house.raw().issue(demo("alice")).unwrap());
    house.stop();
    house.boot();
    house.wait_ready();
    assert_eq!(list(&house).keys, before);
    accepted(&house, &passport);
    assert_eq!(house.raw().issue(demo("bob")).unwrap().kid, FIRST_KEY);
}

#[test]
fn a_key_of_another_program_is_adopted() {
    let Some(house) = house(|options| options) else { return };
    let make = |id: &str, more: &[&str]| {
        let common = ["--keypairgen", "--key-type", "EC:edwards25519", "--label", "Billing (2019)", "--id", id];
        tool(&house, &[&common, more].concat());
    };
    // Where `--usage-sign` is all that is said, kryoptic grants nothing else.
    make("0a0b", &["--usage-sign"]);
    make("0c", &["--usage-sign", "--extractable"]);
    let adopt = |id: &str| {
        let (tenant, purpose) = (Some("t1".to_owned()), Some("auth".to_owned()));
        let request =
            Request { plan: PlanKind::Adopt, tenant, purpose, cka_id: Some(id.to_owned()), ..Request::default() };
        house.try_ceremony(&request, PIN)
    };
    let refused = adopt("0c");
    assert!(
        matches!(&refused, Response::Failed { code, message } if code == "unfit" && message.contains("CKA_EXTRACTABLE")),
        "{refused:?}"
    );
    let Response::Done(report) = adopt("0a0b") else { panic!() };
    assert!(key(&report, V2).usable && key(&report, V2).cka_id == "0a0b", "{report:?}");
    house.stage(V2).unwrap();
    house.activate(V2).unwrap();
    let passport = eventually("it signs", PATIENCE, || house.raw().issue(demo("alice")).ok());
    assert_eq!(passport.kid, V2);
    accepted(&house, &passport);
}

#[test]
fn the_doctor_finds_nothing_wrong() {
    let Some(house) = house(|options| options) else { return };
    let Response::Done(report) = house.try_ceremony(&Request { plan: PlanKind::Doctor, ..Request::default() }, PIN)
    else {
        panic!()
    };
    assert!(report.findings.iter().all(|finding| finding.ok), "{:?}", report.findings);
    let says = |name: &str, what: &str| {
        let found = report.findings.iter().find(|finding| finding.name == name);
        assert!(found.is_some_and(|finding| finding.detail.contains(what)), "{name}: {:?}", report.findings);
    };
    says("store", "store");
    says("config", "kryoptic.toml");
    says("initialise", "Kryoptic");
    says("pin", "accepted");
    says(FIRST_KEY, "pinned and fit");
}
