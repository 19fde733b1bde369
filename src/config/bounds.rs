//! The signer's own bounds, in a file of its own: a front that has been taken over can't sign beyond them.

use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::DeTable;

use super::error::{ConfigError, Fault, Place};
use super::load::position;
use super::trusted;
use crate::wire::sealed::NamespacePattern;

/// Most namespaces of one tenant.
const MAX_NAMESPACES: usize = 64;
/// Most tenants of one signer.
const MAX_TENANTS: usize = 1024;
/// Longest lifetime that may be written down: one year.
const MAX_TTL_S: u64 = 31_536_000;
/// More than any HSM signs.
const MAX_RATE_PER_S: u32 = 1_000_000;
/// A drift beyond a day is no clock error.
const MAX_DRIFT_S: u64 = 86_400;
/// Purposes of keys that never sign passports (DESIGN §3).
const OTHER_PURPOSES: [&str; 2] = ["audit", "seal"];

/// What the signer signs at most, whatever the front asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerBounds {
    /// The tenants, at least one, with distinct names.
    pub tenants: Vec<TenantBounds>,
    /// Seconds by which `iat` may differ from the signer's clock.
    pub max_iat_drift_s: u64,
}

/// The bounds of one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantBounds {
    /// `[a-z0-9-]{1,32}`, with an instance part after a dot if the tenant has one.
    pub name: String,
    /// Purposes of the keys that sign its passports, each `[a-z0-9-]{1,32}`.
    pub purposes: Vec<String>,
    /// Longest `exp − iat` in seconds.
    pub max_ttl_s: u64,
    /// Signatures a second for each key, and secrets sealed or opened by each seal key.
    pub rate_per_s: u32,
    /// Namespaces of its own in which secrets are sealed and opened.
    pub seal_namespaces: Vec<NamespacePattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tenant: Spanned<Vec<Spanned<Tenant>>>,
    #[serde(default)]
    clock: Clock,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tenant {
    name: Spanned<String>,
    #[serde(default)]
    purposes: Option<Spanned<Vec<String>>>,
    max_ttl_s: Spanned<u64>,
    #[serde(default)]
    rate_per_s: Option<Spanned<u32>>,
    #[serde(default)]
    seal_namespaces: Vec<Spanned<String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Clock {
    #[serde(default)]
    max_iat_drift_s: Option<Spanned<u64>>,
}

impl SignerBounds {
    /// Signatures a second for each key when the file says nothing: more than SoftHSM gives on one core (§8).
    pub const DEFAULT_RATE_PER_S: u32 = 10_000;
    /// Seconds of drift when the file says nothing.
    pub const DEFAULT_IAT_DRIFT_S: u64 = 300;

    /// Reads the file. It must be a regular file of root's, or of this process's effective user if that is not root,
    /// which neither its group nor others can write.
    ///
    /// # Errors
    /// When it is not such a file, or says something that does not exist, is out of range, or twice the same.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = trusted::read(path, nix::unistd::geteuid().as_raw())?;
        parse(&text).map_err(|(at, message)| {
            let (line, column) = position(&text, at);
            Fault::Syntax { place: Place::File { path: path.to_path_buf(), line, column }, message }.into()
        })
    }

    /// The bounds of a tenant, by its full name.
    pub fn tenant(&self, name: &str) -> Option<&TenantBounds> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }
}

impl TenantBounds {
    /// Whether a key of this purpose may sign the tenant's passports.
    pub fn allows(&self, purpose: &str) -> bool {
        self.purposes.iter().any(|allowed| allowed == purpose)
    }
}

/// The offset in the text and what is wrong there.
type Wrong = (usize, String);

pub(super) fn parse(text: &str) -> Result<SignerBounds, Wrong> {
    let document = document(text)?;
    let listed = document.tenant.get_ref();
    if listed.is_empty() || listed.len() > MAX_TENANTS {
        return Err((document.tenant.span().start, format!("expected 1 to {MAX_TENANTS} tenants")));
    }
    let mut tenants: Vec<TenantBounds> = Vec::with_capacity(listed.len());
    for entry in listed {
        let tenant = tenant(entry.get_ref())?;
        if tenants.iter().any(|other| other.name == tenant.name) {
            return Err((entry.get_ref().name.span().start, "this tenant appears twice".to_owned()));
        }
        tenants.push(tenant);
    }
    let drift = document.clock.max_iat_drift_s;
    let max_iat_drift_s =
        drift.map_or(Ok(SignerBounds::DEFAULT_IAT_DRIFT_S), |drift| within(&drift, 1, MAX_DRIFT_S))?;
    Ok(SignerBounds { tenants, max_iat_drift_s })
}

