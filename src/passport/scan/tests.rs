//! What the scanner admits and what it refuses, by example; `tests/props.rs` does it by the thousand.

use super::{super::claims::tests as samples, *};

/// A payload with every required member, into which `swap` puts other bytes.
fn payload(swap: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::from_utf8(samples::full().canonical(4096).unwrap()).unwrap();
    for (old, new) in swap {
        assert!(text.contains(old), "{old} is not in {text}");
        text = text.replacen(old, new, 1);
    }
    text.into_bytes()
}

fn fault(swap: &[(&str, &str)]) -> Fault {
    scan(&payload(swap)).unwrap_err().fault
}

#[test]
fn what_is_written_is_read() {
    let bound = |cnf_uid| Claims { cnf_uid: Some(cnf_uid), ..samples::plain() };
    for claims in [samples::plain(), samples::full(), bound(0), bound(u32::MAX - 1)] {
        let bytes = claims.canonical(4096).unwrap();
        assert_eq!(scan(&bytes).unwrap().to_claims().unwrap(), claims);
        assert_eq!(is_canonical(&bytes), Ok(()));
    }
}

#[test]
fn what_is_bound_to_a_user_is_not_for_verifiers_beside_the_daemon() {
    let bound = Claims { cnf_uid: Some(0), ..samples::plain() }.canonical(4096).unwrap();
    let (view, free) = (scan(&bound).unwrap(), samples::plain().canonical(4096).unwrap());
    assert!(view.needs_daemon() && !view.takes() && view.cnf_uid == Some(0));
    assert!(!scan(&free).unwrap().needs_daemon());
}

