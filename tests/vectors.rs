//! The published vectors for JSON, JWK and JWS; those for Ed25519 are in `strict25519/tests/vectors.rs`.
#![cfg(test)]

use std::{fs, path::PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use passportd::passport::jws::{compact, signing_input};
use passportd::passport::{
    Envelope, Fault, Jwk, Jws, Kid, OwnedEnvelope, Refusal, Room, is_canonical, jwks, parse_jwks, thumbprint,
};
use serde_json::Value;

fn read(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

#[test]
fn jcs_outputs_are_admitted_unless_they_hold_floats_or_are_no_objects() {
    for (name, expected) in [
        ("french", None),
        ("structures", None),
        ("unicode", None),
        ("weird", None),
        // [56,{…}] is canonical, but no object; values.json holds 333333333.3333333.
        ("arrays", Some(Fault::Unexpected)),
        ("values", Some(Fault::Float)),
    ] {
        let output = read(&format!("jcs/output/{name}.json"));
        assert_eq!(is_canonical(&output).err().map(|refused| refused.fault), expected, "{name}");

        // The hexadecimal form says which bytes are meant, whatever happened to the text on its way here.
        let hex = String::from_utf8(read(&format!("jcs/outhex/{name}.txt"))).unwrap();
        let bytes: Vec<u8> = hex.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        assert_eq!(output, bytes, "{name}");

        // No input is canonical; and the canonical form of each is the output.
        let input = read(&format!("jcs/input/{name}.json"));
        assert!(is_canonical(&input).is_err(), "{name}");
        let value: Value = serde_json::from_slice(&input).unwrap();
        assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), output, "{name}");
    }
}

#[test]
fn rfc_8037_thumbprint() {
    let vector = json("rfc/rfc8037_okp.json");
    let x = vector["jwk"]["x"].as_str().unwrap();
    let key: [u8; 32] = Base64UrlUnpadded::decode_vec(x).unwrap().try_into().unwrap();
    assert_eq!(thumbprint(&key), vector["jwk_thumbprint_sha256"].as_str().unwrap());
    let kid = "ed25519/t1/auth/v1".parse().unwrap();
    let document = jwks([&Jwk::new(kid, key)]);
    assert!(std::str::from_utf8(&document).unwrap().contains(x));
}

/// The JOSE header of a compact JWS, if it has one.
fn header(jws: &str) -> Option<Value> {
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(jws.split('.').next()?).ok()?).ok()
}

/// Why a text is no passport; it must not be one.
fn no_passport(jws: &str) -> Refusal {
    let mut buffer = Vec::new();
    Jws::parse(jws).and_then(|parsed| parsed.open(&mut Room::new(&mut buffer, [jws]))).unwrap_err()
}

/// A good one, but for its signature.
fn passport() -> String {
    let kid: Kid = "ed25519/t1/auth/v1".parse().unwrap();
    let payload = r#"{"aud":[],"cap":{"template":"x"},"epoch":0,"exp":2,"iat":1,"iss":"x","jti":"x","kid":"ed25519/t1/auth/v1","scopes":[],"sub":"x"}"#;
    let jws = compact(signing_input(kid.borrowed(), payload.as_bytes()), &[7; 64]);
    assert!(Jws::parse(&jws).unwrap().open(&mut Room::new(&mut Vec::new(), [&*jws])).is_ok());
    jws
}

