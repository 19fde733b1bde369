//! Key identifiers: `ed25519/<tenant>/<purpose>/v<N>`.
//!
//! Each key has exactly one spelling, so that two kids are the same key if and only if their bytes are equal.

use std::{fmt, str::FromStr};

use super::bounds::MAX_INTEGER;

/// Longest tenant part, instance part or purpose, in bytes.
pub const MAX_PART: usize = 32;

/// The name of a key, owned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid {
    tenant: Box<str>,
    purpose: Box<str>,
    version: u64,
}

/// The name of a key, borrowed from the text that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KidRef<'a> {
    tenant: &'a str,
    purpose: &'a str,
    version: u64,
}

/// Why a text is not a key identifier. The one who wrote the text is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KidError {
    /// It has not the four parts, or does not begin with `ed25519/`.
    #[error("a kid reads ed25519/<tenant>/<purpose>/v<N>")]
    Shape,
    /// The tenant is not one or two parts of 1 to 32 characters `a-z 0-9 -`.
    #[error("a tenant is 1 to 32 of a-z, 0-9 and -, and may have one instance part after a dot, as in t1.host7")]
    Tenant,
    /// The purpose is not 1 to 32 characters `a-z 0-9 -`.
    #[error("a purpose is 1 to 32 of a-z, 0-9 and -")]
    Purpose,
    /// The version is not a canonical decimal from 1 to 2^53 − 1.
    #[error("a key version is a decimal number from 1 to 9007199254740991 without leading zeros")]
    Version,
}

/// Whether `text` is one part of a tenant, or a purpose: `[a-z0-9-]{1,32}`.
fn is_part(text: &str) -> bool {
    (1..=MAX_PART).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// Whether `text` can name a tenant: one part, or a part and an instance part (`t1.host7`).
pub fn is_tenant(text: &str) -> bool {
    match text.split_once('.') {
        Some((tenant, instance)) => is_part(tenant) && is_part(instance),
        None => is_part(text),
    }
}

/// Whether `text` can name a purpose.
pub fn is_purpose(text: &str) -> bool {
    is_part(text)
}

/// Reads a version: canonical decimal, 1 to 2^53 − 1.
fn version(digits: &str) -> Result<u64, KidError> {
    // `parse` would take a plus sign and leading zeros.
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(KidError::Version);
    }
    let number: u64 = digits.parse().map_err(|_| KidError::Version)?;
    in_range(number).then_some(number).ok_or(KidError::Version)
}

/// Whether `number` can be a version.
fn in_range(number: u64) -> bool {
    (1..=MAX_INTEGER.unsigned_abs()).contains(&number)
}

impl<'a> KidRef<'a> {
    /// Reads a kid without copying it.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn parse(text: &'a str) -> Result<Self, KidError> {
        let rest = text.strip_prefix("ed25519/").ok_or(KidError::Shape)?;
        let (tenant, rest) = rest.split_once('/').ok_or(KidError::Shape)?;
        let (purpose, rest) = rest.split_once('/').ok_or(KidError::Shape)?;
        let digits = rest.strip_prefix('v').ok_or(KidError::Shape)?;
        if !is_tenant(tenant) {
            return Err(KidError::Tenant);
        }
        if !is_purpose(purpose) {
            return Err(KidError::Purpose);
        }
        Ok(Self { tenant, purpose, version: version(digits)? })
    }

    /// The tenant, with its instance part.
    pub const fn tenant(self) -> &'a str {
        self.tenant
    }

    /// What the key is for.
    pub const fn purpose(self) -> &'a str {
        self.purpose
    }

    /// The version, 1 to 2^53 − 1, never used twice.
    pub const fn version(self) -> u64 {
        self.version
    }

    /// An owned copy.
    pub fn to_kid(self) -> Kid {
        Kid { tenant: self.tenant.into(), purpose: self.purpose.into(), version: self.version }
    }
}

