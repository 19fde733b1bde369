//! Who listens hears what is durable: in its order, before whoever asked for it, and also what seemed to fail and came.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redb::StorageBackend;

use super::file::Opener;
use super::table_tests::{NOW, key, kid, now};
use super::tests::Disk;
use super::*;

const LATER: i64 = NOW + 3600;

fn revoked(tenant: &str, jti: &str) -> Entry {
    let what = What::RevokedId { jti: jti.into() };
    Entry { until: LATER, owner: Owner::Admin, tenant: tenant.into(), what }
}

/// What a store tells, as it comes.
fn heard(store: &Store) -> Arc<Mutex<Vec<News>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ear = Arc::clone(&heard);
    store.listen(Box::new(move |news| ear.lock().unwrap().extend(news)));
    heard
}

fn take(heard: &Mutex<Vec<News>>) -> Vec<News> {
    std::mem::take(&mut *heard.lock().unwrap())
}

#[test]
fn what_refuses_more_is_told_before_its_answer_and_once() {
    let store = Store::memory(now()).unwrap();
    let heard = heard(&store);
    let commit = |change: Change| assert!(store.commit_blocking(change, 1).is_ok());
    commit(Change::revoked(vec![revoked("t", "a"), revoked("t", "b"), revoked("t", "a")]));
    let all = [News::Revoked(revoked("t", "a")), News::Revoked(revoked("t", "b"))];
    assert_eq!(take(&heard), all);
    commit(Change::revoked(vec![revoked("t", "b")]));
    assert_eq!(take(&heard), [], "it says nothing new");
    commit(Change::bumped("t", NOW));
    assert_eq!(take(&heard), [News::Epoch { tenant: Some("t".into()), epoch: 1 }]);
    commit(Change { settled: Some(7), ..Change::default() });
    assert_eq!(take(&heard), [News::Epoch { tenant: None, epoch: 7 }]);
    commit(Change::keys(store.keys().stage(key("t", 1), NOW).unwrap()));
    assert_eq!(take(&heard), [], "a key by itself refuses nothing");
    commit(Change::keys(store.keys().compromise(&kid(1), NOW).unwrap()));
    assert_eq!(take(&heard), [News::Compromised { tenant: "t".into(), kid: kid(1) }]);
}

/// So many syncs go well, then none does.
#[derive(Clone, Debug)]
struct Flaky(Disk, Arc<AtomicUsize>);

impl StorageBackend for Flaky {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let one_less = |left: usize| left.checked_sub(1);
        let left = self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        left.map(drop).map_err(|_| io::ErrorKind::StorageFull.into())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

#[test]
fn what_seemed_to_fail_is_told_if_it_came_and_only_then() {
    let (mut came, mut failed) = (0, 0);
    for syncs in 0..8 {
        let disk = Flaky(Disk::default(), Arc::new(AtomicUsize::new(usize::MAX)));
        let backend = disk.clone();
        let db = redb::Builder::new().create_with_backend(backend.clone()).unwrap();
        let meta = rows::Meta { created: NOW, mark: NOW, ..rows::Meta::default() };
        rows::create(&db, &meta).map_err(|error| error.at(Path::new("disk"))).unwrap();
        drop(db);
        let opener: Opener = Box::new(move || redb::Builder::new().create_with_backend(backend.clone()));
        let store = Store::start(PathBuf::from("disk"), opener, None).unwrap();
        let heard = heard(&store);
        disk.1.store(syncs, Ordering::SeqCst);
        let change = Change { revoked: vec![revoked("t", "j")], ..Change::bumped("t", NOW) };
        let done = store.commit_blocking(change, 1).is_ok();
        disk.1.store(usize::MAX, Ordering::SeqCst);
        failed += usize::from(!done);
        let end = Instant::now() + Duration::from_secs(20);
        while store.trouble().is_some() {
            assert!(Instant::now() < end, "it recovers");
            std::thread::sleep(Duration::from_millis(10));
        }
        store.commit_blocking(Change::default(), 2).unwrap();
        let is_there = store.kept().id_revoked_until("t", "j", LATER);
        assert!(is_there || !done, "after {syncs} syncs");
        came += usize::from(is_there && !done);
        let all = [News::Epoch { tenant: Some("t".into()), epoch: 1 }, News::Revoked(revoked("t", "j"))];
        let expected = if is_there { &all[..] } else { &[] };
        assert_eq!(take(&heard), expected, "after {syncs} syncs");
    }
    assert!(came > 0 && failed < 8, "{failed} of 8 were reported as failed, and {came} of these came");
}

#[test]
fn pages_have_every_revocation_of_whom_is_asked_for_and_nothing_else() {
    let store = Store::memory(now()).unwrap();
    let mine: Vec<Entry> = (0..300).map(|number| revoked("t", &format!("mine-{number:03}"))).collect();
    let theirs: Vec<Entry> = (0..300).map(|number| revoked("u", &format!("theirs-{number:03}"))).collect();
    for part in [mine.clone(), theirs] {
        store.commit_blocking(Change::revoked(part), 1).unwrap();
    }
    let size = |entry: &Entry| (entry.tenant == "t").then_some(10);
    let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let Page { revoked, next } = store.page(after.as_deref(), 70, size).unwrap();
        assert!(revoked.len() <= 7);
        all.extend(revoked);
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((all, pages), (mine, 43));
    // One that is larger than all the room is on a page of its own.
    assert_eq!(store.page(None, 1, size).unwrap().revoked.len(), 1);
    assert!(store.close());
    assert!(matches!(store.page(None, 70, size), Err(StateError::Unavailable(_))));
}

/// However much else is kept, a page is read in bounded time: it ends without a revocation, and says where to go on.
#[test]
fn a_page_looks_at_so_many_rows() {
    let store = Store::memory(now()).unwrap();
    for part in 0..=MAX_SCANNED / 4096 {
        let theirs = (0..4096).map(|number| revoked("u", &format!("theirs-{part:02}-{number:04}"))).collect();
        store.commit_blocking(Change::revoked(theirs), 1).unwrap();
    }
    // Behind all of theirs.
    let mine = Entry { until: LATER + 1, ..revoked("t", "mine") };
    store.commit_blocking(Change::revoked(vec![mine.clone()]), 1).unwrap();
    let size = |entry: &Entry| (entry.tenant == "t").then_some(10);
    let first = store.page(None, 70, size).unwrap();
    assert!(first.revoked.is_empty() && first.next.is_some());
    assert_eq!(store.page(first.next.as_deref(), 70, size).unwrap(), Page { revoked: vec![mine], next: None });
}
