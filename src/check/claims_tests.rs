//! The edges of the claims, as one would write them who has the key: alone, in both forms, against the reference.

use ed25519_dalek::{Signer as _, SigningKey};

use super::tests::{NOW, claims, expect};
use super::*;
use crate::clock::Moment;
use crate::passport::{Jwk, Kid, jws};
use crate::state::Store;
use crate::verify::{Budget, Verifier};

const MAX: i64 = (1 << 53) - 1;

/// What this text is, signed by the key of version 1 of `t1`, in each form.
fn verdicts(text: &str, terms: &Terms<'_>) -> [Verdict; 2] {
    signed(text.as_bytes(), "t1", terms)
}

fn signed(msg: &[u8], tenant: &str, terms: &Terms<'_>) -> [Verdict; 2] {
    let signer = |seed| SigningKey::from_bytes(&[seed; 32]);
    let [own, other] = ["t1", "t2"].map(|tenant| Kid::new(tenant, "auth", 1).unwrap());
    let jwk = |kid: &Kid, seed| Jwk::new(kid.clone(), signer(seed).verifying_key().to_bytes());
    let keyring = Keyring::new(&[jwk(&own, 1), jwk(&other, 2)]).unwrap();
    let kid = if tenant == "t1" { own } else { other };
    let (name, input) = (kid.to_string(), jws::signing_input(kid.borrowed(), msg));
    let sig = signer(1).sign(msg).to_bytes();
    let text = jws::compact(input.clone(), &signer(1).sign(input.as_bytes()).to_bytes());
    let passports = [Passport::Envelope { alg: "Ed25519", kid: &name, msg, sig: &sig }, Passport::Jws { text: &text }];
    let (verifier, confirmations) = (Verifier::reference(), Budget::default());
    let state = Store::memory(Moment::from_unix(NOW)).unwrap();
    let (keyring, verifier, confirmations) = (&keyring, &verifier, &confirmations);
    let means = Means { keyring, verifier, confirmations, remembered: None, state: &state };
    check(&passports, means, terms).verdicts.try_into().unwrap()
}

/// What is good from [`NOW`] for ten seconds, with something else in the place of a part of it.
fn text(from: &str, to: &str) -> String {
    let mut claims = claims(&Kid::new("t1", "auth", 1).unwrap());
    (claims.exp, claims.nbf) = (NOW + 10, Some(NOW));
    let text = String::from_utf8(claims.canonical(4096).unwrap()).unwrap();
    assert!(text.contains(from), "{from}: {text}");
    text.replacen(from, to, 1)
}

#[track_caller]
fn refused(from: &str, to: &str, code: Code) {
    let found = verdicts(&text(from, to), &expect(NOW, &["orders"], &["read"]));
    assert_eq!(found, [Verdict::Refused(code), Verdict::Refused(code)], "{to}");
}

#[track_caller]
fn accepted(from: &str, to: &str, exp: i64) {
    let found = verdicts(&text(from, to), &expect(NOW, &["orders"], &["read"]));
    assert_eq!(found, [(); 2].map(|()| Verdict::Accepted(Accepted { exp })), "{to}");
}

#[test]
fn times_at_every_edge() {
    let at = |name: &str, was: i64, is: i64| (format!("\"{name}\":{was}"), format!("\"{name}\":{is}"));
    let exp = |is| at("exp", NOW + 10, is);
    for (is, late) in [(NOW - 1, true), (NOW, true), (NOW + 1, false), (0, true)] {
        let (from, to) = exp(is);
        if late { refused(&from, &to, Code::Expired) } else { accepted(&from, &to, is) }
    }
    for is in [(1 << 31) - 1, 1 << 31, (1 << 31) + 1, (1 << 32) - 1, 1 << 32, MAX] {
        let (from, to) = exp(is);
        accepted(&from, &to, is);
    }
    for name in ["iat", "nbf"] {
        for (is, early) in [(0, false), (NOW - 1, false), (NOW, false), (NOW + 1, true), (1 << 31, true), (MAX, true)] {
            let (from, to) = at(name, NOW, is);
            // One that begins after its end was never good.
            let code = if is > NOW + 10 { Code::Expired } else { Code::Nbf };
            if early { refused(&from, &to, code) } else { accepted(&from, &to, NOW + 10) }
        }
    }
    for name in ["exp", "iat", "nbf"] {
        let from = format!("\"{name}\":{}", if name == "exp" { NOW + 10 } else { NOW });
        for number in [
            "9007199254740992",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551616",
            "-1",
            "-0",
            "-9223372036854775808",
            "1e10",
            "1767225600.0",
            "01767225600",
            "+1767225600",
            "NaN",
            "Infinity",
            "null",
            "true",
            "\"1767225600\"",
            "[1767225600]",
            "",
        ] {
            refused(&from, &format!("\"{name}\":{number}"), Code::Malformed);
        }
    }
}

