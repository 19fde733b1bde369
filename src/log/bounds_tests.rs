//! The bounds of the log: what is at one passes, and one step beyond is refused.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use super::commit::MAX_ERROR;
use super::names::list_at_most;
use super::scan::MAX_REPORTED;
use super::segment::Segment;
use super::segments::{Media, Shelf};
use super::testing::Plain;
use super::tests::{Disk, on, put, wait_until};
use super::writer::Writer;
use super::*;

/// How long an answer may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_group_at_the_bound_is_stored_and_a_larger_one_refused() {
    let log = Committer::volatile(Plain, Pace::default()).unwrap();
    let last = u64::try_from(MAX_GROUP).unwrap();
    assert_eq!(put(&log, &vec!["x"; MAX_GROUP]), Ok(Receipt { first: 1, last }));
    let refused = put(&log, &vec!["x"; MAX_GROUP + 1]);
    assert!(matches!(&refused, Err(CommitError::Refused(why)) if why.contains("1 to 4096")), "{refused:?}");
    assert_eq!(log.head().seq, last);
}

#[test]
fn a_line_at_the_bound_is_stored_and_read_and_a_longer_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (segments, found) = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
    let log = Committer::start(segments, found, Plain, Pace::default()).unwrap();
    // `1 `, two hashes in hex, each with a space behind it, then the text; and the newline is counted, too.
    let longest = MAX_LINE - 1 - (2 + 65 + 65);
    let refused = put(&log, &[&"x".repeat(longest + 1)]);
    assert!(matches!(&refused, Err(CommitError::Refused(why)) if why.contains("longer than 16384")), "{refused:?}");
    put(&log, &[&"x".repeat(longest)]).unwrap();
    put(&log, &["after"]).unwrap();
    log.close();
    assert_eq!(
        fs::read_to_string(dir.path().join("00000000000000000001.jsonl")).unwrap().find('\n'),
        Some(MAX_LINE - 1)
    );
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, 2);
}

/// A directory of so many segments, each with nothing but a torn beginning.
fn torn(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for retry in 0..count {
        let name = if retry == 0 { String::new() } else { format!(".r{retry:03}") };
        fs::write(dir.path().join(format!("{:020}{name}.jsonl", 1)), "torn").unwrap();
    }
    dir
}

#[test]
fn so_many_torn_segments_are_recorded_and_more_stop_the_start() {
    let dir = torn(MAX_TORN);
    let (segments, found) = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
    assert_eq!(found.gap.as_ref().unwrap().torn.len(), MAX_TORN);
    let log = Committer::start(segments, found, Plain, Pace::default()).unwrap();
    put(&log, &["after"]).unwrap();
    log.close();
    assert_eq!(verify::<Plain>(dir.path()).unwrap().breaks, [1]);

    let dir = torn(MAX_TORN + 1);
    let refused = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).err().unwrap();
    assert!(matches!(refused, LogError::TooMany { max: MAX_TORN, .. }), "{refused}");
}

#[test]
fn so_many_segments_torn_in_an_outage_are_recorded_and_no_more() {
    for (torn, stored) in [(MAX_TORN, true), (MAX_TORN + 1, false)] {
        let one = Torn { segment: "x".to_owned(), offset: 0, bytes: 1 };
        let gap = Break { cause: BreakCause::Outage, torn: vec![one; torn], refused: 0, error: String::new() };
        let mut writer = Writer::new(Plain, Box::new(Disk::new()), u64::MAX, None, Head::GENESIS, Some(gap));
        writer.begin();
        assert_eq!(writer.store().is_ok(), stored, "{torn}");
    }
}

#[test]
fn so_many_segments_are_listed_and_one_more_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for first in 1..=3 {
        fs::write(dir.path().join(format!("{first:020}.jsonl")), "").unwrap();
    }
    assert_eq!(list_at_most(dir.path(), 3).unwrap().len(), 3);
    let refused = list_at_most(dir.path(), 2).unwrap_err();
    assert!(matches!(refused, LogError::TooMany { max: 2, .. }), "{refused}");
}

#[test]
fn a_disk_that_hangs_is_answered_for_in_time() {
    let disk = Disk::new();
    let patience = Duration::from_millis(50);
    let log = on(&disk, Pace { patience, ..Pace::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let hangs = disk.0.lock().unwrap();
    let begun = Instant::now();
    let store =
        async { tokio::time::timeout(PATIENCE, log.store(vec!["x".to_owned()])).await.expect("an answer in time") };
    let answer = runtime.block_on(store);
    assert!(matches!(&answer, Err(CommitError::Unavailable(why)) if why.contains("in 50ms")), "{answer:?}");
    assert!(begun.elapsed() >= patience);
    // Nobody waits behind it, either, and the end does not wait for it.
    wait_until("it shows", || log.trouble().is_some_and(|why| why.contains("under way")));
    assert!(matches!(log.store_blocking(vec!["y".to_owned()]), Err(CommitError::Unavailable(_))));
    assert!(!log.clone().close());
    drop(hangs);
    wait_until("it is over", || log.trouble().is_none());
    assert_eq!(Pace::default().patience, Duration::from_secs(5));
}

/// A shelf that has no room, and says so at length.
struct NoRoom(usize);

impl Shelf for NoRoom {
    fn create(&mut self, _: u64) -> io::Result<(String, Box<dyn Media>)> {
        Err(io::Error::other("x".repeat(self.0)))
    }

    fn discard(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_disk_is_kept_as_far_as_it_fits() {
    for (length, kept) in [(MAX_ERROR, MAX_ERROR), (MAX_ERROR + 1, MAX_ERROR)] {
        let log = Committer::over(Box::new(NoRoom(length)), Plain, Pace::default()).unwrap();
        assert_eq!(put(&log, &["x"]), Err(CommitError::Unavailable("x".repeat(kept))));
        assert_eq!(log.trouble(), Some("x".repeat(kept)));
    }
}

/// A segment of so many lines, each a break record of an outage.
fn breaks(count: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let gap = Break { cause: BreakCause::Outage, torn: Vec::new(), refused: 1, error: String::new() };
    let (mut text, mut head) = (Vec::new(), Head::GENESIS);
    for _ in 0..count {
        head = Head { seq: head.seq + 1, hash: Plain.seal_break(&gap, &head, &mut text).unwrap() };
        text.push(b'\n');
    }
    fs::write(dir.path().join("00000000000000000001.jsonl"), text).unwrap();
    dir
}

#[test]
fn so_many_breaks_are_reported_and_no_more() {
    for count in [MAX_REPORTED, MAX_REPORTED + 1] {
        let report = verify::<Plain>(breaks(count).path()).unwrap();
        assert_eq!(report.records, u64::try_from(count).unwrap());
        assert_eq!(report.breaks, (1..=u64::try_from(MAX_REPORTED).unwrap()).collect::<Vec<_>>());
    }
}

#[test]
fn so_far_a_missing_record_is_looked_for_and_no_further() {
    let dir = breaks(5);
    let name = list_at_most(dir.path(), 1).unwrap().remove(0);
    for (lines, found) in [(4, true), (3, false)] {
        let mut segment = Segment::open(dir.path(), &name, &HashMap::new()).unwrap();
        assert_eq!(segment.occurs_within::<Plain>(lines, 4).unwrap(), found, "{lines} lines");
    }
}
