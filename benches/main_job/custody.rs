//! What custody costs: issuing against the module's own rate while nothing waits for a disk, a slow HSM's queue, secrets
//! sealed and opened, and memory over a million passports.

use serde_json::Value;

use super::bars::{Bar, group, median};
use super::ctl;
use super::support::softhsm::SoftHsm;
use super::support::softhsm::token::Token;
use super::support::{House, Hsm, Options};
use super::{RawKey, raw_figure};

const ROUNDS: usize = 5;
const KRYOPTIC: &str = "issue_of_raw_c_sign_kryoptic_ledger_on_tmpfs";
/// Of the slow HSM: what one signature takes, and its sessions.
const SLOW_MS: f64 = 100.0;
const SLOW_SESSIONS: u8 = 8;
/// Clients of it, each with one request under way.
const CLIENTS: u8 = 16;
/// The signer's own bound on a tenant, 10,000 requests a second by default, would be what is measured.
const BOUNDS: &str = "[[tenant]]\nname = \"t1\"\npurposes = [\"auth\", \"other\"]\nmax_ttl_s = 86400\nrate_per_s = 1000000\n\
                      seal_namespaces = [\"t1/*\"]\n";
/// Passports over which the front's memory is looked at, and those before.
const MILLION: f64 = 1_000_000.0;
const BEFORE: f64 = 100_000.0;

pub(super) fn bars(options: &Options, hsm: &SoftHsm) -> Vec<Bar> {
    // "Audit off" is no switch (laws L2 and L13): a ledger in memory is what comes closest.
    let memory = tempfile::Builder::new().prefix("passportd-bench-").tempdir_in("/dev/shm").unwrap();
    let ledger = memory.path().join("ledger");
    let options = &options.clone().bounds(BOUNDS);
    let house = House::start(options.clone().set("audit.dir", ledger.to_str().unwrap()));
    let name = "issue_of_raw_c_sign_ledger_on_tmpfs";
    let mut bars = group(name, || issue(name, (">= 0.85", 0.85), &house, hsm));
    for op in ["seal", "unseal"] {
        bars.extend(group(op, || vec![secrets(&house, op)]));
    }
    drop(house);
    bars.extend(group(KRYOPTIC, || issue_by_kryoptic(options)));
    bars.extend(group("front_growth_in_a_million", || vec![growth(options)]));
    bars.extend(group("issue_p99_of_ideal_queue", || vec![slow()]));
    bars
}

/// The same over the second module.
fn issue_by_kryoptic(options: &Options) -> Vec<Bar> {
    let Some(token) = Token::new(Hsm::Kryoptic) else {
        return vec![Bar::new(KRYOPTIC, f64::NAN, "", "scripts/kryoptic, as root", false)];
    };
    let memory = tempfile::Builder::new().prefix("passportd-bench-").tempdir_in("/dev/shm").unwrap();
    let ledger = memory.path().join("ledger");
    let options = options.clone().module(Hsm::Kryoptic).set("audit.dir", ledger.to_str().unwrap());
    issue(KRYOPTIC, (">= 0.75", 0.75), &House::start(options), &token)
}

