//! Ledgers that somebody has changed: each change is found, and the first bad record is named.

use super::anchors::Anchor;
use super::checks::{Bad, Finding};
use super::testing::*;
use super::*;
use crate::log::{Fault, Head};
use crate::statement::Checkpoint;

const COUNT: u64 = 200;

#[test]
fn a_whole_ledger_verifies_and_says_what_anchors_it() {
    let lines = ledger(COUNT, "alice");
    let anchors = [checkpoint(&lines[..50]), checkpoint(&lines[..150])];
    let verified = check(&text(&lines), &anchors).unwrap();
    assert_eq!((verified.records, verified.covered, verified.anchor), (200, 150, Some(1)));
    assert_eq!((verified.heads, verified.roots, verified.counted, verified.older), (2, 2, 2, 0));
    assert_eq!(verified.walked.head, head(&lines));
    // From the middle: the head of the one before is what the first record names.
    let verified = check_from(&text(&lines[50..]), &anchors, chain::Start::Anywhere).unwrap();
    assert_eq!((verified.records, verified.walked.before.seq, verified.covered), (150, 50, 150));
    assert_eq!((verified.heads, verified.roots, verified.counted), (2, 0, 1), "counted from the first one on");
    let verified = check_from(&text(&lines[51..]), &anchors, chain::Start::Anywhere).unwrap();
    assert_eq!((verified.heads, verified.counted, verified.older), (1, 0, 1));
}

#[test]
fn every_record_is_missed_where_a_bit_of_it_is_flipped() {
    let whole = text(&ledger(COUNT, "alice"));
    let mut start = 0;
    for (at, line) in whole.split_inclusive(|byte| *byte == b'\n').enumerate() {
        // Its first and last bytes, and three in between that move from record to record.
        let spread = [line.len() / 4, line.len() / 2, line.len() * 3 / 4].map(|place| place + at % 60);
        for place in [0, line.len() - 2, line.len() - 1].into_iter().chain(spread) {
            let mut altered = whole.clone();
            altered[start + place] ^= 1 << ((at + place) % 8);
            let (seq, fault) = damage(check(&altered, &[]));
            assert_eq!(seq, at as u64 + 1, "byte {place}: {fault}");
        }
        start += line.len();
    }
}

#[test]
fn records_that_are_gone_doubled_or_swapped_are_named() {
    let lines = ledger(COUNT, "alice");
    for at in 0..lines.len() - 1 {
        let seq = at as u64 + 1;
        let mut gone = lines.clone();
        gone.remove(at);
        assert_eq!(damage(check(&text(&gone), &[])), (seq, Fault::Missing { found: seq + 1 }));
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at].clone());
        assert_eq!(damage(check(&text(&doubled), &[])), (seq + 1, Fault::Repeated { found: seq }));
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        assert_eq!(damage(check(&text(&swapped), &[])), (seq, Fault::OutOfOrder { found: seq + 1 }));
    }
}

#[test]
fn what_is_of_another_ledger_is_named() {
    let (lines, other) = (ledger(COUNT, "alice"), ledger(COUNT, "bob"));
    for at in 1..lines.len() {
        // One record, and all from there on.
        let mut one = lines.clone();
        one[at] = other[at].clone();
        assert_eq!(damage(check(&text(&one), &[])), (at as u64 + 1, Fault::Unlinked));
        let rest = [&lines[..at], &other[at..]].concat();
        assert_eq!(damage(check(&text(&rest), &[])), (at as u64 + 1, Fault::Unlinked));
    }
    // A record that was written anew, and those behind it left as they were: the next one does not follow it.
    let mut new = lines.clone();
    new[99] = rewritten(&lines, 100).swap_remove(99);
    assert_eq!(damage(check(&text(&new), &[])), (101, Fault::Unlinked));
    // Another ledger as a whole, from its first record on.
    let anchors = [checkpoint(&lines[..100])];
    let found = check(&text(&other), &anchors).unwrap_err();
    assert!(matches!(found, Bad::Finding(Finding::Rewritten { first: 1, last: 100, .. })), "{found}");
}

#[test]
fn an_end_that_is_cut_off_shows_by_any_checkpoint_beyond_it() {
    let lines = ledger(COUNT, "alice");
    let anchors = [checkpoint(&lines[..100]), checkpoint(&lines)];
    for cut in 1..=50 {
        let left = lines.len() - cut;
        let found = check(&text(&lines[..left]), &anchors).unwrap_err();
        let Bad::Finding(Finding::Cut { first, last, .. }) = &found else { panic!("{found}") };
        assert_eq!((*first, *last), (left as u64 + 1, COUNT));
        assert!(check(&text(&lines[..left]), &anchors[..1]).is_ok(), "what the older one covers is there");
    }
}

#[test]
fn a_history_that_the_key_signed_anew_shows_by_an_older_checkpoint() {
    let lines = ledger(COUNT, "alice");
    let held = [checkpoint(&lines[..100]), checkpoint(&lines[..150])];
    for (at, first, last) in [(1, 1, 100), (50, 1, 100), (100, 1, 100), (101, 101, 150), (150, 101, 150)] {
        let forged = rewritten(&lines, at);
        let new = checkpoint(&forged);
        assert!(check(&text(&forged), std::slice::from_ref(&new)).is_ok(), "nothing else was held elsewhere");
        let anchors = [held[0].clone(), held[1].clone(), new];
        let found = check(&text(&forged), &anchors).unwrap_err();
        let Bad::Finding(finding) = &found else { panic!("{found}") };
        let expected = matches!(finding, Finding::Rewritten { first: f, last: l, .. } if (*f, *l) == (first, last));
        assert!(expected, "{at}: {finding}");
    }
}

