//! Proofs of possession.

use passportd::clock::Moment;
use passportd::passport::proof::{
    self, Expected, MAX_HTU, MAX_TEXT, Proof, ProofExpect, ProofKind, ProofRefusal, Purpose, Target, with_signature,
};
use passportd::verify::possession;
use serde_json::Value;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// base64url, bit by bit.
fn encode(bytes: &[u8]) -> String {
    let mut bits: Vec<u8> = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    bits.resize(bits.len().div_ceil(6) * 6, 0);
    let sextets = bits.chunks(6).map(|six| six.iter().fold(0, |n, bit| n << 1 | usize::from(*bit)));
    sextets.map(|n| char::from(ALPHABET[n])).collect()
}

/// The bytes whose one spelling in base64url this is.
fn decode(text: &str) -> Option<Vec<u8>> {
    let places: Option<Vec<_>> = text.bytes().map(|byte| ALPHABET.iter().position(|known| *known == byte)).collect();
    let bits: Vec<usize> = places?.into_iter().flat_map(|n| (0..6).rev().map(move |bit| n >> bit & 1)).collect();
    let byte = |eight: &[usize]| eight.iter().fold(0, |n, bit| n << 1 | u8::from(*bit == 1));
    let bytes: Vec<u8> = bits.chunks_exact(8).map(byte).collect();
    (encode(&bytes) == text).then_some(bytes)
}

/// The members of an object that has exactly these, by a tree's word.
fn exactly<'v>(tree: &'v Value, names: &[&str]) -> &'v Value {
    let members = tree.as_object().expect("an object");
    assert!(members.len() == names.len() && names.iter().all(|name| members.contains_key(*name)), "{tree}");
    tree
}

/// A tree reads the same in the text.
fn same(proof: &Proof<'_>, text: &str) {
    let [header, claims, signature]: [&str; 3] = text.split('.').collect::<Vec<_>>().try_into().expect("three parts");
    let tree = |part| serde_json::from_slice::<Value>(&decode(part).expect("base64url")).expect("JSON");
    let header = tree(header);
    let (header, jwk) = (exactly(&header, &["alg", "jwk", "typ"]), exactly(&header["jwk"], &["crv", "kty", "x"]));
    assert!(header["alg"] == "EdDSA" || header["alg"] == "Ed25519");
    assert_eq!(
        (&header["typ"], &jwk["kty"], &jwk["crv"]),
        (&proof.kind().typ().into(), &"OKP".into(), &"Ed25519".into())
    );
    assert_eq!(jwk["x"].as_str().and_then(decode).as_deref(), Some(&proof.public[..]));
    let (tree, claims) = (tree(claims), &proof.claims);
    assert_eq!((tree["jti"].as_str(), tree["iat"].as_i64()), (Some(&*claims.jti), Some(claims.iat)));
    assert_eq!(tree["ath"].as_str().and_then(decode).as_deref(), Some(&claims.ath[..]));
    match &claims.purpose {
        Purpose::Operation { aud, op, nonce } => {
            exactly(&tree, &["ath", "aud", "iat", "jti", "nonce", "op"]);
            assert_eq!(
                (&tree["aud"], &tree["op"], &tree["nonce"]),
                (&(**aud).into(), &(**op).into(), &(**nonce).into())
            );
        }
        Purpose::Http { htm, htu, nonce } => {
            assert_eq!((&tree["htm"], &tree["htu"]), (&(**htm).into(), &(**htu).into()));
            assert_eq!(tree.get("nonce"), nonce.as_deref().map(Value::from).as_ref());
        }
    }
    assert_eq!(decode(signature).as_deref(), Some(&proof.signature[..]));
    assert_eq!(with_signature(proof.signing_input, &proof.signature), text);
}

