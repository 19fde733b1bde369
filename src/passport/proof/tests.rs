use super::samples::{NOW, authentic, b64, dpop, encoded, jkt, parts, pop, public, signed};
use super::*;

/// The refusal of a text.
fn refused(text: &str) -> ProofRefusal {
    Proof::open(text).unwrap_err()
}

/// `text` with its first `old` replaced, which it must hold.
fn with(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "{text} should hold {old}");
    text.replacen(old, new, 1)
}

#[test]
fn a_proof_opens_to_what_was_put_in() {
    for claims in [pop(), dpop()] {
        let text = signed(&claims);
        let proof = Proof::open(&text).unwrap();
        assert_eq!((&proof.claims, proof.public, &proof.jkt), (&claims, public(), &jkt()));
        assert_eq!(format!("{}.{}", proof.signing_input, b64(&proof.signature)), text);
        assert!(authentic(&proof));
    }
}

#[test]
fn what_is_written_is_exactly_this() {
    let x = b64(&public());
    let header = |typ| format!(r#"{{"alg":"Ed25519","jwk":{{"crv":"Ed25519","kty":"OKP","x":"{x}"}},"typ":"{typ}"}}"#);
    // What sha256sum says of "passport".
    let ath = "y8RxymAJK75sYx8CvFc5my2j0a5JGlWhqpYKSy4Kx-g";
    let ours =
        r#"","aud":"demo","iat":1700000100,"jti":"0190c7a2-7b1e","nonce":"q2Xh0JyQ9yTgGdXQW3gC5Q","op":"verify"}"#;
    let theirs =
        r#"","htm":"POST","htu":"https://api.example/orders","iat":1700000100,"jti":"0190c7a2-7b1e","nonce":"abc"}"#;
    for (claims, typ, rest) in [(pop(), "passport-pop+jwt", ours), (dpop(), "dpop+jwt", theirs)] {
        let expected = [header(typ), format!(r#"{{"ath":"{ath}{rest}"#)];
        assert_eq!(parts(&claims), expected);
        for part in expected {
            assert_eq!(crate::passport::is_canonical(part.as_bytes()), Ok(()));
        }
    }
}

/// JOSE libraries order members as they like, and some write white space and escapes that nothing asks for.
#[test]
fn the_spelling_of_json_does_not_count() {
    let x = b64(&public());
    for alg in ["EdDSA", "Ed25519"] {
        let header = format!(
            "{{ \"typ\" : \"dpop+jwt\",\n\"alg\":\"{alg}\", \"jwk\":{{\"kty\":\"OKP\",\"x\":\"{x}\",\"crv\":\"Ed25519\"}} }}"
        );
        let claims = parts(&dpop())[1].replace('/', "\\/").replace("POST", "\\u0050OST").replace(':', " : ");
        let claims = claims.replace("https : ", "https:");
        let text = encoded(&header, &claims);
        assert_eq!(Proof::open(&text).unwrap().claims, dpop(), "{header} {claims}");
    }
}

#[test]
fn a_text_that_is_no_compact_jws_is_refused() {
    let text = signed(&pop());
    let [header, claims] = parts(&pop());
    let (input, signature) = text.rsplit_once('.').unwrap();
    let base64 = |part, why| ProofRefusal::Base64(part, why);
    for (text, refusal) in [
        (String::new(), ProofRefusal::NotCompact),
        ("a".into(), ProofRefusal::NotCompact),
        (input.into(), ProofRefusal::NotCompact),
        (format!("{text}."), ProofRefusal::NotCompact),
        (format!("{text}.AAAA"), ProofRefusal::NotCompact),
        (format!(".{text}"), ProofRefusal::NotCompact),
        ("..".into(), ProofRefusal::Json(Part::Header)),
        (format!("{input}."), ProofRefusal::SignatureLength),
        (format!("{input}.{}", b64(&[7; 63])), ProofRefusal::SignatureLength),
        (format!("{input}.{}", b64(&[7; 65])), ProofRefusal::SignatureLength),
        (format!("{text}=="), base64(Part::Signature, "padding (=) is not allowed")),
        (format!("={text}"), base64(Part::Header, "padding (=) is not allowed")),
        (format!(" {text}"), base64(Part::Header, "only A-Z a-z 0-9 - _ are allowed, no white space")),
        (format!("{text}\n"), base64(Part::Signature, "only A-Z a-z 0-9 - _ are allowed, no white space")),
        (
            format!("{}.a+b.{signature}", b64(header.as_bytes())),
            base64(Part::Claims, "this is standard base64; write - for + and _ for /"),
        ),
        (
            format!("{header}.{claims}.{signature}"),
            base64(Part::Header, "this is standard base64; write - for + and _ for /"),
        ),
    ] {
        assert_eq!(refused(&text), refusal, "{text}");
    }
    // Two bits of the last character encode nothing, and must be zero.
    let (most, last) = text.split_at(text.len() - 1);
    let spare = char::from(last.as_bytes()[0] + 1);
    let why = "it was cut off, or its last character holds bits that must be zero";
    assert_eq!(refused(&format!("{most}{spare}")), base64(Part::Signature, why));
}

#[test]
fn json_must_be_one_object_whose_names_stand_once() {
    let [header, claims] = parts(&dpop());
    let unlike = |part, not: &str| match part {
        Part::Header => encoded(not, &claims),
        _ => encoded(&header, not),
    };
    for (part, good) in [(Part::Header, &header), (Part::Claims, &claims)] {
        let bare = good.trim_end_matches('}');
        for not in [
            "",
            "null",
            "7",
            "[]",
            "\"{}\"",
            "{",
            bare,
            &format!("{good}{good}"),
            &format!("{good}x"),
            &format!("\u{feff}{good}"),
            &good.replacen('{', "{,", 1),
            &with(good, "\":\"", "\":\"\n"),
            &with(good, "\":\"", "\":\"\\ud800"),
            &with(good, "\":\"", "\":\"\\x"),
            &with(good, ":", ":NaN,\"x\":"),
            &with(good, ":", ":01,\"x\":"),
            &good.replace('"', "'"),
        ] {
            assert_eq!(refused(&unlike(part, not)), ProofRefusal::Json(part), "{not}");
        }
    }
    for (part, old, new) in [
        (Part::Header, "{\"alg\"", "{\"alg\":\"none\",\"alg\""),
        (Part::Header, "\"typ\"", "\"alg\":\"EdDSA\",\"typ\""),
        (Part::Header, "\"kty\"", "\"kty\":\"EC\",\"kty\""),
        (Part::Header, "\"typ\"", "\"al\\u0067\":\"EdDSA\",\"typ\""),
        (Part::Claims, "\"iat\"", "\"jti\":\"\",\"iat\""),
        (Part::Claims, "\"iat\"", "\"x\":1,\"x\":1,\"iat\""),
        (Part::Claims, "\"iat\"", "\"x\":[{\"y\":1,\"y\":1}],\"iat\""),
    ] {
        let good = if part == Part::Header { &header } else { &claims };
        assert_eq!(refused(&unlike(part, &with(good, old, new))), ProofRefusal::Duplicate(part), "{new}");
    }
    // Not UTF-8, which JSON must be (RFC 8259 §8.1).
    let text = format!("{}.{}.{}", b64(header.as_bytes()), b64(b"{\"jti\":\"\xff\"}"), b64(&[0; 64]));
    assert_eq!(refused(&text), ProofRefusal::Json(Part::Claims));
}

#[test]
fn a_header_is_alg_typ_and_jwk_and_nothing_else() {
    use ProofRefusal::{Base64, Key, Missing, OutOfBounds, PrivateKey, Typ, Unexpected, WrongType};
    let x = b64(&public());
    let member = |name: &str| format!("\"typ\":\"dpop+jwt\",{name}");
    let in_key = |name: &str| format!("\"kty\":\"OKP\",{name}");
    let other = |member, expected| Key { member, expected };
    for (old, new, refusal) in [
        ("\"typ\":\"dpop+jwt\"", member("\"crit\":[]"), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", member("\"crit\":[\"b64\"],\"b64\":false"), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", member("\"kid\":\"k\""), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", member("\"jku\":\"https://a.example/\""), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", member("\"x5u\":\"https://a.example/\""), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", member("\"x5c\":[\"AAAA\"]"), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", member("\"cty\":null"), Unexpected(Part::Header)),
        ("\"typ\":\"dpop+jwt\"", "\"typ\":\"JWT\"".into(), Typ),
        ("\"typ\":\"dpop+jwt\"", "\"typ\":\"DPOP+JWT\"".into(), Typ),
        ("\"typ\":\"dpop+jwt\"", "\"typ\":\"application/dpop+jwt\"".into(), Typ),
        ("\"typ\":\"dpop+jwt\"", "\"typ\":\"passport+jwt\"".into(), Typ),
        ("\"typ\":\"dpop+jwt\"", "\"typ\":null".into(), WrongType(Part::Header, "typ")),
        (",\"typ\":\"dpop+jwt\"", String::new(), Missing(Part::Header, "typ")),
        ("\"alg\":\"Ed25519\",", String::new(), Missing(Part::Header, "alg")),
        ("\"alg\":\"Ed25519\"", "\"alg\":[\"Ed25519\"]".into(), WrongType(Part::Header, "alg")),
        ("\"jwk\"", "\"jkw\"".into(), Unexpected(Part::Header)),
        ("\"kty\":\"OKP\"", in_key("\"d\":\"AAAA\""), PrivateKey),
        ("\"kty\":\"OKP\"", in_key("\"d\":null"), PrivateKey),
        ("\"kty\":\"OKP\"", in_key("\"kid\":\"k\""), Unexpected(Part::Jwk)),
        ("\"kty\":\"OKP\"", in_key("\"y\":\"AAAA\""), Unexpected(Part::Jwk)),
        ("\"kty\":\"OKP\"", in_key("\"x5c\":[]"), Unexpected(Part::Jwk)),
        ("\"kty\":\"OKP\"", "\"kty\":\"EC\"".into(), other("kty", "OKP")),
        ("\"kty\":\"OKP\"", "\"kty\":\"okp\"".into(), other("kty", "OKP")),
        ("\"kty\":\"OKP\",", String::new(), Missing(Part::Jwk, "kty")),
        ("\"crv\":\"Ed25519\"", "\"crv\":\"X25519\"".into(), other("crv", "Ed25519")),
        ("\"crv\":\"Ed25519\"", "\"crv\":\"Ed448\"".into(), other("crv", "Ed25519")),
        ("\"crv\":\"Ed25519\"", "\"crv\":{}".into(), WrongType(Part::Jwk, "crv")),
        ("\"crv\":\"Ed25519\",", String::new(), Missing(Part::Jwk, "crv")),
        (&format!(",\"x\":\"{x}\""), String::new(), Missing(Part::Jwk, "x")),
        (&x, b64(&public()[..31]), OutOfBounds(Part::Jwk, "x")),
        (&x, b64(&[7; 33]), OutOfBounds(Part::Jwk, "x")),
        (&x, String::new(), OutOfBounds(Part::Jwk, "x")),
        (&x, format!("{x}="), Base64(Part::Jwk, "padding (=) is not allowed")),
    ] {
        let [header, claims] = parts(&dpop());
        assert_eq!(refused(&encoded(&with(&header, old, &new), &claims)), refusal, "{new}");
    }
    let [header, claims] = parts(&pop());
    let text = encoded(&with(&header, "\"jwk\":{", "\"jwk\":[{").replace("},\"typ", "}],\"typ"), &claims);
    assert_eq!(refused(&text), WrongType(Part::Header, "jwk"));
    assert_eq!(refused(&encoded(r#"{"alg":"EdDSA","typ":"dpop+jwt"}"#, &claims)), Missing(Part::Header, "jwk"));
}

#[test]
fn a_refusal_names_registered_algorithms_and_repeats_nothing_else() {
    let [header, claims] = parts(&pop());
    for (alg, named) in [
        ("none", "none"),
        ("HS256", "HS256"),
        ("RS256", "RS256"),
        ("PS512", "PS512"),
        ("ES256", "ES256"),
        ("ES256K", "ES256K"),
        ("Ed448", "Ed448"),
        ("ML-DSA-65", "ML-DSA-65"),
        ("", "unknown"),
        ("NONE", "unknown"),
        ("es256", "unknown"),
        ("ES256 ", "unknown"),
        ("eddsa", "unknown"),
        ("ed25519", "unknown"),
        ("Ed25519ph", "unknown"),
        ("ES256\\u001b[31m", "unknown"),
        ("<script>", "unknown"),
    ] {
        let text = encoded(&with(&header, "\"alg\":\"Ed25519\"", &format!("\"alg\":\"{alg}\"")), &claims);
        assert_eq!(refused(&text), ProofRefusal::Alg(named), "{alg}");
        let message = refused(&text).to_string();
        assert_eq!(message, format!("the proof's algorithm is {named}, but must be Ed25519 or EdDSA"));
    }
    // Without a signature, as `none` has it, and with a key of the other algorithm.
    let none = b64(br#"{"alg":"none","typ":"dpop+jwt"}"#);
    assert_eq!(refused(&format!("{none}.{}.", b64(claims.as_bytes()))), ProofRefusal::Alg("none"));
}

#[test]
fn the_claims_of_ours_are_a_closed_set_and_those_of_dpop_are_not() {
    use ProofRefusal::{Missing, OutOfBounds, Unexpected, WrongType};
    let claims = Part::Claims;
    let ath = b64(&pop().ath);
    for (kind, old, new, refusal) in [
        (pop(), "\"jti\":\"0190c7a2-7b1e\",", "", Missing(claims, "jti")),
        (pop(), "\"iat\":1700000100,", "", Missing(claims, "iat")),
        (pop(), "\"aud\":\"demo\",", "", Missing(claims, "aud")),
        (pop(), ",\"op\":\"verify\"", "", Missing(claims, "op")),
        (pop(), ",\"nonce\":\"q2Xh0JyQ9yTgGdXQW3gC5Q\"", "", Missing(claims, "nonce")),
        (pop(), "\"ath\":", "\"exp\":1,\"ath\":", Unexpected(claims)),
        (pop(), "\"ath\":", "\"ath2\":", Unexpected(claims)),
        (pop(), "\"ath\":", "\"htm\":\"GET\",\"ath\":", Unexpected(claims)),
        (pop(), "\"demo\"", "[\"demo\"]", WrongType(claims, "aud")),
        (pop(), "\"demo\"", "\"\"", OutOfBounds(claims, "aud")),
        (pop(), "\"verify\"", "true", WrongType(claims, "op")),
        (pop(), "\"verify\"", "\"\"", OutOfBounds(claims, "op")),
        (pop(), "\"q2Xh0JyQ9yTgGdXQW3gC5Q\"", "null", WrongType(claims, "nonce")),
        (pop(), "\"q2Xh0JyQ9yTgGdXQW3gC5Q\"", "\"\\u0000\"", OutOfBounds(claims, "nonce")),
        (dpop(), "\"htm\":\"POST\",", "", Missing(claims, "htm")),
        (dpop(), "\"htu\":", "\"hut\":", Missing(claims, "htu")),
        (dpop(), &format!("\"ath\":\"{ath}\","), "", Missing(claims, "ath")),
        (dpop(), "\"POST\"", "\"\"", OutOfBounds(claims, "htm")),
        (dpop(), "\"POST\"", "\"PO ST\"", OutOfBounds(claims, "htm")),
        (dpop(), "\"https://api.example/orders\"", "\"/orders\"", OutOfBounds(claims, "htu")),
        (dpop(), "\"https://api.example/orders\"", "[]", WrongType(claims, "htu")),
        (dpop(), "\"abc\"", "null", WrongType(claims, "nonce")),
        (dpop(), "\"abc\"", "\"\"", OutOfBounds(claims, "nonce")),
        (dpop(), "\"0190c7a2-7b1e\"", "7", WrongType(claims, "jti")),
        (dpop(), "\"0190c7a2-7b1e\"", "\"\"", OutOfBounds(claims, "jti")),
        (dpop(), "\"0190c7a2-7b1e\"", "\"a\\nb\"", OutOfBounds(claims, "jti")),
        (dpop(), &ath, "AAAA", OutOfBounds(claims, "ath")),
        (dpop(), &ath, &format!("{ath}="), OutOfBounds(claims, "ath")),
        // The last character of 32 bytes has two bits too many.
        (dpop(), &ath, &format!("{}p", ath.split_at(42).0), OutOfBounds(claims, "ath")),
        (dpop(), &ath, &"+".repeat(43), OutOfBounds(claims, "ath")),
    ] {
        let [header, json] = parts(&kind);
        assert_eq!(refused(&encoded(&header, &with(&json, old, new))), refusal, "{old} {new}");
    }
    let [header, json] = parts(&dpop());
    let more =
        with(&json, "\"ath\":", "\"exp\":1,\"aud\":[],\"op\":{},\"x\":[null,1e3,{\"y\":\"\\ud83d\\ude02\"}],\"ath\":");
    assert_eq!(Proof::open(&encoded(&header, &more)).unwrap().claims, dpop());
    // Without a nonce, which a service need not give.
    let none = with(&json, ",\"nonce\":\"abc\"", "");
    let text = encoded(&header, &none);
    assert!(matches!(Proof::open(&text).unwrap().claims.purpose, Purpose::Http { nonce: None, .. }));
}

#[test]
fn the_time_is_an_integer_that_passports_could_have() {
    use ProofRefusal::{Json, OutOfBounds, WrongType};
    let claims = Part::Claims;
    let [header, json] = parts(&dpop());
    let at = |iat: &str| encoded(&header, &with(&json, "1700000100", iat));
    for (iat, value) in [("0", 0), ("2147483648", 1 << 31), ("9007199254740991", MAX_INTEGER)] {
        assert_eq!(Proof::open(&at(iat)).unwrap().claims.iat, value);
    }
    for (iat, refusal) in [
        ("9007199254740992", OutOfBounds(claims, "iat")),
        ("9223372036854775807", OutOfBounds(claims, "iat")),
        ("9223372036854775808", OutOfBounds(claims, "iat")),
        ("18446744073709551615", OutOfBounds(claims, "iat")),
        ("-1", OutOfBounds(claims, "iat")),
        ("-9223372036854775808", OutOfBounds(claims, "iat")),
        ("18446744073709551616", WrongType(claims, "iat")),
        ("-0", WrongType(claims, "iat")),
        ("1700000100.0", WrongType(claims, "iat")),
        ("1700000100.5", WrongType(claims, "iat")),
        ("17000001e2", WrongType(claims, "iat")),
        ("\"1700000100\"", WrongType(claims, "iat")),
        ("null", WrongType(claims, "iat")),
        ("1e999", Json(claims)),
        ("+1", Json(claims)),
        ("0x10", Json(claims)),
        ("Infinity", Json(claims)),
    ] {
        assert_eq!(refused(&at(iat)), refusal, "{iat}");
    }
}

/// Every message that a client may be shown, with the longest of what is put into it.
#[test]
fn what_is_said_of_a_proof_is_short_and_plain() {
    let parts = [Part::Header, Part::Jwk, Part::Claims, Part::Signature];
    let of_parts = parts.into_iter().flat_map(|part| {
        use ProofRefusal::{Base64, Duplicate, Json, Missing, OutOfBounds, TooDeep, TooMany, Unexpected, WrongType};
        let why = "it was cut off, or its last character holds bits that must be zero";
        let plain = [Json(part), TooDeep(part), TooMany(part), Duplicate(part), Unexpected(part), Base64(part, why)];
        plain.into_iter().chain([Missing(part, "nonce"), WrongType(part, "nonce"), OutOfBounds(part, "nonce")])
    });
    use ProofRefusal::{
        Alg, Key, NotCompact, OtherAudience, OtherKey, OtherKind, OtherMethod, OtherNonce, OtherOperation,
        OtherPassport, OtherTarget, PrivateKey, Signature, SignatureLength, TooEarly, TooLong, TooOld, Typ,
    };
    let key = Key { member: "crv", expected: "Ed25519" };
    let others =
        [OtherAudience, OtherKey, OtherKind, OtherMethod, OtherNonce, OtherOperation, OtherPassport, OtherTarget];
    let rest =
        [Alg("ML-DSA-87"), key, NotCompact, PrivateKey, Signature, SignatureLength, TooEarly, TooLong, TooOld, Typ];
    let mut messages = std::collections::BTreeSet::new();
    for refusal in of_parts.chain(others).chain(rest) {
        let message = refusal.to_string();
        assert!(message.len() <= 128, "{message}");
        assert!(message.contains("proof") && message.bytes().all(|byte| matches!(byte, 0x20..=0x7e)), "{message}");
        assert!(messages.insert(message), "{refusal:?} is said of another, too");
        assert_eq!(crate::passport::Refusal::from(refusal).code(), "pop_invalid");
    }
}

#[test]
fn no_byte_of_a_proof_can_be_another() {
    for claims in [pop(), dpop()] {
        let text = signed(&claims);
        let (mut read, mut tried) = (0, 0);
        for at in 0..text.len() {
            for bit in 0..7 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let other = String::from_utf8(bytes).unwrap();
                tried += 1;
                if let Ok(proof) = Proof::open(&other) {
                    read += 1;
                    assert!(!authentic(&proof), "{other}");
                }
            }
        }
        // Both ways of being refused were seen.
        assert!(read > 100 && tried > read + 100, "{read} of {tried}");
        assert!((0..text.len()).all(|end| Proof::open(text.split_at(end).0).is_err()), "cut off");
    }
}

#[test]
fn the_replay_key_is_of_holder_and_id_alone() {
    let open = |text: &str| Proof::open(text).unwrap().replay_key();
    let ours = open(&signed(&pop()));
    let later = ProofClaims { iat: NOW + 1, ath: ath(b"another"), ..pop() };
    assert_eq!(open(&signed(&later)), ours);
    assert_eq!(open(&signed(&dpop())), ours, "of the other kind");
    let [header, claims] = parts(&pop());
    assert_eq!(open(&encoded(&header, &with(&claims, "0190c7a2", "\\u0030190c7a2"))), ours, "spelt otherwise");
    assert_ne!(open(&signed(&ProofClaims { jti: "0190c7a2-7b1f".into(), ..pop() })), ours);
    let other = pop().signing_input(&[9; 32]).unwrap();
    assert_ne!(open(&with_signature(&other, &[0; 64])), ours, "of another holder");
}
