//! `passportctl audit` on what a real daemon has written, while it writes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use passportd::wire::{AdminOk, AdminOp};
use serde_json::Value;

use crate::support::house::FIRST_KEY;
use crate::support::passports::demo;
use crate::support::{House, Options, Roles};

fn audit(arguments: &[&str]) -> (Option<i32>, String) {
    let mut tool = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    let Output { status, stdout, stderr } = tool.arg("audit").args(arguments).output().unwrap();
    (status.code(), [String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap()].concat())
}

fn json(arguments: &[&str]) -> Value {
    let (code, text) = audit(&[arguments, &["--output", "json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_tool_verifies_proves_and_finds_what_was_changed() {
    let mut house = House::start(Options::default().audited().roles(Roles::Apart));
    let issue = || house.raw().issue(demo("alice")).unwrap();
    (0..5).for_each(|_| drop(issue()));
    for _ in 0..2 {
        let made = house.admin_raw().admin(AdminOp::Checkpoint);
        assert!(matches!(made, Ok(AdminOk::Checkpoint(_))), "{made:?}");
        (0..3).for_each(|_| drop(issue()));
    }
    let [ledger, notes] = [house.ledger(), house.dir().join("checkpoints")].map(|path| path.display().to_string());
    let (own, socket) = (format!("{notes}/keys"), house.admin_socket().display().to_string());
    let (code, keys) = audit(&["keys", "--admin-socket", &socket]);
    assert_eq!((code, keys), (Some(0), fs::read_to_string(&own).unwrap()), "the running daemon's are those beside it");
    let all = ["--dir", &ledger, "--keys", &own, "--checkpoints", &notes];
    let verdict = json(&[&["verify"][..], &all].concat());
    assert_eq!((&verdict["ok"], &verdict["first"]), (&Value::Bool(true), &1.into()), "{verdict}");
    let fit = verdict["checkpoints"]["shown"].as_u64().unwrap();
    assert!(fit >= 2, "{verdict}");
    for how in ["heads", "roots", "counts"] {
        assert_eq!(verdict["checkpoints"][how], fit, "{verdict}");
    }
    let proof = house.dir().join("proof.json");
    let prove = ["prove", "--dir", &ledger, "--checkpoints", &notes, "--seq", "2"];
    fs::write(&proof, json(&prove).to_string()).unwrap();
    let (code, said) = audit(&["verify-proof", proof.to_str().unwrap(), "--keys", &own]);
    assert!(code == Some(0) && said.contains("record 2 is among"), "{said}");
    let (code, shown) = audit(&["show", "--dir", &ledger, "--event", "passport_issued", "--sub", "alice"]);
    assert!(code == Some(0) && shown.lines().count() == 12, "a header and eleven records: {shown}");
    let (code, export) = audit(&["export", "--dir", &ledger, "--after", "0"]);
    assert!(code == Some(0) && export.contains(r#""seq":1,"#) && export.contains("next: "), "{export}");
    house.stop();
    // In a copy, a name is replaced in the record of an issue.
    let copy = tempfile::tempdir().unwrap();
    for path in fs::read_dir(&ledger).unwrap().map(|one| one.unwrap().path()) {
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let segment = copy.path().join("00000000000000000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("\"sub\":\"alice\"", "\"sub\":\"malic\"", 1)).unwrap();
    let seq = 1 + text.split("\"sub\":\"alice\"").next().unwrap().matches('\n').count();
    let of_copy = ["--dir", copy.path().to_str().unwrap(), "--keys", &own, "--checkpoints", &notes];
    assert_eq!(audit(&[&["verify"][..], &all].concat()).0, Some(0));
    let (code, said) = audit(&[&["verify"][..], &of_copy].concat());
    assert!(code == Some(3) && said.contains(&format!("record {seq} was altered")), "{said}");
}

#[test]
fn a_report_says_what_happened_and_shows_what_was_altered() {
    let house = House::start(Options::default().audited().roles(Roles::Apart));
    (0..5).for_each(|_| drop(house.raw().issue(demo("alice")).unwrap()));
    house.raw().issue(demo("<b>no</b>")).unwrap();
    let evil = "<script>alert(1)</script>\u{202e}";
    house.admin_raw().admin(AdminOp::Compromise { kid: FIRST_KEY, reason: evil }).unwrap();
    house.admin_raw().admin(AdminOp::Checkpoint).unwrap();
    let [ledger, notes] = [house.ledger(), house.dir().join("checkpoints")].map(|path| path.display().to_string());
    let (keys, page) = (format!("{notes}/keys"), house.dir().join("report.html").display().to_string());
    let all = ["report", "--dir", &ledger, "--keys", &keys, "--checkpoints", &notes, "--out", &page];
    let report = json(&[&all[..], &["--since", "1h"]].concat());
    assert_eq!(report["tally"]["events"]["passport_issued"]["ok"], 6, "{report}");
    assert_eq!(report["ok"], true, "{report}");
    let html = fs::read_to_string(&page).unwrap();
    for words in [
        "class=good",
        "<td>passport_issued<td class=n>6",
        "key_compromised",
        "of that time were shown",
        "daemon_started",
        "<svg",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(
        html.contains("&lt;script&gt;alert(1)") && !html.contains("<script") && !html.contains('\u{202e}'),
        "{html}"
    );
    for outside in ["http:", "https:", "src=", "href=", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    // Of tomorrow there is nothing yet, and that is no mistake.
    let report = json(&[&all[..], &["--since", "2200-01-01"]].concat());
    assert_eq!((&report["ok"], &report["tally"]["records"]), (&true.into(), &0.into()), "{report}");
    let export = house.dir().join("altered.jsonl");
    let (_, text) = audit(&["export", "--dir", &ledger, "--after", "0"]);
    fs::write(&export, text.replacen("\"sub\":\"alice\"", "\"sub\":\"malic\"", 1).replace("next: ", "")).unwrap();
    let (code, said) = audit(&["report", export.to_str().unwrap(), "--out", &page]);
    assert!(code == Some(3) && said.contains("was altered"), "{said}");
    assert!(fs::read_to_string(&page).unwrap().contains("class=bad>NOT VALID: "), "the page says so");
}
