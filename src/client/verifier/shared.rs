//! What readers and the feeder share. Readers wait for the feeder no longer than it takes to put a few entries into a table.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use super::fed::{Fed, Keys};
use super::propagation::Counts;
use super::{FeedError, Unfed};
use crate::clock::{Course, Moment};
use crate::verify::{Budget, Verifier as Engine, Way};
use crate::wire::Event;

/// Of `Shared::heard`: never.
const NEVER: u64 = u64::MAX;

pub(super) struct Shared {
    pub(super) engine: Engine,
    /// Refusals that the reference confirms.
    pub(super) confirmations: Budget,
    fed: RwLock<Option<Fed>>,
    /// Of the time of day, so that it never goes back.
    course: RwLock<Course>,
    /// What `heard` is counted from.
    start: Instant,
    /// When it was last heard of, in milliseconds after `start`.
    heard: AtomicU64,
    /// Why it is not, if it is not.
    failure: Mutex<Option<FeedError>>,
    pub(super) propagation: Counts,
    /// For how long it goes by what it heard.
    pub(super) bound: Duration,
    /// How long the daemon waits for something to tell.
    pub(super) wait: Duration,
    pub(super) most: usize,
    pub(super) table_bytes: usize,
}

impl Shared {
    pub(super) fn new(bound: Duration, most: usize, table_bytes: usize) -> Result<Self, FeedError> {
        let engine =
            Engine::start(&[Way::Ifma, Way::Portable]).map_err(|error| FeedError::Thread(error.to_string()))?;
        let start = Instant::now();
        let now = Moment::now();
        let course = Course::new(now.unix(), now, Duration::ZERO).after(now, Duration::ZERO);
        Ok(Self {
            engine,
            confirmations: Budget::default(),
            fed: RwLock::new(None),
            course: RwLock::new(course),
            start,
            heard: AtomicU64::new(NEVER),
            failure: Mutex::new(None),
            propagation: Counts::default(),
            bound,
            wait: bound / 5,
            most,
            table_bytes,
        })
    }

    pub(super) fn fed(&self) -> RwLockReadGuard<'_, Option<Fed>> {
        self.fed.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Option<Fed>> {
        self.fed.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys in use.
    pub(super) fn keys(&self) -> Option<Arc<Keys>> {
        self.fed().as_ref().map(|fed| Arc::clone(&fed.keys))
    }

    /// The present that verdicts go by: never before what has been, whatever the clock says.
    pub(super) fn now(&self, wall: Moment) -> Moment {
        self.course.read().unwrap_or_else(PoisonError::into_inner).now(wall, self.start.elapsed())
    }

    /// Looks at the clock.
    pub(super) fn tick(&self, wall: Moment) {
        let mut course = self.course.write().unwrap_or_else(PoisonError::into_inner);
        *course = course.after(wall, self.start.elapsed());
    }

    /// Puts all that is in force in the place of what was.
    pub(super) fn replace(&self, mut fed: Fed) {
        let mut place = self.change();
        fed.revision = place.as_ref().map_or(0, |old| old.revision.wrapping_add(1));
        let old = place.replace(fed);
        drop(place);
        // A million entries take a while to go: after the lock.
        drop(old);
    }

    /// Takes what has happened; whether the keys are to be asked for.
    pub(super) fn apply(&self, events: Vec<Event>) -> Result<bool, FeedError> {
        self.tick(Moment::now());
        self.sweep();
        let mut place = self.change();
        place.as_mut().map_or(Ok(true), |fed| fed.apply(events, self.most))
    }

    /// Leaves out what has gone, from time to time. Only the feeder changes anything, so nothing comes in between.
    fn sweep(&self) {
        let now = self.now(Moment::now());
        let swept = self.fed().as_ref().and_then(|fed| fed.revoked.swept(now, self.most));
        let Some(mut swept) = swept else { return };
        if let Some(fed) = self.change().as_mut() {
            std::mem::swap(&mut fed.revoked, &mut swept);
        }
    }

    /// From now on these are the keys.
    pub(super) fn turn_to(&self, keys: Arc<Keys>) {
        if let Some(fed) = self.change().as_mut() {
            fed.turn_to(keys);
        }
    }

    /// All that was acknowledged until then has its effect.
    pub(super) fn heard(&self, at: Instant) {
        let ms = u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(0);
        let known = self.heard.load(Ordering::Acquire);
        // Only the feeder sets it.
        self.heard.store(if known == NEVER { ms } else { known.max(ms) }, Ordering::Release);
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// No verdict until it is heard of again.
    pub(super) fn starve(&self) {
        self.heard.store(NEVER, Ordering::Release);
    }

    pub(super) fn failed(&self, error: FeedError) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// For how long nothing was heard; the longest time there is, if nothing ever was.
    pub(super) fn age(&self) -> Duration {
        match self.heard.load(Ordering::Acquire) {
            NEVER => Duration::MAX,
            ms => self.start.elapsed().saturating_sub(Duration::from_millis(ms)),
        }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.age() <= self.bound
    }

    /// Says why there can be no verdict, if there can be none.
    pub(super) fn fresh(&self) -> Result<(), Unfed> {
        if self.is_fresh() {
            return Ok(());
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let why = failure.map_or_else(|| "no answer has come".to_owned(), |error| error.to_string());
        Err(Unfed { bound_ms: self.bound.as_millis(), why })
    }
}
