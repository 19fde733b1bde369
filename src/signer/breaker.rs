//! Whether it makes sense to ask for a signature by a key: not while it fails again and again. Then requests are refused at
//! once, and a real signature is asked for now and then, until one succeeds. One breaker a key, so that the loss of one
//! tenant's key stops nobody else (law L6). Time is given.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::SignerError;
use crate::metrics::Counter;

/// Failures one after the other that open a breaker.
pub const OPEN_AFTER: u32 = 5;
/// The same of timeouts, each of which cost somebody the whole deadline.
pub const OPEN_AFTER_TIMEOUTS: u32 = 2;
/// From the opening to the first probe, and from the end of one that failed to the next. A signer that heals itself refuses
/// probes at once, so they cost nothing; in one that hangs each waits for its deadline.
pub const PROBE_PAUSE: Duration = Duration::from_millis(250);
/// The longest after which whoever was refused is to come back.
pub const RETRY_MAX: Duration = Duration::from_millis(500);

/// How a signature was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The HSM, the key or the signer is away, or what it signed is no signature.
    Unavailable,
    /// There was no answer in time.
    Timeout,
}

impl Failure {
    /// The error that it was.
    pub const fn error(self) -> SignerError {
        match self {
            Self::Unavailable => SignerError::Unavailable,
            Self::Timeout => SignerError::Timeout,
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Requests go through.
    Closed,
    /// Requests are refused.
    Open,
    /// Requests are refused, and a probe is under way.
    HalfOpen,
}

#[derive(Debug)]
enum State {
    Closed { failures: u32, timeouts: u32 },
    Open { probe_at: Instant, failure: Failure },
    HalfOpen { failure: Failure },
}

impl State {
    const SOUND: Self = Self::Closed { failures: 0, timeouts: 0 };

    fn stand(&self) -> Stand {
        match self {
            Self::Closed { .. } => Stand::Closed,
            Self::Open { .. } => Stand::Open,
            Self::HalfOpen { .. } => Stand::HalfOpen,
        }
    }

    /// When to come back, while requests are refused.
    fn refuses(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Closed { .. } => None,
            // Whoever comes back with the probe would be too early.
            Self::Open { probe_at, .. } => Some((probe_at.saturating_duration_since(now) + PROBE_PAUSE).min(RETRY_MAX)),
            Self::HalfOpen { .. } => Some(PROBE_PAUSE),
        }
    }

    /// Counts a failure; whether this opens it.
    fn fail(&mut self, failure: Failure, now: Instant) -> bool {
        // What was under way when it opened is no news.
        let Self::Closed { failures, timeouts } = self else { return false };
        *failures += 1;
        *timeouts += u32::from(failure == Failure::Timeout);
        let opens = *failures >= OPEN_AFTER || *timeouts >= OPEN_AFTER_TIMEOUTS;
        if opens {
            *self = Self::Open { probe_at: now + PROBE_PAUSE, failure };
        }
        opens
    }
}

/// The breakers of all keys. One that stands closed and has seen no failure takes no room, so there are at most as many as keys
/// that sign.
#[derive(Debug)]
pub struct Breakers {
    states: Mutex<HashMap<String, State>>,
    opened: Counter,
}

impl Breakers {
    /// All closed. Each opening is counted.
    pub fn new(opened: Counter) -> Self {
        Self { states: Mutex::default(), opened }
    }

    /// May a signature by this key be asked for?
    ///
    /// # Errors
    /// No, and when to come back.
    pub fn admit(&self, kid: &str, now: Instant) -> Result<(), Duration> {
        self.lock().get(kid).and_then(|state| state.refuses(now)).map_or(Ok(()), Err)
    }

    /// A request was not given a signature. Whether this opened the breaker.
    pub fn failed(&self, kid: &str, failure: Failure, now: Instant) -> bool {
        let mut states = self.lock();
        let opened = match states.get_mut(kid) {
            Some(state) => state.fail(failure, now),
            None => states.entry(kid.to_owned()).or_insert(State::SOUND).fail(failure, now),
        };
        if opened {
            self.opened.inc();
        }
        opened
    }

    /// A request was given one. Only a probe closes an open breaker: this may be a late answer from before.
    pub fn succeeded(&self, kid: &str) {
        let mut states = self.lock();
        if states.get(kid).is_some_and(|state| state.stand() == Stand::Closed) {
            states.remove(kid);
        }
    }

    /// Whether the last that is known of this key is a failure.
    pub fn suspects(&self, kid: &str) -> bool {
        self.lock().contains_key(kid)
    }

    /// A probe of this key begins.
    pub fn probing(&self, kid: &str) {
        if let Some(state) = self.lock().get_mut(kid)
            && let State::Open { failure, .. } = *state
        {
            *state = State::HalfOpen { failure };
        }
    }

    /// It has ended. A failed one of a closed breaker counts as a request does; one that failed for a reason that is not the
    /// key's (none) opens nothing and closes nothing.
    pub fn probed(&self, kid: &str, result: Result<(), Option<Failure>>, now: Instant) {
        let Err(failed) = result else {
            self.lock().remove(kid);
            return;
        };
        if let Some(failure) = failed {
            self.failed(kid, failure, now);
        }
        // One that is open was not asked for at all: its key is not there.
        if let Some(state) = self.lock().get_mut(kid)
            && let State::HalfOpen { failure } | State::Open { failure, .. } = *state
        {
            *state = State::Open { probe_at: now + PROBE_PAUSE, failure: failed.unwrap_or(failure) };
        }
    }

