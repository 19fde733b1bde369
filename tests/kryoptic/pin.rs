//! PINs that are refused. kryoptic counts them in its store, ten at most, and says how few are left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::sys::signal::Signal;
use passportd::wire::ceremony::{PlanKind, Request, Response};

use super::support::passports::demo;
use super::support::softhsm::{LABEL, PIN};
use super::support::{House, Roles, eventually};
use super::{PATIENCE, house};

const WRONG: &str = "0000-wrong";

/// A daemon without its signer, which would say of each login that it makes one.
fn without_a_signer() -> Option<House> {
    let mut house = house(|options| options.roles(Roles::Apart).fault())?;
    house.kill("signer");
    house.fault("C_Login log");
    Some(house)
}

fn put_pin(house: &House, pin: &str) {
    let path = house.dir().join("pin");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, format!("{pin}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
}

/// Somebody who may write to the store tries a wrong PIN so often.
fn guess(house: &House, times: usize) {
    for _ in 0..times {
        let output = house.hsm().tool(Some(WRONG)).arg("-O").output().unwrap();
        assert!(!output.status.success(), "{output:?}");
    }
}

/// What the token says of its PIN, in pkcs11-tool's words.
fn flags(house: &House) -> String {
    let said = String::from_utf8(house.hsm().tool(None).arg("-L").output().unwrap().stdout).unwrap();
    assert!(said.contains(LABEL), "{said}");
    said.lines().find_map(|line| line.trim().strip_prefix("token flags")).unwrap().to_owned()
}

/// Starts the signer, which ends by itself with 78.
fn refused(house: &mut House) {
    assert_eq!(house.start_to_the_end("signer").code(), Some(78), "{}", house.log());
}

fn serves(house: &mut House) {
    house.start_role("signer");
    eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
    assert_eq!(house.end("signer", Signal::SIGTERM).code(), Some(0));
}

fn retry(house: &House, final_try: bool) -> Response {
    house.try_ceremony(&Request { plan: PlanKind::RetryPin, final_try, ..Request::default() }, "")
}

fn list(house: &House, final_try: bool) -> Response {
    house.try_ceremony(&Request { plan: PlanKind::List, final_try, ..Request::default() }, PIN)
}

#[test]
fn a_wrong_pin_costs_one_login_however_often_the_signer_is_started() {
    let Some(mut house) = without_a_signer() else { return };
    put_pin(&house, WRONG);
    for _ in 0..10 {
        refused(&mut house);
        assert_eq!(house.calls("C_Login"), 1);
    }
    assert!(house.log().contains("has refused this PIN before"), "{}", house.log());
    put_pin(&house, PIN);
    serves(&mut house);
    assert_eq!(house.calls("C_Login"), 2);
}

#[test]
fn a_count_that_is_low_is_told_and_set_back_by_a_ceremony() {
    let Some(mut house) = without_a_signer() else { return };
    assert!(!flags(&house).contains("count low"), "{}", flags(&house));
    guess(&house, 7);
    assert!(flags(&house).contains("user PIN count low"), "{}", flags(&house));
    let doctor = Request { plan: PlanKind::Doctor, ..Request::default() };
    let Response::Done(report) = house.try_ceremony(&doctor, "") else { panic!() };
    assert!(report.findings.iter().any(|finding| finding.detail.contains("CKF_USER_PIN_COUNT_LOW")), "{report:?}");
    serves(&mut house);
    // The signer may not write to the store, so what it has proved is not counted. A ceremony may.
    assert!(flags(&house).contains("user PIN count low"), "{}", flags(&house));
    assert!(matches!(list(&house, false), Response::Done(_)));
    assert!(!flags(&house).contains("count low"), "{}", flags(&house));
}

#[test]
fn the_final_try_is_not_made_without_an_operators_word() {
    let Some(mut house) = without_a_signer() else { return };
    guess(&house, 9);
    assert!(flags(&house).contains("final user PIN try"), "{}", flags(&house));
    refused(&mut house);
    assert!(house.log().contains("one more wrong PIN locks the token"), "{}", house.log());
    for answer in [retry(&house, false), list(&house, false)] {
        assert!(matches!(&answer, Response::Failed { code, .. } if code == "pin"), "{answer:?}");
    }
    assert_eq!(house.calls("C_Login"), 0);
    assert!(matches!(retry(&house, true), Response::Done(_)));
    serves(&mut house);
    assert_eq!(house.calls("C_Login"), 1);
    // As above: the signer's success is not counted, a ceremony's is.
    refused(&mut house);
    assert_eq!(house.calls("C_Login"), 1);
    assert!(matches!(list(&house, true), Response::Done(_)));
    serves(&mut house);
    // And locked is locked.
    guess(&house, 10);
    assert!(flags(&house).contains("user PIN locked"), "{}", flags(&house));
    let before = house.calls("C_Login");
    refused(&mut house);
    assert!(house.log().contains("is locked (CKR_PIN_LOCKED)"), "{}", house.log());
    assert_eq!(house.calls("C_Login"), before);
}

#[test]
fn the_operators_word_is_good_for_one_more() {
    let Some(mut house) = without_a_signer() else { return };
    put_pin(&house, WRONG);
    refused(&mut house);
    refused(&mut house);
    assert_eq!(house.calls("C_Login"), 1);
    assert!(matches!(retry(&house, false), Response::Done(_)));
    for _ in 0..2 {
        refused(&mut house);
        assert_eq!(house.calls("C_Login"), 2);
    }
    // The right one needs no word.
    put_pin(&house, PIN);
    serves(&mut house);
    assert_eq!(house.calls("C_Login"), 3);
}
