//! Who may call the signer next. So many calls are inside it at once; behind them waiters stand in a lane for each uid, and
//! lanes take turns. So a uid with many waiters delays another's one by a single call, and a batch, which waits item by item,
//! is no way around that.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::SignerError;

/// The daemon's own lane: what it asks for itself waits behind no peer. No user has this id, nor the one above it, which is
/// "none".
pub const OWN: u32 = u32::MAX - 1;
/// A signature that takes longer makes a slow HSM.
const SLOW: Duration = Duration::from_millis(10);

/// The places inside the signer, and who waits for one.
#[derive(Debug)]
pub struct Admission {
    /// The most calls inside, and the most waiters beside them.
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    inside: usize,
    sessions: usize,
    /// What one signature takes of one session, as seen lately.
    takes: Duration,
    /// Uids that wait, in the order of their turns.
    turns: VecDeque<u32>,
    waiting: HashMap<u32, VecDeque<oneshot::Sender<Place>>>,
}

/// A place inside, given to the next waiter when it is dropped.
#[derive(Debug)]
pub struct Place {
    admission: Option<Arc<Admission>>,
    since: Instant,
    /// Calls that were inside with this one when it came.
    beside: usize,
}

impl Admission {
    /// At most `most` calls inside, and as many waiters, of which one uid is half, rounded up.
    pub fn new(most: usize) -> Arc<Self> {
        let inner =
            Inner { inside: 0, sessions: 1, takes: Duration::ZERO, turns: VecDeque::new(), waiting: HashMap::new() };
        Arc::new(Self { most: most.max(1), inner: Mutex::new(inner) })
    }

    /// The signer that there is now has so many sessions.
    pub fn sessions(&self, sessions: usize) {
        self.lock().sessions = sessions.max(1);
    }

