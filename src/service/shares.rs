//! What one uid may hold of what all share: connections, bytes, and its rate. A uid that takes its share leaves the rest
//! to the others (law L6).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::rate::{OverRate, Rate};
use super::stints::{OwnStints, Stint, Stints};
use crate::verify::Budget;
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
    /// Policy does not name the peer.
    pub stranger: bool,
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
    /// How many uids may be among them.
    remembered: usize,
    bytes: AtomicUsize,
    stints: Stints,
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
    /// Refused signatures that the reference confirms.
    pub(super) confirmations: Budget,
    stints: Arc<OwnStints>,
    /// When the last connection ended.
    left: Mutex<Instant>,
    /// What this uid has under way at each gate.
    pub(super) issue: Gate,
    pub(super) verify: Gate,
    pub(super) verify_batch: Gate,
    pub(super) seal: Gate,
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
            confirmations: Budget::default(),
            stints: Arc::default(),
            left: Mutex::new(Instant::now()),
            issue: Gate::default(),
            verify: Gate::default(),
            verify_batch: Gate::default(),
            seal: Gate::default(),
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

    fn gone_for(&self) -> Duration {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
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
    /// No connections yet; the work for them is done on so many threads.
    pub fn new(threads: usize, bounds: Box<dyn Fn() -> Bounds + Send + Sync>) -> Arc<Self> {
        Self::remembering(MAX_REMEMBERED, threads, bounds)
    }

    fn remembering(remembered: usize, threads: usize, bounds: Box<dyn Fn() -> Bounds + Send + Sync>) -> Arc<Self> {
        let (uids, bytes) = (Mutex::new(HashMap::new()), AtomicUsize::new(0));
        Arc::new(Self { bounds, uids, remembered, bytes, stints: Stints::new(threads), strangers: refusals() })
    }

    /// A place for a connection of `uid`. The last eighth of all places is for uids that have no connection yet, so that
    /// one uid can't keep every other out. Peers that policy does not name have one share together, and a small one: a
    /// user may have 65,536 uids of its own (subuid(5)).
    ///
    /// # Errors
    /// [`Full`] says whose bound is reached.
    pub fn admit(self: &Arc<Self>, uid: u32, own_bounds: OwnBounds) -> Result<Place, Full> {
        let bounds = (self.bounds)();
        let uid = if own_bounds.stranger { STRANGERS } else { uid };
        let mut uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        if uids.len() >= self.remembered {
            // Every rate of a uid that left so long ago is whole again: forgetting it gives nothing back.
            uids.retain(|_, share| share.connections.load(Ordering::Relaxed) > 0 || share.gone_for() < WHOLE_AGAIN);
        }
        let taken: usize = uids.values().map(|share| share.connections.load(Ordering::Relaxed)).sum();
        let own = uids.get(&uid).map_or(0, |share| share.connections.load(Ordering::Relaxed));
        let per_uid = match own_bounds.connections {
            _ if own_bounds.stranger => STRANGERS_CONNECTIONS.min(bounds.connections_per_uid),
            Some(most) => most,
            None => bounds.connections_per_uid,
        };
        if own >= per_uid {
            return Err(Full::Uid);
        }
        let kept = if own == 0 { 0 } else { bounds.connections / 8 };
        if taken + kept >= bounds.connections || (uids.len() >= self.remembered && !uids.contains_key(&uid)) {
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
    #[cfg(any(test, fuzzing))]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Place {
    /// The share of this connection's uid.
    pub fn share(&self) -> &Arc<Share> {
        &self.share
    }

    /// Waits until this connection is worked for. To be given back before waiting for anything else.
    pub async fn stint(&self) -> Stint {
        self.shares.stints.take(self.uid, &self.share.stints).await
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
        // The share stays, so that its rates are not whole again for a uid that closes everything.
        if self.share.connections.fetch_sub(1, Ordering::Relaxed) == 1 {
            *self.share.left.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
    }
}

/// Uids that have a share, or had one so recently that its rates still matter.
const MAX_REMEMBERED: usize = 4096;

/// A bucket of a second's worth is full after a second.
const WHOLE_AGAIN: Duration = Duration::from_secs(1);

/// The share of all peers that policy does not name stands under the one uid that nobody can have (setuid(2)).
const STRANGERS: u32 = u32::MAX;

/// Connections of all of them together. They can do nothing but be told so.
const STRANGERS_CONNECTIONS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Arc<Shares> {
        Shares::new(
            2,
            Box::new(|| Bounds { connections: 16, connections_per_uid: 15, bytes: 1000, bytes_per_uid: 600 }),
        )
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
        let _held: Vec<_> = (0..3)
            .map(|_| shares.admit(1, OwnBounds { connections: Some(3), ..OwnBounds::default() }).unwrap())
            .collect();
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
    fn a_rule_may_give_a_peer_fewer_bytes() {
        let shares = shares();
        let place = shares.admit(1, OwnBounds { bytes: Some(100), ..OwnBounds::default() }).unwrap();
        assert!(place.lease(101).is_none());
        assert!(place.lease(100).is_some());
    }
}