#[test]
fn other_spellings_and_shapes() {
    let sub = "\"sub\":\"x\"";
    for (from, to) in [
        (sub, "\"sub\":\"x\",\"sub\":\"x\""),
        (sub, "\"sub\":\"x\",\"s\\u0075b\":\"y\""),
        ("\"exp\"", "\"exp\":1,\"exp\""),
        (sub, "\"sub\":\"\\u0078\""),
        (sub, "\"sub\":\"\\/\""),
        (sub, "\"sub\":\"a\\u0000\""),
        (sub, "\"sub\":\"a\\n\""),
        (sub, "\"sub\":\"\\ud800\""),
        (sub, "\"sub\":\"\\udc00\""),
        (sub, "\"sub\":\"\\udc00\\ud800\""),
        (sub, "\"sub\":\"\\ud83d\\ude02\""),
        (sub, "\"sub\":null"),
        (sub, "\"sub\":\"x\",\"tenant\":\"t2\""),
        ("{\"aud\"", " {\"aud\""),
        ("{\"aud\"", "\u{feff}{\"aud\""),
        ("[\"orders\"]", "\"orders\""),
        ("[\"orders\"]", "[[\"orders\"]]"),
        ("[\"read\"]", "\"read\""),
        ("[\"read\"]", "{\"read\":true}"),
    ] {
        refused(from, to, Code::Malformed);
    }
    // A surrogate in the bytes themselves, and half a character.
    for bad in [&[0xed, 0xa0, 0x80][..], &[0xff], &[0xc3]] {
        let mut msg = text("", "").into_bytes();
        let at = msg.windows(sub.len()).position(|part| part == sub.as_bytes()).unwrap() + 7;
        msg.splice(at..=at, bad.iter().copied());
        let found = signed(&msg, "t1", &expect(NOW, &["orders"], &["read"]));
        assert_eq!(found, [(); 2].map(|()| Verdict::Refused(Code::Malformed)), "{bad:?}");
    }
    let ctx = |levels: usize| format!("\"ctx\":{}1{},\"epoch\":0", "{\"a\":".repeat(levels), "}".repeat(levels));
    accepted("\"epoch\":0", &ctx(8), NOW + 10);
    for levels in [16, 17, 400] {
        refused("\"epoch\":0", &ctx(levels), Code::Malformed);
    }
}

#[test]
fn audiences_and_scopes_match_whole_or_not_at_all() {
    let near = |word: &str| {
        let (first, rest) = word.split_at(1);
        let (short, _) = word.split_at(word.len() - 1);
        [
            short.to_owned(),
            rest.to_owned(),
            format!("{word}s"),
            format!("{word} "),
            format!(" {word}"),
            format!("{word}/x"),
            format!("{word}:x"),
            format!("{word},{word}"),
            format!("{word} {word}"),
            first.to_uppercase() + rest,
            word.to_uppercase(),
            format!("{word}*"),
            "*".to_owned(),
        ]
    };
    for (word, code) in [("orders", Code::BadAud), ("read", Code::ScopeDenied)] {
        let from = format!("[\"{word}\"]");
        for other in near(word) {
            // Said by the passport, and wanted of it.
            refused(&from, &format!("[\"{other}\"]"), code);
            let (aud, scope) = if code == Code::BadAud { (other.as_str(), "read") } else { ("orders", other.as_str()) };
            let found = verdicts(&text("", ""), &expect(NOW, &[aud], &[scope]));
            assert_eq!(found, [(); 2].map(|()| Verdict::Refused(code)), "{other:?} is wanted");
        }
        refused(&from, "[]", code);
        accepted(&from, &format!("[\"a\",\"{word}\",\"z\"]"), NOW + 10);
    }
}

#[test]
fn no_key_signs_for_another_tenant() {
    let terms = expect(NOW, &["orders"], &["read"]);
    let own = "\"kid\":\"ed25519/t1/auth/v1\"";
    let other = text(own, "\"kid\":\"ed25519/t2/auth/v1\"");
    let both = |code| [(); 2].map(|()| Verdict::Refused(code));
    assert_eq!(verdicts(&other, &terms), both(Code::BadKid), "inside another than outside");
    assert_eq!(signed(text("", "").as_bytes(), "t2", &terms), both(Code::BadKid), "and the other way round");
    assert_eq!(
        signed(other.as_bytes(), "t2", &terms),
        both(Code::VerifyFailed),
        "both of a tenant whose key it is not"
    );
    let none = text(own, "\"kid\":\"ed25519/t3/auth/v1\"");
    assert_eq!(verdicts(&none, &terms), both(Code::BadKid));
}
