//! Published vectors, and proofs by the hundred.

use proptest::prelude::*;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::samples::{authentic, b64, jkt, key, pop, public, signed};
use super::*;

fn refused(text: &str) -> ProofRefusal {
    Proof::open(text).unwrap_err()
}

fn vector(path: &str) -> Value {
    let path = format!("{}/tests/vectors/rfc/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

/// RFC 7638 §3.2: the members that are required, in the order of their names.
fn formula(jwk: &Value, members: &[&str]) -> String {
    let members: Vec<_> = members.iter().map(|name| format!("\"{name}\":{}", jwk[*name])).collect();
    b64(&Sha256::digest(format!("{{{}}}", members.join(","))))
}

#[test]
fn the_proof_of_rfc_9449_is_refused_by_its_algorithm_while_its_formulas_reproduce() {
    let vector = vector("rfc9449_dpop.json");
    let text = |name: &str| vector[name].as_str().unwrap();
    assert_eq!(refused(text("resource_proof")), ProofRefusal::Alg("ES256"));
    assert_eq!(b64(&ath(text("access_token").as_bytes())), text("ath"));
    assert_eq!(formula(&vector["jwk"], &["crv", "kty", "x", "y"]), text("jkt"));
    // Called EdDSA, it is refused by its key; and with a key of ours, all else of it is what we read.
    let [_, claims, signature] = text("resource_proof").split('.').collect::<Vec<_>>().try_into().unwrap();
    let header =
        |jwk: &Value| b64(serde_json::json!({"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk}).to_string().as_bytes());
    let renamed = format!("{}.{claims}.{signature}", header(&vector["jwk"]));
    assert_eq!(refused(&renamed), ProofRefusal::Key { member: "kty", expected: "OKP" });
    let ours = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": b64(&public())});
    let ours = format!("{}.{claims}.{signature}", header(&ours));
    let proof = Proof::open(&ours).unwrap();
    let purpose = Purpose::Http { htm: text("htm").into(), htu: text("htu").into(), nonce: None };
    let iat = vector["iat"].as_i64().unwrap();
    let ath = ath(text("access_token").as_bytes());
    let jti = vector["payload"]["jti"].as_str().unwrap().to_owned();
    assert_eq!(proof.claims, ProofClaims { jti, iat, ath, purpose });
    assert!(!authentic(&proof));
}

#[test]
fn thumbprints_are_those_of_rfc_7638_and_rfc_8037() {
    let rsa = vector("rfc7638.json");
    assert_eq!(formula(&rsa["jwk"], &["e", "kty", "n"]), rsa["thumbprint"].as_str().unwrap());
    let okp = vector("rfc8037_okp.json");
    let expected = okp["jwk_thumbprint_sha256"].as_str().unwrap();
    assert_eq!(formula(&okp["jwk"], &["crv", "kty", "x"]), expected);
    let x: [u8; 32] = base64url(okp["jwk"]["x"].as_str().unwrap()).unwrap().try_into().unwrap();
    let text = with_signature(&pop().signing_input(&x).unwrap(), &[0; 64]);
    assert_eq!(Proof::open(&text).unwrap().jkt, expected);
    assert_eq!(
        formula(&serde_json::json!({"crv": "Ed25519", "kty": "OKP", "x": b64(&public())}), &["crv", "kty", "x"]),
        jkt()
    );
}

/// 1 to 24 characters, those that need escapes among them.
fn any_identifier() -> impl Strategy<Value = String> {
    let edges = prop::sample::select(vec!['"', '\\', '/', ' ', '~', 'é', '\u{2028}', '\u{ffff}', '😂', '.', '{']);
    let any = any::<char>().prop_filter("no control character", |c| !c.is_control());
    proptest::collection::vec(prop_oneof![3 => proptest::char::range('a', 'z'), 1 => edges, 1 => any], 1..24)
        .prop_map(String::from_iter)
}

fn any_purpose() -> impl Strategy<Value = Purpose> {
    let operation = (any_identifier(), any_identifier(), any_identifier());
    let operation = operation.prop_map(|(aud, op, nonce)| Purpose::Operation { aud, op, nonce });
    let host = prop::sample::select(vec!["https://a.example", "http://[::1]:8080", "HTTPS://A.example:443"]);
    let http = ("[A-Z!~a-z-]{1,9}", host, "(/[a-zA-Z0-9%?#@:._~-]{0,9}){0,3}", prop::option::of(any_identifier()));
    let http = http.prop_map(|(htm, host, path, nonce)| Purpose::Http { htm, htu: format!("{host}{path}"), nonce });
    prop_oneof![operation, http]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read_the_same(
        jti in any_identifier(), iat in 0..=MAX_INTEGER, ath: [u8; 32], purpose in any_purpose(),
    ) {
        let claims = ProofClaims { jti, iat, ath, purpose };
        let text = signed(&claims);
        let proof = Proof::open(&text).unwrap();
        prop_assert_eq!(&proof.claims, &claims);
        prop_assert_eq!((proof.public, proof.kind()), (key().verifying_key().to_bytes(), claims.kind()));
        prop_assert!(authentic(&proof));
    }
}