    /// Forgets the keys that do not sign any more.
    pub fn keep(&self, signs: impl Fn(&str) -> bool) {
        self.lock().retain(|kid, _| signs(kid));
    }

    /// When the next probe is due.
    pub fn next_probe(&self) -> Option<Instant> {
        let due = |state: &State| if let State::Open { probe_at, .. } = state { Some(*probe_at) } else { None };
        self.lock().values().filter_map(due).min()
    }

    /// How many stand open and half open.
    pub fn standing(&self) -> (usize, usize) {
        let states = self.lock();
        let count = |stand| states.values().filter(|state| state.stand() == stand).count();
        (count(Stand::Open), count(Stand::HalfOpen))
    }

    /// Why one of those is not closed, if there is one.
    pub fn why(&self) -> Option<Failure> {
        let why = |state: &State| match state {
            State::Closed { .. } => None,
            State::Open { failure, .. } | State::HalfOpen { failure, .. } => Some(*failure),
        };
        self.lock().values().find_map(why)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: &str = "ed25519/t1/auth/v1";

    fn new() -> Breakers {
        Breakers::new(Counter::new("opened", "in a test").unwrap())
    }

    fn opened(now: Instant) -> Breakers {
        let breakers = new();
        let opened: Vec<bool> = (0..OPEN_AFTER).map(|_| breakers.failed(KID, Failure::Unavailable, now)).collect();
        assert_eq!(opened, [false, false, false, false, true]);
        breakers
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_signature_between_them_does_not_let_them() {
        let now = Instant::now();
        let breakers = opened(now);
        assert!(breakers.admit(KID, now).is_err());
        assert_eq!(breakers.admit("ed25519/t2/auth/v1", now), Ok(()), "another tenant's key");
        assert!(!breakers.failed(KID, Failure::Unavailable, now), "it is open already");

        let breakers = new();
        for _ in 0..3 {
            (1..OPEN_AFTER).for_each(|_| assert!(!breakers.failed(KID, Failure::Unavailable, now)));
            breakers.succeeded(KID);
        }
        assert_eq!(breakers.admit(KID, now), Ok(()));
        assert!(breakers.lock().is_empty(), "a sound key takes no room");
        assert!(!breakers.failed(KID, Failure::Timeout, now));
        assert!(breakers.failed(KID, Failure::Timeout, now), "two timeouts are enough");
    }

    #[test]
    fn a_probe_alone_closes_it_and_a_failing_one_is_followed_by_another() {
        let begun = Instant::now();
        let breakers = opened(begun);
        breakers.succeeded(KID);
        assert!(breakers.admit(KID, begun).is_err(), "a late answer");
        let mut now = begun;
        for _ in 0..3 {
            assert_eq!(breakers.next_probe(), Some(now + PROBE_PAUSE));
            now += PROBE_PAUSE;
            breakers.probing(KID);
            assert_eq!(breakers.standing(), (0, 1));
            assert_eq!(breakers.next_probe(), None, "one is under way");
            assert_eq!(breakers.admit(KID, now), Err(PROBE_PAUSE));
            breakers.probed(KID, Err(Some(Failure::Timeout)), now);
            assert_eq!((breakers.standing(), breakers.why()), ((1, 0), Some(Failure::Timeout)));
        }
        breakers.probing(KID);
        breakers.probed(KID, Err(None), now);
        assert_eq!(breakers.standing(), (1, 0), "load says nothing");
        breakers.probing(KID);
        breakers.probed(KID, Ok(()), now);
        assert_eq!((breakers.admit(KID, now), breakers.standing(), breakers.why()), (Ok(()), (0, 0), None));
        assert_eq!(breakers.opened.get(), 1);
    }

    #[test]
    fn who_is_refused_is_told_to_come_back_behind_the_probe_and_within_the_longest_pause() {
        let now = Instant::now();
        let breakers = opened(now);
        for passed in [0, 100, 249, 250, 900] {
            let at = now + Duration::from_millis(passed);
            let after = breakers.admit(KID, at).unwrap_err();
            assert!((PROBE_PAUSE..=RETRY_MAX).contains(&after), "{after:?}");
            assert!(at + after > breakers.next_probe().unwrap());
        }
    }

    #[test]
    fn failing_probes_open_one_that_nobody_uses() {
        let (breakers, now) = (new(), Instant::now());
        (0..9).for_each(|_| breakers.probed(KID, Err(None), now));
        assert_eq!(breakers.admit(KID, now), Ok(()), "load says nothing");
        (0..OPEN_AFTER).for_each(|_| breakers.probed(KID, Err(Some(Failure::Unavailable)), now));
        assert!(breakers.admit(KID, now).is_err());
        breakers.keep(|kid| kid != KID);
        assert!(breakers.lock().is_empty(), "its key signs no more");
    }
}
