//! What auditors are given: the catalogue for `journalctl -x`, and docs/AUDIT.md. Both say of every event and of every member
//! what it means; `PASSPORTD_BLESS=1` writes what is written from the code.
#![cfg(test)]

#[path = "support/document.rs"]
mod document;
#[path = "support/skipped.rs"]
mod skipped;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use document::assert_written;
use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome, Peer, meaning};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};

const DOCUMENT: &str = "docs/AUDIT.md";
const CATALOGUE: &str = "systemd/passportd.catalog";

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_document_has_every_event() {
    let mut table = String::from("| event | priority | meaning | what to do |\n|---|---|---|---|\n");
    for event in Event::ALL {
        let row = meaning(event.name()).unwrap();
        let (name, priority) = (event.name(), event.priority().digit());
        writeln!(table, "| `{name}` | {priority} | {}. {} | {} |", row.subject, row.meaning, row.remedy).unwrap();
    }
    assert_written(DOCUMENT, "meanings", &table);
}

/// As catalog(5) of systemd has it.
fn catalogue() -> String {
    let mut out = String::from(
        "# Messages of passportd's audit records, for `journalctl -x`. Written by tests/auditors.rs (PASSPORTD_BLESS=1).\n",
    );
    for event in Event::ALL {
        let row = meaning(event.name()).unwrap();
        let id = event.message_id();
        let fields = "Record: @PASSPORT_SEQ@ (@PASSPORT_EVENT@, @PASSPORT_OUTCOME@)";
        write!(
            out,
            "\n-- {id}\nSubject: {}\nDefined-By: passportd\n\n{fields}\n\n{}\n\nWhat to do: {}\n",
            row.subject, row.meaning, row.remedy
        )
        .unwrap();
    }
    out
}

#[test]
fn the_catalogue_is_the_codes_own() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(CATALOGUE);
    if std::env::var_os("PASSPORTD_BLESS").is_some() {
        fs::write(&path, catalogue()).unwrap();
    }
    assert!(text(CATALOGUE) == catalogue(), "{CATALOGUE} is not the code's; run this test with PASSPORTD_BLESS=1");
}

#[test]
fn systemd_takes_the_catalogue() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&dir).unwrap();
    fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).unwrap();
    fs::write(dir.join("passportd.catalog"), text(CATALOGUE)).unwrap();
    let journalctl = |arguments: &[&str]| {
        let root = format!("--root={}", root.path().display());
        Command::new("journalctl").arg(root).arg("--no-pager").args(arguments).output()
    };
    let Ok(updated) = journalctl(&["--update-catalog"]) else {
        return skipped::skipped("journalctl does not run; it is in the package systemd");
    };
    assert!(updated.status.success() && updated.stderr.is_empty(), "{}", String::from_utf8_lossy(&updated.stderr));
    let listed = String::from_utf8(journalctl(&["--list-catalog"]).unwrap().stdout).unwrap();
    for event in Event::ALL {
        let subject = meaning(event.name()).unwrap().subject;
        let line = format!("{} passportd: {subject}", event.message_id());
        assert!(listed.lines().any(|one| one == line), "{line:?} is not in\n{listed}");
    }
    assert_eq!(listed.lines().count(), Event::ALL.len(), "{listed}");
}

/// The members of all records that there can be.
fn members() -> BTreeSet<String> {
    let dir = tempfile::tempdir().unwrap();
    let config = AuditConfig {
        segment: SegmentConfig::default(),
        pace: Pace::default(),
        journald: None,
        now: Moment::now,
        metrics: None,
    };
    let entry = || {
        let peer = Peer { uid: 1, gid: 2, pid: 3, listener: "l".to_owned() };
        let entry = Entry::new(Event::IssueRefused, Outcome::Refused, Moment::from_unix(0)).peer(peer).corr_id([1; 16]);
        let entry = entry.subject("s").jti("j").kid("k").template("t").action("a").aud("a").exp(1).count(2);
        entry.reason("r").detail("d")
    };
    let (audit, _) = Audit::open(dir.path(), &config).unwrap();
    audit.record_blocking(entry()).unwrap();
    audit.state_is_at(1);
    audit.record_blocking(entry()).unwrap();
    audit.close();
    drop(audit);
    // The end is torn, and the next start says so.
    let first = dir.path().join("00000000000000000001.jsonl");
    let whole = fs::read(&first).unwrap();
    fs::write(&first, [&whole[..], b"torn"].concat()).unwrap();
    Audit::open(dir.path(), &config).unwrap().0.close();
    let mut found = BTreeSet::new();
    for path in fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
        for line in fs::read_to_string(path).unwrap().lines().filter_map(|line| line.strip_suffix("}")) {
            let value: serde_json::Value = serde_json::from_str(&format!("{line}}}")).unwrap();
            found.extend(value.as_object().unwrap().keys().cloned());
        }
    }
    found
}

#[test]
fn the_document_has_every_member_and_every_field_of_the_journal() {
    let document = text(DOCUMENT);
    let (_, table) = document.split_once("## Fields of a record").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let cells = |column: usize| {
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
        let cell = move |row: &str| row.split('|').nth(column).unwrap().trim().trim_matches('`').to_owned();
        rows.map(cell).filter(|cell| !cell.is_empty()).collect::<BTreeSet<_>>()
    };
    assert_eq!(cells(1), members());
    let source = text("src/audit/journald/copy.rs");
    let (source, _) = source.split_once("mod tests {").unwrap();
    let fields =
        source.split("\"PASSPORT_").skip(1).map(|rest| format!("PASSPORT_{}", rest.split('"').next().unwrap()));
    let fields: BTreeSet<_> = fields.filter(|field| field.len() > "PASSPORT_".len()).collect();
    let documented = cells(2);
    let missing: Vec<_> = fields.difference(&documented).collect();
    assert!(fields.len() > 10 && missing.is_empty(), "not in {DOCUMENT}: {missing:?}");
}

#[test]
fn every_query_of_the_document_is_understood() {
    let document = text(DOCUMENT);
    let blocks = document.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines: Vec<_> = blocks.flat_map(str::lines).collect();
    let known: BTreeSet<_> = Event::ALL.iter().map(|event| event.name()).collect();
    let (mut commands, mut events) = (0, 0);
    for line in lines {
        for part in line.split(" | ").map(|part| part.split(" > ").next().unwrap()) {
            let words: Vec<_> = part.split_whitespace().collect();
            if words.first() == Some(&"passportctl") {
                let parsed = passportd::cli::command().try_get_matches_from(&words);
                assert!(parsed.is_ok(), "{part}: {}", parsed.unwrap_err());
                commands += 1;
            }
            let names = words.windows(2).filter(|pair| pair[0] == "--event").flat_map(|pair| pair[1].split(','));
            let of_journal = words.iter().filter_map(|word| word.strip_prefix("PASSPORT_EVENT="));
            for name in names.chain(of_journal) {
                assert!(known.contains(name), "{line}: there is no event {name}");
                events += 1;
            }
        }
    }
    assert!(commands >= 15 && events >= 10, "{commands} {events}");
}

#[test]
fn the_journal_is_kept_for_90_days() {
    let conf = text("systemd/journald.conf.d/passportd.conf");
    let days = conf.lines().find_map(|line| line.strip_prefix("MaxRetentionSec=")?.strip_suffix("day")).unwrap();
    assert!(days.parse::<u32>().unwrap() >= 90 && conf.contains("\nStorage=persistent\n"), "{conf}");
    let unit = text("systemd/passportd.service");
    assert!(unit.contains("\nLogRateLimitIntervalSec=0\n"), "a limit would lose records");
}
