//! How many refusals of one peer the reference confirms.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Confirmations a second. Each takes about 35 us, so a peer that sends forgeries costs 2 ms a second more, and not 27 times
/// what its forgeries cost by the fast way.
const PER_SECOND: u32 = 50;

/// What seconds are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What one peer has used in the present second.
#[derive(Debug, Default)]
pub struct Budget {
    second: AtomicU64,
    used: AtomicU32,
}

impl Budget {
    /// Takes one, if there is one left in this second.
    pub fn take(&self) -> bool {
        self.take_in(START.elapsed().as_secs())
    }

    /// Only the first to come in a second begins it anew; whoever is late counts there, too.
    fn take_in(&self, second: u64) -> bool {
        if self.second.fetch_max(second, Ordering::Relaxed) < second {
            self.used.store(0, Ordering::Relaxed);
        }
        let one_more = |used: u32| (used < PER_SECOND).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_and_none_comes_back() {
        let budget = Budget::default();
        for second in [0, 7, 8] {
            assert_eq!((0..200).filter(|_| budget.take_in(second)).count(), 50);
        }
        // Two threads on either side of a second's turn.
        assert!(!budget.take_in(7) && !budget.take_in(8) && !budget.take_in(7));
        assert!(budget.take_in(9) && budget.take());
    }
}
