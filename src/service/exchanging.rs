//! Exchange: the passport is accepted, as by whoever verifies it, and what it takes is taken; then a ticket is issued for it. In this
//! order, and each step is durable and on record before the next.

use std::iter::once;
use std::slice::from_ref;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::consuming::{Looked, With, digest, entry, spend, verdict};
use super::gate::Inside;
use super::issuing::{Batch, done, finish};
use super::services::{Given, Service, Turn};
use super::verifying::{count, terms};
use super::{outcome, problems};
use crate::audit::Entry;
use crate::check::{For, Taking, claims_of, is_ticket, judge_unproven};
use crate::clock::Moment;
use crate::issue::{Origin, TicketTerms, prepare_ticket, twin};
use crate::lifecycle::Daemon;
use crate::passport::{Claims, Expect, TICKET_TTL_S};
use crate::policy::{ExchangeWish, Operation};
use crate::state::{Spend, Spending};
use crate::verify::Keyring;
use crate::wire::{Code, Exchanged, Passport, Problem, ServiceOk, Ticket, TicketSpec, Verdict, Want};

/// Exchanges that are under way, of which half are one uid's at most. With everything else that waits for the state there are fewer
/// than its queue holds.
const EXCHANGING: usize = 64;

/// What is to be done, once it is allowed.
struct Exchange {
    parent: Claims,
    taking: Taking,
    /// None, if the passport takes nothing.
    spend: Option<Spend>,
    /// The record of its acceptance.
    record: Entry,
    terms: TicketTerms,
    /// Says all of the request.
    request: [u8; 32],
    origin: Origin,
    max_msg_bytes: usize,
    inside: [(Inside, Inside); 2],
}

/// How the passport was accepted.
struct Accepted {
    left: Option<u64>,
    /// When the request was first answered; none, if it was not before.
    before: Option<i64>,
}

