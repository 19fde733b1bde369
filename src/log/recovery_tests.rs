//! Torn segments, and the names that come free among them.

use std::fs;
use std::path::Path;

use super::segments::Recovered;
use super::testing::Plain;
use super::tests::{files, open, put, written};
use super::*;

const BEGUN: &str = "00000000000000000003.jsonl";
const FREE: &str = "00000000000000000003.r001.jsonl";
const EVIDENCE: &str = "00000000000000000003.r002.jsonl";

/// Three records, of which the last is torn; two later attempts are torn as well, and one between them was taken away.
fn with_a_free_name(dir: &Path) {
    written(dir, 3, u64::MAX);
    let first = dir.join(files(dir).remove(0));
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 5]).unwrap();
    fs::write(dir.join(BEGUN), "3 torn").unwrap();
    fs::write(dir.join(EVIDENCE), "3 torn").unwrap();
}

/// Starts, stores, ends, three times: what was acknowledged is there each time.
fn goes_on(dir: &Path, mut last: u64) {
    for round in 0..3 {
        let (log, found) = open(dir, u64::MAX);
        assert_eq!((found.head.seq, found.gap), (last, None), "round {round}");
        assert_eq!(put(&log, &["after"]).unwrap().first, last + 1, "no number is given twice");
        last += 1;
        log.close();
        assert_eq!(verify::<Plain>(dir).unwrap().records, last, "round {round}");
    }
}

/// What a daemon wrote that gave the break record the first free name: evidence sorts behind it.
fn written_before(dir: &Path, evidence: &str) {
    with_a_free_name(dir);
    let (_, Recovered { head, gap, .. }) = Segments::open::<Plain>(dir, SegmentConfig::default()).unwrap();
    let mut gap = gap.unwrap();
    gap.torn[2].bytes = evidence.len() as u64;
    fs::write(dir.join(EVIDENCE), evidence).unwrap();
    let mut lines = Vec::new();
    let hash = Plain.seal_break(&gap, &head, &mut lines).unwrap();
    lines.push(b'\n');
    Plain.seal(&"four".to_owned(), &Head { seq: 3, hash }, &mut lines).unwrap();
    lines.push(b'\n');
    fs::write(dir.join(FREE), lines).unwrap();
}

/// A line as it can stand behind a cut: written whole, and given up because it could not be synced.
fn whole_line() -> String {
    let mut line = Vec::new();
    Plain.seal(&"given up".to_owned(), &Head { seq: 2, hash: [7; 32] }, &mut line).unwrap();
    String::from_utf8(line).unwrap() + "\n"
}

#[test]
fn a_name_that_came_free_among_torn_segments_loses_no_record() {
    let dir = tempfile::tempdir().unwrap();
    with_a_free_name(dir.path());
    let (log, found) = open(dir.path(), u64::MAX);
    assert_eq!((found.head.seq, found.gap.unwrap().torn.len()), (2, 3));
    assert_eq!(put(&log, &["four"]).unwrap().first, 4);
    log.close();
    drop(log);
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, 4);
    assert_eq!(files(dir.path()).pop().unwrap(), "00000000000000000003.r003.jsonl", "it sorts behind what it cuts");
    goes_on(dir.path(), 4);
    assert_eq!(fs::read_to_string(dir.path().join(EVIDENCE)).unwrap(), "3 torn");
}

#[test]
fn a_segment_that_was_cut_is_never_written_to_again() {
    for evidence in ["3 torn".to_owned(), whole_line(), whole_line() + "torn"] {
        let dir = tempfile::tempdir().unwrap();
        written_before(dir.path(), &evidence);
        goes_on(dir.path(), 4);
        assert_eq!(fs::read_to_string(dir.path().join(EVIDENCE)).unwrap(), evidence);
    }
}

#[test]
fn a_crash_behind_which_evidence_sorts_is_recovered_from() {
    for evidence in ["3 torn".to_owned(), whole_line()] {
        let dir = tempfile::tempdir().unwrap();
        written_before(dir.path(), &evidence);
        let torn = dir.path().join(FREE);
        let lines = fs::read(&torn).unwrap();
        fs::write(&torn, &lines[..lines.len() - 5]).unwrap();
        let (log, found) = open(dir.path(), u64::MAX);
        let gap = found.gap.unwrap();
        assert_eq!((found.head.seq, gap.torn.len(), gap.torn[0].segment.as_str()), (3, 1, FREE));
        assert_eq!(put(&log, &["five"]).unwrap().first, 5, "behind the break record");
        log.close();
        drop(log);
        goes_on(dir.path(), 5);
        assert_eq!(fs::read_to_string(dir.path().join(EVIDENCE)).unwrap(), evidence);
    }
}

#[test]
fn a_record_behind_a_cut_is_named_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    written_before(dir.path(), "3 torn");
    // As such a daemon did at its next start.
    let line = whole_line();
    fs::write(dir.path().join(EVIDENCE), format!("3 torn{line}")).unwrap();
    let opened = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).map(drop);
    for outcome in [opened, verify::<Plain>(dir.path()).map(drop)] {
        let error = outcome.unwrap_err();
        let bytes = line.len() as u64;
        assert!(
            matches!(&error, LogError::Damaged { seq: 5, fault: Fault::Torn { bytes: found }, .. } if *found == bytes),
            "{error}"
        );
        assert!(error.to_string().contains(EVIDENCE), "{error}");
    }
}
