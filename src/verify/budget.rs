//! How many refusals of one peer the reference confirms.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// Confirmations a second. Each takes about 35 us, so a peer that sends forgeries costs 2 ms a second more, and not 27 times
/// what its forgeries cost by the fast way.
const PER_SECOND: u32 = 50;

/// What one peer has used in the present second.
#[derive(Debug, Default)]
pub struct Budget {
    second: AtomicI64,
    used: AtomicU32,
}

impl Budget {
    /// Takes one, if there is one left in the second `now` (Unix time). Two threads at a turn of the second may take a few
    /// more.
    pub fn take(&self, now: i64) -> bool {
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.used.store(0, Ordering::Relaxed);
        }
        self.used.fetch_add(1, Ordering::Relaxed) < PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own() {
        let budget = Budget::default();
        for second in [7, 8, 5] {
            assert_eq!((0..200).filter(|_| budget.take(second)).count(), 50);
        }
    }
}
