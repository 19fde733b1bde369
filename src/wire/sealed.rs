//! What a sealed secret looks like, and where secrets live: namespaces, names, seal keys. `docs/WIRE.md` §11 specifies it.
//!
//! A sealed secret names the one key that opens it. Where it belongs (the daemon's issuer, namespace, name) is not in it
//! but authenticated along with it, so that a blob that was moved elsewhere does not open.

use crate::passport::bounds::{MAX_INTEGER, is_identifier};
use crate::passport::kid::{is_purpose, is_tenant};

/// Most bytes of a secret.
pub const MAX_PLAIN: usize = 64 << 10;
/// Most bytes of a namespace.
pub const MAX_NAMESPACE: usize = 100;
/// Most bytes of a secret's name.
pub const MAX_NAME: usize = 128;
/// Bytes of the nonce, random for each blob (XChaCha20-Poly1305).
pub const NONCE: usize = 24;
/// Bytes of the tag behind the ciphertext.
pub const TAG: usize = 16;
/// The longest id of a seal key: a tenant with an instance part, and a version of 16 digits.
pub const MAX_SEAL_KID: usize = PREFIX.len() + 65 + INFIX.len() + 16;
/// Bytes that a sealed secret is longer than the secret, at most.
pub const SEALED_OVERHEAD: usize = MAGIC.len() + 1 + MAX_SEAL_KID + NONCE + TAG;
/// Most bytes of a sealed secret.
pub const MAX_SEALED: usize = MAX_PLAIN + SEALED_OVERHEAD;
/// The tenant whose namespaces are the daemon's own: no policy can grant them.
pub const RESERVED_TENANT: &str = "passportd";

/// The first bytes: the format, and the suite, of which there is one: HKDF-SHA256 and XChaCha20-Poly1305.
const MAGIC: &[u8; 5] = b"PSB1\x01";
const PREFIX: &str = "hmac-sha256/";
const INFIX: &str = "/seal/v";

/// The id of a seal key: `hmac-sha256/<tenant>/seal/v<N>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealKid<'a> {
    text: &'a str,
    tenant: &'a str,
    version: u64,
}

impl<'a> SealKid<'a> {
    /// Reads an id; `None` if it is none, or not in its one spelling.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tenant, digits) = text.strip_prefix(PREFIX)?.split_once(INFIX)?;
        let plain = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
        let version: u64 = digits.parse().ok().filter(|_| plain)?;
        let fits = is_tenant(tenant) && version <= MAX_INTEGER.unsigned_abs();
        fits.then_some(Self { text, tenant, version })
    }

    /// The whole id.
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// Whose key it is.
    pub const fn tenant(self) -> &'a str {
        self.tenant
    }

    /// Its version, from 1.
    pub const fn version(self) -> u64 {
        self.version
    }
}

/// Where secrets of one kind live: `<tenant>/<part>` or `<tenant>/<part>/<part>`, the parts as in a kid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespace<'a> {
    text: &'a str,
    tenant: &'a str,
}

impl<'a> Namespace<'a> {
    /// Reads a namespace; `None` if it is none.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tenant, rest) = text.split_once('/')?;
        let parts = match rest.split_once('/') {
            Some((first, second)) => is_purpose(first) && is_purpose(second),
            None => is_purpose(rest),
        };
        (text.len() <= MAX_NAMESPACE && is_tenant(tenant) && parts).then_some(Self { text, tenant })
    }

    /// The whole namespace.
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// Whose it is; its secrets are sealed with this tenant's keys.
    pub const fn tenant(self) -> &'a str {
        self.tenant
    }
}

/// Whether `text` can be the name of a secret: 1 to [`MAX_NAME`] bytes without control characters.
pub fn is_name(text: &str) -> bool {
    is_identifier(text, MAX_NAME)
}

/// Which namespaces a rule means: one, or all below a tenant or below another, as in `t1/*` and `t1/billing/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacePattern(String);

