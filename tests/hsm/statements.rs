//! What audit keys sign: checkpoints with the signer's own counts, and attestations; and what they do not.

use std::os::unix::fs::FileExt as _;

use passportd::statement::document::message;
use passportd::statement::{ATTESTATION_PREFIX, Checkpoint, VerifierKey, origin};
use passportd::wire::link::LinkCount;

use super::*;

const AUDIT: &str = "ed25519/t1/audit/v1";

fn counts(link: &mut Link) -> (u64, Vec<LinkCount>) {
    match link.ask(LinkOp::Counts) {
        LinkResult::Counts { snapshot, signed } => (snapshot, signed),
        other => panic!("{other:?}"),
    }
}

/// A ledger of so many records, whose root and head are this byte.
fn ask<'a>(kid: &'a str, snapshot: u64, size: u64, byte: u8, recorded: u64) -> LinkOp<'a> {
    let recorded = vec![LinkCount { kid: V1.to_owned(), count: recorded }];
    LinkOp::Checkpoint { kid, snapshot, size, root: [byte; 32], head: [byte; 32], recorded }
}

fn checkpoint(link: &mut Link, op: LinkOp<'_>, key: &VerifierKey) -> Checkpoint {
    match link.ask(op) {
        LinkResult::Checkpointed { text, sig } => {
            assert!(key.verifies(text.as_bytes(), &sig));
            Checkpoint::parse(&text).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn audit_key(link: &mut Link) -> VerifierKey {
    let keys = link.keys();
    let key = keys.iter().find(|key| key.kid == AUDIT && key.usable).unwrap();
    VerifierKey { name: AUDIT.to_owned(), public: key.public }
}

#[test]
fn a_checkpoint_says_what_the_signer_knows_by_itself() {
    let Some(hsm) = initialised() else { return };
    let mut process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let key = audit_key(&mut link);
    let (empty, none) = counts(&mut link);
    assert_eq!(none, []);
    let first = checkpoint(&mut link, ask(AUDIT, empty, 5, 1, 0), &key);
    assert_eq!((first.origin.as_str(), first.size, first.counts.len()), (origin(ISSUER).as_str(), 5, 0));
    assert!((first.time - Moment::now().unix()).abs() < 60);

    for _ in 0..3 {
        signature(link.sign(&payload(V1, |_| {})));
    }
    // Refused, so not signed; and probes issue nothing.
    drop(link.sign(&payload(V1, |claims| claims.exp += 1 << 30)));
    drop(link.ask(LinkOp::Probe { kid: V1 }));
    // A kill takes nothing of it away.
    drop(process.child.kill());
    drop(process.child.wait());
    process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let (snapshot, signed) = counts(&mut link);
    assert_eq!(signed, [LinkCount { kid: V1.to_owned(), count: 3 }]);
    signature(link.sign(&payload(V1, |_| {})));
    let second = checkpoint(&mut link, ask(AUDIT, snapshot, 6, 2, 1), &key);
    let counted = second.counted(V1).unwrap();
    assert_eq!((counted.signed, counted.recorded), (3, 1), "as of the answer, whatever the front makes of it");
    assert_eq!(counts(&mut link).1, [LinkCount { kid: V1.to_owned(), count: 4 }], "it has signed since");
}

#[test]
fn a_ledger_that_does_not_grow_or_has_another_past_gets_no_checkpoint() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let key = audit_key(&mut link);
    let (snapshot, _) = counts(&mut link);
    checkpoint(&mut link, ask(AUDIT, snapshot, 5, 1, 0), &key);
    checkpoint(&mut link, ask(AUDIT, snapshot, 5, 1, 0), &key);
    let refused = |link: &mut Link, op| match link.ask(op) {
        LinkResult::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    };
    drop(process);
    // The mark outlives the process.
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    assert_eq!(refused(&mut link, ask(AUDIT, 0, 9, 9, 0)), LinkRefusal::Busy, "nobody asked for counts");
    let (snapshot, _) = counts(&mut link);
    assert_eq!(refused(&mut link, ask(AUDIT, snapshot + 1, 9, 9, 0)), LinkRefusal::Busy, "of these neither");
    for op in [ask(AUDIT, snapshot, 5, 2, 0), ask(AUDIT, snapshot, 4, 1, 0)] {
        assert_eq!(refused(&mut link, op), LinkRefusal::Stale);
    }
    assert_eq!(refused(&mut link, ask(V1, snapshot, 9, 9, 0)), LinkRefusal::PurposeDenied);
    assert_eq!(refused(&mut link, ask("ed25519/t1/audit/v2", snapshot, 9, 9, 0)), LinkRefusal::UnknownKid);
    assert_eq!(refused(&mut link, ask("ed25519/t2/audit/v1", snapshot, 9, 9, 0)), LinkRefusal::TenantDenied);
    assert_eq!(refused(&mut link, ask("x", snapshot, 9, 9, 0)), LinkRefusal::Malformed);
    checkpoint(&mut link, ask(AUDIT, snapshot, 6, 3, 0), &key);
}

#[test]
fn an_attestation_is_of_this_issuer_and_of_now_and_no_other_kind_of_statement() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let key = audit_key(&mut link);
    let document = |issuer: &str, at: i64| format!(r#"{{"at":{at},"issuer":"{issuer}"}}"#);
    let now = Moment::now().unix();
    let ours = document(ISSUER, now);
    match link.ask(LinkOp::Attest { kid: AUDIT, document: ours.as_bytes() }) {
        LinkResult::Attested { sig } => {
            assert!(key.verifies(&message(ATTESTATION_PREFIX, ours.as_bytes()), &sig));
            assert!(!key.verifies(ours.as_bytes(), &sig));
        }
        other => panic!("{other:?}"),
    }
    for (kid, document, refusal) in [
        (AUDIT, document("other", now), LinkRefusal::ForeignIssuer),
        (AUDIT, document(ISSUER, now - 3600), LinkRefusal::ClockDenied),
        (AUDIT, document(ISSUER, now + 3600), LinkRefusal::ClockDenied),
        (AUDIT, "passportd/checkpoint/v1/x\n1\n".to_owned(), LinkRefusal::Malformed),
        (AUDIT, "{}".to_owned(), LinkRefusal::Malformed),
        (V1, ours, LinkRefusal::PurposeDenied),
    ] {
        let answer = link.ask(LinkOp::Attest { kid, document: document.as_bytes() });
        assert_eq!(answer, LinkResult::Refused(refusal), "{kid} {document}");
    }
}

#[test]
fn counts_that_can_not_be_read_stop_the_signer() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    signature(link.sign(&payload(V1, |_| {})));
    drop(process);
    let path = walk(hsm.dir()).into_iter().find(|path| path.ends_with("signer/signatures")).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"no kid", 0).unwrap();
    let mut process = start(&hsm, "signer", &[]);
    let said = process.heard().unwrap();
    assert!(said.contains("no file of counts"), "{said}");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
