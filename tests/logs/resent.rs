//! A real journald that stands still, is stopped, killed and started again while records are written: its journal has every one
//! of them in the end, and nobody waited for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};

use super::journal::{Journald, open};
use super::support::{eventually, skipped};

fn ledger(dir: &Path) -> Audit {
    let config = AuditConfig {
        segment: SegmentConfig { max_bytes: 256 * 1024 },
        pace: Pace::default(),
        journald: Some(dir.join("run/socket")),
        now: Moment::now,
        metrics: None,
    };
    Audit::open(&ledger_of(dir), &config).unwrap().0
}

fn ledger_of(dir: &Path) -> PathBuf {
    let ledger = dir.join("ledger");
    fs::create_dir_all(&ledger).unwrap();
    open(&ledger, 0o700);
    ledger
}

fn write(audit: &Audit) -> u64 {
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::now()).subject("alice").detail("=\nPRIORITY=0");
    audit.record_blocking(entry).unwrap()
}

/// The records in the journal: line by sequence number. One that is there twice is the same.
fn journal(dir: &Path) -> BTreeMap<u64, String> {
    let mut command = Command::new("journalctl");
    command.arg("-D").arg(dir.join("log")).args(["-o", "json", "--all", "SYSLOG_IDENTIFIER=passportd"]);
    let output = command.output().unwrap();
    let mut records = BTreeMap::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("{name} in {entry}")).to_owned();
        let record = text("PASSPORT_RECORD");
        if let Some(other) = records.insert(text("PASSPORT_SEQ").parse().unwrap(), record.clone()) {
            assert_eq!(other, record);
        }
    }
    records
}

/// That the journal has what the ledger has, byte for byte.
fn no_gaps(dir: &Path, last: u64) {
    eventually("the journal has the newest", Duration::from_secs(60), || {
        journal(dir).contains_key(&last).then_some(())
    });
    let mut segments: Vec<_> = fs::read_dir(ledger_of(dir)).unwrap().map(|one| one.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    let lines: String = segments.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let journal = journal(dir);
    let missing: Vec<u64> = (1..=last).filter(|seq| !journal.contains_key(seq)).collect();
    assert!(missing.is_empty(), "{missing:?} of {last}");
    assert!(lines.lines().eq(journal.values()), "in the order of the ledger");
}

#[test]
fn a_journald_that_fails_in_every_way_has_every_record_in_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut journald) = Journald::start(dir.path()) else { return };
    let audit = ledger(dir.path());
    let over = Arc::new(AtomicBool::new(false));
    let writer = {
        let (audit, over) = (audit.clone(), Arc::clone(&over));
        thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                write(&audit);
                longest = longest.max(begun.elapsed());
                sleep(Duration::from_micros(500));
            }
            longest
        })
    };
    let while_it_writes = || sleep(Duration::from_millis(700));
    while_it_writes();
    journald.signal(Signal::SIGSTOP);
    while_it_writes();
    journald.signal(Signal::SIGCONT);
    while_it_writes();
    for how in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGSTOP] {
        journald.signal(how);
        if how == Signal::SIGSTOP {
            // With its queue full.
            while_it_writes();
            journald.signal(Signal::SIGKILL);
        }
        drop(journald);
        while_it_writes();
        journald = Journald::start(dir.path()).unwrap();
        while_it_writes();
    }
    over.store(true, Ordering::Relaxed);
    let longest = writer.join().unwrap();
    let last = write(&audit);
    assert!(last > 1000, "{last}");
    no_gaps(dir.path(), last);
    let stats = audit.journald().unwrap();
    assert!(stats.up() && stats.dropped() == 0 && stats.resent() > 0);
    assert!(longest < Pace::default().patience, "nobody waited for journald: {longest:?}");
    assert!(audit.healthy());
    audit.close();
}

/// This process where journald takes it for the unit, and back again.
struct Unit {
    unit: PathBuf,
    before: PathBuf,
}

impl Unit {
    /// None where that can't be done here.
    fn of(journald: &Journald) -> Option<Self> {
        let root = PathBuf::from(format!("/proc/{}/root/sys/fs/cgroup", journald.id()));
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        let before = root.join(own.lines().find_map(|line| line.strip_prefix("0::/"))?);
        let unit = root.join("system.slice/passportd.service");
        fs::create_dir_all(&unit).ok()?;
        let moved = Self { unit, before };
        moved.to(&moved.unit).then_some(moved)
    }

    fn to(&self, cgroup: &Path) -> bool {
        fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).is_ok()
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        if self.to(&self.before) {
            drop(fs::remove_dir(&self.unit));
        }
    }
}

/// What is suppressed nobody is told of, so it must not be: the unit turns the limit off.
#[test]
fn a_rate_limit_does_not_hold_for_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    // As systemd tells journald what units say.
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/passportd.service")).unwrap();
    let setting = unit.lines().find_map(|line| line.strip_prefix("LogRateLimitIntervalSec=")).expect("a setting");
    let tell = format!(
        "mkdir -p /run/systemd/units; ln -s {setting} /run/systemd/units/log-rate-limit-interval:passportd.service; "
    );
    // A journald of our time wants the one hierarchy.
    let hierarchy = "stat -fc %T /sys/fs/cgroup | grep -q cgroup2fs || mount -t cgroup2 none /sys/fs/cgroup || true";
    let limit = "RateLimitIntervalSec=60s\nRateLimitBurst=20";
    for (before, limited) in [("", true), (&*tell, false)] {
        let dir = dir.path().join(if limited { "limited" } else { "unit" });
        fs::create_dir(&dir).unwrap();
        let Some(journald) = Journald::start_with(&dir, limit, &format!("{before}{hierarchy}")) else { return };
        let Some(_unit) = Unit::of(&journald) else { return skipped("a rate limit: control groups can't be made") };
        let audit = ledger(&dir);
        let last = (0..1000).fold(0, |_, _| write(&audit));
        audit.close();
        if limited {
            // The control: what the limit does where nobody turns it off.
            if journal(&dir).len() as u64 == last {
                return skipped("a rate limit by unit: control groups can't be told");
            }
        } else {
            no_gaps(&dir, last);
        }
    }
}
