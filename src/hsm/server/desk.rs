//! Each operation of the link, once it is read.

use super::outbox::Outbox;
use super::refusals::Refusals;
use super::sealing::Sealing;
use super::statements::Memory;
use crate::clock::Moment;
use crate::hsm::device::Device;
use crate::hsm::fleeting::Fleeting;
use crate::hsm::guard::{self, Bounds, Rates};
use crate::hsm::ladder::Rung;
use crate::hsm::pool::Pool;
use crate::hsm::recycle::{Recycle, resident_kib};
use crate::hsm::sealer::Sealer;
use crate::secret::scrubbed;
use crate::wire::WIRE_VERSION;
use crate::wire::link::{
    KeyRole, LinkFront, LinkGreeting, LinkHealth, LinkHello, LinkOp, LinkRefusal, LinkReply, LinkRequest, LinkResult,
    LinkStats, LinkWelcome, PROBE_PREFIX,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The module is started afresh no more often than this: each time costs a login, and a front that asks without end
/// would leave no time to sign. A request that comes earlier waits.
const RESTART_INTERVAL: Duration = Duration::from_millis(250);

/// What the front is told of the HSM.
#[derive(Clone, Debug)]
pub struct Token {
    /// The module's description and version.
    pub module: String,
    /// The token's label and serial number.
    pub token: String,
    /// Sessions that sign.
    pub sessions: u32,
    /// Random at every start.
    pub boot_id: u64,
}

/// Everything that a connection needs.
pub struct Desk<D: Device> {
    pub(super) pool: Pool<D>,
    pub(super) bounds: Bounds,
    pub(super) rates: Rates,
    pub(super) sealing: Arc<Sealing>,
    pub(super) memory: Memory,
    token: Token,
    recycle: Recycle,
    pub(super) refused: Arc<Refusals>,
    restarted: Mutex<Option<Instant>>,
    /// In amnesia mode: whose the keys are.
    fleeting: Option<Fleeting>,
}

impl<D: Device> Desk<D> {
    /// For a pool that runs.
    pub fn new(
        pool: Pool<D>,
        bounds: Bounds,
        memory: Memory,
        sealer: Box<dyn Sealer>,
        token: Token,
        recycle: Recycle,
        fleeting: Option<Fleeting>,
    ) -> Self {
        let refused = Arc::new(Refusals::default());
        let sealing = Arc::new(Sealing::new(sealer, &bounds, Arc::clone(&refused)));
        let restarted = Mutex::new(None);
        Self { pool, bounds, rates: Rates::default(), sealing, memory, token, recycle, refused, restarted, fleeting }
    }

    /// What is to be done from time to time, whether anybody asks for anything or not.
    pub fn tidy(&self, now: Instant) {
        self.sealing.tidy(now);
    }

    /// Counts a frame that could not be read.
    pub(super) fn unreadable(&self) {
        self.refused.unreadable();
    }

    /// Answers a hello.
    pub(super) fn greet(&self, hello: &LinkHello<'_>, front: Option<LinkFront>) -> LinkGreeting {
        if hello.wire != WIRE_VERSION {
            return LinkGreeting::Refused(format!(
                "the signer speaks version {WIRE_VERSION} of the link, the front {}; install the same release for both",
                hello.wire
            ));
        }
        if hello.issuer != self.bounds.issuer {
            return LinkGreeting::Refused(format!(
                "the signer signs for \"{}\", the front serves \"{}\"; set the same issuer for both",
                self.bounds.issuer, hello.issuer
            ));
        }
        if let Err(why) = self.admit(front) {
            return LinkGreeting::Refused(why);
        }
        LinkGreeting::Welcome(LinkWelcome {
            wire: WIRE_VERSION,
            sessions: self.token.sessions,
            module: self.token.module.clone(),
            token: self.token.token.clone(),
            boot_id: self.token.boot_id,
        })
    }

    /// Has the keys be this front's, in amnesia mode; both must be in the same.
    fn admit(&self, front: Option<LinkFront>) -> Result<(), String> {
        let (fleeting, front) = match (&self.fleeting, front) {
            (None, None) => return Ok(()),
            (Some(fleeting), Some(front)) => (fleeting, front),
            (Some(_), None) => return Err(mismatch("the signer", "the front")),
            (None, Some(_)) => return Err(mismatch("the front", "the signer")),
        };
        let anew = || {
            tracing::info!(name: "front_is_another", "another front has come, which gets keys of its own");
            self.reinitialise().map(drop)
        };
        let admitted = fleeting.admit(front, anew);
        admitted.map_err(|refusal| format!("no keys can be made for this front: {}; it is tried again", refusal.name()))
    }

    /// Whether a front that was welcomed is served still.
    pub(super) fn serves(&self, front: Option<LinkFront>) -> bool {
        self.fleeting.as_ref().is_none_or(|fleeting| front.is_some_and(|front| fleeting.serves(front.id)))
    }

    /// Serves one request; its reply goes to the outbox, now or from a worker.
    pub(super) fn serve(&self, request: &LinkRequest<'_>, outbox: &Outbox) {
        match request.op {
            // Keys and secrets are at work: the reply is made and gone before the stack is written over.
            LinkOp::Seal { .. } | LinkOp::Unseal { .. } => scrubbed(|| self.answer(request, outbox)),
            _ => self.answer(request, outbox),
        }
    }

    fn answer(&self, request: &LinkRequest<'_>, outbox: &Outbox) {
        let id = request.id;
        let done = match request.op {
            LinkOp::Sign { payload } => self.sign(id, payload, outbox),
            LinkOp::Probe { kid } => self.probe(id, kid, outbox),
            LinkOp::Keys => Ok(Some(LinkResult::Keys(self.pool.ring().link_keys()))),
            LinkOp::Reinitialise => self.reinitialise().map(Some),
            LinkOp::Stats => Ok(Some(LinkResult::Stats(self.stats()))),
            LinkOp::Health => Ok(Some(LinkResult::Health(self.health()))),
            LinkOp::Seal { namespace, name, plain } => self.seal(id, (namespace, name), plain, outbox),
            LinkOp::Unseal { namespace, name, blob } => self.unseal(id, (namespace, name), blob, outbox),
            LinkOp::Counts => self.counts().map(Some),
            ref checkpoint @ LinkOp::Checkpoint { .. } => self.checkpoint(id, checkpoint, Moment::now(), outbox),
            LinkOp::Attest { kid, document } => self.attest(id, (kid, document), Moment::now(), outbox),
        };
        let result = match done {
            Ok(None) => return,
            Ok(Some(result)) => result,
            Err(refusal) => {
                self.refused.count(refusal);
                LinkResult::Refused(refusal)
            }
        };
        outbox.reply(&LinkReply { id, result });
    }

    fn sign(&self, id: u64, payload: &[u8], outbox: &Outbox) -> Result<Option<LinkResult>, LinkRefusal> {
        let ring = self.pool.ring();
        let position = guard::judge(payload, &ring, &self.bounds, Moment::now())?;
        let kid = ring.get(position).map(|key| key.kid.as_str()).ok_or(LinkRefusal::Internal)?;
        self.rates.spend(kid, &self.bounds)?;
        let (outbox, refused) = (outbox.clone(), Arc::clone(&self.refused));
        let (tally, kid) = (Arc::clone(&self.memory.tally), kid.to_owned());
        let answer = move |outcome: Result<_, LinkRefusal>| {
            // Counted, and then released.
            let outcome = outcome.and_then(|sig| tally.add(&kid).map(|()| sig).map_err(|_| LinkRefusal::Uncounted));
            let outcome = outcome.inspect_err(|refusal| refused.count(*refusal));
            let result = outcome.map_or_else(LinkResult::Refused, |sig| LinkResult::Signed { sig });
            outbox.reply(&LinkReply { id, result });
        };
        self.pool.sign(ring, position, payload.to_vec(), Box::new(answer));
        Ok(None)
    }

    /// Signs a prefix that no payload starts with and 32 bytes that the front did not choose: of no use to anybody but
    /// as proof that the key works.
    fn probe(&self, id: u64, kid: &str, outbox: &Outbox) -> Result<Option<LinkResult>, LinkRefusal> {
        let ring = self.pool.ring();
        let position = ring.position(kid).ok_or(LinkRefusal::UnknownKid)?;
        let key = ring.get(position).filter(|key| key.usable()).ok_or(LinkRefusal::UnknownKid)?;
        if key.role == KeyRole::Seal {
            return Err(LinkRefusal::PurposeDenied);
        }
        let mut challenge = [0; 32];
        getrandom::fill(&mut challenge).map_err(|_| LinkRefusal::Internal)?;
        let message = [PROBE_PREFIX, &challenge].concat();
        let (outbox, refused) = (outbox.clone(), Arc::clone(&self.refused));
        let answer = move |outcome: Result<_, LinkRefusal>| {
            let outcome = outcome.inspect_err(|refusal| refused.count(*refusal));
            let result = outcome.map_or_else(LinkResult::Refused, |sig| LinkResult::Probed { challenge, sig });
            outbox.reply(&LinkReply { id, result });
        };
        self.pool.sign(ring, position, message, Box::new(answer));
        Ok(None)
    }

    /// Blocks the connection's reader, and no other's; what is queued meanwhile waits in the pool.
    fn reinitialise(&self) -> Result<LinkResult, LinkRefusal> {
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = *restarted {
            std::thread::sleep(RESTART_INTERVAL.saturating_sub(last.elapsed()));
        }
        let outcome = self.pool.reinitialise();
        *restarted = Some(Instant::now());
        let ring = outcome?;
        tracing::info!(name: "module_restarted", keys = ring.keys().len(), "the module was started afresh");
        Ok(LinkResult::Reinitialised(ring.link_keys()))
    }

    fn health(&self) -> LinkHealth {
        let health = self.pool.health();
        LinkHealth {
            boot_id: self.token.boot_id,
            sessions: health.sessions,
            limit: health.limit.unwrap_or(0),
            stuck: health.counts.stuck,
            max_stuck: health.max_stuck,
            down: health.down,
            rung: health.rung.map_or("", Rung::name).to_owned(),
            ladder: health.counts.ladder.to_vec(),
            refused: self.refused.by_tag(),
            bad_signatures: health.counts.bad_signatures,
            rss_kib: resident_kib(),
            rss_base_kib: self.recycle.base_kib(),
            recycles_at_kib: self.recycle.at_kib(),
        }
    }

    fn stats(&self) -> LinkStats {
        let counts = self.pool.health().counts;
        let used = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
            usage.user_time().num_microseconds().saturating_add(usage.system_time().num_microseconds())
        });
        LinkStats {
            signatures: counts.signatures,
            refused: self.refused.total(),
            queued: counts.queued,
            stuck: counts.stuck,
            rss_kib: resident_kib(),
            cpu_us: u64::try_from(used).unwrap_or(0),
        }
    }
}

fn mismatch(is: &str, is_not: &str) -> String {
    format!(
        "{is} is in amnesia mode, {is_not} is not; set [security] amnesia, or give --amnesia, for both or for neither"
    )
}
