//! What the accept loop does for those who come, against a house of the test's own.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::service::shares::Bounds;
use crate::service::{Refused, Turned};

/// Whoever has a place is listened to, and says nothing.
struct Silent;

impl Speaker for Silent {
    fn greet(&self, _: &[u8], _: &mut Vec<u8>) -> Result<(), Refused> {
        Ok(())
    }

    async fn turn<'b>(&self, bodies: &mut (impl Iterator<Item = &'b [u8]> + Send), _: &mut Vec<u8>) -> Turned {
        bodies.next().unwrap();
        Turned::Done
    }

    fn refuse(&self, _: u64, _: Problem, _: &mut Vec<u8>) {}

    fn refuse_greeting(&self, _: &mut Vec<u8>) {}
}

/// Counts.
#[derive(Default)]
struct Counting {
    looked_up: AtomicUsize,
    welcomed: AtomicUsize,
    turned_away: AtomicUsize,
    /// How often somebody else had had a turn when the last one came.
    others: AtomicUsize,
    /// The most that came between two such turns.
    in_a_row: AtomicUsize,
    since: AtomicUsize,
}

impl Counting {
    fn arrived(&self) -> usize {
        self.looked_up.load(Ordering::SeqCst) + self.turned_away.load(Ordering::SeqCst)
    }

    fn came(&self) {
        let row = self.since.fetch_add(1, Ordering::SeqCst) + 1;
        self.in_a_row.fetch_max(row, Ordering::SeqCst);
    }
}

impl House for Counting {
    type Speaker = Silent;

    fn speaker(&self, _: Peer, _: Arc<Place>) -> Silent {
        self.welcomed.fetch_add(1, Ordering::SeqCst);
        Silent
    }

    fn bounds_of(&self, _: &Peer) -> OwnBounds {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        self.came();
        OwnBounds::default()
    }

    fn asks_cgroups(&self) -> bool {
        false
    }

    fn patience(&self) -> Patience {
        Patience { read: Duration::from_secs(10), idle: Duration::from_secs(10), in_flight: 4 }
    }

    fn turned_away(&self, _: &Peer, why: &'static str, _: bool) {
        assert_eq!(why, Full::Often.text());
        self.turned_away.fetch_add(1, Ordering::SeqCst);
        self.came();
    }
}

/// So many connect and go; what the house has seen of them.
async fn flooded_by(connections: usize) -> Arc<Counting> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = unix::UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let house = Arc::new(Counting::default());
    let bounds = Bounds { connections: 2000, connections_per_uid: 500, bytes: 1 << 20, bytes_per_uid: 1 << 20 };
    let shares = Shares::new(1, Box::new(move || bounds));
    let (end, stop) = watch::channel(false);
    // On a thread of its own: the queue of a listener may be short.
    let comers =
        std::thread::spawn(move || (0..connections).for_each(|_| drop(unix::UnixStream::connect(&path).unwrap())));
    let listener = UnixListener::from_std(listener).unwrap();
    let accepting = tokio::spawn(accept(listener, "main".into(), Arc::clone(&house), Arc::clone(&shares), stop));
    while house.arrived() < connections {
        house.others.fetch_add(1, Ordering::SeqCst);
        house.since.store(0, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
    comers.join().unwrap();
    end.send(true).unwrap();
    accepting.await.unwrap();
    house
}

#[tokio::test]
async fn who_connects_without_end_is_not_looked_up_and_costs_no_task() {
    let begun = std::time::Instant::now();
    let house = flooded_by(20_000).await;
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    let (looked_up, turned_away) = (house.looked_up.load(Ordering::SeqCst), house.turned_away.load(Ordering::SeqCst));
    assert_eq!(looked_up + turned_away, 20_000);
    // The first, a second's worth, and what a second gains.
    assert!((1001..=1001 + 1000 * seconds).contains(&looked_up), "{looked_up} in {seconds} s");
    assert_eq!(house.welcomed.load(Ordering::SeqCst), looked_up);
    // All but the first rows, those of who may stay, were rows of such. Now and then nobody waits.
    let rows = u32::try_from(turned_away / IN_A_ROW).unwrap();
    assert!(begun.elapsed() >= STORM_PAUSE * rows / 2, "{rows} rows in {:?}", begun.elapsed());
}

#[tokio::test]
async fn others_have_their_turn_between_those_who_come() {
    let house = flooded_by(3000).await;
    let most = house.in_a_row.load(Ordering::SeqCst);
    assert!(most <= IN_A_ROW, "{most} in a row");
    assert!(house.others.load(Ordering::SeqCst) >= 3000 / IN_A_ROW);
}
