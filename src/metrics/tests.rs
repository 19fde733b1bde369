use std::io::Write;
use std::process::{Command, Stdio};

use super::family::MAX_NAMED;
use super::*;
use crate::wire::{AdminOp, ServiceOp};

const WORDS: Words = Words { key_states: &["staged", "active"], ledger_events: &["issue", "reload"] };

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.render().unwrap()).unwrap()
}

/// The value of one series, written as it is rendered.
fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn every_series_is_there_from_the_start_at_zero() {
    let text = text(&Metrics::new(WORDS).unwrap());
    for series in [
        "passport_ops_total{alg=\"Ed25519\",op=\"verify\",result=\"ok\"}",
        "passport_failures_total{reason=\"verify_failed\"}",
        "passport_requests_total{code=\"ok\",op=\"whoami\"}",
        "passport_requests_total{code=\"internal\",op=\"undrain\"}",
        "passport_op_latency_seconds_count{op=\"issue_batch\"}",
        "svc_passport_issue_latency_seconds_count",
        "ekey_issue_total{template=\"other\"}",
        "ekey_issue_latency_seconds_count",
        "ekey_verify_success_total",
        "passport_batch_len_count",
        "passport_body_size_bytes_count",
        "passport_cache_items{kind=\"vk\"}",
        "passport_vk_cache_hits_total",
        "passport_vk_cache_misses_total",
        "passport_jwks_cache_hits_total",
        "passport_jwks_cache_misses_total",
        "passport_rotations_total",
        "passport_keys{state=\"staged\"}",
        "svc_passport_dependency_up{dep=\"kms\"}",
        "passport_issuance_blocked_total{reason=\"clock_suspect\"}",
        "busy_rejections_total{endpoint=\"verify_batch\"}",
        "passport_connections{socket=\"admin\"}",
        "passport_audit_lag_seconds",
        "passport_signer_restarts_total",
        "passport_mode{mode=\"hsm\"}",
        "ledger_events_total{type=\"reload\"}",
    ] {
        assert_eq!(value(&text, series), Some(0.0), "{series}");
    }
    assert_eq!(value(&text, "passport_policy_info{hash=\"none\"}"), Some(1.0));
    assert!(text.contains("passport_build_info{version=\"0.1.0\",wire=\"1\"} 1"), "{text}");
}

/// A key must reach its own series and no other: each is raised by its own number and read back from the text.
#[test]
fn every_key_counts_in_its_own_series() {
    let metrics = Metrics::new(WORDS).unwrap();
    let mut expected = Vec::new();
    for op in Op::all() {
        for answer in Answer::all() {
            let amount = u32::try_from(expected.len()).unwrap() + 1;
            metrics.requests.at((op, answer)).inc_by(amount.into());
            expected
                .push((format!("passport_requests_total{{code=\"{}\",op=\"{}\"}}", answer.name(), op.name()), amount));
        }
    }
    for act in Act::all() {
        for outcome in Outcome::all() {
            for alg in Alg::all() {
                let amount = u32::try_from(expected.len()).unwrap() + 1;
                metrics.ops.at((act, outcome, alg)).inc_by(amount.into());
                let [act, outcome, alg] = [act.name(), outcome.name(), alg.name()];
                expected
                    .push((format!("passport_ops_total{{alg=\"{alg}\",op=\"{act}\",result=\"{outcome}\"}}"), amount));
            }
        }
    }
    for code in Code::ALL {
        let amount = u32::try_from(expected.len()).unwrap() + 1;
        metrics.failures.at(code).inc_by(amount.into());
        expected.push((format!("passport_failures_total{{reason=\"{}\"}}", code.name()), amount));
    }
    let text = text(&metrics);
    for (series, amount) in expected {
        assert_eq!(value(&text, &series), Some(f64::from(amount)), "{series}");
    }
}

#[test]
fn counts_and_places_agree() {
    fn check<L: Label + std::fmt::Debug>() {
        let places: Vec<_> = L::all().into_iter().map(Label::place).collect();
        assert_eq!(places, (0..L::COUNT).collect::<Vec<_>>());
    }
    check::<Op>();
    check::<Answer>();
    check::<Code>();
    check::<Outcome>();
    check::<Endpoint>();
    check::<Dependency>();
}

