//! Proofs for the tests.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::super::jwk::thumbprint;
use super::*;
use crate::clock::Moment;

pub(super) const NOW: i64 = 1_700_000_100;

/// A stranger's key.
pub(super) fn key() -> SigningKey {
    SigningKey::from_bytes(&[0x61; 32])
}

pub(super) fn public() -> [u8; 32] {
    key().verifying_key().to_bytes()
}

pub(super) fn pop() -> ProofClaims {
    let purpose =
        Purpose::Operation { aud: "demo".into(), op: "verify".into(), nonce: "q2Xh0JyQ9yTgGdXQW3gC5Q".into() };
    ProofClaims { jti: "0190c7a2-7b1e".into(), iat: NOW, ath: ath(b"passport"), purpose }
}

pub(super) fn dpop() -> ProofClaims {
    let purpose =
        Purpose::Http { htm: "POST".into(), htu: "https://api.example/orders".into(), nonce: Some("abc".into()) };
    ProofClaims { purpose, ..pop() }
}

/// What [`pop`] is good for.
pub(super) fn for_pop(jkt: &str) -> ProofExpect<'_> {
    let purpose = Expected::Operation { audiences: &["api", "demo"], op: "verify", nonce: "q2Xh0JyQ9yTgGdXQW3gC5Q" };
    ProofExpect { now: Moment::from_unix(NOW), window_s: 60, skew_s: 5, jkt, ath: ath(b"passport"), purpose }
}

/// What [`dpop`] is good for.
pub(super) fn for_dpop(jkt: &str) -> ProofExpect<'_> {
    let htu = Target::parse("https://API.example:443/orders?id=7").unwrap();
    ProofExpect { purpose: Expected::Http { htm: "POST", htu, nonce: Some("abc") }, ..for_pop(jkt) }
}

pub(super) fn jkt() -> String {
    thumbprint(&public())
}

pub(super) fn b64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// The proof that says so, by [`key`].
pub(super) fn signed(claims: &ProofClaims) -> String {
    let input = claims.signing_input(&public()).unwrap();
    with_signature(&input, &key().sign(input.as_bytes()).to_bytes())
}

/// A proof of any header and claims, by [`key`].
pub(super) fn encoded(header: &str, claims: &str) -> String {
    let input = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
    with_signature(&input, &key().sign(input.as_bytes()).to_bytes())
}

/// Header and claims of the proof that says so, as JSON.
pub(super) fn parts(claims: &ProofClaims) -> [String; 2] {
    let input = claims.signing_input(&public()).unwrap();
    let (header, claims) = input.split_once('.').unwrap();
    [header, claims].map(|part| String::from_utf8(Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap())
}

/// Whether the signature is the key's.
pub(super) fn authentic(proof: &Proof<'_>) -> bool {
    let signature = Signature::from_bytes(&proof.signature);
    VerifyingKey::from_bytes(&proof.public)
        .is_ok_and(|key| key.verify_strict(proof.signing_input.as_bytes(), &signature).is_ok())
}
