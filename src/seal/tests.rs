//! Against published vectors, and against everything that could be turned or swapped.

use super::*;
use crate::passport::hex;
use crate::wire::sealed::{MAX_PLAIN, Namespace, SEALED_OVERHEAD, SealKid};
use chacha20poly1305::ChaCha20Poly1305;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

const V1: &str = "hmac-sha256/t1/seal/v1";
const ISSUER: &str = "https://a.example";

fn place<'a>(issuer: &'a str, namespace: &'a str, name: &'a str, kid: &'a str) -> SealPlace<'a> {
    SealPlace { issuer, namespace: Namespace::parse(namespace).unwrap(), name, kid: SealKid::parse(kid).unwrap() }
}

fn here() -> SealPlace<'static> {
    place(ISSUER, "t1/billing", "database", V1)
}

/// As the HSM would: HMAC-SHA256 by HKDF's extraction, which is just that with the salt as key (RFC 5869 §2.2).
fn key_of(place: &SealPlace<'_>) -> Zeroizing<[u8; KEY]> {
    let (derived, _) = Hkdf::<Sha256>::extract(Some(&[9; 32]), &XChaCha.derivation(place));
    XChaCha.key(&derived.into())
}

fn open(place: &SealPlace<'_>, blob: &[u8]) -> Result<Vec<u8>, Unopenable> {
    let sealed = Sealed::parse(blob).ok_or(Unopenable)?;
    XChaCha.open(&key_of(place), place, &sealed).map(|plain| plain.to_vec())
}

#[test]
fn what_was_sealed_opens_in_its_place_at_every_length() {
    for length in [0, 1, 15, 16, 17, 63, 64, 65, 1024, MAX_PLAIN] {
        let plain = vec![0x5a; length];
        let blob = XChaCha.seal(&key_of(&here()), &here(), &plain).unwrap();
        assert!(blob.len() <= length + SEALED_OVERHEAD);
        assert_eq!(open(&here(), &blob).unwrap(), plain, "{length}");
    }
}

#[test]
fn every_bit_counts() {
    let blob = XChaCha.seal(&key_of(&here()), &here(), b"hunter2").unwrap();
    for bit in 0..blob.len() * 8 {
        let mut turned = blob.clone();
        turned[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&here(), &turned), Err(Unopenable), "bit {bit}");
    }
    for cut in 0..blob.len() {
        assert_eq!(open(&here(), &blob[..cut]), Err(Unopenable), "cut at {cut}");
    }
    assert_eq!(open(&here(), &[&blob[..], &[0]].concat()), Err(Unopenable));
}

/// Each place has a key of its own, and even under one and the same key nothing opens elsewhere.
#[test]
fn a_blob_opens_nowhere_else() {
    let blob = XChaCha.seal(&key_of(&here()), &here(), b"hunter2").unwrap();
    let sealed = Sealed::parse(&blob).unwrap();
    let elsewhere = [
        place("https://b.example", "t1/billing", "database", V1),
        place(ISSUER, "t1/mail", "database", V1),
        place(ISSUER, "t1/billing/database", "database", V1),
        place(ISSUER, "t1/billing", "databases", V1),
        place(ISSUER, "t1/billing", "database", "hmac-sha256/t1/seal/v2"),
        place(ISSUER, "t2/billing", "database", "hmac-sha256/t2/seal/v1"),
    ];
    for other in elsewhere {
        assert_eq!(open(&other, &blob), Err(Unopenable), "{other:?}");
        let under_the_same = XChaCha.open(&key_of(&here()), &other, &sealed);
        assert_eq!(under_the_same.map(|_| ()), Err(Unopenable), "{other:?}");
        let same_key = (other.issuer, other.namespace, other.kid.version()) == (ISSUER, here().namespace, 1);
        assert_eq!(key_of(&other) == key_of(&here()), same_key, "{other:?}");
    }
}

/// Texts that run into each other do not make the same bytes.
#[test]
fn parts_keep_their_borders() {
    let derivations = [
        place("https://a.example", "t1/billing", "x", V1),
        place("https://a.exampl", "t1/billing", "x", V1),
        place("https://a.examplet1", "t1/billing", "x", V1),
        place("https://a.example", "t1/billing", "x", "hmac-sha256/t1/seal/v256"),
    ];
    let distinct: HashSet<_> = derivations.iter().map(|one| XChaCha.derivation(one)).collect();
    assert_eq!(distinct.len(), derivations.len());
    let mut first = DOMAIN.to_vec();
    first.extend_from_slice(b"\0\0\0\0\0\0\0\x11https://a.example\0\0\0\0\0\0\0\x0at1/billing\0\0\0\0\0\0\0\x01");
    assert_eq!(XChaCha.derivation(&derivations[0]), first, "it must never change: old blobs would not open");
}

/// Neither may this: computed once with another implementation of HKDF.
#[test]
fn a_blob_of_old_opens() {
    assert_eq!(
        hex::encode(key_of(&here()).as_slice()),
        "9b93089b9e16caed256a5cc73e3a4de64b81745edee09457e84a6523f024f34f"
    );
    let blob = seal_with(&key_of(&here()), &here(), &[0x24; NONCE], b"hunter2").unwrap();
    assert_eq!(
        hex::encode(&blob),
        "505342310116686d61632d7368613235362f74312f7365616c2f7631242424242424242424242424242424242424242424242424bb4715d095a28d0e90846035cae3f15de9becd4c870c4a"
    );
    assert_eq!(open(&here(), &blob).unwrap(), b"hunter2");
}

