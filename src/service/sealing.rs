//! Seal and Unseal. What policy decides is decided in place; the signer and the record are awaited elsewhere.
//!
//! Decide, take from the rate, take memory, seal or open, put on record, release: in this order, and nothing is released
//! whose record is not durable. Neither a secret nor its length is in any record or event.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::refusals::Refusals;
use super::services::{Service, Turn, reply};
use super::shares::Lease;
use super::tally::Kind;
use super::{Done, Later, outcome, problems};
use crate::audit::{Entry, Event, Outcome as Recorded};
use crate::clock::Moment;
use crate::lifecycle::Daemon;
use crate::metrics::{Act, Alg, Endpoint, Outcome};
use crate::policy::{Operation, Peer};
use crate::service::gate::Inside;
use crate::signer::{SealAnswer, SealAsk, SealGiven, SealWhat, SignerError};
use crate::wire::link::LinkRefusal;
use crate::wire::sealed::{MAX_PLAIN, MAX_SEALED, Namespace, SEALED_OVERHEAD, is_name};
use crate::wire::{Code, Problem, ServiceOk};

/// Bytes of a reply beside what was sealed or opened.
const REPLY_OVERHEAD: usize = 32;
/// What is wrong with a namespace or a name.
const NO_PLACE: &str = "a namespace reads <tenant>/<part> or <tenant>/<part>/<part>; a name is 1 to 128 bytes without \
                        control characters";

/// Which secret is meant.
#[derive(Clone, Copy)]
pub(super) struct Secret<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

/// What is awaited: the signer's answer, with a slot among such requests and memory for both copies.
struct Job {
    ask: SealAsk,
    act: Act,
    /// For the record: who, which secret.
    entry: Entry,
    _inside: (Inside, Inside),
    lease: Option<Lease>,
}

/// Why nothing was given.
enum SealError {
    Signer(SignerError),
    /// The record is not durable.
    Audit,
}

/// The events of what was done, and of what was refused.
const fn events(act: Act) -> (Event, Event, Kind) {
    match act {
        Act::Seal => (Event::Sealed, Event::SealRefused, Kind::Seal),
        _ => (Event::Unsealed, Event::UnsealRefused, Kind::Unseal),
    }
}

impl Service {
    pub(super) fn seal(&self, turn: &Turn, secret: Secret<'_>, plain: &[u8]) -> Result<Later, Problem> {
        self.may_seal(turn, Act::Seal, secret)?;
        if plain.len() > MAX_PLAIN {
            return Err(Problem::too_large("the largest secret, in bytes,", MAX_PLAIN));
        }
        let what = SealWhat::Seal(Zeroizing::new(plain.to_vec()));
        self.begin_sealing(turn, Act::Seal, secret, (what, plain.len() + SEALED_OVERHEAD))
    }

    pub(super) fn unseal(&self, turn: &Turn, secret: Secret<'_>, blob: &[u8]) -> Result<Later, Problem> {
        self.may_seal(turn, Act::Unseal, secret)?;
        if blob.len() > MAX_SEALED {
            return Err(Problem::too_large("the largest sealed secret, in bytes,", MAX_SEALED));
        }
        self.begin_sealing(turn, Act::Unseal, secret, (SealWhat::Unseal(blob.to_vec()), blob.len()))
    }

    /// Whether rate and policy let the peer use this namespace. The rate comes first: it bounds refusals too. The spelling is
    /// judged before the rules, so that what goes on record is fit for it.
    fn may_seal(&self, turn: &Turn, act: Act, secret: Secret<'_>) -> Result<(), Problem> {
        self.spend(&turn.live, &turn.rights, 1)?;
        let operation = if act == Act::Seal { Operation::Seal } else { Operation::Unseal };
        let namespace = Namespace::parse(secret.namespace).filter(|_| is_name(secret.name));
        let namespace = namespace.ok_or_else(|| Problem::saying(Code::Malformed, NO_PLACE))?;
        turn.rights.decide_seal(operation, namespace).into_result().map(drop).map_err(|denial| {
            let (_, event, kind) = events(act);
            self.client.refusals().put(kind, || {
                let entry = self.sealing_entry(turn, event, Recorded::Refused, secret);
                entry.reason(denial.code.code()).detail(&denial.rule)
            });
            problems::of_denial(&denial)
        })
    }

