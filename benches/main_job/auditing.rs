//! How long a verification of a million records takes: by the tool itself, with a checkpoint to compare with, so that every
//! record's leaf is hashed as well.

use std::process::Command;
use std::time::Instant;

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome, Peer};
use passportd::clock::Moment;
use passportd::log::{MAX_GROUP, Pace, SegmentConfig};
use passportd::statement::{Checkpoint, Counted, Frontier, Note, VerifierKey, merkle, origin};
use serde_json::Value;

use super::bars::Bar;

const RECORDS: usize = 1_000_000;
const KID: &str = "ed25519/default/passport/v1";
/// Each reads the whole.
const ROUNDS: usize = 3;

/// As an issue records it.
fn entry(at: usize) -> Entry {
    let peer = Peer { uid: 1000, gid: 1000, pid: 4242, listener: "passportd".to_owned() };
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(1_800_000_000)).peer(peer);
    let entry = entry.corr_id([7; 16]).subject("alice").jti(&format!("01890a5d-ac96-774b-bcce-{at:012}")).aud("demo");
    entry.kid(KID).template("demo").action("issue").exp(1_800_003_600)
}

/// The time of the slowest of three, since a bar is for every time.
pub(super) fn million() -> Bar {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    std::fs::create_dir(&ledger).unwrap();
    let (segment, pace) = (SegmentConfig::default(), Pace::default());
    let config = AuditConfig { segment, pace, journald: None, now: Moment::now, metrics: None };
    let (audit, _) = Audit::open(&ledger, &config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let all: Vec<usize> = (0..RECORDS).collect();
    for group in all.chunks(MAX_GROUP / 2) {
        runtime.block_on(audit.record_many(group.iter().map(|at| entry(*at)).collect())).unwrap();
    }
    let (seq, head) = audit.head();
    audit.close();
    assert_eq!(seq, RECORDS as u64);
    let mut names: Vec<_> = std::fs::read_dir(&ledger).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    names.sort();
    let (mut tree, mut bytes) = (Frontier::empty(), 0);
    for name in names {
        let text = std::fs::read(name).unwrap();
        bytes += text.len();
        text.split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .for_each(|line| tree.push(merkle::leaf(line)));
    }
    let counts = vec![Counted { kid: KID.to_owned(), signed: seq, recorded: seq }];
    let root = tree.root();
    let origin = origin("bench");
    let text = Checkpoint { origin, size: seq, root, head, time: 1_800_000_000, counts }.text();
    let signing = SigningKey::from_bytes(&[5; 32]);
    let key = VerifierKey { name: "ed25519/t1/audit/v1".to_owned(), public: signing.verifying_key().to_bytes() };
    let note = dir.path().join("latest");
    let signature = signing.sign(text.as_bytes()).to_bytes();
    std::fs::write(&note, Note::signed(text, &key, &signature).to_string()).unwrap();
    let mut slowest = 0_f64;
    for round in 1..=ROUNDS {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_passportctl"));
        tool.args(["audit", "verify", "--output", "json", "--key", &key.vkey(), "--dir"]).arg(&ledger);
        let begun = Instant::now();
        let output = tool.arg("--checkpoints").arg(&note).output().unwrap();
        let took = begun.elapsed().as_secs_f64();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success() && verdict["checkpoints"]["roots"] == 1, "{verdict}");
        println!("round {round}: {RECORDS} records, {bytes} bytes verified in {took:.2} s");
        slowest = slowest.max(took);
    }
    Bar::new("audit_verify_million_s", slowest, "s", "<= 10", slowest <= 10.0)
}