impl NamespacePattern {
    /// Reads a pattern; `None` if it is none, or one of the daemon's own namespaces.
    pub fn parse(text: &str) -> Option<Self> {
        Self::of_daemon(text).filter(|pattern| pattern.tenant() != RESERVED_TENANT)
    }

    /// Reads a pattern, be it of the daemon's own namespaces; for the signer's bounds.
    pub fn of_daemon(text: &str) -> Option<Self> {
        let fits = match text.strip_suffix("/*") {
            // Two parts below the tenant have nothing below them.
            Some(above) => {
                is_tenant(above) || Namespace::parse(above).is_some_and(|one| one.text.matches('/').count() == 1)
            }
            None => Namespace::parse(text).is_some(),
        };
        fits.then(|| Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tenant whose namespaces it means.
    pub fn tenant(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(tenant, _)| tenant)
    }

    /// Whether it means this namespace.
    pub fn covers(&self, namespace: Namespace<'_>) -> bool {
        match self.0.strip_suffix('*') {
            Some(above) => namespace.text.starts_with(above),
            None => namespace.text == self.0,
        }
    }

    /// Whether it means every namespace that `other` means.
    pub fn includes(&self, other: &Self) -> bool {
        match self.0.strip_suffix('*') {
            Some(above) => other.0.starts_with(above),
            None => other.0 == self.0,
        }
    }
}

/// A sealed secret, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// Everything before the nonce; it is authenticated, too.
    pub header: &'a [u8],
    /// The key that opens it.
    pub kid: SealKid<'a>,
    /// The nonce.
    pub nonce: &'a [u8; NONCE],
    /// The ciphertext, and behind it the tag.
    pub body: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Takes a blob apart; `None` if it is none. Nothing about it is authentic yet.
    pub fn parse(blob: &'a [u8]) -> Option<Self> {
        let rest = blob.strip_prefix(MAGIC).filter(|_| blob.len() <= MAX_SEALED)?;
        let (length, rest) = rest.split_first()?;
        let (kid, rest) = rest.split_at_checked(usize::from(*length))?;
        let kid = SealKid::parse(std::str::from_utf8(kid).ok()?)?;
        let header = blob.get(..blob.len() - rest.len())?;
        let (nonce, body) = rest.split_first_chunk()?;
        let bounded = (TAG..=MAX_PLAIN + TAG).contains(&body.len());
        bounded.then_some(Self { header, kid, nonce, body })
    }

