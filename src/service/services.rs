//! The service socket.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use tracing::error;

use super::challenges::Challenges;
use super::consuming::With;
use super::gate::{Gate, Inside, enter_both};
use super::outcome::{self, Asked};
use super::sealing::Secret;
use super::shares::Place;
use super::together::{Awaiting, Pile, keep_verdicts};
use super::verifying::FIRST_SLICE;
use super::watching::{OwnWatcher, Watcher};
use super::{Client, Later, Refused, SERVER, Speaker, Turned, problems};
use crate::clock::Moment;
use crate::lifecycle::{Daemon, Live};
use crate::metrics::{Answer, Endpoint, Op, Socket};
use crate::policy::{Operation, Peer, Rights};
use crate::verify::Keyring;
use crate::wire::{
    Code, Problem, Reply, Request, ServiceOk, ServiceOp, VersionInfo, WIRE_VERSION, WireError, decode, encode_frame,
    peek_id,
};

/// What is under way on the service sockets, all connections together.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    pub(super) issue: Gate,
    pub(super) verify: Gate,
    pub(super) verify_batch: Gate,
    pub(super) seal: Gate,
    pub(super) revoke: Gate,
    pub(super) consume: Gate,
    pub(super) consume_many: Gate,
    pub(super) watch: Gate,
    pub(super) pages: Gate,
    pub(super) exchange: Gate,
}

/// Speaks with one service.
#[expect(missing_debug_implementations, reason = "as Daemon")]
pub struct Service {
    pub(super) client: Client,
    pub(super) gates: Gates,
    pub(super) challenges: Challenges,
    pub(super) watcher: OwnWatcher,
    /// How many single verifications fit a stint, by the last time that there were so many.
    pub(super) together: AtomicUsize,
}

/// One request's surroundings: configuration and rights of the moment in which it was taken up.
pub(super) struct Turn {
    pub(super) live: Arc<Live>,
    pub(super) rights: Arc<Rights>,
    pub(super) corr_id: [u8; 16],
    pub(super) id: u64,
    pub(super) op: Op,
    pub(super) started: Instant,
    /// One time for the whole request, so that a batch is judged as one.
    pub(super) now: Moment,
}

impl Turn {
    /// Before a request is taken up.
    fn new(rights: Arc<Rights>, live: Arc<Live>, now: Moment) -> Self {
        let started = Instant::now();
        Self { live, rights, corr_id: [0; 16], id: 0, op: Op::Unreadable, started, now }
    }

    fn take_up(&mut self, request: &Request<'_>) {
        (self.id, self.corr_id, self.op) = (request.id, request.corr_id, Op::service(&request.op));
    }

    /// Signatures of one slice, at most.
    pub(super) fn largest_slice(&self) -> usize {
        let config = &self.live.loaded.config.verify;
        config.target_batch.min(config.max_batch)
    }

    pub(super) const fn asked(&self) -> Asked<'_> {
        Asked { op: self.op, corr_id: &self.corr_id }
    }
}

impl Service {
    /// For a peer that has its place.
    pub fn new(daemon: Arc<Daemon>, peer: Peer, place: Arc<Place>, gates: Gates) -> Self {
        daemon.metrics.connections.at(Socket::Service).inc();
        Self {
            client: Client::new(daemon, peer, place),
            gates,
            challenges: Challenges::default(),
            watcher: OwnWatcher::default(),
            together: AtomicUsize::new(FIRST_SLICE),
        }
    }

    pub(super) fn daemon(&self) -> &Arc<Daemon> {
        &self.client.daemon
    }

