//! The front's handle on the signer process: breakers, admission, and a link that reconnects by itself.
//!
//! A key that fails again and again is not asked for at all ([`breaker`]). Callers wait for a place in front of the HSM,
//! uids in turn and item by item, so that neither many requests nor a batch of one peer stand before a single request of
//! another ([`admission`]). A call is answered exactly once: by the signer, by its deadline, or by the loss of the link.

pub mod admission;
pub mod breaker;
mod link;
mod sealing;
mod statements;
mod text;

pub use sealing::{SealAnswer, SealAsk, SealGiven, SealWhat};
pub use statements::{Counts, LedgerAt};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Counter;
use crate::wire::link::{LinkHealth, LinkKey, LinkRefusal, LinkResult, LinkStats, LinkWelcome};
use admission::{Admission, OWN, Place};
use breaker::{Breakers, Failure};

/// Where the signer is and how long it may take.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its private socket.
    pub socket: PathBuf,
    /// Our issuer; the signer must have the same.
    pub issuer: String,
    /// In amnesia mode: this front, by a random number; the signer must be in the same mode.
    pub amnesia: Option<u64>,
    /// The signer's uid. What the kernel shows is who called `listen`: that, or root, who hands a bound socket down.
    pub signer_uid: u32,
    /// The longest that one call may take in the signer. Waiting for a place may take as long before that.
    pub op_timeout: Duration,
    /// The most calls under way in the signer at once, and the most that wait for a place.
    pub max_in_flight: usize,
    /// `passport_signer_recycled_total`
    pub recycled: Counter,
    /// `passport_breaker_opened_total`
    pub opened: Counter,
}

/// Whether there is a signer.
#[derive(Clone, Debug)]
pub enum LinkStatus {
    /// No: why, for the operator.
    Down(String),
    /// It left to be started afresh, and the next one is about to come. Calls wait for it.
    Away(LinkWelcome),
    /// Yes, and what it says of itself.
    Up(LinkWelcome),
}

/// Why the signer gave no answer that can be used.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignerError {
    /// No link, or it broke while the call was under way (the HSM's or our fault; retry).
    #[error("the signer is not reachable, or its HSM does not sign")]
    Unavailable,
    /// It was not asked, since it fails (the HSM's fault; retry, but not sooner than said).
    #[error("the HSM does not sign by this key at present")]
    Open {
        /// When to come back, in milliseconds.
        retry_after_ms: u32,
    },
    /// No answer in time (the HSM's fault; retry).
    #[error("the signer did not answer in time")]
    Timeout,
    /// No place in front of the HSM in time (load; retry).
    #[error("too many calls wait for the signer")]
    Busy,
    /// The signer's guard refused (ours or the operator's fault).
    #[error("the signer refused: {0:?}")]
    Refused(LinkRefusal),
    /// An answer that does not fit the question (a defect).
    #[error("the signer gave an answer of the wrong kind")]
    WrongAnswer,
}

/// What is asked, owned while it waits.
#[derive(Debug)]
enum Ask {
    Sign(Vec<u8>),
    Probe(String),
    Keys,
    Reinitialise,
    Stats,
    Health,
    Seal(SealAsk),
    Counts,
    Checkpoint(statements::CheckpointAsk),
    Attest { kid: String, document: Vec<u8> },
}

#[derive(Debug)]
struct Call {
    ask: Ask,
    answer: oneshot::Sender<Result<LinkResult, SignerError>>,
    /// Given back when the call is answered, whoever still waits for it.
    _place: Place,
}

/// A signature over a probe, with what was signed.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// What the signer chose.
    pub challenge: [u8; 32],
    /// Its signature over the probe's prefix and the challenge.
    pub sig: [u8; 64],
}

/// The handle. Clones share one link.
#[derive(Clone, Debug)]
pub struct Signer {
    calls: mpsc::Sender<Call>,
    admission: Arc<Admission>,
    breakers: Arc<Breakers>,
    status: watch::Receiver<LinkStatus>,
    timeout: Duration,
    /// See [`Signer::knows`].
    newest: Arc<AtomicU64>,
}

/// Beyond the link's own deadline: then the link's task itself does not get on.
const MARGIN: Duration = Duration::from_secs(1);

/// An answer that is under way, and when it is no longer waited for.
#[derive(Debug)]
struct Awaited {
    answer: oneshot::Receiver<Result<LinkResult, SignerError>>,
    until: Instant,
}