fn document(text: &str) -> Result<Document, Wrong> {
    toml::from_str(text).map_err(|error| {
        let (kind, remedy) = match DeTable::parse(text) {
            Ok(_) => ("", "a tenant is [[tenant]], with name = \"t1\" and max_ttl_s = 3600 under it"),
            Err(_) => ("not valid TOML: ", "mend it there: text stands in quotes"),
        };
        (error.span().map_or(0, |span| span.start), format!("{kind}{}; {remedy}", error.message()))
    })
}

fn tenant(tenant: &Tenant) -> Result<TenantBounds, Wrong> {
    let name = tenant.name.get_ref();
    let (own, instance) = name.split_once('.').map_or((name.as_str(), None), |(own, rest)| (own, Some(rest)));
    if !is_label(own) || !instance.is_none_or(is_label) {
        let message = "a tenant is 1 to 32 of a-z, 0-9 and `-`, or two such parts with a dot between them";
        return Err((tenant.name.span().start, message.to_owned()));
    }
    let default = || vec!["auth".to_owned()];
    let purposes = tenant.purposes.as_ref().map_or_else(default, |purposes| purposes.get_ref().clone());
    let at = tenant.purposes.as_ref().map_or(0, |purposes| purposes.span().start);
    if purposes.is_empty() || !purposes.iter().all(|purpose| is_label(purpose)) {
        return Err((at, "expected at least one purpose, each 1 to 32 of a-z, 0-9 and `-`".to_owned()));
    }
    if purposes.iter().any(|purpose| OTHER_PURPOSES.contains(&purpose.as_str())) {
        return Err((at, format!("keys for {} never sign passports", OTHER_PURPOSES.join(" and "))));
    }
    let rate = tenant.rate_per_s.as_ref();
    Ok(TenantBounds {
        name: name.clone(),
        purposes,
        max_ttl_s: within(&tenant.max_ttl_s, 1, MAX_TTL_S)?,
        rate_per_s: rate.map_or(Ok(SignerBounds::DEFAULT_RATE_PER_S), |rate| within(rate, 1, MAX_RATE_PER_S))?,
        seal_namespaces: namespaces(name, &tenant.seal_namespaces)?,
    })
}

/// A tenant's secrets are sealed with its own keys, so its namespaces begin with its name.
fn namespaces(tenant: &str, written: &[Spanned<String>]) -> Result<Vec<NamespacePattern>, Wrong> {
    if written.len() > MAX_NAMESPACES {
        let at = written.first().map_or(0, |first| first.span().start);
        return Err((at, format!("expected at most {MAX_NAMESPACES} namespaces")));
    }
    let read = |text: &Spanned<String>| {
        let pattern = NamespacePattern::of_daemon(text.get_ref()).filter(|pattern| pattern.tenant() == tenant);
        let wanted = || format!("expected a namespace like {tenant}/billing, {tenant}/billing/eu or {tenant}/*");
        pattern.ok_or_else(|| (text.span().start, wanted()))
    };
    written.iter().map(read).collect()
}

