//! `docs/LOGS.md` and the sources say the same: every event in the sources has its line in the table of events, with its
//! level and fields, and the tables of the document are written from the code. `PASSPORTD_BLESS=1` writes them anew.
#![cfg(test)]

#[path = "support/document.rs"]
mod document;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use passportd::audit;
use passportd::boot::events;

use document::assert_written;

const DOCUMENT: &str = "docs/LOGS.md";
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
/// Said by the log itself, which builds them by hand.
const OF_THE_LOG: [&str; 2] = ["log_storm", "log_dropped"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_tables_are_the_codes_own() {
    assert_written(DOCUMENT, "events", &table_of_events());
    assert_written(DOCUMENT, "records", &table_of_records());
}

fn table_of_events() -> String {
    let mut out =
        String::from("| event | level | fields | meaning | what to do | MESSAGE_ID |\n|---|---|---|---|---|---|\n");
    for event in events() {
        assert!(!event.meaning.is_empty() && !event.remedy.is_empty(), "{} says too little", event.name);
        let level = if LEVELS.contains(&&*event.level.to_lowercase()) { event.level } else { "the event's" };
        let fields: Vec<_> = event.fields.split_whitespace().map(|field| format!("`{field}`")).collect();
        let id = event.message_id.map(|id| format!("`{id}`")).unwrap_or_default();
        let (fields, meaning) = (fields.join(" "), event.meaning);
        writeln!(out, "| `{}` | {level} | {fields} | {meaning} | {} | {id} |", event.name, event.remedy).unwrap();
    }
    out
}

fn table_of_records() -> String {
    let mut out = String::from("| `PASSPORT_EVENT` | `PRIORITY` | `MESSAGE_ID` |\n|---|---|---|\n");
    for event in audit::Event::ALL {
        writeln!(out, "| `{}` | {} | `{}` |", event.name(), event.priority().digit(), event.message_id()).unwrap();
    }
    out
}

/// An event as the sources say it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    levels: BTreeSet<String>,
    fields: BTreeSet<String>,
}

#[test]
fn every_event_of_the_sources_is_in_the_table_and_the_other_way_round() {
    let mut said: BTreeMap<String, Said> = BTreeMap::new();
    for path in rust_files(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        for (level, arguments) in macros(text) {
            let at = format!("{}: {level}!({arguments})", path.display());
            let (name, fields) = event(&arguments).unwrap_or_else(|| panic!("{at}\nhas no name: \"…\""));
            let one = said.entry(name).or_default();
            one.levels.insert(level.to_uppercase());
            one.fields.extend(fields);
        }
    }
    assert!(said.len() > 50, "the sources are read: {said:?}");
    let table = events().filter(|event| !OF_THE_LOG.contains(&event.name)).map(|event| {
        let fields = event.fields.split_whitespace().map(str::to_owned).collect();
        (event.name.to_owned(), Said { levels: [event.level.to_owned()].into(), fields })
    });
    let table: BTreeMap<_, _> = table.collect();
    for (name, said) in &said {
        assert_eq!(table.get(name), Some(said), "{name}: the table of src/boot/logging/events/, and the sources");
    }
    let never: Vec<_> = table.keys().filter(|name| !said.contains_key(*name)).collect();
    assert!(never.is_empty(), "in the table, and said nowhere: {never:?}");
}

/// An event that nothing records would stand in documents, filters and metrics, and never come.
#[test]
fn every_audit_record_of_the_list_is_made_by_the_sources() {
    let declared: BTreeSet<_> = audit::Event::ALL.iter().map(|event| format!("{event:?}")).collect();
    let mut made = BTreeSet::new();
    for path in rust_files(&root().join("src")).iter().filter(|path| !path.ends_with("audit/event.rs")) {
        let text = fs::read_to_string(path).unwrap();
        made.extend(audit_events(text.split("\n#[cfg(test)]\nmod tests {").next().unwrap()));
    }
    assert_eq!(made, declared, "made by the sources, and declared in src/audit/event.rs");
}

/// The `Event::Name`s of a source.
fn audit_events(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    let named =
        words.filter_map(|word| word.strip_prefix("Event::").or_else(|| Some(word.rsplit_once("::Event::")?.1)));
    named.filter(|name| *name != "ALL").map(str::to_owned).collect()
}

/// The sources of the daemon. `passportctl` logs nothing, and tests are no part of it.
fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            out.extend(rust_files(&path));
        } else if !name.ends_with("tests.rs") {
            out.push(path);
        }
    }
    out
}

/// The events that a source says: level and arguments.
fn macros(text: &str) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    for level in LEVELS {
        for (at, start) in text.match_indices(&format!("{level}!(")) {
            let (before, rest) = text.split_at(at);
            if !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
                out.push((level, balanced(rest.split_at(start.len()).1)));
            }
        }
    }
    out
}

/// Up to the bracket that closes what was opened before.
fn balanced(text: &str) -> String {
    let (mut depth, mut quoted, mut escaped) = (1, false, false);
    let end = text.find(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    text.split_at(end.unwrap()).0.to_owned()
}

/// Splits at the commas that are in no bracket and no string.
fn arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    let between = |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        c == ',' && !quoted && depth == 0
    };
    text.split(between).map(str::trim).filter(|argument| !argument.is_empty()).collect()
}

/// Name and fields of an event; the last argument is its message.
fn event(text: &str) -> Option<(String, Vec<String>)> {
    let all = arguments(text);
    let (first, rest) = all.split_first()?;
    let name = first.strip_prefix("name: \"")?.strip_suffix('"')?;
    let fields = rest.iter().filter(|argument| !argument.starts_with('"'));
    let field = |argument: &&str| argument.split('=').next().unwrap().trim().trim_start_matches(['%', '?']).to_owned();
    Some((name.to_owned(), fields.map(field).collect()))
}

/// A remedy that is no command helps nobody.
#[test]
fn every_command_that_the_document_names_is_there() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let commands: BTreeSet<_> =
        text.split("`passportctl ").skip(1).map(|rest| rest.split('`').next().unwrap()).collect();
    assert!(commands.len() >= 3, "{commands:?}");
    for command in commands {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_passportctl"));
        let output = tool.args(command.split(' ')).arg("--help").output().unwrap();
        assert!(output.status.success(), "passportctl {command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let source = r#"
        fn f() { tracing::warn!(name: "a_b", %error, kid = key.kid, n = f(x, "}),"), ?gap, "it \"x\", y {z}"); }
        error!("no name"); println!("x"); my_info!(x);
        debug!(
            name: "c", listener, "m"
        );
    "#;
    let mut found: Vec<_> = macros(source).into_iter().map(|(level, text)| (level, event(&text))).collect();
    found.sort();
    let fields = |list: &[&str]| list.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>();
    let expected = [
        ("debug", Some(("c".to_owned(), fields(&["listener"])))),
        ("error", None),
        ("warn", Some(("a_b".to_owned(), fields(&["error", "kid", "n", "gap"])))),
    ];
    assert_eq!(found, expected);
}
