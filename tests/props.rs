//! Properties of passports, by the thousand. `PASSPORTD_ROUNDS` scales how many: 20 if it is not set.
#![cfg(test)]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use passportd::passport::jws::{compact, signing_input};
use passportd::passport::{
    Cap, Claims, Envelope, Jwk, Jws, Kid, KidRef, OwnedEnvelope, Parent, Room, bounds, is_canonical, jwks, parse_jwks,
    scan,
};
use proptest::{collection::vec, prelude::*};
use serde_json::{Map, Value};

/// How many cases each property is tried with.
fn config() -> ProptestConfig {
    let rounds: u32 = std::env::var("PASSPORTD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    ProptestConfig { cases: rounds.saturating_mul(50), failure_persistence: None, ..ProptestConfig::default() }
}

/// Characters around every rule: escapes, controls, both sides of the surrogates, and plain ones.
fn any_char() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => proptest::char::range('a', 'f'),
        1 => proptest::char::range('\0', '"'),
        1 => prop::sample::select(vec!['\\', '/', '\u{7f}', '\u{85}', 'é', '€', '\u{2028}', '\u{d7ff}', '\u{e000}', '\u{ff01}', '\u{ffff}', '\u{10000}', '😂', '\u{10ffff}']),
        1 => any::<char>(),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    vec(any_char(), 0..6).prop_map(String::from_iter)
}

fn any_number() -> impl Strategy<Value = Value> {
    let edge = prop::sample::select(vec![
        0,
        1,
        -1,
        bounds::MAX_INTEGER,
        bounds::MAX_INTEGER + 1,
        -bounds::MAX_INTEGER,
        i64::MIN,
        i64::MAX,
    ]);
    prop_oneof![
        any::<i32>().prop_map(Value::from),
        edge.prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-1000i16..1000).prop_map(|whole| Value::from(f64::from(whole) / 4.0)),
    ]
}

/// Any JSON, nested up to `depth` levels.
fn any_json(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any_number(),
        3 => (-9i8..10).prop_map(Value::from),
        3 => any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((any_text(), inner), 0..4).prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
}

fn any_object(depth: u32) -> impl Strategy<Value = Map<String, Value>> {
    vec((any_text(), any_json(depth)), 0..5).prop_map(Map::from_iter)
}

/// Whether the document is within our bounds: integers that doubles hold, and the depth.
fn within(value: &Value, depth: usize) -> bool {
    let deeper = |value| within(value, depth + 1);
    match value {
        Value::Number(number) => {
            number.as_i64().is_some_and(|n| n.unsigned_abs() <= bounds::MAX_INTEGER.unsigned_abs())
        }
        Value::Array(items) => depth <= bounds::MAX_DEPTH && items.iter().all(deeper),
        Value::Object(members) => depth <= bounds::MAX_DEPTH && members.values().all(deeper),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// What the scanner should say, by way of a tree and serde_json_canonicalizer.
fn should_be_canonical(bytes: &[u8]) -> bool {
    let Ok(value @ Value::Object(_)) = serde_json::from_slice::<Value>(bytes) else { return false };
    within(&value, 1) && serde_json_canonicalizer::to_vec(&value).is_ok_and(|canonical| canonical == bytes)
}

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Edit {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    edits_with(b"{}[]\",:\\ -+.0123456789eEtfnu\n\x7f")
}

/// Edits that mostly put these bytes somewhere.
fn edits_with(bytes: &[u8]) -> impl Strategy<Value = Vec<Edit>> {
    let byte = prop_oneof![3 => prop::sample::select(bytes.to_vec()), 1 => any::<u8>()];
    let place = any::<prop::sample::Index>;
    vec(
        prop_oneof![
            (place(), byte.clone()).prop_map(|(at, byte)| Edit::Set(at, byte)),
            (place(), byte).prop_map(|(at, byte)| Edit::Insert(at, byte)),
            place().prop_map(Edit::Delete),
            (place(), place()).prop_map(|(a, b)| Edit::Swap(a, b)),
        ],
        1..4,
    )
}

fn edited(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        match edit {
            Edit::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Edit::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Edit::Delete(at) => drop(bytes.remove(at.index(bytes.len()))),
            Edit::Swap(a, b) => {
                let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
                bytes.swap(a, b);
            }
        }
    }
    bytes
}

/// An identifier: control characters are replaced, for filtering them out would exhaust the generator in long runs.
fn identifier() -> impl Strategy<Value = String> {
    let printable = any_char().prop_map(|c| if c.is_control() { '"' } else { c });
    vec(printable, 1..8).prop_map(String::from_iter)
}

/// The value with every number that we don't have replaced by 0.
fn tamed(value: Value) -> Value {
    match value {
        Value::Number(_) if !within(&value, 1) => Value::from(0),
        Value::Array(items) => items.into_iter().map(tamed).collect(),
        Value::Object(members) => Value::from(tamed_object(members)),
        other => other,
    }
}

fn tamed_object(members: Map<String, Value>) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name, tamed(value))).collect()
}

