//! Verdicts in the service's own process, without a question to the daemon for each: by its keys, and by what it says of
//! revocations as they come.
//!
//! A [`Verifier`] accepts what the daemon would accept at the same time, and refuses the rest with the same codes. What takes a
//! use, a nonce or a proof, or is of a tenant that policy does not let this service watch, is `needs_daemon`: ask
//! [`Client::verify`](super::Client::verify). When nothing has been heard of the daemon for longer than a bound there is no verdict at
//! all, but [`Unfed`]: a passport could have been revoked since.
//!
//! ```no_run
//! use passportd::client::{Verifier, VerifierOptions, Want};
//! use passportd::passport::OwnedPassport;
//! use passportd::wire::{Code, Verdict};
//!
//! # async fn example(client: passportd::client::Client, passport: OwnedPassport) -> Result<(), Box<dyn std::error::Error>> {
//! let verifier = Verifier::start(VerifierOptions::service("/run/passportd/passportd.sock")).await?;
//! let want = Want { aud: Some("demo".into()), scopes: vec!["read".into()], ..Want::default() };
//! let verdict = match verifier.verify(&passport, &want)? {
//!     Verdict::Refused(Code::NeedsDaemon) => client.verify(&passport, &want).await?,
//!     verdict => verdict,
//! };
//! # Ok(())
//! # }
//! ```

/// The example of the page, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/VERIFIER.md")]
struct Page;

#[cfg(test)]
mod fake;
mod fed;
mod feeder;
#[cfg(test)]
mod feeding_tests;
mod propagation;
#[cfg(test)]
mod samples;
mod shared;
#[cfg(feature = "daemon")]
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

pub use propagation::Propagation;

use super::{Client, ClientError, Options, Want};
use crate::check::{Judged, recycled, settle_by};
use crate::clock::Moment;
use crate::verify::{Item, Way};
use crate::wire::{Passport, Verdict};
use fed::{Asked, Keys};
use feeder::Feeder;
use shared::Shared;

/// The longest that a verifier may go by what it heard.
pub const MAX_STALE: Duration = Duration::from_secs(60);
/// The shortest: below it a busy machine alone would leave verifiers without verdicts.
pub const MIN_STALE: Duration = Duration::from_millis(500);
/// Revocations, epochs and compromised keys that are kept: as many as the daemon keeps of everything. They take 50 bytes each.
pub const MAX_REVOCATIONS: usize = 2_000_000;
/// By how many seconds clocks may differ, at most. The daemon keeps what is revoked for longer than any such time.
pub const MAX_SKEW_S: u32 = 600;
/// Scopes for which nothing is allocated.
const FEW_SCOPES: usize = 8;

/// How to verify.
#[derive(Clone, Debug)]
pub struct VerifierOptions {
    /// How to connect.
    pub service: Options,
    /// As whom passports are verified where [`Want::aud`] does not say.
    pub audience: Option<String>,
    /// For how long verdicts are given after the daemon was heard last, from [`MIN_STALE`] to [`MAX_STALE`]; what is beyond is
    /// taken for the nearer end. A revocation has its effect within this time, or there are no verdicts.
    pub stale_after: Duration,
    /// By how many seconds the issuer's clock may differ, [`MAX_SKEW_S`] at most: the daemon's `passport.clock_skew_s`.
    pub skew_s: u32,
    /// How many revocations may be in force, [`MAX_REVOCATIONS`] at most. If there are more there are no verdicts.
    pub max_revocations: usize,
    /// Memory for the tables of the keys, in bytes; without them verification is slower. 377 KiB a key is the best.
    pub table_bytes: usize,
}

impl VerifierOptions {
    /// On this socket, and else as a daemon is by default.
    pub fn service(socket: impl Into<PathBuf>) -> Self {
        Self {
            service: Options::service(socket),
            audience: None,
            stale_after: Duration::from_secs(5),
            skew_s: 120,
            max_revocations: MAX_REVOCATIONS,
            table_bytes: 16 << 20,
        }
    }
}

/// Why a verifier is not fed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FeedError {
    /// The daemon does not answer, or says no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The daemon's key set is none.
    #[error("the daemon's keys can't be used: {0}")]
    Keys(String),
    /// More is revoked than may be kept.
    #[error("more than {0} revocations are in force; raise `max_revocations`")]
    TooMany(usize),
    /// The process may have no more threads.
    #[error("can't start a thread: {0}")]
    Thread(String),
}

/// There is no verdict: what was revoked of late is not known. Ask the daemon, or refuse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("passportd was not heard of for {bound_ms} ms, so revocations may be missing: {why}")]
pub struct Unfed {
    bound_ms: u128,
    why: String,
}

/// Verifies passports in this process. To be shared by an [`Arc`]; what feeds it ends with it.
pub struct Verifier {
    shared: Arc<Shared>,
    audience: Option<String>,
    skew_s: u32,
    feeder: JoinHandle<()>,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").field("way", &self.way()).finish_non_exhaustive()
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.feeder.abort();
    }
}