    /// The whole of the service socket, from request to reply.
    async fn answer<'b, 'k>(
        &self,
        turn: &Turn,
        keyring: &'k Keyring,
        pile: &mut Pile<'_, 'b, 'k>,
        op: ServiceOp<'b>,
    ) -> Result<Given<'b, 'k>, Problem> {
        match op {
            ServiceOp::WhoAmI => {
                self.spend(&turn.live, &turn.rights, 1)?;
                Ok(Given::Now(ServiceOk::WhoAmI(self.client.identity(&turn.rights))))
            }
            ServiceOp::Ping => {
                self.allow(turn, Operation::Ping, 1)?;
                Ok(Given::Now(ServiceOk::Pong))
            }
            ServiceOp::Version => {
                self.allow(turn, Operation::Version, 1)?;
                Ok(Given::Now(ServiceOk::Version(version(&turn.live))))
            }
            ServiceOp::Health => {
                self.allow(turn, Operation::Health, 1)?;
                Ok(Given::Now(ServiceOk::Health(self.daemon().report().to_health(false))))
            }
            ServiceOp::Keys { if_etag } => {
                self.allow(turn, Operation::Keys, 1)?;
                Ok(Given::Now(self.keys(turn, keyring, if_etag)))
            }
            ServiceOp::Verify { want, passport } => {
                self.allow(turn, Operation::Verify, 1)?;
                pile.enter(turn)?;
                self.verify(turn, keyring, &want, passport)
            }
            ServiceOp::VerifyBatch { want, items } => {
                self.fits(turn, items.len())?;
                self.allow(turn, Operation::Verify, items.len())?;
                self.verify_batch(turn, keyring, &want, &items).await
            }
            ServiceOp::VerifyWith { want, passport, retry, proof } => {
                self.allow(turn, Operation::Verify, 1)?;
                self.verify_with(turn, keyring, &want, &passport, &With { retry, proof })
            }
            ServiceOp::Challenge => {
                self.allow(turn, Operation::Verify, 1)?;
                self.challenge().map(Given::Now)
            }
            ServiceOp::Introspect { want, passport } => {
                self.allow(turn, Operation::Introspect, 1)?;
                self.introspect(turn, keyring, &want, &passport).map(Given::Now)
            }
            ServiceOp::Issue(spec) => {
                self.allow(turn, Operation::Issue, 1)?;
                self.issue(turn, spec).map(Given::Later)
            }
            ServiceOp::Seal { namespace, name, plain } => {
                self.seal(turn, Secret { namespace, name }, plain.0).map(Given::Later)
            }
            ServiceOp::Unseal { namespace, name, blob } => {
                self.unseal(turn, Secret { namespace, name }, blob).map(Given::Later)
            }
            ServiceOp::Revoke { passport } => {
                self.allow(turn, Operation::Revoke, 1)?;
                self.revoke(turn, keyring, &passport).map(Given::Later)
            }
            ServiceOp::Exchange { passport, spec, retry, proof } => {
                self.allow(turn, Operation::Exchange, 1)?;
                self.exchange(turn, keyring, (&passport, &spec), &With { retry, proof })
            }
            ServiceOp::Watch { topics, after, wait_ms } => self.watch(turn, &topics, after, wait_ms).map(Given::Later),
            ServiceOp::Revocations { after } => self.revocations(turn, after).map(Given::Later),
            ServiceOp::IssueBatch(specs) => {
                self.fits(turn, specs.len())?;
                self.allow(turn, Operation::Issue, specs.len())?;
                self.issue_batch(turn, &specs).map(Given::Later)
            }
        }
    }

    /// Whether policy and rate let this peer do it. A refusal goes on record, as many a second as its share allows.
    pub(super) fn allow(&self, turn: &Turn, operation: Operation, items: usize) -> Result<(), Problem> {
        // The rate comes first: it bounds refusals too. A batch of nothing is a request like any other.
        let items = items.max(1);
        self.spend(&turn.live, &turn.rights, items)?;
        turn.rights.decide(operation).into_result().map_err(|denial| {
            self.client.denied(turn.corr_id, operation, &denial, |entry| entry);
            problems::of_denial(&denial)
        })?;
        if operation == Operation::Issue
            && let Some(rate) = turn.rights.share().issue_rps
        {
            self.client.place.share().take_issue(rate, items).map_err(problems::of_rate)?;
        }
        Ok(())
    }

    pub(super) fn spend(&self, live: &Live, rights: &Rights, items: usize) -> Result<(), Problem> {
        let rps = rights.share().rps.unwrap_or(live.loaded.config.limits.rps);
        self.client.place.share().take(rps, items).map_err(problems::of_rate)
    }

