//! Public keys as JWK (RFC 7517, RFC 8037): the document that verifiers fetch, and key thumbprints.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    canon,
    envelope::base64url,
    kid::{Kid, KidError},
};

/// The largest JWKS that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 1 << 20;
/// The most keys of a JWKS that is read.
pub const MAX_KEYS: usize = 4096;

/// Writes a JWKS: canonical JSON, keys sorted by kid, so that the same keys always give the same bytes.
///
/// There is no `alg` member on purpose. Libraries disagree whether it must read `EdDSA` or `Ed25519`, and all of them
/// take a key without.
pub fn jwks<'a>(keys: impl Iterator<Item = (&'a Kid, &'a [u8; 32])>) -> Vec<u8> {
    let mut keys: Vec<_> = keys.collect();
    keys.sort_unstable();
    let mut out = String::from("{\"keys\":[");
    for (index, (kid, public)) in keys.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        out.push_str("{\"crv\":\"Ed25519\",\"kid\":");
        canon::string(&mut out, &kid.to_string());
        out.push_str(",\"kty\":\"OKP\",\"use\":\"sig\",\"x\":");
        canon::string(&mut out, &Base64UrlUnpadded::encode_string(public));
        out.push('}');
    }
    out.push_str("]}");
    out.into_bytes()
}

/// The entity tag of a document: BLAKE3 of its exact bytes.
pub fn etag(document: &[u8]) -> [u8; 32] {
    *blake3::hash(document).as_bytes()
}

