//! What was refused, by reason.

use crate::wire::link::LinkRefusal;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start: by the tag of the reason; last, frames that could not be read.
#[derive(Debug)]
pub(super) struct Refusals([AtomicU64; LinkRefusal::ALL.len() + 1]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Refusals {
    /// Counts one.
    pub(super) fn count(&self, refusal: LinkRefusal) {
        let place = LinkRefusal::ALL.into_iter().position(|one| one == refusal);
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a frame that could not be read.
    pub(super) fn unreadable(&self) {
        if let Some(counter) = self.0.last() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each reason was given, by its tag, and how many frames could not be read.
    pub(super) fn by_tag(&self) -> Vec<u64> {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    /// All of them together.
    pub(super) fn total(&self) -> u64 {
        self.by_tag().into_iter().sum()
    }
}
