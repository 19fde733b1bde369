//! Public keys as JWK (RFC 7517, RFC 8037): the document that verifiers fetch, and key thumbprints.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::{Deserialize, Deserializer};
use sha2::{Digest as _, Sha256};

use super::{
    bounds::MAX_INTEGER,
    canon,
    envelope::base64url,
    kid::{Kid, KidError},
};

/// The largest JWKS that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 1 << 20;
/// The most keys of a JWKS: with the longest kids they fit [`MAX_JWKS_BYTES`], and so does the answer that carries them.
pub const MAX_KEYS: usize = 3800;

/// The mode of a published key set: public keys are for everybody to read.
pub const JWKS_FILE_MODE: u32 = 0o644;

/// A public key of a JWKS, with what this issuer says of it beside the standard members. Others ignore members that they
/// don't know (RFC 7517 §4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jwk {
    /// Its name.
    pub kid: Kid,
    /// The raw Ed25519 public key.
    pub public: [u8; 32],
    /// Whether it signs now; those that don't are still to sign, or have signed what is still valid. `None` if the document
    /// does not say.
    pub current: Option<bool>,
    /// When it became known to the issuer, in seconds since 1970 (`NumericDate`, RFC 7519 §2). `None` if the document does
    /// not say.
    pub created: Option<i64>,
}

impl Jwk {
    /// A key of which nothing more is said.
    pub const fn new(kid: Kid, public: [u8; 32]) -> Self {
        Self { kid, public, current: None, created: None }
    }

    /// Whether it is known to sign now.
    pub fn signs(&self) -> bool {
        self.current == Some(true)
    }

    /// Appends it, its members sorted as RFC 8785 §3.2.3 demands.
    fn write(&self, out: &mut String) {
        out.push('{');
        if let Some(created) = self.created {
            out.push_str("\"created\":");
            canon::integer(out, created);
            out.push(',');
        }
        out.push_str("\"crv\":\"Ed25519\"");
        if let Some(current) = self.current {
            out.push_str(if current { ",\"current\":true" } else { ",\"current\":false" });
        }
        out.push_str(",\"kid\":");
        canon::string(out, &self.kid.to_string());
        out.push_str(",\"kty\":\"OKP\",\"use\":\"sig\",\"x\":");
        canon::string(out, &Base64UrlUnpadded::encode_string(&self.public));
        out.push('}');
    }
}

/// Writes a JWKS: canonical JSON, keys sorted by kid, so that the same keys always give the same bytes.
///
/// There is no `alg` member on purpose. Libraries disagree whether it must read `EdDSA` or `Ed25519`, and all of them
/// take a key without.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Jwk>) -> Vec<u8> {
    let mut keys: Vec<_> = keys.into_iter().collect();
    keys.sort_unstable();
    let mut out = String::from("{\"keys\":[");
    for (index, key) in keys.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        key.write(&mut out);
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
    /// Not JSON, or not these members.
    #[error("not a JWKS of Ed25519 keys {{created?, crv, current?, kid, kty, use, x}}: {0}")]
    Json(#[from] serde_json::Error),
    /// A private key (RFC 8037 §2).
    #[error("key {index}: `d` is a private key; publish the public part alone, and take this key for compromised")]
    Private {
        /// Which key, counted from 0.
        index: usize,
    },
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
    /// `created` is no time.
    #[error("key {index}: `created` must be an integer from 0 to 9007199254740991")]
    Created {
        /// Which key, counted from 0.
        index: usize,
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

/// A JWKS as it is read. Members that are not known are passed over (RFC 7517 §5), here and in a key (§4).
#[derive(Deserialize)]
struct Document {
    keys: Vec<Members>,
}

/// A key as it is read.
#[derive(Deserialize)]
struct Members {
    /// It must be one that these keys are for.
    #[serde(default, deserialize_with = "there")]
    alg: Option<String>,
    /// The private key.
    d: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "there")]
    created: Option<i64>,
    crv: String,
    #[serde(default, deserialize_with = "there")]
    current: Option<bool>,
    kid: String,
    kty: String,
    r#use: String,
    x: String,
}

