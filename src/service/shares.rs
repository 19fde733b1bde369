//! What one uid may hold of what all share: connections, bytes, and its rate. A uid that takes its share leaves the rest
//! to the others (law L6).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::gate::Gate;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Refusals of one uid that are put on record in a second; the rest are only counted, so that a flood of refusals
/// can't fill the ledger.
const REFUSALS_PER_SECOND: u32 = 10;

/// The bounds of all, and of each uid.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections of all.
    pub connections: usize,
    /// Connections of one uid.
    pub connections_per_uid: usize,
    /// Bytes of partial frames and waiting replies of all.
    pub bytes: usize,
    /// The same of one uid.
    pub bytes_per_uid: usize,
}

/// What policy gives one peer instead of the bounds of all uids.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnBounds {
    /// Connections.
    pub connections: Option<usize>,
    /// Bytes.
    pub bytes: Option<usize>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The uid has its share.
    Uid,
    /// All slots are taken, or the last ones are kept for uids that have none.
    All,
}

impl Full {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Uid => "this user has all the connections that it may have",
            Self::All => "all connections are taken",
        }
    }
}

/// The shares of every uid that has a connection.
pub struct Shares {
    /// Asked each time, so that a reload needs nothing here.
    bounds: Box<dyn Fn() -> Bounds + Send + Sync>,
    uids: Mutex<HashMap<u32, Arc<Share>>>,
    bytes: AtomicUsize,
    /// Refusals of uids without a share that go on record.
    strangers: DefaultDirectRateLimiter,
}

impl std::fmt::Debug for Shares {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shares").field("uids", &self.uids).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// One uid's part.
#[derive(Debug)]
pub struct Share {
    connections: AtomicUsize,
    bytes: AtomicUsize,
    rate: Rate,
    issue_rate: Rate,
    refusals: DefaultDirectRateLimiter,
    /// What this uid has under way at each gate.
    pub(super) issue: Gate,
    pub(super) verify: Gate,
    pub(super) verify_batch: Gate,
}

fn refusals() -> DefaultDirectRateLimiter {
    RateLimiter::direct(Quota::per_second(NonZeroU32::new(REFUSALS_PER_SECOND).unwrap_or(NonZeroU32::MIN)))
}

impl Share {
    fn new() -> Self {
        Self {
            connections: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            rate: Rate::default(),
            issue_rate: Rate::default(),
            refusals: refusals(),
            issue: Gate::default(),
            verify: Gate::default(),
            verify_batch: Gate::default(),
        }
    }

    /// Takes `items` from the uid's rate of `per_second` items (0: no limit).
    ///
    /// # Errors
    /// [`OverRate`]: when it is worth trying again, if ever.
    pub fn take(&self, per_second: u32, items: usize) -> Result<(), OverRate> {
        self.rate.take(per_second, items)
    }

    /// The same for passports issued.
    ///
    /// # Errors
    /// As [`Share::take`].
    pub fn take_issue(&self, per_second: u32, items: usize) -> Result<(), OverRate> {
        self.issue_rate.take(per_second, items)
    }

    /// Whether another refusal of this uid goes on record.
    pub fn refusal_on_record(&self) -> bool {
        self.refusals.check().is_ok()
    }
}

/// Why a request is more than a rate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverRate {
    /// For now.
    Wait {
        /// When it is worth trying again.
        millis: u32,
    },
    /// For ever: one request holds more than a second's worth.
    Never {
        /// The rate.
        per_second: usize,
    },
}

/// The limiters of the rates under which a uid comes: rules may give it one on each listener, and a reload another. Each
/// keeps its own count, so that changing between them refills none.
#[derive(Debug, Default)]
struct Rate(Mutex<Vec<(NonZeroU32, Arc<DefaultDirectRateLimiter>)>>);

/// Rates remembered for one uid; the oldest is forgotten.
const MAX_RATES: usize = 16;

impl Rate {
    fn take(&self, per_second: u32, items: usize) -> Result<(), OverRate> {
        let (Some(rate), Some(items)) =
            (NonZeroU32::new(per_second), u32::try_from(items).ok().and_then(NonZeroU32::new))
        else {
            return Ok(());
        };
        let limiter = self.limiter(rate);
        let wait = |items: NonZeroU32| {
            let millis = 1000 * u64::from(items.get()) / u64::from(rate.get());
            OverRate::Wait { millis: u32::try_from(millis).unwrap_or(1000).clamp(1, 1000) }
        };
        match limiter.check_n(items) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(wait(items)),
            // What can never pass takes as much as a single item, so that asking for it is not free.
            Err(_) => Err(match limiter.check() {
                Ok(()) => OverRate::Never { per_second: usize::try_from(per_second).unwrap_or(usize::MAX) },
                Err(_) => wait(NonZeroU32::MIN),
            }),
        }
    }

    fn limiter(&self, rate: NonZeroU32) -> Arc<DefaultDirectRateLimiter> {
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, limiter)) = rates.iter().find(|(known, _)| *known == rate) {
            return Arc::clone(limiter);
        }
        if rates.len() >= MAX_RATES {
            rates.remove(0);
        }
        let limiter = Arc::new(RateLimiter::direct(Quota::per_second(rate)));
        rates.push((rate, Arc::clone(&limiter)));
        limiter
    }
}