    /// Enters a gate of all, unless this uid is inside half of it already.
    pub(super) fn enter(&self, turn: &Turn, all: &Gate, own: &Gate, bound: usize) -> Result<(Inside, Inside), Problem> {
        enter_both(all, own, bound).ok_or_else(|| self.busy(turn))
    }

    /// Too much is under way: counted here, where it is known what was full.
    pub(super) fn busy(&self, turn: &Turn) -> Problem {
        self.daemon().metrics.busy.at(endpoint(turn.op)).inc();
        Problem::new(Code::Busy)
    }

    fn fits(&self, turn: &Turn, items: usize) -> Result<(), Problem> {
        let most = turn.live.loaded.config.limits.max_batch;
        self.daemon().metrics.batch_len.observe(f64::from(u32::try_from(items).unwrap_or(u32::MAX)));
        if items <= most {
            return Ok(());
        }
        // It has been decoded, so it takes from the rate what a single request takes.
        self.spend(&turn.live, &turn.rights, 1)?;
        Err(Problem::too_large("limits.max_batch", most))
    }

    fn read<'b>(&self, body: &'b [u8]) -> Result<Request<'b>, WireError> {
        self.daemon().metrics.body_size.observe(f64::from(u32::try_from(body.len()).unwrap_or(u32::MAX)));
        decode(body)
    }

    /// What can't be read takes from the rate like any request.
    fn unreadable(&self, turn: &Turn, body: &[u8], error: WireError, out: &mut Vec<u8>) -> Turned {
        let spent = self.spend(&turn.live, &turn.rights, 1);
        let problem = spent.err().unwrap_or_else(|| problems::of_wire(error));
        let turned = after(&problem);
        self.refuse(peek_id(body), problem, out);
        turned
    }
}

/// An answer now, work that will give one, or one that lacks a signature's verdict.
pub(super) enum Given<'b, 'k> {
    Now(ServiceOk),
    Later(Later),
    Awaiting(Awaiting<'b, 'k>),
}

fn version(live: &Live) -> VersionInfo {
    VersionInfo { server: SERVER.to_owned(), wire: WIRE_VERSION, issuer: live.loaded.config.passport.issuer.clone() }
}

/// Encodes a reply and counts it. A reply that does not fit a frame becomes the problem that says so.
pub(super) fn reply(daemon: &Daemon, peer: &Peer, turn: &Turn, result: Result<ServiceOk, Problem>, out: &mut Vec<u8>) {
    let mut reply = Reply { id: turn.id, result };
    if let Err(error) = encode_frame(&reply, out) {
        reply.result = Err(problems::of_wire(error));
        if let Err(error) = encode_frame(&reply, out) {
            error!(name: "reply_not_encoded", %error, "a problem does not fit a frame");
        }
    }
    let answer = match &reply.result {
        Ok(_) => Answer::OK,
        Err(problem) => {
            outcome::problem(peer, turn.op, Some(&turn.corr_id), problem);
            daemon.metrics.failures.at(problem.code).inc();
            Answer::problem(problem.code)
        }
    };
    daemon.metrics.answered(turn.op, answer, turn.started.elapsed());
    if let Ok(ServiceOk::Verdicts(verdicts)) = reply.result {
        keep_verdicts(verdicts);
    }
}

/// The shortest pause of a peer that is over its rate. A uid may have hundreds of connections, each of which is refused
/// once in a pause; what comes after the pause is what its rate has gained meanwhile.
const MIN_PAUSE: Duration = Duration::from_millis(50);

/// The longest. A rate of a minute makes wait for longer; but what else the peer wants of the connection has rates of its own.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// What follows from a problem for the connection.
fn after(problem: &Problem) -> Turned {
    match (problem.code, problem.retry_after_ms) {
        (Code::RateLimited, Some(millis)) => {
            Turned::Pause(Duration::from_millis(millis.into()).clamp(MIN_PAUSE, MAX_PAUSE))
        }
        _ => Turned::Done,
    }
}

