//! The forms of a passport.

use super::service::{ISSUED_OVERHEAD, Issued, Passport, PassportForm};
use crate::passport::{OwnedEnvelope, OwnedPassport};

/// What a JWS has beside its payload, at most: the header with the longest kid (227 characters), the signature (86), two
/// points, and what is before the text in a reply.
const JWS_OVERHEAD: usize = 340;

impl PassportForm {
    /// Its name in policies and commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Jws => "jws",
        }
    }

    /// That of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Envelope, Self::Jws].into_iter().find(|form| form.name() == name)
    }

    /// The bytes that a reply has at most for an item of this form, whose payload is so long: for whoever splits a batch, and
    /// for the daemon, which refuses one whose reply would not fit.
    pub const fn issued_size(self, payload: usize) -> usize {
        match self {
            Self::Envelope => payload.saturating_add(ISSUED_OVERHEAD),
            // Four characters for three bytes.
            Self::Jws => payload.div_ceil(3).saturating_mul(4).saturating_add(JWS_OVERHEAD),
        }
    }
}

impl<'a> From<&'a OwnedEnvelope> for Passport<'a> {
    fn from(envelope: &'a OwnedEnvelope) -> Self {
        let OwnedEnvelope { alg, kid, msg, sig } = envelope;
        Self::Envelope { alg, kid, msg, sig }
    }
}

impl<'a> From<&'a OwnedPassport> for Passport<'a> {
    fn from(passport: &'a OwnedPassport) -> Self {
        match passport {
            OwnedPassport::Envelope(envelope) => envelope.into(),
            OwnedPassport::Jws(text) => Self::Jws { text },
        }
    }
}

impl From<Issued> for OwnedPassport {
    fn from(issued: Issued) -> Self {
        match issued {
            Issued::Envelope { kid, msg, sig } => {
                Self::Envelope(OwnedEnvelope { alg: "Ed25519".to_owned(), kid, msg, sig: sig.to_vec() })
            }
            Issued::Jws { text } => Self::Jws(text),
        }
    }
}
