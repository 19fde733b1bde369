//! The ways to verify, and which of them this processor has.

use std::fmt;

use crate::table::Window;
use crate::{Item, dispatch};

/// Items that go into lanes in one go; what comes together shares an inversion.
const TOGETHER: usize = 64;

/// A way to verify. All give the same verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// `ed25519-dalek`'s `verify_strict` for each item: the reference.
    Dalek,
    /// The comb in safe Rust, for any processor.
    Portable,
    /// The comb in the lanes of AVX-512 IFMA.
    Ifma,
}

impl Way {
    /// Every way, the fastest last.
    pub const ALL: [Self; 3] = [Self::Dalek, Self::Portable, Self::Ifma];

    /// Whether this processor has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Dalek | Self::Portable => true,
            Self::Ifma => dispatch::has_lanes(),
        }
    }

    /// The fastest one that this processor has.
    #[must_use]
    pub fn fastest() -> Self {
        if Self::Ifma.is_available() { Self::Ifma } else { Self::Portable }
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dalek => "dalek",
            Self::Portable => "portable",
            Self::Ifma => "ifma",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// [`crate::verify_many`] by one way. Items whose key has no table are verified by the reference, and so is everything
/// where the processor does not have the way.
pub fn verify_many_by(way: Way, items: &[Item<'_>], verdicts: &mut Vec<bool>) {
    verdicts.clear();
    verdicts.resize(items.len(), false);
    match way {
        Way::Portable => dispatch::portable(items, verdicts),
        Way::Ifma if dispatch::has_lanes() => by_lanes(items, verdicts),
        Way::Dalek | Way::Ifma => return by_reference(items, verdicts, |_| true),
    }
    by_reference(items, verdicts, |item| item.key.window().is_none());
}

fn by_reference(items: &[Item<'_>], verdicts: &mut [bool], which: impl Fn(&Item<'_>) -> bool) {
    for (item, verdict) in items.iter().zip(verdicts).filter(|(item, _)| which(item)) {
        *verdict = item.key.verify(item.message, item.signature);
    }
}

/// Lanes go in step, so tables of one width go together. Nearly always there is only one.
fn by_lanes(items: &[Item<'_>], verdicts: &mut [bool]) {
    let mut width = None;
    while let Some(window) = next_width(items, width) {
        width = Some(window);
        let fits = |(_, item): &(usize, &Item<'_>)| item.key.window() == width && item.may_hold();
        let mut rest = items.iter().enumerate().filter(fits);
        while let Some((at, item)) = rest.next() {
            let (mut places, mut batch, mut count) = ([at; TOGETHER], [item; TOGETHER], 1);
            for ((place, slot), (at, item)) in places.iter_mut().zip(&mut batch).skip(1).zip(&mut rest) {
                (*place, *slot) = (at, item);
                count += 1;
            }
            let mut answers = [false; TOGETHER];
            let (batch, _) = batch.split_at(count);
            let (answers, _) = answers.split_at_mut(count);
            dispatch::lanes(batch, answers);
            for (place, answer) in places.iter().zip(answers) {
                if let Some(verdict) = verdicts.get_mut(*place) {
                    *verdict = *answer;
                }
            }
        }
    }
}

/// The next wider window of any table.
fn next_width(items: &[Item<'_>], after: Option<Window>) -> Option<Window> {
    items.iter().filter_map(|item| item.key.window()).filter(|window| after.is_none_or(|after| *window > after)).min()
}
