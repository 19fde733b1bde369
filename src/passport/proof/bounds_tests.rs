//! At each bound, and one beyond it.

use super::samples::{b64, dpop, encoded, jkt, parts, pop, public, signed};
use super::*;

/// So many bytes.
fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[test]
fn what_is_at_a_bound_is_written_and_read_and_what_is_beyond_is_neither() {
    type Fill = fn(&mut ProofClaims, String);
    type Case = (&'static str, usize, fn() -> ProofClaims, Fill);
    let cases: [Case; 7] = [
        ("jti", MAX_JTI, pop, |claims, text| claims.jti = text),
        ("aud", MAX_AUD_LEN, pop, |claims, text| {
            if let Purpose::Operation { aud, .. } = &mut claims.purpose {
                *aud = text;
            }
        }),
        ("op", MAX_ACTION, pop, |claims, text| {
            if let Purpose::Operation { op, .. } = &mut claims.purpose {
                *op = text;
            }
        }),
        ("nonce", MAX_NONCE, pop, |claims, text| {
            if let Purpose::Operation { nonce, .. } = &mut claims.purpose {
                *nonce = text;
            }
        }),
        ("nonce", MAX_NONCE, dpop, |claims, text| {
            if let Purpose::Http { nonce, .. } = &mut claims.purpose {
                *nonce = Some(text);
            }
        }),
        ("htm", MAX_HTM, dpop, |claims, text| {
            if let Purpose::Http { htm, .. } = &mut claims.purpose {
                *htm = text;
            }
        }),
        ("htu", MAX_HTU, dpop, |claims, text| {
            if let Purpose::Http { htu, .. } = &mut claims.purpose {
                *htu = text.replacen("xxxxxxxxx", "https://x", 1);
            }
        }),
    ];
    for (name, most, base, fill) in cases {
        let with = |bytes| {
            let mut claims = base();
            fill(&mut claims, text(bytes));
            claims
        };
        let written = signed(&with(most));
        assert_eq!(Proof::open(&written).unwrap().claims, with(most), "{name}");
        let refusal = ProofRefusal::OutOfBounds(Part::Claims, name);
        assert_eq!(with(most + 1).signing_input(&public()), Err(refusal), "{name} is not written");
        let [header, json] = parts(&with(most));
        let beyond = json.replacen(&text(most - 9), &text(most - 8), 1);
        assert_eq!(beyond.len(), json.len() + 1, "{name}");
        assert_eq!(Proof::open(&encoded(&header, &beyond)), Err(refusal), "{name} is not read");
    }
}

/// A DPoP proof that is exactly so long: white space is what it is filled with.
fn as_long_as(length: usize) -> String {
    let [header, claims] = parts(&dpop());
    let spaces = |n| " ".repeat(n);
    let texts = (0..4).flat_map(|more| {
        let header = format!("{header}{}", spaces(more));
        let rest = length - b64(header.as_bytes()).len() - 2 - 86;
        let fitting = (rest / 4 * 3).saturating_sub(3)..=rest / 4 * 3 + 3;
        let claims = &claims;
        fitting.map(move |bytes| encoded(&header, &format!("{claims}{}", spaces(bytes - claims.len()))))
    });
    texts.into_iter().find(|text| text.len() == length).unwrap()
}

#[test]
fn a_proof_may_be_so_long_and_no_longer() {
    assert_eq!(Proof::open(&as_long_as(MAX_TEXT)).unwrap().claims, dpop());
    assert_eq!(Proof::open(&as_long_as(MAX_TEXT + 1)), Err(ProofRefusal::TooLong));
    assert_eq!(Proof::open(&".".repeat(MAX_TEXT + 1)), Err(ProofRefusal::TooLong));
}

/// Escapes can make a proof too long of claims that are not.
#[test]
fn what_is_written_is_not_too_long_to_be_read() {
    let htu = format!("https://x/{}", text(MAX_HTU - 10));
    let with = |quotes: usize| {
        let purpose = Purpose::Http { htm: "GET".into(), htu: htu.clone(), nonce: Some("\"".repeat(quotes)) };
        ProofClaims { jti: "\"".repeat(MAX_JTI), purpose, ..dpop() }
    };
    let fits = (1..=MAX_NONCE).filter(|quotes| with(*quotes).signing_input(&public()).is_ok()).max().unwrap();
    assert!(fits < MAX_NONCE);
    let longest = signed(&with(fits));
    assert!(longest.len() > MAX_TEXT - 8, "{}", longest.len());
    assert_eq!(Proof::open(&longest).unwrap().claims, with(fits));
    assert_eq!(with(fits + 1).signing_input(&public()), Err(ProofRefusal::TooLong));
}

#[test]
fn so_many_levels_and_members_are_read_and_no_more() {
    let [header, claims] = parts(&dpop());
    let more = |json: &str| encoded(&header, &claims.replacen('{', &format!("{{{json},"), 1));
    // The claims themselves are one level and six members.
    let (levels, members) = (MAX_DEPTH - 1, MAX_MEMBERS - 6);
    let nested = |open: &str, close: &str, n: usize| format!("\"x\":{}1{}", open.repeat(n), close.repeat(n));
    let objects = |n: usize| (0..n).map(|n| format!("\"x{n}\":0")).collect::<Vec<_>>().join(",");
    let elements = |n: usize| format!("\"x\":[{}]", vec!["0"; n - 1].join(","));
    let inner = |n: usize| format!("\"x\":{{{}}}", objects(n - 1));
    for (good, beyond, refusal) in [
        (nested("[", "]", levels), nested("[", "]", levels + 1), ProofRefusal::TooDeep(Part::Claims)),
        (nested("{\"x\":", "}", levels), nested("{\"x\":", "}", levels + 1), ProofRefusal::TooDeep(Part::Claims)),
        (objects(members), objects(members + 1), ProofRefusal::TooMany(Part::Claims)),
        (elements(members), elements(members + 1), ProofRefusal::TooMany(Part::Claims)),
        (inner(members), inner(members + 1), ProofRefusal::TooMany(Part::Claims)),
    ] {
        assert_eq!(Proof::open(&more(&good)).unwrap().jkt, jkt(), "{good}");
        assert_eq!(Proof::open(&more(&beyond)), Err(refusal), "{beyond}");
    }
    // As deep as the text is long, in either part.
    let deep = format!("{}{}", "[".repeat(1400), "]".repeat(1400));
    assert_eq!(Proof::open(&encoded(&header, &deep)), Err(ProofRefusal::TooDeep(Part::Claims)));
    assert_eq!(Proof::open(&encoded(&deep, &claims)), Err(ProofRefusal::TooDeep(Part::Header)));
    let members = |n| header.replacen('{', &format!("{{{},", objects(n)), 1);
    // `alg`, `typ`, `jwk` and three in it.
    assert_eq!(Proof::open(&encoded(&members(26), &claims)), Err(ProofRefusal::Unexpected(Part::Header)));
    assert_eq!(Proof::open(&encoded(&members(27), &claims)), Err(ProofRefusal::TooMany(Part::Header)));
}