/// It is good for what it says, in its very second, and for nothing else.
fn judged(proof: &Proof<'_>, text: &str) {
    let (audiences, htu);
    let purpose = match &proof.claims.purpose {
        Purpose::Operation { aud, op, nonce } => {
            audiences = [aud.as_str()];
            Expected::Operation { audiences: &audiences, op, nonce }
        }
        Purpose::Http { htm, htu: target, nonce } => {
            htu = Target::parse(target).expect("it was read before");
            Expected::Http { htm, htu, nonce: nonce.as_deref() }
        }
    };
    let now = Moment::from_unix(proof.claims.iat);
    let expect = ProofExpect { now, window_s: 1, skew_s: 0, jkt: &proof.jkt, ath: proof.claims.ath, purpose };
    assert_eq!(proof.judge(&expect), Ok(()));
    let refused = |expect: ProofExpect<'_>| proof.judge(&expect).unwrap_err();
    assert_eq!(refused(ProofExpect { jkt: "", ..expect }), ProofRefusal::OtherKey);
    assert_eq!(refused(ProofExpect { ath: proof::ath(text.as_bytes()), ..expect }), ProofRefusal::OtherPassport);
    // Where microseconds end, all moments are one.
    if proof.claims.iat < i64::MAX / 1_000_000 - 2 {
        assert_eq!(refused(ProofExpect { now: now.plus(2), ..expect }), ProofRefusal::TooOld);
        assert_eq!(refused(ProofExpect { now: now.plus(-1), ..expect }), ProofRefusal::TooEarly);
    }
    let other = match proof.kind() {
        ProofKind::Pop => {
            Expected::Http { htm: "GET", htu: Target::parse("https://x").expect("a target"), nonce: None }
        }
        ProofKind::Dpop => Expected::Operation { audiences: &[], op: "", nonce: "" },
    };
    assert_eq!(refused(ProofExpect { purpose: other, ..expect }), ProofRefusal::OtherKind);
    let verified = possession(text, &expect);
    assert!(matches!(&verified, Ok(same) if same == proof) || verified == Err(ProofRefusal::Signature), "{verified:?}");
}

/// What opens is what a tree reads, is written to what opens to the same, and is judged by what it says; no refusal
/// repeats the text.
fn opened(text: &str) {
    let proof = match Proof::open(text) {
        Ok(proof) => proof,
        Err(refusal) => {
            let message = refusal.to_string();
            assert!(message.len() <= 128 && message.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{message}");
            return;
        }
    };
    assert!(text.len() <= MAX_TEXT);
    same(&proof, text);
    judged(&proof, text);
    match proof.claims.signing_input(&proof.public) {
        Ok(input) => {
            let written = with_signature(&input, &proof.signature);
            let again = Proof::open(&written).expect("what is written is read");
            assert_eq!(
                (&again.claims, &again.jkt, again.replay_key()),
                (&proof.claims, &proof.jkt, proof.replay_key())
            );
        }
        // A canonical spelling can be longer: the two names of the algorithm are.
        Err(refusal) => assert!(refusal == ProofRefusal::TooLong && text.len() + 16 > MAX_TEXT, "{refusal}"),
    }
}

/// A target is what it was with a query, in another case of its scheme, and not at another path.
fn target(text: &str) {
    let Some(target) = Target::parse(text) else { return };
    let same = |other: &str| Target::parse(other) == Some(target);
    let plain = text.split(['?', '#']).next().unwrap_or_default();
    assert!(same(text) && same(plain));
    let (scheme, rest) = plain.split_once("://").expect("a scheme");
    assert!(same(&format!("{}://{rest}", scheme.to_ascii_uppercase())));
    let path = if rest.contains('/') { "" } else { "/" };
    if plain.len() + 3 <= MAX_HTU {
        assert!(same(&format!("{plain}{path}?x")) && same(&format!("{plain}{path}#x")));
        assert!(!same(&format!("{plain}{path}x")));
    }
}

/// A proof; or its header and its claims on two lines, so that what changes is JSON and not its base64; or a target.
pub fn proof(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    target(text);
    opened(text);
    if let Some((header, claims)) = text.split_once('\n') {
        let input = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        opened(&with_signature(&input, &[0; 64]));
    }
}
