//! How many requests were refused, and why.

use crate::wire::link::LinkRefusal;
use std::sync::atomic::{AtomicU64, Ordering};

/// By the tag of the reason; last, frames that could not be read.
#[derive(Debug)]
pub(super) struct Refused([AtomicU64; LinkRefusal::ALL.len() + 1]);

impl Default for Refused {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Refused {
    pub(super) fn count(&self, refusal: LinkRefusal) {
        let tag = LinkRefusal::ALL.iter().position(|one| *one == refusal);
        if let Some(count) = tag.and_then(|tag| self.0.get(tag)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn unreadable(&self) {
        if let Some(count) = self.0.last() {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn all(&self) -> Vec<u64> {
        self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}
