//! What one uid may hold, and how often it may come.

use super::*;

fn shares() -> Arc<Shares> {
    Shares::new(2, Box::new(|| Bounds { connections: 16, connections_per_uid: 15, bytes: 1000, bytes_per_uid: 600 }))
}

#[test]
fn the_last_slots_are_kept_for_others() {
    let shares = shares();
    let held: Vec<_> = (0..20).map_while(|_| shares.admit(1, OwnBounds::default()).ok()).collect();
    assert_eq!(held.len(), 14, "two of sixteen slots are kept");
    assert_eq!(shares.admit(1, OwnBounds::default()).unwrap_err(), Full::All);
    let other = shares.admit(2, OwnBounds::default()).unwrap();
    assert_eq!(shares.connections(), 15);
    drop((held, other));
    assert_eq!(shares.connections(), 0);
}

#[test]
fn a_rule_may_give_a_uid_less() {
    let shares = shares();
    let _held: Vec<_> =
        (0..3).map(|_| shares.admit(1, OwnBounds { connections: Some(3), ..OwnBounds::default() }).unwrap()).collect();
    assert_eq!(shares.admit(1, OwnBounds { connections: Some(3), ..OwnBounds::default() }).unwrap_err(), Full::Uid);
}

#[test]
fn bytes_are_bounded_for_one_and_for_all_and_come_back() {
    let shares = shares();
    let (a, b) = (shares.admit(1, OwnBounds::default()).unwrap(), shares.admit(2, OwnBounds::default()).unwrap());
    let first = a.lease(600).unwrap();
    assert!(a.lease(1).is_none());
    assert!(b.lease(401).is_none());
    let second = b.lease(400).unwrap();
    assert_eq!(shares.bytes(), 1000);
    drop((first, second));
    assert_eq!(shares.bytes(), 0);
    assert!(b.lease(600).is_some());
}

#[test]
fn the_rate_outlives_the_connection() {
    let shares = shares();
    let place = shares.admit(1, OwnBounds::default()).unwrap();
    place.share().take(5, 5).unwrap();
    assert!(place.share().take(5, 1).is_err());
    drop(place);
    assert!(shares.admit(1, OwnBounds::default()).unwrap().share().take(5, 1).is_err());
}

#[test]
fn peers_that_no_rule_names_share_a_few_places() {
    let bounds = || Bounds { connections: 1024, connections_per_uid: 256, bytes: 1000, bytes_per_uid: 600 };
    let shares = Shares::new(2, Box::new(bounds));
    let unnamed = OwnBounds { stranger: true, ..OwnBounds::default() };
    let held: Vec<_> = (1000..3000).filter_map(|uid| shares.admit(uid, unnamed).ok()).collect();
    assert_eq!(held.len(), STRANGERS_CONNECTIONS);
    let named = shares.admit(1, OwnBounds::default());
    assert!(named.is_ok(), "a peer with a rule is let in beside them");
    held.first().unwrap().share().take(5, 5).unwrap();
    assert!(held.last().unwrap().share().take(5, 1).is_err(), "their rate is one");
}

#[test]
fn no_crowd_makes_a_rate_whole_again() {
    // Few, since whoever left a second ago may be forgotten, and a busy machine takes that long for thousands.
    let bounds = || Bounds { connections: 16, connections_per_uid: 15, bytes: 1000, bytes_per_uid: 600 };
    let shares = Shares::remembering(64, 2, Box::new(bounds));
    for uid in 10..10 + 64 {
        assert!(shares.admit(uid, OwnBounds::default()).is_ok(), "{uid}");
    }
    assert!(shares.admit(74, OwnBounds::default()).is_err());
    assert_eq!(shares.uids.lock().unwrap().len(), 64, "no more are remembered");
    let refused = shares.admit(1, OwnBounds::default());
    assert_eq!(refused.unwrap_err(), Full::All, "whoever left is remembered until its rate is whole");
    let place = shares.admit(10, OwnBounds::default()).unwrap();
    place.share().take(5, 5).unwrap();
    drop(place);
    assert!(shares.admit(10, OwnBounds::default()).unwrap().share().take(5, 1).is_err());
    for share in shares.uids.lock().unwrap().values() {
        *share.left.lock().unwrap() -= WHOLE_AGAIN;
    }
    assert!(shares.admit(1, OwnBounds::default()).is_ok(), "and then forgotten");
}

#[test]
fn so_many_connections_are_made_in_a_second_and_one_more_is_refused() {
    // A bucket gains what its rate gives while the test runs; as many times as that is enough, on any machine.
    let refused_at = |uid: u32, arrive: &dyn Fn() -> Result<(), Full>, rate: usize| {
        let begun = Instant::now();
        let made = (0..100 * rate).take_while(|_| arrive().is_ok()).count();
        let gained = usize::try_from(begun.elapsed().as_millis()).unwrap() * rate / 1000 + 1;
        assert!((rate..=rate + gained).contains(&made), "uid {uid}: {made} of a rate of {rate}, {gained} gained");
    };
    let (few, least) = (OwnBounds { connections: Some(3), ..OwnBounds::default() }, NEW_PER_SECOND as usize);
    let many = OwnBounds { connections: Some(2 * least), ..OwnBounds::default() };
    let bounds = || Bounds { connections: 9999, connections_per_uid: 9, bytes: 1000, bytes_per_uid: 600 };
    let shares = Shares::new(2, Box::new(bounds));
    for (uid, own, rate) in [(1, few, least), (2, many, 2 * least)] {
        drop(shares.admit(uid, own).unwrap());
        refused_at(uid, &|| shares.arrive(uid), rate);
    }
    shares.arrive(3).expect("whoever was never there may come");
    // Together, whatever their uids.
    let (unnamed, next) = (OwnBounds { stranger: true, ..OwnBounds::default() }, AtomicUsize::new(1000));
    let uid = || u32::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
    drop(shares.admit(uid(), unnamed).unwrap());
    refused_at(STRANGERS, &|| shares.admit(uid(), unnamed).map(drop), least);
    assert_eq!(shares.admit(uid(), unnamed).unwrap_err(), Full::Often);
}

#[test]
fn a_rule_may_give_a_peer_fewer_bytes() {
    let shares = shares();
    let place = shares.admit(1, OwnBounds { bytes: Some(100), ..OwnBounds::default() }).unwrap();
    assert!(place.lease(101).is_none());
    assert!(place.lease(100).is_some());
}
