//! Mistakes that a daemon runs with, or finds in the one that runs already: it says so by Health, and verification goes on.

use std::fs;
use std::process::Output;
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::passport::OwnedEnvelope;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{Code, Verdict};

use super::support::house::FIRST_KEY;
use super::support::passports::{demo, for_demo};
use super::support::{House, Hsm, Options, Roles, Users, eventually, ledger, process};
use super::tool::{Ran, run, tool};

const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until a condition of Health does not hold, and says why.
fn trouble(house: &House, name: &str, says: &str) -> String {
    eventually(says, PATIENCE, || {
        let found = house.health().conditions.into_iter().find(|one| one.name == name).unwrap();
        (!found.ok && found.detail.contains(says)).then_some(found.detail)
    })
}

/// The port names the condition, and what was issued verifies.
fn assert_verifies(house: &House, condition: &str, passport: &OwnedEnvelope) {
    let (status, report) = house.get("/readyz");
    assert_eq!(status, 503, "{report}");
    assert!(report.contains(&format!("{{\"name\":\"{condition}\",\"ok\":false,\"detail\":")), "{report}");
    assert!(matches!(house.raw().verify(for_demo(), passport), Ok(Verdict::Accepted(_))));
}

/// The same, and nothing is issued.
fn assert_only_verifies(house: &House, condition: &str, passport: &OwnedEnvelope, code: Code) {
    assert_verifies(house, condition, passport);
    assert_eq!(house.raw().issue(demo("bob")).unwrap_err().code, code);
}

/// `passportctl` for this daemon.
pub(crate) fn ctl(house: &House, arguments: &[&str]) -> Ran {
    let mut command = tool(arguments);
    command.arg("--config").arg(house.dir().join("passportd.toml"));
    run(&mut command, "")
}

/// Runs a role until it ends by itself.
pub(crate) fn ended(house: &House, role: &str) -> Output {
    let mut command = process::command(role, house.dir());
    command.stdin(std::process::Stdio::null()).output().unwrap()
}

#[test]
fn a_second_instance() {
    let house = House::start(Options::default());
    for (role, socket) in [("front", "passportd.sock"), ("signer", "signer.sock"), ("run", "ceremony.sock")] {
        let second = ended(&house, role);
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(78), "{role}: {said}");
        let says = format!("/{socket} is served by another process; stop it, or configure another path");
        assert!(said.contains(&says), "{role}: {said}");
    }
    house.raw().issue(demo("alice")).expect("the first goes on");
}

#[test]
fn a_signer_of_another_issuer() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let passport = house.raw().issue(demo("alice")).unwrap();
    house.kill("signer");
    house.set("passport.issuer", "other.example");
    house.start_role("signer");
    let said = trouble(&house, "hsm", "refuses this front");
    let wanted =
        "the signer signs for \"other.example\", the front serves \"passportd.test\"; set the same issuer for both";
    assert!(said.contains(wanted), "{said}");
    assert_only_verifies(&house, "hsm", &passport, Code::HsmUnavailable);
}

#[test]
fn no_signer() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let passport = house.raw().issue(demo("alice")).unwrap();
    house.kill("signer");
    let said = trouble(&house, "hsm", "the signer does not run: its log says why");
    assert!(said.contains("/signer.sock: Connection refused"), "{said}");
    assert_only_verifies(&house, "hsm", &passport, Code::HsmUnavailable);
}

