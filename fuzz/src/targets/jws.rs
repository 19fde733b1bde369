//! Compact JWS.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use passportd::passport::bounds::MAX_PAYLOAD;
use passportd::passport::jws::{MAX_JWS, compact, signing_input};
use passportd::passport::{Form, Jws, KidRef, Opened, OwnedEnvelope, Room, scan};

use super::passports::canonical_tree;

/// The headers that a passport of this key may have.
pub(super) fn headers(kid: &str) -> [String; 2] {
    ["EdDSA", "Ed25519"].map(|alg| format!(r#"{{"alg":"{alg}","kid":"{kid}","typ":"passport+jwt"}}"#))
}

/// The parts of a text as another decoder reads them.
fn decoded(text: &str) -> Vec<Vec<u8>> {
    text.split('.').map(|part| Base64UrlUnpadded::decode_vec(part).unwrap()).collect()
}

/// What opens is canonical by a JSON tree's word, says one kid, and is the text that is written for it.
fn is_ours(text: &str, opened: &Opened<'_>) {
    let [header, payload, sig] = &decoded(text)[..] else { panic!("not three parts: {text}") };
    assert_eq!((opened.payload, &opened.sig[..]), (&payload[..], &sig[..]));
    assert_eq!(opened.msg, text.rsplit_once('.').unwrap().0.as_bytes());
    let tree = canonical_tree(payload).expect("only canonical payloads are opened");
    let kid = opened.kid.to_string();
    assert_eq!((tree["kid"].as_str(), opened.view.kid), (Some(&*kid), &*kid));
    let ours = headers(&kid);
    assert!(ours.iter().any(|one| one.as_bytes() == header), "{text}");
    assert!(text.len() <= MAX_JWS && Form::of(text.as_bytes()) == Some(Form::Jws(text)));
    let written = compact(signing_input(opened.kid, payload), opened.sig);
    assert_eq!(written == text, ours[0].as_bytes() == header);
}

/// Whether the text opens.
fn opens(text: &str) -> bool {
    let mut buffer = Vec::new();
    let Ok(jws) = Jws::parse(text) else { return false };
    match jws.open(&mut Room::new(&mut buffer, [text])) {
        Ok(opened) => {
            assert_eq!(jws.payload_len(), opened.payload.len());
            is_ours(text, &opened);
            true
        }
        Err(_) => false,
    }
}

/// A text; and a header and a payload, a line each, since a text in base64url is seldom hit by chance: those open that are
/// ours, and no others.
pub fn jws(bytes: &[u8]) {
    match Form::of(bytes) {
        Some(Form::Jws(text)) => drop(opens(text)),
        Some(Form::Envelope(text)) => drop(OwnedEnvelope::from_json(text)),
        None => assert!(!std::str::from_utf8(bytes).is_ok_and(opens)),
    }
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, payload) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let text = [header, payload, &[7; 64]].map(Base64UrlUnpadded::encode_string).join(".");
    let kid = scan(payload).ok().map(|view| view.kid).filter(|kid| KidRef::parse(kid).is_ok());
    let good = kid.is_some_and(|kid| headers(kid).iter().any(|one| one.as_bytes() == header));
    assert_eq!(opens(&text), good && payload.len() <= MAX_PAYLOAD, "{text}");
}