impl Service {
    /// A ticket for a passport.
    pub(super) fn exchange<'b, 'k>(
        &self,
        turn: &Turn,
        keyring: &'k Keyring,
        (passport, spec): (&Passport<'b>, &TicketSpec<'_>),
        with: &With<'_>,
    ) -> Result<Given<'b, 'k>, Problem> {
        self.may_issue()?;
        let config = &turn.live.loaded.config;
        let rate = turn.rights.share().exchange_rpm.unwrap_or(config.limits.exchange_rpm);
        self.client.place.share().take_exchange(rate).map_err(problems::of_rate)?;
        let own = &self.client.place.share();
        let inside = [
            self.enter(turn, &self.gates.exchange, &own.exchange, EXCHANGING)?,
            self.enter(turn, &self.gates.issue, &own.issue, config.limits.issue_concurrency)?,
        ];
        let taken = match self.acceptable(turn, keyring, (passport, spec), with)? {
            Ok(taken) => taken,
            Err(verdict) => {
                let verdicts = [verdict];
                self.count(from_ref(passport).iter(), &verdicts);
                self.refused(turn, keyring, Operation::Exchange, once(passport).zip(&verdicts));
                outcome::verified(&self.client.peer, turn.asked(), self.by(keyring), from_ref(passport), &verdicts);
                let [verdict] = verdicts;
                return Ok(Given::Now(ServiceOk::Exchanged(not_exchanged(verdict)?)));
            }
        };
        let (taking, proof, takes) = taken;
        let parent = claims_of(passport).ok_or_else(|| Problem::new(Code::Internal))?;
        let terms = self.ticket_terms(turn, &parent, spec)?;
        let request = self.request(spec, passport, with, terms.ttl_s);
        let retry = with.retry.map(|key| (key, request));
        let spend = takes.then(|| Spend { proof, retry, ..spend(&taking, self.client.peer.uid, turn.now) });
        let origin = Origin { peer: self.client.on_record(), corr_id: turn.corr_id };
        let record = self.client.accepting(turn.corr_id).action(Operation::Exchange.name());
        let max_msg_bytes = config.limits.max_msg_bytes;
        let size = {
            // What can't be written is found before anything is taken.
            let ready = prepare_ticket(&parent, &terms, &origin, turn.now, max_msg_bytes);
            let ready = ready.map_err(|error| problems::of_issue(&error))?;
            ready.map_or(0, |(prepared, ..)| prepared.size())
        };
        let lease = self.client.place.lease(size).ok_or_else(|| self.busy(turn))?;
        let (daemon, peer) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer));
        let (refusals, verdicts, turn) = (self.client.refusals(), self.client.refusals(), turn.owned());
        let exchange = Exchange { parent, taking, spend, record, terms, request, origin, max_msg_bytes, inside };
        Ok(Given::Later(Box::pin(async move {
            let issuing = |prepared, counter, inside| Batch::of_one(&turn, &peer, prepared, refusals, counter, inside);
            let (taking, record) = (exchange.taking.clone(), exchange.record.clone());
            let result = exchange.run(&daemon, turn.now, issuing).await;
            let refused = match &result {
                Ok(Exchanged::Refused(code)) => Some(Verdict::Refused(*code)),
                Ok(Exchanged::Unproven { why }) => Some(Verdict::Unproven { why: why.clone() }),
                _ => None,
            };
            count(&daemon.metrics, refused.as_slice());
            verdicts.of_taken(&record, once(&taking).zip(&refused));
            done(&daemon, &peer, &turn, result.map(ServiceOk::Exchanged), Some(lease))
        })))
    }

    /// What the passport's acceptance takes, a proof, and whether that is anything; else the verdict on it.
    #[expect(clippy::type_complexity, reason = "three things that are taken apart at once")]
    fn acceptable(
        &self,
        turn: &Turn,
        keyring: &Keyring,
        (passport, spec): (&Passport<'_>, &TicketSpec<'_>),
        with: &With<'_>,
    ) -> Result<Result<(Taking, Option<([u8; 32], i64)>, bool), Verdict>, Problem> {
        let audiences = [spec.aud];
        let wanted = want(spec, self.client.peer.uid);
        let looked = terms(turn, &wanted, &audiences);
        // No skew: a ticket must end with its passport, and an end that has come leaves nothing.
        let looked = crate::check::Terms { expect: Expect { skew_s: 0, ..looked.expect }, ..looked };
        let (judged, revision) = {
            let kept = self.daemon().store.kept();
            (judge_unproven(passport, keyring, &looked, &kept), self.daemon().store.revision())
        };
        if judged.is_ok() && is_ticket(passport) {
            return Ok(Err(Verdict::Refused(Code::ScopeDenied)));
        }
        let taking = || Taking::of(passport).ok_or_else(|| Problem::new(Code::Internal));
        Ok(match self.look(turn, (passport, judged, revision), with, (For::Exchange, &audiences))? {
            Looked::Takes(taking, proof) => Ok((*taking, proof, true)),
            Looked::Says(Verdict::Accepted(_)) => Ok((taking()?, None, false)),
            Looked::Says(verdict) => Err(verdict),
        })
    }

    /// What the ticket says beside its passport, if policy lets this peer have it.
    fn ticket_terms(&self, turn: &Turn, parent: &Claims, spec: &TicketSpec<'_>) -> Result<TicketTerms, Problem> {
        let scopes: Vec<String> = match spec.scopes.as_slice() {
            [] => parent.scopes.clone(),
            some => some.iter().map(ToString::to_string).collect(),
        };
        let (tenant, purpose, template) = (parent.kid.tenant(), parent.kid.purpose(), parent.cap.template.as_str());
        let wish = ExchangeWish { template, tenant, purpose, aud: spec.aud, scopes: &scopes, form: spec.form };
        let longest = turn.rights.decide_exchange(&wish).into_result().map_err(|denial| {
            self.client.denied(turn.corr_id, Operation::Exchange, &denial, |entry| {
                entry.subject(&parent.sub).jti(&parent.jti).template(template)
            });
            problems::of_denial(&denial)
        })?;
        if spec.ttl_s == Some(0) {
            return Err(Problem::saying(Code::Malformed, "the lifetime must be at least 1 s"));
        }
        let daemon = self.daemon();
        let longest = u32::try_from(longest.min(turn.live.loaded.config.passport.max_ttl_s)).unwrap_or(TICKET_TTL_S);
        let most = daemon.ticket_ttl_s().min(longest);
        let ttl_s = spec.ttl_s.unwrap_or(most).min(most);
        let kid = daemon.active(tenant, purpose).ok_or_else(|| Problem::new(Code::NotReady))?;
        let (aud, at) = (spec.aud.to_owned(), turn.now.unix());
        Ok(TicketTerms { kid, aud, scopes, form: spec.form, ttl_s, id: None, at })
    }

    /// SHA-256 of all that is asked for, and of how it is answered: a repetition gets what was given, or nothing.
    fn request(&self, spec: &TicketSpec<'_>, passport: &Passport<'_>, with: &With<'_>, ttl_s: u32) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"passportd/exchange/v1");
        hash.update(digest(&want(spec, self.client.peer.uid), passport, with.proof.as_ref()));
        hash.update(ttl_s.to_be_bytes());
        hash.update(spec.form.name());
        hash.finalize().into()
    }
}

