//! Issue and IssueBatch. What policy decides is decided in place; the signature and the record are awaited elsewhere.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::refusals::Refusals;
use super::services::{Service, Turn, reply};
use super::shares::Lease;
use super::tally::Kind;
use super::{Done, Later};
use super::{outcome, problems};
use crate::audit::{Entry, Event, Outcome};
use crate::clock::Moment;
use crate::issue::{Ground, IssueError, Noticed, Origin, Prepared, Withheld, prepare, record, sign};
use crate::lifecycle::Daemon;
use crate::metrics::{self, Act, Alg, Blocked, Counter, Endpoint};
use crate::policy::{Bounds, Operation, Peer};
use crate::service::gate::Inside;
use crate::signer::SignerError;
use crate::wire::link::LinkRefusal;
use crate::wire::{Code, ISSUED_OVERHEAD, IssueSpec, Issued, MAX_FRAME, Problem, ServiceOk};

/// What one request may take, in timeouts of the HSM: a batch waits for its places one after the other, and clients do not
/// wait for ever.
const REQUEST_TIMEOUTS: u32 = 2;

/// The longest that issuing for a subject waits for the end of the second in which its passports were revoked.
const REVOKED_WAIT: Duration = Duration::from_secs(2);

/// What is awaited: the payloads, a slot among those being issued, and memory for the reply.
pub(super) struct Batch {
    /// The peer's uid.
    who: u32,
    prepared: Vec<Result<Prepared, IssueError>>,
    refusals: Refusals,
    /// Where each passport is counted if it is issued.
    counters: Vec<Counter>,
    started: Instant,
    _inside: Vec<(Inside, Inside)>,
    /// Before they are signed.
    wait: Duration,
    until: Instant,
    lease: Option<Lease>,
}

