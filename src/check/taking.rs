//! What accepting a passport takes, owned, for whoever awaits the disk. Pure.

use super::{Names, reread};
use crate::clock::Moment;
use crate::passport::proof::{Expected, Purpose, Target, ath};
use crate::passport::{Claims, Proof, ProofExpect, ProofRefusal};
use crate::state::{Kept, Named, Parent};
use crate::verify::possession;
use crate::wire::{Passport, Possession};

/// For how long a proof is good, in seconds. No setting: what was accepted is remembered for as long as this says.
pub const POP_WINDOW_S: u32 = 60;
/// By how many seconds a holder's clock may differ. No setting, for the same reason.
pub const POP_SKEW_S: u32 = 60;

/// The operation that a `passport-pop+jwt` must have been made for: what it was made for, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// To have the passport accepted.
    Verify,
    /// To have a ticket for it.
    Exchange,
}

impl For {
    const fn op(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Exchange => "exchange",
        }
    }
}

/// A passport that was judged, as far as its acceptance must be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taking {
    /// The key that signed it.
    pub kid: String,
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub jti: String,
    /// Its subject.
    pub sub: String,
    /// The template that it was issued from.
    pub template: String,
    /// When it was issued.
    pub iat: i64,
    /// Its epoch.
    pub epoch: u64,
    /// When it expires.
    pub exp: i64,
    /// How many times it may be accepted.
    pub limit: Option<u64>,
    /// What must not have been accepted before.
    pub nonce: Option<String>,
    /// The thumbprint of the holder's key.
    pub jkt: Option<String>,
    /// What a ticket was made from.
    pub par: Option<Box<Parent>>,
}

impl Taking {
    /// Of one that was judged; none of any other.
    pub fn of(passport: &Passport<'_>) -> Option<Self> {
        reread(passport, |view, kid| {
            let Names { kid, tenant, jti, sub, iat, epoch, .. } = Names::of(view, kid);
            Self {
                kid: kid.to_owned(),
                tenant: tenant.to_owned(),
                jti: jti.into_owned(),
                sub: sub.into_owned(),
                template: view.template.decode().into_owned(),
                iat,
                epoch,
                exp: view.exp,
                // The signer signs no ticket that says anything else.
                limit: if view.par.is_some() { Some(1) } else { view.limit },
                nonce: view.nonce.map(|nonce| nonce.decode().into_owned()),
                jkt: view.cnf_jkt.map(str::to_owned),
                par: view.par.map(|par| Box::new(Parent::of(par))),
            }
        })
    }

    /// Whether it is revoked by now.
    pub fn is_revoked(&self, kept: &Kept) -> bool {
        let Self { kid, tenant, jti, sub, iat, epoch, .. } = self;
        let par = self.par.as_deref().map(Parent::named);
        kept.is_revoked(&Named { kid, tenant, jti, sub, iat: *iat, epoch: *epoch, par })
    }
}

/// The claims of a passport that was judged; none of any other.
pub fn claims_of(passport: &Passport<'_>) -> Option<Claims> {
    reread(passport, |view, _| view.to_claims().ok()).flatten()
}

/// Whether this is a ticket, authentic or not; what can't be read is none.
pub fn is_ticket(passport: &Passport<'_>) -> bool {
    reread(passport, |view, _| view.par.is_some()).unwrap_or(false)
}

/// Whether the proof is by the key of thumbprint `jkt`, for this passport, this peer and this moment; its replay key, and until
/// when that must be kept. `given` says whether a nonce was given to this peer, and not used yet.
///
/// The passport must have been found authentic before.
///
/// # Errors
/// What is wrong with the proof.
pub fn prove(
    proof: &Possession<'_>,
    passport: &Passport<'_>,
    jkt: &str,
    (made_for, audiences, now): (For, &[&str], Moment),
    given: impl Fn(&str) -> bool,
) -> Result<([u8; 32], i64), ProofRefusal> {
    let presented = match *passport {
        Passport::Envelope { msg, .. } => msg,
        Passport::Jws { text } => text.as_bytes(),
    };
    let mut nonce = String::new();
    let (text, purpose) = match *proof {
        Possession::Pop { proof } => {
            // Which of the nonces that were given it is, the proof says.
            if let Purpose::Operation { nonce: said, .. } = Proof::open(proof)?.claims.purpose {
                nonce = said;
                if !given(&nonce) {
                    return Err(ProofRefusal::OtherNonce);
                }
            }
            (proof, Expected::Operation { audiences, op: made_for.op(), nonce: &nonce })
        }
        Possession::Dpop { proof, htm, htu, nonce } => {
            let htu = Target::parse(htu).ok_or(ProofRefusal::OtherTarget)?;
            (proof, Expected::Http { htm, htu, nonce })
        }
    };
    let expect = ProofExpect { now, window_s: POP_WINDOW_S, skew_s: POP_SKEW_S, jkt, ath: ath(presented), purpose };
    let proof = possession(text, &expect)?;
    Ok((proof.replay_key(), expect.replay_until().unix().saturating_add(1)))
}
