//! Passports as compact JWS (RFC 7515 §7.1), the form that JOSE libraries of other hands verify.
//!
//! A text is read if it is one that this issuer writes, and no other: the header is exactly
//! `{"alg":"EdDSA","kid":…,"typ":"passport+jwt"}` in these bytes, but for `alg`, which may be `Ed25519` (RFC 9864 §2.2),
//! and base64url has its one spelling. Members in another order, twice, or beside these three are refused; so there is
//! no `crit` to understand, no key or address of one (`jwk`, `jku`, `x5u`, `x5c`) to be tempted by, no `b64` (RFC 7797),
//! and of each decoded JWS there is one text. No other issuer is read, so none needs another header.

use base64ct::{Base64UrlUnpadded, Encoding as _};

use super::{
    base64url::{self, decoded_len, encoded_len},
    bounds::MAX_PAYLOAD,
    envelope::{ALG, ALG_EDDSA, Opened, read},
    judge::Refusal,
    kid::KidRef,
};

/// What each JWS, and each input to its signature, begins with: base64url of `{"` and the first bits of a name. A payload
/// begins with `{`, so no bytes are both.
pub const OPENING: &str = "eyJ";
/// The longest header, in bytes: that of the longest kid and the longer name of the algorithm.
const MAX_HEADER: usize = 171;
/// The longest JWS, in bytes: with the longest header and the largest payload.
pub const MAX_JWS: usize = 22_162;
/// Bytes of a signature.
const SIG: usize = 64;

/// The header around its two values.
const BEFORE_ALG: &str = r#"{"alg":""#;
const BEFORE_KID: &str = r#","kid":""#;
const AFTER_KID: &str = r#","typ":"passport+jwt"}"#;

/// Decodes base64url into exactly `room`.
fn decode(text: &str, room: &mut [u8]) -> Result<(), Refusal> {
    if base64url::decode(text.as_bytes(), room) { Ok(()) } else { Err(Refusal::Malformed) }
}

/// What is signed for a passport with this payload: header and payload in base64url, with a point between them
/// (RFC 7515 §5.1). The kid must be the payload's.
///
/// `alg` is `EdDSA` (RFC 8037 §3.1), since `Ed25519` is newer than many of the libraries that are to verify it.
pub fn signing_input(kid: KidRef<'_>, payload: &[u8]) -> String {
    let header = format!("{BEFORE_ALG}{ALG_EDDSA}\"{BEFORE_KID}{kid}\"{AFTER_KID}");
    let mut input = Base64UrlUnpadded::encode_string(header.as_bytes());
    input.push('.');
    input.push_str(&Base64UrlUnpadded::encode_string(payload));
    input
}

/// The JWS of what was signed and its signature.
pub fn compact(mut input: String, sig: &[u8; SIG]) -> String {
    input.push('.');
    input.push_str(&Base64UrlUnpadded::encode_string(sig));
    input
}

/// The payload in bytes that might be an input to a signature: what follows the first point, at most
/// [`MAX_PAYLOAD`] bytes. Whether they are one is for the caller to say, who writes them anew with [`signing_input`].
pub fn payload_of(input: &[u8]) -> Option<Vec<u8>> {
    let (_, payload) = std::str::from_utf8(input).ok()?.split_once('.')?;
    let length = Some(payload.len()).filter(|length| *length <= encoded_len(MAX_PAYLOAD))?;
    let mut room = vec![0; decoded_len(length)];
    decode(payload, &mut room).ok()?;
    Some(room)
}

/// Reads a header and gives its kid.
///
/// # Errors
/// [`Refusal::BadAlg`] or [`Refusal::Malformed`].
fn read_header(header: &[u8]) -> Result<&str, Refusal> {
    let (alg, rest) = std::str::from_utf8(header)
        .ok()
        .and_then(|header| header.strip_prefix(BEFORE_ALG)?.split_once('"'))
        .ok_or(Refusal::Malformed)?;
    if alg != ALG_EDDSA && alg != ALG {
        return Err(Refusal::BadAlg);
    }
    match rest.strip_prefix(BEFORE_KID).and_then(|rest| rest.split_once('"')) {
        Some((kid, AFTER_KID)) => Ok(kid),
        _ => Err(Refusal::Malformed),
    }
}

/// A text in three parts of possible lengths. Nothing is decoded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jws<'a> {
    /// Header and payload, with the point between them.
    input: &'a str,
    header: &'a str,
    payload: &'a str,
    sig: &'a str,
}

