//! Faults of a real SoftHSM, brought about from outside.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use passportd::wire::Code;
use passportd::wire::ceremony::PlanKind;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::beside::{Company, recovers};
use super::proc;
use super::support::options::POLICY;
use super::support::passports::demo;
use super::support::softhsm::PIN;
use super::support::{House, Hsm, Options, Users, eventually, root_or_skip, skipped};
use super::times::keep;

/// Parsec fails every signature after this until somebody restarts it.
fn without_its_store(lasts: Duration) {
    let house = House::start(Options::default().module(Hsm::SoftHsm));
    let signer = house.pid("signer");
    let company = Company::start(&house, 4);
    let (store, away) = (house.hsm().store(), house.dir().join("away"));
    fs::rename(&store, &away).unwrap();
    let begun = Instant::now();
    eventually("it shows", lasts, || house.raw().issue(demo("first")).err());
    let answered = begun.elapsed();
    eventually("readyz says so", lasts, || (house.get("/readyz").0 == 503).then_some(()));
    std::thread::sleep(lasts.saturating_sub(begun.elapsed()));
    fs::rename(&away, &store).unwrap();
    println!("away for {:?}", begun.elapsed());
    keep(&house, "the token directory is renamed", Some(answered), recovers(&house));
    company.end(&house, &["hsm_unavailable"]);
    assert_eq!(house.pid("signer"), signer, "the same signer");
    one_line_for_each_change(&house);
}

/// Of one fault: the front says once that the HSM is away, and once that it is back.
fn one_line_for_each_change(house: &House) {
    let log = house.log();
    let away = "front: the HSM does not sign";
    let since = log.split_once(away).map_or_else(|| panic!("it is said: {log}"), |(_, since)| since);
    assert!(!since.contains(away), "{log}");
    assert_eq!(since.matches("front: the HSM signs").count(), 1, "{log}");
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
    let company = Company::start(&house, 2);

    match house.hsm().tool(Some(PIN)).args(["--delete-object", "--type", "privkey", "--id", &lost.cka_id]).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => return skipped("pkcs11-tool (package opensc) is not installed"),
    }
    let begun = Instant::now();
    // The signer's sessions keep what they have found until they look again.
    let told = eventually("t2 is told", Duration::from_secs(20), || house.raw().issue(other("lost")).err());
    keep(&house, "a key is destroyed by another process", Some(begun.elapsed()), None);
    assert!(told.code == Code::HsmUnavailable && told.retryable, "{told:?}");
    for _ in 0..20 {
        house.raw().issue(demo("t1 goes on")).unwrap();
        assert!(house.raw().issue(other("lost")).is_err());
    }
    company.end(&house, &[]);
    let verdict = house.raw().verify(super::support::passports::for_demo(), &passport).unwrap();
    assert!(matches!(verdict, passportd::wire::Verdict::Accepted(_)), "what it signed stays good: {verdict:?}");
    // What helps is a new key.
    let made = house.ceremony(PlanKind::Generate, "t2", "auth").keys;
    let next = made.iter().find(|key| key.made_now).unwrap();
    house.stage(&next.kid).unwrap();
    house.activate(&next.kid).unwrap();
    assert_eq!(house.raw().issue(other("after")).unwrap().kid, next.kid);
}

/// How many descriptors a process may have: now, and at most (proc_pid_limits(5)).
fn descriptor_limits(pid: i32) -> [u64; 2] {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap());
    [numbers.next().unwrap(), numbers.next().unwrap()]
}

fn set_descriptor_limit(pid: i32, now: u64, most: u64) {
    let limit = Rlimit { current: Some(now), maximum: Some(most) };
    prlimit(Pid::from_raw(pid), Resource::Nofile, limit).unwrap();
}

