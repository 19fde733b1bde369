//! Crashes, failing disks, tampering: what the log promises under each.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::segments::{Media, Shelf};
use super::testing::Plain;
use super::*;

fn config(max_bytes: u64) -> SegmentConfig {
    SegmentConfig { max_bytes }
}

pub(super) fn open(dir: &Path, max_bytes: u64) -> (Committer<String>, Recovered) {
    let (segments, found) = Segments::open::<Plain>(dir, config(max_bytes)).unwrap();
    let copy = found.clone();
    (Committer::start(segments, found, Plain, Pace::default()).unwrap(), copy)
}

pub(super) fn put(log: &Committer<String>, texts: &[&str]) -> Result<Receipt, CommitError> {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    log.submit(texts)?.blocking_recv().unwrap()
}

/// A closed log of `count` one-entry groups.
pub(super) fn written(dir: &Path, count: usize, max_bytes: u64) {
    let (log, _) = open(dir, max_bytes);
    for at in 0..count {
        put(&log, &[&format!("entry {at}")]).unwrap();
    }
    log.close();
}

pub(super) fn files(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

#[test]
fn groups_are_numbered_without_gaps_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path(), u64::MAX);
    assert_eq!(put(&log, &["a"]).unwrap(), Receipt { first: 1, last: 1 });
    assert_eq!(put(&log, &["b", "c"]).unwrap(), Receipt { first: 2, last: 3 });
    let head = log.head();
    log.close();
    assert_eq!(put(&log, &["d"]), Err(CommitError::Closed));
    drop(log);
    let (log, found) = open(dir.path(), u64::MAX);
    assert_eq!((found.head, found.gap), (head, None));
    assert_eq!(put(&log, &["d"]).unwrap().first, 4);
    assert_eq!(verify::<Plain>(dir.path()).unwrap().records, 4);
    assert_eq!(files(dir.path()).len(), 1);
}

#[test]
fn full_segments_are_closed_and_the_chain_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 10, 400);
    assert!(files(dir.path()).len() >= 3, "{:?}", files(dir.path()));
    let (log, found) = open(dir.path(), 400);
    assert_eq!(found.head.seq, 10);
    log.close();
    let report = verify::<Plain>(dir.path()).unwrap();
    assert_eq!((report.records, report.breaks), (10, vec![]));
}

#[test]
fn a_log_cut_at_any_byte_opens_and_its_break_names_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, u64::MAX);
    let name = files(dir.path()).remove(0);
    let whole = fs::read(dir.path().join(&name)).unwrap();
    // Every byte takes long where fsync does: the ends of lines, and every 5th byte elsewhere.
    let near_an_end = |at: usize| whole[at.saturating_sub(2)..(at + 2).min(whole.len())].contains(&b'\n');
    for cut in (0..=whole.len()).filter(|at| at % 5 == 0 || near_an_end(*at)) {
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join(&name), &whole[..cut]).unwrap();
        let good = whole[..cut].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines = whole[..cut].iter().filter(|b| **b == b'\n').count() as u64;
        let (log, found) = open(copy.path(), u64::MAX);
        assert_eq!(found.head.seq, lines, "cut {cut}");
        let torn = Torn { segment: name.clone(), offset: good as u64, bytes: (cut - good) as u64 };
        assert_eq!(found.gap.map_or(vec![], |gap| gap.torn), if cut > good { vec![torn] } else { vec![] });
        put(&log, &["after"]).unwrap();
        log.close();
        assert_eq!(fs::read(copy.path().join(&name)).unwrap()[..cut], whole[..cut], "evidence stays");
        let report = verify::<Plain>(copy.path()).unwrap();
        let breaks = u64::from(cut > good);
        assert_eq!(report.records, lines + breaks + 1, "cut {cut}");
        assert_eq!(report.breaks.len() as u64, breaks);
        drop(log);
        assert_eq!(open(copy.path(), u64::MAX).1.gap, None, "cut {cut}");
    }
}

