//! Verify requests that arrived together have their signatures verified together, which is what makes them cheap. Nobody
//! waits for others to come: what has arrived is the batch.

use std::slice::from_ref;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::gate::Inside;
use super::outcome;
use super::services::{Service, Turn, reply};
use super::stints::STINT;
use super::verifying::next_slice;
use crate::check::{Judged, settle};
use crate::verify::Keyring;
use crate::wire::{Code, Passport, Problem, ServiceOk};

/// One request whose passport is judged but for its signature.
pub(super) struct Awaiting<'b, 'k> {
    pub(super) passport: Passport<'b>,
    pub(super) judged: Judged<'b, 'k>,
}

/// Those of one connection that came one after the other.
pub(super) struct Pile<'s, 'b, 'k> {
    service: &'s Service,
    keyring: &'k Keyring,
    /// All of them are under way as one.
    inside: Option<(Inside, Inside)>,
    begun: Instant,
    /// Signatures that are verified in one go.
    most: usize,
    signatures: usize,
    awaiting: Vec<(u64, [u8; 16], Awaiting<'b, 'k>)>,
}

impl<'s, 'b, 'k> Pile<'s, 'b, 'k> {
    pub(super) fn new(service: &'s Service, keyring: &'k Keyring, turn: &Turn) -> Self {
        let most = service.together.load(Ordering::Relaxed).min(turn.largest_slice());
        Self { service, keyring, inside: None, begun: Instant::now(), most, signatures: 0, awaiting: Vec::new() }
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

    /// Whether it is as large as fits a stint. What was refused without looking at a signature costs next to nothing, but
    /// not nothing.
    pub(super) fn is_full(&self) -> bool {
        self.signatures >= self.most || self.begun.elapsed() >= STINT
    }

    pub(super) fn push(&mut self, turn: &Turn, one: Awaiting<'b, 'k>) {
        self.signatures += usize::from(one.judged.is_ok());
        self.awaiting.push((turn.id, turn.corr_id, one));
    }

    /// Answers all of them, in order. `turn` is that of one of them.
    pub(super) fn settle(&mut self, turn: &mut Turn, out: &mut Vec<u8>) {
        let Self { service, keyring, inside, begun, most, signatures, awaiting } = self;
        if awaiting.is_empty() {
            *inside = None;
            return;
        }
        let (daemon, client) = (service.daemon(), &service.client);
        let budget = &client.place.share().confirmations;
        let mut verdicts = Vec::with_capacity(awaiting.len());
        let (judged, remembered) = (awaiting.iter().map(|(_, _, one)| &one.judged), service.remembered());
        let hits = settle(judged, &daemon.verifier, remembered, || budget.take(), &mut verdicts);
        service.count(&verdicts);
        let mut verdicts = verdicts.into_iter();
        for (id, corr_id, one) in awaiting.drain(..) {
            (turn.id, turn.corr_id) = (id, corr_id);
            let verdict = verdicts.next();
            if let Some(verdict) = &verdict {
                let by = service.by(keyring);
                outcome::verified(&client.peer, turn.asked(), by, from_ref(&one.passport), from_ref(verdict));
            }
            let result = verdict.map(ServiceOk::Verdict).ok_or_else(|| Problem::new(Code::Internal));
            reply(daemon, &client.peer, turn, result, out);
        }
        let (full, took) = (*signatures >= *most, begun.elapsed());
        if full || took > STINT {
            let next = next_slice((*signatures).max(1), hits, turn.largest_slice(), took);
            service.together.store(next, Ordering::Relaxed);
        }
        (*inside, *signatures) = (None, 0);
    }
}
