//! Full disks.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use passportd::wire::ceremony::PlanKind;
use passportd::wire::{Code, Plain, ServiceOk, ServiceOp, Verdict};

use super::load::Load;
use super::support::passports::{demo, for_demo};
use super::support::{House, Options, Users, eventually, ledger, people, root_or_skip};

/// A small file system of its own, until this value goes.
pub(crate) struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    /// None, with the reason printed, where nothing may be mounted.
    pub(crate) fn new(kib: u32, test: &str) -> Option<Self> {
        if !root_or_skip(test) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("passportd-disk-").tempdir().unwrap();
        let options = format!("size={kib}k,mode=755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output().unwrap();
        if !mounted.status.success() {
            crate::support::skipped(&format!(
                "{test} can't mount: {}",
                String::from_utf8_lossy(&mounted.stderr).trim()
            ));
            return None;
        }
        Some(Self { dir })
    }

    /// A directory on it that belongs to the front's user.
    fn private(&self, name: &str) -> PathBuf {
        private(self.path(), name)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let zeros = vec![0; 4096];
        let mut filler = fs::File::options().create(true).append(true).open(self.dir.path().join("filler")).unwrap();
        while std::io::Write::write_all(&mut filler, &zeros).is_ok() {}
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.dir.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(self.dir.path()).status());
    }
}

/// A directory in `dir` that belongs to the front's user.
pub(crate) fn private(dir: &Path, name: &str) -> PathBuf {
    let dir = dir.join(name);
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    if let Some((front, _)) = people::unprivileged_users() {
        let (uid, gid) = people::ids(&front);
        chown(&dir, Some(uid), Some(gid)).unwrap();
    }
    dir
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// What an operator needs to know of a full disk: which file could not be written, and what to do.
fn assert_says_where_and_what(said: &str, dir: &Path) {
    let wanted = format!("{}/0000", dir.display());
    let says = said.contains(&wanted) && said.contains(".jsonl: cannot write: No space left on device");
    assert!(says && said.contains("; make room there"), "{said}");
}

#[test]
fn with_a_full_disk_under_the_ledger_nothing_is_issued_and_it_recovers() {
    let Some(disk) = Disk::new(2_048, "a full disk") else { return };
    let dir = disk.private("ledger");
    let mut house = House::start(Options::default().users(Users::Split).set("audit.dir", text(&dir)));
    let passport = house.raw().issue(demo("alice")).unwrap();
    let load = Load::start(&house, 2, 2);
    disk.fill();
    let full = || house.raw().issue(demo("bob")).err().filter(|problem| problem.code == Code::AuditUnavailable);
    let problem = eventually("issuing stops", Duration::from_secs(20), full);
    assert!(problem.retryable, "{problem:?}");
    match house.ask(ServiceOp::IssueBatch(vec![demo("bob"); 20])) {
        Ok(ServiceOk::IssuedBatch(all)) => assert!(all.iter().all(Result::is_err), "nothing is released"),
        other => panic!("{other:?}"),
    }
    let (status, report) = house.get("/readyz");
    let named = "{\"name\":\"audit\",\"ok\":false,\"detail\":\"the ledger can't be written\"}";
    assert!(status == 503 && report.contains(named), "{status} {report}");
    let detail = |name: &str| house.health().conditions.into_iter().find(|one| one.name == name).unwrap().detail;
    assert_says_where_and_what(&detail("audit"), &dir);
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))), "verification goes on");

    // It must be able to start like this, or verification would end with a crash. Each start leaves a record as long as
    // some bytes are left; then it has to do without.
    for _ in 0..12 {
        house.kill("front");
        eventually("verification goes on after a crash", Duration::from_secs(15), || {
            let mut raw = super::support::raw::Raw::connect(&house.socket()).ok()?;
            raw.greet().ok()?;
            matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))).then_some(())
        });
    }
    let log = house.log();
    let said = log.lines().rfind(|line| line.contains("the start is not on record yet")).expect("the last did without");
    assert_says_where_and_what(said, &dir);
    // The link to the signer comes back a moment after the sockets.
    eventually("issuing is refused for the disk", Duration::from_secs(20), || {
        house.raw().issue(demo("bob")).unwrap_err().code.eq(&Code::AuditUnavailable).then_some(())
    });

    disk.make_room();
    eventually("passports are issued again", Duration::from_secs(10), || house.raw().issue(demo("carol")).ok());
    house.wait_ready();
    let (issued, verified) = load.end();
    println!("{:?}", issued.problems);
    assert_eq!((verified.refused, verified.problems.len()), (0, 0));
    let records = ledger::issued(&dir);
    assert!(issued.jtis.iter().all(|jti| records.get(jti) == Some(&1)), "each that was received is on record");
    ledger::assert_chain(&dir);
    let events: Vec<String> = ledger::records(&dir).iter().map(|record| record["event"].to_string()).collect();
    assert!(events.iter().any(|event| event.contains("break")), "the outage is on record");
    house.stop();
}

