//! Proofs against expectations.

use super::samples::{NOW, dpop, for_dpop, for_pop, jkt, pop, signed};
use super::*;
use crate::clock::Moment;

fn judged(claims: &ProofClaims, expect: &ProofExpect<'_>) -> Result<(), ProofRefusal> {
    Proof::open(&signed(claims)).unwrap().judge(expect)
}

#[test]
fn a_proof_is_for_one_passport_key_peer_operation_and_nonce() {
    let jkt = jkt();
    let base = for_pop(&jkt);
    assert_eq!(judged(&pop(), &base), Ok(()));
    let operation =
        |audiences, op, nonce| ProofExpect { purpose: Expected::Operation { audiences, op, nonce }, ..base };
    let given = "q2Xh0JyQ9yTgGdXQW3gC5Q";
    let other = thumbprint(&[9; 32]);
    for (expect, refusal) in [
        (ProofExpect { jkt: &other, ..base }, ProofRefusal::OtherKey),
        (ProofExpect { jkt: "", ..base }, ProofRefusal::OtherKey),
        (ProofExpect { ath: ath(b"passport "), ..base }, ProofRefusal::OtherPassport),
        (operation(&["api"], "verify", given), ProofRefusal::OtherAudience),
        (operation(&[], "verify", given), ProofRefusal::OtherAudience),
        (operation(&["dem", "demo2", "Demo"], "verify", given), ProofRefusal::OtherAudience),
        (operation(&["demo"], "exchange", given), ProofRefusal::OtherOperation),
        (operation(&["demo"], "verify ", given), ProofRefusal::OtherOperation),
        (operation(&["demo"], "verify", "q2Xh0JyQ9yTgGdXQW3gC5q"), ProofRefusal::OtherNonce),
        (operation(&["demo"], "verify", ""), ProofRefusal::OtherNonce),
        (for_dpop(&jkt), ProofRefusal::OtherKind),
    ] {
        assert_eq!(judged(&pop(), &expect), Err(refusal), "{expect:?}");
    }
    assert_eq!(judged(&pop(), &operation(&["x", "demo"], "verify", given)), Ok(()));
}

#[test]
fn a_dpop_proof_is_for_one_request_and_its_nonce_counts_if_one_was_given() {
    let jkt = jkt();
    let base = for_dpop(&jkt);
    assert_eq!(judged(&dpop(), &base), Ok(()));
    let http = |htm, htu, nonce| {
        let htu = Target::parse(htu).unwrap();
        ProofExpect { purpose: Expected::Http { htm, htu, nonce }, ..base }
    };
    let htu = "https://api.example/orders";
    for (expect, refusal) in [
        (http("GET", htu, Some("abc")), ProofRefusal::OtherMethod),
        (http("post", htu, Some("abc")), ProofRefusal::OtherMethod),
        (http("", htu, Some("abc")), ProofRefusal::OtherMethod),
        (http("POST", "http://api.example/orders", Some("abc")), ProofRefusal::OtherTarget),
        (http("POST", "https://api.example/orders/", Some("abc")), ProofRefusal::OtherTarget),
        (http("POST", "https://api.example.com/orders", Some("abc")), ProofRefusal::OtherTarget),
        (http("POST", htu, Some("abd")), ProofRefusal::OtherNonce),
        (http("POST", htu, Some("")), ProofRefusal::OtherNonce),
        (for_pop(&jkt), ProofRefusal::OtherKind),
    ] {
        assert_eq!(judged(&dpop(), &expect), Err(refusal), "{expect:?}");
    }
    assert_eq!(judged(&dpop(), &http("POST", htu, None)), Ok(()), "the service gave none");
    let purpose = Purpose::Http { htm: "POST".into(), htu: htu.into(), nonce: None };
    let without = ProofClaims { purpose, ..dpop() };
    assert_eq!(judged(&without, &http("POST", htu, None)), Ok(()));
    assert_eq!(judged(&without, &http("POST", htu, Some("abc"))), Err(ProofRefusal::OtherNonce));
}