/// As if the peer verified for the ticket's audience, and whoever presents the passport is whom it names, or itself.
fn want<'a>(spec: &TicketSpec<'a>, own: u32) -> Want<'a> {
    Want { aud: Some(spec.aud), scopes: spec.scopes.clone(), peer_uid: Some(spec.peer_uid.unwrap_or(own)) }
}

impl Exchange {
    /// Takes what the passport takes, has the ticket signed and recorded, and looks at revocation once more.
    async fn run(
        self,
        daemon: &Daemon,
        now: Moment,
        issuing: impl FnOnce(crate::issue::Prepared, crate::metrics::Counter, [(Inside, Inside); 2]) -> Batch,
    ) -> Result<Exchanged, Problem> {
        let Self { parent, taking, spend, record, mut terms, request, origin, max_msg_bytes, inside } = self;
        let repeatable = spend.as_ref().and_then(|spend| spend.retry).map(|(key, _)| key);
        let accepted = match spend {
            Some(spend) => accept(daemon, &taking, spend, &record).await?,
            None => Ok(Accepted { left: None, before: None }),
        };
        let Accepted { left, before } = match accepted {
            Ok(accepted) => accepted,
            Err(verdict) => return not_exchanged(verdict),
        };
        terms.at = before.unwrap_or(terms.at);
        terms.id = repeatable.map(|key| twin(&named(&key, origin.peer.uid, &request), terms.at));
        let ready = prepare_ticket(&parent, &terms, &origin, now, max_msg_bytes);
        let Some((prepared, exp, jti)) = ready.map_err(|error| problems::of_issue(&error))? else {
            // The ticket that this request was answered with has expired.
            return Ok(Exchanged::Refused(Code::Expired));
        };
        count(&daemon.metrics, &[Verdict::Accepted(crate::wire::Accepted { exp: parent.exp })]);
        let counter = daemon.metrics.ekey_issues.at(&parent.cap.template);
        let revoked = || taking.is_revoked(&daemon.store.kept());
        let (mut issued, _) = finish(daemon, issuing(prepared, counter, inside), revoked).await;
        match issued.pop() {
            Some(Ok(ticket)) => {
                daemon.ticket_issued(&jti, exp);
                Ok(Exchanged::Ticket(Ticket { ticket, exp, left, repeated: before.is_some() }))
            }
            Some(Err(problem)) if problem.code == Code::Revoked => Ok(Exchanged::Refused(Code::Revoked)),
            Some(Err(problem)) => Err(problem),
            None => Err(Problem::new(Code::Internal)),
        }
    }
}

/// Takes what the passport takes, and puts that on record.
async fn accept(
    daemon: &Daemon,
    taking: &Taking,
    spend: Spend,
    record: &Entry,
) -> Result<Result<Accepted, Verdict>, Problem> {
    let spending = daemon.store.spend(spend).await.map_err(|error| problems::of_state(&error))?;
    let before = if let Spending::Repeated { at, .. } = spending { Some(at) } else { None };
    match verdict(taking.exp, spending)? {
        Verdict::Consumed(consumed) => {
            let entry = entry(record, taking, &consumed);
            daemon.audit.record(entry).await.map_err(|_| problems::audit_unavailable())?;
            Ok(Ok(Accepted { left: consumed.left, before }))
        }
        refused => Ok(Err(refused)),
    }
}

/// All that names a request which may be repeated: its key, who asks, and what for.
fn named(key: &[u8; 16], uid: u32, request: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"passportd/ticket/v1");
    hash.update(key);
    hash.update(uid.to_be_bytes());
    hash.update(request);
    hash.finalize().into()
}

/// A refusal, as the answer to an exchange.
fn not_exchanged(verdict: Verdict) -> Result<Exchanged, Problem> {
    match verdict {
        Verdict::Refused(code) => Ok(Exchanged::Refused(code)),
        Verdict::Unproven { why } => Ok(Exchanged::Unproven { why }),
        Verdict::Accepted(_) | Verdict::Consumed(_) => Err(Problem::new(Code::Internal)),
    }
}
