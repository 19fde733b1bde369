//! What is kept for a while, over restarts, races and failures.

use std::sync::{Arc, Barrier};
use std::thread;

use super::table_tests::{NOW, key, kid, now};
use super::tests::{Disk, Trouble, on, open, place};
use super::*;

const LATER: i64 = NOW + 3600;

fn revoked_id(jti: &str) -> Entry {
    let what = What::RevokedId { jti: jti.into() };
    Entry { until: LATER, owner: Owner::Peer(1000), tenant: "t".into(), what }
}

fn revoked_subject(sub: &str, before: i64, until: i64) -> Entry {
    let what = What::RevokedSubject { sub: sub.into(), before };
    Entry { until, owner: Owner::Admin, tenant: "t".into(), what }
}

fn named<'a>(jti: &'a str, sub: &'a str) -> Named<'a> {
    Named { kid: "ed25519/t/p/v1", tenant: "t", jti, sub, iat: NOW, epoch: 0, par: None }
}

fn spend(jti: &str) -> Spend {
    Spend {
        uid: 1000,
        kid: "ed25519/t/p/v1".into(),
        tenant: "t".into(),
        jti: jti.into(),
        sub: "s".into(),
        iat: NOW,
        epoch: 0,
        par: None,
        until: LATER,
        limit: None,
        nonce: None,
        proof: None,
        retry: None,
        now: NOW,
    }
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn each_way_to_revoke_holds_for_its_tenant_and_nobody_else() {
    let store = Store::memory(now()).unwrap();
    let before = store.revision();
    let is_revoked = |named: Named<'_>| store.kept().is_revoked(&named);
    assert!(!is_revoked(named("j", "s")));
    store.commit_blocking(Change::revoked(vec![revoked_id("j"), revoked_subject("s", NOW - 1, LATER)]), 1).unwrap();
    assert!(store.revision() > before);
    assert!(is_revoked(named("j", "x")));
    assert!(is_revoked(Named { iat: NOW - 1, ..named("k", "s") }));
    assert!(!is_revoked(named("k", "s")), "issued after it");
    assert!(!is_revoked(Named { tenant: "u", ..named("j", "s") }));
    assert!(!is_revoked(named("s", "j")), "a subject is no id");
    assert_eq!(store.commit_blocking(Change::bumped("u", NOW), 2).unwrap().epoch, 1);
    assert!(is_revoked(Named { tenant: "u", ..named("k", "x") }) && !is_revoked(named("k", "x")));
    assert!(!is_revoked(Named { tenant: "u", epoch: 1, ..named("k", "x") }), "of the epoch that began");
    store.commit_blocking(Change::keys(store.keys().stage(key("t", 1), NOW).unwrap()), 3).unwrap();
    let before = store.revision();
    store.commit_blocking(Change::keys(store.keys().compromise(&kid(1), NOW).unwrap()), 4).unwrap();
    assert!(store.revision() > before);
    let signed = kid(1);
    assert!(is_revoked(Named { kid: &signed, ..named("k", "x") }) && !is_revoked(named("k", "x")));
}

#[test]
fn what_is_kept_is_there_after_a_restart_until_it_goes() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    let revoked = vec![revoked_id("j"), revoked_subject("s", NOW, LATER)];
    assert_eq!(store.commit_blocking(Change::revoked(revoked), 1).unwrap().new, 2);
    store.commit_blocking(Change::bumped("u", NOW), 2).unwrap();
    store.commit_blocking(Change { lifetime_s: Some(777), ..Change::default() }, 0).unwrap();
    let limited = Spend { limit: Some(2), nonce: Some("n".into()), retry: Some(([1; 16], [2; 32])), ..spend("k") };
    let limited = Spend { sub: "x".into(), proof: Some(([3; 32], NOW + 60)), ..limited };
    assert_eq!(block(store.spend(limited.clone())).unwrap(), Spending::Spent { left: Some(1) });
    store.commit_blocking(Change::keys(store.keys().stage(key("t", 1), NOW).unwrap()), 3).unwrap();
    store.commit_blocking(Change::keys(store.keys().compromise(&kid(1), NOW).unwrap()), 4).unwrap();
    let rows = store.kept().len();
    assert_eq!(rows, 6);
    store.close();

    let store = Store::open(&path, Mode::Existing, now()).unwrap();
    {
        let kept = store.kept();
        assert_eq!((kept.len(), store.snapshot().longest_s, kept.epoch("u"), kept.epoch("t")), (rows, 777, 1, 0));
        assert!(kept.is_revoked(&named("j", "x")) && kept.is_revoked(&named("k", "s")));
        assert!(kept.is_revoked(&Named { kid: &kid(1), ..named("k", "x") }));
        assert!(kept.nonce_is_spent("t", "n") && kept.proof_is_spent("t", &[3; 32]) && kept.used("t", "k") == 1);
    }
    assert_eq!(block(store.spend(limited.clone())).unwrap(), Spending::Repeated { left: Some(1), at: NOW });
    assert_eq!(block(store.spend(Spend { retry: None, ..limited.clone() })).unwrap(), Spending::Replayed);
    let again = store.commit_blocking(Change::revoked(vec![revoked_id("j"), revoked_subject("s", NOW, LATER)]), 5);
    assert_eq!(again.unwrap().new, 0, "idempotent");

    // The proof goes first, then the answer; all the rest an hour later, and with it every trace but epoch and key.
    for (time, left) in [(NOW + 59, 6), (NOW + 60, 5), (NOW + REPEAT_S, 4), (LATER - 1, 4), (LATER, 0)] {
        store.evict(time).unwrap();
        // In the order of their arrival: this is written behind it.
        store.commit_blocking(Change::default(), 6).unwrap();
        assert_eq!(store.kept().len(), left, "at {time}");
    }
    assert!(!store.kept().is_revoked(&named("j", "s")) && store.kept().epoch("u") == 1);
    store.close();
    let store = open(&path).unwrap();
    assert!(store.kept().is_empty());
    assert_eq!(store.kept().admits(&Room { total: 3, reserved: 0 }, Owner::Peer(1000), "t", 1), Ok(()));
}

