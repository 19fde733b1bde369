//! A passport as its holder keeps it, in either form.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

use super::{Jws, OwnedEnvelope, Refusal, Room};

/// A passport that owns its parts. As JSON it is the object of an envelope, or the text of a JWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedPassport {
    /// The envelope.
    Envelope(OwnedEnvelope),
    /// The compact JWS.
    Jws(String),
}

impl OwnedPassport {
    /// The envelope, if it is one.
    pub fn into_envelope(self) -> Option<OwnedEnvelope> {
        match self {
            Self::Envelope(envelope) => Some(envelope),
            Self::Jws(_) => None,
        }
    }

    /// The kid that it names; empty if its header is none of ours.
    pub fn kid(&self) -> Cow<'_, str> {
        match self {
            Self::Envelope(envelope) => Cow::Borrowed(&envelope.kid),
            Self::Jws(text) => Cow::Owned(Jws::kid(text).unwrap_or_default()),
        }
    }

    /// The canonical JSON of its claims; empty if it is a JWS that is none of ours. Nothing is verified here.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Envelope(envelope) => Cow::Borrowed(&envelope.msg),
            Self::Jws(text) => Cow::Owned(payload(text).unwrap_or_default()),
        }
    }

    /// As it is handed on: JSON on one line, or the JWS.
    pub fn to_text(&self) -> String {
        match self {
            Self::Envelope(envelope) => envelope.to_json(),
            Self::Jws(text) => text.clone(),
        }
    }
}

fn payload(text: &str) -> Result<Vec<u8>, Refusal> {
    let mut buffer = Vec::new();
    Ok(Jws::parse(text)?.open(&mut Room::new(&mut buffer, [text]))?.payload.to_vec())
}

impl Serialize for OwnedPassport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Envelope(envelope) => envelope.serialize(serializer),
            Self::Jws(text) => serializer.serialize_str(text),
        }
    }
}

impl From<OwnedEnvelope> for OwnedPassport {
    fn from(envelope: OwnedEnvelope) -> Self {
        Self::Envelope(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{claims::tests::full, jws};
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let (claims, msg) = (full(), full().canonical(4096).unwrap());
        let kid = claims.kid.to_string();
        let text = jws::compact(jws::signing_input(claims.kid.borrowed(), &msg), &[7; 64]);
        let envelope = OwnedEnvelope { alg: "Ed25519".into(), kid: kid.clone(), msg: msg.clone(), sig: vec![7; 64] };
        for (passport, said) in
            [(OwnedPassport::from(envelope.clone()), envelope.to_json()), (OwnedPassport::Jws(text.clone()), text)]
        {
            assert_eq!((&*passport.kid(), &*passport.payload(), passport.to_text()), (&*kid, &*msg, said));
        }
        let none = OwnedPassport::Jws("eyJ.x.y".into());
        assert_eq!((&*none.kid(), &*none.payload()), ("", &b""[..]));
        assert_eq!((none.clone().into_envelope(), serde_json::to_string(&none).unwrap()), (None, "\"eyJ.x.y\"".into()));
    }
}
