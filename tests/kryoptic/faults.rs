//! A signer that is killed, a module that gives few sessions, a store that goes away.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use passportd::wire::ceremony::{PlanKind, Request, Response};
use passportd::wire::{Code, Verdict};

use super::support::passports::{demo, for_demo};
use super::support::{House, Roles, eventually, skipped};
use super::{PATIENCE, house};

/// How often the signer is killed.
const KILLS: u64 = 60;
/// From the start of a process to about its readiness, in milliseconds.
const START: u64 = 120;
/// How soon passports are issued again.
const RECOVERS: Duration = Duration::from_secs(2);

fn store(house: &House) -> Vec<u8> {
    fs::read(house.hsm().store().join("token-0.sql")).unwrap()
}

#[test]
fn a_signer_that_is_killed_loses_nothing() {
    let Some(mut house) = house(|options| options.roles(Roles::Apart)) else { return };
    let (before, mut all) = (store(&house), Vec::new());
    for kill in 0..KILLS {
        // Mostly while it starts, at any moment of that; sometimes once it serves.
        if kill % 4 == 0 {
            all.push(eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok()));
        } else {
            std::thread::sleep(Duration::from_millis(kill * 37 % START));
        }
        house.kill("signer");
        house.start_role("signer");
    }
    eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
    assert!(store(&house) == before, "it has no right to write");
    let verdicts = house.raw().verify_batch(for_demo(), &all).unwrap();
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Accepted(_))), "{verdicts:?}");
    house.assert_on_record(all.iter().map(|passport| passport.msg.as_slice()));
}

/// What a ceremony leaves behind that is killed, or loses its power, while it writes: SQLite's journal, by which whoever may
/// write takes back what is in the store of it.
const CUT_SHORT: &str = "
import os, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute('PRAGMA cache_size = 1')
store.execute('BEGIN IMMEDIATE')
store.execute('UPDATE objects SET val = zeroblob(20000)')
os._exit(9)
";

#[test]
fn a_write_that_was_cut_short_is_taken_back_by_the_next_ceremony() {
    let Some(mut house) = house(|options| options) else { return };
    house.raw().issue(demo("before")).unwrap();
    let (path, before) = (house.hsm().store().join("token-0.sql"), store(&house));
    let journal = path.with_file_name("token-0.sql-journal");
    match Command::new("python3").args(["-c", CUT_SHORT]).arg(&path).status() {
        Ok(status) => assert_eq!(status.code(), Some(9)),
        Err(error) => return skipped(&format!("there is no python3 ({error})")),
    }
    assert!(journal.exists() && store(&house) != before);
    give(&journal, &path);
    let told = eventually("it shows", PATIENCE, || house.raw().issue(demo("meanwhile")).err());
    assert!(told.code == Code::HsmUnavailable && told.retryable, "{told:?}");
    house.kill("signer");
    eventually("the log says what to do", PATIENCE, || {
        house.log().contains("a write to its store that was cut short").then_some(())
    });
    let doctor = Request { plan: PlanKind::Doctor, ..Request::default() };
    assert!(matches!(house.try_ceremony(&doctor, ""), Response::Done(_)));
    assert!(!journal.exists() && store(&house) == before, "it is as it was");
    eventually("passports are issued again", RECOVERS, || house.raw().issue(demo("again")).ok());
}

/// Makes a file that of another's owner.
fn give(path: &Path, as_of: &Path) {
    let owner = fs::metadata(as_of).unwrap();
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn fewer_sessions_than_asked_for_serve() {
    for sessions in [1, 4] {
        let options = |options: super::Options| options.roles(Roles::Apart).fault().set("hsm.sessions", 8);
        let Some(mut house) = house(options) else { return };
        house.kill("signer");
        house.fault(&format!("sessions={sessions}"));
        house.start_role("signer");
        eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
        for n in 0..100 {
            house.raw().issue(demo(&n.to_string())).unwrap();
        }
        let told = house.log().matches("the token gives fewer sessions than configured").count();
        assert_eq!(told, 1, "{}", house.log());
    }
}

#[test]
fn a_store_that_is_away_for_two_seconds_is_not_missed() {
    let Some(house) = house(|options| options) else { return };
    let signer = house.pid("signer");
    let away = house.dir().join("away");
    fs::rename(house.hsm().store(), &away).unwrap();
    let (begun, mut issued, mut refused) = (Instant::now(), 0_u32, 0_u32);
    while begun.elapsed() < Duration::from_secs(2) {
        match house.raw().issue(demo("meanwhile")) {
            Ok(_) => issued += 1,
            Err(problem) => {
                assert!(problem.retryable, "{problem:?}");
                refused += 1;
            }
        }
    }
    fs::rename(&away, house.hsm().store()).unwrap();
    eventually("passports are issued again", RECOVERS, || house.raw().issue(demo("again")).ok());
    println!("away for 2 s: {issued} issued, {refused} refused meanwhile");
    // kryoptic keeps its file open, so there is nothing to heal.
    assert!(issued > 0 && refused == 0, "{issued} issued, {refused} refused");
    assert_eq!(house.pid("signer"), signer, "the same signer");
}