/// A signature under way, or that of a probe.
#[derive(Debug)]
pub struct Signing {
    awaited: Awaited,
    breakers: Arc<Breakers>,
    kid: String,
}

impl Signer {
    /// Starts the link's task on the current runtime. The handle is usable at once; until the link stands, calls fail
    /// with [`SignerError::Unavailable`].
    pub fn start(config: LinkConfig) -> Self {
        let (calls, inbox) = mpsc::channel(config.max_in_flight.max(1));
        let (report, status) = watch::channel(LinkStatus::Down("the signer has not been reached yet".to_owned()));
        let admission = Admission::new(config.max_in_flight);
        let timeout = config.op_timeout;
        let breakers = Arc::new(Breakers::new(config.opened.clone()));
        let newest = Arc::new(AtomicU64::new(0));
        tokio::spawn(link::run(config, inbox, report, Arc::clone(&admission), Arc::clone(&newest)));
        Self { calls, admission, breakers, status, timeout, newest }
    }

    /// In amnesia mode: the newest version of any key that the front knows. A signer makes newer ones.
    pub fn knows(&self, version: u64) {
        self.newest.fetch_max(version, Ordering::AcqRel);
    }

    /// The state of the link, and its changes.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// The breakers of all keys.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// Whether a signature by this key can be asked for now.
    ///
    /// # Errors
    /// [`SignerError::Open`].
    pub fn admits(&self, kid: &str) -> Result<(), SignerError> {
        let open = |after: Duration| SignerError::Open {
            retry_after_ms: u32::try_from(after.as_millis()).unwrap_or(u32::MAX),
        };
        if matches!(*self.status.borrow(), LinkStatus::Down(_)) {
            return Err(open(breaker::RETRY_MAX));
        }
        self.breakers.admit(kid, Instant::now()).map_err(open)
    }

    /// Hands a canonical payload to the signer, for the peer `who`; the signature is awaited with [`Signing::signature`].
    /// `kid` is the key that the payload names. Waits for a place, but not beyond `until` or one timeout.
    ///
    /// # Errors
    /// [`SignerError::Open`] without a link or while the key fails, [`SignerError::Busy`] when no place came free in time.
    pub async fn sign(&self, who: u32, kid: &str, payload: Vec<u8>, until: Instant) -> Result<Signing, SignerError> {
        self.admits(kid)?;
        let place = self.place(who, until).await?;
        // It may have opened while this waited, and whoever waited has waited enough.
        self.admits(kid)?;
        let awaited = self.hand_over(Ask::Sign(payload), place)?;
        Ok(Signing { awaited, breakers: Arc::clone(&self.breakers), kid: kid.to_owned() })
    }

    /// Asks for a real signature over bytes that the signer chooses; it is awaited with [`Probing::probe`]. The caller
    /// verifies it, and says what came of it with [`Signer::probed`], without which an open breaker stays half open.
    ///
    /// # Errors
    /// Any [`SignerError`] but `Open`.
    pub async fn start_probe(&self, kid: &str) -> Result<Probing, SignerError> {
        self.breakers.probing(kid);
        self.call(OWN, Ask::Probe(kid.to_owned()), Instant::now() + self.timeout).await.map(Probing)
    }

    /// A signature that the signer released does not verify. Its breaker remembers that, so that the key is looked at.
    pub fn distrust(&self, kid: &str) {
        self.breakers.failed(kid, Failure::Unavailable, Instant::now());
    }

    /// What came of a probe of this key, for its breaker. [`SignerError::Busy`] says nothing of the key.
    pub fn probed(&self, kid: &str, result: Result<(), SignerError>) {
        self.breakers.probed(kid, result.map_err(failure), Instant::now());
    }

    /// Asks for such a signature, and waits for it.
    ///
    /// # Errors
    /// Any [`SignerError`] but `Open`.
    pub async fn probe(&self, kid: &str) -> Result<Probe, SignerError> {
        self.call(OWN, Ask::Probe(kid.to_owned()), Instant::now() + self.timeout).await.map(Probing)?.probe().await
    }