fn endpoint(op: Op) -> Endpoint {
    match op {
        Op::Issue | Op::IssueBatch | Op::Exchange => Endpoint::Issue,
        Op::Seal | Op::Unseal => Endpoint::Seal,
        Op::VerifyBatch => Endpoint::VerifyBatch,
        Op::Verify | Op::VerifyWith | Op::Challenge | Op::Introspect => Endpoint::Verify,
        Op::Watch | Op::Revocations => Endpoint::Watch,
        _ => Endpoint::Admin,
    }
}

impl Speaker for Service {
    fn greet(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
        self.client.greet(body, self.daemon().draining(), out)
    }

    async fn turn<'b>(&self, bodies: &mut (impl Iterator<Item = &'b [u8]> + Send), out: &mut Vec<u8>) -> Turned {
        let daemon = self.daemon();
        // One configuration, one set of keys and one time for all that is answered together.
        let (live, keyring) = (daemon.live.load_full(), daemon.keyring.load_full());
        let mut turn = Turn::new(self.client.rights(&live), live, daemon.now());
        let mut pile = Pile::new(self, &keyring, &turn);
        for body in bodies.by_ref() {
            let request: Request<'_> = match self.read(body) {
                Ok(request) => request,
                Err(error) => {
                    pile.settle(&mut turn, out);
                    return self.unreadable(&turn, body, error, out);
                }
            };
            if !matches!(request.op, ServiceOp::Verify { .. }) {
                // Whatever it is may take longer.
                pile.settle(&mut turn, out);
            }
            turn.take_up(&request);
            match self.answer(&turn, &keyring, &mut pile, request.op).await {
                Ok(Given::Awaiting(one)) => pile.push(&turn, one),
                Ok(Given::Later(later)) => {
                    // A Verify that takes something comes later; those before it wait for nothing.
                    pile.settle(&mut turn, out);
                    return Turned::Later(later);
                }
                Ok(Given::Now(ok)) => {
                    reply(daemon, &self.client.peer, &turn, Ok(ok), out);
                    pile.settle(&mut turn, out);
                    return Turned::Done;
                }
                Err(problem) => {
                    let turned = after(&problem);
                    reply(daemon, &self.client.peer, &turn, Err(problem), out);
                    pile.settle(&mut turn, out);
                    return turned;
                }
            }
            if pile.is_full() {
                break;
            }
        }
        pile.settle(&mut turn, out);
        Turned::Done
    }

    fn ended(&self) {
        self.watcher.get().into_iter().for_each(Watcher::end);
    }

    fn refuse_greeting(&self, out: &mut Vec<u8>) {
        self.client.refuse_greeting(Endpoint::Connect, out);
    }

    fn refuse(&self, id: u64, problem: Problem, out: &mut Vec<u8>) {
        outcome::problem(&self.client.peer, Op::Unreadable, None, &problem);
        let metrics = &self.daemon().metrics;
        metrics.failures.at(problem.code).inc();
        metrics.answered(Op::Unreadable, Answer::problem(problem.code), Duration::ZERO);
        if let Err(error) = encode_frame(&Reply { id, result: Err(problem) }, out) {
            error!(name: "reply_not_encoded", %error, "a problem does not fit a frame");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.daemon().metrics.connections.at(Socket::Service).dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_over_its_rate_is_left_unread_for_50_ms_at_least_and_a_second_at_most() {
        let pause = |millis| match after(&Problem::new(Code::RateLimited).after_ms(millis)) {
            Turned::Pause(pause) => pause,
            Turned::Done | Turned::Later { .. } => panic!("{millis} ms are no pause"),
        };
        for (millis, paused) in [(0, 50), (1, 50), (49, 50), (50, 50), (51, 51), (1000, 1000), (12_000, 1000)] {
            assert_eq!(pause(millis), Duration::from_millis(paused), "{millis}");
        }
        assert!(matches!(after(&Problem::new(Code::Busy).after_ms(100)), Turned::Done), "others are no flood");
    }
}