/// An object that `ctx` may hold: no floats, and shallow enough.
fn any_ctx() -> impl Strategy<Value = Map<String, Value>> {
    any_object(4).prop_map(tamed_object)
}

fn any_claims() -> impl Strategy<Value = Claims> {
    let names = (identifier(), identifier(), identifier(), identifier());
    let lists = (vec(identifier(), 0..4), vec(identifier(), 0..5));
    let times = (0i64..1 << 40, 1i64..100_000, prop::option::of(0i64..100_000));
    let options = (
        prop::option::of(identifier()),
        prop::option::of(any_ctx()),
        prop::option::of(identifier()),
        prop::option::of(1u64..1 << 53),
        prop::option::of(Just("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k".to_owned())),
        prop::option::of(identifier()),
        prop::option::of(0..u32::MAX),
    );
    let key = ("[a-z0-9-]{1,32}(\\.[a-z0-9-]{1,32})?", "[a-z0-9-]{1,32}", 1u64..1 << 53, 0u64..1 << 53);
    (names, lists, times, options, key).prop_map(|(names, lists, (iat, ttl, nbf), options, key)| {
        let (tenant, purpose, version, epoch) = key;
        Claims {
            iss: names.0,
            sub: names.1,
            aud: lists.0,
            iat,
            exp: iat + ttl,
            nbf: nbf.map(|offset| iat + offset % ttl),
            jti: names.2,
            scopes: lists.1,
            nonce: options.0,
            ctx: options.1,
            kid: Kid::new(&tenant, &purpose, version).unwrap(),
            epoch,
            cap: Cap { template: names.3, action: options.2, limit: options.3 },
            cnf_jkt: options.4,
            cnf_uid: options.6,
            par: options.5.map(|jti| {
                let kid = Kid::new(&tenant, &purpose, version.saturating_sub(1).max(1)).unwrap();
                Parent { iat, jti, kid }
            }),
        }
    })
}

/// A public key, and what may be said of it.
fn any_key() -> impl Strategy<Value = ([u8; 32], Option<bool>, Option<i64>)> {
    (any::<[u8; 32]>(), any::<Option<bool>>(), prop::option::of(0..=bounds::MAX_INTEGER))
}

/// The claims as a tree, built member by member as §6 of the design lists them.
fn tree(claims: &Claims) -> Value {
    let mut cap = serde_json::json!({"template": claims.cap.template});
    let mut payload = serde_json::json!({
        "iss": claims.iss, "sub": claims.sub, "aud": claims.aud, "iat": claims.iat, "exp": claims.exp,
        "jti": claims.jti, "scopes": claims.scopes, "kid": claims.kid.to_string(), "epoch": claims.epoch,
    });
    let put = |object: &mut Value, member: &str, value: Option<Value>| {
        if let Some(value) = value {
            object[member] = value;
        }
    };
    put(&mut cap, "action", claims.cap.action.clone().map(Value::from));
    put(&mut cap, "limit", claims.cap.limit.map(Value::from));
    put(&mut payload, "nbf", claims.nbf.map(Value::from));
    put(&mut payload, "nonce", claims.nonce.clone().map(Value::from));
    put(&mut payload, "ctx", claims.ctx.clone().map(Value::from));
    let mut cnf = serde_json::json!({});
    put(&mut cnf, "jkt", claims.cnf_jkt.clone().map(Value::from));
    put(&mut cnf, "uid", claims.cnf_uid.map(Value::from));
    put(&mut payload, "cnf", cnf.as_object().is_some_and(|cnf| !cnf.is_empty()).then_some(cnf));
    let par = claims.par.as_ref();
    let par = par.map(|par| serde_json::json!({"iat": par.iat, "jti": par.jti, "kid": par.kid.to_string()}));
    put(&mut payload, "par", par);
    put(&mut payload, "cap", Some(cap));
    payload
}

