//! The front's handle on the signer process: admission, and a link that reconnects by itself.
//!
//! Callers wait for a place in front of the HSM in the order in which they came, item by item, so that a batch of one
//! peer does not stand before a single request of another. A call is answered exactly once: by the signer, by its
//! deadline, or by the loss of the link.

mod link;
mod sealing;
mod text;

pub use sealing::{SealAnswer, SealAsk, SealGiven, SealWhat};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::wire::link::{LinkKey, LinkRefusal, LinkResult, LinkStats, LinkWelcome};

/// Where the signer is and how long it may take.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Its private socket.
    pub socket: PathBuf,
    /// Our issuer; the signer must have the same.
    pub issuer: String,
    /// The signer's uid. What the kernel shows is who called `listen`: that, or root, who hands a bound socket down.
    pub signer_uid: u32,
    /// The longest that one call may take in the signer. Waiting for a place may take as long before that.
    pub op_timeout: Duration,
    /// The most calls under way in the signer at once.
    pub max_in_flight: usize,
}

/// Whether there is a signer.
#[derive(Clone, Debug)]
pub enum LinkStatus {
    /// No: why, for the operator.
    Down(String),
    /// Yes, and what it says of itself.
    Up(LinkWelcome),
}

/// Why the signer gave no answer that can be used.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignerError {
    /// No link, or it broke while the call was under way (the HSM's or our fault; retry).
    #[error("the signer is not reachable")]
    Unavailable,
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
    Seal(SealAsk),
}

#[derive(Debug)]
struct Call {
    ask: Ask,
    answer: oneshot::Sender<Result<LinkResult, SignerError>>,
    /// Given back when the call is answered, whoever still waits for it.
    _place: OwnedSemaphorePermit,
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
    places: Arc<Semaphore>,
    status: watch::Receiver<LinkStatus>,
    timeout: Duration,
}

/// Beyond the link's own deadline: then the link's task itself does not get on.
const MARGIN: Duration = Duration::from_secs(1);

/// An answer that is under way, and when it is no longer waited for.
#[derive(Debug)]
struct Awaited {
    answer: oneshot::Receiver<Result<LinkResult, SignerError>>,
    until: Instant,
}

/// A signature under way.
#[derive(Debug)]
pub struct Signing(Awaited);

impl Signer {
    /// Starts the link's task on the current runtime. The handle is usable at once; until the link stands, calls fail
    /// with [`SignerError::Unavailable`].
    pub fn start(config: LinkConfig) -> Self {
        let (calls, inbox) = mpsc::channel(config.max_in_flight.max(1));
        let (report, status) = watch::channel(LinkStatus::Down("the signer has not been reached yet".to_owned()));
        let places = Arc::new(Semaphore::new(config.max_in_flight));
        let timeout = config.op_timeout;
        tokio::spawn(link::run(config, inbox, report));
        Self { calls, places, status, timeout }
    }

    /// The state of the link, and its changes.
    pub fn status(&self) -> watch::Receiver<LinkStatus> {
        self.status.clone()
    }

    /// Hands a canonical payload to the signer; the signature is awaited with [`Signing::signature`]. Waits for a place,
    /// but not beyond `until` or one timeout.
    ///
    /// # Errors
    /// [`SignerError::Busy`] when no place came free in time, [`SignerError::Unavailable`] without a link.
    pub async fn sign(&self, payload: Vec<u8>, until: Instant) -> Result<Signing, SignerError> {
        self.call(Ask::Sign(payload), until).await.map(Signing)
    }

    /// Asks for a real signature over bytes that the signer chooses. The caller verifies it.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn probe(&self, kid: &str) -> Result<Probe, SignerError> {
        match self.ask(Ask::Probe(kid.to_owned())).await? {
            LinkResult::Probed { challenge, sig } => Ok(Probe { challenge, sig }),
            _ => Err(SignerError::WrongAnswer),
        }
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

    async fn ask(&self, ask: Ask) -> Result<LinkResult, SignerError> {
        self.call(ask, Instant::now() + self.timeout).await?.settle().await
    }

    async fn call(&self, ask: Ask, until: Instant) -> Result<Awaited, SignerError> {
        if matches!(*self.status.borrow(), LinkStatus::Down(_)) {
            return Err(SignerError::Unavailable);
        }
        let until = until.min(Instant::now() + self.timeout);
        let place = tokio::time::timeout_at(until.into(), Arc::clone(&self.places).acquire_owned());
        let place = place.await.map_err(|_| SignerError::Busy)?.map_err(|_| SignerError::Unavailable)?;
        let (answer, awaited) = oneshot::channel();
        // The channel has as many slots as there are places, so it is never full.
        self.calls.try_send(Call { ask, answer, _place: place }).map_err(|_| SignerError::Unavailable)?;
        Ok(Awaited { answer: awaited, until: Instant::now() + link::patience(self.timeout) + MARGIN })
    }
}

impl Signing {
    /// The signature, verified by the signer; the caller verifies it again.
    ///
    /// # Errors
    /// Any [`SignerError`] but `Busy` of admission.
    pub async fn signature(self) -> Result<[u8; 64], SignerError> {
        match self.0.settle().await? {
            LinkResult::Signed { sig } => Ok(sig),
            _ => Err(SignerError::WrongAnswer),
        }
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
