//! Compression and removal: at every step of either the power may go, and the log opens with every line.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::channel;

use super::testing::Plain;
use super::tests::{files, open, put, written};
use super::*;
use crate::statement::merkle::{Frontier, leaf};

fn keeper(dir: &Path) -> Keeper<Plain> {
    Keeper::new(dir, Arc::default(), Arc::default())
}

fn remove(keeper: &mut Keeper<Plain>, old: &Old, covered: u64) -> Result<(), LogError> {
    let removal = keeper.prepare(old, covered)?;
    keeper.remove(removal)
}

/// A closed log of 20 lines in several segments, and those lines.
fn log(dir: &Path) -> Vec<String> {
    written(dir, 20, 400);
    assert!(files(dir).len() > 3);
    lines(dir)
}

/// All lines that are there.
fn lines(dir: &Path) -> Vec<String> {
    let mut text = String::new();
    let mut names = files(dir);
    names.retain(|name| !name.starts_with("base"));
    for name in names {
        let file = fs::File::open(dir.join(&name)).unwrap();
        if name.ends_with(".gz") {
            flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        } else {
            text += &fs::read_to_string(dir.join(&name)).unwrap();
        }
    }
    text.lines().map(str::to_owned).collect()
}

fn compress_all(dir: &Path) {
    let mut keeper = keeper(dir);
    while keeper.compress_one(20, 20).unwrap().is_some() {}
}

fn firsts(dir: &Path) -> Vec<u64> {
    let names = files(dir).into_iter().filter(|name| name.contains(".jsonl"));
    names.map(|name| name.split('.').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn closed_and_covered_segments_are_compressed_and_read_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let all = log(dir.path());
    let firsts = firsts(dir.path());
    let before = verify::<Plain>(dir.path()).unwrap();
    let mut keeper = keeper(dir.path());
    // Not before a checkpoint covers all of it, and there is a line behind it.
    for (covered, durable) in [(firsts[1] - 2, 20), (20, firsts[1] - 1), (0, 20)] {
        assert_eq!(keeper.compress_one(covered, durable).unwrap(), None);
    }
    let packed = keeper.compress_one(firsts[1] - 1, firsts[1]).unwrap();
    assert_eq!(packed.as_deref(), Some("00000000000000000001.jsonl"));
    assert_eq!(keeper.compress_one(firsts[1] - 1, 20).unwrap(), None);
    compress_all(dir.path());
    let names = files(dir.path());
    assert!(names.iter().rev().skip(1).all(|name| name.ends_with(".jsonl.gz")), "{names:?}");
    assert!(names.last().unwrap().ends_with(".jsonl"), "the newest is written to");
    assert_eq!(lines(dir.path()), all, "as zcat reads them");
    assert_eq!(verify::<Plain>(dir.path()).unwrap(), before);
    assert_eq!(look::<Plain>(dir.path()).unwrap(), before.head);
    let mut follower = Follower::<Plain>::new(dir.path(), Arc::default(), 1);
    for seq in 1..=20 {
        assert!(matches!(follower.look(20), Ok(Next::Line(head)) if head.seq == seq), "{seq}");
        follower.done();
    }
    let (log, found) = open(dir.path(), 400);
    assert_eq!(found.head, before.head);
    put(&log, &["after"]).unwrap();
    log.close();
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, 21);
}

#[test]
fn every_altered_byte_of_a_compressed_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    compress_all(dir.path());
    let path = dir.path().join(&files(dir.path())[1]);
    let whole = fs::read(&path).unwrap();
    let data = 10;
    // Of the header the time, the operating system and the comment say nothing about the records, and are not read for them.
    let comment = data + whole[data..].iter().position(|byte| *byte == 0).unwrap();
    for at in (comment + 1)..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 0x10;
        fs::write(&path, altered).unwrap();
        let found = verify::<Plain>(dir.path());
        assert!(matches!(found, Err(LogError::Damaged { .. })), "byte {at}: {found:?}");
    }
    // An end that is not its own does not fit what follows.
    let digit = whole.windows(6).position(|bytes| bytes == b" mark ").unwrap() - 1;
    let mut altered = whole.clone();
    altered[digit] = if altered[digit] == b'0' { b'1' } else { b'0' };
    fs::write(&path, altered).unwrap();
    let opened = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).map(drop);
    assert!(matches!(opened, Err(LogError::Damaged { fault: Fault::Unlinked, .. })), "{opened:?}");
    // One that somebody compressed by hand says nothing of its end, and is read.
    let mut lines = String::new();
    flate2::read::MultiGzDecoder::new(&whole[..]).read_to_string(&mut lines).unwrap();
    let mut plain = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut plain, lines.as_bytes()).unwrap();
    fs::write(&path, plain.finish().unwrap()).unwrap();
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, 20);
    assert_eq!(Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap().1.head.seq, 20);
}

