//! Payloads and envelopes.

use passportd::passport::scan::Texts;
use passportd::passport::{
    ClaimsError, Envelope, KidRef, OwnedEnvelope, Text, View, bounds, is_canonical, jwks, parse_jwks, scan,
};
use serde_json::Value;

/// Whether the document is within the bounds of payloads: integers that doubles hold, and the depth.
fn within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Number(number) => {
            number.as_i64().is_some_and(|n| n.unsigned_abs() <= bounds::MAX_INTEGER.unsigned_abs())
        }
        Value::Array(items) => depth <= bounds::MAX_DEPTH && items.iter().all(|item| within(item, depth + 1)),
        Value::Object(members) => depth <= bounds::MAX_DEPTH && members.values().all(|item| within(item, depth + 1)),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// The document as a tree, if it is an object in its own canonical form by serde_json_canonicalizer's word.
pub(super) fn canonical_tree(bytes: &[u8]) -> Option<Value> {
    let value: Value = serde_json::from_slice(bytes).ok().filter(Value::is_object)?;
    let canonical = serde_json_canonicalizer::to_vec(&value).ok()?;
    (canonical == bytes && within(&value, 1)).then_some(value)
}

fn same_text(text: Option<Text<'_>>, value: &Value) -> bool {
    text.map_or(value.is_null(), |text| {
        value.as_str() == Some(&text.decode()) && value.as_str().is_some_and(|s| text == s)
    })
}

fn same_texts(texts: Texts<'_>, value: &Value) -> bool {
    let read: Vec<String> = texts.iter().map(|text| text.decode().into_owned()).collect();
    value
        .as_array()
        .is_some_and(|items| items.iter().map(Value::as_str).eq(read.iter().map(|text| Some(text.as_str()))))
}

/// The scanner and the tree read the same claims.
fn same_claims(view: &View<'_>, tree: &Value) {
    let texts = [
        (Some(view.iss), &tree["iss"]),
        (Some(view.sub), &tree["sub"]),
        (Some(view.jti), &tree["jti"]),
        (view.nonce, &tree["nonce"]),
        (view.par.map(|par| par.jti), &tree["par"]["jti"]),
        (Some(view.template), &tree["cap"]["template"]),
        (view.action, &tree["cap"]["action"]),
    ];
    for (read, value) in texts {
        assert!(same_text(read, value), "{read:?} is not {value}");
    }
    assert!(same_texts(view.aud, &tree["aud"]) && same_texts(view.scopes, &tree["scopes"]));
    let numbers = (tree["iat"].as_i64(), tree["exp"].as_i64(), tree["nbf"].as_i64(), tree["epoch"].as_u64());
    assert_eq!((Some(view.iat), Some(view.exp), view.nbf, Some(view.epoch)), numbers);
    assert_eq!((view.limit, Some(view.kid)), (tree["cap"]["limit"].as_u64(), tree["kid"].as_str()));
    assert_eq!(view.par.map(|par| par.iat), tree["par"]["iat"].as_i64());
    assert_eq!(view.par.map(|par| par.kid), tree["par"]["kid"].as_str());
    assert_eq!(view.cnf_jkt, tree["cnf"]["jkt"].as_str());
    assert_eq!(view.cnf_uid.map(u64::from), tree["cnf"]["uid"].as_u64());
    let ctx = view.ctx.map(|ctx| serde_json::from_str::<Value>(ctx).unwrap());
    assert_eq!(ctx.unwrap_or(Value::Null), tree["ctx"]);
}

/// The one-pass scanner agrees with a tree and its canonical form on every document, reads the same claims, and what it
/// admits is a fixed point of the writer.
pub fn claims(bytes: &[u8]) {
    let tree = canonical_tree(bytes);
    assert_eq!(is_canonical(bytes).is_ok(), tree.is_some(), "{:?}", is_canonical(bytes));
    let view = match scan(bytes) {
        Ok(view) => view,
        Err(refused) => {
            assert!(refused.at as usize <= bytes.len(), "{refused}");
            return;
        }
    };
    same_claims(&view, &tree.expect("what the scanner admits is canonical"));
    assert_eq!(view.takes(), view.limit.is_some() || view.nonce.is_some() || view.cnf_jkt.is_some());
    assert_eq!(view.needs_daemon(), view.takes() || view.cnf_uid.is_some());
    match view.to_claims() {
        Ok(claims) => match claims.canonical(bytes.len()) {
            Ok(written) => assert_eq!(written, bytes),
            // The one rule that is for the verdict and not for the scanner.
            Err(error) => assert_eq!(error, ClaimsError::Lifetime),
        },
        Err(_) => assert!(KidRef::parse(view.kid).is_err()),
    }
}

/// Envelopes and key sets as JSON: what is read is written and read again the same; what opens is what it says.
pub fn envelope(bytes: &[u8]) {
    if let Ok(envelope) = OwnedEnvelope::from_json(bytes) {
        let json = envelope.to_json();
        assert_eq!(OwnedEnvelope::from_json(json.as_bytes()).unwrap(), envelope);
        assert_eq!(OwnedEnvelope::from_json(bytes).unwrap().to_json(), json);
        assert_eq!(serde_json::from_slice::<OwnedEnvelope>(bytes).unwrap(), envelope);
        if let Ok(opened) = envelope.borrowed().open() {
            assert!(matches!(&*envelope.alg, "Ed25519" | "EdDSA"));
            assert_eq!((opened.msg, &opened.sig[..]), (&*envelope.msg, &*envelope.sig));
            assert_eq!((opened.kid.to_string().as_str(), opened.view.kid), (&*envelope.kid, &*envelope.kid));
            assert!(canonical_tree(&envelope.msg).is_some());
        }
    }
    if let Ok(keys) = parse_jwks(bytes) {
        let written = jwks(&keys);
        let mut sorted = keys;
        sorted.sort_unstable();
        assert_eq!(parse_jwks(&written).unwrap(), sorted);
        assert!(canonical_tree(&written).is_some());
    }
    // Straight from the wire, where nothing of JSON stands before the payload.
    let (sig, msg) = bytes.split_at(bytes.len().min(64));
    let tree = canonical_tree(msg);
    let kid = tree.as_ref().and_then(|tree| tree["kid"].as_str()).unwrap_or_default();
    if let Ok(opened) = (Envelope { alg: "EdDSA", kid, msg, sig }).open() {
        assert!(tree.is_some() && opened.view.kid == kid);
    }
}
