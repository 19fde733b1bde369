//! The ledger as its users see it.

use std::fs;
use std::os::unix::net::UnixDatagram;

use super::record::Beside;
use super::*;
use crate::log::{Break, Fault, Head, Link, Seal};

fn config() -> AuditConfig {
    AuditConfig {
        segment: SegmentConfig::default(),
        pace: Pace::default(),
        journald: None,
        now: Moment::now,
        metrics: None,
    }
}

fn entry(sub: &str) -> Entry {
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(1_800_000_000));
    entry.subject(sub).kid("ed25519/default/passport/v1")
}

/// A ledger of `count` records in one file, written in one group; returns the file's path.
fn ledger(dir: &Path, count: usize) -> PathBuf {
    let (audit, _) = Audit::open(dir, &config()).unwrap();
    let entries = (0..count).map(|at| entry(&format!("sub {at}"))).collect();
    let receiver = audit.ledger.submit(entries).unwrap();
    receiver.blocking_recv().unwrap().unwrap();
    audit.close();
    dir.join("00000000000000000001.jsonl")
}

#[test]
fn records_are_durable_when_acknowledged_and_chain_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, opened) = Audit::open(dir.path(), &config()).unwrap();
    assert!(!opened.journald && opened.recovered.gap.is_none());
    assert_eq!(audit.record_blocking(entry("a")).unwrap(), 1);
    let text = fs::read_to_string(dir.path().join("00000000000000000001.jsonl")).unwrap();
    assert!(text.contains(&format!(r#""prev":"{}""#, "0".repeat(64))), "{text}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let receipt = runtime.block_on(audit.record_many(vec![entry("b"), entry("c")])).unwrap();
    assert_eq!((receipt.first, receipt.last), (2, 3));
    assert_eq!(runtime.block_on(audit.record(entry("d"))).unwrap(), 4);
    let head = audit.head();
    audit.close();
    drop(audit);
    let (audit, opened) = Audit::open(dir.path(), &config()).unwrap();
    assert_eq!((opened.recovered.head.seq, opened.recovered.head.hash), head);
    assert!(audit.healthy());
    assert_eq!(verify_chain(dir.path()).unwrap().records, 4, "while it is open");
}

#[test]
fn records_say_what_the_state_had_when_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || Audit::open(dir.path(), &AuditConfig { segment: SegmentConfig { max_bytes: 600 }, ..config() }).unwrap();
    let mut last = 0;
    for (state_seq, mark) in [(5, 0), (7, 5), (9, 7), (3, 9)] {
        let (audit, opened) = open();
        assert_eq!(opened.recovered.mark, mark, "of all that came before");
        audit.record_blocking(entry("before")).unwrap();
        audit.state_is_at(state_seq);
        audit.state_is_at(1);
        last = audit.record_blocking(entry("after")).unwrap();
        audit.close();
    }
    assert_eq!(open().1.recovered.mark, 9);
    let report = verify_chain(dir.path()).unwrap();
    assert_eq!((report.records, report.segments > 2), (last, true), "over several segments");
}

#[test]
fn every_flipped_bit_names_the_record_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = ledger(dir.path(), 200);
    let whole = fs::read(&path).unwrap();
    let rounds: usize = std::env::var("PASSPORTD_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(10);
    // A stride coprime to 8 and to the lines' length visits every bit position and every part of a record.
    let bits = whole.len() * 8;
    for at in 0..rounds * 20 {
        let bit = (at * (bits / (rounds * 20)) + at * 7) % bits;
        let mut altered = whole.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &altered).unwrap();
        let expected = whole[..bit / 8].iter().filter(|b| **b == b'\n').count() as u64 + 1;
        match verify_chain(dir.path()) {
            Err(ChainError::Damaged { seq, line, .. }) => assert_eq!((seq, line), (expected, expected), "bit {bit}"),
            other => panic!("bit {bit}: {other:?}"),
        }
    }
}

