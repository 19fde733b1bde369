//! The documents are run: every `sh` block works as it stands against a daemon with the development policy, and so does
//! what a `console` block types, unless it is named here with the reason. The README's configuration table is the code's;
//! `PASSPORTD_BLESS=1` writes it anew.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use passportd::config::reference_markdown;
use passportd::metrics::{Label as _, Op};
use support::fences::{self, Fence};
use support::softhsm::PIN;
use support::{House, Options};

const BEGIN: &str = "<!-- configuration: written by the tests (PASSPORTD_BLESS=1) from src/config/sections.rs -->\n";
const END: &str = "<!-- end of configuration -->";

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn the_configuration_table_is_the_codes_own() {
    let text = readme();
    let (before, rest) = text.split_once(BEGIN).expect("the marker before the table");
    let (_, after) = rest.split_once(END).expect("the marker after the table");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", reference_markdown());
    if std::env::var_os("PASSPORTD_BLESS").is_some() {
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"), &fresh).unwrap();
    }
    assert!(text == fresh, "the table is not the code's; run this test with PASSPORTD_BLESS=1");
}

/// Blocks that need more than a daemon: where they are run.
const ELSEWHERE: [(&str, &str, &str, &str); 5] = [
    ("docs/AUDIT.md", "sh", "tests/audit/document.rs", "the_commands_of_the_page_work_on_a_daemons_ledger"),
    ("docs/LOGS.md", "sh", "tests/logs/journal.rs", "the_queries_of_the_document_find_what_they_promise"),
    ("docs/SERVICES.md", "console", "tests/examples.rs", "what_the_guide_types_shows_what_it_says"),
    ("clients/python/README.md", "python", "tests/python_live.rs", "the_example_of_the_readme_works_as_it_stands"),
    ("docs/VERIFIER.md", "python", "tests/python_verifier.rs", "the_example_of_the_page_works_as_it_stands"),
];

/// Typed commands that no test runs: why, and what `make test` runs instead.
const NOT_RUN: [(&str, &str, &str); 3] = [
    ("make run", "it serves until Ctrl-C", "make --no-print-directory demo"),
    ("make check", "it tests, and this is a test", "step 'lints' cargo clippy"),
    ("make fuzz", "it takes minutes, and builds for itself", "scripts/fuzz"),
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

fn is_elsewhere(fence: &Fence) -> bool {
    ELSEWHERE.iter().any(|(page, language, ..)| fence.page == *page && fence.language == *language)
}

/// A `make` with variables before and behind it: the target, and the variables with their values.
fn made(command: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let words: Vec<_> = command.split_whitespace().collect();
    let (variables, rest): (Vec<_>, Vec<_>) = words.iter().partition(|word| word.contains('='));
    match rest[..] {
        ["make", target] => Some((target, variables.iter().map(|word| word.split_once('=').unwrap()).collect())),
        _ => None,
    }
}

/// What can't be run here is at least there: the target, its script, its variables; and something near it is run.
fn assert_can_be_made(place: &str, command: &str) {
    let (target, variables) = made(command).unwrap_or_else(|| panic!("{place}: nothing runs `{command}`"));
    let named = NOT_RUN.iter().find(|(known, ..)| *known == format!("make {target}"));
    let (_, _, instead) = named.unwrap_or_else(|| panic!("{place}: NOT_RUN has no reason for `{command}`"));
    assert!(text("scripts/test").contains(instead), "scripts/test does not run `{instead}`");
    let recipe = text("Makefile")
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{target}: ; "))?.split('@').nth(1).map(str::to_owned));
    let recipe = recipe.unwrap_or_else(|| panic!("{place}: the Makefile has no {target}"));
    let script = recipe.split_whitespace().find(|word| word.starts_with("scripts/")).unwrap();
    let script_text = text(script);
    for (name, value) in variables {
        assert!(
            recipe.contains(&format!("$({name})")) || script_text.contains(&format!("${{{name}:-")),
            "{place}: {name}"
        );
        if name == "TARGET" {
            assert!(repository().join(format!("fuzz/fuzz_targets/{value}.rs")).exists(), "{place}: {value}");
        }
    }
}

#[test]
fn what_other_tests_run_is_run_there() {
    let fences = fences::all();
    for (page, language, test, function) in ELSEWHERE {
        assert!(
            fences.iter().any(|fence| fence.page == page && fence.language == language),
            "{page} has no {language}"
        );
        let source = text(test);
        assert!(source.contains(&format!("fn {function}()")) && source.contains(page), "{test}: {function} of {page}");
    }
}

/// Everything that can be typed: `sh` blocks whole, and of `console` blocks the lines that no Makefile has.
fn to_run() -> Vec<(String, String)> {
    let mut scripts = Vec::new();
    for fence in fences::all().into_iter().filter(|fence| !is_elsewhere(fence)) {
        match fence.language.as_str() {
            "sh" => scripts.push((fence.place(), fence.text.clone())),
            "console" => {
                let (made, typed): (Vec<_>, Vec<_>) = fence.typed().into_iter().partition(|line| made(line).is_some());
                made.iter().for_each(|line| assert_can_be_made(&fence.place(), line));
                assert!(fence.shown().is_empty(), "{}: nobody compares what it shows", fence.place());
                if !typed.is_empty() {
                    scripts.push((fence.place(), typed.join("\n")));
                }
            }
            _ => {}
        }
    }
    scripts
}

/// A copy of the repository as `make run` leaves it: a daemon under target/dev, the tool under target/ci.
fn work(house: &House) -> PathBuf {
    let work = house.dir().join("readme");
    fs::create_dir_all(work.join("target")).unwrap();
    fs::create_dir_all(work.join("clients/python")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_passportctl")).parent().unwrap();
    let client = repository().join("clients/python/passportd.py");
    for (to, at) in [
        (house.dir(), "target/dev"),
        (bin, "target/ci"),
        (&client, "passportd.py"),
        (&client, "clients/python/passportd.py"),
    ] {
        std::os::unix::fs::symlink(to, work.join(at)).unwrap();
    }
    let pin = work.join("pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, Permissions::from_mode(0o400)).unwrap();
    work
}

#[test]
fn every_example_works_as_it_stands() {
    let house = House::start(Options::default().audited().policy(&text("softhsm/policy.toml.in")));
    let work = work(&house);
    let scripts = to_run();
    let (exports, blocks): (Vec<_>, Vec<_>) = scripts.into_iter().partition(|(_, block)| block.starts_with("export "));
    // What the README says first: where the configuration and the tool are.
    assert_eq!(exports.len(), 1, "{exports:?}");
    assert!(blocks.len() >= 14, "{} blocks", blocks.len());
    for (place, block) in blocks {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{}\n{block}", exports[0].1)])
            .current_dir(&work)
            .env("PIN_FILE", work.join("pin"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap();
        let (said, erred) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{place}\n{block}\n--- {}\n{said}\n{erred}", output.status);
    }
    for op in Op::all().into_iter().filter(|op| *op != Op::Unreadable) {
        let series = format!("passport_requests_total{{code=\"ok\",op=\"{}\"}}", op.name());
        assert!(house.metric(&series) >= 1.0, "the README has no example of {}", op.name());
    }
}

#[test]
fn commands_are_told_apart() {
    assert_eq!(made("make fuzz TARGET=claims"), Some(("fuzz", vec![("TARGET", "claims")])));
    assert_eq!(made("FUZZ_SECONDS=600 make fuzz"), Some(("fuzz", vec![("FUZZ_SECONDS", "600")])));
    assert_eq!(made("export A=$PWD/target/dev/passportd.toml"), None);
}
