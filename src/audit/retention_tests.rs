//! Retention as the daemon has it: what checkpoints cover is compressed, and what is old goes, on record.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::testing::entry;
use super::*;

/// So old are the entries of the tests: of 1970.
fn open(dir: &Path) -> Audit {
    let config = AuditConfig {
        segment: SegmentConfig { max_bytes: 2_000 },
        pace: Pace::default(),
        journald: None,
        now: Moment::now,
        metrics: None,
    };
    Audit::open(dir, &config).unwrap().0
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains(".jsonl"));
    names.sort();
    names
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_a_checkpoint_covers_is_compressed_and_nothing_goes_without_days() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    audit.keep(Retention { days: 0, compress: true }).unwrap();
    let last = (0..20).fold(0, |_, _| audit.record_blocking(entry("x")).unwrap());
    let before = names(dir.path());
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(names(dir.path()), before, "not before a checkpoint");
    audit.checkpointed(last, Some(Moment::now()));
    until("all but the newest", || names(dir.path()).iter().rev().skip(1).all(|name| name.ends_with(".gz")));
    assert_eq!(names(dir.path()).len(), before.len());
    assert_eq!(verify_chain(dir.path()).unwrap().records, last);
    audit.close();
    drop(audit);
    assert_eq!(open(dir.path()).head().0, last);
}

#[test]
fn what_is_old_goes_and_that_is_on_record_first() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    audit.keep(Retention { days: 1, compress: false }).unwrap();
    let last = (0..20).fold(0, |_, _| audit.record_blocking(entry("x")).unwrap());
    let oldest = names(dir.path());
    audit.checkpointed(last, None);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(names(dir.path()), oldest, "not while the clock is in doubt");
    audit.checkpointed(last, Some(Moment::now()));
    until("they are gone", || {
        names(dir.path()).iter().all(|name| !oldest.contains(name) || name == &oldest[oldest.len() - 1])
    });
    until("a base", || dir.path().join("base").exists());
    audit.close();
    drop(audit);
    let report = verify_chain(dir.path()).unwrap();
    let base = log::Base::read(dir.path()).unwrap();
    assert!(report.first > 1 && report.first == base.first && base.checkpoint == last, "{report:?}");
    let text: String =
        names(dir.path()).iter().map(|name| fs::read_to_string(dir.path().join(name)).unwrap()).collect();
    let pruned: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|line| line["event"] == "ledger_pruned")
        .collect();
    // One for each segment, in order; the last may have been about to go when all ended.
    let mut next = 1;
    let mut ends = Vec::new();
    for record in &pruned {
        let detail = record["detail"].as_str().unwrap();
        let words: Vec<&str> = detail.split([' ', ',']).collect();
        assert_eq!((words[0], words[1].parse()), ("records", Ok(next)), "{detail}");
        assert!(detail.ends_with(&format!("of size {last}")), "{detail}");
        next = words[3].parse::<u64>().unwrap() + 1;
        ends.push(next);
    }
    assert!(ends.len() >= oldest.len() - 1 && ends.contains(&base.first), "{ends:?}");
    assert_eq!(open(dir.path()).head().0, report.head.seq);
}

#[test]
fn keys_are_found_in_compressed_segments() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    audit.keep(Retention { days: 0, compress: true }).unwrap();
    let retired = Entry::new(Event::KeyRetired, Outcome::Ok, Moment::from_unix(0)).kid("ed25519/t1/auth/v1");
    audit.record_blocking(retired).unwrap();
    let last = (0..10).fold(0, |_, _| audit.record_blocking(entry("x")).unwrap());
    audit.checkpointed(last, Some(Moment::now()));
    until("compressed", || names(dir.path())[0].ends_with(".gz"));
    audit.close();
    assert_eq!(keys_since(dir.path(), 0).unwrap(), [(Event::KeyRetired, "ed25519/t1/auth/v1".to_owned())]);
}

#[test]
fn records_of_a_clock_that_was_ahead_are_as_old_as_what_follows_them() {
    let dir = tempfile::tempdir().unwrap();
    let audit = open(dir.path());
    let of = |time: i64| Entry::new(Event::KeyRetired, Outcome::Ok, Moment::from_unix(time));
    let ahead = (0..10).fold(0, |_, _| audit.record_blocking(of(4_000_000_000)).unwrap());
    let last = (0..10).fold(0, |_, _| audit.record_blocking(of(1_000)).unwrap());
    let keeper = log::Keeper::<Chain>::new(dir.path(), Arc::default(), Arc::default());
    let oldest = keeper.oldest(last, last, 2_000).unwrap().unwrap();
    assert!(oldest.last < ahead && (oldest.first, oldest.written) == (1, 1_000), "{oldest:?}");
    assert_eq!(keeper.oldest(ahead, last, 2_000).unwrap(), None, "no checkpoint covers what says their age");
    audit.close();
}
