//! The state's file, damaged, exported, and restored from a backup: never is a revocation missing without a word.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::passport::OwnedEnvelope;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOp, Code, Revocation, Verdict};
use support::house::FIRST_KEY;
use support::passports::{claims, demo, for_demo};
use support::raw::Raw;
use support::{House, Options, Roles, Users, eventually, ledger, rounds};

const PATIENCE: Duration = Duration::from_secs(20);

fn tool(house: &House, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.args(arguments).arg("--config").arg(house.dir().join("passportd.toml"));
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

fn house() -> House {
    House::start(Options::default().users(Users::Split).roles(Roles::Apart))
}

fn file(house: &House) -> PathBuf {
    house.dir().join("front/state.redb")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn verdict(house: &House, passport: &OwnedEnvelope) -> Verdict {
    house.raw().verify(for_demo(), passport).unwrap()
}

fn revoke(house: &House, passport: &OwnedEnvelope) {
    let jti = claims(passport)["jti"].as_str().unwrap().to_owned();
    let what = vec![Revocation::Id { jti: &jti, exp: None }];
    house.admin_raw().admin(AdminOp::Revoke { tenant: "t1", what, reason: "test" }).unwrap();
}

fn start(house: &mut House) {
    house.start_role("front");
    eventually("it answers", PATIENCE, || Raw::connect(&house.admin_socket()).ok()?.greet().ok());
}

/// Whether it answers, or how it ended.
fn start_or_end(house: &mut House) -> Option<i32> {
    let said = house.log().len();
    house.start_role("front");
    eventually("it answers or ends", PATIENCE, || {
        if Raw::connect(&house.admin_socket()).is_ok_and(|mut raw| raw.greet().is_ok()) {
            return Some(None);
        }
        let over = house.log().get(said..).is_some_and(|log| log.contains("state.redb"));
        over.then_some(Some(()))
    })
    .map(|()| house.ended_role("front").code().unwrap())
}

#[test]
fn a_damaged_state_stops_the_start_or_says_what_it_said() {
    let mut house = house();
    let passport = house.raw().issue(demo("revoked")).unwrap();
    revoke(&house, &passport);
    house.end("front", Signal::SIGTERM);
    let whole = fs::read(file(&house)).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let rounds = usize::try_from(rounds(12)).unwrap();
    let header = 320;
    let flips = (0..rounds).map(|at| {
        let span = if at % 3 == 0 { header } else { used };
        let (byte, mut bent) = ((at * span / rounds + at * 13) % span, whole.clone());
        bent[byte] ^= 1 << (at % 8);
        (format!("byte {byte}"), bent)
    });
    let cuts = [0, 100, 4096, used / 2, used - 1].map(|end| (format!("cut at {end}"), whole[..end].to_vec()));
    let mut refused = 0;
    for (what, bytes) in flips.chain(cuts) {
        fs::write(file(&house), &bytes).unwrap();
        let before = house.log().len();
        match start_or_end(&mut house) {
            None => {
                assert_eq!(verdict(&house, &passport), Verdict::Refused(Code::Revoked), "{what}");
                house.end("front", Signal::SIGTERM);
            }
            Some(code) => {
                let log = house.log().split_off(before);
                assert_eq!(code, 78, "{what}: {log}");
                for says in ["passportctl state check", "passportctl state restore"] {
                    assert!(log.contains(says), "{what}: {says}: {log}");
                }
                fs::write(file(&house), &bytes).unwrap();
                let (code, said) = tool(&house, &["state", "check"]);
                assert!(code == Some(1) && said.contains("is damaged"), "{what}: {said}");
                assert!(fs::read(file(&house)).unwrap() == bytes, "it only looks");
                refused += 1;
            }
        }
    }
    assert!(refused >= 5, "{refused} were noticed, of which five are too short");
    fs::write(file(&house), &whole).unwrap();
    let (code, said) = tool(&house, &["state", "check"]);
    assert!(code == Some(0) && said.contains("every page and row is as it was written"), "{said}");
    start(&mut house);
    house.wait_ready();
    let (code, said) = tool(&house, &["state", "check"]);
    assert!(code == Some(1) && said.contains("is in use by pid"), "{said}");
}

#[test]
fn a_backup_is_restored_by_word_alone_and_nothing_of_before_is_good_then() {
    let mut house = house();
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stage("ed25519/t1/auth/v2").unwrap();
    let early = house.raw().issue(demo("early")).unwrap();
    house.end("front", Signal::SIGTERM);
    let backup = house.dir().join("backup.redb");
    fs::copy(file(&house), &backup).unwrap();
    start(&mut house);
    house.wait_ready();
    revoke(&house, &early);
    house.admin_raw().admin(AdminOp::BumpEpoch { tenant: "t1", reason: "test" }).unwrap();
    house.admin_raw().admin(AdminOp::BumpEpoch { tenant: "t1", reason: "test" }).unwrap();
    let late = house.raw().issue(demo("late")).unwrap();
    house.activate("ed25519/t1/auth/v2").unwrap();
    house.admin_raw().admin(AdminOp::Compromise { kid: FIRST_KEY, reason: "test" }).unwrap();
    let later = house.raw().issue(demo("later")).unwrap();
    let restore = ["state", "restore", "--from", text(&backup), "--reason", "disk died"];
    let (code, said) = tool(&house, &[&restore[..], &["--yes"]].concat());
    assert!(code == Some(1) && said.contains("is in use by pid"), "{said}");
    house.end("front", Signal::SIGTERM);

    let old = fs::read(file(&house)).unwrap();
    fs::copy(&backup, file(&house)).unwrap();
    let before = house.log().len();
    assert_eq!(start_or_end(&mut house), Some(78), "without a word it is refused");
    assert!(house.log().split_off(before).contains("passportctl state restore"), "{}", house.log());
    fs::write(file(&house), &old).unwrap();

    let (code, said) = tool(&house, &restore);
    assert!(code == Some(2) && said.contains("give --yes"), "{said}");
    let (code, said) = tool(&house, &[&restore[..], &["--dry-run"]].concat());
    assert!(code == Some(0) && said.contains("would replace the state"), "{said}");
    assert!(fs::read(file(&house)).unwrap() == old, "nothing was done yet");
    let (code, said) = tool(&house, &[&restore[..], &["--yes"]].concat());
    assert!(code == Some(0) && said.contains("the next start revokes every passport"), "{said}");
    let aside = fs::read_dir(house.dir().join("front")).unwrap().map(|one| one.unwrap().path());
    let aside: Vec<_> = aside.filter(|path| text(path).contains("state.redb.replaced-")).collect();
    assert!(aside.len() == 1 && fs::read(&aside[0]).unwrap() == old, "{aside:?}");
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&file(&house)), owner(&house.dir().join("front")), "whoever restored it");

    start(&mut house);
    // The first key is compromised, and so known no more.
    for (what, passport, code) in
        [("early", &early, Code::UnknownKid), ("late", &late, Code::UnknownKid), ("later", &later, Code::Revoked)]
    {
        assert_eq!(verdict(&house, passport), Verdict::Refused(code), "{what}");
    }
    let status = house.admin_raw().admin(AdminOp::Status).unwrap();
    assert!(format!("{status:?}").contains("compromised"), "a key that was compromised since stays so: {status:?}");
    house.activate("ed25519/t1/auth/v2").unwrap();
    house.wait_ready();
    let fresh = house.raw().issue(demo("fresh")).unwrap();
    assert!(matches!(verdict(&house, &fresh), Verdict::Accepted(_)));
    let records = ledger::records(&house.ledger());
    let restored: Vec<_> = records.iter().filter(|one| one["event"] == "state_restored").collect();
    let detail = restored[0]["detail"].as_str().unwrap();
    assert!(restored.len() == 1 && detail.contains("disk died") && detail.contains(FIRST_KEY), "{restored:?}");
    // No tenant has an epoch of its own; all are in a later one.
    let (code, epochs) = tool(&house, &["epoch", "list", "--output", "json"]);
    assert!(code == Some(0) && epochs.contains("\"t1\":"), "{epochs}");

    // Once more from the same backup: what the restored daemon has issued is not taken for anything of its own.
    house.end("front", Signal::SIGTERM);
    assert_eq!(tool(&house, &[&restore[..], &["--yes"]].concat()).0, Some(0));
    start(&mut house);
    assert_eq!(verdict(&house, &fresh), Verdict::Refused(Code::Revoked));
}