thread_local! {
    // What the last batch of this thread was in, empty.
    static JUDGED: Cell<Vec<Judged<'static, 'static>>> = const { Cell::new(Vec::new()) };
    static VERDICTS: Cell<Vec<Verdict>> = const { Cell::new(Vec::new()) };
}

impl Verifier {
    /// Connects, looks at all that is in force, and goes on watching in a task of the present runtime.
    ///
    /// # Errors
    /// The daemon can't be reached, or does not let this peer have its keys, revocations and events (`keys` and `watch` of its
    /// policy).
    pub async fn start(options: VerifierOptions) -> Result<Self, FeedError> {
        let VerifierOptions { service, audience, stale_after, skew_s, max_revocations, table_bytes } = options;
        let bound = stale_after.clamp(MIN_STALE, MAX_STALE);
        let shared = Arc::new(Shared::new(bound, max_revocations.min(MAX_REVOCATIONS), table_bytes)?);
        // An answer that is later than this would come too late to be fed by.
        let timeout = service.timeout.min(shared.wait + bound);
        let client = Client::connect(Options { timeout: timeout.max(2 * shared.wait), ..service }).await?;
        let mut feeder = Feeder::new(Arc::clone(&shared), client);
        feeder.begin().await?;
        let feeder = tokio::spawn(feeder.feed());
        Ok(Self { shared, audience, skew_s: skew_s.min(MAX_SKEW_S), feeder })
    }

    /// A verdict on one passport, at once.
    ///
    /// # Errors
    /// [`Unfed`]: there is no verdict.
    pub fn verify<'p>(&self, passport: impl Into<Passport<'p>>, want: &Want) -> Result<Verdict, Unfed> {
        let mut verdicts = VERDICTS.take();
        verdicts.clear();
        let done = self.verify_many(&[passport.into()], want, &mut verdicts);
        let verdict = verdicts.pop();
        VERDICTS.set(verdicts);
        done?;
        // One passport, one verdict.
        verdict.ok_or_else(|| Unfed { bound_ms: self.shared.bound.as_millis(), why: "no verdict".to_owned() })
    }

    /// Verdicts on several passports, each as if it were alone: `verdicts` gets one more for each, in order.
    ///
    /// # Errors
    /// [`Unfed`]: there are none.
    pub fn verify_many(
        &self,
        passports: &[Passport<'_>],
        want: &Want,
        verdicts: &mut Vec<Verdict>,
    ) -> Result<(), Unfed> {
        self.shared.fresh()?;
        let Want { aud, scopes, .. } = want;
        let before = verdicts.len();
        with_scopes(scopes, |scopes| {
            let aud = aud.as_ref().or(self.audience.as_ref()).map(String::as_str);
            let now = self.shared.now(Moment::now());
            self.judge(passports, &Asked { aud, scopes, now, skew_s: self.skew_s }, verdicts);
        });
        // Whoever was stopped in between may have missed much.
        let fresh = self.shared.fresh();
        if fresh.is_err() {
            verdicts.truncate(before);
        }
        fresh
    }

    fn judge(&self, passports: &[Passport<'_>], asked: &Asked<'_>, verdicts: &mut Vec<Verdict>) {
        let (keys, revision): (Arc<Keys>, u64);
        let mut judged = recycled(JUDGED.take());
        {
            let fed = self.shared.fed();
            let Some(fed) = &*fed else { return };
            (keys, revision) = (Arc::clone(&fed.keys), fed.revision);
            judged.extend(passports.iter().map(|passport| fed.judge(passport, &keys, asked)));
        }
        let before = verdicts.len();
        let engine = |items: &[Item<'_>], authentic: &mut Vec<bool>| {
            self.shared.engine.verify_many(items, authentic, || self.shared.confirmations.take());
        };
        settle_by(judged.iter(), engine, verdicts);
        JUDGED.set(recycled(judged));
        // What was revoked while signatures were verified is refused all the same.
        if let (Some(fed), Some(new)) = (&*self.shared.fed(), verdicts.get_mut(before..)) {
            fed.revise(passports, new, revision);
        }
    }

    /// Whether verdicts are given.
    ///
    /// # Errors
    /// Why not.
    pub fn fed(&self) -> Result<(), Unfed> {
        self.shared.fresh()
    }

    /// How many revocations, epochs and compromised keys are kept.
    pub fn revocations(&self) -> usize {
        self.shared.fed().as_ref().map_or(0, |fed| fed.revoked.len())
    }

    /// How long revocations took from the daemon's acknowledgement to their effect here: `revocation_propagation_seconds`.
    pub fn propagation(&self) -> Propagation {
        self.shared.propagation.snapshot()
    }

    /// How signatures are verified: `dalek`, if a faster way was found to err.
    pub fn way(&self) -> Way {
        self.shared.engine.way()
    }
}

/// The scopes as they are compared.
fn with_scopes<T>(scopes: &[String], then: impl FnOnce(&[&str]) -> T) -> T {
    let mut few = [""; FEW_SCOPES];
    match few.get_mut(..scopes.len()) {
        Some(room) => {
            room.iter_mut().zip(scopes).for_each(|(place, scope)| *place = scope);
            then(room)
        }
        None => then(&scopes.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}
