//! `passportd.toml`: what the daemon is told, where each value came from, and what is wrong with it.
//!
//! Sources, first found wins: `--config FILE`; `PASSPORT_CONFIG` (TOML text); `PASSPORT_CONFIG_FILE`;
//! [`DEFAULT_FILE`]. Then `PASSPORT__SECTION__KEY` and four short names override single settings, except for `hsm.*`
//! and `security.*`. Settings are declared once, in `sections.rs`.

mod bounds;
mod check;
mod codec;
mod environment;
mod error;
/// For `cargo fuzz` and the replay of its corpora; no product is built with it.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod listener;
mod load;
mod paths;
mod print;
mod section;
mod sections;
mod trusted;
mod uri;

use section::{Field, Section};

pub use bounds::{SignerBounds, TenantBounds};
pub use error::{ConfigError, Fault, Place};
pub use listener::Listener;
pub use load::{DEFAULT_FILE, Loaded, Origin, Sources};
pub use print::{Reference, ReloadDiff, Row, print, reference, reference_markdown, reload_diff};
pub use section::Applies;
pub use sections::{
    Audit, Cache, Engine, Hsm, Journald, Limits, OTHER_FILES, Passport, PolicyFiles, PqMode, Security, Server, State,
    Verify,
};
pub use uri::{MAX_URI_BYTES, ObjectType, Pkcs11Uri, UriError};

/// Everything that `passportd.toml` says. [`Config::load`] makes one that passed every check; the default, which lacks
/// the required settings, is what it starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[passport]`
    pub passport: Passport,
    /// `[verify]`
    pub verify: Verify,
    /// `[cache]`
    pub cache: Cache,
    /// `[limits]`
    pub limits: Limits,
    /// `[security]`
    pub security: Security,
    /// `[hsm]`
    pub hsm: Hsm,
    /// `[state]`
    pub state: State,
    /// `[audit]`
    pub audit: Audit,
    /// `[policy]`
    pub policy: PolicyFiles,
}

impl Config {
    /// Every section with its settings, in the order of the documentation.
    fn fields(&self) -> [(&'static str, Vec<Field>); 10] {
        [
            ("server", self.server.fields()),
            ("passport", self.passport.fields()),
            ("verify", self.verify.fields()),
            ("cache", self.cache.fields()),
            ("limits", self.limits.fields()),
            ("security", self.security.fields()),
            ("hsm", self.hsm.fields()),
            ("state", self.state.fields()),
            ("audit", self.audit.fields()),
            ("policy", self.policy.fields()),
        ]
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
        Some(match name {
            "server" => &mut self.server,
            "passport" => &mut self.passport,
            "verify" => &mut self.verify,
            "cache" => &mut self.cache,
            "limits" => &mut self.limits,
            "security" => &mut self.security,
            "hsm" => &mut self.hsm,
            "state" => &mut self.state,
            "audit" => &mut self.audit,
            "policy" => &mut self.policy,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
