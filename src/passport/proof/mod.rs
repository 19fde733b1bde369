//! Proofs of possession: a passport with `cnf.jkt` is accepted only from somebody who signs, each time anew, with the key of
//! that thumbprint.
//!
//! A proof is a compact JWS (RFC 7515 §7.1) of one of two kinds: ours, `passport-pop+jwt`, for one operation at one peer, or
//! `dpop+jwt` (RFC 9449), made for an HTTP request and forwarded by the service that had it. Strangers write them, so they
//! have a reader of their own, which shares nothing with that of passports: it admits any spelling of JSON, since JOSE
//! libraries differ, but only so much of it. `docs/decisions/0049-proofs.md` says what is accepted and why.
//!
//! Everything here is pure and knows no curve: [`Proof::open`] reads, [`Proof::judge`] compares. Whether the signature is
//! authentic is for `verify::possession` to say, which does all three in the right order.

mod header;
mod judge;
mod members;
mod refusal;
mod target;
mod write;

pub use judge::{Expected, ProofExpect};
pub use refusal::{Part, ProofRefusal};
pub use target::Target;
pub use write::with_signature;

use sha2::{Digest as _, Sha256};

use super::bounds::{MAX_ACTION, MAX_AUD_LEN, MAX_INTEGER, is_identifier, is_thumbprint};
use super::envelope::base64url;
use super::jwk::thumbprint;
use members::Members;

/// Longest proof. One with all that a usual client puts in has 500 to 700 bytes.
pub const MAX_TEXT: usize = 4096;
/// Deepest nesting of objects and arrays in header or claims. The header needs 2; claims that a DPoP client adds may have more.
pub const MAX_DEPTH: usize = 4;
/// Most members and elements in header or claims, those of nested ones included.
pub const MAX_MEMBERS: usize = 32;
/// Longest `jti`. Longer than a passport's: RFC 9449 §4.2 leaves it to the client, and a hash in hex with a prefix is usual.
pub const MAX_JTI: usize = 128;
/// Longest `nonce`. Servers of HTTP seal state into theirs (RFC 9449 §8).
pub const MAX_NONCE: usize = 256;
/// Longest `htm`.
pub const MAX_HTM: usize = 32;
/// Longest `htu`.
pub const MAX_HTU: usize = 2048;

/// What the replay key is a hash of, beside key and `jti`: so that it is no hash of anything else.
const REPLAY: &[u8] = b"passportd/pop-replay/v1\0";

/// The kind of a proof, which is its `typ` (RFC 8725 §3.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProofKind {
    /// `passport-pop+jwt`: for an operation at a peer.
    Pop,
    /// `dpop+jwt`: for an HTTP request.
    Dpop,
}

impl ProofKind {
    /// Its `typ`.
    pub const fn typ(self) -> &'static str {
        match self {
            Self::Pop => "passport-pop+jwt",
            Self::Dpop => "dpop+jwt",
        }
    }
}

/// What a proof says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofClaims {
    /// Its id, chosen by the holder: 1 to [`MAX_JTI`] bytes, no control characters.
    pub jti: String,
    /// When it was made, seconds since 1970 by the holder's clock.
    pub iat: i64,
    /// SHA-256 of the passport that it goes with: see [`ath`].
    pub ath: [u8; 32],
    /// What it was made for.
    pub purpose: Purpose,
}

/// What a proof was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// An operation at a peer: [`ProofKind::Pop`].
    Operation {
        /// The peer, by one of its audiences.
        aud: String,
        /// The operation, 1 to 128 bytes.
        op: String,
        /// What the daemon gave to ask for this proof.
        nonce: String,
    },
    /// An HTTP request: [`ProofKind::Dpop`].
    Http {
        /// The method (RFC 9110 §9.1).
        htm: String,
        /// The target URI: what [`Target::parse`] reads.
        htu: String,
        /// What the service gave to ask for this proof, if it gives nonces.
        nonce: Option<String>,
    },
}

/// A proof whose form is right. Nothing is verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proof<'a> {
    /// What it says.
    pub claims: ProofClaims,
    /// The key that is said to have signed. Whether it is a point of the curve is not known yet.
    pub public: [u8; 32],
    /// That key's RFC 7638 thumbprint.
    pub jkt: String,
    /// The signed bytes (RFC 7515 §5.1 step 5).
    pub signing_input: &'a str,
    /// The signature.
    pub signature: [u8; 64],
}

/// What `ath` is of a passport: SHA-256 of the exact text of a compact JWS (RFC 9449 §4.2), or of the `msg` of an envelope.
pub fn ath(passport: &[u8]) -> [u8; 32] {
    Sha256::digest(passport).into()
}