fn is_label(text: &str) -> bool {
    (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(value: &Spanned<T>, min: T, max: T) -> Result<T, Wrong> {
    let number = *value.get_ref();
    match (min..=max).contains(&number) {
        true => Ok(number),
        false => Err((value.span().start, format!("expected a whole number from {min} to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FULL: &str = "[[tenant]]\nname = \"t1\"\npurposes = [\"auth\", \"job\"]\nmax_ttl_s = 86400\nrate_per_s = 50\n\n[clock]\nmax_iat_drift_s = 60\n";

    #[test]
    fn a_full_file_and_the_defaults() {
        let bounds = parse(FULL).unwrap();
        let t1 = bounds.tenant("t1").unwrap();
        assert_eq!((t1.max_ttl_s, t1.rate_per_s, bounds.max_iat_drift_s), (86_400, 50, 60));
        assert!(t1.seal_namespaces.is_empty());
        assert!(t1.allows("job") && !t1.allows("seal") && bounds.tenant("t2").is_none());

        let bounds = parse("[[tenant]]\nname = \"t1.host7\"\nmax_ttl_s = 1\n").unwrap();
        assert!(bounds.tenant("t1.host7").unwrap().allows("auth") && bounds.tenant("t1").is_none());
        assert_eq!((bounds.tenants[0].rate_per_s, bounds.max_iat_drift_s), (10_000, 300));
    }

    #[test]
    fn each_fault_is_found_at_its_place() {
        let cases = [
            ("", 1, 1, "missing field `tenant`; a tenant is [[tenant]]"),
            ("[[tenant]]\nname = t1\n", 2, 8, "text stands in quotes"),
            ("[[tenant]]\nname = 1\n", 2, 8, "expected a string; a tenant is [[tenant]]"),
            ("tenant = []", 1, 10, "1 to 1024"),
            ("[[tenant]]\nname = \"t1\"\nmax_ttl_s = 0\n", 3, 13, "from 1 to"),
            ("[[tenant]]\nname = \"T1\"\nmax_ttl_s = 1\n", 2, 8, "a-z"),
            ("[[tenant]]\nname = \"t1.\"\nmax_ttl_s = 1\n", 2, 8, "a-z"),
            ("[[tenant]]\nname = \"t1\"\nmax_ttl = 1\n", 3, 1, "unknown field `max_ttl`"),
            ("[[tenant]]\nname = \"t1\"\nmax_ttl_s = 1\npurposes = [\"seal\"]\n", 4, 12, "never sign"),
            ("[[tenant]]\nname = \"t1\"\nmax_ttl_s = 1\n[[tenant]]\nname = \"t1\"\nmax_ttl_s = 1\n", 5, 8, "twice"),
            ("[clock]\nmax_iat_drift_s = 99999999\n[[tenant]]\nname = \"t1\"\nmax_ttl_s = 1\n", 2, 19, "from 1 to"),
        ];
        for (text, line, column, words) in cases {
            let (at, message) = parse(text).unwrap_err();
            assert!(message.contains(words), "{text:?}: {message}");
            assert_eq!(position(text, at), (line, column), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_tenant_has_namespaces_of_its_own_and_so_many() {
        let of = |namespaces: &str| {
            parse(&format!("[[tenant]]\nname = \"t1\"\nmax_ttl_s = 1\nseal_namespaces = [{namespaces}]\n"))
        };
        let bounds = of("\"t1/*\", \"t1/billing/eu\"").unwrap();
        assert_eq!(bounds.tenants[0].seal_namespaces.len(), 2);
        for bad in ["\"t2/*\"", "\"*\"", "\"t1\"", "\"t1.host7/x\""] {
            let (at, message) = of(bad).unwrap_err();
            assert!(message.contains("t1/billing") && at > 40, "{bad}: {message}");
        }
        let many = |count: usize| (0..count).map(|n| format!("\"t1/n{n}\",")).collect::<String>();
        assert_eq!(of(&many(MAX_NAMESPACES)).unwrap().tenants[0].seal_namespaces.len(), MAX_NAMESPACES);
        assert_eq!(of(&many(MAX_NAMESPACES + 1)).unwrap_err().1, "expected at most 64 namespaces");
        // The daemon's own secrets: the signer's file may allow them, no policy can.
        let own = "[[tenant]]\nname = \"passportd\"\nmax_ttl_s = 1\nseal_namespaces = [\"passportd/shared\"]\n";
        assert!(parse(own).is_ok());
    }

    #[test]
    fn so_many_tenants_and_no_more() {
        let of = |count: usize| -> String {
            (0..count).map(|n| format!("[[tenant]]\nname = \"t{n}\"\nmax_ttl_s = 1\n")).collect()
        };
        assert_eq!(parse(&of(MAX_TENANTS)).unwrap().tenants.len(), MAX_TENANTS);
        let (_, message) = parse(&of(MAX_TENANTS + 1)).unwrap_err();
        assert_eq!(message, "expected 1 to 1024 tenants");
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer.toml");
        fs::write(&path, FULL).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(SignerBounds::load(&path).is_ok());
        fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
        assert!(SignerBounds::load(&path).unwrap_err().to_string().contains("chmod go-w"));
    }
}
