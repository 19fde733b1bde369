//! The cases of `ceremony …`: plans, approvals, runs, transcripts.

use std::os::unix::fs::PermissionsExt as _;

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::clock::Moment;
use passportd::passport::hex;
use passportd::statement::approval::{Approver, Rule};
use passportd::statement::plan::{Opened, Plan, Planner, Step};
use passportd::statement::transcript::{SignerKey, StepDone, Transcript};
use passportd::statement::{Signed, TRANSCRIPT_PREFIX, VerifierKey};
use serde_json::{Value, json};

use crate::ceremonies::{pin, with_ceremony};
use crate::fake::{Fake, ceremonies};
use crate::offline::write;
use crate::page::{Page, between};

const AUDIT: &str = "ed25519/t1/audit/v1";

pub(crate) fn all() -> Vec<Page> {
    let key = || vec!["--kid", "ed25519/t1/auth/v1"];
    let until = vec!["--kid", "ed25519/t1/auth/v1", "--verifies-until", "2026-01-31T00:00:00Z", "--purge-backups"];
    let public = public(1);
    let ann = format!("ann={public}");
    let approvers = vec!["--threshold", "2", "--approver", &ann, "--approver", "bob=uid:7"];
    vec![
        plans("ceremony plan init", vec!["--tenant", "t1", "--purpose", "auth"]),
        plans("ceremony plan rotate", vec!["--older-than", "90d"]),
        plans("ceremony plan retire-seal", vec!["--kid", "hmac-sha256/t1/seal/v1"]),
        plans("ceremony plan destroy", until),
        plans("ceremony plan compromise", key()),
        plans("ceremony plan approvers", approvers),
        plans("ceremony plan restore", vec!["--from", "@keys.json"]),
        plans("ceremony plan new-ledger", vec![]),
        keygen(),
        approve(),
        run(),
        verify(),
    ]
}

fn public(seed: u8) -> String {
    hex::encode(SigningKey::from_bytes(&[seed; 32]).verifying_key().as_bytes())
}

/// Ids, hashes and keys that are new each time, and the times of now.
fn scrub(text: &str) -> String {
    let hexes = |word: &str| matches!(word.len(), 32 | 64 | 128) && word.bytes().all(|c| c.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()).map(|word| {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if hexes(bare) { word.replacen(bare, "HEX", 1) } else { word.to_owned() }
    });
    let text: String = words.collect();
    let text = between(&between(&text, "good until ", "Z", "TIME"), "carried out at ", "Z", "TIME");
    let text = between(&text, "TIMEZ (", ")", "SECONDS");
    between(&text, "\"expires\":", ",", "TIME")
}

fn rule() -> Rule {
    let person = |name: &str, seed| Approver { name: name.to_owned(), public: Some(public(seed)), uid: None };
    Rule::new(2, vec![person("ann", 1), person("bob", 2)]).unwrap()
}

/// What the signer's own files say, with and without a rule.
fn standing(rule: Option<&Rule>) -> Value {
    let key = |kid: &str| json!({"kid": kid, "created": 1_600_000_000, "public": null, "out_of_service": null});
    let keys = ["ed25519/t1/auth/v1", "ed25519/t2/mail/v3", AUDIT, "hmac-sha256/t1/seal/v1"].map(key);
    json!({"done": {"standing": {"issuer": "fake.example", "rule": rule, "keys": keys, "under_way": [], "ledger": 12}}})
}

fn plans(leaf: &'static str, arguments: Vec<&str>) -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new(leaf).scrubbed(|text| scrub(&text));
    let listed = json!({"layout": 1, "keys": [{"kid": "ed25519/t1/auth/v1", "public": public(9)},
                                              {"kid": "hmac-sha256/t1/seal/v1"}]});
    let listed = write(&fake, "keys.json", &listed.to_string());
    let arguments: Vec<&str> =
        arguments.into_iter().map(|word| if word == "@keys.json" { &*listed } else { word }).collect();
    for (name, rule) in [("free", None), ("ruled", Some(&rule()))] {
        let mut form = 0;
        with_ceremony(&fake, &standing(rule), |format| {
            form += 1;
            let out = fake.path(&format!("{name}{form}.plan")).display().to_string();
            page.case(&fake, &[&arguments[..], &["--out", &out], format].concat(), "");
        });
    }
    let there = fake.path("free1.plan").display().to_string();
    with_ceremony(&fake, &standing(None), |format| {
        page.case(&fake, &[&arguments[..], &["--out", &there], format].concat(), "");
    });
    let out = fake.path("none.plan").display().to_string();
    page.both(&fake, &[&arguments[..], &["--out", &out]].concat(), "");
    page.both(&fake, &[&arguments[..], &["--out", &out, "--valid", "31d"]].concat(), "");
    page.misused(&fake)
}

fn keygen() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("ceremony keygen").scrubbed(|text| scrub(&text));
    for format in ["table", "json"] {
        let out = fake.path(&format!("{format}.key")).display().to_string();
        page.case(&fake, &["--out", &out, "--output", format], "");
        page.case(&fake, &["--out", &out, "--output", format], "");
    }
    page.misused(&fake)
}

fn plan(steps: Vec<Step>, rule: Option<&Rule>) -> Opened {
    let planner = Planner { uid: 7, name: "ann".to_owned(), host: "host7".to_owned() };
    let hash = rule.map(|rule| rule.hash().unwrap());
    Plan::new(&[7; 16], "fake.example".to_owned(), planner, hash, steps)
        .made(Moment::now().unix(), 3_600)
        .close()
        .unwrap()
}