#[test]
fn a_verdict_reason_is_no_problem() {
    assert_eq!(Answer::problem(Code::Busy).name(), "busy");
    assert_eq!(Answer::problem(Code::Expired).name(), "internal", "counted, and visible as a defect");
    assert_eq!(Blocked::of(Code::OpDenied), None);
    // What blocks is counted by the code that the peer is told, so each has the name of its own.
    for why in Blocked::all() {
        let code = Code::ALL.into_iter().find(|code| code.name() == why.name()).unwrap();
        assert_eq!(Blocked::of(code), Some(why));
    }
}

#[test]
fn operations_have_the_names_of_the_wire() {
    assert_eq!(Op::service(&ServiceOp::IssueBatch(Vec::new())).name(), "issue_batch");
    assert_eq!(Op::admin(&AdminOp::PauseIssue { reason: "" }).name(), "pause_issue");
}

#[test]
fn an_answer_is_counted_and_timed() {
    let metrics = Metrics::new(WORDS).unwrap();
    metrics.answered(Op::Verify, Answer::OK, Duration::from_micros(80));
    metrics.answered(Op::Verify, Answer::problem(Code::Busy), Duration::from_secs(20));
    let text = text(&metrics);
    assert_eq!(value(&text, "passport_requests_total{code=\"busy\",op=\"verify\"}"), Some(1.0));
    assert_eq!(value(&text, "passport_op_latency_seconds_bucket{op=\"verify\",le=\"0.0001\"}"), Some(1.0));
    assert_eq!(value(&text, "passport_op_latency_seconds_count{op=\"verify\"}"), Some(2.0));
}

#[test]
fn the_mode_and_the_policy_have_one_series_in_force() {
    let metrics = Metrics::new(WORDS).unwrap();
    metrics.set_mode(Mode::Amnesia);
    metrics.set_mode(Mode::Hsm);
    metrics.set_policy(&[0xab; 32]);
    metrics.set_policy(&[0xcd; 32]);
    let text = text(&metrics);
    assert_eq!(value(&text, "passport_mode{mode=\"hsm\"}"), Some(1.0));
    assert_eq!(value(&text, "passport_mode{mode=\"amnesia\"}"), Some(0.0));
    assert_eq!(text.matches("passport_policy_info{").count(), 1);
    assert_eq!(value(&text, &format!("passport_policy_info{{hash=\"{}\"}}", "cd".repeat(32))), Some(1.0));
}

#[test]
fn names_of_a_policy_have_series_and_their_number_is_bounded() {
    let metrics = Metrics::new(WORDS).unwrap();
    metrics.ekey_issues.announce(["demo", "api"]);
    metrics.ekey_issues.at("demo").inc();
    metrics.ekey_issues.announce(["demo", "new"]);
    metrics.ekey_issues.at("stranger").inc();
    let names: Vec<_> = (0..5000).map(|n| format!("t{n}")).collect();
    metrics.ekey_issues.announce(names.iter().map(String::as_str));
    metrics.ekey_issues.at("t4999").inc();
    let text = text(&metrics);
    for (name, count) in [("demo", 1.0), ("api", 0.0), ("new", 0.0), ("t0", 0.0), ("other", 2.0)] {
        assert_eq!(value(&text, &format!("ekey_issue_total{{template=\"{name}\"}}")), Some(count), "{name}");
    }
    assert!(!text.contains("stranger"));
    // Beside `other`; three of them were there before.
    assert_eq!(text.matches("ekey_issue_total{").count(), MAX_NAMED + 1);
    assert!(text.contains("{template=\"t1020\"}") && !text.contains("{template=\"t1021\"}"));
}

#[test]
fn an_unknown_word_makes_no_series() {
    let metrics = Metrics::new(WORDS).unwrap();
    metrics.ledger_events.at("made up").inc();
    let text = text(&metrics);
    assert!(!text.contains("made up"));
    assert_eq!(value(&text, "ledger_events_total{type=\"other\"}"), Some(1.0));
}

#[test]
fn promtool_finds_nothing_to_say() {
    let metrics = Metrics::new(WORDS).unwrap();
    metrics.set_policy(&[1; 32]);
    metrics.answered(Op::Issue, Answer::OK, Duration::from_millis(1));
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        crate::skipped::skipped("promtool is not installed (package prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(&metrics.render().unwrap()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}
