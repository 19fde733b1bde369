//! Problems of a daemon in trouble: a signer that is gone, stuck or slow, and disks that are full.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOk, AdminOp, Code, Revocation, ServiceOk, ServiceOp};

use crate::support::house::FIRST_KEY;
use crate::support::passports::{demo, for_demo};
use crate::support::raw::request;
use crate::support::{House, Options, Roles, eventually, root_or_skip, skipped};

#[test]
fn without_a_signer_issuing_says_hsm_unavailable_and_verification_goes_on() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let mut raw = house.raw();
    let passport = raw.issue(demo("before")).unwrap();
    house.kill("signer");
    let problem = eventually("the front notices", Duration::from_secs(5), || raw.issue(demo("x")).err());
    assert_eq!((problem.code, problem.retryable), (Code::HsmUnavailable, true));
    assert!(problem.retry_after_ms.is_some());
    assert!(matches!(raw.verify(for_demo(), &passport), Ok(passportd::wire::Verdict::Accepted(_))));
    eventually("readyz says so", Duration::from_secs(5), || (house.get("/readyz").0 == 503).then_some(()));
    let health = house.health();
    assert!(!health.issue_ready && health.verify_ready, "{health:?}");
    assert_eq!(house.metric("svc_passport_dependency_up{dep=\"kms\"}"), 0.0);

    house.start_role("signer");
    house.wait_ready();
    let again = raw.issue(demo("after")).unwrap();
    assert_eq!(house.metric("passport_signer_restarts_total"), 1.0);
    assert!(house.metric("passport_issuance_blocked_total{reason=\"hsm_unavailable\"}") >= 1.0);
    house.assert_on_record([&passport.msg[..], &again.msg[..]]);
}

#[test]
fn ready_means_that_a_signature_was_made_and_not_that_one_could_be() {
    let mut house = House::start(Options::default());
    assert!(house.stop().success());
    house.boot();
    house.wait_ready();
    assert_signed_for_nobody_but_the_front(&house);
}

#[test]
fn a_new_signer_has_signed_before_it_is_ready_however_soon_it_comes() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    // Nobody asks for a passport, so no request casts doubt on a key, and no look is due by the clock.
    for _ in 0..3 {
        house.kill("signer");
        eventually("the front notices", Duration::from_secs(5), || (house.get("/readyz").0 == 503).then_some(()));
        house.start_role("signer");
        house.wait_ready();
        assert_signed_for_nobody_but_the_front(&house);
    }
}

fn assert_signed_for_nobody_but_the_front(house: &House) {
    let Ok(AdminOk::Status(text)) = house.admin_raw().admin(AdminOp::Status) else { panic!("no status") };
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(status.pointer("/signer/signatures").is_some_and(|count| count.as_u64() >= Some(1)), "{text}");
    assert_eq!(house.metric("passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"ok\"}"), 0.0);
}

#[test]
fn run_starts_a_dead_signer_again() {
    let mut house = House::start(Options::default());
    let passport = house.raw().issue(demo("before")).unwrap();
    house.kill("signer");
    let again = eventually("a new signer signs", Duration::from_secs(10), || match house.raw().issue(demo("x")) {
        Ok(passport) => Some(passport),
        Err(problem) => {
            assert!(problem.retryable, "{problem:?}");
            None
        }
    });
    house.wait_ready();
    house.assert_on_record([&passport.msg[..], &again.msg[..]]);
}

#[test]
fn a_stopped_signer_is_a_timeout_for_those_under_way_and_busy_for_those_behind() {
    let options = Options::default().set("hsm.op_timeout_ms", 300).set("limits.issue_concurrency", 8);
    // Half of what all may have under way is one user's.
    let house = House::start(options.roles(Roles::Apart));
    let mut raw = house.raw();
    house.freeze("signer");
    let begun = Instant::now();
    let asked: Vec<u8> = (1..=10).flat_map(|id| request(id, ServiceOp::Issue(demo("x")))).collect();
    raw.send(&asked).unwrap();
    let codes: Vec<_> = (0..10).map(|_| raw.reply().result.unwrap_err().code).collect();
    // The others need not wait to be told.
    let count = |which| codes.iter().filter(|code| **code == which).count();
    let (timeout, busy) = (count(Code::HsmTimeout), count(Code::Busy));
    // On a machine that is slow to wake this up, the link to a signer that says nothing may be given up in the same moment.
    let broken = count(Code::HsmUnavailable);
    assert_eq!((timeout + broken, busy), (4, 6), "{codes:?}");
    assert!(timeout > 0, "{codes:?}");
    assert_eq!(codes[..busy], vec![Code::Busy; busy], "at once, before any timeout");
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(300) && took < Duration::from_millis(2500), "{took:?}");
    assert_eq!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong));
    assert!(house.metric("busy_rejections_total{endpoint=\"issue\"}") >= 6.0);
    house.signal("signer", Signal::SIGCONT);
    eventually("it signs again", Duration::from_secs(10), || raw.issue(demo("after")).ok());
    house.assert_on_record([]);
}