#[test]
fn with_a_full_disk_under_the_ledger_no_secret_is_sealed_or_opened_and_it_recovers() {
    let Some(disk) = Disk::new(2_048, "a full disk") else { return };
    let dir = disk.private("ledger");
    let mut house = House::start(Options::default().users(Users::Split).set("audit.dir", text(&dir)));
    let (namespace, name, secret) = ("t1/billing", "database", b"correct horse battery staple");
    let seal = || house.ask(ServiceOp::Seal { namespace, name, plain: Plain(secret) });
    let sealed = |given| match given {
        ServiceOk::Sealed { blob } => blob,
        other => panic!("{other:?}"),
    };
    let blob = sealed(seal().unwrap());
    let unseal = || house.ask(ServiceOp::Unseal { namespace, name, blob: &blob });
    let opened = |given: &ServiceOk| matches!(given, ServiceOk::Unsealed { plain } if plain.0.as_slice() == secret);
    assert!(opened(&unseal().unwrap()));
    disk.fill();
    // What is left of a block takes some records more.
    let both: [(_, &dyn Fn() -> _); 2] = [("seal", &seal), ("unseal", &unseal)];
    for (what, ask) in both {
        eventually(what, Duration::from_secs(20), || {
            ask().err().filter(|problem| problem.code == Code::AuditUnavailable && problem.retryable)
        });
    }
    for (_, ask) in both {
        for _ in 0..20 {
            let problem = ask().expect_err("nothing is released without its record");
            assert_eq!((problem.code, problem.retryable), (Code::AuditUnavailable, true), "{problem:?}");
        }
    }
    let events = |event: &str| ledger::records(&dir).iter().filter(|record| record["event"] == event).count();
    disk.make_room();
    let again = eventually("secrets are sealed again", Duration::from_secs(10), || seal().ok());
    let again = sealed(again);
    let opens = [unseal(), house.ask(ServiceOp::Unseal { namespace, name, blob: &again })];
    assert!(opens.iter().all(|given| given.as_ref().is_ok_and(opened)), "{opens:?}");
    assert!(events("sealed") >= 2 && events("unsealed") >= 3);
    ledger::assert_chain(&dir);
    house.stop();
}

#[test]
fn with_a_full_disk_under_the_state_a_key_change_fails_and_can_be_repeated() {
    let Some(disk) = Disk::new(16 << 10, "a full disk") else { return };
    let dir = disk.private("state");
    let mut house = House::start(Options::default().set("state.path", text(&dir.join("state.redb"))));
    house.raw().issue(demo("alice")).unwrap();
    let report = house.ceremony(PlanKind::Generate, "t1", "auth");
    let kid = report.keys.iter().map(|key| key.kid.clone()).find(|kid| kid.ends_with("/v2")).unwrap();
    disk.fill();
    let before = house.ask(ServiceOp::Keys { if_etag: None }).unwrap();
    let stage = passportd::wire::AdminOp::Stage { kid: &kid };
    let problem = house.admin_raw().admin(stage).expect_err("there is no room for a change");
    assert_eq!((problem.code, problem.retryable), (Code::StoreUnavailable, true), "{problem:?}");
    let after = house.ask(ServiceOp::Keys { if_etag: None }).unwrap();
    assert_eq!(before, after, "nothing has changed");
    let passport = house.raw().issue(demo("alice")).unwrap();
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    disk.make_room();
    eventually("the key is staged", Duration::from_secs(10), || house.stage(&kid).ok());
    house.activate(&kid).unwrap();
    house.wait_ready();
    house.kill("front");
    house.wait_ready();
    assert_eq!(house.raw().issue(demo("alice")).unwrap().kid, kid);
    assert!(
        matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))),
        "the old key still verifies"
    );
    ledger::assert_chain(&house.ledger());
}