#[test]
fn what_is_exported_comes_back_as_it_was_and_nothing_else_does() {
    let mut house = house();
    let passport = house.raw().issue(demo("revoked")).unwrap();
    revoke(&house, &passport);
    let what = vec![Revocation::Subject { sub: "gone", before: None }];
    house.admin_raw().admin(AdminOp::Revoke { tenant: "t1", what, reason: "test" }).unwrap();
    house.admin_raw().admin(AdminOp::BumpEpoch { tenant: "t1", reason: "test" }).unwrap();
    house.end("front", Signal::SIGTERM);
    let (out, again) = (house.dir().join("out.jsonl"), house.dir().join("again.jsonl"));
    let (code, said) = tool(&house, &["state", "export", "--out", text(&out)]);
    assert!(code == Some(0) && said.contains("exported "), "{said}");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(tool(&house, &["state", "export", "--out", text(&out)]).0, Some(1), "nothing is replaced");
    let exported = fs::read_to_string(&out).unwrap();
    for holds in [
        "\"state\":{",
        "\"key\":{",
        "\"epoch\":{",
        "\"revoked_id\":{",
        "\"revoked_subject\":{\"sub\":\"gone\"",
        "\"end\":{",
    ] {
        assert!(exported.contains(holds), "{holds}: {exported}");
    }

    let there = ["state", "import", "--in", text(&out), "--to"];
    let path = file(&house);
    let (code, said) = tool(&house, &[&there[..], &[text(&path)]].concat());
    assert!(code == Some(1) && said.contains("into a new file only"), "{said}");
    let lines: Vec<_> = exported.lines().collect();
    let bent = [
        lines[..lines.len() - 1].join("\n") + "\n",
        [&lines[..2], &lines[3..]].concat().join("\n") + "\n",
        exported.replace("\"gone\"", "\"gome\""),
        exported.clone() + lines[1] + "\n",
        exported.trim_end().to_owned(),
    ];
    for bent in bent {
        fs::write(&again, bent).unwrap();
        let new = house.dir().join("front/new.redb");
        let (code, said) = tool(&house, &["state", "import", "--in", text(&again), "--to", text(&new)]);
        assert!(code == Some(2) && !new.exists(), "{said}");
    }
    fs::remove_file(&again).unwrap();
    fs::remove_file(&path).unwrap();
    let (code, said) = tool(&house, &[&there[..], &[text(&path)]].concat());
    assert!(code == Some(0) && said.contains("imported "), "{said}");
    assert_eq!(tool(&house, &["state", "export", "--out", text(&again)]).0, Some(0));
    assert_eq!(fs::read_to_string(&again).unwrap(), exported, "to the last byte");
    start(&mut house);
    house.wait_ready();
    assert_eq!(verdict(&house, &passport), Verdict::Refused(Code::Revoked));
    assert_eq!(tool(&house, &["epoch", "list", "--output", "json"]).1, "{\"t1\":1}\n");
}