impl<'a> Jws<'a> {
    /// Takes a text apart.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]: not three parts, or one of them is too long.
    pub fn parse(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > MAX_JWS {
            return Err(Refusal::Malformed);
        }
        // A fourth part would be in the payload, where a point is no character of base64url.
        let (input, sig) = text.rsplit_once('.').ok_or(Refusal::Malformed)?;
        let (header, payload) = input.split_once('.').ok_or(Refusal::Malformed)?;
        let fits = header.len() <= encoded_len(MAX_HEADER) && payload.len() <= encoded_len(MAX_PAYLOAD);
        if fits { Ok(Self { input, header, payload, sig }) } else { Err(Refusal::Malformed) }
    }

    /// The length of the payload in bytes, for whoever has a lower limit than [`MAX_PAYLOAD`].
    pub const fn payload_len(&self) -> usize {
        decoded_len(self.payload.len())
    }

    /// The kid that the header of a text names, for whoever looks at nothing else.
    pub fn kid(text: &str) -> Option<String> {
        let parsed = Jws::parse(text).ok()?;
        let mut header = [0; MAX_HEADER];
        let header = header.get_mut(..decoded_len(parsed.header.len()))?;
        decode(parsed.header, header).ok()?;
        read_header(header).ok().map(str::to_owned)
    }

    /// What was signed.
    pub const fn input(&self) -> &'a str {
        self.input
    }

    /// Reads what is inside, and checks all that can be without a key: header, base64url, payload, and that the kid of
    /// the header is the one in the payload. The payload and the signature are put into `room`; in a room that was made
    /// without this text they may not fit, and it is refused.
    ///
    /// # Errors
    /// [`Refusal::BadAlg`], [`Refusal::Malformed`] or [`Refusal::BadKid`].
    pub fn open(&self, room: &mut Room<'a>) -> Result<Opened<'a>, Refusal> {
        let mut header = [0; MAX_HEADER];
        let header = header.get_mut(..decoded_len(self.header.len())).ok_or(Refusal::Malformed)?;
        decode(self.header, header)?;
        let beside = read_header(header)?;
        let sig = room.decode(self.sig)?.try_into().map_err(|_| Refusal::Malformed)?;
        let payload = room.decode(self.payload)?;
        let (view, kid) = read(payload, beside)?;
        Ok(Opened { view, kid, payload, msg: self.input.as_bytes(), sig })
    }
}

/// Memory that several JWS are decoded into, one behind the other, so that they can be verified together. It is the
/// caller's, who can use it again for the next ones.
#[derive(Debug)]
pub struct Room<'a> {
    free: &'a mut [u8],
}

impl<'a> Room<'a> {
    /// Room for these texts in `buffer`, which grows if it is too small; what is in it does not matter.
    pub fn new<'t>(buffer: &'a mut Vec<u8>, texts: impl IntoIterator<Item = &'t str>) -> Self {
        // Three quarters of a text are more than its payload and its signature. One that is too long is never decoded.
        let need = |text: &str| if text.len() > MAX_JWS { 0 } else { text.len() * 3 / 4 };
        let need = texts.into_iter().map(need).sum();
        if buffer.len() < need {
            buffer.resize(need, 0);
        }
        Self { free: buffer }
    }

    /// Decodes into the next free bytes.
    fn decode(&mut self, text: &str) -> Result<&'a [u8], Refusal> {
        let taken = self.free.split_off_mut(..decoded_len(text.len())).ok_or(Refusal::Malformed)?;
        decode(text, taken)?;
        Ok(taken)
    }
}

/// A text that somebody calls a passport, by how it begins. Whether it is one, [`OwnedEnvelope::from_json`] or
/// [`Jws::parse`] says.
///
/// [`OwnedEnvelope::from_json`]: super::OwnedEnvelope::from_json
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form<'a> {
    /// An envelope as JSON.
    Envelope(&'a [u8]),
    /// A compact JWS.
    Jws(&'a str),
}

impl<'a> Form<'a> {
    /// Which of the two it is, if any, without the white space around it: where there is a file or a line, it is not the
    /// text's own.
    pub fn of(text: &'a [u8]) -> Option<Self> {
        let text = text.trim_ascii();
        if text.starts_with(b"{") {
            return Some(Self::Envelope(text));
        }
        std::str::from_utf8(text).ok().filter(|text| text.starts_with(OPENING)).map(Self::Jws)
    }
}

#[cfg(test)]
mod tests;
