//! Passports for the tests: good ones, and such as are not in one way.

use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use crate::passport::jws::{compact, signing_input};
use crate::passport::{Cap, Claims, Jwk, Kid, OwnedEnvelope, OwnedPassport, jwks};
use crate::wire::KeySet;

pub(super) const NOW: i64 = 1_767_225_600;
pub(super) const MAX_MSG: usize = 2048;
/// The keys: two of a tenant, one of another.
pub(super) const KEYS: [(&str, u64); 3] = [("t1", 1), ("t1", 2), ("t2", 1)];

pub(super) fn signer(key: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(key).unwrap() + 1; 32])
}

pub(super) fn kid(key: usize) -> Kid {
    // One that nobody has published, too.
    let (tenant, version) = KEYS.get(key).copied().unwrap_or(("t1", 9));
    Kid::new(tenant, "auth", version).unwrap()
}

pub(super) fn published() -> Vec<Jwk> {
    (0..KEYS.len()).map(|key| Jwk::new(kid(key), signer(key).verifying_key().to_bytes())).collect()
}

pub(super) fn key_set() -> KeySet {
    KeySet { etag: [0; 32], max_age_s: 1, jwks: jwks(&published()) }
}

pub(super) fn claims(key: usize) -> Claims {
    Claims {
        iss: "test".to_owned(),
        sub: "alice".to_owned(),
        aud: vec!["orders".to_owned()],
        iat: NOW,
        exp: NOW + 60,
        nbf: None,
        jti: "j0".to_owned(),
        scopes: vec!["read".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid(key),
        epoch: 0,
        cap: Cap { template: "orders".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    }
}

pub(super) fn signed(key: usize, claims: &Claims, as_jws: bool) -> OwnedPassport {
    let (msg, name) = (claims.canonical(4096).unwrap(), claims.kid.clone());
    if as_jws {
        let input = signing_input(name.borrowed(), &msg);
        let sig = signer(key).sign(input.as_bytes()).to_bytes();
        return OwnedPassport::Jws(compact(input, &sig));
    }
    let sig = signer(key).sign(&msg).to_bytes().to_vec();
    OwnedPassport::Envelope(OwnedEnvelope { alg: "Ed25519".to_owned(), kid: name.to_string(), msg, sig })
}

/// What is altered of a good passport.
#[derive(Clone, Copy, Debug)]
pub(super) enum Twist {
    None,
    Expired,
    Early,
    Aud,
    Scope,
    Issuer,
    Limit,
    Nonce,
    Bound,
    Large,
    Bit(u16),
    Alg,
    Kid,
    Cut,
}

pub(super) fn twist() -> impl Strategy<Value = Twist> {
    use Twist::*;
    let all = [None, None, None, Expired, Early, Aud, Scope, Issuer, Limit, Nonce, Bound, Large, Alg, Kid, Cut];
    prop_oneof![3 => proptest::sample::select(all.to_vec()), 1 => any::<u16>().prop_map(Bit)]
}

prop_compose! {
    pub(super) fn passport()(
        key in 0..4_usize, twist in twist(), jti in 0..4_u8, sub in 0..3_u8, epoch in 0..3_u64, late in 0..3_i64,
        as_jws in any::<bool>(), forged in proptest::bool::weighted(0.1),
    ) -> OwnedPassport {
        let (jti, sub) = (format!("j{jti}"), format!("s{sub}"));
        // On either side of what the skew allows.
        let claims = Claims { jti, sub, epoch, iat: NOW - 10 + late, exp: NOW - 4 + 3 * late, ..claims(key) };
        altered(claims, if forged { key + 4 } else { key }, twist, as_jws)
    }
}

/// A passport that is not good in one way.
pub(super) fn altered(mut claims: Claims, signed_by: usize, twist: Twist, as_jws: bool) -> OwnedPassport {
    match twist {
        Twist::Expired => (claims.iat, claims.exp) = (NOW - 10, NOW - 4),
        Twist::Early => (claims.nbf, claims.exp) = (Some(NOW + 4), NOW + 60),
        Twist::Aud => claims.aud = vec!["payments".to_owned()],
        Twist::Scope => claims.scopes = vec!["write".to_owned()],
        Twist::Issuer => claims.iss = "other".to_owned(),
        Twist::Limit => claims.cap.limit = Some(1),
        Twist::Nonce => claims.nonce = Some("n".to_owned()),
        Twist::Bound => claims.cnf_jkt = Some("A".repeat(43)),
        Twist::Large => {
            claims.ctx = Some(serde_json::json!({ "x": "y".repeat(MAX_MSG) }).as_object().unwrap().clone());
        }
        _ => {}
    }
    bent(signed(signed_by, &claims, as_jws), twist)
}

/// Altered after it was signed.
pub(super) fn bent(passport: OwnedPassport, twist: Twist) -> OwnedPassport {
    match (passport, twist) {
        (OwnedPassport::Envelope(mut envelope), twist) => {
            match twist {
                Twist::Bit(at) => {
                    let at = usize::from(at) % ((envelope.msg.len() + 64) * 8);
                    let bytes = envelope.msg.iter_mut().chain(&mut envelope.sig);
                    bytes.skip(at / 8).take(1).for_each(|byte| *byte ^= 1 << (at % 8));
                }
                Twist::Alg => envelope.alg = "HS256".to_owned(),
                Twist::Kid => envelope.kid = kid(1).to_string(),
                Twist::Cut => drop(envelope.sig.pop()),
                _ => {}
            }
            OwnedPassport::Envelope(envelope)
        }
        (OwnedPassport::Jws(mut text), Twist::Bit(at)) => {
            let at = usize::from(at) % text.len();
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            text.replace_range(at..=at, other);
            OwnedPassport::Jws(text)
        }
        (OwnedPassport::Jws(mut text), Twist::Cut) => {
            text.pop();
            OwnedPassport::Jws(text)
        }
        (other, _) => other,
    }
}
