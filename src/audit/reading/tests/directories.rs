//! Ledgers as the daemon keeps them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::super::chain::Start;
use super::super::checks::{Bad, Given, Verified, verify};
use super::super::segments::Directory;
use super::super::testing::*;
use crate::audit::{Audit, AuditConfig, verify_chain};
use crate::clock::Moment;
use crate::log::{Fault, Head, Pace, SegmentConfig};

fn write(dir: &Path, count: u64) {
    let segment = SegmentConfig { max_bytes: 3000 };
    let config = AuditConfig {
        segment,
        pace: Pace::default(),
        journald: None,
        now: || Moment::from_unix(1_800_000_000),
        metrics: None,
    };
    let (audit, _) = Audit::open(dir, &config).unwrap();
    for at in 0..count {
        audit.record_blocking(entry(at, "alice")).unwrap();
    }
    audit.close();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).unwrap().map(|one| one.unwrap().path());
    let mut found: Vec<_> = all.filter(|path| path.to_str().unwrap().contains(".jsonl")).collect();
    found.sort();
    found
}

fn read(dir: &Path) -> Result<Verified, Bad> {
    let given = Given { start: Start::Behind(Head::GENESIS), anchors: &[], frontier: None, counts: None };
    verify(&mut Directory::open(dir, 0).unwrap(), &given, &mut |_| {})
}

fn pack(path: &Path) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&fs::read(path).unwrap()).unwrap();
    fs::write(format!("{}.gz", path.display()), packed.finish().unwrap()).unwrap();
    fs::remove_file(path).unwrap();
}

/// A ledger of many segments, one of them torn and named by a break record.
fn broken(dir: &Path) -> u64 {
    write(dir, 40);
    let last = segments(dir).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, &whole[..whole.len() - 30]).unwrap();
    write(dir, 20);
    40 + 20
}

#[test]
fn segments_are_read_up_to_their_cuts_plain_or_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let records = broken(dir.path());
    let (found, reference) = (read(dir.path()).unwrap(), verify_chain(dir.path()).unwrap());
    assert_eq!((found.records, found.walked.head), (records, reference.head));
    assert_eq!((found.breaks.clone(), reference.breaks), (vec![40], vec![40]));
    for path in segments(dir.path()).iter().rev().skip(1) {
        pack(path);
    }
    let packed = read(dir.path()).unwrap();
    assert_eq!((packed.records, packed.walked, packed.breaks), (records, found.walked, found.breaks));
    // From a record on, without the segments before it.
    let given = Given { start: Start::Anywhere, anchors: &[], frontier: None, counts: None };
    let later = verify(&mut Directory::open(dir.path(), 50).unwrap(), &given, &mut |_| {}).unwrap();
    assert!(later.walked.before.seq > 30 && later.walked.before.seq < 50, "{:?}", later.walked);
}

#[test]
fn what_is_done_to_files_is_named() {
    type Case = (&'static str, fn(&Path, Vec<PathBuf>), fn(&Fault) -> bool);
    let faults: [Case; 6] = [
        ("removed", |_, all| fs::remove_file(&all[2]).unwrap(), |f| matches!(f, Fault::Missing { .. })),
        ("the first removed", |_, all| fs::remove_file(&all[0]).unwrap(), |f| matches!(f, Fault::Missing { .. })),
        (
            "the last emptied",
            |_, all| {
                fs::write(all.last().unwrap(), "").unwrap();
                fs::rename(all.last().unwrap(), all[0].with_file_name("00000000000000000900.jsonl")).unwrap();
            },
            |f| matches!(f, Fault::Missing { .. }),
        ),
        (
            "renamed",
            |_, all| fs::rename(&all[2], all[2].with_file_name("00000000000000000900.jsonl")).unwrap(),
            |f| matches!(f, Fault::OutOfOrder { .. }),
        ),
        (
            "named otherwise",
            |_, all| {
                let name = all[1].file_name().unwrap().to_str().unwrap().to_owned();
                let first: u64 = name.get(..20).unwrap().parse().unwrap();
                fs::rename(&all[1], all[1].with_file_name(format!("{:020}.jsonl", first - 1))).unwrap();
            },
            |f| matches!(f, Fault::Misnamed),
        ),
        (
            "appended to behind a cut",
            |_, all| {
                let torn = all.iter().find(|path| !fs::read(path).unwrap().ends_with(b"\n")).unwrap();
                fs::OpenOptions::new().append(true).open(torn).unwrap().write_all(b"more\n").unwrap();
            },
            |f| matches!(f, Fault::Torn { bytes: 5 }),
        ),
    ];
    for (what, change, expected) in faults {
        let dir = tempfile::tempdir().unwrap();
        broken(dir.path());
        change(dir.path(), segments(dir.path()));
        let (_, fault) = damage(read(dir.path()));
        assert!(expected(&fault), "{what}: {fault}");
        assert!(verify_chain(dir.path()).is_err(), "{what}: as the daemon itself has it");
    }
}

#[test]
fn a_line_that_is_being_written_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 3);
    let last = segments(dir.path()).pop().unwrap();
    let whole = fs::read(&last).unwrap();
    fs::write(&last, &whole[..whole.len() - 30]).unwrap();
    assert_eq!(damage(read(dir.path())).0, 3);
    let writer = {
        let (last, rest) = (last.clone(), whole[whole.len() - 30..].to_vec());
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(60));
            fs::OpenOptions::new().append(true).open(last).unwrap().write_all(&rest).unwrap();
        })
    };
    let found = read(dir.path());
    writer.join().unwrap();
    assert_eq!(found.unwrap().records, 3);
}

#[test]
fn files_that_are_no_segments_are_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 3);
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    let error = Directory::open(dir.path(), 0).err().unwrap().to_string();
    assert!(error.contains("notes.txt"), "{error}");
}