#[test]
fn a_subject_that_is_revoked_again_is_revoked_up_to_the_newest_and_for_the_longest() {
    let store = Store::memory(now()).unwrap();
    let revoke = |before, until| {
        let entry = revoked_subject("s", before, until);
        store.commit_blocking(Change::revoked(vec![entry]), 1).unwrap().new
    };
    assert_eq!((revoke(100, 1000), revoke(90, 1000), revoke(100, 900)), (1, 0, 0));
    assert_eq!((revoke(200, 1100), revoke(150, 1200)), (1, 0), "the second only lasts longer");
    let newest = || store.kept().subject_revoked("t", "s");
    assert_eq!(newest(), Some(200));
    for (time, kept) in [(1000, Some(200)), (1100, Some(200)), (1199, Some(200)), (1200, None)] {
        store.evict(time).unwrap();
        store.commit_blocking(Change::default(), 1).unwrap();
        assert_eq!(newest(), kept, "at {time}");
    }
    assert!(store.kept().is_empty());
}

#[test]
fn the_longest_and_newest_of_a_revocation_holds_whatever_came_first() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    let id = |until| Entry { until, ..revoked_id("j") };
    let revoke = |all| store.commit_blocking(Change::revoked(all), 1).unwrap().new;
    // A slip that is kept too short is mended by another; and both in one request are one.
    assert_eq!((revoke(vec![id(100)]), revoke(vec![id(LATER)]), revoke(vec![id(100)])), (1, 0, 0));
    assert_eq!(revoke(vec![Entry { until: 100, ..revoked_id("k") }, revoked_id("k")]), 1);
    assert_eq!(revoke(vec![revoked_subject("s", 200, LATER), revoked_subject("s", 100, LATER)]), 1);
    let holds = |store: &Store| {
        let kept = store.kept();
        let at = |iat| Named { iat, ..named("x", "s") };
        kept.is_revoked(&named("j", "x")) && kept.is_revoked(&named("k", "x")) && kept.is_revoked(&at(200))
    };
    assert!(holds(&store));
    store.evict(100).unwrap();
    block(store.settle()).unwrap();
    assert!(holds(&store));
    assert_eq!(store.kept().len(), 3);
    store.close();
    let store = open(&path).unwrap();
    assert!(holds(&store) && store.kept().len() == 3);
}

