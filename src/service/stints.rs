//! Who is worked for, and for how long in one go.
//!
//! What is done in place, verifications above all, holds a thread of the executor. Tasks take turns there one by one, so
//! a uid with many busy connections would be worked for as often as it has connections. So each uid has a bound on its
//! stints at one time: all threads while nobody else asks for anything, one fewer while somebody does. A stint is short,
//! so whoever comes finds a thread within one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long one stint lasts before others get theirs. A request that takes longer ends it late.
pub const STINT: Duration = Duration::from_micros(250);

/// For how long a uid that was worked for counts as being there.
const PRESENT: Duration = Duration::from_millis(100);

/// What all uids have in common.
#[derive(Debug)]
pub(super) struct Stints {
    threads: usize,
    /// The two uids that were worked for last, the last one first. Two are enough to know of somebody else.
    newest: Mutex<[Option<(u32, Instant)>; 2]>,
}

/// What one uid has under way.
#[derive(Debug, Default)]
pub(super) struct OwnStints {
    running: AtomicUsize,
    free: Notify,
}

/// Being worked for; ends on drop.
#[derive(Debug)]
pub struct Stint {
    own: Arc<OwnStints>,
    begun: Instant,
}

impl Stints {
    /// For an executor with so many threads.
    pub(super) const fn new(threads: usize) -> Self {
        Self { threads, newest: Mutex::new([None; 2]) }
    }

    /// How many stints `uid`, which asks now, may have at one time.
    fn most(&self, uid: u32, now: Instant) -> usize {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *newest {
            [Some((first, at)), _] if *first == uid => *at = now,
            [first, second] => (*second, *first) = (first.take(), Some((uid, now))),
        }
        let present = |other: &(u32, Instant)| other.0 != uid && now.saturating_duration_since(other.1) < PRESENT;
        let shared = newest.iter().flatten().any(present);
        if shared { self.threads.saturating_sub(1).max(1) } else { self.threads }
    }

    /// The next stint of `uid`. Whoever waits here holds nothing.
    pub(super) async fn take(&self, uid: u32, own: &Arc<OwnStints>) -> Stint {
        loop {
            let now = Instant::now();
            let most = self.most(uid, now);
            let add = |running: usize| (running < most).then_some(running + 1);
            if let Ok(before) = own.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, add) {
                if before + 1 < most {
                    // The bound may have grown since somebody else was sent to wait.
                    own.free.notify_one();
                }
                return Stint { own: Arc::clone(own), begun: now };
            }
            // Every stint that ends notifies one, and a notification that nobody waits for is kept.
            own.free.notified().await;
        }
    }
}

impl Stint {
    /// Whether it has lasted as long as one may.
    pub fn is_over(&self) -> bool {
        self.is_over_at(Instant::now())
    }

    fn is_over_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.begun) >= STINT
    }
}

impl Drop for Stint {
    fn drop(&mut self) {
        self.own.running.fetch_sub(1, Ordering::AcqRel);
        self.own.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn alone_a_uid_may_use_every_thread_and_beside_others_all_but_one() {
        let stints = Stints::new(4);
        let (own, other) = (Arc::new(OwnStints::default()), Arc::new(OwnStints::default()));
        let held: Vec<_> = (0..9).map_while(|_| now(stints.take(1, &own))).collect();
        assert_eq!(held.len(), 4);
        let second = now(stints.take(2, &other));
        assert!(second.is_some(), "somebody else is not kept waiting");
        drop(held);
        let held: Vec<_> = (0..9).map_while(|_| now(stints.take(1, &own))).collect();
        assert_eq!(held.len(), 3, "one thread is left to others");
    }

    #[test]
    fn a_single_thread_is_shared_stint_by_stint() {
        let stints = Stints::new(1);
        let (own, other) = (Arc::new(OwnStints::default()), Arc::new(OwnStints::default()));
        let _first = now(stints.take(1, &own)).unwrap();
        assert!(now(stints.take(1, &own)).is_none());
        assert!(now(stints.take(2, &other)).is_some());
    }

    #[test]
    fn a_stint_is_over_when_its_time_is_and_not_before() {
        let stint = now(Stints::new(1).take(1, &Arc::default())).unwrap();
        assert!(!stint.is_over_at(stint.begun + STINT - Duration::from_nanos(1)));
        assert!(stint.is_over_at(stint.begun + STINT));
    }

    #[test]
    fn others_count_only_while_they_ask() {
        let stints = Stints::new(2);
        let start = Instant::now();
        assert_eq!(stints.most(1, start), 2);
        assert_eq!(stints.most(2, start), 1);
        assert_eq!(stints.most(1, start + PRESENT / 2), 1);
        assert_eq!(stints.most(1, start + PRESENT), 2);
        // A third one does not hide that somebody else is there.
        assert_eq!(stints.most(3, start + PRESENT), 1);
        assert_eq!(stints.most(3, start + PRESENT), 1);
    }

    #[tokio::test]
    async fn whoever_waits_gets_the_stint_that_ends() {
        let stints = Arc::new(Stints::new(1));
        let own = Arc::new(OwnStints::default());
        let first = stints.take(1, &own).await;
        let waiting: Vec<_> = (0..20)
            .map(|_| {
                let (stints, own) = (Arc::clone(&stints), Arc::clone(&own));
                tokio::spawn(async move {
                    let stint = stints.take(1, &own).await;
                    tokio::task::yield_now().await;
                    drop(stint);
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(first);
        for one in waiting {
            one.await.unwrap();
        }
        assert_eq!(own.running.load(Ordering::Relaxed), 0);
    }

    /// Those who were sent to wait while others were there all run again once they have gone.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_bound_that_grows_wakes_more_than_one() {
        let stints = Arc::new(Stints::new(3));
        let own = Arc::new(OwnStints::default());
        let held: Vec<_> = (0..3).filter_map(|_| now(stints.take(1, &own))).collect();
        assert_eq!(held.len(), 3);
        let together = Arc::new(tokio::sync::Barrier::new(3));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let (stints, own, together) = (Arc::clone(&stints), Arc::clone(&own), Arc::clone(&together));
                tokio::spawn(async move {
                    let _stint = stints.take(1, &own).await;
                    // Passed only if all three have a stint at one time.
                    together.wait().await;
                })
            })
            .collect();
        drop(held);
        for one in waiting {
            tokio::time::timeout(Duration::from_secs(10), one).await.expect("all three got a stint").unwrap();
        }
    }
}