fn rotate() -> Step {
    Step::Rotate { tenant: "t1".to_owned(), purpose: "auth".to_owned() }
}

fn approve() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("ceremony approve").scrubbed(|text| scrub(&text));
    let plan = plan(vec![rotate(), Step::Compromise { kid: "ed25519/t1/auth/v1".to_owned() }], Some(&rule()));
    let path = write(&fake, "next.plan", &plan.text);
    let changed = write(&fake, "changed.plan", &plan.text.replace("\"auth\"", "\"auth\" "));
    let old = plan.plan.clone().made(1_000, 10).close().unwrap();
    let old = write(&fake, "old.plan", &old.text);
    let key = fake.path("ann.key").display().to_string();
    fake.run(&["ceremony", "keygen", "--out", &key]);
    let open = write(&fake, "open.key", "a key");
    for format in ["table", "json"] {
        let out = fake.path(&format!("{format}.ok")).display().to_string();
        page.case(&fake, &[&path, "--key", &key, "--out", &out, "--output", format], "");
    }
    let out = fake.path("none.ok").display().to_string();
    for (plan, key) in [(&changed, &key), (&old, &key), (&path, &open)] {
        page.both(&fake, &[plan, "--key", key, "--out", &out], "");
    }
    page.misused(&fake)
}

/// A transcript of a plan that makes no key, as a ceremony would sign it.
fn transcript(plan: &Opened) -> (String, Signed) {
    let mut made = Transcript::of(plan.plan.clone(), &plan.hash);
    (made.begun, made.finished) = (plan.plan.created, plan.plan.created);
    made.operator_uid = 7;
    made.steps = vec![StepDone { done: plan.plan.created, keys: vec![], notes: vec!["a note".to_owned()] }];
    made.signer = SignerKey { kid: AUDIT.to_owned(), public: public(5) };
    let text = made.text().unwrap();
    let signature = SigningKey::from_bytes(&[5; 32]).sign(&[TRANSCRIPT_PREFIX, text.as_bytes()].concat());
    (text, Signed::new(AUDIT, &signature.to_bytes()))
}

fn run() -> Page {
    let fake = Fake::frozen();
    let pin = pin(&fake);
    let mut page = Page::new("ceremony run").scrubbed(|text| scrub(&text));
    let first = plan(vec![Step::Approvers { rule: rule() }], None);
    let path = write(&fake, "rule.plan", &first.text);
    let (document, signed) = transcript(&first);
    let sealed = json!({"done": {"transcript": {"document": document, "signed": signed}}});
    let done = json!({"done": {"backup": "/var/backups/store.1", "warnings": ["the store is on tmpfs"],
                               "steps": [{"done": 1, "keys": [], "notes": ["a note"]}]}});
    let spent = json!({"failed": {"code": "spent", "message": "this plan was carried out before and is spent"}});
    for answers in [[&done, &sealed], [&spent, &sealed]] {
        for format in ["table", "json"] {
            let out = fake.path("rule.json").display().to_string();
            let held = ceremonies(&fake.path("c.sock"), answers.map(Value::to_string).to_vec());
            page.case(&fake, &[&path, "--pin-file", &pin, "--transcript", &out, "--output", format], "");
            held.join().unwrap();
            std::fs::remove_file(fake.path("c.sock")).unwrap();
        }
    }
    let few = "0 of 2 approvals are there; the rule is 2 of ann, bob; nothing was done";
    let failed = json!({"failed": {"code": "approval", "message": few}});
    with_ceremony(&fake, &failed, |format| {
        page.case(&fake, &[&[path.as_str(), "--pin-file", &pin], format].concat(), "");
    });
    let end = Step::Destroy { kid: "ed25519/t1/auth/v1".to_owned(), verifies_until: 1, purge_backups: false };
    let end = write(&fake, "end.plan", &plan(vec![end], None).text);
    page.both(&fake, &[&end, "--pin-file", &pin], "");
    page.both(&fake, &[&end, "--pin-file", &pin, "--yes"], "");
    page.misused(&fake)
}

fn verify() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("ceremony verify").scrubbed(|text| scrub(&text));
    let (document, signed) = transcript(&plan(vec![Step::Approvers { rule: rule() }], None));
    let good = write(&fake, "good.json", &document);
    write(&fake, "good.json.sig", &serde_json::to_string(&signed).unwrap());
    let bad = write(&fake, "bad.json", &document.replace("a note", "no note"));
    write(&fake, "bad.json.sig", &serde_json::to_string(&signed).unwrap());
    let alone = write(&fake, "alone.json", &document);
    let vkey = |seed| {
        let public = SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes();
        VerifierKey { name: AUDIT.to_owned(), public }.vkey()
    };
    let [ours, others] = [(5, "ours.keys"), (6, "others.keys")].map(|(seed, name)| write(&fake, name, &vkey(seed)));
    page.both(&fake, &[&good], "");
    page.both(&fake, &[&good, "--keys", &ours], "");
    page.both(&fake, &[&good, "--keys", &others], "");
    page.both(&fake, &[&bad], "");
    page.both(&fake, &[&alone], "");
    let html = fake.path("good.html").display().to_string();
    page.case(&fake, &[&good, "--html", &html], "");
    assert!(std::fs::metadata(&html).unwrap().permissions().mode() & 0o444 == 0o444);
    page.misused(&fake)
}
