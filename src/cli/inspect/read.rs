//! Takes a passport apart. Lenient on purpose: as much as possible of a wrong passport is shown, with what is wrong.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::cli::error::CliError;
use crate::passport::OwnedEnvelope;

/// How a passport is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `{alg, kid, msg_b64, sig_b64}`.
    Envelope,
    /// `header.payload.signature` (RFC 7515 §7.1).
    Jws,
}

impl Form {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Envelope => "envelope",
            Self::Jws => "compact JWS",
        }
    }
}

/// The parts of a passport, none of them trusted.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) form: Form,
    /// What stands beside the payload: `alg` and `kid`, and of a JWS whatever else its header holds.
    pub(super) header: Value,
    /// The signed bytes.
    pub(super) payload: Vec<u8>,
    /// The payload as JSON.
    pub(super) claims: Value,
    pub(super) signature: Vec<u8>,
    /// What is wrong with the way that it is written.
    pub(super) wrong: Vec<String>,
}

/// Reads an envelope, bare or as the `passport` of an item, or a compact JWS.
pub(super) fn read(from: &str, bytes: &[u8]) -> Result<Found, CliError> {
    let bytes = bytes.trim_ascii();
    match bytes.first() {
        None => Err(CliError::input(from, "it is empty; expected an envelope or a compact JWS")),
        Some(b'{' | b'[' | b'"') => {
            let value =
                serde_json::from_slice(bytes).map_err(|error| CliError::input(from, format!("not JSON: {error}")))?;
            document(from, bytes, value)
        }
        Some(_) => match std::str::from_utf8(bytes) {
            Ok(text) => jws(from, text),
            Err(_) => Err(CliError::input(from, "neither JSON nor a compact JWS")),
        },
    }
}

fn document(from: &str, bytes: &[u8], value: Value) -> Result<Found, CliError> {
    match value {
        Value::String(text) => jws(from, &text),
        Value::Object(mut members) if members.len() == 1 && members.contains_key("passport") => {
            match members.remove("passport") {
                Some(Value::String(text)) => jws(from, &text),
                Some(Value::Object(members)) => {
                    let strict = serde_json::from_slice::<Item>(bytes).err().map(|error| error.to_string());
                    envelope(from, strict, &members)
                }
                _ => Err(CliError::input(from, "`passport` must be an envelope or a compact JWS")),
            }
        }
        Value::Object(members) if members.contains_key("items") => Err(batch(from)),
        Value::Object(members) => {
            let strict = OwnedEnvelope::from_json(bytes).err().map(|error| error.to_string());
            envelope(from, strict, &members)
        }
        _ => Err(batch(from)),
    }
}

fn batch(from: &str) -> CliError {
    CliError::input(from, "a batch; inspect one of its passports, as in `jq '.items[0].passport'`")
}

/// An item of a batch, as the strict reader takes it.
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "passport")]
    _passport: OwnedEnvelope,
}

/// `strict` is what the strict reader has to say: it sees what a tree of values hides, as a member that stands twice.
fn envelope(from: &str, strict: Option<String>, members: &Map<String, Value>) -> Result<Found, CliError> {
    let mut wrong: Vec<_> = strict.into_iter().collect();
    let part = |name: &str| match members.get(name) {
        Some(Value::String(text)) => decoded(from, name, text, &mut Vec::new()),
        Some(_) => Err(CliError::input(from, format!("`{name}` must be a string"))),
        None => {
            let what = "expected an envelope {alg, kid, msg_b64, sig_b64}";
            Err(CliError::input(from, format!("`{name}` is missing; {what}")))
        }
    };
    let (payload, signature) = (part("msg_b64")?, part("sig_b64")?);
    let header = members.iter().filter(|(name, _)| !["msg_b64", "sig_b64"].contains(&name.as_str()));
    let header = Value::Object(header.map(|(name, value)| (name.clone(), value.clone())).collect());
    let claims = object(from, "the payload (msg_b64)", &payload, &mut wrong)?;
    Ok(Found { form: Form::Envelope, header, payload, claims, signature, wrong })
}

fn jws(from: &str, text: &str) -> Result<Found, CliError> {
    let parts: Vec<_> = text.split('.').collect();
    let [header, payload, signature] = parts.as_slice() else {
        let what = "neither a JSON envelope nor a compact JWS, which has 3 parts separated by dots";
        return Err(CliError::input(from, format!("{what}; this has {}", parts.len())));
    };
    let mut wrong = Vec::new();
    let header = decoded(from, "the header", header, &mut wrong)?;
    let header = object(from, "the header", &header, &mut wrong)?;
    let payload = decoded(from, "the payload", payload, &mut wrong)?;
    let claims = object(from, "the payload", &payload, &mut wrong)?;
    let signature = decoded(from, "the signature", signature, &mut wrong)?;
    Ok(Found { form: Form::Jws, header, payload, claims, signature, wrong })
}