#[test]
fn two_truths_stop_the_start_and_one_that_is_there_twice_does_not() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let name = dir.path().join(&files(dir.path())[0]);
    let whole = fs::read(&name).unwrap();
    compress_all(dir.path());
    fs::write(&name, &whole).unwrap();
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, 20);
    drop(Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap());
    assert!(!dir.path().join("00000000000000000001.jsonl.gz").exists(), "it is made again");
    compress_all(dir.path());
    fs::write(&name, String::from_utf8(whole).unwrap().replacen("entry", "entrx", 1)).unwrap();
    let opened = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).map(drop);
    assert!(opened.is_err());
    assert!(matches!(verify::<Plain>(dir.path()), Err(LogError::Twice { .. })));
}

/// The tree over the first lines.
fn tree(lines: &[String]) -> Frontier {
    let mut tree = Frontier::empty();
    lines.iter().for_each(|line| tree.push(leaf(line.as_bytes())));
    tree
}

#[test]
fn the_oldest_are_removed_and_the_log_begins_where_its_base_says() {
    for packed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let all = log(dir.path());
        if packed {
            compress_all(dir.path());
        }
        let (firsts, head) = (firsts(dir.path()), verify::<Plain>(dir.path()).unwrap().head);
        let mut keeper = keeper(dir.path());
        assert_eq!(keeper.oldest(firsts[1] - 2, 20, i64::MAX).unwrap(), None, "not covered");
        let first = keeper.oldest(20, 20, i64::MAX).unwrap().unwrap();
        assert_eq!((first.first, first.last), (1, firsts[1] - 1));
        assert_eq!(keeper.oldest(20, 20, first.written - 1).unwrap(), None, "all of a time to come");
        let mut gone = 0;
        while let Some(old) = keeper.oldest(20, 20, i64::MAX).unwrap() {
            remove(&mut keeper, &old, 20).unwrap();
            gone = usize::try_from(old.last).unwrap();
            let base = Base::read(dir.path()).unwrap();
            assert_eq!((base.first, base.checkpoint), (old.last + 1, 20));
            assert_eq!(base.tree, tree(&all[..gone]));
            assert_eq!(lines(dir.path()), all[gone..]);
            let report = verify::<Plain>(dir.path()).unwrap();
            assert_eq!((report.first, report.records, report.head), (old.last + 1, 20 - old.last, head));
            assert_eq!(look::<Plain>(dir.path()).unwrap(), head);
        }
        assert_eq!(gone + 1, usize::try_from(*firsts.last().unwrap()).unwrap(), "the newest stays");
        let (log, _) = open(dir.path(), 400);
        assert_eq!(put(&log, &["after"]).unwrap().first, 21);
        log.close();
        drop(log);
        // Without its base, or with another one, it is damaged.
        let base = fs::read_to_string(dir.path().join("base")).unwrap();
        for other in [None, Some("{".to_owned()), Some(base.replacen("prev\":\"", "prev\":\"00", 1))] {
            match &other {
                None => fs::remove_file(dir.path().join("base")).unwrap(),
                Some(text) => fs::write(dir.path().join("base"), text).unwrap(),
            }
            let opened = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).map(drop).unwrap_err();
            let damaged = matches!(
                opened,
                LogError::Base { .. } | LogError::Damaged { seq: 1, fault: Fault::Missing { .. }, .. }
            );
            assert!(damaged, "{other:?}: {opened}");
        }
    }
}

/// What may have happened to files that were not synced when the power went.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Nothing,
    /// The new file has only its beginning, or nothing.
    Bytes(usize),
}

