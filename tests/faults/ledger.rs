//! Disks that are slow, or do not say what they took, under the ledger: nothing is released that is not on record, and nothing false is said.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use passportd::wire::{AdminOk, AdminOp, Code, Verdict};

use super::support::disk::{Disk, Trouble};
use super::support::passports::{demo, for_demo};
use super::support::{House, Options, eventually, ledger};

const PATIENCE: Duration = Duration::from_secs(20);

fn newest(house: &House) -> PathBuf {
    let mut segments: Vec<_> = fs::read_dir(house.ledger()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    segments.pop().unwrap()
}

fn events(house: &House, name: &str) -> usize {
    ledger::records(&house.ledger()).iter().filter(|one| one["event"] == name).count()
}

#[test]
fn a_sync_of_200_ms_delays_and_does_nothing_else() {
    let disk = Disk::new();
    let house = House::start(disk.options(Options::default().audited().set("hsm.op_timeout_ms", 1000)));
    let passport = house.raw().issue(demo("alice")).unwrap();
    disk.fails(&newest(&house), Trouble::Slow(200));
    let issued: Vec<_> = std::thread::scope(|scope| {
        let work: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let mut raw = house.raw();
                    (0..4).map(|_| raw.issue(demo("bob")).unwrap().msg).collect::<Vec<_>>()
                })
            })
            .collect();
        // Meanwhile: verification does not wait for the disk, and a checkpoint waits for what was signed before it.
        let mut raw = house.raw();
        for _ in 0..50 {
            assert!(matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
        }
        for _ in 0..3 {
            let made = house.admin_raw().admin(AdminOp::Checkpoint);
            assert!(matches!(made, Ok(AdminOk::Checkpoint(_))), "{made:?}");
        }
        work.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(issued.len(), 64);
    house.assert_on_record(issued.iter().map(Vec::as_slice));
    ledger::assert_chain(&house.ledger());
    assert_eq!((events(&house, "signatures_unaccounted"), events(&house, "ledger_break")), (0, 0));
}

#[test]
fn a_sync_that_fails_releases_nothing_and_the_ledger_goes_on_behind_a_break() {
    let disk = Disk::new();
    let mut house = House::start(disk.options(Options::default().audited().set("hsm.op_timeout_ms", 1000)));
    let before = house.raw().issue(demo("alice")).unwrap();
    disk.fails(&newest(&house), Trouble::Sync);
    let problem = house.raw().issue(demo("bob")).expect_err("nobody knows whether the record is on the disk");
    assert_eq!((problem.code, problem.retryable), (Code::AuditUnavailable, true), "{problem:?}");
    // What was written then counts for nothing, wherever it is; the next records have a file of their own.
    let after = eventually("it goes on", PATIENCE, || house.raw().issue(demo("carol")).ok());
    disk.recovers();
    house.assert_on_record([&before.msg[..], &after.msg[..]]);
    assert_eq!(events(&house, "ledger_break"), 1);
    ledger::assert_chain(&house.ledger());
    // The passport that was signed and not released is accounted for once it is known that it never will be.
    let made = house.admin_raw().admin(AdminOp::Checkpoint);
    assert!(matches!(made, Ok(AdminOk::Checkpoint(_))), "{made:?}");
    assert_eq!(events(&house, "signatures_unaccounted"), 1);
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let again = eventually("it goes on", PATIENCE, || house.raw().issue(demo("dave")).ok());
    house.assert_on_record([&before.msg[..], &after.msg[..], &again.msg[..]]);
    ledger::assert_chain(&house.ledger());
}
