//! Ledgers from which old segments were compressed and removed by the rules.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::chain::Start;
use super::super::checks::{Bad, Finding, Given, Verified, verify};
use super::super::proofs::inclusion;
use super::super::segments::Directory;
use super::super::testing::*;
use crate::audit::{Audit, AuditConfig, Retention};
use crate::clock::Moment;
use crate::log::{Base, Fault, Head, Pace, SegmentConfig};

/// Of 40 records the first half is removed, and most of the rest is compressed; all of them as they were before.
fn pruned(dir: &Path) -> Vec<Vec<u8>> {
    let segment = SegmentConfig { max_bytes: 3000 };
    let now = || Moment::from_unix(1_900_000_000);
    let config = AuditConfig { segment, pace: Pace::default(), journald: None, now, metrics: None };
    let (audit, _) = Audit::open(dir, &config).unwrap();
    (0..40).for_each(|at| assert_eq!(audit.record_blocking(entry(at, "alice")).unwrap(), at + 1));
    let mut all = Vec::new();
    let mut before = Directory::open(dir, 0).unwrap();
    super::super::chain::walk(&mut before, Start::Behind(Head::GENESIS), &mut |_, line| {
        all.push(line.to_vec());
        true
    })
    .unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    let until = |done: &dyn Fn(&str) -> bool| {
        while !fs::read_dir(dir).unwrap().any(|one| done(one.unwrap().file_name().to_str().unwrap())) {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    audit.keep(Retention { days: 1, compress: false }).unwrap();
    audit.checkpointed(20, Some(now()));
    until(&|name| name == "base");
    audit.close();
    drop(audit);
    let (audit, _) = Audit::open(dir, &config).unwrap();
    audit.keep(Retention { days: 0, compress: true }).unwrap();
    audit.checkpointed(40, Some(now()));
    until(&|name| name.ends_with(".gz"));
    audit.close();
    drop(audit);
    // What a start would do: end what the close has interrupted.
    Audit::open(dir, &config).unwrap().0.close();
    all
}

fn read(dir: &Path, anchors: &[super::super::anchors::Anchor]) -> Result<Verified, Bad> {
    let mut lines = Directory::open(dir, 0).unwrap();
    let (start, frontier) = (Start::Behind(lines.base().head()), Some(lines.base().tree.clone()));
    verify(&mut lines, &Given { start, anchors, frontier, counts: None }, &mut |_| {})
}

#[test]
fn a_ledger_that_was_pruned_verifies_from_its_base_and_by_roots() {
    let dir = tempfile::tempdir().unwrap();
    let all = pruned(dir.path());
    // How far journald's copy has come lies there, too.
    fs::write(dir.path().join("journald"), "{}").unwrap();
    let base = Base::read(dir.path()).unwrap();
    assert!(base.first > 1, "{base:?}");
    let anchors = [checkpoint(&all[..30]), checkpoint(&all)];
    let found = read(dir.path(), &anchors).unwrap();
    assert_eq!((found.walked.before.seq, found.heads, found.roots), (base.first - 1, 2, 2));
    let proof = |seq| {
        let mut lines = Directory::open(dir.path(), 0).unwrap();
        inclusion(&mut lines, &base, seq, (&anchors[1].checkpoint, &anchors[1].note))
    };
    assert!(proof(35).unwrap().verify(&[key().1]).is_ok());
    assert!(proof(1).unwrap_err().to_string().contains("was removed"));
    // A base that was altered, or of another ledger, has another root.
    let path = dir.path().join("base");
    let text = fs::read_to_string(&path).unwrap();
    let node = crate::passport::hex::encode(&base.tree.nodes()[0]);
    fs::write(&path, text.replace(&node, &"0".repeat(64))).unwrap();
    let found = read(dir.path(), &anchors).unwrap_err();
    assert!(matches!(found, Bad::Finding(Finding::Root { last: 30, .. })), "{found}");
    let prev = crate::passport::hex::encode(&base.prev);
    fs::write(&path, text.replace(&prev, &"0".repeat(64))).unwrap();
    assert_eq!(damage(read(dir.path(), &[])), (base.first, Fault::Unlinked));
    // Without a base, the first record is missing.
    fs::remove_file(&path).unwrap();
    assert_eq!(damage(read(dir.path(), &[])), (1, Fault::Missing { found: base.first }));
}

#[test]
fn a_segment_that_is_there_twice_is_there_twice_the_same() {
    let dir = tempfile::tempdir().unwrap();
    pruned(dir.path());
    let names = || fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().path());
    let packed = names().find(|path| path.extension().is_some_and(|ending| ending == "gz"));
    let packed = packed.unwrap_or_else(|| panic!("{:?}", names().collect::<Vec<_>>()));
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(fs::File::open(&packed).unwrap()), &mut text).unwrap();
    let plain = packed.with_extension("");
    fs::write(&plain, &text).unwrap();
    let whole = read(dir.path(), &[]).unwrap().records;
    assert!(whole > 20);
    text[5] ^= 1;
    fs::write(&plain, &text).unwrap();
    let error = Directory::open(dir.path(), 0).err().unwrap().to_string();
    assert!(error.contains("the two differ"), "{error}");
    // An altered bit of a compressed one is damage of a record.
    fs::remove_file(&plain).unwrap();
    let mut bytes = fs::read(&packed).unwrap();
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 1;
    fs::write(&packed, bytes).unwrap();
    damage(read(dir.path(), &[]));
}
