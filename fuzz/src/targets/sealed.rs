//! Sealed secrets, and where they belong.

use passportd::hsm::sealer::{KEY, SealPlace, Sealer as _};
use passportd::seal::XChaCha;
use passportd::wire::sealed::{Namespace, NamespacePattern, SealKid, Sealed, TAG, is_name};

const SECRET_KEY: [u8; KEY] = [0x42; KEY];

/// The input is a blob, and also a namespace, a pattern and a name. What is taken apart is put together the same; nothing
/// that was not sealed under this key opens; what is sealed opens, and not with a bit turned.
pub fn sealed(bytes: &[u8]) {
    if let Some(blob) = Sealed::parse(bytes) {
        assert_eq!([blob.header, blob.nonce, blob.body].concat(), bytes);
        assert_eq!(Sealed::header(blob.kid), blob.header);
        assert!(blob.body.len() >= TAG);
        let namespace = format!("{}/x", blob.kid.tenant());
        if let Some(namespace) = Namespace::parse(&namespace) {
            let place = SealPlace { issuer: "i", namespace, name: "n", kid: blob.kid };
            assert!(XChaCha.open(&SECRET_KEY, &place, &blob).is_err(), "a forgery opens");
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(kid) = SealKid::parse(text) {
        assert_eq!(format!("hmac-sha256/{}/seal/v{}", kid.tenant(), kid.version()), text);
    }
    if let Some(pattern) = NamespacePattern::parse(text) {
        assert!(pattern.as_str() == text && text.starts_with(pattern.tenant()) && pattern.tenant() != "passportd");
    }
    let (place, name) = text.split_once('\n').unwrap_or((text, "n"));
    let Some(namespace) = Namespace::parse(place).filter(|_| is_name(name)) else { return };
    assert!(NamespacePattern::of_daemon(place).is_some_and(|exact| exact.covers(namespace)), "it covers itself");
    let all = NamespacePattern::of_daemon(&format!("{}/*", namespace.tenant()));
    assert!(all.is_some_and(|all| all.covers(namespace)), "and so does its tenant");
    let kid = format!("hmac-sha256/{}/seal/v1", namespace.tenant());
    let place = SealPlace { issuer: "i", namespace, name, kid: SealKid::parse(&kid).unwrap() };
    let mut blob = XChaCha.seal(&SECRET_KEY, &place, bytes).unwrap();
    let opened = XChaCha.open(&SECRET_KEY, &place, &Sealed::parse(&blob).unwrap()).unwrap();
    assert_eq!(opened.as_slice(), bytes);
    *blob.last_mut().unwrap() ^= 1;
    assert!(XChaCha.open(&SECRET_KEY, &place, &Sealed::parse(&blob).unwrap()).is_err());
}
