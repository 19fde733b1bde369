//! What a key is for, by its `CKA_LABEL`.
//!
//! | label | role |
//! |---|---|
//! | `ed25519/<tenant>/<purpose>/v<N>` | passport key: the label is its kid |
//! | `ed25519/<tenant>/audit/v<N>` | audit key: purpose `audit` is reserved for it |
//! | `hmac-sha256/<tenant>/seal/v<N>` | seal key: a generic secret; purpose `seal` is reserved for it |

use crate::passport::kid::{KidError, is_purpose, is_tenant};
use crate::passport::{Kid, KidRef};
use crate::wire::link::KeyRole;

/// The purpose of audit keys.
pub const AUDIT_PURPOSE: &str = "audit";
/// The purpose of seal keys.
pub const SEAL_PURPOSE: &str = "seal";
const SEAL_PREFIX: &str = "hmac-sha256/";
const KID_PREFIX: &str = "ed25519/";

/// A label that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label<'a> {
    /// What the key is for.
    pub role: KeyRole,
    /// Whose it is.
    pub tenant: &'a str,
    /// Its purpose.
    pub purpose: &'a str,
    /// Its version, from 1.
    pub version: u64,
}

impl<'a> Label<'a> {
    /// Reads a label; `None` if it is not one of ours (another program's object).
    pub fn parse(text: &'a str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix(SEAL_PREFIX) {
            let (tenant, rest) = rest.split_once('/')?;
            let (purpose, version) = rest.split_once("/v")?;
            let canonical = !version.starts_with('0') && version.bytes().all(|byte| byte.is_ascii_digit());
            let version = version.parse().ok().filter(|_| canonical)?;
            (purpose == SEAL_PURPOSE && is_tenant(tenant)).then_some(Self {
                role: KeyRole::Seal,
                tenant,
                purpose,
                version,
            })
        } else {
            let kid = KidRef::parse(text).ok()?;
            let role = match kid.purpose() {
                AUDIT_PURPOSE => KeyRole::Audit,
                // Nothing of that name signs.
                SEAL_PURPOSE => return None,
                _ => KeyRole::Passport,
            };
            Some(Self { role, tenant: kid.tenant(), purpose: kid.purpose(), version: kid.version() })
        }
    }

    /// Whether a text claims to be one of ours, well-formed or not.
    pub fn claims(text: &str) -> bool {
        text.starts_with(KID_PREFIX) || text.starts_with(SEAL_PREFIX)
    }
}

/// The label of a key.
///
/// # Errors
/// [`KidError`], for a tenant, purpose or version that can't be in a kid, or a purpose that is reserved for another role.
pub fn label(role: KeyRole, tenant: &str, purpose: &str, version: u64) -> Result<String, KidError> {
    match role {
        KeyRole::Seal => {
            // The same rules as in a kid, which checks them.
            Kid::new(tenant, SEAL_PURPOSE, version)?;
            Ok(format!("{SEAL_PREFIX}{tenant}/{SEAL_PURPOSE}/v{version}"))
        }
        KeyRole::Audit => Ok(Kid::new(tenant, AUDIT_PURPOSE, version)?.to_string()),
        KeyRole::Passport if !is_purpose(purpose) || matches!(purpose, AUDIT_PURPOSE | SEAL_PURPOSE) => {
            Err(KidError::Purpose)
        }
        KeyRole::Passport => Ok(Kid::new(tenant, purpose, version)?.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_as_they_were_made() {
        for (role, purpose, text) in [
            (KeyRole::Passport, "auth", "ed25519/t1.host7/auth/v3"),
            (KeyRole::Audit, "audit", "ed25519/t1.host7/audit/v3"),
            (KeyRole::Seal, "seal", "hmac-sha256/t1.host7/seal/v3"),
        ] {
            assert_eq!(label(role, "t1.host7", purpose, 3).as_deref(), Ok(text));
            assert_eq!(Label::parse(text), Some(Label { role, tenant: "t1.host7", purpose, version: 3 }));
        }
    }

    #[test]
    fn reserved_purposes_are_not_for_passports() {
        for purpose in ["audit", "seal", "A", ""] {
            assert_eq!(label(KeyRole::Passport, "t1", purpose, 1), Err(KidError::Purpose), "{purpose}");
        }
        assert_eq!(Label::parse("ed25519/t1/seal/v1"), None);
    }

    #[test]
    fn other_spellings_are_not_ours() {
        for text in [
            "",
            "my-key",
            "hmac-sha256/t1/seal/v0",
            "hmac-sha256/t1/seal/v01",
            "hmac-sha256/t1/seal/v+1",
            "hmac-sha256/t1/auth/v1",
            "hmac-sha256/T1/seal/v1",
            "hmac-sha256/t1/seal/v",
            "ed25519/t1/auth/v0",
        ] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
        assert!(Label::claims("ed25519/t1/auth/v0") && !Label::claims("my-key"));
    }
}
