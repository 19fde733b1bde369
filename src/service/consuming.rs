//! Acceptances that take something: a use, a nonce, a proof. What is taken is durable and on record before anybody is told that
//! the passport was accepted. Only a passport that is authentic, and a proof that holds, come as far as the store.

use std::iter::once;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::challenges::LIFE;
use super::services::{Given, Service, Turn, reply};
use super::verifying::{count, terms};
use super::{Client, Done, Later, outcome, problems};
use crate::audit::{Entry, Event, Outcome};
use crate::check::{For, Judged, Taking, is_ticket, judge_unproven, prove, revise, settle};
use crate::clock::Moment;
use crate::lifecycle::Daemon;
use crate::metrics::Opening;
use crate::policy::Operation;
use crate::service::gate::Inside;
use crate::state::{Spend, Spending};
use crate::verify::Keyring;
use crate::wire::{Code, Consumed, Passport, Possession, Problem, ServiceOk, Verdict, Want};

/// Acceptances of single requests that wait for the disk, of which half are one uid's at most.
const CONSUMING: usize = 256;
/// Batches that take something, of which half are one uid's at most.
const BATCHES: usize = 16;
/// Acceptances of each that wait for the disk at one time: with those above, and the revocations of services, fewer than the
/// queue of the state holds, so that an admin's revocation finds a place.
const AT_ONCE: usize = 32;

/// What a request says beside its passport.
#[derive(Clone, Debug, Default)]
pub(super) struct With<'a> {
    pub(super) retry: Option<[u8; 16]>,
    pub(super) proof: Option<Possession<'a>>,
}

/// What can be said of a passport before the store is asked.
pub(super) enum Looked {
    /// All.
    Says(Verdict),
    /// It is authentic, and takes this, and perhaps a proof that holds.
    Takes(Box<Taking>, Option<([u8; 32], i64)>),
}

impl Service {
    /// A verdict on one passport, whatever it takes.
    pub(super) fn verify_with<'b, 'k>(
        &self,
        turn: &Turn,
        keyring: &'k Keyring,
        want: &Want<'_>,
        passport: &Passport<'b>,
        with: &With<'_>,
    ) -> Result<Given<'b, 'k>, Problem> {
        let audience = self.audience(turn, want, Operation::Verify)?;
        let (judged, revision) = {
            let kept = self.daemon().store.kept();
            let judged = judge_unproven(passport, keyring, &terms(turn, want, audience.as_slice()), &kept);
            (judged, self.daemon().store.revision())
        };
        self.consume(turn, keyring, (want, audience), (passport, judged, revision), with)
    }

    /// The signature, then the proof, and then what is to be taken. `revision` is that of the state by which it was judged.
    pub(super) fn consume<'b, 'k>(
        &self,
        turn: &Turn,
        keyring: &'k Keyring,
        (want, audience): (&Want<'_>, Option<&str>),
        (passport, judged, revision): (&Passport<'b>, Judged<'b, 'k>, u64),
        with: &With<'_>,
    ) -> Result<Given<'b, 'k>, Problem> {
        let inside = self.enter(turn, &self.gates.consume, &self.client.place.share().consume, CONSUMING)?;
        let (taking, proof) =
            match self.look(turn, (passport, judged, revision), with, (For::Verify, audience.as_slice()))? {
                Looked::Takes(taking, proof) => (*taking, proof),
                Looked::Says(verdict) => {
                    let verdicts = [verdict];
                    self.count(from_ref(passport).iter(), &verdicts);
                    self.refused(turn, keyring, Operation::Verify, once(passport).zip(&verdicts));
                    outcome::verified(&self.client.peer, turn.asked(), self.by(keyring), from_ref(passport), &verdicts);
                    let [verdict] = verdicts;
                    return Ok(Given::Now(ServiceOk::Verdict(verdict)));
                }
            };
        let retry = with.retry.map(|key| (key, digest(want, passport, with.proof.as_ref())));
        let spend = Spend { proof, retry, ..spend(&taking, self.client.peer.uid, turn.now) };
        let way = self.daemon().verifier.way();
        let (daemon, client) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer));
        let (record, refusals) = (self.client.accepting(turn.corr_id), self.client.refusals());
        let turn = turn.owned();
        Ok(Given::Later(Box::pin(async move {
            let _inside = inside;
            let result = accept(&daemon, vec![(taking.clone(), spend)], &record).await.and_then(|mut verdicts| {
                count(&daemon.metrics, &verdicts);
                refusals.of_taken(&record, once(&taking).zip(&verdicts));
                opened(&daemon, from_ref(&taking).iter().zip(&verdicts));
                outcome::consumed(&client, turn.asked(), way, || None, &verdicts);
                verdicts.pop().ok_or_else(|| Problem::new(Code::Internal))
            });
            done(&daemon, &client, &turn, result.map(ServiceOk::Verdict))
        })))
    }