impl<'a> Proof<'a> {
    /// Reads a proof, and checks all that can be without knowing what it is for.
    ///
    /// # Errors
    /// Says which part is wrong, and how. Nothing of the text is repeated.
    pub fn open(text: &'a str) -> Result<Self, ProofRefusal> {
        if text.len() > MAX_TEXT {
            return Err(ProofRefusal::TooLong);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(ProofRefusal::NotCompact)?;
        let (header, claims) = signing_input.split_once('.').ok_or(ProofRefusal::NotCompact)?;
        if claims.contains('.') {
            return Err(ProofRefusal::NotCompact);
        }
        // The header first: an unsigned proof is refused for its algorithm, not for an empty signature.
        let (kind, public) = header::read(&decoded(Part::Header, header)?)?;
        let signature = decoded(Part::Signature, signature)?;
        let signature = signature.try_into().map_err(|_| ProofRefusal::SignatureLength)?;
        let claims = ProofClaims::read(&decoded(Part::Claims, claims)?, kind)?;
        Ok(Self { claims, public, jkt: thumbprint(&public), signing_input, signature })
    }

    /// Its kind.
    pub const fn kind(&self) -> ProofKind {
        self.claims.kind()
    }

    /// By what a second acceptance of this proof is known: SHA-256 of holder and `jti`. Kind and spelling don't count, so
    /// that one `jti` is good for one proof. Nobody else's key can be hit: the thumbprint has one length.
    ///
    /// Only of a proof that was accepted may this be remembered, else whoever saw a `jti` could use it up.
    pub fn replay_key(&self) -> [u8; 32] {
        Sha256::new().chain_update(REPLAY).chain_update(&self.jkt).chain_update(&self.claims.jti).finalize().into()
    }
}

/// A part's bytes.
fn decoded(part: Part, text: &str) -> Result<Vec<u8>, ProofRefusal> {
    base64url(text).map_err(|why| ProofRefusal::Base64(part, why))
}

impl ProofClaims {
    /// The kind of proof that says this.
    pub const fn kind(&self) -> ProofKind {
        match self.purpose {
            Purpose::Operation { .. } => ProofKind::Pop,
            Purpose::Http { .. } => ProofKind::Dpop,
        }
    }

    /// Reads the claims of a proof of that kind. In ours they are a closed set; RFC 9449 §4.2 lets clients add others, which
    /// say nothing to us (RFC 7519 §4).
    fn read(json: &[u8], kind: ProofKind) -> Result<Self, ProofRefusal> {
        let members = Members::read(Part::Claims, json)?;
        let text = |name| members.text(name).map(str::to_owned);
        let purpose = match kind {
            ProofKind::Pop => {
                members.only(&["jti", "iat", "aud", "op", "ath", "nonce"])?;
                Purpose::Operation { aud: text("aud")?, op: text("op")?, nonce: text("nonce")? }
            }
            ProofKind::Dpop => {
                let nonce = if members.has("nonce") { Some(text("nonce")?) } else { None };
                Purpose::Http { htm: text("htm")?, htu: text("htu")?, nonce }
            }
        };
        let claims =
            Self { jti: text("jti")?, iat: members.integer("iat")?, ath: digest(members.text("ath")?)?, purpose };
        claims.check()?;
        Ok(claims)
    }

    /// Whether every claim is within its bounds: the same for who writes and who reads.
    fn check(&self) -> Result<(), ProofRefusal> {
        let good = |name, good| if good { Ok(()) } else { Err(ProofRefusal::OutOfBounds(Part::Claims, name)) };
        good("jti", is_identifier(&self.jti, MAX_JTI))?;
        good("iat", (0..=MAX_INTEGER).contains(&self.iat))?;
        match &self.purpose {
            Purpose::Operation { aud, op, nonce } => {
                good("aud", is_identifier(aud, MAX_AUD_LEN))?;
                good("op", is_identifier(op, MAX_ACTION))?;
                good("nonce", is_identifier(nonce, MAX_NONCE))
            }
            Purpose::Http { htm, htu, nonce } => {
                good("htm", is_method(htm))?;
                good("htu", Target::parse(htu).is_some())?;
                good("nonce", nonce.as_ref().is_none_or(|nonce| is_identifier(nonce, MAX_NONCE)))
            }
        }
    }
}

/// The 32 bytes of `ath`.
fn digest(text: &str) -> Result<[u8; 32], ProofRefusal> {
    let bytes = is_thumbprint(text).then(|| base64url(text).ok()).flatten();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(ProofRefusal::OutOfBounds(Part::Claims, "ath"))
}

/// Whether `text` can be a method: a token (RFC 9110 §5.6.2).
fn is_method(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_HTM).contains(&text.len()) && text.bytes().all(token)
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod published_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