#[test]
fn roots_and_counts_are_held_to_the_records() {
    let lines = ledger(COUNT, "alice");
    let issued = issued(&lines);
    let finding = |anchor| match check(&text(&lines), &[anchor]).unwrap_err() {
        Bad::Finding(finding) => finding,
        other => panic!("{other}"),
    };
    let mut other = checkpoint(&lines).checkpoint;
    other.root[7] ^= 1;
    assert!(matches!(finding(anchor(other)), Finding::Root { last: COUNT, .. }));
    let unrecorded = finding(counting(&lines, issued + 3, issued));
    assert!(unrecorded.to_string().starts_with("3 signatures of ed25519/t1/auth/v1 have no record"), "{unrecorded}");
    let (more, fewer) = (counting(&lines, issued, issued + 1), counting(&lines, issued - 1, issued - 1));
    for wrong in [more, fewer] {
        let found = finding(wrong);
        assert!(matches!(found, Finding::Miscounted { counted, .. } if counted == issued), "{found}");
    }
    // Signatures that the front put on record afterwards count.
    let mut late = lines.clone();
    let line = format!(
        r#"{{"count":3,"event":"signatures_unaccounted","kid":"{KID}","outcome":"failed","prev":"{}","seq":201,"time":"2027-01-15T08:00:00.000000Z"}}"#,
        crate::passport::hex::encode(&head(&lines).hash)
    );
    late.push(hashed(&line));
    assert!(check(&text(&late), &[counting(&late, issued + 3, issued + 3)]).is_ok());
}

/// A line with its hash put in.
fn hashed(line: &str) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let hash = crate::passport::hex::encode(&Sha256::digest(line));
    line.replacen(",\"kid\"", &format!(",\"hash\":\"{hash}\",\"kid\""), 1).into_bytes()
}

#[test]
fn a_checkpoint_to_begin_at_spares_what_is_before_it() {
    let lines = ledger(COUNT, "alice");
    let begin = checkpoint(&lines[..120]);
    let start = chain::Start::SkipTo(Head { seq: 120, hash: begin.checkpoint.head });
    let anchors = [begin, checkpoint(&lines)];
    let mut altered = lines.clone();
    altered[30][200] ^= 1;
    let verified = check_from(&text(&altered), &anchors, start).unwrap();
    assert_eq!((verified.records, verified.walked.before.seq, verified.heads), (80, 120, 2));
    assert_eq!(damage(check_from(&text(&rewritten(&lines, 100)), &anchors, start)), (121, Fault::Unlinked));
    assert_eq!(damage(check_from(&text(&[&lines[..120], &lines[121..]].concat()), &anchors, start)).0, 121);
    let cut = check_from(&text(&lines[..120]), &anchors, start).unwrap_err();
    assert!(matches!(cut, Bad::Finding(Finding::Cut { first: 121, last: COUNT, .. })), "{cut}");
    // Nothing is behind it: then it must be there itself.
    let newest = &anchors[..1];
    assert!(check_from(&text(&lines[..120]), newest, start).is_ok());
    assert_eq!(damage(check_from(&text(&lines[..110]), newest, start)), (120, Fault::Gone));
    let other = damage(check_from(&text(&rewritten(&lines, 100)[..120]), newest, start));
    assert!(matches!(other, (120, Fault::Altered(_))), "{other:?}");
}

/// A key signs first after the signer's counts were frozen and before the records were: the checkpoint does not list it.
#[test]
fn counts_that_begin_at_a_checkpoint_take_over_a_key_that_it_does_not_list() {
    let lines = ledger(COUNT, "alice");
    let mut first = checkpoint(&lines[..120]).checkpoint;
    first.counts.clear();
    let (first, all) = (anchor(first), issued(&lines));
    let check = |given: Option<&Checkpoint>, last: Anchor| {
        let start = chain::Start::SkipTo(Head { seq: 120, hash: first.checkpoint.head });
        let anchors = [first.clone(), last, counting(&lines[..180], issued(&lines[..180]), issued(&lines[..180]))];
        let mut anchors = anchors.to_vec();
        anchors.sort_by_key(|one| one.checkpoint.size);
        let given = checks::Given { start, anchors: &anchors, frontier: None, counts: given };
        let bytes = text(&lines);
        let mut lines = source::Streams::new(vec![source::Input::new("file", &bytes[..]).unwrap()]);
        checks::verify(&mut lines, &given, &mut |_| {})
    };
    for given in [None, Some(&first.checkpoint)] {
        assert!(check(given, counting(&lines, all, all)).is_ok(), "{given:?}");
        // What it says from then on is held to the records.
        let found = check(given, counting(&lines, all + 1, all + 1)).unwrap_err();
        assert!(matches!(found, Bad::Finding(Finding::Miscounted { .. })), "{found}");
    }
}

#[test]
fn a_tree_that_was_kept_stands_for_what_was_removed() {
    let lines = ledger(COUNT, "alice");
    let anchors = [checkpoint(&lines)];
    let verify = |frontier| {
        let given = checks::Given { start: chain::Start::Anywhere, anchors: &anchors, frontier, counts: None };
        let rest = text(&lines[120..]);
        let mut rest = source::Streams::new(vec![source::Input::new("file", &rest[..]).unwrap()]);
        checks::verify(&mut rest, &given, &mut |_| {})
    };
    assert_eq!(verify(Some(tree(&lines[..120]))).unwrap().roots, 1);
    assert_eq!(verify(None).unwrap().roots, 0);
    let other = verify(Some(tree(&ledger(120, "bob")))).unwrap_err();
    assert!(matches!(other, Bad::Finding(Finding::Root { .. })), "{other}");
}

mod directories;
mod journals;
mod retention;