    /// The header of blobs that this key seals.
    pub fn header(kid: SealKid<'_>) -> Vec<u8> {
        // At most MAX_SEAL_KID bytes.
        let length = u8::try_from(kid.text.len()).unwrap_or(u8::MAX);
        [MAGIC, [length].as_slice(), kid.text.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: &str = "hmac-sha256/t1.host7/seal/v3";

    fn blob(body: usize) -> Vec<u8> {
        [Sealed::header(SealKid::parse(KID).unwrap()), vec![7; NONCE + body]].concat()
    }

    #[test]
    fn a_blob_is_taken_apart_as_it_was_put_together() {
        let whole = blob(TAG + 5);
        let sealed = Sealed::parse(&whole).unwrap();
        assert_eq!((sealed.kid.as_str(), sealed.kid.tenant(), sealed.kid.version()), (KID, "t1.host7", 3));
        assert_eq!([sealed.header, sealed.nonce, sealed.body].concat(), whole);
        assert_eq!(sealed.body.len(), TAG + 5);
    }

    #[test]
    fn what_is_not_whole_or_not_ours_is_no_blob() {
        let whole = blob(TAG);
        for n in 0..whole.len() {
            assert!(Sealed::parse(&whole[..n]).is_none(), "cut at {n}");
        }
        for n in 0..6 + KID.len() {
            let mut other = whole.clone();
            other[n] = 0xff;
            assert!(Sealed::parse(&other).is_none(), "byte {n}");
        }
        assert!(Sealed::parse(&blob(TAG + MAX_PLAIN)).is_some());
        assert!(Sealed::parse(&blob(TAG + MAX_PLAIN + 1)).is_none());
    }

    #[test]
    fn the_longest_key_takes_what_is_reserved_for_it() {
        let tenant = format!("{0}.{0}", "t".repeat(32));
        let longest = format!("hmac-sha256/{tenant}/seal/v{MAX_INTEGER}");
        let kid = SealKid::parse(&longest).unwrap();
        assert_eq!(longest.len(), MAX_SEAL_KID);
        assert_eq!(Sealed::header(kid).len() + NONCE + TAG, SEALED_OVERHEAD);
        let one_more = format!("hmac-sha256/{tenant}/seal/v{}", MAX_INTEGER + 1);
        assert!(SealKid::parse(&one_more).is_none());
        for other in
            ["hmac-sha256/t1/seal/v0", "hmac-sha256/t1/seal/v01", "hmac-sha256/t1/auth/v1", "ed25519/t1/seal/v1", ""]
        {
            assert!(SealKid::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn namespaces_have_two_or_three_parts() {
        for (text, tenant) in
            [("t1/billing", "t1"), ("t1.host7/billing/eu-1", "t1.host7"), ("passportd/shared", "passportd")]
        {
            assert_eq!(Namespace::parse(text).map(Namespace::tenant), Some(tenant), "{text}");
        }
        let part = "p".repeat(32);
        let longest = format!("t1.{part}/{part}/{}", "q".repeat(31));
        assert_eq!(longest.len(), 100);
        assert!(Namespace::parse(&longest).is_some() && Namespace::parse(&format!("{longest}q")).is_none());
        for text in ["", "t1", "t1/", "/x", "t1//x", "t1/a/b/c", "T1/x", "t1/X", "t1/x/", "t1/*", "t1/x y", "t1.a.b/x"]
        {
            assert_eq!(Namespace::parse(text), None, "{text}");
        }
        assert!(
            is_name(&"n".repeat(MAX_NAME)) && !is_name(&"n".repeat(MAX_NAME + 1)) && !is_name("") && !is_name("a\nb")
        );
    }

    #[test]
    fn a_pattern_means_one_namespace_or_all_below() {
        let covers = |pattern: &str, namespace: &str| {
            NamespacePattern::parse(pattern).unwrap().covers(Namespace::parse(namespace).unwrap())
        };
        assert!(covers("t1/billing", "t1/billing") && !covers("t1/billing", "t1/billing/eu"));
        assert!(!covers("t1/billing", "t1/billing2") && !covers("t1/billing", "t2/billing"));
        assert!(covers("t1/*", "t1/billing") && covers("t1/*", "t1/billing/eu"));
        assert!(!covers("t1/*", "t1.host7/billing") && !covers("t1/*", "t11/billing"));
        assert!(covers("t1/billing/*", "t1/billing/eu") && !covers("t1/billing/*", "t1/billing"));
        for bad in ["", "*", "t1", "t1/**", "t1/a/b/*", "*/x", "t1*", "passportd/*", "passportd/shared", "T1/*"] {
            assert_eq!(NamespacePattern::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_pattern_includes_those_that_mean_no_more() {
        let includes = |wide: &str, narrow: &str| {
            NamespacePattern::parse(wide).unwrap().includes(&NamespacePattern::parse(narrow).unwrap())
        };
        for narrow in ["t1/*", "t1/billing", "t1/billing/*", "t1/billing/eu"] {
            assert!(includes("t1/*", narrow) && includes(narrow, narrow), "{narrow}");
        }
        assert!(!includes("t1/billing/*", "t1/billing") && !includes("t1/billing", "t1/billing/*"));
        assert!(!includes("t1/billing", "t1/*") && !includes("t1/*", "t2/*") && !includes("t1/*", "t11/*"));
    }
}
