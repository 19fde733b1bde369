//! The tables of a policy file, as TOML has them. Nothing is checked here but names and types of keys.

use serde::Deserialize;
use toml::Spanned;

/// A list of strings, each of which knows its place.
pub(super) type Strings = Vec<Spanned<String>>;

/// A file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) peer: Vec<PeerTable>,
    #[serde(default)]
    pub(super) template: Vec<TemplateTable>,
}

/// A `[[peer]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerTable {
    pub(super) name: Spanned<String>,
    pub(super) user: Option<Spanned<String>>,
    pub(super) uid: Option<Spanned<u32>>,
    pub(super) group: Option<Spanned<String>>,
    pub(super) gid: Option<Spanned<u32>>,
    pub(super) groups: Option<Spanned<Strings>>,
    pub(super) listener: Option<Spanned<String>>,
    pub(super) cgroup: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) allow: Strings,
    #[serde(default)]
    pub(super) templates: Strings,
    #[serde(default)]
    pub(super) verify_as: Strings,
    #[serde(default)]
    pub(super) seal_namespaces: Strings,
    #[serde(default)]
    pub(super) watch_tenants: Strings,
    #[serde(default)]
    pub(super) exchange_templates: Strings,
    pub(super) rps: Option<Spanned<u32>>,
    pub(super) issue_rps: Option<Spanned<u32>>,
    pub(super) exchange_rpm: Option<Spanned<u32>>,
    pub(super) max_connections: Option<Spanned<u32>>,
    pub(super) max_bytes: Option<Spanned<u64>>,
}

/// A `[[template]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TemplateTable {
    pub(super) name: Spanned<String>,
    pub(super) tenant: Spanned<String>,
    pub(super) purpose: Spanned<String>,
    pub(super) subjects: Spanned<Strings>,
    #[serde(default)]
    pub(super) audiences: Strings,
    #[serde(default)]
    pub(super) scopes: Strings,
    #[serde(default)]
    pub(super) default_scopes: Strings,
    #[serde(default)]
    pub(super) actions: Strings,
    pub(super) max_ttl_s: Spanned<u64>,
    pub(super) default_ttl_s: Option<Spanned<u64>>,
    pub(super) forms: Option<Spanned<Strings>>,
    pub(super) limit: Option<Spanned<u32>>,
    pub(super) nonce: Option<Spanned<String>>,
    pub(super) proof: Option<Spanned<String>>,
    pub(super) offline_risk: Option<bool>,
    pub(super) bind: Option<Spanned<String>>,
}