/// Its signature is good, and its payload no passport: what verifies is not what is accepted.
#[test]
fn the_jws_of_rfc_8037_verifies_as_a_jws_and_is_not_a_passport() {
    let vector = json("rfc/rfc8037_okp.json");
    let jws = vector["jws"].as_str().unwrap();
    let (input, sig) = jws.rsplit_once('.').unwrap();
    let bytes = |text: &str| Base64UrlUnpadded::decode_vec(text).unwrap();
    let (head, payload) = input.split_once('.').unwrap();
    assert_eq!(bytes(head), vector["header"].as_str().unwrap().as_bytes());
    assert_eq!(bytes(payload), vector["payload"].as_str().unwrap().as_bytes());
    let public: [u8; 32] = bytes(vector["jwk"]["x"].as_str().unwrap()).try_into().unwrap();
    let sig: [u8; 64] = bytes(sig).try_into().unwrap();
    let key = strict25519::PreparedKey::new(&public).unwrap();
    assert!(key.verify(input.as_bytes(), &sig) && !key.verify(&bytes(payload), &sig));
    let dalek = ed25519_dalek::VerifyingKey::from_bytes(&public).unwrap();
    dalek.verify_strict(input.as_bytes(), &ed25519_dalek::Signature::from_bytes(&sig)).unwrap();
    assert_eq!(no_passport(jws), Refusal::Malformed);
    // Nor is it one under our own header.
    let kid: Kid = "ed25519/t1/auth/v1".parse().unwrap();
    let ours = compact(signing_input(kid.borrowed(), &bytes(payload)), &sig);
    assert_eq!(no_passport(&ours), Refusal::Malformed);
}

#[test]
fn every_wycheproof_jws_and_jwk_is_refused() {
    let (mut seen, mut keys, mut refusals, ours) = (0, 0, Vec::new(), passport());
    for group in json("wycheproof/json_web_signature_test.json")["testGroups"].as_array().unwrap() {
        for jwk in ["public", "private"].iter().filter_map(|member| group.get(*member)) {
            let document = serde_json::json!({"keys": [jwk]}).to_string();
            assert!(parse_jwks(document.as_bytes()).is_err(), "{document}");
            keys += 1;
        }
        for test in group["tests"].as_array().unwrap() {
            seen += 1;
            let jws = test["jws"].as_str().unwrap_or_default();
            // Some are JSON objects instead of texts.
            let written = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
            refusals.push(no_passport(&written));
            // Nor does a header make a passport of our own payload.
            if let (Some(header), Some((_, ours))) = (jws.split('.').next(), ours.split_once('.')) {
                no_passport(&format!("{header}.{ours}"));
            }
            assert!(OwnedEnvelope::from_json(test["jws"].to_string().as_bytes()).is_err(), "{test}");
            let header = header(jws).unwrap_or_default();
            let alg = header["alg"].as_str().unwrap_or_default();
            let kid = header["kid"].as_str().unwrap_or_default();
            let parts: Vec<Vec<u8>> =
                jws.split('.').map(|part| Base64UrlUnpadded::decode_vec(part).unwrap_or_default()).collect();
            let (msg, sig) = (parts.get(1).map_or(&[][..], Vec::as_slice), parts.last().map_or(&[][..], Vec::as_slice));
            // By its own algorithm it is refused for that; under ours, the payload is none.
            let own = Envelope { alg, kid, msg, sig };
            assert_eq!(own.open(), Err(Refusal::BadAlg), "{test}");
            assert_eq!(Envelope { alg: "EdDSA", ..own }.open(), Err(Refusal::Malformed), "{test}");
        }
    }
    assert_eq!((seen, refusals.len()), (401, 401));
    // Those whose headers begin as ours do are refused for what they say, and not for a part that is missing.
    let for_alg = refusals.iter().filter(|refusal| **refusal == Refusal::BadAlg).count();
    assert!(for_alg > 300, "{for_alg}");
    assert!(keys > 20, "{keys}");
}

#[test]
fn the_dpop_proof_of_rfc_9449_is_not_a_passport() {
    let vector = json("rfc/rfc9449_dpop.json");
    let jws = vector["resource_proof"].as_str().unwrap();
    assert_eq!(header(jws).unwrap()["alg"], "ES256");
    assert_eq!(no_passport(jws), Refusal::Malformed);
    let parts: Vec<Vec<u8>> = jws.split('.').map(|part| Base64UrlUnpadded::decode_vec(part).unwrap()).collect();
    let envelope = Envelope { alg: "ES256", kid: "", msg: &parts[1], sig: &parts[2] };
    assert_eq!(envelope.open(), Err(Refusal::BadAlg));
    assert_eq!(Envelope { alg: "Ed25519", ..envelope }.open(), Err(Refusal::Malformed));
    let document = serde_json::json!({"keys": [vector["jwk"]]}).to_string();
    assert!(parse_jwks(document.as_bytes()).is_err());
}
