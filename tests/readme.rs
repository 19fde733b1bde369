//! The README is run: its configuration table is the code's, and every `sh` block works as it stands against a daemon with
//! the development policy. `PASSPORTD_BLESS=1` writes the table anew.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use passportd::config::reference_markdown;
use passportd::metrics::{Label as _, Op};
use support::softhsm::PIN;
use support::{House, Options};

const BEGIN: &str = "<!-- configuration: written by the tests (PASSPORTD_BLESS=1) from src/config/sections.rs -->\n";
const END: &str = "<!-- end of configuration -->";

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The contents of every fenced block that says `sh`.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<Vec<&str>> = None;
    for line in text.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(Vec::new()),
            (Some(lines), "```") => {
                blocks.push(lines.join("\n"));
                open = None;
            }
            (Some(lines), line) => lines.push(line),
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
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

/// The blocks of `docs`. Those of LOGS.md ask a journal, so `tests/e2e_logs.rs` runs them against one.
fn of_documents() -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut pages: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md") && !page.ends_with("LOGS.md"));
    pages.sort();
    let found: Vec<_> = pages.iter().flat_map(|page| blocks(&fs::read_to_string(page).unwrap())).collect();
    assert!(!found.is_empty(), "docs/SERVICES.md has one");
    found
}

#[test]
fn every_example_works_as_it_stands() {
    let house = House::start(Options::default());
    let bin = Path::new(env!("CARGO_BIN_EXE_passportctl")).parent().unwrap().to_owned();
    let work = house.dir().join("readme");
    fs::create_dir(&work).unwrap();
    let pin = work.join("pin");
    fs::write(&pin, PIN).unwrap();
    fs::set_permissions(&pin, Permissions::from_mode(0o400)).unwrap();
    let mut blocks = blocks(&readme());
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    blocks.extend(of_documents());
    for block in blocks {
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &block])
            .current_dir(&work)
            .env("PATH", path)
            .env("PASSPORTCTL_CONFIG", house.dir().join("passportd.toml"))
            .env("PIN_FILE", &pin)
            .output()
            .unwrap();
        let (said, erred) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{block}\n--- {}\n{said}\n{erred}", output.status);
    }
    for op in Op::all().into_iter().filter(|op| *op != Op::Unreadable) {
        let series = format!("passport_requests_total{{code=\"ok\",op=\"{}\"}}", op.name());
        assert!(house.metric(&series) >= 1.0, "the README has no example of {}", op.name());
    }
}
