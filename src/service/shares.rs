//! What one uid may hold of what all share: connections, bytes, and its rate. A uid that takes its share leaves the rest
//! to the others (law L6).

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Gate;
use super::rate::{OverRate, Rate};
use super::stints::{OwnStints, Stint, Stints};
use super::tally::Tally;
use crate::verify::Budget;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Refusals of one uid that are put on record in a second, and as many verdicts; the rest are counted, so that a flood of
/// refusals can't fill the ledger.
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
    /// The uid connects more often than it may.
    Often,
}

impl Full {
    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Uid => "this user has all the connections that it may have",
            Self::All => "all connections are taken",
            Self::Often => "this user connects too often",
        }
    }
}

/// The shares of every uid that has a connection.
pub struct Shares {
    /// Asked each time, so that a reload needs nothing here.
    bounds: Box<dyn Fn() -> Bounds + Send + Sync>,
    pub(super) uids: Mutex<HashMap<u32, Arc<Share>>>,
    /// How many uids may be among them.
    remembered: usize,
    bytes: AtomicUsize,
    stints: Stints,
    /// Refusals of uids without a share that go on record.
    pub(super) strangers: DefaultDirectRateLimiter,
    /// And those that don't.
    pub(super) strangers_tally: Tally,
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
    /// How many it could have when it last came.
    places: AtomicUsize,
    /// New connections.
    arrivals: Rate,
    bytes: AtomicUsize,
    rate: Rate,
    issue_rate: Rate,
    exchange_rate: Rate,
    /// It took from that.
    exchanged: AtomicBool,
    pub(super) refusals: DefaultDirectRateLimiter,
    /// Of their own, so that whoever is shown bad passports still has its own refusals on record.
    pub(super) verdicts: DefaultDirectRateLimiter,
    /// What is not on record.
    pub(super) tally: Tally,
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
    pub(super) revoke: Gate,
    pub(super) consume: Gate,
    pub(super) consume_many: Gate,
    pub(super) watch: Gate,
    pub(super) pages: Gate,
    pub(super) exchange: Gate,
}

fn refusals() -> DefaultDirectRateLimiter {
    RateLimiter::direct(Quota::per_second(NonZeroU32::new(REFUSALS_PER_SECOND).unwrap_or(NonZeroU32::MIN)))
}

impl Share {
    fn new() -> Self {
        Self {
            connections: AtomicUsize::new(0),
            places: AtomicUsize::new(0),
            arrivals: Rate::default(),
            bytes: AtomicUsize::new(0),
            rate: Rate::default(),
            issue_rate: Rate::default(),
            exchange_rate: Rate::per_minute(),
            exchanged: AtomicBool::new(false),
            refusals: refusals(),
            verdicts: refusals(),
            tally: Tally::default(),
            confirmations: Budget::default(),
            stints: Arc::default(),
            left: Mutex::new(Instant::now()),
            issue: Gate::default(),
            verify: Gate::default(),
            verify_batch: Gate::default(),
            seal: Gate::default(),
            revoke: Gate::default(),
            consume: Gate::default(),
            consume_many: Gate::default(),
            watch: Gate::default(),
            pages: Gate::default(),
            exchange: Gate::default(),
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

    /// One ticket, of `per_minute`.
    ///
    /// # Errors
    /// As [`Share::take`].
    pub fn take_exchange(&self, per_minute: u32) -> Result<(), OverRate> {
        self.exchanged.store(true, Ordering::Relaxed);
        self.exchange_rate.take(per_minute, 1)
    }

    /// Whether every rate is whole again, so that forgetting it gives nothing back.
    fn is_whole(&self) -> bool {
        let exchanged = self.exchanged.load(Ordering::Relaxed);
        self.gone_for() >= if exchanged { WHOLE_AGAIN_EXCHANGED } else { WHOLE_AGAIN }
    }

    /// Takes one from the rate of new connections: as many a second as it may have at one time, and some in any case.
    fn arrive(&self) -> Result<(), Full> {
        let places = u32::try_from(self.places.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        self.arrivals.take(places.max(NEW_PER_SECOND), 1).map_err(|_| Full::Often)
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
        let (strangers, strangers_tally) = (refusals(), Tally::default());
        Arc::new(Self { bounds, uids, remembered, bytes, stints: Stints::new(threads), strangers, strangers_tally })
    }

    /// Whether `uid` may come again already. To be asked before anything that costs more, so that whoever connects without
    /// end is answered for little. Whoever has no share yet may; peers that policy does not name are asked when they are
    /// admitted, since only then it is known that they are.
    ///
    /// # Errors
    /// [`Full::Often`].
    pub fn arrive(&self, uid: u32) -> Result<(), Full> {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        uids.get(&uid).map_or(Ok(()), |share| share.arrive())
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
            let done = |share: &Share| share.is_whole() && share.tally.is_empty();
            uids.retain(|_, share| share.connections.load(Ordering::Relaxed) > 0 || !done(share));
        }
        if own_bounds.stranger
            && let Some(share) = uids.get(&uid)
        {
            share.arrive()?;
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
        share.places.store(per_uid, Ordering::Relaxed);
        Ok(Place { shares: Arc::clone(self), uid, share, own_bytes: own_bounds.bytes })
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
/// That of tickets is one of a minute's.
const WHOLE_AGAIN_EXCHANGED: Duration = Duration::from_secs(60);

/// New connections of one uid in a second, should it not have more at one time. A connection costs more than most
/// requests.
const NEW_PER_SECOND: u32 = 1000;

/// The share of all peers that policy does not name stands under the one uid that nobody can have (setuid(2)).
pub(super) const STRANGERS: u32 = u32::MAX;

/// Connections of all of them together. They can do nothing but be told so.
const STRANGERS_CONNECTIONS: usize = 16;

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
