//! Key rotation by real ceremonies, back to back, while passports are issued and verified.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use passportd::passport::{OwnedEnvelope, parse_jwks};
use passportd::wire::ceremony::{PlanKind, Request, Response};
use passportd::wire::{AdminOk, AdminOp, Code, Problem, ServiceOk, ServiceOp, Verdict};

use support::house::FIRST_KEY;
use support::passports::{demo, for_demo};
use support::raw::Raw;
use support::{House, Hsm, Options, ledger, rounds};

const CLIENTS: usize = 4;

/// What the clients have in common.
#[derive(Default)]
struct Crowd {
    done: AtomicBool,
    passports: Mutex<Vec<OwnedEnvelope>>,
    verified: AtomicU64,
    /// When the disk last took longer for a small write than a daemon can be asked to wait through.
    stalled: Mutex<Option<Instant>>,
    stalls: AtomicU64,
}

/// A write that takes so long is a stall: the ledger waits for 5 s at most.
const STALL: Duration = Duration::from_secs(3);
/// For how long after one the ledger may be late.
const AFTER: Duration = Duration::from_secs(10);

impl Crowd {
    fn some_passport(&self, pick: u64) -> Option<OwnedEnvelope> {
        let all = self.passports.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u64::try_from(all.len()).unwrap();
        // The oldest, the newest, and some between.
        let at = [0, count.saturating_sub(1), pick * 7919 % count.max(1)][usize::try_from(pick % 3).unwrap()];
        all.get(usize::try_from(at).unwrap()).cloned()
    }

