//! Records as journald has them.

use super::super::chain::Start;
use super::super::checks::{Bad, Given, Verified, verify};
use super::super::journal::Journal;
use super::super::source::Input;
use super::super::testing::*;
use crate::log::Fault;

fn read(entries: &[String]) -> (Result<Verified, Bad>, (u64, u64)) {
    let text = entries.concat();
    let mut input = Input::new("stdin", text.as_bytes()).unwrap();
    assert!(input.is_journal());
    let mut journal = Journal::new(input);
    let given = Given { start: Start::Anywhere, anchors: &[], frontier: None, counts: None };
    let found = verify(&mut journal, &given, &mut |_| {});
    let repeated = journal.repeated();
    (found, repeated)
}

fn entries() -> Vec<String> {
    ledger(200, "alice\u{1b}\n\"é").iter().enumerate().map(|(at, line)| journal_entry(line, at)).collect()
}

#[test]
fn entries_that_come_twice_and_out_of_order_are_put_in_order() {
    let mut all = entries();
    // Other things that the daemon logs.
    all.insert(3, "{\"__CURSOR\":\"x\",\"MESSAGE\":null,\"PASSPORT_EVENT\":[\"a\",\"b\"]}\n".to_owned());
    let late: Vec<_> = all.drain(40..60).collect();
    all.splice(150..150, late);
    // Sent again, from before what was lost.
    let again = all[60..90].to_vec();
    all.splice(100..100, again);
    let (found, repeated) = read(&all);
    assert_eq!((found.unwrap().records, repeated), (200, (30, 0)));
    // An entry's text as bytes, as journalctl writes what is not printable.
    let line = &ledger(1, "x")[0];
    let bytes = serde_json::json!({"__CURSOR": "1", "PASSPORT_SEQ": "1", "PASSPORT_RECORD": line});
    assert_eq!(read(&[format!("{bytes}\n")]).0.unwrap().records, 1);
}

#[test]
fn a_second_record_of_a_number_is_no_repetition() {
    let all = entries();
    let forged = journal_entry(&rewritten(&ledger(200, "alice"), 90)[89], 7);
    // While the true one waits, and long after it was passed on.
    for at in [92, 150] {
        let mut both = all.clone();
        both.insert(at, forged.clone());
        let (seq, fault) = damage(read(&both).0);
        let Fault::Altered(why) = &fault else { panic!("{fault}") };
        assert!(seq == 90 && why.contains("not twice the same") && why.contains("of uid 990, pid 7"), "{fault}");
    }
}

#[test]
fn entries_that_are_gone_or_hold_something_else_are_named() {
    let all = entries();
    let mut gone = all.clone();
    gone.remove(69);
    assert_eq!(damage(read(&gone).0), (70, Fault::Missing { found: 71 }));
    for (from, to, words) in [
        ("\"PASSPORT_SEQ\":\"70\"", "\"PASSPORT_SEQ\":\"201\"", "is missing"),
        ("\"PASSPORT_SEQ\":\"70\"", "\"PASSPORT_SEQ\":\"many\"", "no number"),
        ("\"PASSPORT_RECORD\":\"{", "\"PASSPORT_RECORD\":null,\"X\":\"{", "--all"),
        ("mallory", "mallory", ""),
    ] {
        let mut altered = all.clone();
        altered[69] = altered[69].replacen(from, to, 1);
        let found = read(&altered).0;
        assert_eq!(found.is_ok(), words.is_empty(), "{from}");
        assert!(found.is_ok() || found.as_ref().unwrap_err().to_string().contains(words), "{found:?}");
    }
    let mut swapped = all;
    // The record of one under the number of another.
    swapped[69] = swapped[70].replace("\"PASSPORT_SEQ\":\"71\"", "\"PASSPORT_SEQ\":\"70\"");
    let (seq, fault) = damage(read(&swapped).0);
    assert!(seq == 70 && fault.to_string().contains("holds record 71 under this number"), "{fault}");
}
