//! Who presents a passport that is bound to a key has that key.

use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signer as _, SigningKey};
use passportd::passport::OwnedEnvelope;
use passportd::passport::proof::{ProofClaims, Purpose, ath, with_signature};
use passportd::passport::thumbprint;
use passportd::wire::{Code, IssueSpec, Possession, ServiceOk, ServiceOp};

use crate::asked::{Seen, bent, house, records};
use crate::support::passports::for_demo;
use crate::support::raw::Raw;

const URL: &str = "https://api.example/orders";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn bound(raw: &mut Raw, seed: u8) -> OwnedEnvelope {
    let jkt = thumbprint(&key(seed).verifying_key().to_bytes());
    raw.issue(IssueSpec { template: "bound", sub: "alice", jkt: Some(&jkt), ..IssueSpec::default() }).unwrap()
}

fn challenge(raw: &mut Raw) -> String {
    match raw.ask(ServiceOp::Challenge) {
        Ok(ServiceOk::Challenge { nonce, expires_in_s: 60 }) => nonce,
        other => panic!("{other:?}"),
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// A proof by the key of this seed, for this passport.
fn proof(seed: u8, passport: &OwnedEnvelope, jti: &str, purpose: Purpose) -> String {
    let claims = ProofClaims { jti: jti.to_owned(), iat: now(), ath: ath(&passport.msg), purpose };
    let input = claims.signing_input(&key(seed).verifying_key().to_bytes()).unwrap();
    with_signature(&input, &key(seed).sign(input.as_bytes()).to_bytes())
}

fn operation(aud: &str, nonce: &str) -> Purpose {
    Purpose::Operation { aud: aud.to_owned(), op: "verify".to_owned(), nonce: nonce.to_owned() }
}

fn http(method: &str) -> Purpose {
    Purpose::Http { htm: method.to_owned(), htu: URL.to_owned(), nonce: None }
}

fn pop(raw: &mut Raw, passport: &OwnedEnvelope, proof: &str) -> Seen {
    raw.with(for_demo(), passport, None, Some(Possession::Pop { proof })).unwrap()
}

fn dpop(raw: &mut Raw, passport: &OwnedEnvelope, proof: &str) -> Seen {
    let proof = Possession::Dpop { proof, htm: "GET", htu: URL, nonce: None };
    raw.with(for_demo(), passport, None, Some(proof)).unwrap()
}

fn unproven(seen: &Seen, why: &str) {
    assert!(matches!(seen, Seen::Unproven(said) if said.contains(why)), "{seen:?} should say {why:?}");
}

#[test]
fn without_a_proof_it_is_not_accepted_and_takes_nothing() {
    let house = house();
    let mut raw = house.raw();
    let passport = bound(&mut raw, 1);
    assert_eq!(raw.see(&passport), Seen::Refused(Code::PopRequired));
    assert_eq!(raw.with(for_demo(), &passport, Some([1; 16]), None), Ok(Seen::Refused(Code::PopRequired)));
    let batch = raw.verify_batch(for_demo(), &[passport.clone(), passport.clone()]).unwrap();
    assert!(batch.into_iter().map(crate::asked::seen).all(|one| one == Seen::Refused(Code::PopRequired)));
    let nonce = challenge(&mut raw);
    let proof = proof(1, &passport, "a", operation("demo", &nonce));
    assert_eq!(pop(&mut raw, &bent(&passport), &proof), Seen::Refused(Code::VerifyFailed));
    assert_eq!(pop(&mut raw, &passport, &proof), Seen::Left(Some(2)), "what was refused used nothing up");
    assert_eq!(records(&house, &passport).len(), 1);
}

#[test]
fn a_proof_is_good_once_for_one_peer_one_passport_and_one_connection() {
    let house = house();
    let mut raw = house.raw();
    let (passport, other) = (bound(&mut raw, 1), bound(&mut raw, 1));
    let nonce = challenge(&mut raw);
    let good = proof(1, &passport, "a", operation("demo", &nonce));
    unproven(&pop(&mut raw, &passport, &proof(2, &passport, "b", operation("demo", &nonce))), "not by the key");
    unproven(&pop(&mut raw, &passport, &proof(1, &passport, "b", operation("elsewhere", &nonce))), "`aud`");
    unproven(&pop(&mut raw, &passport, &proof(1, &other, "b", operation("demo", &nonce))), "`ath`");
    unproven(&pop(&mut raw, &passport, &proof(1, &passport, "b", operation("demo", "made-up"))), "`nonce`");
    unproven(&pop(&mut house.raw(), &passport, &good), "`nonce`");
    unproven(&pop(&mut raw, &passport, &proof(1, &passport, "b", http("GET"))), "other kind");
    assert_eq!(pop(&mut raw, &passport, &good), Seen::Left(Some(2)));
    unproven(&pop(&mut raw, &passport, &good), "`nonce`");
    // Another nonce, and the id of the proof that was accepted.
    let nonce = challenge(&mut raw);
    unproven(&pop(&mut raw, &passport, &proof(1, &passport, "a", operation("demo", &nonce))), "accepted before");
    assert_eq!(house.metric("ekey_verify_invalid_proof_total"), 8.0);
}

#[test]
fn a_forwarded_proof_is_accepted_once_also_across_a_crash() {
    let mut house = house();
    let mut raw = house.raw();
    let passport = bound(&mut raw, 1);
    let good = proof(1, &passport, "a", http("GET"));
    unproven(&dpop(&mut raw, &passport, &proof(1, &passport, "a", http("POST"))), "`htm`");
    assert_eq!(dpop(&mut raw, &passport, &good), Seen::Left(Some(2)), "what did not hold is no replay");
    unproven(&dpop(&mut raw, &passport, &good), "accepted before");
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let mut raw = house.raw();
    unproven(&dpop(&mut raw, &passport, &good), "accepted before");
    let again = Possession::Dpop { proof: &proof(1, &passport, "b", http("GET")), htm: "GET", htu: URL, nonce: None };
    let ask = |raw: &mut Raw| raw.with(for_demo(), &passport, Some([3; 16]), Some(again.clone()));
    assert_eq!((ask(&mut raw), ask(&mut raw)), (Ok(Seen::Left(Some(1))), Ok(Seen::Again(Some(1)))));
}

/// RFC 9449 §4.1: what most clients have. The refusal names the algorithm, so that somebody can mend it.
#[test]
fn a_proof_by_another_algorithm_is_refused_by_its_name() {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let house = house();
    let mut raw = house.raw();
    let passport = bound(&mut raw, 1);
    let header = r#"{"typ":"dpop+jwt","alg":"ES256","jwk":{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}}"#;
    let encoded = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let text = format!("{}.{}.{}", encoded(header), encoded("{}"), Base64UrlUnpadded::encode_string(&[7; 64]));
    unproven(&dpop(&mut raw, &passport, &text), "ES256");
    assert_eq!(records(&house, &passport).len(), 0);
}

#[test]
fn a_proof_for_a_passport_that_names_no_key_proves_nothing() {
    let house = house();
    let mut raw = house.raw();
    for spec in [crate::support::passports::demo("alice"), crate::asked::few(1)] {
        let passport = raw.issue(spec).unwrap();
        unproven(&dpop(&mut raw, &passport, &proof(1, &passport, "a", http("GET"))), "names no key");
    }
}