#[test]
fn the_power_may_go_before_every_step_of_either() {
    let mut steps = Vec::new();
    for at in 0.. {
        for lost in [Lost::Nothing, Lost::Bytes(0), Lost::Bytes(40)] {
            let dir = tempfile::tempdir().unwrap();
            let all = log(dir.path());
            let mut keeper = keeper(dir.path());
            let (tell, told) = channel();
            let mut count = 0;
            keeper.step = Box::new(move |step| {
                tell.send(step).unwrap();
                count += 1;
                if count > at { Err(io::Error::other("the power went")) } else { Ok(()) }
            });
            let ended = keeper
                .compress_one(20, 20)
                .map(drop)
                .and_then(|()| keeper.oldest(20, 20, i64::MAX).and_then(|old| remove(&mut keeper, &old.unwrap(), 20)));
            drop(keeper);
            let told: Vec<_> = told.iter().collect();
            let last = *told.last().unwrap();
            // What was written and not synced is not there any more.
            for name in files(dir.path()).iter().filter(|name| name.ends_with(".tmp")) {
                let path = dir.path().join(name);
                match lost {
                    Lost::Bytes(most) if last.starts_with("sync the") => {
                        let whole = fs::read(&path).unwrap();
                        fs::write(&path, &whole[..most.min(whole.len())]).unwrap();
                    }
                    _ => {}
                }
            }
            let (log, found) = open(dir.path(), 400);
            assert_eq!((found.head.seq, found.gap), (20, None), "{last} {lost:?}");
            let base = Base::read(dir.path()).unwrap();
            let gone = usize::try_from(base.first - 1).unwrap();
            assert_eq!(lines(dir.path()), all[gone..], "{last} {lost:?}");
            assert_eq!(base.tree, tree(&all[..gone]));
            assert!(files(dir.path()).iter().all(|name| !name.ends_with(".tmp")), "{:?}", files(dir.path()));
            put(&log, &["after"]).unwrap();
            log.close();
            drop(log);
            assert_eq!(verify::<Plain>(dir.path()).unwrap().head.seq, 21, "{last} {lost:?}");
            // It is taken up again.
            compress_all(dir.path());
            let old = self::keeper(dir.path()).oldest(20, 20, i64::MAX).unwrap().unwrap();
            remove(&mut self::keeper(dir.path()), &old, 20).unwrap();
            assert_eq!(verify::<Plain>(dir.path()).unwrap().head.seq, 21, "{last} {lost:?}");
            if ended.is_ok() {
                assert_eq!(at, told.len());
                assert!(at >= 12, "{told:?}");
                return;
            }
            steps.push(last);
        }
    }
}

/// A name that is removed or renamed may be as before after a power loss, too: until its directory is synced.
#[test]
fn a_name_that_was_not_synced_may_be_as_before() {
    // The plain file is back though the compressed one is there: that is what `two_truths` is about. The base is as before,
    // and the segments it covers are there, since nothing is removed before it is durable.
    let dir = tempfile::tempdir().unwrap();
    let all = log(dir.path());
    compress_all(dir.path());
    let segments: Vec<_> =
        files(dir.path()).into_iter().map(|name| (fs::read(dir.path().join(&name)).unwrap(), name)).collect();
    let mut keeper = keeper(dir.path());
    let old = keeper.oldest(20, 20, i64::MAX).unwrap().unwrap();
    remove(&mut keeper, &old, 20).unwrap();
    // A removal that was not synced: the segment is back, behind the base.
    fs::write(dir.path().join(&segments[0].1), &segments[0].0).unwrap();
    assert_eq!(verify::<Plain>(dir.path()).unwrap().first, old.last + 1);
    let (log, found) = open(dir.path(), 400);
    assert_eq!(found.head.seq, 20);
    assert!(!dir.path().join(&segments[0].1).exists(), "it is removed");
    log.close();
    assert_eq!(lines(dir.path()), all[usize::try_from(old.last).unwrap()..]);
}

#[test]
fn a_segment_that_a_break_record_cuts_stays_plain_and_goes_when_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, u64::MAX);
    let first = dir.path().join(files(dir.path()).remove(0));
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 5]).unwrap();
    let (log, found) = open(dir.path(), 1);
    assert!(found.gap.is_some());
    put(&log, &["after"]).unwrap();
    let last = put(&log, &["after"]).unwrap().last;
    log.close();
    drop(log);
    let mut keeper = keeper(dir.path());
    while keeper.compress_one(last, last).unwrap().is_some() {}
    assert_eq!(fs::read(&first).unwrap(), whole[..whole.len() - 5], "with what is behind the cut");
    assert!(files(dir.path()).iter().any(|name| name.ends_with(".gz")));
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, last);
    let old = keeper.oldest(last, last, i64::MAX).unwrap().unwrap();
    assert_eq!((old.first, old.last), (1, 2));
    remove(&mut keeper, &old, last).unwrap();
    assert!(!first.exists());
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, last - 2);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut keeper = Keeper::<Plain>::new(dir.path(), Arc::new(AtomicU64::new(0)), stop);
    assert!(keeper.compress_one(20, 20).is_err());
    assert!(files(dir.path()).iter().all(|name| name.ends_with(".jsonl")));
}
