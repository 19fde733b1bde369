//! The conformance suite's data: complete, and in the form that its README specifies. `tests/e2e_conformance.rs` runs it.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use passportd::wire::Code;
use passportd::wire::problem::Use;
use serde_json::Value;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn cases() -> Vec<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let read = |path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap();
    files.flat_map(|path| read(path)["cases"].as_array().unwrap().clone()).collect()
}

fn steps(case: &Value) -> impl Iterator<Item = &Value> {
    ["steps", "finally"].into_iter().filter_map(|part| case[part].as_array()).flatten()
}

/// Whether a step speaks with the admin socket, by whatever door.
fn of_admins(step: &Value) -> bool {
    step["on"].as_str().is_some_and(|on| on == "admin" || on.starts_with("admin-"))
}

/// Every name and value of members, however deep.
fn members<'v>(value: &'v Value, found: &mut Vec<(&'v str, &'v Value)>) {
    match value {
        Value::Object(members_here) => {
            for (name, member) in members_here {
                found.push((name, member));
                members(member, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, found)),
        _ => {}
    }
}

/// The last parts of the names of members in `part` of every step of a socket, with the values.
fn members_of(cases: &[Value], part: &str, admin: bool) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for step in cases.iter().flat_map(steps).filter(|step| of_admins(step) == admin) {
        members(&step[part], &mut found);
    }
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    found.into_iter().map(|(name, value)| (last(name), value.clone())).collect()
}

/// The first cells of the rows under a heading of the README that starts with this word.
fn left_out(word: &str) -> Vec<(String, String)> {
    let readme = text("tests/conformance/README.md");
    let (_, rest) = readme.split_once("## What no case shows").unwrap();
    let (_, table) = rest.split_once(&format!("| {word} | why |\n| --- | --- |\n")).unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    let cells = |line: &str| {
        let (name, why) = line.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        (name.trim_matches('`').to_owned(), why.to_owned())
    };
    rows.map(cells).collect()
}

/// The variants of an enum, from the tables of WIRE.md.
fn variants(name: &str) -> BTreeSet<String> {
    let wire = text("docs/WIRE.md");
    let (_, rest) = wire.split_once(&format!("#### {name} (enum)")).unwrap();
    let table = rest.split_once("####").map_or(rest, |(table, _)| table).split("<!--").next().unwrap();
    let names = table.lines().filter_map(|line| Some(line.split_once("| **")?.1.split_once("**")?.0.to_owned()));
    names.collect()
}

#[test]
fn every_code_in_every_use_has_a_case_or_a_reason_for_having_none() {
    let cases = cases();
    let (mut verdicts, mut problems) = (BTreeSet::new(), BTreeSet::new());
    for (name, value) in [members_of(&cases, "expect", false), members_of(&cases, "expect", true)].concat() {
        let into = match name.as_str() {
            "Refused" | "reason" => &mut verdicts,
            "code" => &mut problems,
            _ => continue,
        };
        // One that may come beside others is not shown by that.
        into.extend(value.as_str().map(str::to_owned));
    }
    let mut missing = BTreeSet::new();
    for code in Code::ALL {
        let name = code.name().to_owned();
        let verdict = matches!(code.used_as(), Use::Verdict | Use::Both) && !verdicts.contains(&name);
        let problem = matches!(code.used_as(), Use::Problem | Use::Both) && !problems.contains(&name);
        missing.extend(verdict.then(|| (name.clone(), "verdict")));
        missing.extend(problem.then_some((name, "problem")));
    }
    let listed = left_out("code");
    let reasons = listed.iter().map(|(name, why)| {
        let (used_as, why) = why.split_once(": ").unwrap();
        assert!(why.len() > 10, "{name}: a reason, not {why:?}");
        (name.clone(), used_as)
    });
    assert_eq!(missing, reasons.collect(), "left: codes without a case; right: the README's list");
    let known: BTreeSet<_> = Code::ALL.into_iter().map(|code| code.name().to_owned()).collect();
    assert_eq!(verdicts.union(&problems).find(|name| !known.contains(*name)), None, "a code that there is not");
}

#[test]
fn every_operation_has_a_case_and_every_answer_too() {
    let cases = cases();
    let names = |part, admin| -> BTreeSet<String> {
        members_of(&cases, part, admin).into_iter().map(|(name, _)| name).collect()
    };
    // `ok.Issued.claims` names the answer in the middle.
    let named = |admin, answer: &str| {
        let path = format!("ok.{answer}");
        let whole = |(name, _): &(&str, &Value)| *name == path || name.starts_with(&format!("{path}."));
        let mut found = Vec::new();
        cases
            .iter()
            .flat_map(steps)
            .filter(|step| of_admins(step) == admin)
            .for_each(|step| members(&step["expect"], &mut found));
        found.iter().any(whole)
    };
    for (admin, ops, answers) in [(false, "ServiceOp", "ServiceOk"), (true, "AdminOp", "AdminOk")] {
        let (asked, came) = (names("send", admin), names("expect", admin));
        let ops = variants(ops);
        assert!(ops.len() >= 10 && ops.is_subset(&asked), "no case for {:?}", ops.difference(&asked));
        let answers = variants(answers);
        let listed: BTreeSet<_> =
            left_out("answer").into_iter().map(|(name, _)| name).filter(|name| answers.contains(name)).collect();
        let without: BTreeSet<_> =
            answers.into_iter().filter(|name| !came.contains(name) && !named(admin, name)).collect();
        assert_eq!(without, listed, "left: answers without a case; right: the README's list");
    }
}

#[test]
fn every_case_says_what_it_shows_and_where() {
    let wire = text("docs/WIRE.md");
    for case in cases() {
        let (name, shows) = (case["name"].as_str().unwrap(), case["shows"].as_str().unwrap());
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{name}");
        let section = shows.strip_prefix('§').unwrap_or_else(|| panic!("{name}: {shows}"));
        let digits: String = section.chars().take_while(char::is_ascii_digit).collect();
        assert!(wire.contains(&format!("\n## {digits}. ")), "{name}: there is no section {digits}");
        assert!(case["steps"].as_array().is_some_and(|steps| !steps.is_empty()), "{name} does nothing");
        for step in steps(&case) {
            assert!(step["expect"] != Value::Null && step["expect"] != Value::Array(vec![]), "{name} expects nothing");
        }
    }
}

#[test]
fn what_changes_something_is_disruptive_and_leaves_things_as_they_were() {
    for case in cases() {
        let (name, mut sent) = (case["name"].as_str().unwrap(), Vec::new());
        steps(&case).for_each(|step| members(&step["send"], &mut sent));
        let sends = |op: &str| sent.iter().any(|(name, _)| *name == op);
        // A reason that is too long pauses nothing, nor does who may not.
        let refused = ["admin-pause-with-a-long-reason", "admin-narrow-op-denied", "ticket-ttl-beyond-its-bounds"]
            .contains(&name);
        let changes = ["PauseIssue", "ResumeIssue", "Drain", "Undrain", "Reload", "ReloadReport", "Stage", "TicketTtl"]
            .into_iter()
            .any(sends);
        assert_eq!(case["disruptive"] == true, changes && !refused, "{name}");
        let undone = |op: &str| case["finally"].to_string().contains(op);
        assert!(refused || !sends("PauseIssue") || undone("ResumeIssue"), "{name}");
        assert!(refused || !sends("Drain") || undone("Undrain"), "{name}");
        assert!(refused || !sends("TicketTtl") || undone("TicketTtl"), "{name}");
    }
}
