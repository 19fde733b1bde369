//! The bars of the main job, over a real daemon and a real SoftHSM: a table, and `bench.json` in the target directory.
//!
//! Machines are noisy, so a bar is a ratio of two figures that are taken in turns, round by round; its value is the
//! median of the rounds' ratios.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program of the bench's"
)]
#![expect(clippy::indexing_slicing, clippy::print_stderr, reason = "as above; the harness it borrows is a test's")]

#[expect(dead_code, reason = "shared by several tests")]
#[path = "../../tests/support/mod.rs"]
mod support;

mod audited;
mod auditing;
mod bars;
mod custody;
mod fair;
mod fast;
mod idle;
mod meaning;
mod propagation;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bars::{Bar, group, groups, median, report};
use passportd::hsm::bench::{RawKey, raw_sign_rate};
use passportd::hsm::{ModuleConfig, TokenChoice};
use passportd::secret::Pin;
use serde_json::{Value, json};
use support::options::POLICY;
use support::softhsm::token::Token;
use support::softhsm::{LABEL, PIN, SoftHsm};
use support::{House, Options};

/// Tells this program to measure the module alone and print its rate.
const RAW: &str = "PASSPORTD_BENCH_RAW_SESSIONS";
/// With a key in the session, not in the store.
const RAW_SESSION_KEY: &str = "PASSPORTD_BENCH_RAW_SESSION_KEY";
/// Which module that is.
const RAW_MODULE: &str = "PASSPORTD_BENCH_RAW_MODULE";
/// Rounds of each comparison.
const ROUNDS: usize = 5;
/// Length of one figure.
const SECONDS: u64 = 2;
/// Sessions of the signer and of the raw figure alike.
const SESSIONS: usize = 1;

/// Fails when a bar is not reached or could not be measured, once all others are measured and written.
fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return ExitCode::SUCCESS;
    }
    if let Ok(sessions) = std::env::var(RAW) {
        println!("{}", raw(sessions.parse().unwrap(), std::env::var_os(RAW_MODULE).unwrap().into()));
        return ExitCode::SUCCESS;
    }
    if let Ok(kind) = std::env::var(fair::FLOOD) {
        fair::flood(&kind);
        return ExitCode::SUCCESS;
    }
    if bars::wanted().is_none() {
        // What an earlier run measured says nothing of this one.
        drop(std::fs::remove_file(target()));
    }
    let Some(hsm) = SoftHsm::new() else {
        eprintln!("error: nothing is measured without a SoftHSM");
        return ExitCode::FAILURE;
    };
    let options = Options::default().policy(&(POLICY.to_owned() + &fair::rules()));
    let options = options.set("hsm.sessions", i64::try_from(SESSIONS).unwrap());
    let mut bars = groups("house", || on_one_house(&options, &hsm));
    bars.extend(group("audit_verify", || vec![auditing::million()]));
    bars.extend(groups("audited", || audited::bars(&options, &hsm)));
    bars.extend(group("idle", || vec![idle::ten_thousand()]));
    bars.extend(groups("custody", || custody::bars(&options, &hsm)));
    bars.extend(groups("meaning", || meaning::bars(&options)));
    bars.extend(groups("propagation", || propagation::bars(&options)));
    bars.extend(groups("fast", || fast::bars(options.clone())));
    report(&bars, Path::new(&target()));
    if bars.iter().all(|bar| bar.pass) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The bars of a daemon as it is set up by default.
fn on_one_house(options: &Options, hsm: &SoftHsm) -> Vec<Bar> {
    let mut house = House::start(options.clone());
    let mut bars = group("issue", || vec![issue(&house, hsm)]);
    bars.extend(group("verify", || vec![verify(&house)]));
    bars.extend(group("working_day", || working_day(&house)));
    bars.extend(group("footprint", || vec![footprint(&house)]));
    bars.extend(fair::bars(&house));
    bars.extend(group("start", || vec![start(&mut house)]));
    bars
}

/// Issue throughput of eight pipelined clients, audit on, against the module's own rate with as many sessions.
fn issue(house: &House, hsm: &SoftHsm) -> Bar {
    let mut ratios = Vec::new();
    println!("round  raw C_Sign/s  the same, session key  issued/s  ratio  front us  signer us");
    for round in 1..=ROUNDS {
        let [raw, of_session] = [RawKey::Token, RawKey::Session].map(|key| raw_figure(hsm, key));
        let ours = ctl(house, &["bench", "issue", "--connections", "8", "--in-flight", "8"]);
        assert_eq!(ours["errors"], 0, "{ours}");
        let rate = ours["per_second"].as_f64().unwrap();
        let (front, signer) = (&ours["front_cpu_us_per_item"], &ours["signer_cpu_us_per_item"]);
        let ratio = rate / raw;
        println!("{round:5}  {raw:12.0}  {of_session:21.0}  {rate:8.0}  {ratio:5.2}  {front:8}  {signer:9}");
        ratios.push(rate / raw);
    }
    let value = median(ratios);
    Bar::new("issue_of_raw_c_sign", value, "ratio", ">= 0.65", value >= 0.65)
}

