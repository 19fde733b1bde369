//! A transcript that is right, and each way in which it is not.

use ed25519_dalek::{Signer as _, SigningKey};

use super::super::approval::{Approval, Approver};
use super::super::plan::{Opened, Planner};
use super::*;

const AUDIT: &str = "ed25519/t1/audit/v1";
const V2: &str = "ed25519/t1/auth/v2";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> String {
    hex::encode(key(seed).verifying_key().as_bytes())
}

fn rule() -> Rule {
    let person = |name: &str, seed| Approver { name: name.to_owned(), public: Some(public(seed)), uid: None };
    let by_uid = Approver { name: "Cy".to_owned(), public: None, uid: Some(0) };
    Rule::new(2, vec![person("Ann", 1), person("Bob", 2), by_uid]).unwrap()
}

fn plan() -> Opened {
    let steps = vec![Step::Rotate { tenant: "t1".to_owned(), purpose: "auth".to_owned() }];
    let planner = Planner { uid: 0, name: "root".to_owned(), host: "h".to_owned() };
    let made = Plan::new(&[1; 16], "i".to_owned(), planner, Some(rule().hash().unwrap()), steps).made(100, 1_000);
    made.close().unwrap()
}

fn facts(plan: &Opened) -> KeyFacts {
    let yes = Some(true);
    KeyFacts {
        kid: V2.to_owned(),
        cka_id: "0a".to_owned(),
        public: Some(public(9)),
        mechanism: "CKM_EDDSA".to_owned(),
        attributes: Attributes {
            private: yes,
            sensitive: yes,
            extractable: Some(false),
            sign: yes,
            local: yes,
            always_sensitive: yes,
            never_extractable: None,
            mechanisms_bound: true,
        },
        challenge: Some(hex::encode(&key(9).sign(&challenge(&plan.hash, V2)).to_bytes())),
    }
}

fn transcript() -> Transcript {
    let plan = plan();
    let approval = |name: &str, seed| Counted {
        name: name.to_owned(),
        approval: Some(Approval::sign(&plan, &key(seed), 110)),
        by_uid_alone: None,
    };
    let mut made = Transcript::of(plan.plan.clone(), &plan.hash);
    made.rule = Some(rule());
    made.approvals = vec![approval("Ann", 1), approval("Bob", 2)];
    made.operator_uid = 4;
    (made.begun, made.finished) = (120, 130);
    made.steps = vec![StepDone { done: 125, keys: vec![facts(&plan)], notes: vec![] }];
    made.signer = SignerKey { kid: AUDIT.to_owned(), public: public(7) };
    made
}

fn sign(transcript: &Transcript, seed: u8) -> (String, Signed) {
    let text = transcript.text().unwrap();
    let message = [TRANSCRIPT_PREFIX, text.as_bytes()].concat();
    let signed = Signed::new(AUDIT, &key(seed).sign(&message).to_bytes());
    (text, signed)
}

/// What is wrong with a transcript that is signed as it is.
fn wrong(change: impl FnOnce(&mut Transcript)) -> Vec<String> {
    let mut made = transcript();
    change(&mut made);
    let (text, signed) = sign(&made, 7);
    let (_, findings) = examine(&text, &signed, None);
    findings.into_iter().filter(|one| !one.ok).map(|one| format!("{}: {}", one.what, one.detail)).collect()
}

#[test]
fn one_that_is_right_is_believed() {
    let (text, signed) = sign(&transcript(), 7);
    let (read, findings) = examine(&text, &signed, None);
    assert_eq!(read.unwrap(), transcript());
    assert!(findings.iter().all(|one| one.ok), "{findings:?}");
    assert!(findings[0].detail.contains("names itself"), "{findings:?}");
    let ours = VerifierKey { name: AUDIT.to_owned(), public: key(7).verifying_key().to_bytes() };
    let (_, findings) = examine(&text, &signed, Some(&[ours]));
    assert!(findings.iter().all(|one| one.ok) && findings[0].detail.contains("you gave"), "{findings:?}");
}

#[test]
fn one_that_was_altered_or_is_somebody_elses_is_not() {
    let (text, signed) = sign(&transcript(), 7);
    let first = |text: &str, signed: &Signed, keys: Option<&[VerifierKey]>| examine(text, signed, keys).1[0].clone();
    let other = VerifierKey { name: AUDIT.to_owned(), public: key(8).verifying_key().to_bytes() };
    assert!(!first(&text, &signed, Some(&[other])).ok, "another key of that name");
    assert!(first(&text, &signed, Some(&[])).detail.contains("not among those given"));
    assert!(!first(&text, &sign(&transcript(), 8).1, None).ok);
    assert!(!first(&text.replace("\"operator_uid\":4", "\"operator_uid\":5"), &signed, None).ok);
    for bad in [text.replace("\"v\":1}", "\"v\":2}"), text.replace("\"v\":1}", "\"v\":1,\"x\":1}"), format!("{text} ")]
    {
        let finding = first(&bad, &signed, None);
        assert!(!finding.ok && finding.what == "form", "{finding:?}");
    }
    assert!(!first("{}", &signed, None).ok);
    let long = " ".repeat(MAX_TRANSCRIPT + 1);
    assert!(first(&long, &signed, None).detail.contains("longer than 524288"));
}

#[test]
fn what_an_audit_key_signed_still_has_to_hold_together() {
    assert_eq!(wrong(|_| ()), [""; 0]);
    let said = |change: fn(&mut Transcript), text: &str| {
        let found = wrong(change);
        assert!(found.len() == 1 && found[0].contains(text), "{text}: {found:?}");
    };
    said(|t| t.plan_hash = "00".repeat(32), "plan: its hash is another");
    said(|t| drop(t.approvals.pop()), "approvals: 1 of 2");
    said(|t| t.approvals[1] = t.approvals[0].clone(), "approved twice");
    said(|t| t.approvals[0].name = "Zoe".to_owned(), "not those that count");
    said(|t| t.rule = None, "not the one that the plan names");
    said(|t| t.rule.as_mut().unwrap().threshold = 1, "not the one that the plan names");
    said(|t| t.finished = 1, "time: not while the plan held");
    said(|t| t.steps.clear(), "steps: 0 of 1 done");
    said(|t| t.steps[0].keys[0].attributes.extractable = Some(true), "CKA_EXTRACTABLE is not off");
    said(|t| t.steps[0].keys[0].attributes.local = Some(false), "CKA_LOCAL is off");
    said(|t| t.steps[0].keys[0].challenge = None, "its challenge is not signed");
    said(|t| t.steps[0].keys[0].kid = "ed25519/t1/auth/v3".to_owned(), "its challenge is not signed");
    said(|t| t.steps[0].keys[0].public = None, "seal key");
    said(|t| t.steps[0].keys[0].kid = "ed25519/t2/auth/v2".to_owned(), "makes no such key");
}

/// Nothing to be mistaken for two people's word.
#[test]
fn an_approval_by_uid_is_called_that() {
    let mut made = transcript();
    made.operator_uid = 0;
    made.approvals[1] = Counted { name: "Cy".to_owned(), approval: None, by_uid_alone: Some(0) };
    let (text, signed) = sign(&made, 7);
    let (_, findings) = examine(&text, &signed, None);
    let approvals = findings.iter().find(|one| one.what == "approvals").unwrap();
    assert!(approvals.ok && approvals.detail.contains("Cy (by uid 0 ALONE)"), "{approvals:?}");
}
