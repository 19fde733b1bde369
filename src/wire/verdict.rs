//! What is said of a passport. Append only, as `service`.

use bincode::{Decode, Encode};

use super::Code;

/// Accepted, or refused with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Verdict {
    /// Good for what was wanted.
    Accepted(Accepted),
    /// Not good; the code is one that may be a verdict's reason.
    Refused(Code),
    /// Good, and accepted: what it takes is taken, durably.
    Consumed(Consumed),
    /// Not good: `pop_invalid`, and what is wrong with the proof.
    Unproven {
        /// In words.
        why: String,
    },
}

impl Verdict {
    /// Whether the passport may be acted on.
    pub const fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted(_) | Self::Consumed(_))
    }
}

/// What an acceptance that took something says.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Consumed {
    /// When the passport expires (seconds since 1970, exclusive).
    pub exp: i64,
    /// How many uses are left; none if it has no limit.
    pub left: Option<u64>,
    /// The same request was answered before, and nothing was taken now.
    pub repeated: bool,
}

/// What an acceptance says beside the passport's own claims.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Accepted {
    /// When the passport expires (seconds since 1970, exclusive).
    pub exp: i64,
}

/// The state of a passport, in the manner of RFC 7662.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Introspection {
    /// Whether `Verify` would accept it now.
    pub active: bool,
    /// Why not.
    pub reason: Option<Code>,
    /// Its claims as canonical JSON, only if the signature is authentic.
    pub claims: Option<Vec<u8>>,
}
