//! The cases of audit records: of ledgers that are always the same.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome, Peer};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};
use passportd::passport::hex;
use passportd::statement::{Checkpoint, Counted, Frontier, Note, VerifierKey, merkle, origin};

use crate::fake::Fake;
use crate::offline::write;
use crate::page::Page;

pub(crate) fn all() -> Vec<Page> {
    vec![verify(), show(), export(), report(), prove(), verify_proof(), checkpoint(), test_append(), keys()]
}

const KID: &str = "ed25519/t1/auth/v1";

fn entry(at: i64) -> Entry {
    let peer = Peer { uid: 1000, gid: 1000, pid: 4242, listener: "passportd".to_owned() };
    let moment = Moment::from_unix(1_800_000_000 + at);
    if at % 4 == 3 {
        let sub = "mallory\u{1b}[2J uid=0\n<b>";
        let entry = Entry::new(Event::IssueRefused, Outcome::Refused, moment).peer(peer).subject(sub);
        return entry.reason("scope_denied").action("issue");
    }
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, moment).peer(peer).subject("alice").kid(KID);
    entry.jti(&format!("01985b2c-{at}")).template("demo").aud("demo").exp(1_800_000_060 + at)
}

/// What an auditor has: a ledger's directory, an export of it, keys, checkpoints; and a ledger that was altered.
struct Files {
    ledger: String,
    export: String,
    altered: String,
    keys: String,
    checkpoints: String,
    first: String,
}

fn files(fake: &Fake) -> Files {
    let dir = fake.path("ledger");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    let config = AuditConfig {
        segment: SegmentConfig { max_bytes: 2000 },
        pace: Pace::default(),
        journald: None,
        now: || Moment::from_unix(1_800_000_000),
        metrics: None,
    };
    let (audit, _) = Audit::open(&dir, &config).unwrap();
    for at in 0..12 {
        audit.record_blocking(entry(at)).unwrap();
    }
    audit.close();
    let text = text(&dir);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let signing = SigningKey::from_bytes(&[5; 32]);
    let key = VerifierKey { name: "ed25519/t1/audit/v1".to_owned(), public: signing.verifying_key().to_bytes() };
    let (first, second) = (note(&lines[..4], &signing, &key), note(&lines[..10], &signing, &key));
    Files {
        ledger: dir.to_str().unwrap().to_owned(),
        export: write(fake, "export.jsonl", &text),
        altered: write(fake, "altered.jsonl", &text.replacen("01985b2c-5", "01985b2c-6", 1)),
        keys: write(fake, "audit.vkeys", &format!("{}\n", key.vkey())),
        checkpoints: write(fake, "2027-01-15.notes", &format!("{first}{second}")),
        first: write(fake, "first.notes", &first),
    }
}

fn text(dir: &Path) -> String {
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    names.sort();
    names.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

fn note(lines: &[String], signing: &SigningKey, key: &VerifierKey) -> String {
    let mut tree = Frontier::empty();
    lines.iter().for_each(|line| tree.push(merkle::leaf(line.as_bytes())));
    let last = lines.last().unwrap();
    let head = last.split("\"hash\":\"").nth(1).unwrap().get(..64).unwrap();
    let issued = lines.iter().filter(|line| line.contains("passport_issued")).count() as u64;
    let checkpoint = Checkpoint {
        origin: origin("https://issuer.example"),
        size: tree.size(),
        root: tree.root(),
        head: hex::decode_exactly(head).unwrap(),
        time: 1_800_000_100,
        counts: vec![Counted { kid: KID.to_owned(), signed: issued, recorded: issued }],
    };
    let text = checkpoint.text();
    let signature = signing.sign(text.as_bytes()).to_bytes();
    Note::signed(text, key, &signature).to_string()
}

fn verify() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit verify");
    let all = ["--keys", &files.keys, "--checkpoints", &files.checkpoints];
    page.both(&fake, &["--dir", &files.ledger], "");
    page.both(&fake, &[&["--dir", &files.ledger][..], &all].concat(), "");
    page.both(&fake, &[&[files.export.as_str(), "--strict"][..], &all].concat(), "");
    page.both(&fake, &[&[files.export.as_str(), "--begin-at", &files.first][..], &all].concat(), "");
    page.both(&fake, &[&files.altered], "");
    let export = std::fs::read_to_string(&files.export).unwrap();
    let cut: String = export.split_inclusive('\n').take(8).collect();
    page.both(&fake, &[&["-"][..], &all].concat(), &cut);
    let other = write(&fake, "other.vkeys", "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n");
    page.both(&fake, &[&files.export, "--keys", &other, "--checkpoints", &files.checkpoints], "");
    page.both(&fake, &[fake.path("none.jsonl").to_str().unwrap()], "");
    page.case(&fake, &[&files.export, "--key", "x"], "");
    page.misused(&fake)
}

