//! A PIN that the HSM refuses is not tried again: the device counts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::{Code, Verdict};

use super::support::passports::{demo, for_demo};
use super::support::softhsm::PIN;
use super::support::{House, Options, eventually};
use super::workshop::Workshop;

const WRONG: &str = "0000-wrong";

fn wrong_pin(path: &Path) {
    put_pin(path, WRONG);
}

fn put_pin(path: &Path, pin: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, format!("{pin}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

#[test]
fn a_signer_whose_pin_is_refused_ends_with_78() {
    let shop = Workshop::new();
    wrong_pin(&shop.path("pin"));
    let ended = shop.start("signer", &[]);
    assert_eq!(ended.status.and_then(|status| status.code()), Some(78), "{}", ended.said);
    for says in ["passportd-test", "refused the PIN", "correct the PIN file"] {
        assert!(ended.said.contains(says), "{says}: {}", ended.said);
    }
    assert!(!ended.said.contains(WRONG), "{}", ended.said);
}

#[test]
fn run_tries_a_refused_pin_once_and_verification_goes_on() {
    let mut house = House::start(Options::default());
    let passport = house.raw().issue(demo("alice")).unwrap();
    house.stop();
    wrong_pin(&house.dir().join("pin"));
    house.boot();
    eventually("it is refused", Duration::from_secs(10), || house.log().contains("refused the PIN").then_some(()));
    // Far longer than the pauses of a role that is started again.
    std::thread::sleep(Duration::from_secs(3));
    let log = house.log();
    assert_eq!(log.matches("refused the PIN").count(), 1, "{log}");
    assert!(log.contains("not started again") && !log.contains(WRONG), "{log}");
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    assert_eq!(house.raw().issue(demo("bob")).unwrap_err().code, Code::HsmUnavailable);
    let (status, report) = house.get("/readyz");
    let named = "{\"name\":\"hsm\",\"ok\":false,\"detail\":\"the HSM does not sign\"}";
    assert!(status == 503 && report.contains(named), "{status} {report}");
    // Mended, and said so.
    put_pin(&house.dir().join("pin"), PIN);
    house.signal("run", Signal::SIGHUP);
    eventually("passports are issued", Duration::from_secs(10), || house.raw().issue(demo("bob")).ok());
    assert_eq!(house.stop().code(), Some(0));
}