    /// Takes what the items of a batch take, in their order. `verdicts` are those without.
    pub(super) fn consume_many(
        &self,
        turn: &Turn,
        items: &[Passport<'_>],
        mut verdicts: Vec<Verdict>,
        inside: (Inside, Inside),
    ) -> Result<Later, Problem> {
        let own = &self.client.place.share().consume_many;
        let taking_inside = self.enter(turn, &self.gates.consume_many, own, BATCHES)?;
        let uid = self.client.peer.uid;
        // Those that are accepted already are looked at once more when all is done.
        let (mut taking, mut accepted) = (Vec::new(), Vec::new());
        for (at, (passport, verdict)) in items.iter().zip(&verdicts).enumerate() {
            let list = match verdict {
                Verdict::Refused(Code::NeedsDaemon) => &mut taking,
                Verdict::Accepted(_) => &mut accepted,
                _ => {
                    self.daemon().metrics.tickets.invalid.inc_by(u64::from(is_ticket(passport)));
                    continue;
                }
            };
            list.extend(Taking::of(passport).map(|taking| (at, taking)));
        }
        let way = self.daemon().verifier.way();
        let (daemon, client) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer));
        let (record, refusals) = (self.client.accepting(turn.corr_id), self.client.refusals());
        let turn = turn.owned();
        Ok(Box::pin(async move {
            let _inside = (inside, taking_inside);
            let result = take_all(&daemon, (uid, turn.now), &taking, &record, &mut verdicts).await.map(|()| {
                let kept = daemon.store.kept();
                for (at, one) in accepted.iter().chain(&taking) {
                    if let Some(verdict) = verdicts.get_mut(*at)
                        && verdict.is_accepted()
                        && one.is_revoked(&kept)
                    {
                        *verdict = Verdict::Refused(Code::Revoked);
                    }
                }
                drop(kept);
                count(&daemon.metrics, &verdicts);
                let all = accepted.iter().chain(&taking);
                let all = all.filter_map(|(at, one)| verdicts.get(*at).map(|verdict| (one, verdict)));
                refusals.of_taken(&record, all.clone());
                opened(&daemon, all);
                outcome::consumed(&client, turn.asked(), way, || None, &verdicts);
                ServiceOk::Verdicts(verdicts)
            });
            done(&daemon, &client, &turn, result)
        }))
    }

    /// The signature, then the proof: all that is said of a passport before the store is asked. `revision` is that of the state by
    /// which it was judged.
    pub(super) fn look(
        &self,
        turn: &Turn,
        (passport, judged, revision): (&Passport<'_>, Judged<'_, '_>, u64),
        with: &With<'_>,
        (made_for, audiences): (For, &[&str]),
    ) -> Result<Looked, Problem> {
        let daemon = self.daemon();
        let says = |verdict| Ok(Looked::Says(verdict));
        let no_key = || Verdict::Unproven { why: "the passport names no key to be proven".to_owned() };
        if judged.as_ref().is_ok_and(|candidate| candidate.is_bound() && with.proof.is_none()) {
            return says(Verdict::Refused(Code::PopRequired));
        }
        let (budget, mut verdicts) = (&self.client.place.share().confirmations, Vec::with_capacity(1));
        settle([&judged].into_iter(), &daemon.verifier, self.remembered(), || budget.take(), &mut verdicts);
        match verdicts.as_slice() {
            [Verdict::Refused(Code::NeedsDaemon)] => {}
            [Verdict::Accepted(_)] if with.proof.is_some() => return says(no_key()),
            [_] => {
                revise([passport].into_iter(), &mut verdicts, &daemon.store, revision);
                return verdicts.pop().map_or_else(|| Err(Problem::new(Code::Internal)), says);
            }
            _ => return Err(Problem::new(Code::Internal)),
        }
        let taking = Taking::of(passport).ok_or_else(|| Problem::new(Code::Internal))?;
        let proof = match (&taking.jkt, &with.proof) {
            (Some(jkt), Some(proof)) => match self.proven(turn, proof, (passport, jkt), (made_for, audiences)) {
                Ok(taken) => Some(taken),
                Err(why) => return says(Verdict::Unproven { why }),
            },
            (None, Some(_)) => return says(no_key()),
            (_, None) => None,
        };
        Ok(Looked::Takes(Box::new(taking), proof))
    }

    /// A nonce for a proof.
    pub(super) fn challenge(&self) -> Result<ServiceOk, Problem> {
        let nonce = self.challenges.give(Instant::now()).ok_or_else(|| Problem::new(Code::Internal))?;
        Ok(ServiceOk::Challenge { nonce, expires_in_s: u32::try_from(LIFE.as_secs()).unwrap_or(u32::MAX) })
    }

    /// What a proof that holds takes; else why it does not.
    fn proven(
        &self,
        turn: &Turn,
        proof: &Possession<'_>,
        (passport, jkt): (&Passport<'_>, &str),
        (made_for, audiences): (For, &[&str]),
    ) -> Result<([u8; 32], i64), String> {
        let seen = std::cell::RefCell::new(None);
        let given = |nonce: &str| {
            let known = self.challenges.has(nonce, Instant::now());
            *seen.borrow_mut() = known.then(|| nonce.to_owned());
            known
        };
        let taken =
            prove(proof, passport, jkt, (made_for, audiences, turn.now), given).map_err(|why| why.to_string())?;
        // Only a proof that holds uses its nonce up: else anybody who saw one could.
        if let Some(nonce) = seen.into_inner() {
            self.challenges.take(&nonce);
        }
        Ok(taken)
    }
}

impl Client {
    /// The record of an acceptance, but for the passport.
    pub(super) fn accepting(&self, corr_id: [u8; 16]) -> Entry {
        let entry = Entry::new(Event::PassportAccepted, Outcome::Ok, Moment::now()).corr_id(corr_id);
        entry.peer(self.on_record()).action(Operation::Verify.name())
    }
}

/// Counts what was accepted, and which tickets were not, once the store has been asked.
fn opened<'a>(daemon: &Daemon, all: impl Iterator<Item = (&'a Taking, &'a Verdict)>) {
    let counted = &daemon.metrics.tickets;
    for (taking, verdict) in all {
        match (taking.par.is_some(), verdict.is_accepted()) {
            (true, true) => {
                counted.openings.at(Opening::Ticket).inc();
                daemon.ticket_used(&taking.jti);
            }
            (true, false) => counted.invalid.inc(),
            (false, true) => counted.openings.at(Opening::Passport).inc(),
            (false, false) => {}
        }
    }
}