/// Base64 in any of its spellings; which is wrong unless it is base64url without padding.
fn decoded(from: &str, part: &str, text: &str, wrong: &mut Vec<String>) -> Result<Vec<u8>, CliError> {
    let plain: String = text
        .trim_end_matches('=')
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| match c {
            '+' => '-',
            '/' => '_',
            c => c,
        })
        .collect();
    if plain != text {
        wrong.push(format!("{part} is not base64url without padding (RFC 4648 §5)"));
    }
    Base64UrlUnpadded::decode_vec(&plain).map_err(|_| {
        CliError::input(
            from,
            format!("{part} is not base64url: a wrong character, cut off, or spare bits that are set"),
        )
    })
}

fn object(from: &str, part: &str, bytes: &[u8], wrong: &mut Vec<String>) -> Result<Value, CliError> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(value) => {
            wrong.push(format!("{part} is no JSON object"));
            Ok(value)
        }
        Err(error) => Err(CliError::input(from, format!("{part} is not JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn b64(bytes: &[u8]) -> String {
        Base64UrlUnpadded::encode_string(bytes)
    }

    fn said(text: &str) -> String {
        read("stdin", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_way_to_write_one() {
        let (msg, sig) = (b64(br#"{"sub":"a"}"#), b64(&[1; 64]));
        let envelope = format!(r#"{{"alg":"Ed25519","kid":"k","msg_b64":"{msg}","sig_b64":"{sig}"}}"#);
        let jws = format!("{}.{msg}.{sig}", b64(br#"{"alg":"EdDSA"}"#));
        for text in [envelope.clone(), format!(" {{\"passport\":{envelope}}}\n")] {
            let found = read("stdin", text.as_bytes()).unwrap();
            assert_eq!((found.form, &found.header), (Form::Envelope, &json!({"alg": "Ed25519", "kid": "k"})));
            assert_eq!((&found.claims, found.signature.len(), &found.wrong[..]), (&json!({"sub": "a"}), 64, &[][..]));
        }
        for text in [format!("{jws}\n"), format!("\"{jws}\""), format!("{{\"passport\":\"{jws}\"}}")] {
            let found = read("stdin", text.as_bytes()).unwrap();
            assert_eq!((found.form, &found.header), (Form::Jws, &json!({"alg": "EdDSA"})));
            assert_eq!(found.claims, json!({"sub": "a"}));
        }
    }

    #[test]
    fn what_is_spelt_wrong_is_shown_and_named() {
        let text = r#"{"alg":"a","alg":"none","more":1,"msg_b64":"e30=","sig_b64":""}"#;
        let found = read("stdin", text.as_bytes()).unwrap();
        assert_eq!((found.payload.as_slice(), &found.header["alg"]), (&b"{}"[..], &json!("none")));
        assert!(found.wrong[0].contains("duplicate field `alg`"), "{:?}", found.wrong);
        let padded = read("stdin", b"e30=.e30.").unwrap();
        assert_eq!(padded.wrong, ["the header is not base64url without padding (RFC 4648 §5)"]);
    }

    #[test]
    fn a_member_that_stands_twice_is_seen_at_both_depths() {
        let twice = r#"{"alg":"a","alg":"b","kid":"k","msg_b64":"e30","sig_b64":""}"#;
        for text in [twice.to_owned(), format!("{{\"passport\":{twice}}}")] {
            let found = read("stdin", text.as_bytes()).unwrap();
            assert!(found.wrong[0].contains("duplicate field `alg`"), "{:?}", found.wrong);
        }
    }

    #[test]
    fn what_can_not_be_read_is_said() {
        for (text, words) in [
            (" \n", "stdin: it is empty"),
            ("[]", "a batch; inspect one"),
            (r#"{"items":[]}"#, "a batch; inspect one"),
            ("{", "not JSON: EOF"),
            ("a.b", "3 parts separated by dots; this has 2"),
            ("!.e30.", "the header is not base64url"),
            ("e30.YQ.", "the payload is not JSON"),
            (r#"{"alg":"x"}"#, "`msg_b64` is missing"),
            (r#"{"msg_b64":7}"#, "`msg_b64` must be a string"),
            (r#"{"passport":7}"#, "`passport` must be an envelope"),
        ] {
            assert!(said(text).contains(words), "{text}: {}", said(text));
        }
        assert!(read("stdin", &[0xff]).is_err());
    }
}
