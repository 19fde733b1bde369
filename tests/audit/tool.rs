//! `passportctl audit` on what a real daemon has written, while it writes.

use std::fs;
use std::process::{Command, Output};

use passportd::wire::{AdminOk, AdminOp};
use serde_json::Value;

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
