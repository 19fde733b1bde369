//! Faults of a real SoftHSM, brought about from outside.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use passportd::wire::Code;
use passportd::wire::ceremony::PlanKind;

use super::beside::Beside;
use super::load::{Load, on_record, only};
use super::support::options::POLICY;
use super::support::passports::demo;
use super::support::softhsm::{self, LABEL, PIN};
use super::support::{House, Options, eventually, skipped};

/// How soon passports are issued again.
const RECOVERS: Duration = Duration::from_secs(2);

/// Parsec fails every signature after this until somebody restarts it.
fn without_its_store(lasts: Duration) {
    let house = House::start(Options::default());
    let signer = house.pid("signer");
    let (beside, load) = (Beside::start(&house), Load::start(&house, 4, 0));
    std::thread::sleep(Duration::from_millis(300));
    let (store, away) = (house.hsm().store(), house.dir().join("away"));
    fs::rename(&store, &away).unwrap();
    let begun = Instant::now();
    std::thread::sleep(lasts);
    fs::rename(&away, &store).unwrap();
    let over = Instant::now();
    eventually("passports are issued again", RECOVERS, || house.raw().issue(demo("again")).ok());
    println!("away for {:?}, back after {:?}", over - begun, over.elapsed());
    house.wait_ready();
    let (verdicts, (told, _)) = (beside.end(), load.end());
    println!("{verdicts} verdicts, {} issued, {:?}", told.jtis.len(), told.problems);
    only(&told, &["hsm_unavailable", "hsm_timeout"]);
    on_record(&house, &told);
    assert_eq!(house.pid("signer"), signer, "the same signer");
}

#[test]
fn a_store_that_is_away_for_two_seconds() {
    without_its_store(Duration::from_secs(2));
}

#[test]
fn a_store_that_is_away_for_eight_seconds() {
    without_its_store(Duration::from_secs(8));
}

#[test]
fn a_key_that_another_process_destroys_costs_its_tenant_alone() {
    let template = "\n[[template]]\nname = \"other\"\ntenant = \"t2\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
                    audiences = [\"demo\"]\nscopes = [\"read\"]\ndefault_scopes = [\"read\"]\nmax_ttl_s = 60\n";
    let policy = format!("{}{template}", POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"other\"]"));
    let bounds = ["t1", "t2"].map(|t| format!("[[tenant]]\nname = \"{t}\"\npurposes = [\"auth\"]\nmax_ttl_s = 3600\n"));
    let house = House::start(Options::default().policy(&policy).bounds(&bounds.concat()));
    let made = house.ceremony(PlanKind::Generate, "t2", "auth").keys;
    let lost = made.iter().find(|key| key.made_now).unwrap();
    house.stage(&lost.kid).unwrap();
    house.activate(&lost.kid).unwrap();
    house.wait_ready();
    let other = |sub| passportd::wire::IssueSpec { template: "other", ..demo(sub) };
    let passport = house.raw().issue(other("before")).unwrap();
    let (beside, load) = (Beside::start(&house), Load::start(&house, 2, 0));

    let mut command = Command::new("pkcs11-tool");
    command.args(["--login", "--pin", PIN, "--token-label", LABEL, "--delete-object", "--type", "privkey"]);
    command.args(["--id", &lost.cka_id, "--module"]).arg(softhsm::module().unwrap());
    match house.hsm().apply(&mut command).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => return skipped("pkcs11-tool (package opensc) is not installed"),
    }
    // The signer's sessions keep what they have found until they look again.
    let told = eventually("t2 is told", Duration::from_secs(20), || house.raw().issue(other("lost")).err());
    assert!(told.code == Code::HsmUnavailable && told.retryable, "{told:?}");
    for _ in 0..20 {
        house.raw().issue(demo("t1 goes on")).unwrap();
        assert!(house.raw().issue(other("lost")).is_err());
    }
    let (verdicts, (told, _)) = (beside.end(), load.end());
    println!("{verdicts} verdicts, {} of t1 issued", told.jtis.len());
    only(&told, &[]);
    on_record(&house, &told);
    let verdict = house.raw().verify(super::support::passports::for_demo(), &passport).unwrap();
    assert!(matches!(verdict, passportd::wire::Verdict::Accepted(_)), "what it signed stays good: {verdict:?}");
}