impl Kid {
    /// A kid from its parts.
    ///
    /// # Errors
    /// Names the part that is wrong.
    pub fn new(tenant: &str, purpose: &str, version: u64) -> Result<Self, KidError> {
        if !is_tenant(tenant) {
            return Err(KidError::Tenant);
        }
        if !is_purpose(purpose) {
            return Err(KidError::Purpose);
        }
        if !in_range(version) {
            return Err(KidError::Version);
        }
        Ok(Self { tenant: tenant.into(), purpose: purpose.into(), version })
    }

    /// The tenant, with its instance part.
    pub fn tenant(&self) -> &str {
        &self.tenant
    }

    /// What the key is for.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }

    /// The version, 1 to 2^53 − 1, never used twice.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The borrowed form.
    pub fn borrowed(&self) -> KidRef<'_> {
        KidRef { tenant: &self.tenant, purpose: &self.purpose, version: self.version }
    }
}

impl fmt::Display for KidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519/{}/{}/v{}", self.tenant, self.purpose, self.version)
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.borrowed().fmt(f)
    }
}

impl FromStr for Kid {
    type Err = KidError;

    fn from_str(text: &str) -> Result<Self, KidError> {
        KidRef::parse(text).map(KidRef::to_kid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_reads_back_as_it_was_written() {
        for text in [
            "ed25519/t1/auth/v1",
            "ed25519/t1.host7/auth/v12",
            "ed25519/-/0/v9007199254740991",
            "ed25519/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/cccccccccccccccccccccccccccccccc/v7",
        ] {
            let kid: Kid = text.parse().unwrap();
            assert_eq!(kid.to_string(), text);
            assert_eq!(KidRef::parse(text).unwrap(), kid.borrowed());
            assert_eq!(Kid::new(kid.tenant(), kid.purpose(), kid.version()), Ok(kid));
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let long = format!("ed25519/{}/auth/v1", "a".repeat(33));
        for (text, error) in [
            ("", KidError::Shape),
            ("ed25519/t1/auth", KidError::Shape),
            ("ED25519/t1/auth/v1", KidError::Shape),
            ("ed25519/t1/auth/1", KidError::Shape),
            ("ed25519/t1/auth/V1", KidError::Shape),
            ("ed25519//auth/v1", KidError::Tenant),
            ("ed25519/T1/auth/v1", KidError::Tenant),
            ("ed25519/t1./auth/v1", KidError::Tenant),
            ("ed25519/.h/auth/v1", KidError::Tenant),
            ("ed25519/a.b.c/auth/v1", KidError::Tenant),
            ("ed25519/t_1/auth/v1", KidError::Tenant),
            (&long, KidError::Tenant),
            ("ed25519/t1//v1", KidError::Purpose),
            ("ed25519/t1/a.b/v1", KidError::Purpose),
            ("ed25519/t1/auth/v", KidError::Version),
            ("ed25519/t1/auth/v0", KidError::Version),
            ("ed25519/t1/auth/v01", KidError::Version),
            ("ed25519/t1/auth/v+1", KidError::Version),
            ("ed25519/t1/auth/v-1", KidError::Version),
            ("ed25519/t1/auth/v1 ", KidError::Version),
            ("ed25519/t1/auth/v1/x", KidError::Version),
            ("ed25519/t1/auth/v9007199254740992", KidError::Version),
            ("ed25519/t1/auth/v99999999999999999999999", KidError::Version),
        ] {
            assert_eq!(KidRef::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Kid::new("t1", "auth", 0), Err(KidError::Version));
        assert_eq!(Kid::new("t1/x", "auth", 1), Err(KidError::Tenant));
        assert_eq!(Kid::new("t1", "a/b", 1), Err(KidError::Purpose));
    }

    #[test]
    fn versions_sort_as_numbers() {
        let kid = |version| Kid::new("t", "p", version).unwrap();
        assert!(kid(9) < kid(10));
    }
}