#[test]
fn a_key_that_the_hsm_does_not_have() {
    let mut house = House::start(Options::default().module(Hsm::SoftHsm));
    let passport = house.raw().issue(demo("alice")).unwrap();
    house.stop();
    fs::remove_file(house.dir().join("state/keys.json")).unwrap();
    house.boot();
    let said = trouble(&house, "hsm", "it is in the HSM but not pinned");
    assert!(said.starts_with(FIRST_KEY) && said.ends_with("see passportctl hsm list"), "{said}");
    assert_verifies(&house, "hsm", &passport);
    house.stop();
    // SoftHSM has a file for each object, and one for the token itself.
    for token in fs::read_dir(house.dir().join("store")).unwrap().map(|token| token.unwrap().path()) {
        let objects = fs::read_dir(token).unwrap().map(|object| object.unwrap().path());
        let keys = objects
            .filter(|path| path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object"));
        keys.for_each(|key| fs::remove_file(key).unwrap());
    }
    house.boot();
    let said = trouble(&house, "hsm", "is not in the HSM");
    assert!(said.contains(FIRST_KEY) && said.contains("is hsm.uri the token that it was made in?"), "{said}");
    assert_verifies(&house, "hsm", &passport);
    assert!(house.raw().issue(demo("bob")).is_err());
}

#[test]
fn another_token_than_the_one_with_the_keys() {
    let mut house = House::start(Options::default().roles(Roles::Apart).users(Users::Own));
    let passport = house.raw().issue(demo("alice")).unwrap();
    house.stop();
    let count = |house: &House, event: &str| {
        let records = ledger::records(&house.ledger());
        records.iter().filter(|one| one["event"] == event).count()
    };
    let told = |house: &House| house.log().lines().filter(|line| line.contains("the HSM does not sign")).count();
    assert_eq!((count(&house, "signer_lost"), count(&house, "signer_recovered")), (0, 0), "a start is no loss");
    assert_eq!(told(&house), 0, "nor is it news: {}", house.log());

    house.hsm().add_token("other");
    house.set("hsm.uri", "pkcs11:token=other");
    house.boot();
    let said = trouble(&house, "hsm", "can't be used: it was made in the token with serial number ");
    eventually("the log says so, too", PATIENCE, || house.log().contains(&format!("reason={said}")).then_some(()));
    eventually("and the ledger", PATIENCE, || (count(&house, "signer_lost") == 1).then_some(()));
    assert_verifies(&house, "hsm", &passport);
    assert_eq!(house.raw().issue(demo("bob")).unwrap_err().code, Code::HsmUnavailable);

    house.kill("signer");
    eventually("the reason that there is now", PATIENCE, || {
        let log = house.log();
        let last = log.lines().rfind(|line| line.contains("the HSM does not sign")).unwrap();
        last.contains("the signer does not run: its log says why").then_some(())
    });
    house.set("hsm.uri", "pkcs11:token=passportd-test");
    house.start_role("signer");
    house.wait_ready();
    eventually("it is back on record", PATIENCE, || (count(&house, "signer_recovered") == 1).then_some(()));
    assert_eq!((count(&house, "signer_lost"), told(&house)), (1, 2), "{}", house.log());
    house.raw().issue(demo("bob")).unwrap();
}

#[test]
fn a_key_that_nobody_staged_and_init_twice() {
    let house = House::start(Options::default().without_keys());
    house.ceremony(PlanKind::Init, "t1", "auth");
    let said = trouble(&house, "keys", "no key signs passports");
    assert!(said.contains("run `passportctl hsm init`"), "{said}");
    assert_eq!(house.raw().issue(demo("bob")).unwrap_err().code, Code::NotReady);

    let pin = house.dir().join("pin");
    let init = ["hsm", "init", "--tenant", "t1", "--purpose", "auth", "--pin-file", pin.to_str().unwrap()];
    let first = ctl(&house, &init);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert!(first.stdout.contains(&format!("activated {FIRST_KEY}")), "what was interrupted is finished: {first:?}");
    house.wait_ready();
    let keys = fs::read(house.dir().join("state/keys.json")).unwrap();
    let second = ctl(&house, &init);
    assert_eq!((second.code, second.stderr.as_str()), (Some(0), ""), "{second:?}");
    assert_eq!(
        second.stdout.lines().last(),
        Some("nothing was missing: no key was made (`passportctl hsm rotate` makes the next version)")
    );
    assert_eq!(fs::read(house.dir().join("state/keys.json")).unwrap(), keys);
}

#[test]
fn a_clock_far_behind_the_newest_key() {
    let mut house = House::start(Options::default().users(Users::Own));
    let passport = house.raw().issue(passportd::wire::IssueSpec { ttl_s: Some(3600), ..demo("alice") }).unwrap();
    house.restart_with_a_key_of_later();
    let said = trouble(&house, "clock", "s behind a time that has been");
    assert!(said.contains("the clock is 10") && said.contains("set it right (timedatectl)"), "{said}");
    eventually("the signer is there", PATIENCE, || house.health().conditions[0].ok.then_some(()));
    assert_only_verifies(&house, "clock", &passport, Code::ClockSuspect);
    let doctor = ctl(&house, &["doctor"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("issue NO, verify yes: clock: the clock is 10"), "{doctor:?}");
}

#[test]
fn a_broken_reload_changes_nothing_and_says_where() {
    let house = House::start(Options::default());
    house.write_policy("20-more.toml", "[[peer]]\nname = \"x\"\nuser = \"no-such-user\"\n");
    let refused = ctl(&house, &["reload"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");
    for says in ["/policy.d/20-more.toml:3:8", "there is no user", "create it, or remove the rule"] {
        assert!(refused.stderr.contains(says), "{says}: {refused:?}");
    }
    house.raw().issue(demo("alice")).expect("what was in force stays so");
    house.signal("front", Signal::SIGHUP);
    eventually("the log says so, too", PATIENCE, || house.log().contains("20-more.toml:3:8").then_some(()));
    house.raw().issue(demo("alice")).unwrap();
}