/// What accepting it takes, but for a proof.
pub(super) fn spend(taking: &Taking, uid: u32, now: Moment) -> Spend {
    let Taking { kid, tenant, jti, sub, iat, epoch, exp, limit, nonce, par, .. } = taking.clone();
    let until = Daemon::spent_until(exp);
    let (proof, retry) = (None, None);
    Spend { uid, kid, tenant, jti, sub, iat, epoch, par, until, limit, nonce, proof, retry, now: now.unix() }
}

/// SHA-256 of what is asked for. A proof of ours is left out, since whoever comes back over another connection needs another;
/// an HTTP request with another proof is another request.
pub(super) fn digest(want: &Want<'_>, passport: &Passport<'_>, proof: Option<&Possession<'_>>) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        // Each with its length, so that what ends one can't begin the next.
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    part(b"passportd/retry/v1");
    part(&[u8::from(want.aud.is_some())]);
    part(want.aud.unwrap_or_default().as_bytes());
    part(&u64::try_from(want.scopes.len()).unwrap_or(u64::MAX).to_be_bytes());
    want.scopes.iter().for_each(|scope| part(scope.as_bytes()));
    part(&[u8::from(want.peer_uid.is_some())]);
    part(&want.peer_uid.unwrap_or_default().to_be_bytes());
    match passport {
        Passport::Envelope { alg, kid, msg, sig } => {
            [alg.as_bytes(), kid.as_bytes(), msg, sig].into_iter().for_each(&mut part);
        }
        // No `alg` of an envelope reads like this.
        Passport::Jws { text } => [b"jws", text.as_bytes()].into_iter().for_each(&mut part),
    }
    match proof {
        None => part(b""),
        Some(Possession::Pop { .. }) => part(b"pop"),
        Some(Possession::Dpop { proof, htm, htu, nonce }) => {
            part(b"dpop");
            [proof.as_bytes(), htm.as_bytes(), htu.as_bytes()].into_iter().for_each(&mut part);
            part(&[u8::from(nonce.is_some())]);
            part(nonce.unwrap_or_default().as_bytes());
        }
    }
    hash.finalize().into()
}