#[test]
fn a_signer_that_has_no_descriptor_left_for_a_second() {
    // What a process has open that is not dumpable is for root to see.
    if !root_or_skip("a signer without descriptors") {
        return;
    }
    // The limit of another user's process takes CAP_SYS_RESOURCE.
    let house = House::start(Options::default().module(Hsm::SoftHsm).users(Users::Own));
    let signer = house.pid("signer");
    let company = Company::start(&house, 4);
    let ([usual, most], used) = (descriptor_limits(signer), proc::descriptors(signer).unwrap());
    set_descriptor_limit(signer, used.len().try_into().unwrap(), most);
    std::thread::sleep(Duration::from_secs(1));
    set_descriptor_limit(signer, usual, most);
    keep(&house, "`RLIMIT_NOFILE` is what is open already", None, recovers(&house));
    let told = company.end(&house, &["hsm_unavailable", "hsm_timeout"]);
    let rungs = ["session", "login", "module"]
        .map(|rung| house.metric(&format!("passport_signer_ladder_total{{rung=\"{rung}\"}}")));
    assert!(!told.problems.is_empty() || rungs.iter().any(|count| *count > 0.0), "nothing has failed: {rungs:?}");
    assert_eq!(house.pid("signer"), signer, "the same signer");
}

/// Everything in a directory, with owners and modes.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success());
}

#[test]
fn a_store_that_is_wiped_and_restored_from_a_copy() {
    let house = House::start(Options::default().module(Hsm::SoftHsm));
    let signer = house.pid("signer");
    let company = Company::start(&house, 4);
    let (store, kept) = (house.hsm().store(), tempfile::tempdir().unwrap());
    copy(&store, kept.path());
    for entry in fs::read_dir(&store).unwrap() {
        fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
    let begun = Instant::now();
    let told = eventually("it shows", Duration::from_secs(10), || house.raw().issue(demo("first")).err());
    let answered = begun.elapsed();
    println!("told after {answered:?}: {told:?}");
    eventually("readyz says so", Duration::from_secs(5), || (house.get("/readyz").0 == 503).then_some(()));
    // A store that is gone for a moment would prove less.
    std::thread::sleep(Duration::from_secs(2));
    copy(kept.path(), &store);
    keep(&house, "the token directory is emptied, then copied back", Some(answered), recovers(&house));
    company.end(&house, &["hsm_unavailable", "hsm_timeout"]);
    assert_eq!(house.pid("signer"), signer, "the same signer");
}

/// A copy takes its time: the token is there before its keys are.
#[test]
fn a_store_that_comes_back_bit_by_bit() {
    let house = House::start(Options::default().module(Hsm::SoftHsm));
    let signer = house.pid("signer");
    let company = Company::start(&house, 4);
    let (store, kept) = (house.hsm().store(), tempfile::tempdir().unwrap());
    copy(&store, kept.path());
    let token = fs::read_dir(&store).unwrap().next().unwrap().unwrap().file_name();
    let objects = |dir: &Path| -> Vec<_> {
        let all = fs::read_dir(dir.join(&token)).unwrap().map(|entry| entry.unwrap().file_name());
        all.filter(|name| !name.to_string_lossy().starts_with("token.") && name != "generation").collect()
    };
    fs::remove_dir_all(store.join(&token)).unwrap();
    eventually("it shows", Duration::from_secs(10), || house.raw().issue(demo("first")).err());
    let late = objects(kept.path());
    assert!(late.len() > 4, "{late:?}");
    let held = tempfile::tempdir_in(kept.path().parent().unwrap()).unwrap();
    for name in &late {
        fs::rename(kept.path().join(&token).join(name), held.path().join(name)).unwrap();
    }
    copy(kept.path(), &store);
    // As often as the signer looks, and some.
    std::thread::sleep(Duration::from_secs(2));
    assert!(house.raw().issue(demo("no key")).is_err());
    copy(held.path(), &store.join(&token));
    keep(&house, "the token comes back before its keys do", None, recovers(&house));
    company.end(&house, &["hsm_unavailable", "hsm_timeout", "not_ready"]);
    assert_eq!(house.pid("signer"), signer, "the same signer");
}
