//! Verify, VerifyBatch and Introspect. They run in place, on the connection's own task: a hop to another thread costs
//! more than most verdicts. A batch gives way to others between slices.

use std::time::{Duration, Instant};

use super::consuming::With;
use super::services::{Given, Service, Turn};
use super::stints::STINT;
use super::together::{Awaiting, spare_verdicts};
use super::{outcome, problems};
use crate::check::{Candidate, Means, Remembered, Terms, check_more, introspect, is_ticket, judge_unproven, revise};
use crate::metrics::{Act, Alg, Metrics, Opening, Outcome};
use crate::passport::Expect;
use crate::policy::Operation;
use crate::verify::Keyring;
use crate::wire::{Code, Passport, Problem, ServiceOk, Verdict, Want};

/// Items of a batch's first slice. What an item costs is known after it.
pub(super) const FIRST_SLICE: usize = 8;

/// How many items are judged in one go after `slice` of them `took` so long: as many as fit a stint, at most `most`. Those
/// that were remembered say nothing of what as many others would take, so there are no more after them.
pub(super) fn next_slice(slice: usize, hits: usize, most: usize, took: Duration) -> usize {
    match took {
        _ if took * 2 <= STINT && hits == 0 => (slice * 2).min(most),
        _ if took > STINT => (slice / 2).max(1),
        _ => slice,
    }
}

impl Service {
    /// All but the signature, which is verified together with those that came with it, unless something is to be taken.
    pub(super) fn verify<'b, 'k>(
        &self,
        turn: &Turn,
        keyring: &'k Keyring,
        want: &Want<'_>,
        passport: Passport<'b>,
    ) -> Result<Given<'b, 'k>, Problem> {
        let audience = self.audience(turn, want, Operation::Verify)?;
        let kept = self.daemon().store.kept();
        let judged = judge_unproven(&passport, keyring, &terms(turn, want, audience.as_slice()), &kept);
        let revision = self.daemon().store.revision();
        drop(kept);
        if judged.as_ref().is_ok_and(Candidate::takes) {
            return self.consume(turn, keyring, (want, audience), (&passport, judged, revision), &With::default());
        }
        Ok(Given::Awaiting(Awaiting { passport, judged, revision }))
    }

    pub(super) async fn verify_batch(
        &self,
        turn: &Turn,
        keyring: &Keyring,
        want: &Want<'_>,
        items: &[Passport<'_>],
    ) -> Result<Given<'static, 'static>, Problem> {
        let config = &turn.live.loaded.config;
        let bound = config.limits.verify_batch_concurrency;
        let inside = self.enter(turn, &self.gates.verify_batch, &self.client.place.share().verify_batch, bound)?;
        let audience = self.audience(turn, want, Operation::Verify)?;
        let terms = terms(turn, want, audience.as_slice());
        let means = Means {
            keyring,
            verifier: &self.daemon().verifier,
            confirmations: &self.client.place.share().confirmations,
            remembered: None,
            state: &self.daemon().store,
        };
        let (most, revision) = (turn.largest_slice(), self.daemon().store.revision());
        let (mut slice, mut rest) = (FIRST_SLICE.min(most), items);
        let mut verdicts = spare_verdicts();
        verdicts.reserve(items.len());
        while !rest.is_empty() {
            if !verdicts.is_empty() {
                tokio::task::yield_now().await;
            }
            let begun = Instant::now();
            let (part, others) = rest.split_at(slice.min(rest.len()));
            let hits = check_more(part, Means { remembered: self.remembered(), ..means }, &terms, &mut verdicts);
            (slice, rest) = (next_slice(slice, hits, most, begun.elapsed()), others);
        }
        revise(items.iter(), &mut verdicts, &self.daemon().store, revision);
        self.refused(turn, keyring, Operation::Verify, items.iter().zip(&verdicts));
        if verdicts.contains(&Verdict::Refused(Code::NeedsDaemon)) {
            return self.consume_many(turn, items, verdicts, inside).map(Given::Later);
        }
        self.count(items.iter(), &verdicts);
        outcome::verified(&self.client.peer, turn.asked(), self.by(keyring), items, &verdicts);
        Ok(Given::Now(ServiceOk::Verdicts(verdicts)))
    }

    pub(super) fn introspect(
        &self,
        turn: &Turn,
        keyring: &Keyring,
        want: &Want<'_>,
        passport: &Passport<'_>,
    ) -> Result<ServiceOk, Problem> {
        let bound = turn.live.loaded.config.limits.verify_concurrency;
        let _inside = self.enter(turn, &self.gates.verify, &self.client.place.share().verify, bound)?;
        let audience = self.audience(turn, want, Operation::Introspect)?;
        let introspection =
            introspect(passport, keyring, &terms(turn, want, audience.as_slice()), &self.daemon().store);
        let outcome = if introspection.active { Outcome::Ok } else { Outcome::Refused };
        self.daemon().metrics.ops.at((Act::Introspect, outcome, Alg::Ed25519)).inc();
        Ok(ServiceOk::Introspection(introspection))
    }

    /// As whom the peer verifies.
    pub(super) fn audience<'t>(
        &self,
        turn: &'t Turn,
        want: &Want<'_>,
        operation: Operation,
    ) -> Result<Option<&'t str>, Problem> {
        let require_aud = turn.live.loaded.config.security.require_aud;
        let decision = match operation {
            Operation::Introspect => turn.rights.decide_introspect(want.aud, require_aud),
            _ => turn.rights.decide_verify(want.aud, require_aud),
        };
        decision.into_result().map_err(|denial| {
            self.client.denied(turn.corr_id, operation, &denial, |entry| entry);
            problems::of_denial(&denial)
        })
    }

    /// Asked anew for each stint: between them time passes.
    pub(super) fn remembered(&self) -> Remembered<'_> {
        let known = &self.daemon().verdicts;
        known.is_on().then(|| (known, Instant::now()))
    }

    pub(super) fn by<'a>(&self, keyring: &'a Keyring) -> outcome::By<'a> {
        outcome::By { keyring, way: self.daemon().verifier.way() }
    }

    /// Counts verdicts on passports that take nothing, or are refused.
    pub(super) fn count<'p, 'a: 'p>(&self, passports: impl Iterator<Item = &'p Passport<'a>>, verdicts: &[Verdict]) {
        let metrics = &self.daemon().metrics;
        let accepted = count(metrics, verdicts);
        metrics.tickets.openings.at(Opening::Passport).inc_by(accepted);
        let refused = u64::try_from(verdicts.len()).is_ok_and(|all| accepted < all);
        if refused {
            let tickets = passports.zip(verdicts).filter(|(one, verdict)| !verdict.is_accepted() && is_ticket(one));
            metrics.tickets.invalid.inc_by(u64::try_from(tickets.count()).unwrap_or(0));
        }
    }
}