#[test]
fn strings_with_escapes_say_so_and_compare_by_content() {
    let bytes = payload(&[]);
    let view = scan(&bytes).unwrap();
    let nonce = view.nonce.unwrap();
    assert_eq!((nonce.plain(), nonce.raw(), &*nonce.decode()), (None, r#"n\"1\\"#, r#"n"1\"#));
    assert!(nonce == *r#"n"1\"# && nonce != *r#"n\"1\\"# && nonce != *r#"n"1"#);
    assert_eq!(view.sub.plain(), Some("alice"));
    assert!(view.scopes.contains("write") && !view.scopes.contains("writ") && !view.scopes.contains("read\",\"write"));
    assert_eq!(view.ctx, Some("{\"a\":{\"😂\":1,\"！\":2},\"z\":[null,true,-5,\"ö\\n\"]}"));
}

#[test]
fn arrays_of_strings_split_where_the_strings_end() {
    let bytes = payload(&[(r#"["read","write"]"#, r#"["a\\","\"b\",","","é"]"#)]);
    assert_eq!(scan(&bytes).unwrap_err().fault, Fault::OutOfBounds(Member::Scopes));
    let bytes = payload(&[(r#"["read","write"]"#, r#"["a\\","\"b\",",",","é"]"#)]);
    let view = scan(&bytes).unwrap();
    let scopes: Vec<_> = view.scopes.iter().map(|scope| scope.decode().into_owned()).collect();
    assert_eq!(scopes, ["a\\", "\"b\",", ",", "é"]);
    assert_eq!(view.scopes.len(), 4);
    let bytes = payload(&[(r#"["read","write"]"#, "[]")]);
    assert!(scan(&bytes).unwrap().scopes.is_empty());
}

#[test]
fn each_departure_from_the_canonical_form_is_named() {
    for (swap, expected) in [
        (("{\"aud\"", " {\"aud\""), Fault::Unexpected),
        (("\"alice\"}", "\"alice\"} "), Fault::Trailing),
        (("\"alice\"}", "\"alice\""), Fault::Truncated),
        (("\"alice\"}", "\"alice"), Fault::Truncated),
        (("\"alice\"}", "\"alice\",}"), Fault::Unexpected),
        (("\"iat\":", "\"iat\": "), Fault::Unexpected),
        (("alice", "al\u{1}ice"), Fault::ControlCharacter),
        (("alice", "\\u0061lice"), Fault::Escape),
        (("alice", "a\\/b"), Fault::Escape),
        (("ö\\n", "ö\\u000a"), Fault::Escape),
        (("ö\\n", "ö\\u001F"), Fault::Escape),
        (("ö\\n", "\\ud83d\\ude02"), Fault::Escape),
        (("1700000000", "01700000000"), Fault::Number),
        (("-5", "-0"), Fault::Number),
        (("-5", "00"), Fault::Number),
        (("-5", "-"), Fault::Unexpected),
        (("-5", "+5"), Fault::Unexpected),
        (("-5", "5.0"), Fault::Float),
        (("-5", "5e1"), Fault::Float),
        (("-5", "9007199254740992"), Fault::NumberRange),
        (("-5", "-9007199254740992"), Fault::NumberRange),
        (("-5", "100000000000000000000"), Fault::NumberRange),
        (("null", "nul"), Fault::Unexpected),
        (("null,", "null,,"), Fault::Unexpected),
        (("\"ö\\n\"]", "\"ö\\n\",]"), Fault::Unexpected),
        (("{\"😂\":1,\"！\":2}", "{\"！\":2,\"😂\":1}"), Fault::MemberOrder),
        (("{\"😂\":1,\"！\":2}", "{\"😂\":1,\"😂\":1}"), Fault::DuplicateMember),
        (("\"epoch\":7", "\"epoch\":7,\"epoch\":7"), Fault::DuplicateMember),
    ] {
        assert_eq!(fault(&[swap]), expected, "{swap:?}");
    }
    assert_eq!(scan(b"{\"a\":\"\xff\"}").unwrap_err(), Refused { fault: Fault::NotUtf8, at: 6 });
    assert_eq!(scan(b"").unwrap_err().fault, Fault::Truncated);
    assert_eq!(scan(b"[]").unwrap_err().fault, Fault::Unexpected);
}

#[test]
fn members_are_a_closed_set_of_fixed_types() {
    for (swap, expected) in [
        (("\"epoch\":7", "\"epoch\":7,\"evil\":1"), Fault::UnknownMember),
        (("\"limit\":3", "\"limit\":3,\"max\":1"), Fault::UnknownMember),
        (("\"cnf\":{\"jkt\"", "\"cnf\":{\"jwk\""), Fault::UnknownMember),
        (("\"uid\":1000", "\"uids\":1000"), Fault::UnknownMember),
        (("\"uid\":1000", "\"uid\":1000,\"uid\":1000"), Fault::DuplicateMember),
        (("\"uid\":1000", "\"uid\":\"1000\""), Fault::WrongType(Member::CnfUid)),
        (("\"uid\":1000", "\"uid\":null"), Fault::WrongType(Member::CnfUid)),
        (("\"uid\":1000", "\"uid\":-1"), Fault::OutOfBounds(Member::CnfUid)),
        (("\"uid\":1000", "\"uid\":4294967295"), Fault::OutOfBounds(Member::CnfUid)),
        (("\"uid\":1000", "\"uid\":4294968296"), Fault::OutOfBounds(Member::CnfUid)),
        (("\"uid\":1000", "\"uid\":1000.0"), Fault::Float),
        (
            ("\"cnf\":{\"jkt\":\"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k\",\"uid\":1000}", "\"cnf\":{}"),
            Fault::Missing(Member::Cnf),
        ),
        (("\"epoch\":7,", ""), Fault::Missing(Member::Epoch)),
        ((",\"sub\":\"alice\"", ""), Fault::Missing(Member::Sub)),
        (("\"limit\":3,\"template\":\"demo\"", "\"limit\":3"), Fault::Missing(Member::CapTemplate)),
        (("[\"demo\"]", "\"demo\""), Fault::WrongType(Member::Aud)),
        (("[\"demo\"]", "[1]"), Fault::WrongType(Member::Aud)),
        (("\"exp\":1700003600", "\"exp\":\"1700003600\""), Fault::WrongType(Member::Exp)),
        (("\"exp\":1700003600", "\"exp\":null"), Fault::WrongType(Member::Exp)),
        (("\"exp\":1700003600", "\"exp\":-1"), Fault::OutOfBounds(Member::Exp)),
        (("\"exp\":1700003600", "\"exp\":1.5"), Fault::Float),
        (("\"limit\":3", "\"limit\":0"), Fault::OutOfBounds(Member::CapLimit)),
        (("\"alice\"", "\"\""), Fault::OutOfBounds(Member::Sub)),
        (("\"alice\"", "\"a\\nb\""), Fault::OutOfBounds(Member::Sub)),
        (("\"alice\"", "\"a\u{7f}\""), Fault::OutOfBounds(Member::Sub)),
        (("\"alice\"", "{}"), Fault::WrongType(Member::Sub)),
        (("auth/v3", "auth/\\\"v3"), Fault::OutOfBounds(Member::Kid)),
        (("rS4k\"", "rS4l\""), Fault::OutOfBounds(Member::CnfJkt)),
    ] {
        assert_eq!(fault(&[swap]), expected, "{swap:?}");
    }
    let ctx = "\"ctx\":{\"a\":{\"😂\":1,\"！\":2},\"z\":[null,true,-5,\"ö\\n\"]}";
    assert_eq!(fault(&[(ctx, "\"ctx\":[]")]), Fault::WrongType(Member::Ctx));
    let many = format!("[{}]", vec!["\"a\""; 17].join(","));
    assert_eq!(fault(&[("[\"demo\"]", &many)]), Fault::OutOfBounds(Member::Aud));
    let long = format!("\"{}\"", "a".repeat(257));
    assert_eq!(fault(&[("\"alice\"", &long)]), Fault::OutOfBounds(Member::Sub));
}

#[test]
fn depth_is_bounded_in_the_payload_and_alone() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(is_canonical(nested(15).as_bytes()), Ok(()));
    assert_eq!(is_canonical(nested(16).as_bytes()).unwrap_err().fault, Fault::TooDeep);
    // `ctx` itself is level 2.
    assert!(scan(&payload(&[("[null,true,-5,\"ö\\n\"]", &nested(13))])).is_ok());
    assert_eq!(fault(&[("[null,true,-5,\"ö\\n\"]", &nested(14))]), Fault::TooDeep);
    // A hostile nesting costs neither stack nor time.
    assert_eq!(is_canonical("{\"a\":[".repeat(100_000).as_bytes()).unwrap_err().fault, Fault::TooDeep);
}

#[test]
fn every_prefix_is_refused_as_cut_off() {
    let bytes = payload(&[]);
    for end in 0..bytes.len() {
        assert!(scan(&bytes[..end]).is_err(), "{end}");
        assert!(is_canonical(&bytes[..end]).is_err(), "{end}");
    }
}
