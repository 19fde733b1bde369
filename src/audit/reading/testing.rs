//! Ledgers and checkpoints for the tests of this room, in memory.

use ed25519_dalek::{Signer as _, SigningKey};

use super::anchors::Anchor;
use super::chain::Start;
use super::checks::{Bad, Given, Verified, verify};
use super::source::{Input, Streams};
use crate::audit::record::{self, Beside};
use crate::audit::{Entry, Event, Outcome, Peer};
use crate::clock::Moment;
use crate::log::{Fault, Head};
use crate::passport::hex;
use crate::statement::{Checkpoint, Counted, Frontier, Note, VerifierKey, merkle, origin};

pub(super) const KID: &str = "ed25519/t1/auth/v1";

/// One entry in three is a refusal.
pub(super) fn entry(at: u64, sub: &str) -> Entry {
    let (event, outcome) = match at % 3 {
        0 => (Event::IssueRefused, Outcome::Refused),
        _ => (Event::PassportIssued, Outcome::Ok),
    };
    let peer = Peer { uid: 1000, gid: 1000, pid: 4242, listener: "passportd".to_owned() };
    let at = Moment::from_unix(1_800_000_000 + i64::try_from(at).unwrap());
    Entry::new(event, outcome, at).peer(peer).subject(sub).kid(KID).jti("01890a5d-ac96-774b-bcce-b302099a8057")
}

/// Lines without newlines, of records for these entries behind `head`.
pub(super) fn chained(mut head: Head, entries: impl Iterator<Item = Entry>) -> Vec<Vec<u8>> {
    entries
        .map(|entry| {
            let mut line = Vec::new();
            let hash = record::write(&entry, Beside::default(), &head, &mut line).unwrap();
            head = Head { seq: head.seq + 1, hash };
            line
        })
        .collect()
}

pub(super) fn ledger(count: u64, who: &str) -> Vec<Vec<u8>> {
    chained(Head::GENESIS, (1..=count).map(|at| entry(at, &format!("{who} {at}"))))
}

pub(super) fn head(lines: &[Vec<u8>]) -> Head {
    let Some(last) = lines.last() else { return Head::GENESIS };
    record::read(last).unwrap().head
}

/// The records from `at` on written anew by somebody who can compute hashes.
pub(super) fn rewritten(lines: &[Vec<u8>], at: usize) -> Vec<Vec<u8>> {
    let mut new = lines[..at - 1].to_vec();
    let rest = (at..=lines.len())
        .map(|seq| entry(seq as u64, &if seq == at { "mallory".to_owned() } else { format!("alice {seq}") }));
    new.extend(chained(head(&new), rest));
    new
}

pub(super) fn tree(lines: &[Vec<u8>]) -> Frontier {
    let mut tree = Frontier::empty();
    lines.iter().for_each(|line| tree.push(merkle::leaf(line)));
    tree
}

pub(super) fn key() -> (SigningKey, VerifierKey) {
    let signing = SigningKey::from_bytes(&[5; 32]);
    let public = signing.verifying_key().to_bytes();
    (signing, VerifierKey { name: "ed25519/t1/audit/v1".to_owned(), public })
}

pub(super) fn issued(lines: &[Vec<u8>]) -> u64 {
    lines.iter().filter(|line| String::from_utf8_lossy(line).contains("\"passport_issued\"")).count() as u64
}

/// The checkpoint over these records, with this count of the signer and of the front.
pub(super) fn counting(lines: &[Vec<u8>], signed: u64, recorded: u64) -> Anchor {
    let head = head(lines);
    let counts = vec![Counted { kid: KID.to_owned(), signed, recorded }];
    let time = 1_800_000_000 + i64::try_from(head.seq).unwrap();
    let origin = origin("https://issuer.example");
    anchor(Checkpoint { origin, size: head.seq, root: tree(lines).root(), head: head.hash, time, counts })
}

pub(super) fn anchor(checkpoint: Checkpoint) -> Anchor {
    let (signing, key) = key();
    let text = checkpoint.text();
    let signature = signing.sign(text.as_bytes()).to_bytes();
    let note = Note::signed(text, &key, &signature).to_string();
    Anchor { checkpoint, note, by: Some(key.name), source: "elsewhere".to_owned() }
}

/// A true one.
pub(super) fn checkpoint(lines: &[Vec<u8>]) -> Anchor {
    counting(lines, issued(lines), issued(lines))
}

pub(super) fn text(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_slice(), b"\n"].concat()).collect()
}

/// A verification of this file, from its beginning.
pub(super) fn check(bytes: &[u8], anchors: &[Anchor]) -> Result<Verified, Bad> {
    check_from(bytes, anchors, Start::Behind(Head::GENESIS))
}

pub(super) fn check_from(bytes: &[u8], anchors: &[Anchor], start: Start) -> Result<Verified, Bad> {
    let mut lines = Streams::new(vec![Input::new("file", bytes).unwrap()]);
    verify(&mut lines, &Given { start, anchors, frontier: None, counts: None }, &mut |_| {})
}

/// The record that is damaged, and how.
pub(super) fn damage(found: Result<Verified, Bad>) -> (u64, Fault) {
    match found {
        Err(Bad::Damage(damage)) => (damage.seq, damage.fault),
        other => panic!("{other:?}"),
    }
}

/// An entry of journald's for this record, as `journalctl -o json --all` writes it.
pub(super) fn journal_entry(line: &[u8], at: usize) -> String {
    let link = record::read(line).unwrap();
    let record = String::from_utf8(line.to_vec()).unwrap();
    let entry = serde_json::json!({
        "__CURSOR": format!("s=1;i={at}"), "_UID": "990", "_PID": "7", "MESSAGE": "m\u{1}", "PASSPORT_RECORD": record,
        "PASSPORT_SEQ": link.head.seq.to_string(), "PASSPORT_HASH": hex::encode(&link.head.hash),
    });
    format!("{entry}\n")
}