#[test]
fn crashes_during_recovery_add_up() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3, u64::MAX);
    let first = dir.path().join(files(dir.path()).remove(0));
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() - 5]).unwrap();
    // The break record of each start is torn as well, 3 times.
    for start in 1..=3 {
        let (log, found) = open(dir.path(), u64::MAX);
        assert_eq!(found.head.seq, 2);
        assert_eq!(found.gap.unwrap().torn.len(), start);
        log.close();
        let last = dir.path().join(files(dir.path()).pop().unwrap());
        let break_line = fs::read(&last).unwrap();
        fs::write(&last, &break_line[..break_line.len() / 2]).unwrap();
        drop(log);
    }
    let (log, found) = open(dir.path(), u64::MAX);
    assert_eq!(found.gap.unwrap().torn.len(), 4);
    put(&log, &["after"]).unwrap();
    log.close();
    drop(log);
    let report = verify::<Plain>(dir.path()).unwrap();
    assert_eq!((report.records, report.breaks, report.segments), (4, vec![3], 5));
    assert_eq!(open(dir.path(), u64::MAX).1.head.seq, 4);
}

#[test]
fn zeros_that_a_crash_left_are_torn_not_damage() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 2, u64::MAX);
    let path = dir.path().join(files(dir.path()).remove(0));
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_slice(&vec![0; 3 * MAX_LINE]);
    fs::write(&path, bytes).unwrap();
    let (_, found) = open(dir.path(), u64::MAX);
    assert_eq!(found.gap.unwrap().torn[0].bytes, 3 * MAX_LINE as u64);
}

#[test]
fn damage_before_the_tail_stops_the_start_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 5, u64::MAX);
    let name = files(dir.path()).remove(0);
    let path = dir.path().join(&name);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("entry 2", "entry X")).unwrap();
    let error = Segments::open::<Plain>(dir.path(), config(u64::MAX)).err().unwrap().to_string();
    assert!(error.starts_with(&format!("{}, line 3: record 3 was altered", path.display())), "{error}");
}

fn fault_after(change: impl FnOnce(&mut Vec<&str>)) -> (u64, Fault) {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 6, u64::MAX);
    let path = dir.path().join(files(dir.path()).remove(0));
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    change(&mut lines);
    fs::write(&path, lines.concat()).unwrap();
    match verify::<Plain>(dir.path()) {
        Err(LogError::Damaged { seq, fault, .. }) => (seq, fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_verifier_tells_what_was_done_to_the_records() {
    assert_eq!(fault_after(|lines| _ = lines.remove(2)), (3, Fault::Missing { found: 4 }));
    assert_eq!(fault_after(|lines| lines.swap(2, 4)), (3, Fault::OutOfOrder { found: 5 }));
    assert_eq!(fault_after(|lines| lines.insert(3, lines[1])), (4, Fault::Repeated { found: 2 }));
    assert_eq!(fault_after(|lines| drop(lines.drain(..2))), (1, Fault::Missing { found: 3 }));
    assert_eq!(fault_after(|lines| lines[5] = lines[5].get(..9).unwrap()), (6, Fault::Torn { bytes: 9 }));
}

#[test]
fn a_lost_segment_is_seen_at_open() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 10, 300);
    let names = files(dir.path());
    fs::remove_file(dir.path().join(&names[1])).unwrap();
    let error = Segments::open::<Plain>(dir.path(), config(300)).err().unwrap();
    assert!(matches!(error, LogError::Damaged { fault: Fault::Missing { .. }, .. }), "{error}");
}

/// What the fake disk does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mood {
    Well,
    /// Takes half of a write, then has no room.
    Full,
    /// The same, and cannot be truncated either.
    FullForGood,
    /// Writes, but can't sync.
    NoSync,
}

/// A disk in memory whose mood can be set.
#[derive(Clone)]
pub(super) struct Disk(pub(super) Arc<Mutex<(Mood, Files)>>);

