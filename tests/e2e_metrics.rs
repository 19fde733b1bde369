//! `docs/METRICS.md` against what a daemon in use exports, and the recording rules against both.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use passportd::wire::Code;
use support::document::assert_written;
use support::passports::{demo, for_demo};
use support::{House, Options, skipped};

const DOCUMENT: &str = "docs/METRICS.md";
const RULES: &str = "systemd/prometheus/passportd.rules.yml";
const RULE_TESTS: &str = "systemd/prometheus/passportd.rules.test.yml";
/// Labels whose values depend on the build or the policy.
const CHANGING: [(&str, &str); 2] = [("hash", "64 hex digits"), ("version", "the release")];

/// The names that the design promises, spelt out; labels in braces.
const PROMISED: &str = "passport_ops_total{op,result,alg} passport_failures_total{reason} passport_op_latency_seconds{op} \
    passport_batch_len passport_cache_items{kind} passport_verify_cache_hits_total passport_verify_cache_misses_total \
    passport_verify_cache_hit_ratio passport_vk_cache_hits_total passport_vk_cache_misses_total \
    passport_jwks_cache_hits_total passport_jwks_cache_misses_total passport_rotations_total passport_keys{state} \
    passport_requests_total{op,code} svc_passport_dependency_up{dep} svc_passport_issue_latency_seconds \
    passport_issuance_blocked_total{reason} busy_rejections_total{endpoint} revocation_propagation_seconds \
    bus_overflow_dropped_total bus_lagged_total passport_body_size_bytes passport_mode{mode} \
    passport_tickets_issued_total passport_tickets_expired_total passport_tickets_invalid_total passport_tickets_active \
    passport_watchers passport_stream_openings_total{by} ekey_issue_latency_seconds ekey_issue_total{template} \
    ekey_verify_success_total ekey_verify_replay_blocked_total ekey_verify_invalid_proof_total \
    ledger_events_total{type} passport_audit_lag_seconds passport_signer_restarts_total passport_policy_info{hash} \
    passport_build_info";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// One name, as it is exported.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeMap<String, BTreeSet<String>>,
}

/// Reads the text format 0.0.4.
fn parse(text: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            metrics.entry(name.to_owned()).or_default().help = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let base = base.filter(|base| metrics.contains_key(*base)).unwrap_or(name);
            let metric = metrics.get_mut(base).unwrap_or_else(|| panic!("{line}: without HELP and TYPE before it"));
            for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once('=').unwrap();
                if label != "le" {
                    metric.labels.entry(label.to_owned()).or_default().insert(value.trim_matches('"').to_owned());
                }
            }
        }
    }
    metrics
}

/// What a daemon exports that has done something of everything.
fn exported() -> BTreeMap<String, Metric> {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    raw.verify_batch(for_demo(), &[passport.clone(), passport]).unwrap();
    let (status, text) = house.get("/metrics");
    assert_eq!(status, 200);
    parse(&text)
}

fn table(metrics: &BTreeMap<String, Metric>) -> String {
    let mut out = String::from("| name | type | labels and their values | meaning |\n|---|---|---|---|\n");
    for (name, Metric { kind, help, labels }) in metrics {
        let labels = labels.iter().map(|(label, values)| {
            let changing = CHANGING.iter().find(|(changing, _)| changing == label);
            let values: Vec<_> = values.iter().map(String::as_str).collect();
            let values = changing.map_or_else(|| values.join(" "), |(_, what)| (*what).to_owned());
            format!("`{label}`: {values}")
        });
        let labels: Vec<_> = labels.collect();
        writeln!(out, "| `{name}` | {kind} | {} | {help} |", labels.join("<br>")).unwrap();
    }
    out
}

/// A row of the table of older names: labels, and what becomes of it.
type Older = BTreeMap<String, (String, String)>;

fn older_names() -> Older {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let (_, rest) = text.split_once("| older name |").unwrap();
    let (rows, _) = rest.split_once("\n\n").unwrap();
    let rows = rows.lines().skip(2).map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let labels = cells[2].replace(['`', ' '], "");
        (cells[1].trim_matches('`').to_owned(), (labels, cells[3].to_owned()))
    });
    rows.collect()
}