/// A connection's place; given back on drop.
#[derive(Debug)]
pub struct Place {
    shares: Arc<Shares>,
    uid: u32,
    share: Arc<Share>,
    own_bytes: Option<usize>,
}

/// Bytes taken from the budget; given back on drop.
#[derive(Debug)]
pub struct Lease {
    shares: Arc<Shares>,
    share: Arc<Share>,
    bytes: usize,
}

impl Shares {
    /// No connections yet.
    pub fn new(bounds: Box<dyn Fn() -> Bounds + Send + Sync>) -> Arc<Self> {
        let (uids, bytes) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
        Arc::new(Self { bounds, uids, bytes, strangers: refusals() })
    }

    /// A place for a connection of `uid`. The last eighth of all places is for uids that have no connection yet, so that
    /// one uid can't keep every other out.
    ///
    /// # Errors
    /// [`Full`] says whose bound is reached.
    pub fn admit(self: &Arc<Self>, uid: u32, own_bounds: OwnBounds) -> Result<Place, Full> {
        let bounds = (self.bounds)();
        let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        let taken: usize = uids.values().map(|share| share.connections.load(Ordering::Relaxed)).sum();
        let own = uids.get(&uid).map_or(0, |share| share.connections.load(Ordering::Relaxed));
        let per_uid = own_bounds.connections.unwrap_or(bounds.connections_per_uid);
        if own >= per_uid {
            return Err(Full::Uid);
        }
        let kept = if own == 0 { 0 } else { bounds.connections / 8 };
        if taken + kept >= bounds.connections {
            return Err(Full::All);
        }
        let share = Arc::clone(uids.entry(uid).or_insert_with(|| Arc::new(Share::new())));
        share.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Place { shares: Arc::clone(self), uid, share, own_bytes: own_bounds.bytes })
    }

    /// Whether another refusal of a peer that has no place goes on record.
    pub fn refusal_on_record(&self, uid: u32) -> bool {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        uids.get(&uid).map_or_else(|| self.strangers.check().is_ok(), |share| share.refusal_on_record())
    }

    /// Connections of all.
    #[cfg(test)]
    pub(crate) fn connections(&self) -> usize {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        uids.values().map(|share| share.connections.load(Ordering::Relaxed)).sum()
    }

    /// Bytes that are leased.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Place {
    /// The share of this connection's uid.
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// `bytes` of the budget, if neither the uid's share nor the whole is used up.
    pub fn lease(&self, bytes: usize) -> Option<Lease> {
        let Bounds { bytes: all, bytes_per_uid: own, .. } = (self.shares.bounds)();
        take(&self.share.bytes, bytes, self.own_bytes.unwrap_or(own))?;
        if take(&self.shares.bytes, bytes, all).is_none() {
            self.share.bytes.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Lease { shares: Arc::clone(&self.shares), share: Arc::clone(&self.share), bytes })
    }
}

fn take(counter: &AtomicUsize, bytes: usize, bound: usize) -> Option<()> {
    let add = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= bound);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok().map(drop)
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.share.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.shares.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut uids = self.shares.uids.lock().unwrap_or_else(PoisonError::into_inner);
        // The share goes with the last connection; its rate limiter must not be forgotten while it is exhausted, but a
        // uid that closes everything to refill its rate waits for as long as the rate would have made it wait anyway.
        if self.share.connections.fetch_sub(1, Ordering::Relaxed) == 1 && uids.len() > MAX_REMEMBERED {
            uids.remove(&self.uid);
        }
    }
}

/// Uids whose rate is remembered after their last connection.
const MAX_REMEMBERED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Arc<Shares> {
        Shares::new(Box::new(|| Bounds { connections: 16, connections_per_uid: 15, bytes: 1000, bytes_per_uid: 600 }))
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
            (0..3).map(|_| shares.admit(1, OwnBounds { connections: Some(3), bytes: None }).unwrap()).collect();
        assert_eq!(shares.admit(1, OwnBounds { connections: Some(3), bytes: None }).unwrap_err(), Full::Uid);
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
    fn a_batch_over_the_rate_never_passes() {
        let shares = shares();
        let place = shares.admit(1, OwnBounds::default()).unwrap();
        assert_eq!(place.share().take(5, 6), Err(OverRate::Never { per_second: 5 }));
        place.share().take(5, 4).unwrap();
        assert_eq!(place.share().take(5, 5), Err(OverRate::Wait { millis: 1000 }));
        assert_eq!(place.share().take(5, 6), Err(OverRate::Wait { millis: 200 }), "it took what one item takes");
    }

    #[test]
    fn going_back_and_forth_between_rates_refills_none() {
        let shares = shares();
        let place = shares.admit(1, OwnBounds::default()).unwrap();
        place.share().take(5, 5).unwrap();
        place.share().take(7, 7).unwrap();
        assert!(place.share().take(5, 1).is_err());
        assert!(place.share().take(7, 1).is_err());
    }

    #[test]
    fn a_rule_may_give_a_peer_fewer_bytes() {
        let shares = shares();
        let place = shares.admit(1, OwnBounds { connections: None, bytes: Some(100) }).unwrap();
        assert!(place.lease(101).is_none());
        assert!(place.lease(100).is_some());
    }
}
