//! Verify requests that arrived together have their signatures verified together, which is what makes them cheap. Nobody
//! waits for others to come: what has arrived is the batch.

use std::cell::Cell;
use std::iter::once;
use std::slice::from_ref;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::gate::Inside;
use super::outcome;
use super::services::{Service, Turn, reply};
use super::stints::STINT;
use super::verifying::next_slice;
use crate::check::{Judged, recycled, revise, settle};
use crate::policy::Operation;
use crate::verify::Keyring;
use crate::wire::{Code, Passport, Problem, ServiceOk, Verdict};

/// One request whose passport is judged but for its signature.
pub(super) struct Awaiting<'b, 'k> {
    pub(super) passport: Passport<'b>,
    pub(super) judged: Judged<'b, 'k>,
    /// [`crate::state::Store::revision`] at that moment.
    pub(super) revision: u64,
}

/// Those of one connection that came one after the other.
pub(super) struct Pile<'s, 'b, 'k> {
    service: &'s Service,
    keyring: &'k Keyring,
    /// All of them are under way as one.
    inside: Option<(Inside, Inside)>,
    fill: Fill,
    awaiting: Vec<Waiting<'b, 'k>>,
}

/// The id, the correlation id, and the request itself.
type Waiting<'b, 'k> = (u64, [u8; 16], Awaiting<'b, 'k>);

thread_local! {
    // What the last ones of this thread were in, empty, so that the next ones need no memory of their own.
    static AWAITING: Cell<Vec<Waiting<'static, 'static>>> = const { Cell::new(Vec::new()) };
    static VERDICTS: Cell<Vec<Verdict>> = const { Cell::new(Vec::new()) };
}

/// An empty vector, with memory if this thread has some left.
pub(super) fn spare_verdicts() -> Vec<Verdict> {
    VERDICTS.take()
}

/// Leaves the memory to whoever comes next.
pub(super) fn keep_verdicts(mut verdicts: Vec<Verdict>) {
    verdicts.clear();
    VERDICTS.set(verdicts);
}

impl Drop for Pile<'_, '_, '_> {
    fn drop(&mut self) {
        AWAITING.set(recycled(std::mem::take(&mut self.awaiting)));
    }
}

/// How far a pile has grown.
struct Fill {
    begun: Instant,
    /// Signatures that are verified in one go.
    most: usize,
    signatures: usize,
}

impl Fill {
    const fn has_all_signatures(&self) -> bool {
        self.signatures >= self.most
    }

    /// Whether it is as large as fits a stint. What was refused without looking at a signature costs next to nothing, but
    /// not nothing.
    fn is_full_at(&self, now: Instant) -> bool {
        self.has_all_signatures() || now.saturating_duration_since(self.begun) >= STINT
    }
}

impl<'s, 'b, 'k> Pile<'s, 'b, 'k> {
    pub(super) fn new(service: &'s Service, keyring: &'k Keyring, turn: &Turn) -> Self {
        let most = service.together.load(Ordering::Relaxed).min(turn.largest_slice());
        let fill = Fill { begun: Instant::now(), most, signatures: 0 };
        Self { service, keyring, inside: None, fill, awaiting: recycled(AWAITING.take()) }
    }

    /// Enters the gate with the first of them.
    pub(super) fn enter(&mut self, turn: &Turn) -> Result<(), Problem> {
        if self.inside.is_none() {
            let (service, bound) = (self.service, turn.live.loaded.config.limits.verify_concurrency);
            let own = &service.client.place.share().verify;
            self.inside = Some(service.enter(turn, &service.gates.verify, own, bound)?);
        }
        Ok(())
    }

    /// Whether its time to be answered has come.
    pub(super) fn is_full(&self) -> bool {
        self.fill.is_full_at(Instant::now())
    }

    pub(super) fn push(&mut self, turn: &Turn, one: Awaiting<'b, 'k>) {
        self.fill.signatures += usize::from(one.judged.is_ok());
        self.awaiting.push((turn.id, turn.corr_id, one));
    }

    /// Answers all of them, in order. `turn` is that of one of them.
    pub(super) fn settle(&mut self, turn: &mut Turn, out: &mut Vec<u8>) {
        let Self { service, keyring, inside, fill, awaiting } = self;
        if awaiting.is_empty() {
            *inside = None;
            return;
        }
        let (daemon, client) = (service.daemon(), &service.client);
        let budget = &client.place.share().confirmations;
        let mut verdicts = spare_verdicts();
        let (judged, remembered) = (awaiting.iter().map(|(_, _, one)| &one.judged), service.remembered());
        // They only grow: what was judged first was judged by the least of them.
        let revision = awaiting.first().map_or_else(|| daemon.store.revision(), |(_, _, one)| one.revision);
        let hits = settle(judged, &daemon.verifier, remembered, || budget.take(), &mut verdicts);
        revise(awaiting.iter().map(|(_, _, one)| &one.passport), &mut verdicts, &daemon.store, revision);
        service.count(awaiting.iter().map(|(_, _, one)| &one.passport), &verdicts);
        let mut given = verdicts.drain(..);
        for (id, corr_id, one) in awaiting.drain(..) {
            (turn.id, turn.corr_id) = (id, corr_id);
            let verdict = given.next();
            if let Some(verdict) = &verdict {
                service.refused(turn, keyring, Operation::Verify, once((&one.passport, verdict)));
                let by = service.by(keyring);
                outcome::verified(&client.peer, turn.asked(), by, from_ref(&one.passport), from_ref(verdict));
            }
            let result = verdict.map(ServiceOk::Verdict).ok_or_else(|| Problem::new(Code::Internal));
            reply(daemon, &client.peer, turn, result, out);
        }
        drop(given);
        keep_verdicts(verdicts);
        let (full, took) = (fill.has_all_signatures(), fill.begun.elapsed());
        if full || took > STINT {
            let next = next_slice(fill.signatures.max(1), hits, turn.largest_slice(), took);
            service.together.store(next, Ordering::Relaxed);
        }
        (*inside, fill.signatures) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pile_is_full_by_its_signatures_or_by_the_clock() {
        let begun = Instant::now();
        let fill = |signatures| Fill { begun, most: 8, signatures };
        let soon = begun + STINT - Duration::from_nanos(1);
        assert!(!fill(0).is_full_at(begun) && !fill(7).is_full_at(soon));
        assert!(fill(8).is_full_at(begun) && fill(9).is_full_at(begun), "by signatures");
        assert!(fill(0).is_full_at(begun + STINT) && fill(7).is_full_at(begun + STINT), "by the clock");
    }
}
