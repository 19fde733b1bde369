//! One login for each PIN that is refused, however often the signer is started; who verifies meanwhile notices nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use passportd::wire::ceremony::{PlanKind, Request, Response};

use super::beside::{Beside, Company};
use super::support::passports::demo;
use super::support::softhsm::PIN;
use super::support::{House, Options, Roles, eventually, root_or_skip, rounds, skipped};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long a signer is started again and again with a wrong PIN, for each of [`rounds`]: ten minutes in `make soak`.
const ROUND: Duration = Duration::from_millis(1_200);

fn put_pin(path: &Path, pin: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, format!("{pin}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

/// A house whose signer does not run and would say of each login that it makes one, and who verifies there.
fn house(name: &str, control: &str) -> Option<(House, Beside)> {
    if !root_or_skip(name) {
        return None;
    }
    let mut house = House::start(Options::default().roles(Roles::Apart).fault());
    let beside = Beside::start(&house);
    house.kill("signer");
    house.fault(&format!("C_Login log\n{control}"));
    Some((house, beside))
}

/// Starts the signer, which ends by itself with 78.
fn refused(house: &mut House) {
    assert_eq!(house.start_to_the_end("signer").code(), Some(78), "{}", house.log());
}

fn serves(house: &mut House) {
    house.start_role("signer");
    eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
    house.kill("signer");
}

#[test]
fn a_wrong_pin_costs_one_login_however_often_the_signer_is_started() {
    let Some((mut house, beside)) = house("a PIN that is refused", "") else { return };
    let pin = house.dir().join("pin");
    put_pin(&pin, "0000-wrong");
    let (begun, mut starts) = (Instant::now(), 0);
    while begun.elapsed() < ROUND * rounds(5) {
        refused(&mut house);
        starts += 1;
        assert_eq!(house.calls("C_Login"), 1, "after {starts} starts");
    }
    assert!(starts > 5, "{starts} starts");
    assert!(house.log().contains("has refused this PIN before"), "{}", house.log());
    put_pin(&pin, PIN);
    serves(&mut house);
    assert_eq!(house.calls("C_Login"), 2);
    assert!(!house.dir().join("state/signer/pin.json").exists());
    println!("{starts} starts in {:?}, {} verdicts", begun.elapsed(), beside.end(&house));
}

#[test]
fn the_operators_word_is_good_for_one_more() {
    let Some((mut house, beside)) = house("an operator's word", "") else { return };
    put_pin(&house.dir().join("pin"), "0000-wrong");
    refused(&mut house);
    let request = |final_try| Request { plan: PlanKind::RetryPin, final_try, ..Request::default() };
    // The last try needs a word of its own.
    house.fault("C_Login log\nC_GetTokenInfo flags=final_try");
    let refusal = house.try_ceremony(&request(false), "");
    assert!(matches!(&refusal, Response::Failed { code, .. } if code == "pin"), "{refusal:?}");
    refused(&mut house);
    assert_eq!(house.calls("C_Login"), 1);
    assert!(matches!(house.try_ceremony(&request(true), ""), Response::Done(_)));
    for _ in 0..2 {
        refused(&mut house);
        assert_eq!(house.calls("C_Login"), 2);
    }
    beside.end(&house);
}

#[test]
fn the_final_try_is_not_made_without_an_operators_word() {
    for (flag, says) in [("final_try", "one more wrong PIN locks the token"), ("locked", "is locked (CKR_PIN_LOCKED)")]
    {
        let Some((mut house, beside)) = house("a final try", &format!("C_GetTokenInfo flags={flag}")) else { return };
        refused(&mut house);
        assert_eq!(house.calls("C_Login"), 0);
        assert!(house.log().contains(says), "{}", house.log());
        house.fault("C_Login log");
        serves(&mut house);
        assert_eq!(house.calls("C_Login"), 1);
        beside.end(&house);
    }
}

#[test]
fn a_pin_that_is_changed_under_a_signer_is_found_out_by_one_login() {
    if !root_or_skip("a PIN that is changed") {
        return;
    }
    let mut house = House::start(Options::default().roles(Roles::Apart).fault());
    let (signer, beside) = (house.pid("signer"), Beside::start(&house));
    house.fault("C_Login log rv=0xA0");
    house.raw().issue(demo("alice")).expect("a login holds");
    // CKR_CRYPTOKI_NOT_INITIALIZED, and so another login.
    house.fault("C_Login log rv=0xA0\nC_Sign rv=0x190 for=1");
    assert!(house.raw().issue(demo("bob")).is_err());
    assert_eq!(house.ended(signer).code(), Some(78), "{}", house.log());
    refused(&mut house);
    assert_eq!(house.calls("C_Login"), 1);
    beside.end(&house);
}

/// The PIN of the token itself, by another program.
#[test]
fn a_pin_that_is_changed_on_the_token_stops_no_signer_that_serves() {
    if !root_or_skip("a PIN that is changed on the token") {
        return;
    }
    const OTHER: &str = "4712-test";
    let mut house = House::start(Options::default().roles(Roles::Apart).fault());
    let (signer, company) = (house.pid("signer"), Company::start(&house, 4));
    match house.hsm().tool(Some(PIN)).args(["--change-pin", "--new-pin", OTHER]).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => return skipped("pkcs11-tool (package opensc) is not installed"),
    }
    std::thread::sleep(Duration::from_secs(1));
    let told = company.end(&house, &[]);
    assert!(!told.jtis.is_empty(), "a login holds");
    // The next login is refused, once.
    let beside = Beside::start(&house);
    house.fault("C_Login log\nC_Sign rv=0x190 for=1");
    assert!(house.raw().issue(demo("bob")).is_err());
    assert_eq!(house.ended(signer).code(), Some(78), "{}", house.log());
    refused(&mut house);
    assert_eq!(house.calls("C_Login"), 1);
    put_pin(&house.dir().join("pin"), OTHER);
    house.start_role("signer");
    eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
    assert!(beside.end(&house) > 0);
}
