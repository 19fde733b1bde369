//! What the tools do to a file.

use std::io::BufReader;
use std::path::Path;

use super::epochs::{Done, MAX_PENDING};
use super::table_tests::{NOW, key, now};
use super::tests::{open, place};
use super::*;

fn by() -> By {
    By { uid: 7, now: now().plus(100), reason: "test".to_owned() }
}

fn entries() -> Vec<Entry> {
    let answer = Answer { key: [7; 16], uid: 1000, request: [9; 32], jti: "j".into(), left: Some(u64::MAX) };
    let whats = [
        What::RevokedId { jti: "j \"1\"".into() },
        What::RevokedSubject { sub: "svc/ä\u{7f}".into(), before: -1 },
        What::Used { jti: "j".into(), count: u64::MAX },
        What::Nonce { nonce: "n".into() },
        What::Answer(answer),
        What::Proof { id: [3; 32], sub: "s".into() },
    ];
    let one = |(at, what)| {
        let owner = if at % 2 == 0 { Owner::Admin } else { Owner::Peer(u32::MAX) };
        Entry { until: i64::MAX - at, owner, tenant: "t".into(), what }
    };
    (0..).zip(whats).map(one).collect()
}

/// A file with keys, an epoch and one row of each kind.
fn filled(path: &Path) {
    let store = open(path).unwrap();
    store.commit_blocking(Change::keys(store.keys().stage(key("t", 1), NOW).unwrap()), 1).unwrap();
    store.commit_blocking(Change::bumped("t", NOW), 2).unwrap();
    store.close();
    let db = redb::Database::open(path).unwrap();
    let (mut meta, ..) = rows::load(&db).map_err(|e| e.at(path)).unwrap();
    meta.generation += 1;
    let rows = rows::Rows { put: entries().iter().map(Entry::row).collect(), ..rows::Rows::default() };
    rows::commit(&db, &rows, &meta).map_err(|e| e.at(path)).unwrap();
}

#[test]
fn every_kind_of_row_is_exported_and_comes_back() {
    let (dir, path) = place();
    filled(&path);
    let (mut text, mut again) = (Vec::new(), Vec::new());
    assert_eq!(export(&path, &mut text).unwrap(), 1 + 1 + 1 + entries().len());
    let new = dir.path().join("new.redb");
    let imported = import(&new, Path::new("text"), &mut BufReader::new(&text[..])).unwrap();
    assert_eq!(imported, look(&path).unwrap());
    export(&new, &mut again).unwrap();
    assert!(text == again);
    // Of every altered byte of it something is said.
    for at in (0..text.len()).step_by(7) {
        let (mut bent, other) = (text.clone(), dir.path().join("other.redb"));
        bent[at] ^= 1;
        let error = import(&other, Path::new("text"), &mut BufReader::new(&bent[..])).unwrap_err();
        assert!(matches!(error, StateError::Text { .. }) && !other.exists(), "byte {at}: {error}");
    }
    let long = vec![b'x'; usize::try_from(dump::MAX_LINE).unwrap()];
    let error = import(&dir.path().join("x"), Path::new("text"), &mut BufReader::new(&long[..])).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn a_restored_state_takes_nothing_back_that_can_be_read() {
    let (dir, path) = place();
    filled(&path);
    let backup = dir.path().join("backup.redb");
    std::fs::copy(&path, &backup).unwrap();
    let store = open(&path).unwrap();
    store.observe(NOW + 50);
    store.commit_blocking(Change { lifetime_s: Some(77), ..Change::bumped("t", NOW) }, 9).unwrap();
    store.close();
    let before = look(&path).unwrap();
    assert_eq!((before.mark, before.epochs.of("t")), (NOW + 50, 2));
    let looked = restore(&path, &Backup::read(&backup).unwrap(), &by(), true).unwrap();
    assert_eq!((look(&path).unwrap(), looked.backup.audit_seq), (before.clone(), 2));
    restore(&path, &Backup::read(&backup).unwrap(), &by(), false).unwrap();
    let after = look(&path).unwrap();
    assert!(after.generation > before.generation && after.mark == NOW + 50 && after.longest_s == 77);
    assert!(matches!(&after.pending[..], [Pending { what: Done::Restored { audit_seq: 2 }, uid: 7, .. }]));

    let store = open(&path).unwrap();
    store.check_against_ledger(9, 9).unwrap();
    store.commit_blocking(Change { settled: Some(11), ..Change::default() }, 10).unwrap();
    assert_eq!((store.kept().epoch("t"), store.kept().epoch("another")), (11, 11));
    let after = store.snapshot();
    assert!(after.pending.is_empty() && after.epochs.of("another") == 11);
    assert!(store.check_against_ledger(11, 11).is_err(), "older than its ledger it may be once");
    assert_eq!(store.commit_blocking(Change::bumped("t", NOW), 11).unwrap().epoch, 12);
    store.close();
    assert_eq!((look(&path).unwrap().epochs.of("t"), look(&path).unwrap().epochs.of("another")), (12, 11));
    assert!(restore(&path, &Backup::read(&path).unwrap(), &by(), true).is_err(), "itself");
}

#[test]
fn a_reset_sets_the_mark_and_so_often_without_a_start() {
    let (_dir, path) = place();
    filled(&path);
    for round in 0..MAX_PENDING {
        let by = By { now: now().plus(-1000), ..by() };
        assert_eq!(reset_clock(&path, &by, true).unwrap(), reset_clock(&path, &by, false).unwrap());
        let now = look(&path).unwrap();
        assert_eq!((now.mark, now.pending.len()), (NOW - 1000, round + 1));
        assert!(store_is_not_older_by_that(&path));
    }
    let error = reset_clock(&path, &by(), false).unwrap_err().to_string();
    assert!(error.contains("start the daemon first"), "{error}");
}

/// A reset lets no older state pass for the ledger's.
fn store_is_not_older_by_that(path: &Path) -> bool {
    let store = open(path).unwrap();
    let older = store.check_against_ledger(9, 9).is_err();
    store.close();
    older
}

#[test]
fn what_was_seen_is_durable_with_the_next_commit_by_itself_and_at_the_end() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    let generation = store.generation();
    store.observe(NOW + 5);
    store.commit_blocking(Change::bumped("t", NOW), 1).unwrap();
    assert_eq!((store.snapshot().mark, store.generation()), (NOW + 5, generation + 1));
    store.observe(NOW + 6);
    store.mark().unwrap();
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.snapshot().mark != NOW + 6 {
        assert!(std::time::Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(store.generation(), generation + 1, "nobody waits for a mark");
    store.observe(NOW + 7);
    store.observe(NOW);
    store.close();
    assert_eq!(look(&path).unwrap().mark, NOW + 7);
}