/// A member that may be absent, but not null.
fn there<'de, T: Deserialize<'de>, D: Deserializer<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Reads a JWKS as [`jwks`] writes it, with or without what this issuer says beside the standard members; members may be in any order. The keys are in the order of the document, and
/// whether they are points of the curve is for whoever prepares them to say.
///
/// # Errors
/// Names the key and the member that is wrong. One wrong key spoils the document: half of a key set is a wrong answer.
pub fn parse_jwks(document: &[u8]) -> Result<Vec<Jwk>, JwksError> {
    if document.len() > MAX_JWKS_BYTES {
        return Err(JwksError::TooLarge);
    }
    let Document { keys } = serde_json::from_slice(document)?;
    if keys.len() > MAX_KEYS {
        return Err(JwksError::TooLarge);
    }
    let keys = keys.iter().enumerate().map(|(index, key)| key.read(index)).collect::<Result<Vec<_>, _>>()?;
    let mut kids: Vec<&Kid> = keys.iter().map(|key| &key.kid).collect();
    kids.sort_unstable();
    if let Some(twice) = kids.windows(2).find_map(|pair| pair.first().filter(|kid| pair.last() == Some(kid))) {
        return Err(JwksError::Duplicate((*twice).clone()));
    }
    Ok(keys)
}