/// The records of the rules, and the names that their expressions use.
fn rules() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join(RULES)).unwrap();
    let after = |line: &str, key: &str| line.trim().trim_start_matches("- ").strip_prefix(key).map(str::to_owned);
    let lines: Vec<_> = text.lines().collect();
    let pairs = lines.windows(2).filter_map(|pair| Some((after(pair[0], "record: ")?, after(pair[1], "expr: ")?)));
    let rules: BTreeMap<_, _> = pairs.collect();
    assert_eq!(rules.len(), text.matches("record:").count(), "each record is followed by its expression");
    rules
}

/// A histogram's name without its suffix.
fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

#[test]
fn the_document_says_what_is_exported() {
    let metrics = exported();
    assert_written(DOCUMENT, "exported", &table(&metrics));
    for (name, metric) in &metrics {
        assert!(!metric.help.is_empty() && !metric.kind.is_empty(), "{name}");
    }
    let (older, rules) = (older_names(), rules());
    let promised: BTreeMap<_, _> = PROMISED
        .split_whitespace()
        .map(|name| name.split_once('{').map_or((name, ""), |(name, labels)| (name, labels.trim_end_matches('}'))))
        .collect();
    assert_eq!(older.keys().map(String::as_str).collect::<Vec<_>>(), promised.keys().copied().collect::<Vec<_>>());
    for (name, (labels, now)) in &older {
        assert_eq!(promised[name.as_str()], labels, "labels of {name}");
        let (there, recorded) = (metrics.get(name), rules.keys().any(|record| base(record) == name));
        let fits = match now.as_str() {
            "same" => there.is_some() && !recorded,
            "rule" => there.is_none() && recorded,
            "service" => there.is_none() && !recorded,
            _ => now.starts_with("from: ") && there.is_none() && !recorded,
        };
        assert!(fits, "{name} is marked {now:?}; exported: {}, in the rules: {recorded}", there.is_some());
        let wanted: BTreeSet<_> = labels.split(',').filter(|label| !label.is_empty()).collect();
        if let Some(metric) = there.filter(|_| name != "passport_build_info") {
            assert_eq!(metric.labels.keys().map(String::as_str).collect::<BTreeSet<_>>(), wanted, "{name}");
        }
    }
}

/// The names of ours in an expression.
fn used(expression: &str) -> Vec<&str> {
    let names = expression.split(|c: char| !c.is_alphanumeric() && c != '_');
    names.filter(|name| name.contains("passport_") || name.ends_with("_total")).collect()
}

/// A series that an expression selects: its name, and its labels with the values that are wanted or not.
type Selected<'e> = (&'e str, Vec<(&'e str, &'e str)>);

/// The series of ours in an expression, and what they are selected by.
fn selected(expression: &str) -> Vec<Selected<'_>> {
    let pair = |pair| {
        let (label, value) = str::split_once(pair, '=').unwrap();
        assert!(!value.starts_with('~') && !label.ends_with(['~']), "no pattern is read here: {expression}");
        (label.trim_end_matches('!'), value.trim_matches('"'))
    };
    let one = |name| {
        let (_, rest) = expression.split_once(name).unwrap();
        let labels = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
        (name, labels.split(',').filter(|pair| !pair.is_empty()).map(pair).collect())
    };
    used(expression).into_iter().map(one).collect()
}

/// What is over a name, a label or a value that is not exported says nothing, and nobody would notice.
#[track_caller]
fn assert_exported(metrics: &BTreeMap<String, Metric>, expression: &str) -> usize {
    let all = selected(expression);
    for (name, labels) in &all {
        let metric = metrics.get(base(name)).unwrap_or_else(|| panic!("{expression}: {name} is not exported"));
        for (label, value) in labels {
            let values = metric.labels.get(*label).unwrap_or_else(|| panic!("{expression}: {name} has no {label}"));
            assert!(values.contains(*value), "{expression}: {label} is never {value:?}");
        }
    }
    all.len()
}

