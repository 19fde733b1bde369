//! Why a proof does not hold.

use std::fmt;

use super::super::judge::Refusal;
use super::{MAX_DEPTH, MAX_MEMBERS, MAX_TEXT};

/// A part of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The JOSE header.
    Header,
    /// The public key in it.
    Jwk,
    /// The claims.
    Claims,
    /// The signature.
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Jwk => "`jwk`",
            Self::Claims => "claims",
            Self::Signature => "signature",
        })
    }
}

/// Why a proof does not hold. Its holder, or the service that forwarded it, is at fault.
///
/// A value holds nothing that a stranger wrote: its texts are ours, all of them `'static`, and its message has a bounded
/// length and no control characters. So it may be logged, recorded and answered as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ProofRefusal {
    /// Longer than any proof.
    #[error("the proof is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Not three parts.
    #[error("the proof is not a compact JWS: three parts with two dots between them")]
    NotCompact,
    /// A part, or the key's `x`, is not base64url; says why.
    #[error("the proof's {0} is not base64url: {1}")]
    Base64(Part, &'static str),
    /// A part is not a JSON object.
    #[error("the proof's {0} is not a JSON object")]
    Json(Part),
    /// Nested too deeply.
    #[error("the proof's {0} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep(Part),
    /// Too many members and elements.
    #[error("the proof's {0} has more than {MAX_MEMBERS} members and elements")]
    TooMany(Part),
    /// A member stands twice (RFC 7515 §4 and RFC 7519 §4 let readers choose to refuse that, or to take the last).
    #[error("in the proof's {0} a member stands twice")]
    Duplicate(Part),
    /// A member that must not be there.
    #[error("the proof's {0} has a member that it must not have")]
    Unexpected(Part),
    /// A member is missing.
    #[error("the proof's {0} lacks `{1}`")]
    Missing(Part, &'static str),
    /// A member has another type.
    #[error("in the proof's {0}, `{1}` has the wrong type")]
    WrongType(Part, &'static str),
    /// A member is empty, too long, too large, or not what such a member looks like.
    #[error("in the proof's {0}, `{1}` is out of bounds")]
    OutOfBounds(Part, &'static str),
    /// Another algorithm: its name, if it is a registered one.
    #[error("the proof's algorithm is {0}, but must be Ed25519 or EdDSA")]
    Alg(&'static str),
    /// Not a proof of either kind.
    #[error("the proof's `typ` must be passport-pop+jwt or dpop+jwt")]
    Typ,
    /// The private key is in it.
    #[error("the proof holds the private key `d`: whoever saw it can sign as its holder, so the key must be replaced")]
    PrivateKey,
    /// The key is one for something else.
    #[error("the proof's key must have `{member}` \"{expected}\"")]
    Key {
        /// Which member says so.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The signature has another length.
    #[error("the proof's signature is not 64 bytes long")]
    SignatureLength,
    /// The signature does not verify.
    #[error("the proof's signature does not verify")]
    Signature,
    /// A DPoP proof where ours is expected, or ours where a DPoP proof is.
    #[error("the proof is of the other kind")]
    OtherKind,
    /// By another key than the passport's holder has.
    #[error("the proof is not by the key that the passport is bound to")]
    OtherKey,
    /// Made too long ago.
    #[error("the proof is too old")]
    TooOld,
    /// Made later than now.
    #[error("the proof is from the future: compare the clocks")]
    TooEarly,
    /// For another peer.
    #[error("the proof's `aud` is not the peer that verifies")]
    OtherAudience,
    /// For another operation.
    #[error("the proof's `op` is another operation")]
    OtherOperation,
    /// With another nonce, or without one.
    #[error("the proof's `nonce` is not the one that was given")]
    OtherNonce,
    /// For another passport.
    #[error("the proof's `ath` is of another passport")]
    OtherPassport,
    /// For another method.
    #[error("the proof's `htm` is another method")]
    OtherMethod,
    /// For another target.
    #[error("the proof's `htu` is another target")]
    OtherTarget,
}

impl From<ProofRefusal> for Refusal {
    fn from(_: ProofRefusal) -> Self {
        Self::PopInvalid
    }
}