impl Service {
    pub(super) fn issue(&self, turn: &Turn, spec: IssueSpec<'_>) -> Result<Later, Problem> {
        let batch = self.begin(turn, &[spec])?;
        let (daemon, peer, turn) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer), turn.owned());
        Ok(Box::pin(async move {
            let (mut results, lease) = finish(&daemon, batch, || false).await;
            outcome::issued(&peer, turn.asked(), &results);
            let result = results.pop().unwrap_or_else(|| Err(Problem::new(Code::Internal)));
            done(&daemon, &peer, &turn, result.map(ServiceOk::Issued), lease)
        }))
    }

    pub(super) fn issue_batch(&self, turn: &Turn, specs: &[IssueSpec<'_>]) -> Result<Later, Problem> {
        let batch = self.begin(turn, specs)?;
        let (daemon, peer, turn) = (Arc::clone(self.daemon()), Arc::clone(&self.client.peer), turn.owned());
        Ok(Box::pin(async move {
            let (results, lease) = finish(&daemon, batch, || false).await;
            outcome::issued(&peer, turn.asked(), &results);
            done(&daemon, &peer, &turn, Ok(ServiceOk::IssuedBatch(results)), lease)
        }))
    }

    /// Everything that needs no signature: may anything be issued now, may this peer have these, is there room?
    fn begin(&self, turn: &Turn, specs: &[IssueSpec<'_>]) -> Result<Batch, Problem> {
        self.may_issue()?;
        let config = &turn.live.loaded.config;
        let inside =
            self.enter(turn, &self.gates.issue, &self.client.place.share().issue, config.limits.issue_concurrency)?;
        let (now, wait) = self.past_revocations(turn, specs)?;
        let snapshot = self.daemon().store.snapshot();
        if config.passport.max_ttl_s > snapshot.longest_s {
            // A revocation of what lives so long would be forgotten too soon; the state is being told.
            return Err(Problem::new(Code::StoreUnavailable));
        }
        let origin = Origin { peer: self.client.on_record(), corr_id: turn.corr_id };
        let ground = Ground {
            rights: &turn.rights,
            bounds: Bounds {
                issuer: &config.passport.issuer,
                default_ttl_s: config.passport.default_ttl_s,
                max_ttl_s: config.passport.max_ttl_s,
                require_aud: config.security.require_aud,
            },
            now,
            max_msg_bytes: config.limits.max_msg_bytes,
            epochs: &snapshot.epochs,
        };
        let active = |tenant: &str, purpose: &str| self.daemon().active(tenant, purpose);
        let prepared: Vec<_> = specs.iter().map(|spec| prepare(spec, &origin, &ground, active)).collect();
        for (spec, one) in specs.iter().zip(&prepared) {
            if let Err(IssueError::Denied(denial)) = one {
                let asked = |entry: Entry| entry.subject(spec.sub).template(spec.template);
                self.client.denied(turn.corr_id, Operation::Issue, denial, asked);
            }
        }
        let size: usize = prepared.iter().map(|one| one.as_ref().map_or(ISSUED_OVERHEAD, Prepared::size)).sum();
        if size > MAX_FRAME {
            return Err(Problem::too_large("max_frame", MAX_FRAME));
        }
        let lease = self.client.place.lease(size).ok_or_else(|| self.busy(turn))?;
        let patience = Duration::from_millis(config.hsm.op_timeout_ms) * REQUEST_TIMEOUTS;
        // Only what policy let through is issued, so these are names of its templates.
        let counters = specs.iter().map(|spec| self.daemon().metrics.ekey_issues.at(spec.template)).collect();
        let (started, until) = (turn.started, turn.started + wait + patience);
        let refusals = self.client.refusals();
        Ok(Batch {
            who: self.client.peer.uid,
            prepared,
            refusals,
            counters,
            started,
            _inside: vec![inside],
            wait,
            until,
            lease: Some(lease),
        })
    }

    /// When these are issued, and how long that takes to come: past every second of which passports of their subjects are
    /// revoked, since what is issued in that very second would be refused everywhere.
    fn past_revocations(&self, turn: &Turn, specs: &[IssueSpec<'_>]) -> Result<(Moment, Duration), Problem> {
        let newest = {
            let kept = self.daemon().store.kept();
            if kept.revoked_subjects() == 0 {
                return Ok((turn.now, Duration::ZERO));
            }
            let revoked = |spec: &IssueSpec<'_>| kept.subject_revoked(turn.rights.tenant_of(spec.template)?, spec.sub);
            specs.iter().filter_map(revoked).max()
        };
        let Some(newest) = newest.filter(|newest| *newest >= turn.now.unix()) else {
            return Ok((turn.now, Duration::ZERO));
        };
        let past = Moment::from_unix(newest.saturating_add(1));
        let wait = Duration::from_micros(u64::try_from(past.micros() - turn.now.micros()).unwrap_or(0));
        if wait > REVOKED_WAIT {
            // The clock went back since.
            return Err(Problem::new(Code::ClockSuspect));
        }
        Ok((past, wait))
    }

    pub(super) fn may_issue(&self) -> Result<(), Problem> {
        let blocked = |why, code| {
            self.daemon().metrics.issuance_blocked.at(why).inc();
            Err(Problem::new(code))
        };
        if self.daemon().draining() {
            return blocked(Blocked::Draining, Code::Draining);
        }
        if self.daemon().paused().is_some() {
            return blocked(Blocked::Paused, Code::Paused);
        }
        if self.daemon().clock_doubt().is_some() {
            return blocked(Blocked::ClockSuspect, Code::ClockSuspect);
        }
        Ok(())
    }
}

impl Batch {
    /// A single one, of which all is decided.
    pub(super) fn of_one(
        turn: &Turn,
        peer: &Peer,
        prepared: Prepared,
        refusals: Refusals,
        counter: Counter,
        inside: [(Inside, Inside); 2],
    ) -> Self {
        let patience = Duration::from_millis(turn.live.loaded.config.hsm.op_timeout_ms) * REQUEST_TIMEOUTS;
        Self {
            who: peer.uid,
            prepared: vec![Ok(prepared)],
            refusals,
            counters: vec![counter],
            started: turn.started,
            _inside: inside.into(),
            wait: Duration::ZERO,
            until: Instant::now() + patience,
            lease: None,
        }
    }
}

/// Sign, record, release: in this order, and nothing is released whose record is not durable. `revoked` says whether what it is made
/// from is revoked.
pub(super) async fn finish(
    daemon: &Daemon,
    batch: Batch,
    revoked: impl Fn() -> bool,
) -> (Vec<Result<Issued, Problem>>, Option<Lease>) {
    if !batch.wait.is_zero() {
        tokio::time::sleep(batch.wait).await;
    }
    let started = Instant::now();
    let keyring = daemon.keyring.load_full();
    let refusals = batch.refusals;
    let lost = |error: &IssueError, entry| not_signed(daemon, &refusals, error, entry);
    let signed = sign(batch.who, batch.prepared, &daemon.signer, (&keyring, &daemon.verifier), batch.until, lost).await;
    if signed.iter().any(Result::is_ok) {
        daemon.metrics.issue_latency.observe(started.elapsed().as_secs_f64());
    }
    // What is paused while this is under way is put on record, since the signer has counted it, and withheld.
    let withhold = || {
        let why = daemon.paused().map(|_| Withheld::Paused).or_else(|| revoked().then_some(Withheld::Revoked));
        why.map(|why| (why, Moment::now()))
    };
    let recorded = record(signed, &daemon.audit, withhold).await;
    if recorded.iter().any(Result::is_ok) {
        daemon.metrics.ekey_issue_latency.observe(batch.started.elapsed().as_secs_f64());
    }
    let results = recorded.into_iter().zip(batch.counters).map(|(one, issued)| {
        count(daemon, &one, &issued);
        one.map_err(|error| {
            let problem = problems::of_issue(&error);
            if let Some(why) = Blocked::of(problem.code) {
                daemon.metrics.issuance_blocked.at(why).inc();
            }
            problem
        })
    });
    (results.collect(), batch.lease)
}

/// What the signer's bounds refuse goes on record, and so does a signature that does not verify.
fn not_signed(daemon: &Daemon, refusals: &Refusals, error: &IssueError, entry: Entry) {
    match error {
        IssueError::BadSignature { noticed, .. } => daemon.signature_rejected(entry, *noticed),
        IssueError::Signer(error) if problems::by_bounds(*error) => refusals.put(Kind::Issue, || {
            let entry = entry.revised(Event::IssueRefused, Outcome::Refused, Moment::now());
            entry.action(&Operation::Issue.to_string()).reason(Code::OpDenied.name()).detail(&error.to_string())
        }),
        _ => {}
    }
}

fn count(daemon: &Daemon, one: &Result<Issued, IssueError>, issued: &Counter) {
    let outcome = match one {
        Ok(_) => {
            issued.inc();
            metrics::Outcome::Ok
        }
        Err(
            IssueError::Denied(_)
            | IssueError::Claims(_)
            | IssueError::Context
            | IssueError::Revoked
            | IssueError::Signer(SignerError::Refused(LinkRefusal::TooLong)),
        ) => metrics::Outcome::Refused,
        Err(error) => {
            if matches!(error, IssueError::Signer(SignerError::Busy | SignerError::Refused(LinkRefusal::RateLimited))) {
                daemon.metrics.busy.at(Endpoint::Signer).inc();
            }
            let doubt = match error {
                // A key that signed is not known to the signer any more.
                IssueError::Signer(SignerError::Refused(LinkRefusal::UnknownKid)) | IssueError::BadSignature { .. } => {
                    true
                }
                IssueError::Signer(error) => problems::is_doubt(*error),
                _ => false,
            };
            if let IssueError::BadSignature { kid, noticed: Noticed::ByFront } = error {
                daemon.signer.distrust(kid);
            }
            if doubt {
                daemon.doubt_signer();
            }
            metrics::Outcome::Error
        }
    };
    daemon.metrics.ops.at((Act::Issue, outcome, Alg::Ed25519)).inc();
}

pub(super) fn done(
    daemon: &Daemon,
    peer: &Peer,
    turn: &Turn,
    result: Result<ServiceOk, Problem>,
    lease: Option<Lease>,
) -> Done {
    let mut frame = Vec::new();
    reply(daemon, peer, turn, result, &mut frame);
    Done { frame, lease, sensitive: false }
}

impl Turn {
    /// For work that outlives the turn.
    pub(super) fn owned(&self) -> Self {
        Self { live: Arc::clone(&self.live), rights: Arc::clone(&self.rights), ..*self }
    }
}