impl Members {
    /// The key that they make.
    fn read(&self, index: usize) -> Result<Jwk, JwksError> {
        let fixed = [("kty", &self.kty, "OKP"), ("crv", &self.crv, "Ed25519"), ("use", &self.r#use, "sig")];
        if let Some((member, _, expected)) = fixed.into_iter().find(|(_, value, expected)| value != expected) {
            return Err(JwksError::Value { index, member, expected });
        }
        if self.alg.as_ref().is_some_and(|alg| alg != "EdDSA" && alg != "Ed25519") {
            return Err(JwksError::Value { index, member: "alg", expected: "Ed25519" });
        }
        if self.d.is_some() {
            return Err(JwksError::Private { index });
        }
        if self.created.is_some_and(|created| !(0..=MAX_INTEGER).contains(&created)) {
            return Err(JwksError::Created { index });
        }
        let kid = self.kid.parse().map_err(|error| JwksError::Kid { index, error })?;
        let x = base64url(&self.x).map_err(|why| JwksError::X { index, why })?;
        let public = x.try_into().map_err(|_| JwksError::X { index, why: "the length is wrong" })?;
        Ok(Jwk { kid, public, current: self.current, created: self.created })
    }
}

#[cfg(test)]
mod tests {
    use super::super::kid::MAX_PART;
    use super::*;

    fn kid(version: u64) -> Kid {
        Kid::new("t1", "auth", version).unwrap()
    }

    fn key(version: u64, byte: u8) -> Jwk {
        Jwk { current: Some(version == 2), created: Some(1_700_000_000), ..Jwk::new(kid(version), [byte; 32]) }
    }

    #[test]
    fn the_bytes_are_exactly_these_in_any_order() {
        let (a, b) = (key(2, 0), key(10, 255));
        let expected = concat!(
            r#"{"keys":[{"created":1700000000,"crv":"Ed25519","current":true,"kid":"ed25519/t1/auth/v2","#,
            r#""kty":"OKP","use":"sig","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"},"#,
            r#"{"created":1700000000,"crv":"Ed25519","current":false,"kid":"ed25519/t1/auth/v10","#,
            r#""kty":"OKP","use":"sig","x":"__________________________________________8"}]}"#,
        );
        for order in [[&a, &b], [&b, &a]] {
            assert_eq!(std::str::from_utf8(&jwks(order)).unwrap(), expected);
        }
        assert_eq!(parse_jwks(expected.as_bytes()).unwrap(), [a, b]);
        assert_eq!(super::super::scan::is_canonical(expected.as_bytes()), Ok(()));
        assert_eq!(jwks([]), b"{\"keys\":[]}");
    }

    #[test]
    fn what_is_not_said_of_a_key_is_neither_written_nor_missed() {
        let full = key(2, 0);
        let without_time = Jwk { created: None, ..full.clone() };
        for (key, members) in [
            (&full, 7),
            (&without_time, 6),
            (&Jwk { current: None, ..full.clone() }, 6),
            (&Jwk::new(full.kid.clone(), full.public), 5),
        ] {
            let document = jwks([key]);
            let tree: serde_json::Value = serde_json::from_slice(&document).unwrap();
            assert_eq!(tree["keys"][0].as_object().unwrap().len(), members);
            assert_eq!(super::super::scan::is_canonical(&document), Ok(()));
            assert_eq!(parse_jwks(&document).unwrap(), std::slice::from_ref(key));
        }
        assert!(full.signs() && !key(10, 0).signs() && !Jwk::new(full.kid, full.public).signs());
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
        let good = jwks([&key(1, 1)]);
        let good = std::str::from_utf8(&good).unwrap();
        assert!(parse_jwks(good.as_bytes()).is_ok());
        for (old, new, words) in [
            ("\"OKP\"", "\"EC\"", "key 0: `kty` must be \"OKP\""),
            ("\"Ed25519\"", "\"X25519\"", "`crv` must be \"Ed25519\""),
            ("\"sig\"", "\"enc\"", "`use` must be \"sig\""),
            ("\"OKP\"", "\"OKP\",\"d\":\"AA\"", "key 0: `d` is a private key"),
            ("\"OKP\"", "\"OKP\",\"alg\":\"none\"", "key 0: `alg` must be \"Ed25519\""),
            ("\"OKP\"", "\"OKP\",\"alg\":null", "invalid type: null"),
            ("false", "null", "invalid type: null, expected a boolean"),
            ("false", "0", "expected a boolean"),
            ("1700000000", "null", "invalid type: null"),
            ("1700000000", "1700000000.5", "invalid type: floating point"),
            ("1700000000", "\"1700000000\"", "invalid type: string"),
            ("1700000000", "-1", "key 0: `created` must be an integer from 0"),
            ("1700000000", "9007199254740992", "key 0: `created` must be an integer from 0"),
            ("\"current\"", "\"created\"", "duplicate field `created`"),
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
        let twice = jwks([&key(1, 1), &key(1, 2)]);
        assert!(matches!(parse_jwks(&twice), Err(JwksError::Duplicate(_))));
        assert!(matches!(parse_jwks(&vec![b' '; MAX_JWKS_BYTES + 1]), Err(JwksError::TooLarge)));
    }

    #[test]
    fn what_is_not_known_is_passed_over() {
        let good = jwks([&key(1, 1)]);
        let more = String::from_utf8(good.clone()).unwrap().replacen("{\"keys\"", "{\"more\":[1],\"keys\"", 1);
        let more = more.replacen("\"OKP\"", "\"OKP\",\"alg\":\"EdDSA\",\"key_ops\":[\"verify\"],\"more\":{\"d\":1}", 1);
        assert_eq!(parse_jwks(more.as_bytes()).unwrap(), parse_jwks(&good).unwrap());
    }

    #[test]
    fn as_many_keys_as_there_may_be_fit_whatever_their_names() {
        let part = "t".repeat(MAX_PART);
        let tenant = format!("{part}.{part}");
        let longest = |version: usize| {
            let version = u64::try_from(MAX_INTEGER).unwrap() - u64::try_from(version).unwrap();
            let kid = Kid::new(&tenant, &part, version).unwrap();
            Jwk { current: Some(false), created: Some(MAX_INTEGER), ..Jwk::new(kid, [255; 32]) }
        };
        let keys: Vec<_> = (0..MAX_KEYS).map(longest).collect();
        let document = jwks(&keys);
        // Beside an ETag and the header of a frame.
        assert!(document.len() + 256 < MAX_JWKS_BYTES, "{}", document.len());
        assert_eq!(parse_jwks(&document).unwrap().len(), MAX_KEYS);
    }

    #[test]
    fn so_many_keys_are_read_and_no_more() {
        for (count, good) in [(MAX_KEYS, true), (MAX_KEYS + 1, false)] {
            let keys: Vec<_> = (1..=u64::try_from(count).unwrap()).map(|version| key(version, 1)).collect();
            let document = jwks(&keys);
            assert!(document.len() < MAX_JWKS_BYTES);
            match parse_jwks(&document) {
                Ok(keys) => assert!(good && keys.len() == count, "{count}"),
                Err(error) => assert!(!good && matches!(error, JwksError::TooLarge), "{count}: {error}"),
            }
        }
    }
}
