//! From a proof and expectations to a verdict. Pure: the time is an argument, and so is all that is expected.

use super::{Proof, ProofRefusal, Purpose, Target};
use crate::clock::Moment;

/// What a verifier expects of a proof.
///
/// Window and skew belong to the deployment: what was accepted is remembered for as long as those of its day say
/// ([`ProofExpect::replay_until`]), so wider ones could make a proof good again that was forgotten.
#[derive(Clone, Copy, Debug)]
pub struct ProofExpect<'a> {
    /// The time of the verdict.
    pub now: Moment,
    /// For how many seconds a proof is good, at least 1.
    pub window_s: u32,
    /// By how many seconds the holder's clock may differ from the verifier's.
    pub skew_s: u32,
    /// The passport's `cnf.jkt`.
    pub jkt: &'a str,
    /// [`ath`](super::ath) of the passport.
    pub ath: [u8; 32],
    /// What the proof must have been made for.
    pub purpose: Expected<'a>,
}

/// What a proof must have been made for.
#[derive(Clone, Copy, Debug)]
pub enum Expected<'a> {
    /// An operation: a `passport-pop+jwt`.
    Operation {
        /// The names that the verifying peer goes by.
        audiences: &'a [&'a str],
        /// The operation.
        op: &'a str,
        /// What this connection was given.
        nonce: &'a str,
    },
    /// An HTTP request: a `dpop+jwt`.
    Http {
        /// The request's method.
        htm: &'a str,
        /// The request's target.
        htu: Target<'a>,
        /// What the service gave its client. If it gave none, one in the proof is not looked at (RFC 9449 §4.3, check 10).
        nonce: Option<&'a str>,
    },
}

impl ProofExpect<'_> {
    /// Until when, this moment included, an accepted proof must be remembered by its [`Proof::replay_key`]: for twice window
    /// and skew. One that was made at `now + skew` is good until `now + window + 2 × skew`, and no other is good for longer.
    pub fn replay_until(&self) -> Moment {
        self.now.plus(2 * self.reach())
    }

    /// How far `iat` may lie back, in seconds.
    fn reach(&self) -> i64 {
        i64::from(self.window_s) + i64::from(self.skew_s)
    }
}

impl Proof<'_> {
    /// Whether the proof is what the verifier expects. Says nothing about the signature, nor whether it was accepted before.
    ///
    /// Nonces are compared like any text. To learn from the time that takes how much of one is right helps nobody: a nonce is
    /// no secret from those who may present it, and what they present is signed by the holder.
    ///
    /// # Errors
    /// The first refusal in this order: key, time, passport, kind; then audience, operation and nonce, or method, target
    /// and nonce.
    pub fn judge(&self, expect: &ProofExpect<'_>) -> Result<(), ProofRefusal> {
        or(self.jkt == expect.jkt, ProofRefusal::OtherKey)?;
        self.judge_time(expect)?;
        or(self.claims.ath == expect.ath, ProofRefusal::OtherPassport)?;
        match (&self.claims.purpose, expect.purpose) {
            (Purpose::Operation { aud, op, nonce }, Expected::Operation { audiences, op: wanted, nonce: given }) => {
                or(audiences.contains(&aud.as_str()), ProofRefusal::OtherAudience)?;
                or(op == wanted, ProofRefusal::OtherOperation)?;
                or(nonce == given, ProofRefusal::OtherNonce)
            }
            (Purpose::Http { htm, htu, nonce }, Expected::Http { htm: method, htu: target, nonce: given }) => {
                or(htm == method, ProofRefusal::OtherMethod)?;
                or(Target::parse(htu) == Some(target), ProofRefusal::OtherTarget)?;
                or(given.is_none() || nonce.as_deref() == given, ProofRefusal::OtherNonce)
            }
            (Purpose::Operation { .. }, Expected::Http { .. }) | (Purpose::Http { .. }, Expected::Operation { .. }) => {
                Err(ProofRefusal::OtherKind)
            }
        }
    }

    /// Whether `iat` is inside `[now − window − skew, now + skew]`.
    fn judge_time(&self, expect: &ProofExpect<'_>) -> Result<(), ProofRefusal> {
        let iat = Moment::from_unix(self.claims.iat);
        or(iat >= expect.now.plus(-expect.reach()), ProofRefusal::TooOld)?;
        or(iat <= expect.now.plus(i64::from(expect.skew_s)), ProofRefusal::TooEarly)
    }
}

/// What holds, or the refusal.
fn or(holds: bool, refusal: ProofRefusal) -> Result<(), ProofRefusal> {
    if holds { Ok(()) } else { Err(refusal) }
}