#[test]
fn a_rewritten_record_is_found_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = ledger(dir.path(), 5);
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // A forger who can compute hashes, but rewrites only one record.
    let prev = record::read(lines[1].as_bytes()).unwrap().head;
    let mut forged = Vec::new();
    record::write(&entry("mallory"), Beside::default(), &prev, &mut forged).unwrap();
    lines[2] = String::from_utf8(forged).unwrap();
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    match verify_chain(dir.path()) {
        Err(ChainError::Damaged { seq: 4, fault: Fault::Unlinked, .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_torn_end_is_an_error_until_the_daemon_has_recorded_the_break() {
    let dir = tempfile::tempdir().unwrap();
    let path = ledger(dir.path(), 3);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 100]).unwrap();
    let error = verify_chain(dir.path()).unwrap_err();
    assert!(matches!(error, ChainError::Damaged { seq: 3, fault: Fault::Torn { .. }, .. }), "{error}");
    let (audit, opened) = Audit::open(dir.path(), &config()).unwrap();
    assert_eq!(audit.head().0, 3);
    audit.close();
    let report = verify_chain(dir.path()).unwrap();
    assert_eq!((report.records, report.breaks), (3, vec![3]));
    let torn = &opened.recovered.gap.unwrap().torn[0];
    let line = fs::read_to_string(dir.path().join("00000000000000000003.jsonl")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((value["event"].as_str(), value["reason"].as_str()), (Some("ledger_break"), Some("torn_tail")));
    assert_eq!(value["torn"][0]["bytes"].as_u64(), Some(torn.bytes));
    assert_eq!(value["torn"][0]["segment"].as_str(), Some("00000000000000000001.jsonl"));
}

#[test]
fn journald_gets_what_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let server = UnixDatagram::bind(&path).unwrap();
    let ledger = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open(ledger.path(), &AuditConfig { journald: Some(path), ..config() }).unwrap();
    assert_eq!(audit.record_blocking(entry("x\nPRIORITY=0")).unwrap(), 1);
    let mut buffer = vec![0; 65536];
    let len = server.recv(&mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
    assert!(text.contains(Event::PassportIssued.message_id()), "{text}");
    audit.close();
    assert_eq!(audit.journald().unwrap().sent(), 1);
}

#[test]
fn a_ledger_that_forgets_tells_journald_of_its_own_life_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let server = UnixDatagram::bind(&path).unwrap();
    let audit = Audit::memory(&AuditConfig { journald: Some(path), ..config() }).unwrap();
    // All the while: a socket that nobody reads takes eleven.
    server.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let reader = std::thread::spawn(move || {
        let (mut buffer, mut heard) = (vec![0; 65536], Vec::new());
        while let Ok(len) = server.recv(&mut buffer) {
            heard.push(buffer[..len].to_vec());
        }
        heard
    });
    for event in Event::ALL {
        audit.record_blocking(entry("canary").revised(*event, Outcome::Ok, Moment::now())).unwrap();
    }
    audit.close();
    assert_eq!(audit.head().0, u64::try_from(Event::ALL.len()).unwrap(), "all of them are chained");
    let mut told = Vec::new();
    for heard in reader.join().unwrap() {
        let text = String::from_utf8_lossy(&heard).into_owned();
        assert!(!text.contains("canary"), "{text}");
        let fields = log::journal::decode(&heard);
        let (_, name) = fields.into_iter().find(|(name, _)| name == "PASSPORT_EVENT").unwrap();
        told.push(String::from_utf8(name).unwrap());
    }
    assert!(
        ["daemon_started", "key_activated", "signer_lost"].iter().all(|name| told.iter().any(|other| other == name))
    );
    assert!(!told.iter().any(|name| name.contains("issued") || name.contains("revoked")), "{told:?}");
}

#[test]
fn many_waiting_producers_share_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (audit, _) = Audit::open(dir.path(), &config()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for task in 0..100 {
            let audit = audit.clone();
            tasks.push(tokio::spawn(async move {
                for _ in 0..20 {
                    audit.record(entry(&task.to_string())).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    audit.close();
    assert_eq!((audit.recorded(), audit.queued(), audit.refused()), (2000, 0, 0));
    assert!(audit.commits() < 1000, "{}", audit.commits());
    assert_eq!(verify_chain(dir.path()).unwrap().records, 2000);
}

/// A chain whose commit thread hangs, as in `fdatasync`, until it is told to go on.
struct Hanging {
    chain: Chain,
    go_on: std::sync::mpsc::Receiver<()>,
}

impl Seal for Hanging {
    type Entry = Entry;

    fn seal(&mut self, entry: &Entry, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        self.go_on.recv().unwrap_or_default();
        self.chain.seal(entry, prev, out)
    }

    fn seal_break(&mut self, gap: &Break, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        self.chain.seal_break(gap, prev, out)
    }

    fn durable(&mut self, entry: Entry, at: Head) {
        self.chain.durable(entry, at);
    }

    fn durable_break(&mut self, gap: &Break, at: Head) {
        self.chain.durable_break(gap, at);
    }

    fn read(line: &[u8]) -> Result<Link, String> {
        Chain::read(line)
    }
}

/// A ledger whose disk hangs until the sender is dropped.
fn hanging() -> (std::sync::mpsc::Sender<()>, Audit) {
    let (release, go_on) = std::sync::mpsc::channel();
    let growing = Growing::new(Arc::new(Growth::new(&Head::GENESIS)));
    let seal = Hanging {
        chain: Chain {
            journald: None,
            now: Moment::now,
            metrics: None,
            state_seq: Arc::default(),
            growing,
            forgets: false,
        },
        go_on,
    };
    let pace = Pace { patience: Duration::from_millis(20), ..Pace::default() };
    let ledger = Committer::volatile(seal, pace).unwrap();
    (
        release,
        Audit {
            ledger,
            state_seq: Arc::default(),
            journald: None,
            journald_thread: Arc::default(),
            growth: Arc::new(Growth::new(&Head::GENESIS)),
            files: None,
            keeping: Arc::default(),
        },
    )
}

#[test]
fn a_disk_that_hangs_holds_up_neither_start_nor_end() {
    let (_release, audit) = hanging();
    let (said, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let late = audit.record_blocking(entry("late"));
        audit.close();
        said.send(late).unwrap();
    });
    let late = hears.recv_timeout(Duration::from_secs(20)).expect("an end in time");
    assert!(matches!(late, Err(AuditError::Commit(CommitError::Unavailable(_)))), "{late:?}");
}

#[test]
fn a_disk_that_hangs_is_an_error_in_time_and_shows() {
    let (release, audit) = hanging();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let record = |sub: &str| {
        let recorded = async { tokio::time::timeout(Duration::from_secs(20), audit.record(entry(sub))).await };
        runtime.block_on(recorded).expect("an answer in time")
    };
    let unavailable = |answer| matches!(answer, Err(AuditError::Commit(CommitError::Unavailable(_))));
    assert!(unavailable(record("late")));
    assert!(!audit.healthy() && audit.trouble().unwrap().contains("under way"), "{:?}", audit.trouble());
    assert!(unavailable(record("behind it")));
    assert_eq!(audit.queued(), 1, "what has no chance is not handed in");
    drop(release);
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !audit.healthy() {
        assert!(std::time::Instant::now() < end, "it shows that the disk goes on");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(record("after").unwrap(), 2, "the late one is on record, before it");
}
