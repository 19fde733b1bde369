use std::fs;
use std::path::Path;

use super::super::{Audit, AuditConfig, Entry, Event, NoTree, Outcome, Recovery, Retention};
use super::*;
use crate::clock::Moment;
use crate::log::{Pace, SegmentConfig};

const KID: &str = "ed25519/t1/auth/v1";

fn config() -> AuditConfig {
    // Segments of two or three records.
    let segment = SegmentConfig { max_bytes: 1000 };
    AuditConfig { segment, pace: Pace::default(), journald: None, now: Moment::now, metrics: None }
}

fn entry(event: Event, outcome: Outcome) -> Entry {
    Entry::new(event, outcome, Moment::from_unix(1)).kid(KID)
}

fn issued() -> Entry {
    entry(Event::PassportIssued, Outcome::Ok)
}

/// The tree of the files, by its definition.
fn read(dir: &Path) -> Frontier {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|one| one.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    names.sort();
    let mut frontier = Frontier::empty();
    for name in names {
        fs::read_to_string(name).unwrap().lines().for_each(|line| frontier.push(merkle::leaf(line.as_bytes())));
    }
    frontier
}

fn record(audit: &Audit, entries: Vec<Entry>) {
    for entry in entries {
        audit.record_blocking(entry).unwrap();
    }
}

/// Once the last record is in it: it is acknowledged before.
fn tree(audit: &Audit) -> Tree {
    loop {
        let tree = audit.tree().unwrap();
        if tree.frontier.size() == audit.head().0 {
            return tree;
        }
        std::thread::yield_now();
    }
}

#[test]
fn the_tree_is_that_of_the_records_whether_it_grew_or_was_read() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (ledger, kept) = (dirs[0].path(), dirs[1].path());
    let (audit, _) = Audit::open(ledger, &config()).unwrap();
    record(&audit, (0..7).map(|_| issued()).collect());
    let kept_tree = tree(&audit);
    assert_eq!((kept_tree.frontier.clone(), kept_tree.head), (read(ledger), audit.head().1));
    kept_tree.keep(kept).unwrap();
    let more = [
        issued(),
        entry(Event::TicketIssued, Outcome::Ok),
        entry(Event::IssueRefused, Outcome::Refused),
        entry(Event::PassportIssued, Outcome::Failed),
        entry(Event::SignaturesUnaccounted, Outcome::Failed).count(5),
    ];
    record(&audit, more.to_vec());
    let grown = tree(&audit);
    assert_eq!((grown.frontier.clone(), grown.recorded[KID]), (read(ledger), 7 + 1 + 1 + 5));
    audit.close();
    drop(audit);
    // From what is kept; from all of it; and not from another ledger's, or one that was cut.
    let other = Tree { head: [9; 32], ..kept_tree };
    let longer = Tree { frontier: grown.frontier.clone(), ..Tree::default() };
    let restored = |keep: &dyn Fn()| {
        keep();
        let (audit, _) = Audit::open(ledger, &config()).unwrap();
        assert_eq!(audit.recover(ledger, kept).unwrap(), Recovery::Known);
        assert_eq!(tree(&audit), grown);
        // Its thread has the lock until it ends.
        audit.close();
    };
    restored(&|| {});
    restored(&|| other.keep(kept).unwrap());
    restored(&|| longer.keep(kept).unwrap());
    restored(&|| fs::write(kept.join(FILE), "{").unwrap());
    restored(&|| fs::remove_file(kept.join(FILE)).unwrap());
}

#[test]
fn a_ledger_that_was_not_read_has_no_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open(dir.path(), &config()).unwrap();
    record(&audit, vec![issued()]);
    audit.close();
    drop(audit);
    let (audit, _) = Audit::open(dir.path(), &config()).unwrap();
    record(&audit, vec![issued()]);
    audit.close();
    assert_eq!(audit.tree(), Err(NoTree::Reading { read: 0, records: 1 }));
}

#[test]
fn what_a_break_cut_off_is_no_leaf_and_the_break_is_one() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (ledger, kept) = (dirs[0].path(), dirs[1].path());
    let (audit, _) = Audit::open(ledger, &config()).unwrap();
    record(&audit, vec![issued()]);
    tree(&audit).keep(kept).unwrap();
    audit.close();
    drop(audit);
    let segment = ledger.join("00000000000000000001.jsonl");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, [&whole[..], b"{\"torn"].concat()).unwrap();
    let (audit, _) = Audit::open(ledger, &config()).unwrap();
    assert_eq!(audit.recover(ledger, kept).unwrap(), Recovery::Known);
    record(&audit, vec![issued()]);
    let grown = tree(&audit);
    assert_eq!((grown.frontier.size(), grown.head), audit.head());
    audit.close();
    drop(audit);
    let (audit, _) = Audit::open(ledger, &config()).unwrap();
    fs::remove_file(kept.join(FILE)).unwrap();
    assert_eq!(audit.recover(ledger, kept).unwrap(), Recovery::Known);
    assert_eq!(tree(&audit), grown);
}

#[test]
fn the_tree_of_a_ledger_that_was_pruned_is_read_from_its_base_on() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (ledger, kept) = (dirs[0].path(), dirs[1].path());
    let (audit, _) = Audit::open(ledger, &config()).unwrap();
    record(&audit, vec![issued()]);
    let early = tree(&audit);
    record(&audit, (0..20).map(|_| issued()).collect());
    record(&audit, vec![entry(Event::SignaturesUnaccounted, Outcome::Failed).count(5)]);
    audit.keep(Retention { days: 1, compress: false }).unwrap();
    audit.checkpointed(22, Some(Moment::now()));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while Base::read(ledger).unwrap().first < 10 {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    audit.close();
    let grown = tree(&audit);
    assert_eq!(grown.recorded[KID], 21 + 5);
    drop(audit);
    let recovered = || {
        let (audit, _) = Audit::open(ledger, &config()).unwrap();
        let known = audit.recover(ledger, kept).unwrap();
        audit.close();
        assert_eq!(known == Recovery::Known, audit.tree().is_ok());
        audit.tree().ok()
    };
    assert_eq!(recovered(), Some(grown.clone()), "nothing is kept");
    early.keep(kept).unwrap();
    assert_eq!(recovered(), Some(grown), "what is kept ends before the base");
    let base = fs::read_to_string(ledger.join("base")).unwrap();
    let counts = base.find(",\"recorded\"").unwrap();
    fs::write(ledger.join("base"), format!("{}}}", base.get(..counts).unwrap())).unwrap();
    fs::remove_file(kept.join(FILE)).unwrap();
    assert_eq!(recovered(), None, "of what is gone nobody knows the counts");
}
