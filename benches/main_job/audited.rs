//! What the ledger costs those who issue, and how far the journal is behind it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome, Peer};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};
use serde_json::Value;

use super::bars::{Bar, group, median};
use super::support::journald::Journald;
use super::support::softhsm::SoftHsm;
use super::support::{House, Options};
use super::{RawKey, ctl, raw_figure};

const ROUNDS: usize = 5;
/// Records a second, and for how long.
const EVENTS: usize = 5_000;
const SECONDS: usize = 10;
/// They come in so many groups a second.
const GROUPS: usize = 100;
/// `fdatasync`s of the disk alone.
const SYNCS: usize = 400;
/// The signer's own bound on a tenant would be what is measured.
const BOUNDS: &str = "[[tenant]]\nname = \"t1\"\npurposes = [\"auth\"]\nmax_ttl_s = 86400\nrate_per_s = 1000000\n";

pub(super) fn bars(options: &Options, hsm: &SoftHsm) -> Vec<Bar> {
    let options = &options.clone().bounds(BOUNDS);
    let mut bars = group("issue_durable_of_memory", || durable(options));
    bars.extend(group("issue_p50_beyond_sign_and_sync_ms", || vec![alone(options, hsm)]));
    bars.extend(group("journald_lag_p99_s", || vec![lag()]));
    bars
}

/// 64 issues in flight, with a ledger on the disk and with one in memory, in turns: no switch turns audit off (laws L2, L13), so
/// that is what comes closest. And what an issue takes of the ledger.
fn durable(options: &Options) -> Vec<Bar> {
    let memory = tempfile::Builder::new().prefix("passportd-bench-").tempdir_in("/dev/shm").unwrap();
    let ledger = memory.path().join("ledger");
    let (disk, memory) = (House::start(options.clone()), House::start(options.clone().set("audit.dir", text(&ledger))));
    let rate = |house: &House| {
        let load = ctl(house, &["bench", "issue", "--connections", "8", "--in-flight", "8", "--seconds", "3"]);
        assert_eq!(load["errors"], 0, "{load}");
        load["per_second"].as_f64().unwrap()
    };
    let rounds = (1..=ROUNDS).map(|round| {
        let (of_disk, of_memory) = (rate(&disk), rate(&memory));
        println!(
            "round {round}: {of_disk:.0} issues/s on the disk, {of_memory:.0} in memory, {:.2}",
            of_disk / of_memory
        );
        of_disk / of_memory
    });
    let value = median(rounds.collect());
    let lines: Vec<usize> = issues(&disk.ledger()).collect();
    let bytes = mean(&lines);
    println!("{} records of issues, {bytes:.0} bytes each", lines.len());
    vec![
        Bar::new("issue_durable_of_memory", value, "ratio", ">= 0.85", value >= 0.85),
        Bar::new("ledger_bytes_per_issue", bytes, "bytes", "<= 700", bytes <= 700.0),
    ]
}

/// The lengths of the lines of issues, newlines included.
fn issues(ledger: &Path) -> impl Iterator<Item = usize> {
    let names = fs::read_dir(ledger).unwrap().map(|entry| entry.unwrap().path());
    let segments = names.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
    segments.flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        let issued = text.lines().filter(|line| line.contains("\"passport_issued\""));
        issued.map(|line| line.len() + 1).collect::<Vec<_>>()
    })
}

fn mean(all: &[usize]) -> f64 {
    all.iter().map(|len| f64::from(u32::try_from(*len).unwrap())).sum::<f64>()
        / f64::from(u32::try_from(all.len()).unwrap())
}

/// One client with one request under way: what its median is beyond the longer of a signature and a sync of the same disk.
fn alone(options: &Options, hsm: &SoftHsm) -> Bar {
    let house = House::start(options.clone());
    let rounds = (1..=ROUNDS).map(|round| {
        let load = ctl(&house, &["bench", "issue", "--connections", "1", "--in-flight", "1", "--seconds", "3"]);
        let (p50, sign) = (load["p50_us"].as_f64().unwrap() / 1e3, 1e3 / raw_figure(hsm, RawKey::Token));
        let sync = sync_ms(house.dir());
        let beyond = p50 - sign.max(sync);
        println!(
            "round {round}: p50 {p50:.2} ms, a signature {sign:.2} ms, a sync {sync:.2} ms, beyond {beyond:.2} ms"
        );
        beyond
    });
    let value = median(rounds.collect());
    Bar::new("issue_p50_beyond_sign_and_sync_ms", value, "ms", "<= 1", value <= 1.0)
}

