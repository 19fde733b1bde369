//! The limits of a payload, in one place, because the writer and the reader must agree on every one of them.
//!
//! Lengths are bytes of UTF-8 after JSON's escapes are undone.

/// The largest payload, in bytes: no larger one is signed, or read from a JWS. `limits.max_msg_bytes` is at most as large.
pub const MAX_PAYLOAD: usize = 16 * 1024;
/// The largest integer, 2^53 − 1: above it, JSON readers that use doubles lose digits (RFC 8785 §3.2.2.3, RFC 7493 §2.2).
pub const MAX_INTEGER: i64 = (1 << 53) - 1;
/// The deepest nesting of objects and arrays; the payload itself is level 1.
pub const MAX_DEPTH: usize = 16;
/// Longest `iss`.
pub const MAX_ISS: usize = 256;
/// Longest `sub`.
pub const MAX_SUB: usize = 256;
/// Most audiences.
pub const MAX_AUD: usize = 16;
/// Longest audience.
pub const MAX_AUD_LEN: usize = 256;
/// Most scopes.
pub const MAX_SCOPES: usize = 64;
/// Longest scope.
pub const MAX_SCOPE_LEN: usize = 128;
/// Longest `jti` and `par.jti`.
pub const MAX_JTI: usize = 64;
/// Longest `nonce`.
pub const MAX_NONCE: usize = 128;
/// Longest `cap.template`.
pub const MAX_TEMPLATE: usize = 64;
/// Longest `cap.action`.
pub const MAX_ACTION: usize = 128;
/// What no `cnf.uid` is: the kernel's "no user", as which nobody runs.
pub const NO_UID: u32 = u32::MAX;
/// Exact length of `cnf.jkt`: 32 bytes as unpadded base64url.
pub const JKT_LEN: usize = 43;

/// Whether `text` can be an identifier: 1 to `max` bytes, no control characters.
///
/// Identifiers end up in audit records, journald fields and terminals. C0, DEL and C1 (`Cc` in Unicode) would let a
/// subject forge lines there.
pub fn is_identifier(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len()) && !has_control(text)
}

/// Whether `text` holds a control character. Plain ASCII, the usual case, is decided by bytes.
pub(super) fn has_control(text: &str) -> bool {
    // No early exit: without one, the compiler looks at many bytes at once.
    let plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, 0x20..=0x7e));
    !plain && text.chars().any(char::is_control)
}

/// Whether `text` is shaped like an RFC 7638 thumbprint with SHA-256: 43 characters of base64url, the last of which
/// holds two bits that must be zero.
pub fn is_thumbprint(text: &str) -> bool {
    let last_is_whole = text.bytes().last().is_some_and(|last| b"AEIMQUYcgkosw048".contains(&last));
    text.len() == JKT_LEN
        && last_is_whole
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::super::claims::{Claims, tests as samples};
    use super::super::scan::scan;
    use super::*;

    /// Gives a member a text of so many bytes, or so many entries or levels.
    type Fill = fn(&mut Claims, usize);

    /// So many bytes of a text that is found again.
    fn text(bytes: usize) -> String {
        "x".repeat(bytes)
    }

    /// So many entries of a list, the first of which is found again.
    fn list(entries: usize) -> Vec<String> {
        (0..entries).map(|n| format!("y{n}")).collect()
    }

    #[test]
    fn what_is_at_a_bound_is_written_and_read_and_what_is_beyond_is_neither() {
        let cases: [(&str, usize, Fill); 12] = [
            ("iss", MAX_ISS, |claims, n| claims.iss = text(n)),
            ("sub", MAX_SUB, |claims, n| claims.sub = text(n)),
            ("audiences", MAX_AUD, |claims, n| claims.aud = list(n)),
            ("an audience", MAX_AUD_LEN, |claims, n| claims.aud = vec![text(n)]),
            ("scopes", MAX_SCOPES, |claims, n| claims.scopes = list(n)),
            ("a scope", MAX_SCOPE_LEN, |claims, n| claims.scopes = vec![text(n)]),
            ("jti", MAX_JTI, |claims, n| claims.jti = text(n)),
            ("par.jti", MAX_JTI, |claims, n| claims.par.iter_mut().for_each(|par| par.jti = text(n))),
            ("nonce", MAX_NONCE, |claims, n| claims.nonce = Some(text(n))),
            ("template", MAX_TEMPLATE, |claims, n| claims.cap.template = text(n)),
            ("action", MAX_ACTION, |claims, n| claims.cap.action = Some(text(n))),
            // The payload and `ctx` are two levels.
            ("ctx", MAX_DEPTH, |claims, n| {
                let nested = format!("{{\"a\":{}{}}}", "[".repeat(n - 2), "]".repeat(n - 2));
                claims.ctx = Some(serde_json::from_str(&nested).unwrap());
            }),
        ];
        for (what, most, fill) in cases {
            let with = |n| {
                let mut claims = samples::full();
                fill(&mut claims, n);
                claims.canonical(64 << 10)
            };
            let bytes = with(most).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(scan(&bytes).is_ok(), "{what} is read");
            assert!(with(most + 1).is_err(), "{what} is not written");
            let written = String::from_utf8(bytes).unwrap();
            let (open, close) = ("[".repeat(MAX_DEPTH - 2), "]".repeat(MAX_DEPTH - 2));
            let beyond = written.replacen(&text(most), &text(most + 1), 1).replacen("\"y0\",", "\"y0\",\"y\",", 1);
            let beyond = beyond.replace(&open, &format!("{open}[")).replace(&close, &format!("]{close}"));
            assert_ne!(beyond, written, "{what}");
            assert!(scan(beyond.as_bytes()).is_err(), "{what} is not read");
        }
    }

    #[test]
    fn the_largest_integer_is_written_and_read_and_no_larger_one() {
        let claims = |epoch| Claims { epoch, ..samples::full() }.canonical(4096);
        let largest = MAX_INTEGER.unsigned_abs();
        let written = String::from_utf8(claims(largest).unwrap()).unwrap();
        assert!(scan(written.as_bytes()).is_ok() && claims(largest + 1).is_err());
        let beyond = written.replace(&largest.to_string(), &(largest + 1).to_string());
        assert_ne!(beyond, written);
        assert!(scan(beyond.as_bytes()).is_err());
    }

    #[test]
    fn identifiers_have_no_control_characters_of_any_kind() {
        for good in ["a", "Ærø", "spiffe://x/y", "a b", "😀"] {
            assert!(is_identifier(good, 64), "{good}");
        }
        for bad in ["", "a\nb", "\0", "a\x7f", "a\u{85}b", "\u{9b}31m"] {
            assert!(!is_identifier(bad, 64), "{bad:?}");
        }
        assert!(is_identifier("abcd", 4));
        assert!(!is_identifier("abcde", 4));
    }

    #[test]
    fn thumbprints_are_43_characters_without_spare_bits() {
        assert!(is_thumbprint("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
        assert!(!is_thumbprint("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4l"));
        assert!(!is_thumbprint("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4"));
        assert!(!is_thumbprint("kPrK+qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"));
    }
}