/// One verification at a time, against a bare echo of the same sizes and one `verify_strict`.
fn verify(house: &House) -> Bar {
    let ours = ctl(house, &["bench", "verify", "--compare", "--seconds", "10"]);
    println!(
        "one verify at a time: p50 {} us; echo p50 {} us; verify_strict {} us", //
        ours["p50_us"], ours["echo_p50_us"], ours["verify_strict_us"]
    );
    let value = ours["ratio"].as_f64().unwrap();
    Bar::new("verify_p50_of_echo_and_strict", value, "ratio", "<= 1.25", value <= 1.25)
}

/// 500 issues and 5,000 verifications a second, side by side: what callers wait, and what the machine has left.
fn working_day(house: &House) -> Vec<Bar> {
    let ours = ctl(house, &["bench", "mixed", "--connections", "4", "--seconds", "30"]);
    println!("at 500 issues and 5,000 verifications a second: {ours}");
    assert_eq!((&ours["issue_errors"], &ours["verify_errors"]), (&json!(0), &json!(0)), "{ours}");
    let number = |name: &str| ours[name].as_f64().unwrap();
    let millis = |name: &str, figure, bar, most| {
        let value = number(figure) / 1000.0;
        Bar::new(name, value, "ms", bar, value <= most)
    };
    let left = number("cpu_idle_percent");
    vec![
        millis("slo_issue_p95", "issue_p95_us", "<= 40", 40.0),
        millis("slo_issue_p99", "issue_p99_us", "<= 100", 100.0),
        millis("slo_verify_p95", "verify_p95_us", "<= 10", 10.0),
        Bar::new("slo_cpu_headroom", left, "%", ">= 30", left >= 30.0),
    ]
}

/// Resident memory of both processes after the load has gone.
fn footprint(house: &House) -> Bar {
    let status = ctl(house, &["status"]);
    let mib = |role: &str| status["processes"][role]["rss_kib"].as_f64().unwrap() / 1024.0;
    let (front, signer) = (mib("front"), mib("signer"));
    println!("resident: front {front:.1} MiB, signer {signer:.1} MiB");
    let value = front + signer;
    Bar::new("rss_idle", value, "MiB", "<= 40", value <= 40.0)
}

/// From the start of `run` to `readyz`, with keys.
fn start(house: &mut House) -> Bar {
    let times = (0..ROUNDS).map(|_| {
        house.stop();
        let begun = Instant::now();
        house.boot();
        house.wait_ready();
        begun.elapsed().as_secs_f64()
    });
    let value = median(times.collect());
    Bar::new("start_to_ready", value, "s", "<= 1", value <= 1.0)
}

/// Where the bars are written.
fn target() -> String {
    std::env::var("PASSPORTD_BENCH_JSON").unwrap_or_else(|_| "target/bench.json".to_owned())
}

/// `passportctl`, told where the house is; its JSON.
fn ctl(house: &House, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.args(arguments).args(["--output", "json"]);
    if arguments.get(1) == Some(&"issue") && !arguments.contains(&"--seconds") {
        command.args(["--seconds", &SECONDS.to_string()]);
    }
    command.env("PASSPORTCTL_SOCKET", house.socket()).env("PASSPORTCTL_ADMIN_SOCKET", house.admin_socket());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The module's own rate, in a process of its own: this one's environment can't name another token. The signer's keys are stored
/// ones; a module may look at its store for each signature, and SoftHSM then takes a tenth longer.
fn raw_figure(token: &Token, key: RawKey) -> f64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(RAW_MODULE, token.hsm().module());
    if key == RawKey::Session {
        command.env(RAW_SESSION_KEY, "1");
    }
    let output = token.apply(&mut command).env(RAW, SESSIONS.to_string()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("a rate")
}

fn raw(sessions: usize, module: PathBuf) -> f64 {
    let key = if std::env::var_os(RAW_SESSION_KEY).is_some() { RawKey::Session } else { RawKey::Token };
    let config = ModuleConfig {
        fleeting: None,
        module,
        token: TokenChoice { label: Some(LABEL.to_owned()), ..TokenChoice::default() },
        sessions,
        op_timeout: Duration::from_secs(5),
        login_timeout: Duration::from_secs(60),
        max_stuck: 4,
        keepalive: None,
        recycle_kib: None,
        queue: 1,
        state_dir: std::env::temp_dir(),
        store: None,
        module_config: None,
        module_env: String::new(),
    };
    let pin = Pin::take(&mut PIN.as_bytes().to_vec()).unwrap();
    raw_sign_rate(&config, &pin, sessions, Duration::from_secs(SECONDS), key).unwrap()
}