/// Takes what all of them take, some at a time, and puts the verdicts in their places.
async fn take_all(
    daemon: &Daemon,
    (uid, now): (u32, Moment),
    taking: &[(usize, Taking)],
    record: &Entry,
    verdicts: &mut [Verdict],
) -> Result<(), Problem> {
    for some in taking.chunks(AT_ONCE) {
        let spends = some.iter().map(|(_, one)| (one.clone(), spend(one, uid, now))).collect();
        for ((at, _), given) in some.iter().zip(accept(daemon, spends, record).await?) {
            if let Some(verdict) = verdicts.get_mut(*at) {
                *verdict = given;
            }
        }
    }
    Ok(())
}

/// Takes, puts on record, and looks at revocation once more: in this order. A verdict for each, or a problem for all; what was
/// taken stays taken.
async fn accept(daemon: &Daemon, all: Vec<(Taking, Spend)>, record: &Entry) -> Result<Vec<Verdict>, Problem> {
    let (taking, spends): (Vec<_>, Vec<_>) = all.into_iter().unzip();
    let spent = daemon.store.spend_many(spends).await.map_err(|error| problems::of_state(&error))?;
    let (mut verdicts, mut entries) = (Vec::with_capacity(spent.len()), Vec::with_capacity(spent.len()));
    for (one, spending) in taking.iter().zip(spent) {
        let verdict = verdict(one.exp, spending)?;
        if let Verdict::Consumed(consumed) = &verdict {
            entries.push(entry(record, one, consumed));
        }
        verdicts.push(verdict);
    }
    if entries.is_empty() {
        return Ok(verdicts);
    }
    daemon.audit.record_many(entries).await.map_err(|_| problems::audit_unavailable())?;
    let revoked: Vec<bool> = {
        let kept = daemon.store.kept();
        taking.iter().zip(&verdicts).map(|(one, verdict)| verdict.is_accepted() && one.is_revoked(&kept)).collect()
    };
    for ((one, verdict), _) in taking.iter().zip(&mut verdicts).zip(revoked).filter(|(_, revoked)| *revoked) {
        if let Verdict::Consumed(consumed) = verdict {
            let entry = entry(record, one, consumed).revised(Event::PassportAccepted, Outcome::Refused, Moment::now());
            let entry = entry.reason(Code::Revoked.name()).detail("recorded as accepted; it was revoked meanwhile");
            daemon.audit.record(entry).await.map_err(|_| problems::audit_unavailable())?;
        }
        *verdict = Verdict::Refused(Code::Revoked);
    }
    Ok(verdicts)
}

pub(super) fn entry(record: &Entry, taking: &Taking, consumed: &Consumed) -> Entry {
    let left = consumed.left.map(|left| format!("uses left: {left}"));
    let repeated = consumed.repeated.then(|| "the answer to the same request once more".to_owned());
    let said: Vec<String> = left.into_iter().chain(repeated).collect();
    let Taking { jti, sub, kid, template, exp, .. } = taking;
    let entry = record.clone().jti(jti).subject(sub).kid(kid).template(template).exp(*exp);
    if said.is_empty() { entry } else { entry.detail(&said.join("; ")) }
}

pub(super) fn verdict(exp: i64, spending: Spending) -> Result<Verdict, Problem> {
    Ok(match spending {
        Spending::Spent { left } => Verdict::Consumed(Consumed { exp, left, repeated: false }),
        Spending::Repeated { left, .. } => Verdict::Consumed(Consumed { exp, left, repeated: true }),
        Spending::Replayed => Verdict::Refused(Code::Replayed),
        Spending::UsedUp => Verdict::Refused(Code::LimitExceeded),
        Spending::Revoked => Verdict::Refused(Code::Revoked),
        Spending::ProofReplayed => Verdict::Unproven { why: "the proof was accepted before".to_owned() },
        Spending::OtherRequest => {
            let why = "this retry key was used for another request; every request needs a new random one";
            return Err(Problem::saying(Code::Malformed, why));
        }
    })
}

fn done(daemon: &Daemon, peer: &crate::policy::Peer, turn: &Turn, result: Result<ServiceOk, Problem>) -> Done {
    let mut frame = Vec::new();
    reply(daemon, peer, turn, result, &mut frame);
    Done { frame, lease: None, sensitive: false }
}