    fn sealing_entry(&self, turn: &Turn, event: Event, outcome: Recorded, secret: Secret<'_>) -> Entry {
        Entry::new(event, outcome, Moment::now())
            .corr_id(turn.corr_id)
            .peer(self.client.on_record())
            .subject(&format!("{}/{}", secret.namespace, secret.name))
    }

    /// Takes a slot and memory; the rest is awaited elsewhere.
    fn begin_sealing(
        &self,
        turn: &Turn,
        act: Act,
        secret: Secret<'_>,
        (what, size): (SealWhat, usize),
    ) -> Result<Later, Problem> {
        let bound = turn.live.loaded.config.limits.issue_concurrency;
        let inside = self.enter(turn, &self.gates.seal, &self.client.place.share().seal, bound)?;
        let lease = self.client.place.lease(2 * size + REPLY_OVERHEAD).ok_or_else(|| self.busy(turn))?;
        let entry = self.sealing_entry(turn, events(act).0, Recorded::Ok, secret);
        let ask = SealAsk { namespace: secret.namespace.to_owned(), name: secret.name.to_owned(), what };
        let job = Job { ask, act, entry, _inside: inside, lease: Some(lease) };
        let (daemon, peer, turn) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer), turn.owned());
        let refusals = self.client.refusals();
        Ok(Box::pin(async move { finish(&daemon, &peer, &refusals, &turn, job).await }))
    }
}

/// Seal or open, record, release: in this order.
async fn finish(daemon: &Daemon, peer: &Peer, refusals: &Refusals, turn: &Turn, job: Job) -> Done {
    let Job { ask, act, entry, _inside, lease } = job;
    let given = match daemon.signer.seal(peer.uid, ask).await {
        Ok(SealAnswer { kid, given }) => {
            daemon.audit.record(entry.kid(&kid)).await.map(|_| (kid, given)).map_err(|_| SealError::Audit)
        }
        Err(error) => {
            if let SignerError::Refused(refusal) = error {
                let (_, event, kind) = events(act);
                refusals.put(kind, || entry.revised(event, Recorded::Refused, Moment::now()).reason(refusal.name()));
            }
            Err(SealError::Signer(error))
        }
    };
    count(daemon, act, given.as_ref().map(drop));
    let result = match given {
        Ok((kid, given)) => {
            outcome::sealed(peer, turn.asked(), &kid);
            Ok(match given {
                SealGiven::Sealed(blob) => ServiceOk::Sealed { blob },
                SealGiven::Unsealed(plain) => ServiceOk::Unsealed { plain },
            })
        }
        Err(error) => Err(problem(&error)),
    };
    let size = match &result {
        Ok(ServiceOk::Unsealed { plain }) => plain.0.len(),
        Ok(ServiceOk::Sealed { blob }) => blob.len(),
        _ => 0,
    };
    // In one piece: a buffer that grows would leave parts of a secret behind.
    let mut done = Done { frame: Vec::with_capacity(size + REPLY_OVERHEAD), lease, sensitive: act == Act::Unseal };
    reply(daemon, peer, turn, result, &mut done.frame);
    done
}

fn problem(error: &SealError) -> Problem {
    match error {
        SealError::Signer(error) => problems::of_sealing(*error),
        SealError::Audit => problems::audit_unavailable(),
    }
}

fn count(daemon: &Daemon, act: Act, given: Result<(), &SealError>) {
    let outcome = match given {
        Ok(()) => Outcome::Ok,
        Err(SealError::Signer(SignerError::Refused(LinkRefusal::Unopenable))) => Outcome::Refused,
        Err(error) => {
            if let SealError::Signer(error) = error {
                if matches!(error, SignerError::Busy | SignerError::Refused(LinkRefusal::RateLimited)) {
                    daemon.metrics.busy.at(Endpoint::Signer).inc();
                }
                if problems::is_doubt(*error) {
                    daemon.doubt_signer();
                }
            }
            Outcome::Error
        }
    };
    daemon.metrics.ops.at((act, outcome, Alg::XChaCha20Poly1305)).inc();
}
