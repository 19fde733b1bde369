//! The published vectors for JSON, JWK and JWS; those for Ed25519 are in `strict25519/tests/vectors.rs`.
#![cfg(test)]

use std::{fs, path::PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use passportd::passport::{Envelope, Fault, OwnedEnvelope, Refusal, is_canonical, jwks, parse_jwks, thumbprint};
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
    let document = jwks([(&kid, &key)].into_iter());
    assert!(std::str::from_utf8(&document).unwrap().contains(x));
}

/// The JOSE header of a compact JWS, if it has one.
fn header(jws: &str) -> Option<Value> {
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(jws.split('.').next()?).ok()?).ok()
}

#[test]
fn every_wycheproof_jws_and_jwk_is_refused() {
    let (mut seen, mut keys) = (0, 0);
    for group in json("wycheproof/json_web_signature_test.json")["testGroups"].as_array().unwrap() {
        for jwk in ["public", "private"].iter().filter_map(|member| group.get(*member)) {
            let document = serde_json::json!({"keys": [jwk]}).to_string();
            assert!(parse_jwks(document.as_bytes()).is_err(), "{document}");
            keys += 1;
        }
        for test in group["tests"].as_array().unwrap() {
            seen += 1;
            let jws = test["jws"].as_str().unwrap_or_default();
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
    assert_eq!(seen, 401);
    assert!(keys > 20, "{keys}");
}

#[test]
fn the_dpop_proof_of_rfc_9449_is_not_a_passport() {
    let vector = json("rfc/rfc9449_dpop.json");
    let jws = vector["resource_proof"].as_str().unwrap();
    assert_eq!(header(jws).unwrap()["alg"], "ES256");
    let parts: Vec<Vec<u8>> = jws.split('.').map(|part| Base64UrlUnpadded::decode_vec(part).unwrap()).collect();
    let envelope = Envelope { alg: "ES256", kid: "", msg: &parts[1], sig: &parts[2] };
    assert_eq!(envelope.open(), Err(Refusal::BadAlg));
    assert_eq!(Envelope { alg: "Ed25519", ..envelope }.open(), Err(Refusal::Malformed));
    let document = serde_json::json!({"keys": [vector["jwk"]]}).to_string();
    assert!(parse_jwks(document.as_bytes()).is_err());
}
