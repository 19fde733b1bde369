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

/// Enters the gate of one uid, and that of all. One uid has half the places at most, rounded up.
pub(super) fn enter_both(all: &Gate, own: &Gate, bound: usize) -> Option<(Inside, Inside)> {
    let own = own.enter(bound.div_ceil(2))?;
    Some((own, all.enter(bound)?))
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

    #[test]
    fn one_uid_has_half_and_all_together_have_the_bound() {
        for (bound, half) in [(4, 2), (5, 3), (1, 1)] {
            let (all, [a, b, c]) = (Gate::default(), [(); 3].map(|()| Gate::default()));
            let mut inside: Vec<_> = (0..9).map_while(|_| enter_both(&all, &a, bound)).collect();
            assert_eq!(inside.len(), half, "of {bound}: one uid");
            inside.extend((0..9).map_while(|_| enter_both(&all, &b, bound)));
            assert_eq!(inside.len(), bound, "of {bound}: two");
            assert!(enter_both(&all, &c, bound).is_none(), "of {bound}: a third one");
            inside.pop();
            assert!(enter_both(&all, &c, bound).is_some(), "of {bound}: when one has left");
            assert!(c.enter(1).is_some(), "who did not get in holds no place of its own");
        }
    }
}