/// What holds of any bytes that the scanner admits: they are canonical, and what was read writes the same bytes.
fn admitted_bytes_are_a_fixed_point(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(view) = scan(bytes) else { return Ok(()) };
    prop_assert!(should_be_canonical(bytes));
    let Ok(claims) = view.to_claims() else {
        prop_assert!(KidRef::parse(view.kid).is_err());
        return Ok(());
    };
    match claims.canonical(bytes.len()) {
        Ok(written) => prop_assert_eq!(written, bytes),
        // The one rule that is for the verdict and not for the scanner.
        Err(error) => prop_assert_eq!(error, passportd::passport::ClaimsError::Lifetime),
    }
    Ok(())
}

/// What a text says as compact JWS, if it is one: claims, payload and signature.
fn opened(text: &str) -> Option<(Claims, Vec<u8>, [u8; 64])> {
    let mut buffer = Vec::new();
    let opened = Jws::parse(text).ok()?.open(&mut Room::new(&mut buffer, [text])).ok()?;
    assert_eq!(opened.msg, text.rsplit_once('.').unwrap().0.as_bytes());
    Some((opened.view.to_claims().unwrap(), opened.payload.to_vec(), *opened.sig))
}

/// What holds of any text that opens: it is the one that is written for what was read, with one of the two algorithms.
fn a_jws_that_opens_is_the_one_that_is_written(text: &str) -> Result<(), TestCaseError> {
    let Some((claims, payload, sig)) = opened(text) else { return Ok(()) };
    prop_assert!(should_be_canonical(&payload));
    let ours = compact(signing_input(claims.kid.borrowed(), &payload), &sig);
    let (_, rest) = ours.split_once('.').unwrap();
    let header = format!(r#"{{"alg":"Ed25519","kid":"{}","typ":"passport+jwt"}}"#, claims.kid);
    let other = format!("{}.{rest}", Base64UrlUnpadded::encode_string(header.as_bytes()));
    prop_assert!(text == ours || text == other, "{text}");
    Ok(())
}

/// What another implementation makes of a JWS, with nothing but our key set.
fn by_jsonwebtoken(text: &str, keys: &[u8]) -> Option<Value> {
    let keys: JwkSet = serde_json::from_slice(keys).unwrap();
    let mut validation = Validation::new(Algorithm::EdDSA);
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation.required_spec_claims.clear();
    let kid = jsonwebtoken::decode_header(text).ok()?.kid?;
    let key = DecodingKey::from_jwk(keys.find(&kid)?).unwrap();
    jsonwebtoken::decode(text, &key, &validation).ok().map(|read| read.claims)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_scanner_agrees_on_every_canonical_form(object in any_object(6)) {
        let canonical = serde_json_canonicalizer::to_vec(&object).unwrap();
        prop_assert_eq!(is_canonical(&canonical).is_ok(), should_be_canonical(&canonical));
    }

    #[test]
    fn the_scanner_agrees_on_other_spellings(object in any_object(4)) {
        for bytes in [serde_json::to_vec(&object).unwrap(), serde_json::to_vec_pretty(&object).unwrap()] {
            prop_assert_eq!(is_canonical(&bytes).is_ok(), should_be_canonical(&bytes));
        }
    }

    #[test]
    fn the_scanner_agrees_on_edited_documents(object in any_object(3), edits in edits()) {
        let bytes = edited(serde_json_canonicalizer::to_vec(&object).unwrap(), &edits);
        prop_assert_eq!(is_canonical(&bytes).is_ok(), should_be_canonical(&bytes), "{:?}", String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn claims_are_written_canonically_and_read_back(claims in any_claims()) {
        let bytes = claims.canonical(1 << 16).unwrap();
        prop_assert_eq!(&bytes, &serde_json_canonicalizer::to_vec(&tree(&claims)).unwrap());
        prop_assert_eq!(scan(&bytes).unwrap().to_claims().unwrap(), claims);
    }

    #[test]
    fn edited_payloads_are_refused_or_a_fixed_point(claims in any_claims(), edits in edits()) {
        admitted_bytes_are_a_fixed_point(&edited(claims.canonical(1 << 16).unwrap(), &edits))?;
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), text in any_text()) {
        admitted_bytes_are_a_fixed_point(&bytes)?;
        prop_assert_eq!(is_canonical(&bytes).is_ok(), should_be_canonical(&bytes));
        prop_assert!(OwnedEnvelope::from_json(&bytes).is_err());
        prop_assert!(parse_jwks(&bytes).is_err());
        let envelope = Envelope { alg: "EdDSA", kid: &text, msg: &bytes, sig: &bytes };
        prop_assert!(envelope.open().is_err());
        prop_assert_eq!(opened(&text), None);
    }

    #[test]
    fn a_jws_says_its_claims_and_no_other_text_says_them(
        claims in any_claims(), sig in vec(any::<u8>(), 64), edits in edits_with(b"AEQYZaghwz0189-_.=+/ \n"),
    ) {
        let payload = claims.canonical(1 << 16).unwrap();
        let sig: [u8; 64] = sig.try_into().unwrap();
        let text = compact(signing_input(claims.kid.borrowed(), &payload), &sig);
        prop_assert_eq!(opened(&text), Some((claims, payload, sig)));
        a_jws_that_opens_is_the_one_that_is_written(&text)?;
        if let Ok(edited) = String::from_utf8(edited(text.clone().into_bytes(), &edits)) {
            a_jws_that_opens_is_the_one_that_is_written(&edited)?;
            prop_assert!(edited == text || opened(&edited) != opened(&text), "{}", edited);
        }
    }

    #[test]
    fn another_implementation_reads_our_jws_and_refuses_what_we_refuse(
        claims in any_claims(), edits in edits_with(b"AEQYZaghwz0189-_."),
    ) {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let key = Jwk { current: Some(true), created: Some(claims.iat), ..Jwk::new(claims.kid.clone(), signer.verifying_key().to_bytes()) };
        let keys = jwks([&key]);
        let input = signing_input(claims.kid.borrowed(), &claims.canonical(1 << 16).unwrap());
        let sig = signer.sign(input.as_bytes()).to_bytes();
        let text = compact(input, &sig);
        prop_assert_eq!(by_jsonwebtoken(&text, &keys), Some(tree(&claims)));
        // Whatever we accept, it accepts; and nothing that was changed is accepted by either.
        let Ok(edited) = String::from_utf8(edited(text.clone().into_bytes(), &edits)) else { return Ok(()) };
        let accepted = opened(&edited).is_some_and(|(_, _, sig)| {
            let input = edited.rsplit_once('.').unwrap().0;
            signer.verifying_key().verify_strict(input.as_bytes(), &Signature::from_bytes(&sig)).is_ok()
        });
        prop_assert_eq!(accepted, edited == text);
        prop_assert_eq!(by_jsonwebtoken(&edited, &keys).is_some(), accepted, "{}", edited);
    }

    #[test]
    fn a_kid_has_one_spelling(text in "ed25519/[a-c.0-]{0,4}/[a-c-]{0,3}/v[0-9]{0,3}") {
        if let Ok(kid) = KidRef::parse(&text) {
            prop_assert_eq!(kid.to_string(), text);
        }
    }

    #[test]
    fn a_jwks_reads_back(keys in proptest::collection::btree_map(1u64..1 << 53, any_key(), 0..8)) {
        let named = |(version, (public, current, created))| {
            Jwk { current, created, ..Jwk::new(Kid::new("t", "p", version).unwrap(), public) }
        };
        let keys: Vec<_> = keys.into_iter().map(named).collect();
        let document = jwks(&keys);
        prop_assert!(should_be_canonical(&document));
        prop_assert_eq!(parse_jwks(&document).unwrap(), keys);
    }

    #[test]
    fn an_envelope_reads_back(alg in any_text(), kid in any_text(), msg in vec(any::<u8>(), 0..40), sig in vec(any::<u8>(), 0..70)) {
        let envelope = OwnedEnvelope { alg, kid, msg, sig };
        prop_assert_eq!(OwnedEnvelope::from_json(envelope.to_json().as_bytes()).unwrap(), envelope);
    }
}
