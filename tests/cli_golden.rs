//! Every output of `passportctl`, byte for byte, in tables and in JSON: one file under `tests/golden/cli` for each
//! command, with what it answers, refuses and complains about. `PASSPORTD_BLESS=1` writes them anew.
#![cfg(feature = "cli")]

#[cfg(test)]
#[path = "cli_golden/auditing.rs"]
mod auditing;
#[cfg(test)]
#[path = "cli_golden/cases.rs"]
mod cases;
#[cfg(test)]
#[path = "cli_golden/ceremonies.rs"]
mod ceremonies;
#[cfg(test)]
#[path = "cli_fake/mod.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod fake;
#[cfg(test)]
#[path = "cli_golden/key_lives.rs"]
mod key_lives;
#[cfg(test)]
#[path = "cli_fake/leaves.rs"]
mod leaves;
#[cfg(test)]
#[path = "cli_golden/offline.rs"]
mod offline;
#[cfg(test)]
#[path = "cli_golden/page.rs"]
mod page;
#[cfg(test)]
#[path = "cli_golden/planning.rs"]
mod planning;
#[cfg(test)]
#[path = "cli_golden/sealing.rs"]
mod sealing;
#[cfg(test)]
#[path = "cli_fake/tool.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod tool;

use std::collections::BTreeSet;

use leaves::{leaves, tree};
use page::{Page, compare, golden};
use tool::{run, tool};

/// Those that ask no daemon, or one that need not be there; those that hold a ceremony show what becomes of it.
const WITHOUT_DAEMON: [&str; 37] = [
    "audit export",
    "audit prove",
    "audit report",
    "audit show",
    "audit verify",
    "audit verify-proof",
    "ceremony approve",
    "ceremony clock-reset",
    "ceremony keygen",
    "ceremony plan adopt",
    "ceremony plan approvers",
    "ceremony plan compromise",
    "ceremony plan destroy",
    "ceremony plan init",
    "ceremony plan restore",
    "ceremony plan new-ledger",
    "ceremony plan retire-seal",
    "ceremony plan rotate",
    "ceremony run",
    "ceremony verify",
    "completions",
    "config check",
    "config print",
    "doctor",
    "hsm doctor",
    "hsm init",
    "hsm list",
    "hsm retire",
    "hsm retry-pin",
    "hsm rotate",
    "inspect",
    "policy check",
    "policy explain",
    "state check",
    "state export",
    "state import",
    "state restore",
];

#[test]
fn every_output_of_every_command_is_as_it_was_recorded() {
    let pages = cases::all();
    let shown: Vec<&str> = pages.iter().map(Page::leaf).collect();
    let missing: Vec<_> = leaves().into_iter().filter(|leaf| !shown.contains(&leaf.as_str())).collect();
    assert!(missing.is_empty(), "commands without a page in tests/cli_golden/cases.rs: {missing:?}");
    for page in &pages {
        // A script for a shell has one form.
        let one_form = page.leaf() == "completions";
        assert!(page.has_answers() && page.has_usage(), "{}: an answer and wrong usage are not shown", page.leaf());
        let one_sided = page.one_sided();
        assert!(one_form || one_sided.is_empty(), "{}: exits {one_sided:?} in one of two forms", page.leaf());
        let troubled = !WITHOUT_DAEMON.iter().any(|leaf| *leaf == page.leaf());
        assert_eq!(page.is_troubled(), troubled, "{}: refused, no answer, no daemon", page.leaf());
    }
    let recorded: Vec<_> = pages.iter().map(|page| (page.file(), page.text().to_owned())).collect();
    compare(&recorded);
    // A file that no command writes any more is a lie.
    let known: BTreeSet<String> = recorded.into_iter().map(|(file, _)| file).chain(["help.txt".to_owned()]).collect();
    let there = std::fs::read_dir(golden("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let stale: Vec<_> = there.filter(|name| !known.contains(name)).collect();
    assert!(stale.is_empty(), "{stale:?} belong to no command");
}

#[test]
fn every_help_is_as_it_was_recorded() {
    let mut text = String::new();
    let (groups, leaves) = tree();
    for path in groups.into_iter().chain(leaves) {
        let arguments: Vec<_> = path.split_whitespace().chain(["--help"]).collect();
        let ran = run(&mut tool(&arguments), "");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ran.stdout.lines().all(|line| line.chars().count() <= 120), "{}", ran.stdout);
        text.push_str(&format!("$ passportctl {}\n", arguments.join(" ")));
        // Empty lines have blanks in them.
        ran.stdout.lines().for_each(|line| text.push_str(&format!("{}\n", line.trim_end())));
        text.push('\n');
    }
    compare(&[("help.txt".to_owned(), text)]);
}