/// Accepted so often.
const LIMITED: &str = "[[template]]\nname = \"few\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
    audiences = [\"demo\"]\nmax_ttl_s = 3600\nlimit = 3\n";

pub(crate) fn limited() -> Options {
    let policy = crate::support::options::POLICY.replace("[\"demo\"]\nverify_as", "[\"demo\", \"few\"]\nverify_as");
    Options::default().policy(&(policy + LIMITED))
}

/// Uses that are left after an acceptance; else what was said.
pub(crate) fn taken(house: &House, passport: &passportd::passport::OwnedEnvelope) -> Result<u64, Code> {
    match house.raw().verify(for_demo(), passport) {
        Ok(Verdict::Consumed(consumed)) => Ok(consumed.left.unwrap()),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => {
            assert!(problem.retryable, "{problem:?}");
            Err(problem.code)
        }
    }
}

#[test]
fn with_a_full_disk_under_the_state_nothing_is_accepted_that_takes_something() {
    let Some(disk) = Disk::new(16 << 10, "a full disk") else { return };
    let dir = disk.private("state");
    let mut house = House::start(limited().set("state.path", text(&dir.join("state.redb"))));
    let few = passportd::wire::IssueSpec { template: "few", ..demo("alice") };
    let (passport, free) = (house.raw().issue(few).unwrap(), house.raw().issue(demo("alice")).unwrap());
    assert_eq!(taken(&house, &passport), Ok(2));
    disk.fill();
    // The file has some room of its own left.
    eventually("the disk is full", Duration::from_secs(20), || {
        let few = passportd::wire::IssueSpec { template: "few", ..demo("bob") };
        let other = house.raw().issue(few).unwrap();
        (taken(&house, &other) == Err(Code::StoreUnavailable)).then_some(())
    });
    assert_eq!(taken(&house, &passport), Err(Code::StoreUnavailable));
    let batch = house.raw().verify_batch(for_demo(), &[free.clone(), passport.clone()]).unwrap_err();
    assert_eq!(batch.code, Code::StoreUnavailable);
    assert!(matches!(house.raw().verify(for_demo(), &free), Ok(Verdict::Accepted(_))), "verification goes on");
    disk.make_room();
    // Nobody was told of a use between, so one that is left is taken once: by the first or by the failed one that came late.
    let left = eventually("uses are taken again", Duration::from_secs(10), || taken(&house, &passport).ok());
    assert!(left <= 1, "{left}");
    house.kill("front");
    house.wait_ready();
    let more = std::iter::from_fn(|| match house.raw().verify(for_demo(), &passport) {
        Ok(Verdict::Consumed(consumed)) => Some(consumed.left.unwrap()),
        Ok(Verdict::Refused(Code::LimitExceeded)) => None,
        other => panic!("{other:?}"),
    });
    assert_eq!(more.collect::<Vec<_>>(), (0..left).rev().collect::<Vec<_>>());
}

#[test]
fn with_a_full_disk_under_the_ledger_nothing_is_accepted_that_must_be_on_record() {
    let Some(disk) = Disk::new(2_048, "a full disk") else { return };
    let dir = disk.private("ledger");
    let house = House::start(limited().set("audit.dir", text(&dir)));
    let few = || passportd::wire::IssueSpec { template: "few", ..demo("alice") };
    let (passport, other) = (house.raw().issue(few()).unwrap(), house.raw().issue(few()).unwrap());
    assert_eq!(taken(&house, &passport), Ok(2));
    disk.fill();
    eventually("issuing stops", Duration::from_secs(20), || house.raw().issue(demo("bob")).is_err().then_some(()));
    let ask = |retry| {
        let op = ServiceOp::VerifyWith {
            want: for_demo(),
            passport: crate::support::passports::on_wire(&other),
            retry: Some(retry),
            proof: None,
        };
        house.ask(op)
    };
    assert_eq!(ask([1; 16]).unwrap_err().code, Code::AuditUnavailable);
    assert_eq!(ask([1; 16]).unwrap_err().code, Code::AuditUnavailable, "nor is what nobody was told repeated");
    disk.make_room();
    let repeated = eventually("it is answered", Duration::from_secs(10), || ask([1; 16]).ok());
    match repeated {
        ServiceOk::Verdict(Verdict::Consumed(consumed)) => {
            assert_eq!((consumed.left, consumed.repeated), (Some(2), true));
        }
        other => panic!("{other:?}"),
    }
    let jti = crate::support::passports::claims(&other)["jti"].clone();
    let on_record =
        ledger::records(&dir).into_iter().filter(|one| one["event"] == "passport_accepted" && one["jti"] == jti);
    assert_eq!(on_record.count(), 1, "the one acceptance is on record");
    ledger::assert_chain(&dir);
}
