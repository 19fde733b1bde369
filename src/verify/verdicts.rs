//! Signatures that were found authentic a moment ago (decision 0033). Only the signature step is spared, and only by what
//! was accepted: whether the key is still known, and what the claims say at this time, is judged before this is asked.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};
use strict25519::{Item, Way};

use super::Verifier;
use crate::metrics::Counter;

/// How long a verdict counts. It bounds for how long a fault that nobody noticed could be repeated.
const TTL: Duration = Duration::from_secs(2);

/// Parts with a lock each, in a cache that is large enough for them.
const SHARDS: usize = 16;

/// Items of the smallest part: the crate would make fewer parts of smaller ones.
const SHARD_ITEMS: usize = 32;

/// Keyed BLAKE3 of public key ‖ signature ‖ message. The first two have one length each, so no two questions share the
/// bytes; the kid is in the message, and the same there as beside it (`passport::Envelope::open`).
type Digest = [u8; 32];

/// When it was found authentic, by which way.
type Found = (Instant, Way);

/// Remembers acceptances, if it has room for any.
pub struct Verdicts {
    /// Nobody who chooses messages can know what falls together with what.
    secret: [u8; 32],
    cache: ArcSwapOption<Bounded>,
    hits: Counter,
    misses: Counter,
}

struct Bounded {
    most: usize,
    found: Cache<Digest, Found>,
}

impl Bounded {
    /// Each part has its own bound, and together they are not more than `most`. None for 0.
    fn new(most: usize) -> Option<Self> {
        if most == 0 {
            return None;
        }
        let fit = most.div_euclid(SHARD_ITEMS).max(1);
        // The largest power of two that fits.
        let shards = (1 << fit.ilog2()).min(SHARDS);
        let whole = most.div_euclid(shards).saturating_mul(shards);
        let options = OptionsBuilder::new()
            .shards(shards)
            .estimated_items_capacity(whole)
            .weight_capacity(u64::try_from(whole).unwrap_or(u64::MAX))
            // Who comes back after it was displaced is old by then.
            .ghost_allocation(0.0)
            .build()
            .ok()?;
        let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
        let found = Cache::with_options(options, UnitWeighter, hasher, lifecycle);
        // At once, and not by doubling, which would take up to twice as much and copy it with a lock held.
        found.reserve(whole);
        Some(Self { most, found })
    }

    /// What a way said that is not the one in force counts no more: it was distrusted.
    fn knows(&self, digest: &Digest, way: Way, now: Instant) -> bool {
        self.found.get(digest).is_some_and(|(at, by)| by == way && now.saturating_duration_since(at) < TTL)
    }
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").field("most", &self.most()).finish_non_exhaustive()
    }
}

impl Verdicts {
    /// With room for `most` acceptances; with 0 it remembers nothing. Counts what it is asked.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn new(most: usize, hits: Counter, misses: Counter) -> io::Result<Self> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self { secret, cache: ArcSwapOption::new(Bounded::new(most).map(Arc::new)), hits, misses })
    }

    /// Room for so many from now on. If that is a change, what is remembered is forgotten.
    pub fn set_most(&self, most: usize) {
        if self.most() != most {
            self.cache.store(Bounded::new(most).map(Arc::new));
        }
    }

    fn most(&self) -> usize {
        self.cache.load().as_ref().map_or(0, |cache| cache.most)
    }

    /// Whether it remembers anything at all.
    pub fn is_on(&self) -> bool {
        self.cache.load().is_some()
    }

    /// How many are remembered, those included that are too old to count.
    pub fn len(&self) -> usize {
        self.cache.load().as_ref().map_or(0, |cache| cache.found.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn digest(&self, item: &Item<'_>) -> Digest {
        let mut hash = blake3::Hasher::new_keyed(&self.secret);
        hash.update(item.key.as_bytes()).update(item.signature).update(item.message);
        *hash.finalize().as_bytes()
    }

    /// [`Verifier::verify_many`] for those that are not remembered. Returns how many were. `now` is the time before.
    pub fn verify_many(
        &self,
        verifier: &Verifier,
        now: Instant,
        items: &[Item<'_>],
        verdicts: &mut Vec<bool>,
        mut may_confirm: impl FnMut() -> bool,
    ) -> usize {
        let guard = self.cache.load();
        let Some(cache) = guard.as_ref() else {
            verifier.verify_many(items, verdicts, may_confirm);
            return 0;
        };
        let way = verifier.way();
        let digests: Vec<_> = items.iter().map(|item| self.digest(item)).collect();
        verdicts.clear();
        verdicts.extend(digests.iter().map(|digest| cache.knows(digest, way, now)));
        let unknown: Vec<_> =
            items.iter().zip(&*verdicts).filter(|(_, known)| !**known).map(|(item, _)| *item).collect();
        let mut answers = Vec::with_capacity(unknown.len());
        if !unknown.is_empty() {
            verifier.verify_many(&unknown, &mut answers, &mut may_confirm);
        }
        if verifier.way() != way {
            // It was distrusted meanwhile: nothing that it said counts, now or a moment ago.
            verifier.verify_many(items, verdicts, may_confirm);
            return 0;
        }
        let mut answers = answers.into_iter();
        for (digest, verdict) in digests.into_iter().zip(verdicts.iter_mut()).filter(|(_, known)| !**known) {
            *verdict = answers.next() == Some(true);
            if *verdict {
                cache.found.insert(digest, (now, way));
            }
        }
        let hits = items.len().saturating_sub(unknown.len());
        self.hits.inc_by(u64::try_from(hits).unwrap_or_default());
        self.misses.inc_by(u64::try_from(unknown.len()).unwrap_or_default());
        hits
    }
}

#[cfg(test)]
#[path = "verdicts_tests.rs"]
mod tests;
