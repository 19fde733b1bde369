//! What one command printed, case after case, with what can't be foretold taken out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fake::Fake;
use crate::tool::{Ran, run};

/// Characters of a line of input that are shown.
const INPUT: usize = 100;

/// A command and all that it printed.
pub(crate) struct Page {
    leaf: &'static str,
    text: String,
    /// Exit codes, as a table and as JSON; with an answer, and at all.
    answers: [BTreeSet<i32>; 2],
    exits: [BTreeSet<i32>; 2],
    /// Whether a daemon has refused it, was not there, did not answer.
    troubled: bool,
    usage: bool,
    scrub: fn(String) -> String,
}

impl Page {
    pub(crate) fn new(leaf: &'static str) -> Self {
        let (answers, exits) = Default::default();
        Self { leaf, text: String::new(), answers, exits, troubled: false, usage: false, scrub: |text| text }
    }

    /// Takes out what differs from run to run.
    pub(crate) fn scrubbed(self, scrub: fn(String) -> String) -> Self {
        Self { scrub, ..self }
    }

    pub(crate) fn leaf(&self) -> &str {
        self.leaf
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn file(&self) -> String {
        format!("{}.txt", self.leaf.replace(' ', "-"))
    }

    /// Exit codes with which it has answered in one form, and which are not shown in the other.
    pub(crate) fn one_sided(&self) -> Vec<i32> {
        let ([table, json], [tables, jsons]) = (&self.answers, &self.exits);
        table.difference(jsons).chain(json.difference(tables)).copied().collect()
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.answers[0].is_empty()
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled
    }

    pub(crate) fn has_usage(&self) -> bool {
        self.usage
    }

    /// Runs the command with these further arguments, and records what came of it.
    pub(crate) fn case(&mut self, fake: &Fake, arguments: &[&str], input: &str) -> Ran {
        let all: Vec<&str> = self.leaf.split(' ').chain(arguments.iter().copied()).collect();
        self.record(fake, &all, &mut fake.tool(&all), input)
    }

    fn record(&mut self, fake: &Fake, typed: &[&str], tool: &mut Command, input: &str) -> Ran {
        let ran = run(tool, input);
        assert!(ran.code.is_some_and(|code| code < 5), "{ran:?}");
        // Help and scripts have one form; an answer is counted where it was given.
        let json = typed.windows(2).any(|pair| pair == ["--output", "json"]);
        self.exits[usize::from(json)].extend(ran.code);
        if !ran.stdout.is_empty() {
            self.answers[usize::from(json)].extend(ran.code);
        }
        self.usage |= ran.code == Some(2);
        let quoted = |word: &&str| {
            if word.contains(' ') || word.contains('"') { format!("'{word}'") } else { (*word).to_owned() }
        };
        let mut text = format!("$ passportctl {}\n", typed.iter().map(quoted).collect::<Vec<_>>().join(" "));
        for line in input.lines() {
            let cut: String = line.chars().take(INPUT).collect();
            text.push_str(&format!("< {cut}{}\n", if cut == line { "" } else { "…" }));
        }
        text.push_str(&ran.stdout);
        if !ran.stdout.is_empty() && !ran.stdout.ends_with('\n') {
            text.push_str("[no newline]\n");
        }
        for line in ran.stderr.lines() {
            text.push_str(format!("2> {line}").trim_end());
            text.push('\n');
        }
        text.push_str(&format!("[exit {}]\n\n", ran.code.unwrap()));
        let text = text.replace(fake.path("").to_str().unwrap(), "/run/fake/");
        let text = text.replace(&fake.metrics.to_string(), "127.0.0.1:9909");
        // Who runs the tests.
        let text = text.replace(&format!("uid {}\n", nix::unistd::geteuid()), "uid UID\n");
        self.text.push_str(&(self.scrub)(text));
        ran
    }

    /// As a table and as JSON.
    pub(crate) fn both(&mut self, fake: &Fake, arguments: &[&str], input: &str) {
        self.case(fake, &[arguments, &["--output", "table"]].concat(), input);
        self.case(fake, &[arguments, &["--output", "json"]].concat(), input);
    }

    /// What a daemon makes of it that refuses, one that does not answer, and one that is not there.
    pub(crate) fn troubles(&mut self, fake: &Fake, arguments: &[&str], input: &str) {
        self.troubled = true;
        fake.close(true);
        self.case(fake, arguments, input);
        fake.close(false);
        let held = fake.hold();
        self.text.push_str("(no answer)\n");
        self.case(fake, &[arguments, &["--timeout", "0.2"]].concat(), input);
        drop(held);
        let all: Vec<&str> = self.leaf.split(' ').chain(arguments.iter().copied()).collect();
        let mut tool = fake.tool(&all);
        tool.env("PASSPORTCTL_SOCKET", fake.path("none.sock"));
        tool.env("PASSPORTCTL_ADMIN_SOCKET", fake.path("none.sock"));
        self.text.push_str("(no daemon)\n");
        self.record(fake, &all, &mut tool, input);
    }

    /// An argument that it does not have.
    pub(crate) fn misused(mut self, fake: &Fake) -> Self {
        self.case(fake, &["--nonsense"], "");
        self
    }
}

pub(crate) fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli").join(file)
}

/// Compares each text with its file, and says all that differ.
pub(crate) fn compare(texts: &[(String, String)]) {
    let mut differ = Vec::new();
    for (file, text) in texts {
        let path = golden(file);
        if std::env::var_os("PASSPORTD_BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        let recorded = std::fs::read_to_string(&path).unwrap_or_default();
        if recorded != *text {
            let pair = recorded.lines().zip(text.lines()).find(|(old, new)| old != new);
            let (old, new) = pair.unwrap_or(("(another length)", "(another length)"));
            differ.push(format!("{file}:\n  was {old}\n  now {new}"));
        }
    }
    assert!(
        differ.is_empty(),
        "if it is meant, run with PASSPORTD_BLESS=1 and look at the difference:\n{}",
        differ.join("\n")
    );
}

/// Every number becomes `N`, unless it is a part of a name.
pub(crate) fn numbers(text: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in text.chars() {
        let inside = before == 'N' && (c.is_ascii_digit() || c == '.');
        let starts = c.is_ascii_digit() && !before.is_ascii_alphanumeric();
        if !inside {
            before = if starts { 'N' } else { c };
            out.push(before);
        }
    }
    out
}

/// Replaces what stands between each `before` and the next `after`.
pub(crate) fn between(text: &str, before: &str, after: &str, by: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once(before) {
        out.push_str(head);
        out.push_str(before);
        rest = match tail.split_once(after) {
            Some((_, end)) => {
                out.push_str(by);
                out.push_str(after);
                end
            }
            None => tail,
        };
    }
    out + rest
}