    /// Waits for a place, for `who`, but not beyond `until`.
    ///
    /// # Errors
    /// [`SignerError::Busy`]: there was none in time, or too many wait.
    pub async fn enter(self: &Arc<Self>, who: u32, until: Instant) -> Result<Place, SignerError> {
        let granted = {
            let mut inner = self.lock();
            if inner.turns.is_empty() && inner.inside < inner.window(self.most) {
                return Ok(self.place(&mut inner));
            }
            inner.wait(who, self.most)?
        };
        match tokio::time::timeout_at(until.into(), granted).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(SignerError::Busy),
        }
    }

    fn place(self: &Arc<Self>, inner: &mut Inner) -> Place {
        inner.inside += 1;
        Place { admission: Some(Arc::clone(self)), since: Instant::now(), beside: inner.inside }
    }

    /// One has left: its place goes to whose turn it is.
    fn left(self: &Arc<Self>, took: Duration, beside: usize) {
        {
            let mut inner = self.lock();
            inner.inside = inner.inside.saturating_sub(1);
            inner.learn(took, beside);
        }
        loop {
            let mut inner = self.lock();
            if inner.inside >= inner.window(self.most) {
                return;
            }
            let Some(waiter) = inner.next() else { return };
            let place = self.place(&mut inner);
            drop(inner);
            // Without the lock: a place that nobody takes comes back here.
            if let Err(mut unused) = waiter.send(place) {
                unused.admission = None;
                let mut inner = self.lock();
                inner.inside = inner.inside.saturating_sub(1);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// How many may be inside. Enough that no session of a quick HSM ever waits for us; of a slow one, as many as sign and as
    /// many again, so that whoever comes stands behind two rounds and not behind the whole queue.
    fn window(&self, most: usize) -> usize {
        let window = if self.takes < SLOW { 4 * self.sessions + 32 } else { 2 * self.sessions };
        window.min(most)
    }

    /// What a call took, shared out to those that it had to wait with.
    fn learn(&mut self, took: Duration, beside: usize) {
        let rounds = beside.div_ceil(self.sessions).max(1);
        let takes = took / u32::try_from(rounds).unwrap_or(u32::MAX);
        self.takes = (self.takes * 7 + takes) / 8;
    }

    /// Another waiter of `who`.
    fn wait(&mut self, who: u32, most: usize) -> Result<oneshot::Receiver<Place>, SignerError> {
        let all: usize = self.waiting.values().map(VecDeque::len).sum();
        let own = self.waiting.get(&who).map_or(0, VecDeque::len);
        if own >= most.div_ceil(2) || all >= most {
            self.forget_those_who_left();
            let all: usize = self.waiting.values().map(VecDeque::len).sum();
            let own = self.waiting.get(&who).map_or(0, VecDeque::len);
            if own >= most.div_ceil(2) || all >= most {
                return Err(SignerError::Busy);
            }
        }
        let (waiter, granted) = oneshot::channel();
        let lane = self.waiting.entry(who).or_default();
        if lane.is_empty() {
            self.turns.push_back(who);
        }
        lane.push_back(waiter);
        Ok(granted)
    }

    /// Whose turn it is; its uid is last then.
    fn next(&mut self) -> Option<oneshot::Sender<Place>> {
        loop {
            let who = self.turns.pop_front()?;
            let Some(lane) = self.waiting.get_mut(&who) else { continue };
            let waiter = lane.pop_front();
            if lane.is_empty() {
                self.waiting.remove(&who);
            } else {
                self.turns.push_back(who);
            }
            match waiter {
                Some(waiter) if !waiter.is_closed() => return Some(waiter),
                _ => {}
            }
        }
    }

    fn forget_those_who_left(&mut self) {
        self.waiting.retain(|_, lane| {
            lane.retain(|waiter| !waiter.is_closed());
            !lane.is_empty()
        });
        let waiting = &self.waiting;
        self.turns.retain(|who| waiting.contains_key(who));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(admission) = self.admission.take() {
            admission.left(self.since.elapsed(), self.beside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A full house: with every place taken.
    async fn full(most: usize) -> (Arc<Admission>, Vec<Place>) {
        let admission = Admission::new(most);
        admission.sessions(8);
        let mut places = Vec::new();
        for _ in 0..most {
            places.push(admission.enter(OWN, Instant::now() + SOON).await.unwrap());
        }
        (admission, places)
    }

    /// Waiters of `who`, who say when they are given a place.
    fn waiters(
        admission: &Arc<Admission>,
        who: u32,
        count: usize,
        served: &tokio::sync::mpsc::UnboundedSender<(u32, Place)>,
    ) -> Vec<tokio::task::JoinHandle<()>> {
        let one = |_| {
            let (admission, served) = (Arc::clone(admission), served.clone());
            tokio::spawn(async move {
                if let Ok(place) = admission.enter(who, Instant::now() + SOON).await {
                    served.send((who, place)).unwrap();
                }
            })
        };
        (0..count).map(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_alone_is_served_behind_one_of_who_waits_by_the_dozen() {
        let (admission, mut places) = full(32).await;
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        waiters(&admission, 1, 16, &served);
        tokio::time::sleep(Duration::from_millis(1)).await;
        waiters(&admission, 2, 2, &served);
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(places.pop());
        let mut uids = Vec::new();
        for _ in 0..18 {
            let (who, place) = order.recv().await.unwrap();
            uids.push(who);
            drop(place);
        }
        assert_eq!(uids[..5], [1, 2, 1, 2, 1]);
        assert!(uids[5..].iter().all(|who| *who == 1));
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_those_who_wait_may_be_one_uids_and_who_left_counts_for_nobody() {
        let (admission, mut places) = full(8).await;
        let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
        let mut tasks = waiters(&admission, 1, 5, &served);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(tasks.iter().filter(|task| task.is_finished()).count(), 1, "the fifth of four");
        tasks.extend(waiters(&admission, 2, 4, &served));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(admission.enter(3, Instant::now() + SOON).await.err(), Some(SignerError::Busy), "eight wait");
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        tokio::time::sleep(Duration::from_millis(1)).await;
        waiters(&admission, 3, 1, &served);
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(places.pop());
        assert_eq!(order.recv().await.unwrap().0, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_and_no_place_is_lost() {
        let (admission, places) = full(4).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(admission.enter(1, Instant::now() + SOON).await.err(), Some(SignerError::Busy));
        assert!(begun.elapsed() >= SOON);
        drop(places);
        let mut again = Vec::new();
        for _ in 0..4 {
            again.push(admission.enter(1, Instant::now() + SOON).await.unwrap());
        }
        assert_eq!(admission.lock().inside, 4);
        drop(again);
        assert_eq!(admission.lock().inside, 0);
    }

    #[test]
    fn a_slow_hsm_is_given_two_rounds_and_a_quick_one_enough_for_pipes() {
        let mut inner =
            Inner { inside: 0, sessions: 8, takes: Duration::ZERO, turns: VecDeque::new(), waiting: HashMap::new() };
        assert_eq!((inner.window(256), inner.window(10)), (64, 10));
        // 64 calls of 1 ms on 8 sessions take 8 ms each, which makes it no slow HSM.
        (0..50).for_each(|_| inner.learn(Duration::from_millis(8), 64));
        assert_eq!(inner.window(256), 64);
        (0..50).for_each(|_| inner.learn(Duration::from_millis(200), 16));
        assert_eq!(inner.window(256), 16);
        (0..50).for_each(|_| inner.learn(Duration::from_millis(1), 1));
        assert_eq!(inner.window(256), 64);
    }
}