/// Passports that say an epoch which came to nothing would outlive the one that comes in its place.
#[test]
fn no_epoch_is_said_that_is_not_durable() {
    let disk = Disk::default();
    let store = on(&disk);
    let said = || Some(store.snapshot().epochs.of("t"));
    assert_eq!(store.commit_blocking(Change::bumped("t", NOW), 3).unwrap().epoch, 1);
    assert_eq!(said(), Some(1));
    disk.set_full(true);
    assert!(store.commit_blocking(Change::bumped("t", NOW), 4).is_err());
    assert_eq!(said(), Some(1), "while the disk is full");
    disk.set_full(false);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while store.trouble().is_some() {
        assert!(std::time::Instant::now() < end, "{:?}", store.trouble());
        thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!((said(), store.kept().epoch("t")), (Some(1), 1));
    assert_eq!(store.commit_blocking(Change::bumped("t", NOW), 5).unwrap().epoch, 2);
    assert_eq!((said(), store.kept().epoch("t")), (Some(2), 2));
}

#[test]
fn of_sixteen_who_come_at_once_one_takes_a_nonce_and_two_take_two_uses() {
    for (limit, nonce, wins) in [(None, Some("n"), 1), (Some(1), None, 1), (Some(2), None, 2), (Some(10), None, 10)] {
        let (_dir, path) = place();
        let store = open(&path).unwrap();
        let barrier = Arc::new(Barrier::new(16));
        let one = |uid| {
            let (store, barrier) = (store.clone(), Arc::clone(&barrier));
            let spend = Spend { uid, limit, nonce: nonce.map(Into::into), ..spend("j") };
            thread::spawn(move || {
                barrier.wait();
                block(store.spend(spend)).unwrap()
            })
        };
        let all: Vec<_> = (0..16).map(one).collect();
        let all: Vec<_> = all.into_iter().map(|one| one.join().unwrap()).collect();
        let taken = all.iter().filter(|one| matches!(one, Spending::Spent { .. })).count();
        assert_eq!(taken, wins, "{all:?}");
        let refused = if nonce.is_some() { Spending::Replayed } else { Spending::UsedUp };
        assert!(all.iter().all(|one| matches!(one, Spending::Spent { .. }) || *one == refused), "{all:?}");
    }
}

#[test]
fn nothing_is_acknowledged_that_a_disk_in_trouble_did_not_take_and_it_recovers() {
    for trouble in [Trouble::Full, Trouble::ReadOnly, Trouble::Sync] {
        let disk = Disk::default();
        let store = on(&disk);
        let once = Spend { nonce: Some("n".into()), limit: Some(2), ..spend("j") };
        assert_eq!(
            block(store.spend(Spend { nonce: None, ..once.clone() })).unwrap(),
            Spending::Spent { left: Some(1) }
        );
        disk.set(Some(trouble));
        for _ in 0..3 {
            let failed = block(store.spend(once.clone()));
            assert!(matches!(failed, Err(StateError::Unavailable(_))), "{trouble:?}: {failed:?}");
        }
        let failed = store.commit_blocking(Change::revoked(vec![revoked_id("k")]), 3);
        assert!(matches!(failed, Err(StateError::Unavailable(_))), "{trouble:?}: {failed:?}");
        assert!(!store.kept().is_revoked(&named("another", "x")), "verification goes on");
        disk.set(None);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while store.trouble().is_some() {
            assert!(std::time::Instant::now() < end, "{trouble:?}: {:?}", store.trouble());
            thread::sleep(std::time::Duration::from_millis(10));
        }
        // As the file has it: neither was taken; but for a disk that took what it did not say to have.
        let may_be_there = trouble == Trouble::Sync;
        assert!(may_be_there || !store.kept().is_revoked(&named("k", "x")), "{trouble:?}");
        let taken = block(store.spend(once.clone())).unwrap();
        let late = may_be_there && taken == Spending::Replayed;
        assert!(late || taken == Spending::Spent { left: Some(0) }, "{trouble:?}: {taken:?}");
        assert_eq!(block(store.spend(once.clone())).unwrap(), Spending::Replayed);
        assert_eq!(block(store.spend(Spend { nonce: None, ..once })).unwrap(), Spending::UsedUp, "{trouble:?}");
    }
}

#[test]
fn who_fills_a_share_is_refused_and_others_are_not() {
    let store = Store::memory(now()).unwrap();
    store.set_room(Room { total: 23, reserved: 3 });
    let from = |uid, tenant: &str, jti: &str| {
        let spend = Spend { uid, tenant: tenant.into(), limit: Some(1), ..spend(jti) };
        block(store.spend(spend)).map(|spending| assert_eq!(spending, Spending::Spent { left: Some(0) }))
    };
    let full = |result, whose| assert!(matches!(&result, Err(StateError::Full(full)) if *full == whose), "{result:?}");
    // Of 20: six, and six that the tenant leaves, and eight that this uid must leave free.
    (0..6).for_each(|n| from(1, "t", &format!("a{n}")).unwrap());
    full(from(1, "t", "b"), Full::Peer);
    from(1, "u", "b").unwrap();
    (0..2).for_each(|n| from(2, "t", &format!("c{n}")).unwrap());
    full(from(2, "t", "d"), Full::Peer);
    from(3, "t", "d").unwrap();
    full(from(3, "t", "e"), Full::Tenant);
    full(from(4, "t", "e"), Full::Tenant);
    from(4, "v", "e").unwrap();
    let admin = |jti: &str| {
        let entry = Entry { owner: Owner::Admin, ..revoked_id(jti) };
        store.commit_blocking(Change::revoked(vec![entry]), 1)
    };
    // Admins may have all that is left of 23; those who come between find the end of theirs before.
    (0..3).for_each(|n| assert_eq!(admin(&format!("f{n}")).unwrap().new, 1));
    from(5, "w", "g").unwrap();
    (3..11).for_each(|n| assert_eq!(admin(&format!("f{n}")).unwrap().new, 1));
    full(from(6, "x", "h"), Full::All);
    assert!(matches!(admin("g"), Err(StateError::Full(Full::All))));
    assert!(store.kept().is_revoked(&named("f0", "x")), "nothing that is there has gone");
    let most = revoked_id("h");
    assert!(matches!(store.commit_blocking(Change::revoked(vec![most; 2]), 1), Err(StateError::Full(_))));
    assert!(!store.kept().is_revoked(&named("h", "x")), "all of a change or nothing");
}

/// One subject's holder makes proof after proof; a service forwards them all.
#[test]
fn a_subject_that_floods_proofs_fills_its_quota_and_nobody_elses() {
    let (_dir, path) = place();
    let room = Room { total: 3200, reserved: 0 };
    let most = room.proofs_of_a_subject();
    assert_eq!((most, Room::of(2_000_000).proofs_of_a_subject()), (100, 62_500));
    let proof = |sub: &str, n: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        Spend { sub: sub.into(), proof: Some((id, NOW + 240)), ..spend(&format!("{sub}-{n}")) }
    };
    let took = |store: &Store, spend: Spend| {
        block(store.spend(spend)).map(|spending| spending == Spending::Spent { left: None })
    };
    let full = |result| matches!(result, Err(StateError::Full(Full::Subject)));
    let store = open(&path).unwrap();
    store.set_room(room);
    let first: Vec<_> = block(store.spend_many((0..most).map(|n| proof("flood", n)).collect())).unwrap();
    assert_eq!(first, vec![Spending::Spent { left: None }; most]);
    for n in most..most + 3 {
        assert!(full(took(&store, proof("flood", n))), "{n}");
    }
    let others = |store: &Store, n| {
        assert!(took(store, proof("calm", n)).unwrap(), "another subject");
        assert!(took(store, Spend { tenant: "u".into(), ..proof("flood", n) }).unwrap(), "another tenant's");
        let nonce = Some(format!("n{n}"));
        assert!(took(store, Spend { sub: "flood".into(), nonce, ..spend("free") }).unwrap(), "what takes no proof");
    };
    others(&store, 10_000);
    store.close();

    // The quota is the same after a restart, and comes back as its proofs go.
    let store = open(&path).unwrap();
    store.set_room(room);
    assert!(full(took(&store, proof("flood", most))));
    others(&store, 10_001);
    store.evict(NOW + 240).unwrap();
    store.commit_blocking(Change::default(), 6).unwrap();
    assert!(took(&store, proof("flood", most)).unwrap());
}

#[test]
fn the_format_before_is_read_and_becomes_the_present_one() {
    let (_dir, path) = place();
    open(&path).unwrap().close();
    let db = redb::Database::open(&path).unwrap();
    rows::as_format_1(&db);
    drop(db);
    let store = open(&path).unwrap();
    assert!(store.snapshot().longest_s >= 365 * 86_400, "nobody knows what it was");
    store.evict(NOW).unwrap();
    assert!(store.kept().is_empty());
    store.commit_blocking(Change::revoked(vec![revoked_id("j")]), 1).unwrap();
    store.close();
    assert!(open(&path).unwrap().kept().is_revoked(&named("j", "x")));
}