#[test]
fn ten_thousand_nonces_are_distinct() {
    let key = key_of(&here());
    let nonces = |_| {
        let blob = XChaCha.seal(&key, &here(), b"").unwrap();
        *Sealed::parse(&blob).unwrap().nonce
    };
    let all: HashSet<_> = (0..10_000).map(nonces).collect();
    assert_eq!(all.len(), 10_000);
}

fn vectors(path: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/vectors/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn bytes(text: &str) -> Vec<u8> {
    if let Some(quoted) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return quoted.as_bytes().to_vec();
    }
    let digits: Vec<u32> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

/// What a vector says and what comes of it, both ways: ciphertext and tag, or nothing.
fn assert_vector(name: &str, [key, nonce, beside, plain, cipher, tag]: [&[u8]; 6], valid: bool) {
    let aead = ChaCha20Poly1305::new(key.try_into().unwrap());
    let nonce = nonce.try_into().unwrap();
    let mut made = vec![0; plain.len()];
    let made_tag = aead.encrypt_inout_detached(nonce, beside, InOutBuf::new(plain, &mut made).unwrap()).unwrap();
    assert_eq!((made.as_slice(), made_tag.as_slice()) == (cipher, tag), valid, "{name}: sealed");
    let mut opened = vec![0; cipher.len()];
    let both = InOutBuf::new(cipher, &mut opened).unwrap();
    let outcome = aead.decrypt_inout_detached(nonce, beside, both, tag.try_into().unwrap());
    assert_eq!(outcome.is_ok(), valid, "{name}: opened");
    assert_eq!(opened == plain, valid || plain.iter().all(|byte| *byte == 0), "{name}: what was opened");
}

#[test]
fn wycheproof() {
    let document: Value = serde_json::from_str(&vectors("wycheproof/chacha20_poly1305_test.json")).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in document["testGroups"].as_array().unwrap() {
        let usual = group["ivSize"] == 96 && group["tagSize"] == 128;
        for case in group["tests"].as_array().unwrap() {
            let field = |name: &str| bytes(case[name].as_str().unwrap());
            let accepted = case["result"] == "valid";
            if !usual {
                // Nonces of other lengths; here the type does not let them in.
                assert!(!accepted && field("iv").len() != 12, "{case}");
                continue;
            }
            valid += u32::from(accepted);
            invalid += u32::from(!accepted);
            let [key, iv, aad, msg, ct, tag] = ["key", "iv", "aad", "msg", "ct", "tag"].map(field);
            assert_vector(&format!("tcId {}", case["tcId"]), [&key, &iv, &aad, &msg, &ct, &tag], accepted);
        }
    }
    assert_eq!((valid, invalid > 0), (256, true), "of 325");
}

/// Blocks of `NAME = value`, an empty line between them.
fn blocks(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut out = vec![BTreeMap::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.split_once('=') {
            Some((name, value)) => {
                out.last_mut().unwrap().insert(name.trim().to_uppercase(), value.trim().to_owned());
            }
            None => out.push(BTreeMap::new()),
        }
    }
    out.retain(|block| !block.is_empty());
    out
}

#[test]
fn boringssl_and_openssl() {
    let names = |key: &'static str| match key {
        "boringssl" => ["KEY", "NONCE", "AD", "IN", "CT", "TAG"],
        _ => ["KEY", "IV", "AAD", "PLAINTEXT", "CIPHERTEXT", "TAG"],
    };
    for (file, count) in [("boringssl", 66), ("openssl", 5)] {
        let blocks = blocks(&vectors(&format!("chacha20poly1305/{file}.txt")));
        assert_eq!(blocks.len(), count);
        for block in blocks {
            let fields = names(file).map(|name| bytes(&block[name]));
            let valid = block.get("RESULT").is_none_or(|result| result != "CIPHERFINAL_ERROR");
            assert_vector(&format!("{file} {}", block["COUNT"]), fields.each_ref().map(Vec::as_slice), valid);
        }
    }
}

/// draft-irtf-cfrg-xchacha-03, A.3.1.
#[test]
fn the_draft_of_xchacha() {
    let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                  sunscreen would be it.";
    let key: Vec<u8> = (0x80..=0x9f).collect();
    let nonce: Vec<u8> = (0x40..=0x57).collect();
    let beside = bytes("50515253c0c1c2c3c4c5c6c7");
    let aead = XChaCha20Poly1305::new(key.as_slice().try_into().unwrap());
    let mut made = vec![0; plain.len()];
    let both = InOutBuf::new(plain, &mut made).unwrap();
    let tag = aead.encrypt_inout_detached(nonce.as_slice().try_into().unwrap(), &beside, both).unwrap();
    let expected = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39\
                    ae64c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
                    21f9664c97637da9768812f615c68b13b52e";
    assert_eq!(hex::encode(&made), expected);
    assert_eq!(hex::encode(&tag), "c0875924c1c7987947deafd8780acf49");
}
