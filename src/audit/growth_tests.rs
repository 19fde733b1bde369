use std::fs;
use std::time::{Duration, Instant};

use super::super::{Audit, AuditConfig, Event};
use super::*;
use crate::audit::tree::FILE;
use crate::clock::Moment;
use crate::log::{Pace, SegmentConfig};

fn open(dir: &Path) -> Audit {
    let segment = SegmentConfig { max_bytes: 20_000 };
    let config = AuditConfig { segment, pace: Pace::default(), journald: None, now: Moment::now, metrics: None };
    Audit::open(dir, &config).unwrap().0
}

fn record(audit: &Audit, count: usize) {
    for _ in 0..count {
        let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(1)).kid("ed25519/t1/auth/v1");
        audit.record_blocking(entry).unwrap();
    }
}

fn known(audit: &Audit) -> Tree {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match audit.tree() {
            Ok(tree) if tree.frontier.size() == audit.head().0 => return tree,
            _ => assert!(Instant::now() < end),
        }
        thread::yield_now();
    }
}

/// Reads the ledger once more, by the definitions.
fn by_definition(ledger: &Path, audit: &Audit) -> Tree {
    let (seq, hash) = audit.head();
    let mut tree = Tree::default();
    assert!(tree.read_on(ledger, &Head { seq, hash }, |_| ControlFlow::Continue(())).unwrap());
    tree
}

#[test]
fn a_long_ledger_is_read_while_records_are_made() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (ledger, kept) = (dirs[0].path(), dirs[1].path());
    let audit = open(ledger);
    record(&audit, 3_000);
    audit.close();
    drop(audit);
    let audit = open(ledger);
    let committer = audit.ledger.clone();
    let recovery = audit.growth.recover(ledger, kept, move || committer.head(), 0);
    assert_eq!(recovery.unwrap(), Recovery::Reading(3_000));
    record(&audit, 200);
    let tree = known(&audit);
    assert_eq!(tree, by_definition(ledger, &audit));
    assert_eq!(tree.recorded.values().sum::<u64>(), 3_200);
    record(&audit, 10);
    assert_eq!(known(&audit), by_definition(ledger, &audit));
    audit.close();
    drop(audit);

    // The end has kept it: the next start reads nothing, even where nothing may be read at the start.
    let audit = open(ledger);
    let committer = audit.ledger.clone();
    assert_eq!(audit.growth.recover(ledger, kept, move || committer.head(), 0).unwrap(), Recovery::Known);
    assert_eq!(known(&audit), by_definition(ledger, &audit));
    audit.close();
}

#[test]
fn it_is_kept_as_it_grows_without_any_checkpoint() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (ledger, kept) = (dirs[0].path(), dirs[1].path());
    let audit = open(ledger);
    record(&audit, 2);
    audit.keep_tree().unwrap();
    assert!(!kept.join(FILE).exists(), "nobody has said where");
    assert_eq!(audit.recover(ledger, kept).unwrap(), Recovery::Known);
    known(&audit);
    audit.keep_tree().unwrap();
    let first = fs::read(kept.join(FILE)).unwrap();
    fs::write(kept.join(FILE), "not again").unwrap();
    audit.keep_tree().unwrap();
    assert_eq!(fs::read(kept.join(FILE)).unwrap(), b"not again", "it has not grown");
    record(&audit, 1);
    known(&audit);
    audit.keep_tree().unwrap();
    assert!(fs::read(kept.join(FILE)).unwrap().len() >= first.len());
    fs::remove_dir_all(kept).unwrap();
    record(&audit, 1);
    known(&audit);
    audit.keep_tree().unwrap_err();
    // The end says that it can't, and comes.
    audit.close();
}

#[test]
fn a_break_that_is_recorded_before_the_ledger_is_read_is_part_of_it() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (ledger, kept) = (dirs[0].path(), dirs[1].path());
    let audit = open(ledger);
    record(&audit, 1);
    audit.close();
    drop(audit);
    let segment = ledger.join("00000000000000000001.jsonl");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, [&whole[..], b"{\"torn"].concat()).unwrap();
    let audit = open(ledger);
    record(&audit, 1);
    assert_eq!(audit.head().0, 3);
    assert_eq!(audit.recover(ledger, kept).unwrap(), Recovery::Known);
    assert_eq!(known(&audit), by_definition(ledger, &audit));
    audit.close();
}

#[test]
fn what_came_meanwhile_is_put_behind_what_was_read_or_read_as_well() {
    let recent = |seq: u64| {
        let hash = [u8::try_from(seq % 251).unwrap(); 32];
        Recent { at: Head { seq, hash }, leaf: hash, accounts: None }
    };
    let read = |to: u64| {
        let mut tree = Tree::default();
        (1..=to).for_each(|seq| recent(seq).onto(&mut tree));
        tree
    };
    let most = u64::try_from(MAX_RECENT).unwrap();
    let mut standing = Standing::Reading { recent: VecDeque::new(), records: 5 };
    (6..=most + 20).for_each(|seq| standing.grow(Some(recent(seq))));
    // The first of them are forgotten.
    assert!(!standing.join(&read(10)));
    assert!(standing.join(&read(20)));
    // What is told late, when it was read already, changes nothing.
    standing.grow(Some(recent(most + 20)));
    standing.grow(Some(recent(most + 21)));
    assert!(matches!(&standing, Standing::Known(tree) if *tree == read(most + 21)));
    standing.grow(Some(recent(most + 23)));
    assert!(matches!(standing, Standing::Unknown), "one is missing");
}
