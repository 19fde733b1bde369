//! Items a second, or a minute.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Why a request is more than a rate allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverRate {
    /// For now.
    Wait {
        /// When it is worth trying again.
        millis: u32,
    },
    /// For ever: one request holds more than a whole period's worth.
    Never {
        /// The rate, in items a period.
        most: usize,
    },
}

/// The limiters of the rates under which a uid comes: rules may give it one on each listener, and a reload another. Each
/// keeps its own count, so that changing between them refills none.
#[derive(Debug)]
pub(super) struct Rate {
    period: Duration,
    known: Mutex<Vec<(NonZeroU32, Arc<DefaultDirectRateLimiter>)>>,
}

impl Default for Rate {
    fn default() -> Self {
        Self { period: Duration::from_secs(1), known: Mutex::default() }
    }
}

/// Rates remembered for one uid; the oldest is forgotten.
const MAX_RATES: usize = 16;

impl Rate {
    pub(super) fn per_minute() -> Self {
        Self { period: Duration::from_secs(60), ..Self::default() }
    }

    /// Takes `items` of the `most` that a period has; 0: without limit.
    pub(super) fn take(&self, most: u32, items: usize) -> Result<(), OverRate> {
        let (Some(rate), Some(items)) = (NonZeroU32::new(most), u32::try_from(items).ok().and_then(NonZeroU32::new))
        else {
            return Ok(());
        };
        let limiter = self.limiter(rate);
        let wait = |items: NonZeroU32| {
            let longest = u32::try_from(self.period.as_millis()).unwrap_or(u32::MAX);
            let millis = u64::from(longest) * u64::from(items.get()) / u64::from(rate.get());
            OverRate::Wait { millis: u32::try_from(millis).unwrap_or(longest).clamp(1, longest) }
        };
        match limiter.check_n(items) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(wait(items)),
            // What can never pass takes as much as a single item, so that asking for it is not free.
            Err(_) => Err(match limiter.check() {
                Ok(()) => OverRate::Never { most: usize::try_from(most).unwrap_or(usize::MAX) },
                Err(_) => wait(NonZeroU32::MIN),
            }),
        }
    }

    /// As many at once as come in a period.
    fn quota(&self, rate: NonZeroU32) -> Quota {
        let each = self.period / rate.get();
        // Shorter than a nanosecond is no limit that anybody could reach.
        Quota::with_period(each).unwrap_or_else(|| Quota::per_second(rate)).allow_burst(rate)
    }

    fn limiter(&self, rate: NonZeroU32) -> Arc<DefaultDirectRateLimiter> {
        let mut rates = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, limiter)) = rates.iter().find(|(known, _)| *known == rate) {
            return Arc::clone(limiter);
        }
        if rates.len() >= MAX_RATES {
            rates.remove(0);
        }
        let limiter = Arc::new(RateLimiter::direct(self.quota(rate)));
        rates.push((rate, Arc::clone(&limiter)));
        limiter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_over_the_rate_never_passes() {
        let rate = Rate::default();
        assert_eq!(rate.take(5, 6), Err(OverRate::Never { most: 5 }));
        rate.take(5, 4).unwrap();
        assert_eq!(rate.take(5, 5), Err(OverRate::Wait { millis: 1000 }));
        assert_eq!(rate.take(5, 6), Err(OverRate::Wait { millis: 200 }), "it took what one item takes");
    }

    #[test]
    fn a_rate_of_a_minute_is_one() {
        let rate = Rate::per_minute();
        rate.take(1000, 1000).unwrap();
        assert_eq!(rate.take(1000, 1), Err(OverRate::Wait { millis: 60 }));
        let rate = Rate::per_minute();
        rate.take(1, 1).unwrap();
        assert_eq!(rate.take(1, 1), Err(OverRate::Wait { millis: 60_000 }));
    }

    #[test]
    fn so_many_rates_are_remembered_and_then_the_oldest_is_forgotten() {
        let rate = Rate::default();
        rate.take(5, 5).unwrap();
        for other in 100..100 + u32::try_from(MAX_RATES).unwrap() - 1 {
            rate.take(other, 1).unwrap();
        }
        assert!(rate.take(5, 1).is_err(), "as many rates as are remembered");
        rate.take(99, 1).unwrap();
        assert_eq!(rate.known.lock().unwrap().len(), MAX_RATES);
        rate.take(5, 5).unwrap();
    }

    #[test]
    fn going_back_and_forth_between_rates_refills_none() {
        let rate = Rate::default();
        rate.take(5, 5).unwrap();
        rate.take(7, 7).unwrap();
        assert!(rate.take(5, 1).is_err());
        assert!(rate.take(7, 1).is_err());
    }
}
