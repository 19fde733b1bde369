//! The commands of docs/AUDIT.md, on what a real daemon has written. What wants a journal is not run here: its options and names of
//! events are held to the code by tests/auditors.rs, and journals are read in `audit::reading`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use passportd::statement::{Checkpoint, Note};
use passportd::wire::{AdminOk, AdminOp};

use crate::support::passports::demo;
use crate::support::{House, Options, Roles, fences, skipped};

fn checkpoint(house: &House) -> (u64, String) {
    house.raw().issue(demo("alice")).unwrap();
    let made = house.admin_raw().admin(AdminOp::Checkpoint);
    let Ok(AdminOk::Checkpoint(text)) = made else { panic!("{made:?}") };
    (Checkpoint::parse(Note::parse(text.as_bytes()).unwrap().text()).unwrap().size, text)
}

/// A directory as the page supposes it: keys, checkpoints, an export, and a copy of the ledger.
fn desk(house: &House, older: &str, newer: &(u64, String)) -> tempfile::TempDir {
    let desk = tempfile::tempdir().unwrap();
    let at = |name: &str| desk.path().join(name);
    for (from, to) in [(house.ledger(), "copy"), (house.dir().join("checkpoints"), "elsewhere")] {
        fs::create_dir(at(to)).unwrap();
        for path in fs::read_dir(from).unwrap().map(|one| one.unwrap().path()) {
            fs::copy(&path, at(to).join(path.file_name().unwrap())).unwrap();
        }
    }
    let all = fs::read_to_string(at("copy/00000000000000000001.jsonl")).unwrap();
    let covered: String = all.split_inclusive('\n').take(usize::try_from(newer.0).unwrap()).collect();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(covered.as_bytes()).unwrap();
    fs::write(at("export.jsonl.gz"), packed.finish().unwrap()).unwrap();
    fs::copy(at("elsewhere/keys"), at("audit.vkeys")).unwrap();
    let both = format!("{older}{}", newer.1);
    for (name, text) in [("monday.note", older), ("friday.note", &newer.1), ("2026-11-24.notes", &both)] {
        fs::write(at(name), text).unwrap();
    }
    desk
}

#[test]
fn the_commands_of_the_page_work_on_a_daemons_ledger() {
    let house = House::start(Options::default().audited().roles(Roles::Apart));
    let (older, newer) = (checkpoint(&house), checkpoint(&house));
    let desk = desk(&house, &older.1, &newer);
    let tool = Path::new(env!("CARGO_BIN_EXE_passportctl")).parent().unwrap();
    let path = format!("{}:{}", tool.display(), std::env::var("PATH").unwrap());
    let has_jq = Command::new("jq").arg("--version").output().is_ok();
    if !has_jq {
        skipped("queries of docs/AUDIT.md: no jq");
    }
    let mut ran = 0;
    for fence in fences::all().into_iter().filter(|one| one.page == "docs/AUDIT.md" && one.language == "sh") {
        let journal = |line: &&str| !line.starts_with("journalctl") && (has_jq || !line.contains("jq "));
        for line in fence.text.lines().filter(journal) {
            // The daemon of the page has more records, and keeps them elsewhere.
            let typed = line.replace("/mnt/", &format!("{}/", desk.path().display()));
            let typed = typed.replace("/var/lib/passportd/audit", house.ledger().to_str().unwrap());
            let typed = typed.replace("--seq 120", "--seq 2").replace("--from 1000 ", &format!("--from {} ", older.0));
            let typed = typed.replace("--to 2000", &format!("--to {}", newer.0));
            let output = Command::new("bash")
                .args(["-euo", "pipefail", "-c", &typed])
                .current_dir(desk.path())
                .env("PATH", &path)
                .env("PASSPORTCTL_CONFIG", house.dir().join("passportd.toml"))
                .output()
                .unwrap();
            let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
            assert!(output.status.success() && !said.contains("NOT VALID"), "{}: {line}\n{said}", fence.place());
            ran += 1;
        }
    }
    assert!(ran >= 15, "{ran}");
}
