//! What was refused, by reason.

use crate::wire::link::LinkRefusal;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; LinkRefusal::ALL.len()]);

impl Refusals {
    /// Counts one.
    pub(super) fn count(&self, refusal: LinkRefusal) {
        let place = LinkRefusal::ALL.into_iter().position(|one| one == refusal);
        if let Some(counter) = place.and_then(|place| self.0.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often each reason was given, by its tag.
    pub(super) fn by_tag(&self) -> Vec<u64> {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).collect()
    }

    /// All of them together.
    pub(super) fn total(&self) -> u64 {
        self.by_tag().into_iter().sum()
    }
}