/// The median of appending a record and syncing it.
fn sync_ms(dir: &Path) -> f64 {
    let path = dir.join("bench-sync");
    let mut file = File::create(&path).unwrap();
    let times = (0..SYNCS).map(|_| {
        let begun = Instant::now();
        file.write_all(&[b'x'; 600]).unwrap();
        file.sync_data().unwrap();
        begun.elapsed().as_secs_f64() * 1e3
    });
    let value = median(times.collect());
    fs::remove_file(path).unwrap();
    value
}

/// From when a record is made to when a real journald has taken it, at so many records a second.
fn lag() -> Bar {
    const NAME: &str = "journald_lag_p99_s";
    let dir = tempfile::tempdir().unwrap();
    let Some(_journald) = Journald::start(dir.path()) else {
        return Bar::new(NAME, f64::NAN, "s", "a journald, as root", false);
    };
    let ledger = dir.path().join("ledger");
    fs::create_dir(&ledger).unwrap();
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o700)).unwrap();
    let (segment, pace, journald) = (SegmentConfig::default(), Pace::default(), Some(dir.path().join("run/socket")));
    let config = AuditConfig { segment, pace, journald, now: Moment::now, metrics: None };
    let (audit, _) = Audit::open(&ledger, &config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let begun = Instant::now();
    for group in 0..GROUPS * SECONDS {
        let due = Duration::from_secs(1) * u32::try_from(group).unwrap() / u32::try_from(GROUPS).unwrap();
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        runtime.block_on(audit.record_many((0..EVENTS / GROUPS).map(|_| entry()).collect())).unwrap();
    }
    audit.close();
    let mut lags = lags(&dir.path().join("log"));
    assert!(lags.len() >= EVENTS * SECONDS, "{} records in the journal", lags.len());
    lags.sort_by(f64::total_cmp);
    let value = lags[lags.len() * 99 / 100];
    println!(
        "{} records in {:.1} s: in the journal after {value:.3} s at the 99th percentile",
        lags.len(),
        begun.elapsed().as_secs_f64()
    );
    Bar::new(NAME, value, "s", "<= 1", value <= 1.0)
}

fn entry() -> Entry {
    let peer = Peer { uid: 1000, gid: 1000, pid: 4242, listener: "passportd".to_owned() };
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::now()).peer(peer).corr_id([7; 16]);
    entry
        .subject("alice")
        .jti("01890a5d-ac96-774b-bcce-b302099a8057")
        .kid("ed25519/t1/auth/v1")
        .template("demo")
        .aud("demo")
}

/// Of each record in the journal, how long it took to get there, in seconds.
fn lags(journal: &Path) -> Vec<f64> {
    let mut command = Command::new("journalctl");
    command.arg("-D").arg(journal).args(["-o", "json", "--all", "SYSLOG_IDENTIFIER=passportd"]);
    let output = command.args(["--output-fields", "PASSPORT_RECORD"]).output().unwrap();
    let entries = String::from_utf8(output.stdout).unwrap();
    let lag = |line: &str| {
        let entry: Value = serde_json::from_str(line).unwrap();
        let taken: i64 = entry["__REALTIME_TIMESTAMP"].as_str().unwrap().parse().unwrap();
        let record: Value = serde_json::from_str(entry["PASSPORT_RECORD"].as_str().unwrap()).unwrap();
        let made: jiff::Timestamp = record["time"].as_str().unwrap().parse().unwrap();
        Duration::from_micros(u64::try_from(taken - made.as_microsecond()).unwrap_or(0)).as_secs_f64()
    };
    entries.lines().map(lag).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