#[test]
fn alerts_are_over_what_is_exported() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let (_, rest) = text.split_once("| query | says |\n|---|---|\n").unwrap();
    let (rows, _) = rest.split_once("\n\n").unwrap();
    let metrics = exported();
    let queries: Vec<_> = rows.lines().map(|row| row.split('`').nth(1).unwrap()).collect();
    assert!(queries.len() >= 7, "{queries:?}");
    for query in queries {
        // Prometheus itself has that name, for each target.
        assert!(assert_exported(&metrics, query) == 1 || query.starts_with("up{"), "{query}");
    }
}

#[test]
fn rules_use_what_is_exported() {
    let metrics = exported();
    for (record, expression) in rules() {
        assert!(assert_exported(&metrics, &expression) >= 1, "{record}: {expression}");
    }
}

#[test]
fn selectors_are_read_whole() {
    let (name, labels) = selected("rate(passport_x_total{code=\"internal\",dep!=\"a\"}[5m]) > 0").remove(0);
    assert_eq!((name, labels), ("passport_x_total", vec![("code", "internal"), ("dep", "a")]));
    assert_eq!(selected("passport_lag > 1"), [("passport_lag", Vec::new())]);
    assert!(selected("up{job=\"passportd\"} == 0").is_empty());
}

/// The words in backquotes of a cell, but for what stands in brackets or behind a semicolon.
fn named(cell: &str) -> BTreeSet<String> {
    let cell = cell.split("; `shared`").next().unwrap();
    let outside: String = cell.split('(').map(|part| part.split_once(')').map_or(part, |(_, rest)| rest)).collect();
    outside.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_table_of_labels_says_what_they_are() {
    let text = fs::read_to_string(root().join(DOCUMENT)).unwrap();
    let (_, rows) = text.split_once("| label | of | now |\n|---|---|---|\n").unwrap();
    let (metrics, older) = (exported(), older_names());
    let codes: BTreeSet<_> = Code::ALL.into_iter().map(|code| code.name().to_owned()).collect();
    let (mut described, mut later) = (BTreeSet::new(), BTreeSet::new());
    for row in rows.lines() {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let (label, names, now) = (cells[1].trim_matches('`'), named(cells[2]), cells[3]);
        for name in names {
            assert!(described.insert((name.clone(), label.to_owned())), "twice: {row}");
            if now.starts_with("from: ") {
                assert!(older[&name].1.starts_with("from: "), "{row}");
                later.insert((name, label.to_owned()));
                continue;
            }
            let (values, said) = (&metrics[&name].labels[label], named(now));
            if now.contains("a code of WIRE.md") {
                let others: BTreeSet<_> = values.difference(&codes).cloned().collect();
                assert_eq!(others, said, "{row}: beside codes");
            } else if said.len() > 1 {
                assert_eq!(*values, said, "{row}");
            } else {
                assert!(said.is_subset(values), "{row}: {values:?}");
            }
        }
    }
    let dep = &metrics["svc_passport_dependency_up"].labels["dep"];
    assert!(rows.contains("`shared` is from: ") && !dep.contains("shared"), "{dep:?}");
    let all = older.iter().filter(|(_, (_, now))| now == "same" || now.starts_with("from: "));
    let all = all.flat_map(|(name, (labels, _))| {
        labels.split(',').filter(|label| !label.is_empty()).map(|label| (name.clone(), label.to_owned()))
    });
    assert_eq!(described, all.collect(), "each label of each name has its row, and no other");
    assert!(later.is_empty(), "{later:?}");
}

#[test]
fn promtool_agrees_with_the_rules() {
    for (what, file) in [("check", RULES), ("test", RULE_TESTS)] {
        let path: PathBuf = root().join(file);
        let Ok(output) = Command::new("promtool").args([what, "rules"]).arg(&path).output() else {
            return skipped("promtool is not installed (package prometheus)");
        };
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
    }
}
