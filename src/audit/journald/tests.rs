//! journald as it fails: away, slow, stopped, replaced.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::*;
use crate::audit::testing::entry;
use crate::audit::{Audit, AuditConfig, record};
use crate::log::journal::decode;
use crate::log::{COPIED, Hash, Pace, SegmentConfig};

/// A ledger, and the place of a journald.
struct Place {
    dir: tempfile::TempDir,
}

/// A journald that reads only when it is told to.
struct Fake {
    socket: UnixDatagram,
    /// What it wrote: sequence numbers and lines.
    written: Vec<(u64, Vec<u8>)>,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("ledger")).unwrap();
        Self { dir }
    }

    fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn audit(&self) -> Audit {
        let config = AuditConfig {
            // So that it goes on over many segments.
            segment: SegmentConfig { max_bytes: 8 * 1024 },
            pace: Pace::default(),
            journald: Some(self.socket()),
            now: Moment::now,
            metrics: None,
        };
        Audit::open(&self.ledger(), &config).unwrap().0
    }

    fn journald(&self) -> Fake {
        drop(fs::remove_file(self.socket()));
        let socket = UnixDatagram::bind(self.socket()).unwrap();
        socket.set_nonblocking(true).unwrap();
        Fake { socket, written: Vec::new() }
    }

    /// What an earlier daemon left, as it was at some time.
    fn mark(&self) -> Option<Vec<u8>> {
        fs::read(self.ledger().join(COPIED)).ok()
    }
}

