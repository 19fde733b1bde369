//! What the store survives.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redb::StorageBackend;

use super::file::Opener;
use super::table_tests::{NOW, key, kid, now};
use super::*;
use crate::clock::Moment;

fn rounds() -> usize {
    std::env::var("PASSPORTD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

pub(super) fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    (dir, path)
}

pub(super) fn open(path: &Path) -> Result<Store, StateError> {
    Store::open(path, Mode::CreateIfMissing, now())
}

pub(super) fn stage_and_activate(store: &Store, version: u32, seq: u64) {
    store.commit_blocking(Change::keys(store.keys().stage(key("t", version), NOW).unwrap()), seq).unwrap();
    store.commit_blocking(Change::keys(store.keys().activate(&kid(version), NOW).unwrap()), seq + 1).unwrap();
}

#[test]
fn commits_survive_and_generations_grow_over_restarts() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    assert_eq!((store.generation(), store.keys().len()), (0, 0));
    stage_and_activate(&store, 1, 10);
    stage_and_activate(&store, 2, 12);
    let before = store.snapshot();
    assert_eq!((before.generation, before.audit_seq, before.created), (4, 13, NOW));
    assert_eq!(before.keys.get(&kid(1)).unwrap().audit_seq, 13);
    store.close();
    assert!(matches!(store.commit_blocking(Change::default(), 14), Err(StateError::Closed)));
    let store = Store::open(&path, Mode::Existing, Moment::from_unix(0)).unwrap();
    assert_eq!(store.snapshot(), before);
    for (head_seq, ledger_seq) in [(13, 0), (13, 13), (20, 13)] {
        store.check_against_ledger(head_seq, ledger_seq).unwrap();
    }
    let error = store.check_against_ledger(12, 12).unwrap_err();
    assert!(matches!(error, StateError::AheadOfLedger { state_seq: 13, head_seq: 12 }), "{error}");
    let error = store.check_against_ledger(20, 14).unwrap_err();
    assert!(matches!(error, StateError::BehindLedger { state_seq: 13, ledger_seq: 14 }), "{error}");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_stale_change_is_refused_and_changes_nothing() {
    let store = Store::memory(now()).unwrap();
    stage_and_activate(&store, 1, 1);
    let table = store.keys();
    store.commit_blocking(Change::keys(table.stage(key("t", 2), NOW).unwrap()), 3).unwrap();
    let error = store.commit_blocking(Change::keys(table.stage(key("t", 2), NOW).unwrap()), 4).unwrap_err();
    assert!(matches!(error, StateError::Key(KeyError::Illegal { .. })), "{error}");
    assert_eq!((store.snapshot().audit_seq, store.generation()), (3, 3));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let change = Change::keys(store.keys().activate(&kid(2), NOW).unwrap());
    assert_eq!(runtime.block_on(store.commit(change, 5)).unwrap().generation, 4);
}

#[test]
fn a_lost_state_is_not_replaced_by_an_empty_one() {
    let (_dir, path) = place();
    let error = Store::open(&path, Mode::Existing, now()).err().unwrap();
    assert!(matches!(error, StateError::Missing { .. }), "{error}");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(open(&path).is_err(), "an empty file is not a new one");
}

#[test]
fn a_second_daemon_and_open_files_are_refused() {
    let (dir, path) = place();
    let store = open(&path).unwrap();
    let error = open(&path).err().unwrap().to_string();
    assert!(error.contains(&format!("state.redb: is in use by pid {}", std::process::id())), "{error}");
    store.close();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = open(&path).err().unwrap().to_string();
    assert!(error.contains("0640") && error.contains("chmod"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(matches!(open(&path), Err(StateError::Place(_))));
}

#[test]
fn a_newer_format_is_left_alone() {
    let (_dir, path) = place();
    open(&path).unwrap().close();
    let db = redb::Database::open(&path).unwrap();
    rows::set_format(&db, b"4");
    drop(db);
    for _ in 0..2 {
        let error = open(&path).err().unwrap();
        assert!(matches!(&error, StateError::Format { found, known: 3, .. } if found == "4"), "{error}");
    }
}

#[test]
fn an_interrupted_creation_is_begun_again() {
    let (dir, path) = place();
    fs::write(dir.path().join("state.redb.new"), "half").unwrap();
    let store = open(&path).unwrap();
    stage_and_activate(&store, 1, 1);
}

/// redb's header: magic number, layout, two commit slots (docs/design.md of redb).
const HEADER: usize = 320;

/// A change of the file is noticed or harmless (much of the file is unused); what it
/// never does is to change what is read, or to panic.
#[test]
fn altered_files_are_refused_or_read_right() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    (1..=5).for_each(|version| stage_and_activate(&store, version, u64::from(version) * 2));
    let truth = store.snapshot();
    store.close();
    let whole = fs::read(&path).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (mut refused, total) = (0, rounds() * 10);
    for at in 0..total {
        let mut altered = whole.clone();
        // Half of them in the header, where redb's commit slots are.
        let span = if at % 2 == 0 { HEADER } else { used };
        let byte = (at * span / total + at * 13) % span;
        altered[byte] ^= 1 << (at / 2 % 8);
        fs::write(&path, &altered).unwrap();
        match Store::open(&path, Mode::Existing, now()) {
            Ok(store) => {
                assert_eq!(*store.snapshot(), *truth, "byte {byte}");
                store.close();
            }
            Err(error) => {
                if error.to_string().contains("assertion") {
                    println!("{byte}: {error}");
                }
                assert!(error.to_string().contains("state.redb"), "byte {byte}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "none of {total} alterations was noticed");
    for cut in (0..whole.len()).step_by(whole.len() / 20) {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(Store::open(&path, Mode::Existing, now()).is_err(), "cut at {cut}");
    }
}

/// What is wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Full,
    ReadOnly,
    /// What is written may be there; that it is there for good is not said (fsync(2), EIO).
    Sync,
}

/// Bytes that outlive the database on them, and can be made to refuse writes.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<(Option<Trouble>, Vec<u8>)>>);

impl Disk {
    pub(super) fn set_full(&self, full: bool) {
        self.set(full.then_some(Trouble::Full));
    }

    pub(super) fn set(&self, trouble: Option<Trouble>) {
        self.0.lock().unwrap().0 = trouble;
    }

    fn write_check(trouble: Option<Trouble>) -> io::Result<()> {
        match trouble {
            Some(Trouble::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Trouble::ReadOnly) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Some(Trouble::Sync) | None => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().1.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let (state, offset) = (self.0.lock().unwrap(), usize::try_from(offset).unwrap());
        out.copy_from_slice(state.1.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        Self::write_check(state.0)?;
        state.1.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let trouble = self.0.lock().unwrap().0;
        Self::write_check(trouble)?;
        if trouble.is_some() { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        Self::write_check(state.0)?;
        let offset = usize::try_from(offset).unwrap();
        state.1[offset..offset + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// A store on `disk` with one active key, from audit records 1 and 2.
pub(super) fn on(disk: &Disk) -> Store {
    let backend = disk.clone();
    let db = redb::Builder::new().create_with_backend(backend.clone()).unwrap();
    rows::create(&db, &rows::Meta { created: NOW, audit_seq: 0, generation: 0, mark: NOW, ..rows::Meta::default() })
        .map_err(|e| e.at(Path::new("disk")))
        .unwrap();
    drop(db);
    let opener: Opener = Box::new(move || redb::Builder::new().create_with_backend(backend.clone()));
    let store = Store::start(PathBuf::from("disk"), opener, None).unwrap();
    stage_and_activate(&store, 1, 1);
    store
}

#[test]
fn a_disk_that_hangs_is_answered_for_in_time() {
    let disk = Disk::default();
    let mut store = on(&disk);
    store.patience = Duration::from_millis(20);
    let change = Change::keys(store.keys().stage(key("t", 2), NOW).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let hangs = disk.0.lock().unwrap();
    let answer = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), store.commit(change, 3)).await.expect("an answer in time")
    });
    assert!(matches!(&answer, Err(StateError::Unavailable(why)) if why.contains("20ms")), "{answer:?}");
    assert_eq!(store.snapshot().audit_seq, 2, "not visible");
    let end = Instant::now() + Duration::from_secs(20);
    while !store.trouble().is_some_and(|why| why.contains("under way")) {
        assert!(Instant::now() < end, "it shows: {:?}", store.trouble());
        std::thread::sleep(Duration::from_millis(2));
    }
    let next = Change::keys(store.keys().stage(key("t", 2), NOW).unwrap());
    assert!(matches!(runtime.block_on(store.commit(next, 4)), Err(StateError::Unavailable(_))), "not behind it");
    assert!(!store.clone().close(), "the end does not wait for it");
    let mut changes = store.changes();
    drop(hangs);
    let late = async { tokio::time::timeout(Duration::from_secs(20), changes.changed()).await };
    runtime.block_on(late).expect("what came late is made all the same, and shows").unwrap();
    assert_eq!(store.snapshot().audit_seq, 3);
}

#[test]
fn so_many_changes_wait_for_the_disk_and_so_many_share_a_commit() {
    let disk = Disk::default();
    let mut store = on(&disk);
    store.patience = Duration::from_millis(20);
    let before = store.generation();
    let hangs = disk.0.lock().unwrap();
    let first = store.submit(Change::default(), 3).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !store.trouble().is_some_and(|why| why.contains("under way")) {
        assert!(Instant::now() < end, "the first one is at the disk");
        std::thread::sleep(Duration::from_millis(2));
    }
    let waiting: Vec<_> = (0..store::MAX_QUEUED).map(|_| store.submit(Change::default(), 4).unwrap()).collect();
    assert!(matches!(store.submit(Change::default(), 5), Err(StateError::Busy)), "one more");
    drop(hangs);
    assert_eq!(first.blocking_recv().unwrap().unwrap().generation, before + 1);
    let mut last = 0;
    for (n, told) in waiting.into_iter().enumerate() {
        last = told.blocking_recv().unwrap().unwrap().generation;
        assert_eq!(last, before + 2 + u64::try_from(n / writer::MAX_GROUP).unwrap(), "change {n}");
    }
    assert_eq!(last, before + 1 + u64::try_from(store::MAX_QUEUED / writer::MAX_GROUP).unwrap());
}

#[test]
fn a_full_disk_fails_the_change_and_the_store_recovers_by_itself() {
    let disk = Disk::default();
    let store = on(&disk);
    disk.set_full(true);
    let change = Change::keys(store.keys().stage(key("t", 2), NOW).unwrap());
    let error = store.commit_blocking(change.clone(), 3).unwrap_err();
    assert!(matches!(error, StateError::Unavailable(_)), "{error}");
    assert_eq!(store.snapshot().audit_seq, 2, "not visible");
    assert!(store.trouble().is_some());
    disk.set_full(false);
    let end = Instant::now() + Duration::from_secs(20);
    while store.trouble().is_some() {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(10));
    }
    store.commit_blocking(change, 4).unwrap();
    assert_eq!(store.keys().len(), 2);
}

#[test]
fn many_changes_share_commits() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for seq in 0..200 {
            let store = store.clone();
            tasks.spawn(async move { store.commit(Change::default(), seq).await.unwrap() });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
    assert!(store.generation() < 200, "{}", store.generation());
    assert_eq!(store.snapshot().audit_seq, 199);
}

/// Found by the fuzz target `state`: of a file that was not closed, redb takes the commit before the newest when the
/// newest does not check out, and an altered bit is enough for that. A key that was rotated was back (L7).
#[test]
fn no_altered_bit_brings_an_earlier_commit_back() {
    let table = KeyTable::default();
    let staged = table.stage(key("t", 1), NOW).unwrap();
    let table = table.apply(&staged).unwrap();
    let active = table.activate(&kid(1), NOW).unwrap();
    let commit = |generation: u64, keys: &[KeyRecord]| {
        let head = rows::Meta { created: NOW, audit_seq: generation, generation, mark: NOW, ..rows::Meta::default() };
        let rows = keys.iter().map(|key| (key.kid.clone(), serde_json::to_vec(key).unwrap())).collect();
        (serde_json::to_vec(&head).unwrap(), rows)
    };
    let images = fuzzing::images(&[commit(1, &staged), commit(2, &active)]).unwrap();
    let truth = fuzzing::open(images[0].clone()).unwrap();
    assert_eq!((truth.generation, truth.keys.active("t", "passport").map(|key| key.version)), (2, Some(1)));
    for (image, left) in images.iter().zip(["killed", "closed"]) {
        let used = image.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        // A bit of each byte of the header, where the two commit slots are; all of the byte that says which of them
        // counts; and a sample of the pages.
        let header = (0..HEADER).map(|byte| byte * 8 + byte % 8).chain(9 * 8..10 * 8);
        let bits = header.chain((HEADER * 8..used * 8).step_by(used * 8 / 80));
        let mut refused = 0;
        for bit in bits {
            let mut altered = image.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            match fuzzing::open(altered) {
                Ok(read) => assert_eq!(read, truth, "{left}, byte {}, bit {}", bit / 8, bit % 8),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 0, "{left}: nothing was noticed");
    }
}