pub(super) type Files = Vec<(String, Vec<u8>)>;

struct DiskFile(Disk, String);

impl Disk {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new((Mood::Well, Vec::new()))))
    }

    fn set(&self, mood: Mood) {
        self.0.lock().unwrap().0 = mood;
    }

    fn write_to(&self, dir: &Path) {
        for (name, bytes) in &self.0.lock().unwrap().1 {
            fs::write(dir.join(name), bytes).unwrap();
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().1.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Shelf for Disk {
    fn create(&mut self, first: u64) -> io::Result<(String, Box<dyn Media>)> {
        let mut state = self.0.lock().unwrap();
        let taken = state.1.iter().filter(|(name, _)| name.starts_with(&format!("{first:020}"))).count();
        let suffix = if taken == 0 { String::new() } else { format!(".r{taken:03}") };
        let name = format!("{first:020}{suffix}.jsonl");
        state.1.push((name.clone(), Vec::new()));
        Ok((name.clone(), Box::new(DiskFile(self.clone(), name))))
    }

    fn discard(&mut self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().1.retain(|(other, _)| other != name);
        Ok(())
    }
}

impl DiskFile {
    fn with<T>(&self, act: impl FnOnce(Mood, &mut Vec<u8>) -> T) -> T {
        let mut state = self.0.0.lock().unwrap();
        let mood = state.0;
        act(mood, &mut state.1.iter_mut().find(|(name, _)| *name == self.1).unwrap().1)
    }
}

impl Media for DiskFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.with(|mood, file| {
            let fits = if matches!(mood, Mood::Full | Mood::FullForGood) { bytes.len() / 2 } else { bytes.len() };
            file.extend_from_slice(&bytes[..fits]);
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|mood, _| if mood == Mood::NoSync { Err(io::Error::other("I/O error")) } else { Ok(()) })
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.with(|mood, file| {
            if mood == Mood::FullForGood {
                return Err(io::Error::other("I/O error"));
            }
            file.truncate(usize::try_from(len).unwrap());
            Ok(())
        })
    }
}

pub(super) fn on(disk: &Disk, pace: Pace) -> Committer<String> {
    Committer::over(Box::new(disk.clone()), Plain, pace).unwrap()
}

pub(super) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Stores, fails in `mood`, recovers by itself, stores; returns the segments' names.
fn outage(mood: Mood) -> Vec<String> {
    let disk = Disk::new();
    let log = on(&disk, Pace { retry_first: Duration::from_millis(5), ..Pace::default() });
    put(&log, &["before"]).unwrap();
    disk.set(mood);
    assert!(matches!(put(&log, &["lost"]), Err(CommitError::Unavailable(_))), "{mood:?}");
    assert!(log.trouble().is_some());
    assert_eq!(log.head().seq, 1);
    disk.set(Mood::Well);
    wait_until("recovers without a caller", || log.trouble().is_none());
    assert_eq!(log.head().seq, 2, "the break record");
    assert_eq!(put(&log, &["after"]).unwrap().first, 3);
    log.close();
    let dir = tempfile::tempdir().unwrap();
    disk.write_to(dir.path());
    let report = verify::<Plain>(dir.path()).unwrap();
    assert_eq!((report.records, report.breaks), (3, vec![2]), "{mood:?}");
    let all: String = disk.names().iter().map(|n| fs::read_to_string(dir.path().join(n)).unwrap()).collect();
    assert!(all.contains("refused=1"), "{all}");
    assert_eq!(open(dir.path(), u64::MAX).1.gap, None);
    disk.names()
}

#[test]
fn a_full_disk_fails_its_group_and_is_tried_again() {
    assert_eq!(outage(Mood::Full), ["00000000000000000001.jsonl"]);
}

#[test]
fn a_segment_that_cannot_be_cut_or_synced_is_given_up() {
    let two = ["00000000000000000001.jsonl", "00000000000000000002.jsonl"];
    assert_eq!(outage(Mood::FullForGood), two);
    assert_eq!(outage(Mood::NoSync), two);
}

#[test]
fn a_disk_that_fails_for_long_does_not_fill_the_directory() {
    let disk = Disk::new();
    let pace = Pace { retry_first: Duration::from_millis(1), retry_max: Duration::from_millis(1), ..Pace::default() };
    let log = on(&disk, pace);
    put(&log, &["before"]).unwrap();
    disk.set(Mood::NoSync);
    for _ in 0..50 {
        assert!(put(&log, &["lost"]).is_err());
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(disk.names().len() <= 2, "{:?}", disk.names());
    disk.set(Mood::Well);
    wait_until("recovers", || log.trouble().is_none());
    assert_eq!(log.refused(), 50);
    assert_eq!(log.queued(), 0);
}

#[test]
fn an_entry_that_cannot_be_written_fails_its_group_only() {
    let disk = Disk::new();
    let log = on(&disk, Pace::default());
    let receivers: Vec<_> =
        ["a", "b\n", "c"].iter().map(|text| log.submit(vec!["x".to_owned(), (*text).to_owned()]).unwrap()).collect();
    let got: Vec<_> = receivers.into_iter().map(|r| r.blocking_recv().unwrap().map(|receipt| receipt.first)).collect();
    assert_eq!(got, [Ok(1), Err(CommitError::Refused("no newlines".to_owned())), Ok(3)]);
    assert!(put(&log, &[]).is_err());
    assert!(put(&log, &vec!["x"; MAX_GROUP + 1]).is_err());
    assert_eq!((log.head().seq, log.stored()), (4, 4));
}

#[test]
fn a_full_queue_refuses_at_once() {
    let disk = Disk::new();
    let log = on(&disk, Pace { max_queued: 4, ..Pace::default() });
    let guard = disk.0.lock().unwrap();
    let waiting: Vec<_> = (0..4).map(|_| log.submit(vec!["x".to_owned()]).unwrap()).collect();
    assert_eq!(log.submit(vec!["y".to_owned()]).err(), Some(CommitError::Busy { waiting: 4, max: 4 }));
    wait_until("lag shows", || log.lag() > Duration::ZERO);
    drop(guard);
    for receiver in waiting {
        receiver.blocking_recv().unwrap().unwrap();
    }
    wait_until("lag ends", || log.lag() == Duration::ZERO);
    put(&log, &["z"]).unwrap();
    assert_eq!(log.busy(), 1);
}

#[test]
fn what_arrived_before_close_is_stored() {
    let log = Committer::volatile(Plain, Pace::default()).unwrap();
    let receivers: Vec<_> = (0..500).map(|at| log.submit(vec![at.to_string()]).unwrap()).collect();
    log.close();
    let last = receivers.into_iter().map(|r| r.blocking_recv().unwrap().unwrap().last).max();
    assert_eq!((last, log.head().seq), (Some(500), 500));
    assert!(log.commits() < 500, "commits are shared: {}", log.commits());
}

#[test]
fn the_thread_comes_by_on_a_full_disk_and_not_on_one_that_does_not_answer() {
    let disk = Disk::new();
    let log = on(&disk, Pace { retry_first: Duration::from_secs(3600), ..Pace::default() });
    let stuck = disk.0.lock().unwrap();
    let told = log.submit(vec!["x".to_owned()]).unwrap();
    wait_until("the thread is at the disk", || !log.lag().is_zero());
    let mut turn = log.turn().unwrap();
    assert!(turn.try_recv().is_err());
    drop(stuck);
    assert!(turn.blocking_recv().is_ok() && told.blocking_recv().unwrap().is_ok());
    disk.set(Mood::Full);
    put(&log, &["y"]).unwrap_err();
    log.turn().unwrap().blocking_recv().unwrap();
}
