//! Reading along: every durable line, once, in order, and nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::testing::Plain;
use super::tests::{files, open, put, written};
use super::*;

fn follower(dir: &Path, next: u64) -> Follower<Plain> {
    Follower::new(dir, Arc::default(), next)
}

/// What comes up to `durable`: sequence numbers, and those that were lost.
fn all(follower: &mut Follower<Plain>, durable: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut lines, mut lost) = (Vec::new(), Vec::new());
    loop {
        match follower.look(durable).unwrap() {
            Next::Line(head) => {
                let again = follower.look(durable).unwrap();
                assert_eq!(again, Next::Line(head), "it stays until it has been dealt with");
                assert_eq!(Plain::read(follower.line()).unwrap().head, head);
                lines.push(head.seq);
                follower.done();
            }
            Next::Lost(from, to) => lost.push((from, to)),
            Next::Nothing => return (lines, lost),
        }
    }
}

#[test]
fn it_reads_from_anywhere_up_to_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20, 400);
    assert!(files(dir.path()).len() > 3);
    for (from, durable) in [(1, 20), (1, 7), (5, 20), (20, 20), (21, 20), (13, 12)] {
        let mut follower = follower(dir.path(), from);
        assert_eq!(all(&mut follower, durable), ((from..=durable).collect(), vec![]), "{from} to {durable}");
        assert_eq!(follower.at(), from.max(durable + 1));
        follower.go_to(3);
        assert_eq!(all(&mut follower, 20).0, (3..=20).collect::<Vec<_>>(), "back");
    }
}

#[test]
fn it_reads_along_while_segments_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let (segments, found) = Segments::open::<Plain>(dir.path(), SegmentConfig { max_bytes: 2_000 }).unwrap();
    let mut follower = Follower::<Plain>::new(dir.path(), segments.changes(), 1);
    let log = Committer::start(segments, found, Plain, Pace::default()).unwrap();
    let (newest, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let reader = {
        let (newest, over) = (Arc::clone(&newest), Arc::clone(&over));
        thread::spawn(move || {
            let mut lines = Vec::new();
            loop {
                let last = over.load(Ordering::Acquire);
                let (more, lost) = all(&mut follower, newest.load(Ordering::Acquire));
                assert_eq!(lost, []);
                lines.extend(more);
                if last {
                    return lines;
                }
            }
        })
    };
    for _ in 0..300 {
        newest.store(put(&log, &["a", "b", "c"]).unwrap().last, Ordering::Release);
    }
    over.store(true, Ordering::Release);
    assert_eq!(reader.join().unwrap(), (1..=900).collect::<Vec<_>>());
    log.close();
}

#[test]
fn what_was_given_up_is_not_read_though_it_looks_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), u64::MAX);
    put(&log, &["a", "b"]).unwrap();
    let mut follower = follower(dir.path(), 1);
    assert_eq!(all(&mut follower, 2).0, [1, 2]);
    let head = log.head();
    log.close();
    drop(log);
    // A line that could not be synced, and the break record that cuts it off.
    let first = files(dir.path()).remove(0);
    let path = dir.path().join(&first);
    let good = fs::metadata(&path).unwrap().len();
    let mut stale = fs::read(&path).unwrap();
    Plain.seal(&"given up".to_owned(), &head, &mut stale).unwrap();
    stale.push(b'\n');
    fs::write(&path, &stale).unwrap();
    // The beginning of another attempt stands before it.
    fs::write(dir.path().join("00000000000000000003.jsonl"), "3 torn").unwrap();
    let bytes = stale.len() as u64 - good;
    let begun = Torn { segment: "00000000000000000003.jsonl".to_owned(), offset: 0, bytes: 6 };
    let torn = vec![Torn { segment: first, offset: good, bytes }, begun];
    let gap = Break { cause: BreakCause::Outage, torn, refused: 1, error: String::new() };
    let mut line = Vec::new();
    let hash = Plain.seal_break(&gap, &head, &mut line).unwrap();
    line.push(b'\n');
    fs::write(dir.path().join("00000000000000000003.r001.jsonl"), line).unwrap();
    for mut follower in [self::follower(dir.path(), 1), self::follower(dir.path(), 3)] {
        let found = loop {
            match follower.look(3).unwrap() {
                Next::Line(found) if found.seq == 3 => break found,
                Next::Line(_) => follower.done(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(found.hash, hash, "the break record, not what was given up");
    }
    assert_eq!(all(&mut self::follower(dir.path(), 1), 3), (vec![1, 2, 3], vec![]));
}

#[test]
fn what_is_not_there_is_named_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20, 400);
    let names = files(dir.path());
    let first = |at: usize| names[at].split('.').next().unwrap().parse::<u64>().unwrap();
    fs::remove_file(dir.path().join(&names[1])).unwrap();
    let (lines, lost) = all(&mut follower(dir.path(), 1), 20);
    assert_eq!(lost, [(first(1), first(2) - 1)]);
    assert_eq!(lines, (1..first(1)).chain(first(2)..=20).collect::<Vec<_>>());
    // All of it.
    names.iter().for_each(|name| drop(fs::remove_file(dir.path().join(name))));
    assert_eq!(all(&mut follower(dir.path(), 4), 20), (vec![], vec![(4, 20)]));
}

#[test]
fn a_line_that_was_altered_is_not_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 20, 400);
    let names = files(dir.path());
    let path = dir.path().join(&names[1]);
    let text = fs::read_to_string(&path).unwrap().replacen("entry", "entrx", 1);
    fs::write(&path, text).unwrap();
    let second: u64 = names[1].split('.').next().unwrap().parse().unwrap();
    let (lines, lost) = all(&mut follower(dir.path(), 1), 20);
    assert_eq!((lost[0].0, lines.contains(&second), lines.last()), (second, false, Some(&20)));
}
