//! A payload and its signature together: borrowed for the binary wire, owned for JSON.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Serialize};

use super::{
    judge::Refusal,
    kid::KidRef,
    scan::{View, scan},
};

/// The `alg` of the envelopes that this issuer writes (RFC 9864 §2.2).
pub const ALG: &str = "Ed25519";
/// The older, polymorphic name that is accepted beside it, and that JWS have (RFC 8037 §3.1).
pub const ALG_EDDSA: &str = "EdDSA";

/// An envelope, borrowed from wherever it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The algorithm: exactly [`ALG`] or [`ALG_EDDSA`].
    pub alg: &'a str,
    /// The key's name, equal to the one in the payload.
    pub kid: &'a str,
    /// The payload, which is what was signed.
    pub msg: &'a [u8],
    /// The signature, 64 bytes.
    pub sig: &'a [u8],
}

/// An envelope or a compact JWS whose form is right. Nothing is verified yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened<'a> {
    /// The claims.
    pub view: View<'a>,
    /// The key that is said to have signed.
    pub kid: KidRef<'a>,
    /// The payload, of which `view` is a view.
    pub payload: &'a [u8],
    /// The signed bytes: of an envelope the payload, of a JWS the text before its second point.
    pub msg: &'a [u8],
    /// The signature.
    pub sig: &'a [u8; 64],
}

/// Reads a payload and the key that it names, which must be the one that stands beside it, byte for byte.
///
/// # Errors
/// [`Refusal::Malformed`] or [`Refusal::BadKid`].
pub(super) fn read<'a>(payload: &'a [u8], kid: &str) -> Result<(View<'a>, KidRef<'a>), Refusal> {
    let view = scan(payload).map_err(|_| Refusal::Malformed)?;
    if view.kid != kid {
        return Err(Refusal::BadKid);
    }
    let kid = KidRef::parse(view.kid).map_err(|_| Refusal::BadKid)?;
    Ok((view, kid))
}

impl<'a> Envelope<'a> {
    /// Reads what is inside, and checks all that can be without a key: algorithm, length of the signature, payload, and
    /// that the kid beside the payload is the one in it, byte for byte.
    ///
    /// # Errors
    /// [`Refusal::BadAlg`], [`Refusal::Malformed`] or [`Refusal::BadKid`]. Where a payload is malformed,
    /// [`scan`] says how.
    pub fn open(&self) -> Result<Opened<'a>, Refusal> {
        if self.alg != ALG && self.alg != ALG_EDDSA {
            return Err(Refusal::BadAlg);
        }
        let sig = <&[u8; 64]>::try_from(self.sig).map_err(|_| Refusal::Malformed)?;
        let (view, kid) = read(self.msg, self.kid)?;
        Ok(Opened { view, kid, payload: self.msg, msg: self.msg, sig })
    }
}

/// An envelope that owns its parts, with the JSON form `{alg, kid, msg_b64, sig_b64}`. Base64 is base64url without
/// padding and has one spelling only (RFC 4648 §3.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Json", into = "Json")]
pub struct OwnedEnvelope {
    /// The algorithm.
    pub alg: String,
    /// The key's name.
    pub kid: String,
    /// The payload.
    pub msg: Vec<u8>,
    /// The signature.
    pub sig: Vec<u8>,
}

