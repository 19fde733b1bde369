//! A process that records and commits is killed with SIGKILL at a random moment, again and again on the same files:
//! whatever it had acknowledged is there afterwards, the ledger is never behind the state, and what it says of the state
//! was never ahead of it, though a record comes before its change.
#![cfg(feature = "daemon")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome, verify_chain};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};
use passportd::state::{Change, Mode, Store};

/// Where the child works; set only by its parent.
const DIR: &str = "PASSPORTD_TEST_LEDGER";

fn config() -> AuditConfig {
    // Small segments, so that some of the kills hit the change from one to the next.
    AuditConfig {
        segment: SegmentConfig { max_bytes: 16 * 1024 },
        pace: Pace::default(),
        journald: None,
        now: Moment::now,
        metrics: None,
    }
}

fn open(dir: &Path) -> (Audit, Store) {
    let (audit, opened) = Audit::open(&dir.join("ledger"), &config()).unwrap();
    let store = Store::open(&dir.join("state.redb"), Mode::CreateIfMissing, Moment::now()).unwrap();
    store.check_against_ledger(audit.head().0, opened.recovered.mark).unwrap();
    (audit, store)
}

#[test]
#[ignore = "the child of the test below"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (audit, store) = open(Path::new(&dir));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let mut out = std::io::stdout();
    loop {
        let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::now()).subject("alice");
        let seq = audit.record_blocking(entry).unwrap();
        runtime.block_on(store.commit(Change::default(), seq)).unwrap();
        audit.state_is_at(seq);
        writeln!(out, "acknowledged {seq}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("ledger")).unwrap();
    let rounds: u64 = std::env::var("PASSPORTD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let mut acknowledged = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "child", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = lines.lines().map_while(Result::ok);
            lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok()).last()
        });
        std::thread::sleep(Duration::from_millis(100 + 37 * round % 200));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = reader.join().unwrap().unwrap_or(acknowledged);
        let (audit, store) = open(dir.path());
        assert!(audit.head().0 >= acknowledged && store.snapshot().audit_seq >= acknowledged, "round {round}");
        assert_eq!(verify_chain(&dir.path().join("ledger")).unwrap().records, audit.head().0);
        audit.close();
        store.close();
    }
    assert!(acknowledged > rounds, "the child got to work: {acknowledged}");
}