fn record(audit: &Audit, count: u64) -> u64 {
    let entries = |count: u64| (0..count).map(|_| entry("x")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(audit.record_many(entries(count))).unwrap().last
}

impl Fake {
    /// Its socket is gone, and what it had not read with it.
    fn stopped(self) -> Self {
        Self { socket: UnixDatagram::unbound().unwrap(), ..self }
    }

    /// Reads what is there.
    fn read(&mut self) {
        let mut buffer = vec![0; 1 << 17];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let fields = decode(&buffer[..length]);
            let field = |name: &str| fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
            // The question whether it is still there is not for its files.
            let Some(seq) = field("PASSPORT_SEQ") else { continue };
            self.written.push((String::from_utf8(seq).unwrap().parse().unwrap(), field("PASSPORT_RECORD").unwrap()));
        }
    }

    /// Reads until it has this one.
    fn read_to(&mut self, seq: u64) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.written.last().is_none_or(|(last, _)| *last < seq) {
            assert!(Instant::now() < end, "{:?} and no {seq}", self.written.last().map(|(seq, _)| seq));
            self.read();
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether the records from `first` to `last` are all there, as a chain; some may have come twice.
fn complete(journals: &[&Fake], first: u64, last: u64) -> u64 {
    let mut all: Vec<_> = journals.iter().flat_map(|journal| journal.written.iter().cloned()).collect();
    let total = all.len() as u64;
    all.sort();
    all.dedup();
    assert_eq!(all.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (first..=last).collect::<Vec<_>>());
    let mut before: Option<Hash> = None;
    for (seq, line) in &all {
        let link = record::read(line).unwrap();
        assert_eq!(link.head.seq, *seq);
        assert!(before.is_none_or(|before| before == link.prev), "{seq}");
        before = Some(link.head.hash);
    }
    total - all.len() as u64
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_journald_that_does_not_read_blocks_nobody_and_gets_everything_once_it_does() {
    let place = Place::new();
    let mut journald = place.journald();
    let audit = place.audit();
    let begun = Instant::now();
    let last = (0..5).fold(0, |_, _| record(&audit, 1000));
    assert!(begun.elapsed() < Duration::from_secs(20));
    let stats = audit.journald().unwrap();
    assert!(stats.sent() < last && stats.lag(Moment::now()) > Duration::ZERO);
    journald.read_to(last);
    wait_until("no lag", || stats.lag(Moment::now()) == Duration::ZERO);
    assert_eq!(complete(&[&journald], 1, last), 0, "each once");
    assert_eq!((stats.sent(), stats.resent(), stats.dropped(), stats.up()), (last, 0, 0, true));
    audit.close();
}

#[test]
fn what_a_journald_left_unread_goes_to_the_next_one() {
    let place = Place::new();
    let mut first = place.journald();
    let audit = place.audit();
    let last = record(&audit, 100);
    first.read_to(last);
    wait_until("it is known", || place.mark().is_some());
    // These lie in its queue when it is stopped.
    let last = record(&audit, 5);
    wait_until("sent", || audit.journald().unwrap().sent() == last);
    drop(first.socket.try_clone().unwrap());
    let first = first.stopped();
    // And these come while there is none.
    let last = record(&audit, 300);
    wait_until("it shows", || !audit.journald().unwrap().up());
    assert!(audit.healthy());
    let mut second = place.journald();
    let last = last.max(record(&audit, 1));
    second.read_to(last);
    complete(&[&first, &second], 1, last);
    let stats = audit.journald().unwrap();
    assert_eq!((stats.dropped(), stats.up()), (0, true));
    assert!(stats.resent() >= 5);
    audit.close();
}

#[test]
fn a_journald_that_comes_later_gets_everything_since_the_start() {
    let place = Place::new();
    let audit = place.audit();
    let last = record(&audit, 700);
    assert!(!audit.journald().unwrap().up());
    assert_eq!(place.mark(), None, "a host without journald has no mark");
    let mut journald = place.journald();
    journald.read_to(last);
    assert_eq!(complete(&[&journald], 1, last), 0);
    audit.close();
    assert!(place.mark().is_some());
}

#[test]
fn the_next_daemon_goes_on_where_journald_has_got() {
    let place = Place::new();
    let mut journald = place.journald();
    let audit = place.audit();
    let last = record(&audit, 50);
    journald.read_to(last);
    let closing = thread::spawn(move || audit.close());
    while !closing.is_finished() {
        journald.read();
    }
    closing.join().unwrap();
    let audit = place.audit();
    let last = record(&audit, 50);
    journald.read_to(last);
    assert_eq!(complete(&[&journald], 1, last), 0, "after an end in order none comes twice");
    let journald = journald.stopped();
    // This daemon ends without journald.
    record(&audit, 50);
    audit.close();
    drop(audit);
    let mut later = place.journald();
    let audit = place.audit();
    let last = record(&audit, 1);
    later.read_to(last);
    complete(&[&journald, &later], 1, last);
    audit.close();
}

#[test]
fn after_a_kill_records_may_come_twice_and_none_is_missing() {
    let place = Place::new();
    let mut journald = place.journald();
    let audit = place.audit();
    let last = record(&audit, 50);
    journald.read_to(last);
    wait_until("a mark", || place.mark().is_some());
    let mark = place.mark().unwrap();
    let last = record(&audit, 50);
    journald.read_to(last);
    audit.close();
    drop(audit);
    // As a process that was killed before it could write a newer one leaves it; and as a power loss may, torn.
    for (mark, again) in [(mark.clone(), 50..=last), (mark[..mark.len() / 2].to_vec(), last..=last + 1)] {
        fs::write(place.ledger().join(COPIED), mark).unwrap();
        let audit = place.audit();
        let last = record(&audit, 1);
        journald.read_to(last);
        let twice = complete(&[&journald], 1, last);
        assert!(again.contains(&twice), "{twice} of {last} came twice");
        audit.close();
        drop(audit);
        journald.written.sort();
        journald.written.dedup();
    }
}

#[test]
fn records_that_the_ledger_lost_are_counted_and_the_rest_comes() {
    let place = Place::new();
    let audit = place.audit();
    let last = record(&audit, 100);
    let last = last.max(record(&audit, 10));
    let mut segments: Vec<_> = fs::read_dir(place.ledger()).unwrap().map(|one| one.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some());
    segments.sort();
    assert!(segments.len() >= 2, "{segments:?}");
    fs::remove_file(&segments[0]).unwrap();
    let mut journald = place.journald();
    journald.read_to(last);
    // One may have been in hand.
    let before: Vec<u64> = journald.written.extract_if(.., |(seq, _)| *seq <= 100).map(|(seq, _)| seq).collect();
    assert!(before.is_empty() || before == [1], "{before:?}");
    assert_eq!(complete(&[&journald], 101, last), 0);
    assert_eq!(audit.journald().unwrap().dropped(), 100 - before.len() as u64);
    audit.close();
}

#[test]
fn without_a_ledger_so_many_records_wait_and_further_ones_are_dropped_and_counted() {
    let (journald, inbox) = Journald::queue();
    let stats = journald.stats();
    (0..MAX_QUEUED).for_each(|_| journald.send(entry("x"), Head::GENESIS));
    assert_eq!(stats.dropped(), 0);
    (1..=3).for_each(|n| {
        journald.send(entry("y"), Head::GENESIS);
        assert_eq!(stats.dropped(), n);
    });
    drop(journald);
    assert_eq!(inbox.into_iter().count(), MAX_QUEUED);
}

#[test]
fn without_a_ledger_a_stopped_journald_blocks_nobody() {
    let place = Place::new();
    assert!(Journald::start(&place.socket()).unwrap().is_none(), "absent is off");
    let never_reads = place.journald();
    let (journald, thread) = Journald::start(&place.socket()).unwrap().unwrap();
    let stats = journald.stats();
    let start = Instant::now();
    let total = 2 * MAX_QUEUED as u64;
    for _ in 0..total {
        journald.send(entry("x"), Head::GENESIS);
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    drop(journald);
    thread.join().unwrap();
    drop(never_reads);
    assert_eq!(stats.sent() + stats.dropped(), total);
    assert!(stats.dropped() > 0 && !stats.up());
}