/// Why a text is not an envelope. The one who wrote the text is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not JSON, or not these four members. The message of the JSON reader names line and column.
    #[error("not an envelope {{alg, kid, msg_b64, sig_b64}}: {0}")]
    Json(#[from] serde_json::Error),
    /// A member is not base64url without padding.
    #[error("`{member}` is not base64url: {why}")]
    Base64 {
        /// `msg_b64` or `sig_b64`.
        member: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl OwnedEnvelope {
    /// The borrowed form.
    pub fn borrowed(&self) -> Envelope<'_> {
        Envelope { alg: &self.alg, kid: &self.kid, msg: &self.msg, sig: &self.sig }
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// Says which member is wrong, and how.
    pub fn from_json(json: &[u8]) -> Result<Self, EnvelopeError> {
        serde_json::from_slice::<Json>(json)?.try_into()
    }

    /// Writes the JSON form, on one line.
    pub fn to_json(&self) -> String {
        let json = Json::from(self.clone());
        let mut out = String::new();
        for (member, text) in [
            ("{\"alg\":", &json.alg),
            (",\"kid\":", &json.kid),
            (",\"msg_b64\":", &json.msg_b64),
            (",\"sig_b64\":", &json.sig_b64),
        ] {
            out.push_str(member);
            super::canon::string(&mut out, text);
        }
        out.push('}');
        out
    }
}

/// The members of the JSON form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    alg: String,
    kid: String,
    msg_b64: String,
    sig_b64: String,
}

impl TryFrom<Json> for OwnedEnvelope {
    type Error = EnvelopeError;

    fn try_from(json: Json) -> Result<Self, EnvelopeError> {
        let msg = base64url(&json.msg_b64).map_err(|why| EnvelopeError::Base64 { member: "msg_b64", why })?;
        let sig = base64url(&json.sig_b64).map_err(|why| EnvelopeError::Base64 { member: "sig_b64", why })?;
        Ok(Self { alg: json.alg, kid: json.kid, msg, sig })
    }
}

impl From<OwnedEnvelope> for Json {
    fn from(envelope: OwnedEnvelope) -> Self {
        Self {
            alg: envelope.alg,
            kid: envelope.kid,
            msg_b64: Base64UrlUnpadded::encode_string(&envelope.msg),
            sig_b64: Base64UrlUnpadded::encode_string(&envelope.sig),
        }
    }
}

/// Decodes base64url that has no padding, no white space and no spare bits; says what is wrong otherwise.
pub(super) fn base64url(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.contains('=') {
        return Err("padding (=) is not allowed");
    }
    if text.contains(['+', '/']) {
        return Err("this is standard base64; write - for + and _ for /");
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err("only A-Z a-z 0-9 - _ are allowed, no white space");
    }
    // All characters are right, so what is left is a lone last character or bits that encode nothing.
    Base64UrlUnpadded::decode_vec(text)
        .map_err(|_| "it was cut off, or its last character holds bits that must be zero")
}

#[cfg(test)]
mod tests {
    use super::{super::claims::tests as samples, *};

    const KID: &str = "ed25519/t1.host7/auth/v3";

    fn envelope() -> OwnedEnvelope {
        let msg = samples::full().canonical(4096).unwrap();
        OwnedEnvelope { alg: ALG.into(), kid: KID.into(), msg, sig: vec![7; 64] }
    }

    #[test]
    fn an_envelope_opens_to_what_was_put_in() {
        let envelope = envelope();
        let opened = envelope.borrowed().open().unwrap();
        assert_eq!(opened.view.to_claims().unwrap(), samples::full());
        assert_eq!((opened.kid.to_string(), opened.msg, opened.sig), (KID.into(), envelope.msg.as_slice(), &[7; 64]));
        assert!(Envelope { alg: "EdDSA", ..envelope.borrowed() }.open().is_ok());
    }

    #[test]
    fn exactly_two_algorithms_are_accepted() {
        let envelope = envelope();
        for alg in ["", "none", "ed25519", "eddsa", "ED25519", "Ed25519 ", "Ed448", "ES256", "HS256", "Ed25519ph"] {
            assert_eq!(Envelope { alg, ..envelope.borrowed() }.open(), Err(Refusal::BadAlg), "{alg:?}");
        }
    }

    #[test]
    fn the_kid_outside_must_be_the_kid_inside() {
        let envelope = envelope();
        for kid in ["", "ed25519/t1.host7/auth/v4", "ed25519/t1.host7/auth/v30", "ed25519/t1.host7/auth/v03"] {
            assert_eq!(Envelope { kid, ..envelope.borrowed() }.open(), Err(Refusal::BadKid), "{kid:?}");
        }
        // The same on both sides, and still not a kid.
        let msg = String::from_utf8(envelope.msg.clone()).unwrap().replace("/v3", "/v03");
        let both = Envelope { kid: "ed25519/t1.host7/auth/v03", msg: msg.as_bytes(), ..envelope.borrowed() };
        assert_eq!(both.open(), Err(Refusal::BadKid));
    }

    #[test]
    fn a_wrong_signature_length_or_payload_is_malformed() {
        let envelope = envelope();
        for length in [0, 63, 65, 128] {
            let sig = vec![7; length];
            assert_eq!(Envelope { sig: &sig, ..envelope.borrowed() }.open(), Err(Refusal::Malformed));
        }
        assert_eq!(Envelope { msg: b"{}", ..envelope.borrowed() }.open(), Err(Refusal::Malformed));
    }

    #[test]
    fn json_there_and_back() {
        let envelope = envelope();
        let json = envelope.to_json();
        assert!(json.starts_with(r#"{"alg":"Ed25519","kid":"ed25519/t1.host7/auth/v3","msg_b64":"eyJ"#), "{json}");
        assert_eq!(OwnedEnvelope::from_json(json.as_bytes()).unwrap(), envelope);
        assert_eq!(serde_json::to_string(&envelope).unwrap(), json);
        assert_eq!(serde_json::from_str::<OwnedEnvelope>(&json).unwrap(), envelope);
    }

    #[test]
    fn wrong_json_says_what_is_wrong() {
        let with = |msg: &str, rest: &str| {
            let json = format!(r#"{{"alg":"Ed25519","kid":"k","msg_b64":"{msg}","sig_b64":"AAAA"{rest}}}"#);
            OwnedEnvelope::from_json(json.as_bytes()).map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(with("-_8", ""), Ok(()));
        for (msg, rest, words) in [
            ("AA==", "", "`msg_b64` is not base64url: padding (=) is not allowed"),
            ("A+/A", "", "write - for + and _ for /"),
            ("AA AA", "", "no white space"),
            ("AAAA\\n", "", "no white space"),
            ("AB", "", "bits that must be zero"),
            ("AAAAA", "", "it was cut off"),
            ("AAAA", r#","extra":1"#, "unknown field `extra`"),
            ("AAAA", r#","kid":"k""#, "duplicate field `kid`"),
            ("AAAA", ",", "line 1 column"),
        ] {
            let error = with(msg, rest).unwrap_err();
            assert!(error.contains(words), "{error:?} should contain {words:?}");
        }
        let error = OwnedEnvelope::from_json(br#"{"alg":"Ed25519"}"#).unwrap_err().to_string();
        assert!(error.contains("missing field `kid`"), "{error}");
    }
}