#[test]
fn the_window_is_inclusive_on_both_sides_and_the_skew_counts_at_each() {
    let jkt = jkt();
    let at = |iat, window_s, skew_s| {
        judged(&ProofClaims { iat, ..pop() }, &ProofExpect { window_s, skew_s, ..for_pop(&jkt) })
    };
    for (window, skew) in [(0, 0), (1, 0), (0, 1), (60, 5), (300, 120)] {
        let (first, last) = (NOW - i64::from(window + skew), NOW + i64::from(skew));
        assert_eq!(at(first - 1, window, skew), Err(ProofRefusal::TooOld), "{window} {skew}");
        assert_eq!(at(first, window, skew), Ok(()), "{window} {skew}");
        assert_eq!(at(last, window, skew), Ok(()), "{window} {skew}");
        assert_eq!(at(last + 1, window, skew), Err(ProofRefusal::TooEarly), "{window} {skew}");
    }
}

#[test]
fn the_largest_times_do_not_wrap() {
    let jkt = jkt();
    let at = |iat, now, window_s, skew_s| {
        judged(&ProofClaims { iat, ..pop() }, &ProofExpect { now, window_s, skew_s, ..for_pop(&jkt) })
    };
    let (first, last) = (Moment::from_unix(0), Moment::from_unix(i64::MAX));
    assert_eq!(at(MAX_INTEGER, first, 60, u32::MAX), Err(ProofRefusal::TooEarly));
    assert_eq!(at(0, last, u32::MAX, u32::MAX), Err(ProofRefusal::TooOld));
    assert_eq!(at(0, first, u32::MAX, u32::MAX), Ok(()));
    assert_eq!(at(u32::MAX.into(), first, 0, u32::MAX), Ok(()));
    // Both ends of the range saturate.
    let until = ProofExpect { now: last, window_s: u32::MAX, skew_s: u32::MAX, ..for_pop(&jkt) }.replay_until();
    assert_eq!(until, last.plus(1));
}

#[test]
fn an_accepted_proof_is_remembered_for_as_long_as_it_could_be_accepted_again() {
    let jkt = jkt();
    for (window_s, skew_s) in [(1, 0), (1, 5), (60, 0), (60, 5), (5, 60)] {
        let accepted = ProofExpect { window_s, skew_s, ..for_pop(&jkt) };
        let until = accepted.replay_until();
        assert_eq!(until, Moment::from_unix(NOW + 2 * i64::from(window_s + skew_s)));
        let reach = i64::from(window_s + skew_s);
        for iat in NOW - reach..=NOW + i64::from(skew_s) {
            let claims = ProofClaims { iat, ..pop() };
            let text = signed(&claims);
            let proof = Proof::open(&text).unwrap();
            assert_eq!(proof.judge(&accepted), Ok(()), "{iat}");
            // Where the memory ends, and ever after, it is too old.
            for later in [until, until.plus(1), until.plus(1000)] {
                assert_eq!(proof.judge(&ProofExpect { now: later, ..accepted }), Err(ProofRefusal::TooOld), "{iat}");
            }
        }
        // And at the last moment at which one could be accepted again it is remembered still.
        let latest = signed(&ProofClaims { iat: NOW + i64::from(skew_s), ..pop() });
        let end = Moment::from_unix(NOW).plus(reach + i64::from(skew_s));
        assert_eq!(Proof::open(&latest).unwrap().judge(&ProofExpect { now: end, ..accepted }), Ok(()));
        assert!(end < until);
    }
}

#[test]
fn the_first_refusal_is_the_one_that_is_said() {
    let jkt = jkt();
    let far = ProofClaims { iat: NOW - 1000, ath: [0; 32], ..pop() };
    let wrong = ProofExpect { jkt: "", ..for_dpop(&jkt) };
    assert_eq!(judged(&far, &wrong), Err(ProofRefusal::OtherKey));
    assert_eq!(judged(&far, &ProofExpect { jkt: &jkt, ..wrong }), Err(ProofRefusal::TooOld));
    let near = ProofClaims { iat: NOW, ..far };
    assert_eq!(judged(&near, &ProofExpect { jkt: &jkt, ..wrong }), Err(ProofRefusal::OtherPassport));
    assert_eq!(judged(&pop(), &ProofExpect { jkt: &jkt, ..wrong }), Err(ProofRefusal::OtherKind));
}