/// As `issue_of_raw_c_sign`, without a disk.
fn issue(name: &str, (wanted, least): (&'static str, f64), house: &House, token: &Token) -> Vec<Bar> {
    let (mut ratios, mut own) = (Vec::new(), Vec::new());
    println!(
        "round  raw C_Sign/s  the same, session key  issued/s, ledger on tmpfs  ratio  front us  signer us  share of raw"
    );
    for round in 1..=ROUNDS {
        let [raw, of_session] = [RawKey::Token, RawKey::Session].map(|key| raw_figure(token, key));
        let ours = load(house, &["issue", "--connections", "8", "--in-flight", "8", "--seconds", "3"]);
        let (rate, signer) = (number(&ours, "per_second"), number(&ours, "signer_cpu_us_per_item"));
        let front = number(&ours, "front_cpu_us_per_item");
        // The raw figure is one thread that signs all the time.
        let share = 1e6 / raw / signer;
        println!(
            "{round:5}  {raw:12.0}  {of_session:21.0}  {rate:24.0}  {:5.2}  {front:8.1}  {signer:9.1}  {share:12.2}",
            rate / raw
        );
        ratios.push(rate / raw);
        own.push(share);
    }
    let (value, share) = (median(ratios), median(own));
    // "Also stated": without the processor time of front and clients. No issue sets a bar for it; half would be alarming.
    vec![
        Bar::new(name, value, "ratio", wanted, value >= least),
        Bar::new(format!("{name}_by_signer_cpu"), share, "ratio", ">= 0.5", share >= 0.5),
    ]
}

/// Secrets of 1 KiB, each on record before it is given out. Fewer are under way than one uid may have, which is half of 256.
fn secrets(house: &House, op: &str) -> Bar {
    let rounds = (0..ROUNDS).map(|_| {
        let load = load(house, &[op, "--size", "1024", "--connections", "4", "--in-flight", "24", "--seconds", "3"]);
        let (rate, front, signer) = (
            number(&load, "per_second"),
            number(&load, "front_cpu_us_per_item"),
            number(&load, "signer_cpu_us_per_item"),
        );
        println!("{op} of 1 KiB: {rate:.0}/s, front {front:.1} us, signer {signer:.1} us");
        rate
    });
    let value = median(rounds.collect());
    Bar::new(format!("{op}_1_kib_per_second"), value, "/s", ">= 20000", value >= 20_000.0)
}

/// Resident memory of the front, before and after a million passports.
fn growth(options: &Options) -> Bar {
    let memory = tempfile::Builder::new().prefix("passportd-bench-").tempdir_in("/dev/shm").unwrap();
    let ledger = memory.path().join("ledger");
    let house = House::start(options.clone().set("audit.dir", ledger.to_str().unwrap()).set("hsm.sessions", 2));
    let issued = || house.metric("passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"ok\"}");
    let until = |count: f64| {
        while issued() < count {
            load(&house, &["issue", "--connections", "4", "--in-flight", "2", "--batch", "64", "--seconds", "10"]);
        }
        number(&ctl(&house, &["status"])["processes"]["front"], "rss_kib") / 1024.0
    };
    let before = until(BEFORE);
    let after = until(issued() + MILLION);
    println!("front: {before:.1} MiB, and {after:.1} MiB a million passports later");
    let value = after - before;
    Bar::new("front_growth_in_a_million_issues", value, "MiB", "<= 1", value <= 1.0)
}

/// The 99th percentile of issuing by a slow HSM, of what its queue takes by itself.
fn slow() -> Bar {
    if !nix::unistd::geteuid().is_root() {
        println!("issue_p99_of_ideal_queue: not measured, since only root's modules are loaded");
        return Bar::new("issue_p99_of_ideal_queue", f64::NAN, "", "as root", false);
    }
    let house = House::start(Options::default().fault().set("hsm.sessions", i64::from(SLOW_SESSIONS)));
    house.fault(&format!("C_Sign delay={SLOW_MS}"));
    let clients = CLIENTS.to_string();
    let ours = load(&house, &["issue", "--connections", &clients, "--in-flight", "1", "--seconds", "30"]);
    let ideal = f64::from(CLIENTS.div_ceil(SLOW_SESSIONS)) * SLOW_MS;
    let [p50, p99] = ["p50_us", "p99_us"].map(|name| number(&ours, name) / 1000.0);
    println!(
        "{CLIENTS} clients, {SLOW_SESSIONS} sessions of {SLOW_MS} ms: p50 {p50:.0} ms, p99 {p99:.0} ms; ideal {ideal:.0} ms"
    );
    let value = p99 / ideal;
    Bar::new("issue_p99_of_ideal_queue", value, "ratio", "<= 1.2", value <= 1.2)
}

/// What `passportctl bench` says of this; nothing of it may have failed.
fn load(house: &House, arguments: &[&str]) -> Value {
    let ours = ctl(house, &[&["bench"], arguments].concat());
    assert_eq!(ours["errors"], 0, "{ours}");
    ours
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap()
}
