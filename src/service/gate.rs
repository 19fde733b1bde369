//! A bound on what is under way. Nobody waits at a gate: over the bound the answer is `busy`, at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The gate; its bound is given at each entry, so that a reload needs nothing here.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    inside: Arc<AtomicUsize>,
}

/// Being inside; ends on drop.
#[derive(Debug)]
pub struct Inside {
    inside: Arc<AtomicUsize>,
}

impl Gate {
    /// Enters, unless `bound` are inside.
    pub fn enter(&self, bound: usize) -> Option<Inside> {
        let add = |inside: usize| (inside < bound).then_some(inside + 1);
        self.inside.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Inside { inside: Arc::clone(&self.inside) })
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_the_bound_and_again_when_one_has_left() {
        let gate = Gate::default();
        let first = gate.enter(2).unwrap();
        let _second = gate.enter(2).unwrap();
        assert!(gate.enter(2).is_none());
        drop(first);
        assert!(gate.enter(2).is_some());
        assert!(gate.enter(0).is_none());
    }
}