/// Counts verdicts; how many accept.
pub(super) fn count(metrics: &Metrics, verdicts: &[Verdict]) -> u64 {
    let (mut accepted, mut known) = (0, 0);
    for verdict in verdicts {
        let code = match verdict {
            Verdict::Accepted(_) | Verdict::Consumed(_) => {
                accepted += 1;
                continue;
            }
            Verdict::Unproven { .. } => Code::PopInvalid,
            Verdict::Refused(code) => *code,
        };
        metrics.failures.at(code).inc();
        let alg = if code == Code::BadAlg { Alg::Other } else { Alg::Ed25519 };
        metrics.ops.at((Act::Verify, Outcome::Refused, alg)).inc();
        match code {
            Code::UnknownKid => metrics.vk_misses.inc(),
            // Nobody has come to look for a key.
            Code::TooLarge | Code::Malformed | Code::BadAlg | Code::BadKid => {}
            _ => known += 1,
        }
        match code {
            Code::Replayed | Code::LimitExceeded => metrics.ekey_replayed.inc(),
            Code::PopInvalid => metrics.ekey_unproven.inc(),
            _ => {}
        }
    }
    metrics.vk_hits.inc_by(accepted + known);
    metrics.ekey_verified.inc_by(accepted);
    metrics.ops.at((Act::Verify, Outcome::Ok, Alg::Ed25519)).inc_by(accepted);
    accepted
}

pub(super) fn terms<'a>(turn: &'a Turn, want: &'a Want<'_>, audiences: &'a [&'a str]) -> Terms<'a> {
    let config = &turn.live.loaded.config;
    Terms {
        expect: Expect {
            issuer: &config.passport.issuer,
            now: turn.now,
            skew_s: u32::try_from(config.passport.clock_skew_s).unwrap_or(u32::MAX),
            audiences,
            require_aud: config.security.require_aud,
            scopes: &want.scopes,
        },
        max_msg_bytes: config.limits.max_msg_bytes,
        presenter: turn.rights.presenter(want.peer_uid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_grow_as_far_as_they_fit_a_stint() {
        let step = |slice, took| next_slice(slice, 0, 64, took);
        assert_eq!(step(8, STINT / 4), 16);
        assert_eq!(step(48, STINT / 4), 64, "the configured bound holds");
        assert_eq!(step(8, STINT), 8);
        assert_eq!(step(8, STINT * 3), 4);
        assert_eq!(step(1, STINT * 3), 1);
    }

    /// Else whoever repeats one passport could have a slice of new ones after it that lasts as long as it likes.
    #[test]
    fn slices_do_not_grow_by_what_is_remembered() {
        for hits in [1, 8] {
            assert_eq!(next_slice(8, hits, 64, STINT / 4), 8);
            assert_eq!(next_slice(8, hits, 64, STINT * 3), 4);
        }
    }
}