/// A small file system of its own in the place of a directory of a house that does not run.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Of `size` as tmpfs takes it, with what was in the directory; `None`, with the reason, where that can't be had.
    pub(crate) fn under(house: &House, name: &str, size: &str) -> Option<Self> {
        let (dir, kept) = (house.dir().join(name), house.dir().join(format!("{name}.old")));
        std::fs::rename(&dir, &kept).unwrap();
        std::fs::create_dir(&dir).unwrap();
        let (uid, gid) = house.front_ids().unwrap_or((0, 0));
        let options = format!("size={size},mode=0700,uid={uid},gid={gid}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&dir).output();
        if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
            skipped(&format!("a full disk: a file system can't be mounted here: {mounted:?}"));
            return None;
        }
        let disk = Self(dir);
        let copy = Command::new("cp").args(["-a", "--sparse=always", "--"]).arg(kept.join(".")).arg(&disk.0).status();
        assert!(copy.unwrap().success());
        Some(disk)
    }

    /// Just large enough for the key table, and for the little by which a few changes let it grow.
    pub(crate) fn under_the_state(house: &House) -> Option<Self> {
        let size = std::fs::metadata(house.dir().join("front/state.redb")).unwrap().len();
        Self::under(house, "front", &(size + (512 << 10)).to_string())
    }

    /// Takes all that is left.
    pub(crate) fn fill(&self) {
        let piece = vec![0; 4096];
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    }

    pub(crate) fn relieve(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

/// Uses up what room there is in the file of the state itself, by revocations, until one is refused.
pub(crate) fn use_up(house: &House) {
    let mut admin = house.admin_raw();
    for round in 0..200 {
        let ids: Vec<_> = (0..256).map(|one| format!("no-passport-has-this-id-{round}-{one}")).collect();
        let what = ids.iter().map(|jti| Revocation::Id { jti, exp: None }).collect();
        if let Err(problem) = admin.admin(AdminOp::Revoke { tenant: "t1", what, reason: "" }) {
            assert_eq!((problem.code, problem.retryable), (Code::StoreUnavailable, true), "{problem:?}");
            return;
        }
    }
    panic!("the disk is full, and the state takes all");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("--lazy").arg(&self.0).status().unwrap().success());
    }
}

#[test]
fn a_full_disk_under_the_ledger_stops_issuing_and_nothing_else() {
    if !root_or_skip("a full disk") {
        return;
    }
    let mut house = House::start(Options::default());
    house.stop();
    let Some(disk) = SmallDisk::under(&house, "ledger", "256k") else { return };
    house.boot();
    house.wait_ready();
    let mut raw = house.raw();
    let before = raw.issue(demo("before")).unwrap();
    disk.fill();
    let problem = eventually("it is full", Duration::from_secs(10), || raw.issue(demo("x")).err());
    assert_eq!((problem.code, problem.retryable), (Code::AuditUnavailable, true));
    assert!(raw.verify(for_demo(), &before).is_ok(), "verification goes on");
    assert_eq!(house.get("/readyz").0, 503);
    let audit = house.health().conditions.into_iter().find(|one| one.name == "audit").unwrap();
    let file = house.ledger().join("00000000000000000001.jsonl");
    let says = format!("{}: cannot write: No space left on device (os error 28); make room there", file.display());
    assert_eq!((audit.ok, audit.detail), (false, says));
    let pause = house.admin_raw().admin(AdminOp::PauseIssue { reason: "full" }).unwrap_err();
    assert_eq!(pause.code, Code::AuditUnavailable, "what can't be put on record is not done");
    disk.relieve();
    let after = eventually("there is room again", Duration::from_secs(10), || raw.issue(demo("after")).ok());
    house.assert_on_record([&before.msg[..], &after.msg[..]]);
    house.stop();
}

#[test]
fn a_full_disk_under_the_state_changes_no_key() {
    if !root_or_skip("a full disk") {
        return;
    }
    let mut house = House::start(Options::default());
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stop();
    let Some(disk) = SmallDisk::under_the_state(&house) else { return };
    house.boot();
    house.wait_ready();
    disk.fill();
    use_up(&house);
    let next = "ed25519/t1/auth/v2";
    let mut admin = house.admin_raw();
    match admin.admin(AdminOp::Stage { kid: next }) {
        Err(problem) => assert_eq!((problem.code, problem.retryable), (Code::StoreUnavailable, true), "{problem:?}"),
        Ok(done) => panic!("the disk is full, and yet {done:?}"),
    }
    assert_eq!(house.raw().issue(demo("x")).unwrap().kid, FIRST_KEY);
    disk.relieve();
    house.stage(next).unwrap();
    house.activate(next).unwrap();
    assert_eq!(house.raw().issue(demo("x")).unwrap().kid, next);
    house.stop();
}