fn show() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit show");
    page.both(&fake, &["--dir", &files.ledger, "--limit", "3"], "");
    page.both(&fake, &[&files.export, "--outcome", "refused", "--uid", "1000", "--seq", "..8"], "");
    page.both(&fake, &[&files.export, "--since", "2027-01-15T08:00:11Z", "--event", "issue_refused"], "");
    page.case(&fake, &["-", "--sub", "alice"], "no record\n");
    page.case(&fake, &[&files.export, "--since", "yesterday"], "");
    page.misused(&fake)
}

fn export() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit export");
    page.both(&fake, &["--dir", &files.ledger, "--after", "10"], "");
    page.both(&fake, &["--dir", &files.ledger, "--after", "3", "--limit", "1"], "");
    page.case(&fake, &["--dir", &files.ledger, "--after", "12"], "");
    page.misused(&fake)
}

fn report() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit report");
    let all = ["--keys", &files.keys, "--checkpoints", &files.checkpoints];
    let out = fake.path("report.html").display().to_string();
    page.both(&fake, &[&["--dir", &files.ledger, "--out", &out][..], &all].concat(), "");
    page.both(&fake, &[&[&*files.export, "--since", "2027-01-15T08:00:11Z", "--out", &out][..], &all].concat(), "");
    page.both(&fake, &[&files.altered, "--out", &out], "");
    page.both(&fake, &[&files.export, "--since", "2027-01-15", "--until", "2027-01-15", "--out", &out], "");
    page.case(&fake, &[&files.export, "--out", fake.path("none/report.html").to_str().unwrap()], "");
    page.misused(&fake)
}

fn prove() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit prove");
    let base = ["--dir", files.ledger.as_str(), "--checkpoints", &files.checkpoints];
    page.both(&fake, &[&base[..], &["--seq", "6"]].concat(), "");
    page.both(&fake, &[&base[..], &["--from", "4", "--to", "10"]].concat(), "");
    page.both(&fake, &[&base[..], &["--seq", "11"]].concat(), "");
    page.case(&fake, &[&base[..], &["--seq", "6", "--to", "9"]].concat(), "");
    page.both(&fake, &[&files.altered, "--checkpoints", &files.checkpoints, "--seq", "6"], "");
    page.misused(&fake)
}

fn verify_proof() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit verify-proof");
    let made = fake.run(&["audit", "prove", "--dir", &files.ledger, "--checkpoints", &files.checkpoints, "--seq", "6"]);
    page.both(&fake, &["-", "--keys", &files.keys], &made.stdout);
    page.both(&fake, &["-", "--keys", &files.keys], &made.stdout.replace("\"index\":5", "\"index\":4"));
    page.case(&fake, &["-"], &made.stdout);
    page.case(&fake, &["-", "--keys", &files.keys], "{}");
    page.misused(&fake)
}

fn checkpoint() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("audit checkpoint");
    page.both(&fake, &[], "");
    page.troubles(&fake, &[], "");
    page.misused(&fake)
}

fn test_append() -> Page {
    let fake = Fake::frozen();
    let mut page = Page::new("audit test-append");
    page.both(&fake, &[], "");
    page.both(&fake, &["--reason", "drill 7"], "");
    page.troubles(&fake, &[], "");
    page.misused(&fake)
}

fn keys() -> Page {
    let fake = Fake::frozen();
    let files = files(&fake);
    let mut page = Page::new("audit keys");
    page.both(&fake, &[], "");
    page.both(&fake, &["--file", &files.keys], "");
    page.troubles(&fake, &[], "");
    page.misused(&fake)
}
