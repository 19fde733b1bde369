//! Checkpoints: of what is durable, with the signer's own counts, over restarts and kills.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use passportd::statement::{Checkpoint, Frontier, Note, VerifierKey, merkle, origin};
use passportd::wire::{AdminOk, AdminOp, Code};

use crate::support::house::{AUDIT_KEY, FIRST_KEY};
use crate::support::ledger::records;
use crate::support::passports::demo;
use crate::support::{House, Options, Roles, eventually};

const PATIENCE: Duration = Duration::from_secs(30);

fn house() -> House {
    House::start(Options::default().audited().roles(Roles::Apart).set("hsm.op_timeout_ms", 1000))
}

fn ask(house: &House) -> Note {
    match house.admin_raw().admin(AdminOp::Checkpoint) {
        Ok(AdminOk::Checkpoint(note)) => Note::parse(note.as_bytes()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn kept(house: &House, name: &str) -> PathBuf {
    house.dir().join("checkpoints").join(name)
}

/// What an auditor reads out of it: with the keys as they are kept, of this issuer.
fn read(house: &House, note: &Note) -> Checkpoint {
    let keys = VerifierKey::parse_all(&fs::read_to_string(kept(house, "keys")).unwrap()).unwrap();
    assert_eq!(note.verify(&keys).unwrap().name, AUDIT_KEY);
    let checkpoint = Checkpoint::parse(note.text()).unwrap();
    assert_eq!(checkpoint.origin, origin("passportd.test"));
    checkpoint
}

/// Holds a checkpoint against the records, by the definitions.
fn fits(house: &House, checkpoint: &Checkpoint) {
    let lines = lines(&house.ledger());
    let mut tree = Frontier::empty();
    let covered = usize::try_from(checkpoint.size).unwrap();
    lines[..covered].iter().for_each(|line| tree.push(merkle::leaf(line.as_bytes())));
    assert_eq!(tree.root(), checkpoint.root);
    assert!(lines[covered - 1].contains(&passportd::passport::hex::encode(&checkpoint.head)));
    for counted in &checkpoint.counts {
        let of = |record: &serde_json::Value| record["kid"] == *counted.kid;
        let stands = |record: &serde_json::Value| match record["event"].as_str().unwrap() {
            "passport_issued" | "ticket_issued" if record["outcome"] == "ok" => 1,
            "signatures_unaccounted" => record["count"].as_u64().unwrap(),
            _ => 0,
        };
        let recorded: u64 = records(&house.ledger())[..covered].iter().filter(|one| of(one)).map(stands).sum();
        assert_eq!(counted.recorded, recorded);
        assert!(counted.signed <= recorded, "{counted:?}");
    }
}

fn lines(ledger: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(ledger).unwrap().map(|one| one.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    names.sort();
    names
        .iter()
        .flat_map(|name| fs::read_to_string(name).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn issue(house: &House, count: usize) {
    let mut raw = house.raw();
    for _ in 0..count {
        raw.issue(demo("alice")).unwrap();
    }
}

#[test]
fn a_checkpoint_covers_what_was_recorded_over_restarts_and_kills() {
    let mut house = house();
    issue(&house, 5);
    let note = ask(&house);
    assert_eq!(ask(&house), note, "nothing was recorded since");
    let first = read(&house, &note);
    assert_eq!(first.counted(FIRST_KEY).unwrap().signed, 5);
    fits(&house, &first);
    assert_eq!(fs::read_to_string(kept(&house, "latest")).unwrap(), note.to_string());

    issue(&house, 3);
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let second = read(&house, &ask(&house));
    assert!(second.size > first.size);
    assert_eq!(second.counted(FIRST_KEY).unwrap().signed, 8);
    fits(&house, &second);

    // The end has one as well, with the record of the end.
    house.end("front", nix::sys::signal::Signal::SIGTERM);
    let last = read(&house, &Note::parse(&fs::read(kept(&house, "latest")).unwrap()).unwrap());
    assert_eq!(last.size, u64::try_from(lines(&house.ledger()).len()).unwrap());
    assert!(lines(&house.ledger()).last().unwrap().contains("daemon_stopping"));
    fits(&house, &last);

    // Without what it goes on from, it reads the ledger.
    fs::remove_file(kept(&house, "frontier")).unwrap();
    house.start_role("front");
    house.wait_ready();
    let again = read(&house, &ask(&house));
    fits(&house, &again);
    let files = fs::read_dir(house.dir().join("checkpoints")).unwrap().map(|one| one.unwrap().path());
    let days = files.filter(|path| path.extension().is_some_and(|extension| extension == "notes"));
    let all: Vec<_> = days.flat_map(|path| Note::parse_all(&fs::read(path).unwrap()).unwrap()).collect();
    let sizes: Vec<_> = all.iter().map(|note| Checkpoint::parse(note.text()).unwrap().size).collect();
    assert_eq!(sizes, [first.size, second.size, last.size, again.size]);
}

/// What the signer signed and the ledger does not know is on record as that: here, as if a front had kept two passports to itself.
#[test]
fn signatures_without_a_record_show() {
    let mut house = house();
    issue(&house, 4);
    ask(&house);
    house.kill("signer");
    let tally = house.dir().join("state/signer/signatures");
    let file = fs::OpenOptions::new().read(true).write(true).open(tally).unwrap();
    let mut count = [0; 8];
    file.read_exact_at(&mut count, 248).unwrap();
    assert_eq!(u64::from_le_bytes(count), 4);
    file.write_all_at(&6_u64.to_le_bytes(), 248).unwrap();
    house.start_role("signer");
    // The front may not have noticed yet that the first one is gone.
    let again = || house.raw().issue(demo("alice")).ok().map(drop);
    eventually("the new signer signs", PATIENCE, again);
    let checkpoint = read(&house, &ask(&house));
    let counted = checkpoint.counted(FIRST_KEY).unwrap();
    assert_eq!((counted.signed, counted.recorded), (7, 7));
    let unaccounted =
        records(&house.ledger()).into_iter().find(|one| one["event"] == "signatures_unaccounted").unwrap();
    assert_eq!((&unaccounted["kid"], &unaccounted["count"]), (&FIRST_KEY.into(), &2.into()));
    fits(&house, &checkpoint);
}

#[test]
fn without_an_audit_key_or_a_signer_there_is_none_and_it_is_said() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let refused = |house: &House| house.admin_raw().admin(AdminOp::Checkpoint).unwrap_err();
    let problem = refused(&house);
    assert!(problem.code == Code::NotReady && problem.message.contains("hsm init"), "{problem:?}");
    house.stage(AUDIT_KEY).unwrap();
    house.activate(AUDIT_KEY).unwrap();
    house.kill("signer");
    eventually("no signer, no checkpoint", PATIENCE, || (refused(&house).code == Code::HsmUnavailable).then_some(()));
    house.start_role("signer");
    house.wait_ready();
    let checkpoint = read(&house, &ask(&house));
    fits(&house, &checkpoint);
}

#[test]
fn they_are_made_by_themselves() {
    let house = House::start(Options::default().audited().set("audit.checkpoint_interval_s", 1));
    issue(&house, 1);
    let size = eventually("a checkpoint", PATIENCE, || {
        let note = Note::parse(&fs::read(kept(&house, "latest")).ok()?).unwrap();
        let checkpoint = read(&house, &note);
        checkpoint.counted(FIRST_KEY).is_some().then_some(checkpoint.size)
    });
    let size = f64::from(u32::try_from(size).unwrap());
    eventually("the metric", PATIENCE, || (house.metric("passport_checkpoint_records") >= size).then_some(()));
    assert!(house.metric("passport_checkpoint_time_seconds") > 1_700_000_000.0);
    // Of the room, too: looked at once the daemon runs.
    eventually("the ledger's room", PATIENCE, || (house.metric("passport_ledger_bytes") > 0.0).then_some(()));
    assert!(house.metric("passport_ledger_segments") >= 1.0 && house.metric("passport_ledger_free_bytes") > 0.0);
    assert!(house.metric("passport_ledger_left_seconds") > 0.0);
}
