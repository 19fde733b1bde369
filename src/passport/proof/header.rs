//! The header of a proof: exactly `alg`, `typ` and `jwk`, and in the key exactly `kty`, `crv` and `x`.
//!
//! Other members are refused in both kinds, though RFC 7515 §4 would have unknown ones ignored. All that a header can hold
//! beside these is another way to say which key, or which rules, are to be used (`kid`, `jku`, `x5u`, `x5c`, `crit`, `b64`).

use super::super::envelope::{ALG, ALG_EDDSA, base64url};
use super::ProofKind;
use super::members::Members;
use super::refusal::{Part, ProofRefusal};

/// Algorithms of the IANA registry "JSON Web Signature and Encryption Algorithms" that sign, and `none`: what a refusal may
/// repeat.
const NAMES: [&str; 18] = [
    "none",
    "HS256",
    "HS384",
    "HS512",
    "RS256",
    "RS384",
    "RS512",
    "ES256",
    "ES384",
    "ES512",
    "PS256",
    "PS384",
    "PS512",
    "ES256K",
    "Ed448",
    "ML-DSA-44",
    "ML-DSA-65",
    "ML-DSA-87",
];
/// What is said in place of any other.
const UNKNOWN: &str = "unknown";

/// Reads a header: the kind of proof, and the key that is said to have signed it.
pub(super) fn read(json: &[u8]) -> Result<(ProofKind, [u8; 32]), ProofRefusal> {
    let header = Members::read(Part::Header, json)?;
    // First, since another algorithm comes with another key, and it is the algorithm that the client must change.
    algorithm(header.text("alg")?)?;
    let typ = header.text("typ")?;
    let kind = [ProofKind::Pop, ProofKind::Dpop].into_iter().find(|kind| kind.typ() == typ);
    let kind = kind.ok_or(ProofRefusal::Typ)?;
    header.only(&["alg", "typ", "jwk"])?;
    Ok((kind, key(&header.into_object("jwk", Part::Jwk)?)?))
}

/// Admits exactly two names of one algorithm.
fn algorithm(alg: &str) -> Result<(), ProofRefusal> {
    if alg == ALG || alg == ALG_EDDSA {
        return Ok(());
    }
    Err(ProofRefusal::Alg(NAMES.into_iter().find(|name| *name == alg).unwrap_or(UNKNOWN)))
}

/// The bytes of the key (RFC 8037 §2).
fn key(jwk: &Members) -> Result<[u8; 32], ProofRefusal> {
    if jwk.has("d") {
        return Err(ProofRefusal::PrivateKey);
    }
    for (member, expected) in [("kty", "OKP"), ("crv", "Ed25519")] {
        if jwk.text(member)? != expected {
            return Err(ProofRefusal::Key { member, expected });
        }
    }
    jwk.only(&["kty", "crv", "x"])?;
    let x = base64url(jwk.text("x")?).map_err(|why| ProofRefusal::Base64(Part::Jwk, why))?;
    x.try_into().map_err(|_| ProofRefusal::OutOfBounds(Part::Jwk, "x"))
}
