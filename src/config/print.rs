//! The configuration shown: `config print`, the table in the documentation, and what a reload changes.

use std::fmt::Write as _;

use super::load::{Loaded, Origin};
use super::section::{Applies, Field};
use super::{Audit, Config, Passport, Verify};

/// One line of `passportctl config print`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// `section.key`.
    pub key: String,
    /// The value, as TOML.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What is easily misunderstood about it.
    pub note: Option<&'static str>,
}

/// One line of the configuration table in the documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `section.key`.
    pub key: String,
    /// The default, as TOML; empty for a required setting.
    pub default: String,
    /// What it accepts, in words.
    pub accepts: String,
    /// When a change takes effect.
    pub applies: Applies,
    /// What it is.
    pub doc: &'static str,
}

/// What a new configuration changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReloadDiff {
    /// Every `section.key` whose value differs.
    pub changed: Vec<String>,
    /// Those of them that take effect only when the daemon starts again.
    pub needs_restart: Vec<String>,
}

/// Every setting with its value and its origin, in the order of the documentation.
pub fn print(loaded: &Loaded) -> Vec<Row> {
    let row = |section: &str, field: Field| {
        let key = format!("{section}.{}", field.key);
        let origin = loaded.origins.get(&key).cloned().unwrap_or(Origin::Default);
        Row { note: note(&key), value: field.value, origin, key }
    };
    let sections = loaded.config.fields();
    sections.into_iter().flat_map(|(name, fields)| fields.into_iter().map(move |field| row(name, field))).collect()
}

fn note(key: &str) -> Option<&'static str> {
    Some(match key {
        "limits.max_batch" => {
            "bounds the items of one request; verify.max_batch is another thing and bounds one slice of the engine. \
             A request must also fit a frame of 1 MiB, so clients split by bytes"
        }
        "verify.max_batch" => {
            "bounds one slice of the verification engine, after which other connections get their turn. \
             A request may hold more items: limits.max_batch bounds those"
        }
        "verify.max_wait_us" => "accepted for compatibility; no request waits for others",
        "passport.clock_skew_s" => "applied once: never added again by a template or a batch",
        _ => return None,
    })
}

/// Every setting with its default, range and meaning.
pub fn reference() -> Vec<Reference> {
    let entry = |section: &str, field: Field| {
        let key = format!("{section}.{}", field.key);
        let default = match key.as_str() {
            "passport.issuer" | "hsm.uri" => String::new(),
            // It depends on the machine, and the text says how.
            "hsm.sessions" => "half the processors".to_owned(),
            _ => field.value,
        };
        Reference { key, default, accepts: field.accepts, applies: field.applies, doc: field.doc }
    };
    let sections = Config::default().fields();
    sections.into_iter().flat_map(|(name, fields)| fields.into_iter().map(move |field| entry(name, field))).collect()
}

/// [`reference()`] as a Markdown table, for the documentation.
pub fn reference_markdown() -> String {
    let mut out = String::from("| key | default | accepts | changes by | meaning |\n|---|---|---|---|---|\n");
    for Reference { key, default, accepts, applies, doc } in reference() {
        let default = if default.is_empty() { "required".to_owned() } else { format!("`{default}`") };
        let applies = match applies {
            Applies::Reload => "reload",
            Applies::Restart => "restart",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| `{key}` | {default} | {accepts} | {applies} | {doc} |");
    }
    out
}

/// Which settings differ, and which of those need a restart.
pub fn reload_diff(old: &Config, new: &Config) -> ReloadDiff {
    let mut diff = ReloadDiff::default();
    for ((section, before), (_, after)) in old.fields().into_iter().zip(new.fields()) {
        for (before, after) in before.into_iter().zip(after).filter(|(before, after)| before.value != after.value) {
            let key = format!("{section}.{}", after.key);
            if before.applies == Applies::Restart {
                diff.needs_restart.push(key.clone());
            }
            diff.changed.push(key);
        }
    }
    diff
}

impl Config {
    /// This configuration with the settings of `new` that may change while the daemon runs.
    #[must_use]
    pub fn with_live_settings(&self, new: &Self) -> Self {
        Self {
            passport: Passport {
                issuer: self.passport.issuer.clone(),
                jwks_file: self.passport.jwks_file.clone(),
                ..new.passport.clone()
            },
            verify: Verify { cache_items: new.verify.cache_items, ..self.verify.clone() },
            cache: new.cache.clone(),
            limits: new.limits.clone(),
            policy: new.policy.clone(),
            audit: Audit { checkpoint_interval_s: new.audit.checkpoint_interval_s, ..self.audit.clone() },
            ..self.clone()
        }
    }
}
