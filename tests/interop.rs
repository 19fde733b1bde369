//! JOSE libraries of other hands verify our compact JWS with nothing but our key set, and refuse what was changed.
//! What each accepts is the table of `docs/INTEROP.md`. jsonwebtoken is asked in `tests/props.rs` too, with any claims.
#![cfg(test)]

#[path = "interop/others.rs"]
mod others;
#[path = "support/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ed25519_dalek::{Signer as _, SigningKey};
use passportd::passport::jws::{compact, signing_input};
use passportd::passport::{Cap, Claims, Jwk, Kid, jwks};
use serde_json::{Value, json};

use others::{by_jsonwebtoken, by_others, holds};
use skipped::skipped;

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "orders";

fn claims(kid: &Kid, exp: i64) -> Claims {
    Claims {
        iss: ISSUER.to_owned(),
        sub: "customer-7".to_owned(),
        aud: vec![AUDIENCE.to_owned()],
        iat: 1_700_000_000,
        exp,
        nbf: None,
        jti: "018bcfe5-6800-7000-8000-000000000001".to_owned(),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid.clone(),
        epoch: 0,
        cap: Cap { template: "order".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    }
}

fn signed(signer: &SigningKey, input: String) -> String {
    let sig = signer.sign(input.as_bytes()).to_bytes();
    compact(input, &sig)
}

/// With another header, signed by the same key: only the header says that it is no passport.
fn under(signer: &SigningKey, header: &Value, payload: &[u8]) -> String {
    let part = Base64UrlUnpadded::encode_string;
    signed(signer, format!("{}.{}", part(header.to_string().as_bytes()), part(payload)))
}

/// Our key set, and texts by name.
fn cases() -> (Vec<u8>, BTreeMap<&'static str, String>) {
    let (signer, other) = (SigningKey::from_bytes(&[5; 32]), SigningKey::from_bytes(&[6; 32]));
    let kid = |name: &str| name.parse::<Kid>().unwrap();
    let (first, second) = (kid("ed25519/t1/auth/v1"), kid("ed25519/t1/auth/v2"));
    let key = |kid: &Kid, signer: &SigningKey, current| Jwk {
        current: Some(current),
        created: Some(1_700_000_000),
        ..Jwk::new(kid.clone(), signer.verifying_key().to_bytes())
    };
    let keys = jwks([&key(&first, &other, false), &key(&second, &signer, true)]);
    let payload = |exp| claims(&second, exp).canonical(1 << 14).unwrap();
    let (good, past) = (payload(4_000_000_000), payload(1_700_000_060));
    let ours = signed(&signer, signing_input(second.borrowed(), &good));
    let (input, sig) = ours.rsplit_once('.').unwrap();
    let header = input.split_once('.').unwrap().0;
    let longer = Base64UrlUnpadded::encode_string(&payload(4_000_000_001));
    let mut bent = Base64UrlUnpadded::decode_vec(sig).unwrap();
    bent[0] ^= 1;
    let named = |alg| json!({"alg": alg, "kid": second.to_string(), "typ": "passport+jwt"});
    let unsigned = under(&signer, &named("none"), &good);
    let cases = BTreeMap::from([
        ("ours", ours.clone()),
        ("payload", format!("{header}.{longer}.{sig}")),
        ("signature", format!("{input}.{}", Base64UrlUnpadded::encode_string(&bent))),
        ("expired", signed(&signer, signing_input(second.borrowed(), &past))),
        ("other_kid", signed(&signer, signing_input(first.borrowed(), &good))),
        ("unknown_kid", signed(&signer, signing_input(kid("ed25519/t1/auth/v3").borrowed(), &good))),
        ("none", format!("{}.", unsigned.rsplit_once('.').unwrap().0)),
        ("hs256", under(&signer, &named("HS256"), &good)),
        ("alg_ed25519", under(&signer, &named("Ed25519"), &good)),
    ]);
    (keys, cases)
}

#[test]
fn jsonwebtoken_accepts_ours_and_nothing_else() {
    let (keys, cases) = cases();
    holds("jsonwebtoken", &by_jsonwebtoken(&keys, (ISSUER, AUDIENCE), &cases));
}

#[test]
fn libraries_of_python_and_node_accept_ours_and_nothing_else() {
    let (keys, cases) = cases();
    match by_others(&keys, (ISSUER, AUDIENCE), "customer-7", &cases) {
        Ok(said) => said.iter().for_each(|(library, said)| holds(library, said)),
        Err(why) => skipped(&why),
    }
}