    /// The keys as the signer sees them.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn keys(&self) -> Result<Vec<LinkKey>, SignerError> {
        match self.ask(Ask::Keys).await? {
            LinkResult::Keys(keys) => Ok(text::plain_keys(keys)),
            _ => Err(SignerError::WrongAnswer),
        }
    }

    /// Has the signer look at the HSM afresh; the keys as they are then.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn reinitialise(&self) -> Result<Vec<LinkKey>, SignerError> {
        match self.ask(Ask::Reinitialise).await? {
            LinkResult::Reinitialised(keys) => Ok(text::plain_keys(keys)),
            _ => Err(SignerError::WrongAnswer),
        }
    }

    /// The signer's counts.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn stats(&self) -> Result<LinkStats, SignerError> {
        match self.ask(Ask::Stats).await? {
            LinkResult::Stats(stats) => Ok(stats),
            _ => Err(SignerError::WrongAnswer),
        }
    }

    /// How it stands inside the signer.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn health(&self) -> Result<LinkHealth, SignerError> {
        match self.ask(Ask::Health).await? {
            LinkResult::Health(health) => Ok(text::plain_health(health)),
            _ => Err(SignerError::WrongAnswer),
        }
    }

    async fn ask(&self, ask: Ask) -> Result<LinkResult, SignerError> {
        self.call(OWN, ask, Instant::now() + self.timeout).await?.settle().await
    }

    async fn call(&self, who: u32, ask: Ask, until: Instant) -> Result<Awaited, SignerError> {
        let place = self.place(who, until).await?;
        self.hand_over(ask, place)
    }

    async fn place(&self, who: u32, until: Instant) -> Result<Place, SignerError> {
        if matches!(*self.status.borrow(), LinkStatus::Down(_)) {
            return Err(SignerError::Unavailable);
        }
        self.admission.enter(who, until.min(Instant::now() + self.timeout)).await
    }

    fn hand_over(&self, ask: Ask, place: Place) -> Result<Awaited, SignerError> {
        let (answer, awaited) = oneshot::channel();
        // The channel has as many slots as there are places, so it is never full.
        self.calls.try_send(Call { ask, answer, _place: place }).map_err(|_| SignerError::Unavailable)?;
        Ok(Awaited { answer: awaited, until: Instant::now() + link::patience(self.timeout) + link::HOLD + MARGIN })
    }
}

impl Signing {
    /// The signature, verified by the signer; the caller verifies it again. The key's breaker is told how it ended.
    ///
    /// # Errors
    /// Any [`SignerError`] but `Busy` of admission.
    pub async fn signature(self) -> Result<[u8; 64], SignerError> {
        let Self { awaited, breakers, kid } = self;
        let result = awaited.settle().await;
        match &result {
            Ok(_) => breakers.succeeded(&kid),
            Err(error) => {
                if let Some(failure) = failure(*error) {
                    breakers.failed(&kid, failure, Instant::now());
                }
            }
        }
        match result? {
            LinkResult::Signed { sig } => Ok(sig),
            _ => Err(SignerError::WrongAnswer),
        }
    }
}

/// A probe under way.
#[derive(Debug)]
pub struct Probing(Awaited);

impl Probing {
    /// What was signed, and the signature.
    ///
    /// # Errors
    /// Any [`SignerError`] but `Open` and `Busy` of admission.
    pub async fn probe(self) -> Result<Probe, SignerError> {
        match self.0.settle().await? {
            LinkResult::Probed { challenge, sig } => Ok(Probe { challenge, sig }),
            _ => Err(SignerError::WrongAnswer),
        }
    }
}

/// What an error says against the key. Load says nothing, and neither do the signer's bounds.
fn failure(error: SignerError) -> Option<Failure> {
    match error {
        SignerError::Timeout => Some(Failure::Timeout),
        SignerError::Unavailable | SignerError::Refused(LinkRefusal::BadSignature | LinkRefusal::UnknownKid) => {
            Some(Failure::Unavailable)
        }
        SignerError::Open { .. } | SignerError::Busy | SignerError::Refused(_) | SignerError::WrongAnswer => None,
    }
}

impl Awaited {
    async fn settle(self) -> Result<LinkResult, SignerError> {
        let answer = tokio::time::timeout_at(self.until.into(), self.answer).await;
        let answer = answer.map_err(|_| SignerError::Timeout)?;
        match answer.unwrap_or(Err(SignerError::Unavailable))? {
            LinkResult::Refused(LinkRefusal::Timeout) => Err(SignerError::Timeout),
            LinkResult::Refused(LinkRefusal::Busy) => Err(SignerError::Busy),
            LinkResult::Refused(LinkRefusal::HsmUnavailable) => Err(SignerError::Unavailable),
            LinkResult::Refused(refusal) => Err(SignerError::Refused(refusal)),
            result => Ok(result),
        }
    }
}

#[cfg(test)]
mod tests;