    fn issue(&self, house: &House) {
        let mut raw = house.raw();
        let mut count = 0_u32;
        while !self.done.load(Ordering::Relaxed) {
            // Nothing is tried again: a rotation is no reason for even a retryable problem. A disk that stands still is.
            let passport = match raw.issue(demo("alice")) {
                Err(problem) if problem.code == Code::AuditUnavailable && self.disk_stalled() => {
                    self.stalls.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                answer => answer.unwrap(),
            };
            if count.is_multiple_of(25) {
                // What signs is published, and what was received is on record, at once.
                assert!(published(&mut raw).contains(&passport.kid), "{} is not in the key set", passport.kid);
                assert!(ledger::recently_issued(&house.ledger(), &ledger::jti(&passport.msg)), "it has no record yet");
            }
            count += 1;
            self.passports.lock().unwrap_or_else(PoisonError::into_inner).push(passport);
        }
    }

    /// Writes a little to the ledger's file system again and again, and notes when that takes too long.
    fn probe(&self, house: &House) {
        let path = house.dir().join("probe");
        while !self.done.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let mut file = std::fs::File::create(&path).unwrap();
            std::io::Write::write_all(&mut file, &[7; 512]).unwrap();
            file.sync_data().unwrap();
            if begun.elapsed() >= STALL {
                eprintln!("the disk stood still for {:?}", begun.elapsed());
                *self.stalled.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Whether the disk has stood still just now. The probe may be held up itself, so it is given the time to say so.
    fn disk_stalled(&self) -> bool {
        let end = Instant::now() + AFTER;
        loop {
            let stalled = *self.stalled.lock().unwrap_or_else(PoisonError::into_inner);
            if stalled.is_some_and(|at| at.elapsed() < AFTER * 2) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn verify(&self, house: &House, offset: u64) {
        let mut raw = house.raw();
        let mut pick = offset;
        while !self.done.load(Ordering::Relaxed) {
            pick += 1;
            let Some(passport) = self.some_passport(pick) else { continue };
            let verdict = raw.verify(for_demo(), &passport).unwrap();
            assert!(matches!(verdict, Verdict::Accepted(_)), "{}: {verdict:?}", passport.kid);
            self.verified.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The kids of the key set.
fn published(raw: &mut Raw) -> BTreeSet<String> {
    match raw.ask(ServiceOp::Keys { if_etag: None }).unwrap() {
        ServiceOk::Keys(set) => parse_jwks(&set.jwks).unwrap().into_iter().map(|key| key.kid.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

fn kid(version: u32) -> String {
    format!("ed25519/t1/auth/v{version}")
}

/// Makes, publishes and activates the next key, as an administrator would.
fn rotate(house: &House, version: u32) {
    rotate_despite(house, version, |_| false);
}

/// The same; what `excused` takes as no fault of the rotation is tried again.
fn rotate_despite(house: &House, version: u32, excused: impl Fn(&Problem) -> bool) {
    let mut raw = house.raw();
    let report = house.ceremony(PlanKind::Generate, "t1", "auth");
    let made: Vec<_> = report.keys.iter().filter(|key| key.made_now).map(|key| key.kid.clone()).collect();
    assert_eq!(made, [kid(version)]);
    assert!(report.backup.is_some(), "the store is copied before it is changed");
    let mut admin = house.admin_raw();
    let mut tries = 0;
    let mut ask = |op: fn(&str) -> AdminOp<'_>| loop {
        tries += 1;
        match admin.admin(op(&kid(version))) {
            Err(problem) if excused(&problem) => {}
            answer => break (answer, tries),
        }
    };
    assert!(matches!(ask(|kid| AdminOp::Stage { kid }), (Ok(AdminOk::Staged { .. }), _)), "at once");
    let both = published(&mut raw);
    assert!(both.contains(&kid(version - 1)) && both.contains(&kid(version)), "{both:?}");
    let (activated, tries) = ask(|kid| AdminOp::Activate { kid });
    let done = |retired| Ok(AdminOk::Activated { kid: kid(version), retired });
    // What came late is reported as it is when it is asked for again.
    assert!(activated == done(Some(kid(version - 1))) || tries > 2 && activated == done(None), "{activated:?}");
}

/// kryoptic's ceremonies take the longer the more keys there are: 500 of them were not over after 22 minutes.
fn rotations(hsm: Hsm) -> u32 {
    match hsm {
        Hsm::SoftHsm => rounds(5),
        Hsm::Kryoptic => rounds(5).min(100),
    }
}

#[test]
fn keys_rotate_back_to_back_under_load_without_a_spurious_failure() {
    let house = House::start(Options::default());
    let last = rotations(house.hsm().hsm()) + 1;
    let crowd = Crowd::default();
    std::thread::scope(|scope| {
        // However this scope is left, the clients are told to end.
        struct Bell<'a>(&'a AtomicBool);
        impl Drop for Bell<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _bell = Bell(&crowd.done);
        scope.spawn(|| crowd.probe(&house));
        let clients: Vec<_> = (0..CLIENTS)
            .flat_map(|n| {
                let offset = u64::try_from(n).unwrap() * 1000;
                let (crowd, house) = (&crowd, &house);
                [scope.spawn(move || crowd.issue(house)), scope.spawn(move || crowd.verify(house, offset))]
            })
            .collect();
        for version in 2..=last {
            let late = |problem: &Problem| problem.code == Code::AuditUnavailable && crowd.disk_stalled();
            rotate_despite(&house, version, late);
            assert!(!clients.iter().any(std::thread::ScopedJoinHandle::is_finished), "a client has failed");
            // From the answer on, the new key signs.
            assert_eq!(house.raw().issue(demo("next")).unwrap().kid, kid(version));
        }
    });
    let passports = crowd.passports.into_inner().unwrap();
    let verified = crowd.verified.into_inner();
    let stalls = crowd.stalls.into_inner();
    eprintln!("{} issued, {verified} verified, {stalls} late by the disk, in {} rotations", passports.len(), last - 1);
    assert!(passports.len() > 20 && verified > 20);
    let used: BTreeSet<_> = passports.iter().map(|one| one.kid.as_str()).collect();
    assert!(used.len() > 1 && used.contains(FIRST_KEY), "{used:?}");

    let mut raw = house.raw();
    for batch in passports.chunks(400) {
        let verdicts = raw.verify_batch(for_demo(), batch).unwrap();
        assert!(verdicts.iter().all(|one| matches!(one, Verdict::Accepted(_))), "old passports verify");
    }
    assert_eq!(published(&mut raw), (1..=last).map(kid).collect());
    assert_eq!(house.metric("passport_rotations_total"), f64::from(last));
    house.assert_on_record(passports.iter().map(|one| &one.msg[..]));
}

#[test]
fn a_restart_forgets_no_key_and_no_order_of_them() {
    let mut house = House::start(Options::default());
    let mut raw = house.raw();
    let old = raw.issue(demo("old")).unwrap();
    rotate(&house, 2);
    let new = raw.issue(demo("new")).unwrap();
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stage(&kid(3)).unwrap();
    let before = published(&mut raw);
    assert!(house.stop().success());
    house.boot();
    house.wait_ready();
    let mut raw = house.raw();
    assert_eq!(published(&mut raw), before);
    for passport in [&old, &new] {
        assert!(matches!(raw.verify(for_demo(), passport), Ok(Verdict::Accepted(_))), "{}", passport.kid);
    }
    assert_eq!(raw.issue(demo("after")).unwrap().kid, kid(2), "the staged one still waits");
    house.activate(&kid(3)).unwrap();
    assert_eq!(raw.issue(demo("last")).unwrap().kid, kid(3));
    house.assert_on_record([&old.msg[..], &new.msg[..]]);
}

#[test]
fn steps_out_of_order_change_nothing() {
    let house = House::start(Options::default());
    let mut admin = house.admin_raw();
    let mut code = |op| admin.admin(op).map_err(|problem| problem.code);
    let next = kid(2);
    assert_eq!(code(AdminOp::Stage { kid: &next }), Err(Code::UnknownKid), "it is not in the HSM");
    assert_eq!(code(AdminOp::Activate { kid: &next }), Err(Code::OpDenied), "it is not staged");
    house.ceremony(PlanKind::Generate, "t1", "auth");
    assert_eq!(code(AdminOp::Activate { kid: &next }), Err(Code::OpDenied), "still not staged");
    assert_eq!(published(&mut house.raw()), [FIRST_KEY.to_owned()].into(), "a ceremony publishes nothing by itself");
    assert!(code(AdminOp::Stage { kid: &next }).is_ok());
    assert!(code(AdminOp::Stage { kid: &next }).is_ok(), "again is the same");
    assert!(code(AdminOp::Activate { kid: &next }).is_ok());
    assert!(code(AdminOp::Activate { kid: &next }).is_ok(), "again is the same");
    assert_eq!(code(AdminOp::Activate { kid: FIRST_KEY }), Err(Code::OpDenied), "a retired key does not come back");
    assert_eq!(code(AdminOp::Stage { kid: FIRST_KEY }), Err(Code::OpDenied));
    assert_eq!(house.raw().issue(demo("x")).unwrap().kid, next);
    let events = ledger::records(&house.ledger());
    let count = |event: &str| events.iter().filter(|one| one["event"] == event && one["kid"] == *next).count();
    assert_eq!((count("key_staged"), count("key_activated")), (1, 1), "what did not change is not on record twice");
    house.assert_on_record([]);
}

#[test]
fn a_ceremony_with_a_wrong_pin_makes_nothing_and_harms_nobody() {
    let house = House::start(Options::default());
    let request = Request {
        plan: PlanKind::Generate,
        tenant: Some("t1".into()),
        purpose: Some("auth".into()),
        ..Request::default()
    };
    let Response::Failed { code, message } = house.try_ceremony(&request, "0000-wrong") else { panic!("done") };
    assert_eq!(code, "pin", "{message}");
    house.raw().issue(demo("x")).unwrap();
    // The next with the right PIN makes version 2: nothing was used up.
    rotate(&house, 2);
}