/// The RFC 7638 thumbprint (SHA-256, base64url) of an Ed25519 public key, of which RFC 8037 A.3 is an example.
pub fn thumbprint(public: &[u8; 32]) -> String {
    let mut members = String::from("{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"");
    members.push_str(&Base64UrlUnpadded::encode_string(public));
    members.push_str("\"}");
    Base64UrlUnpadded::encode_string(&Sha256::digest(members.as_bytes()))
}

/// Why a document is not a JWKS of ours. The server that sent it is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The document is larger, or has more keys, than is read.
    #[error("the JWKS exceeds {MAX_JWKS_BYTES} bytes or {MAX_KEYS} keys")]
    TooLarge,
    /// Not JSON, or not these members; private keys (`d`) are an unknown member, too.
    #[error("not a JWKS of Ed25519 keys {{crv, kid, kty, use, x}}: {0}")]
    Json(#[from] serde_json::Error),
    /// A member has a value that no key of ours has.
    #[error("key {index}: `{member}` must be \"{expected}\"")]
    Value {
        /// Which key, counted from 0.
        index: usize,
        /// Which member.
        member: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A kid is malformed.
    #[error("key {index}: {error}")]
    Kid {
        /// Which key, counted from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        error: KidError,
    },
    /// `x` is not 32 bytes in base64url.
    #[error("key {index}: `x` is not 32 bytes in base64url: {why}")]
    X {
        /// Which key, counted from 0.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two keys have the same kid.
    #[error("the kid {0} stands twice")]
    Duplicate(Kid),
}

/// A JWKS as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    keys: Vec<Jwk>,
}

/// A key as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    crv: String,
    kid: String,
    kty: String,
    r#use: String,
    x: String,
}

/// Reads a JWKS as [`jwks`] writes it; members may be in any order. The keys are in the order of the document, and
/// whether they are points of the curve is for whoever prepares them to say.
///
/// # Errors
/// Names the key and the member that is wrong. One wrong key spoils the document: half of a key set is a wrong answer.
pub fn parse_jwks(document: &[u8]) -> Result<Vec<(Kid, [u8; 32])>, JwksError> {
    if document.len() > MAX_JWKS_BYTES {
        return Err(JwksError::TooLarge);
    }
    let Document { keys } = serde_json::from_slice(document)?;
    if keys.len() > MAX_KEYS {
        return Err(JwksError::TooLarge);
    }
    let keys = keys.iter().enumerate().map(|(index, jwk)| jwk.read(index)).collect::<Result<Vec<_>, _>>()?;
    let mut kids: Vec<&Kid> = keys.iter().map(|(kid, _)| kid).collect();
    kids.sort_unstable();
    if let Some(twice) = kids.windows(2).find_map(|pair| pair.first().filter(|kid| pair.last() == Some(kid))) {
        return Err(JwksError::Duplicate((*twice).clone()));
    }
    Ok(keys)
}

impl Jwk {
    /// The key's name and its bytes.
    fn read(&self, index: usize) -> Result<(Kid, [u8; 32]), JwksError> {
        let fixed = [("kty", &self.kty, "OKP"), ("crv", &self.crv, "Ed25519"), ("use", &self.r#use, "sig")];
        if let Some((member, _, expected)) = fixed.into_iter().find(|(_, value, expected)| value != expected) {
            return Err(JwksError::Value { index, member, expected });
        }
        let kid = self.kid.parse().map_err(|error| JwksError::Kid { index, error })?;
        let x = base64url(&self.x).map_err(|why| JwksError::X { index, why })?;
        let x = x.try_into().map_err(|_| JwksError::X { index, why: "the length is wrong" })?;
        Ok((kid, x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kid(version: u64) -> Kid {
        Kid::new("t1", "auth", version).unwrap()
    }

    #[test]
    fn the_bytes_are_exactly_these_in_any_order() {
        let (a, b) = ((kid(2), [0; 32]), (kid(10), [255; 32]));
        let expected = concat!(
            r#"{"keys":[{"crv":"Ed25519","kid":"ed25519/t1/auth/v2","kty":"OKP","use":"sig","#,
            r#""x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"#,
            r#"{"crv":"Ed25519","kid":"ed25519/t1/auth/v10","kty":"OKP","use":"sig","#,
            r#""x":"__________________________________________8"}]}"#,
        );
        for order in [[&a, &b], [&b, &a]] {
            let bytes = jwks(order.into_iter().map(|(kid, key)| (kid, key)));
            assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
        }
        assert_eq!(parse_jwks(expected.as_bytes()).unwrap(), [a, b]);
        assert_eq!(super::super::scan::is_canonical(expected.as_bytes()), Ok(()));
        assert_eq!(jwks(std::iter::empty()), b"{\"keys\":[]}");
    }

    #[test]
    fn the_etag_is_of_the_exact_bytes() {
        // BLAKE3 of nothing: the first of the official test vectors.
        assert_eq!(
            crate::passport::hex::encode(&etag(b"")),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
        assert_ne!(etag(b"{}"), etag(b"{} "));
    }

    #[test]
    fn whatever_is_not_ours_is_refused() {
        let good = jwks([(&kid(1), &[1; 32])].into_iter());
        let good = std::str::from_utf8(&good).unwrap();
        assert!(parse_jwks(good.as_bytes()).is_ok());
        for (old, new, words) in [
            ("\"OKP\"", "\"EC\"", "key 0: `kty` must be \"OKP\""),
            ("\"Ed25519\"", "\"X25519\"", "`crv` must be \"Ed25519\""),
            ("\"sig\"", "\"enc\"", "`use` must be \"sig\""),
            ("\"OKP\"", "\"OKP\",\"d\":\"AA\"", "unknown field `d`"),
            ("\"OKP\"", "\"OKP\",\"alg\":\"none\"", "unknown field `alg`"),
            ("{\"keys\"", "{\"more\":1,\"keys\"", "unknown field `more`"),
            ("/v1", "/v01", "key 0: a key version"),
            ("\"AQEB", "\"AQE", "`x` is not 32 bytes"),
            ("\"AQEB", "\"AQEBAQEB", "the length is wrong"),
            ("AQEB", "AQ+B", "write - for +"),
            ("]}", "]}]", "line 1 column"),
        ] {
            assert!(good.contains(old));
            let error = parse_jwks(good.replacen(old, new, 1).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(words), "{error:?} should contain {words:?}");
        }
        let twice = jwks([(&kid(1), &[1; 32]), (&kid(1), &[2; 32])].into_iter());
        assert!(matches!(parse_jwks(&twice), Err(JwksError::Duplicate(_))));
        assert!(matches!(parse_jwks(&vec![b' '; MAX_JWKS_BYTES + 1]), Err(JwksError::TooLarge)));
    }
    #[test]
    fn so_many_keys_are_read_and_no_more() {
        for (count, good) in [(MAX_KEYS, true), (MAX_KEYS + 1, false)] {
            let kids: Vec<_> = (1..=u64::try_from(count).unwrap()).map(kid).collect();
            let document = jwks(kids.iter().map(|kid| (kid, &[1; 32])));
            assert!(document.len() < MAX_JWKS_BYTES);
            match parse_jwks(&document) {
                Ok(keys) => assert!(good && keys.len() == count, "{count}"),
                Err(error) => assert!(!good && matches!(error, JwksError::TooLarge), "{count}: {error}"),
            }
        }
    }
}
