//! Configuration and policy, read again and swapped in one piece. A mistake in either changes nothing.

use std::sync::Arc;

use super::{Author, Daemon, Live};
use crate::audit::{AuditError, Event, Outcome};
use crate::config::{Config, ConfigError, Loaded, Sources, reload_diff};
use crate::passport::hex;
use crate::policy::{Overflow, Policy, PolicyError, SystemNames};

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration has a mistake.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy has a mistake.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// It can't be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The daemon is ending, or a defect.
    #[error("reading was interrupted; what was in force stays so")]
    Interrupted,
}

/// What is in force now.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The policy's hash before.
    pub old_policy: [u8; 32],
    /// And now.
    pub new_policy: [u8; 32],
    /// Settings that changed and are in force.
    pub changed: Vec<String>,
    /// Settings that changed and need a restart.
    pub needs_restart: Vec<String>,
}

impl Daemon {
    /// Reads configuration and policy again.
    ///
    /// # Errors
    /// [`ReloadError`]; what was in force stays so, and the mistake is on record.
    pub async fn reload(&self, author: &Author) -> Result<Reloaded, ReloadError> {
        let _one_at_a_time = self.changes.lock().await;
        let old = self.live.load_full();
        let (sources, overflow) = (self.sources.clone(), self.overflow);
        let before = Arc::clone(&old);
        // Files, and the user database, which may ask a network.
        let reading = tokio::task::spawn_blocking(move || read(&sources, overflow, &before)).await;
        let (live, reloaded) = match reading.unwrap_or(Err(ReloadError::Interrupted)) {
            Ok(read) => read,
            Err(error) => {
                let event = match &error {
                    ReloadError::Policy(_) => Event::PolicyRefused,
                    ReloadError::Config(_) | ReloadError::Audit(_) | ReloadError::Interrupted => Event::ConfigRefused,
                };
                if let Err(unrecorded) =
                    self.audit.record(author.entry(event, Outcome::Refused).detail(&error.to_string())).await
                {
                    // The admin needs to see the mistake more than this.
                    tracing::error!(name: "reload_not_recorded", %unrecorded, "a refused reload is not on record");
                }
                return Err(error);
            }
        };
        let policy = format!("policy {} -> {}", hex::encode(&reloaded.old_policy), hex::encode(&reloaded.new_policy));
        let config =
            format!("changed: {}; need a restart: {}", reloaded.changed.join(" "), reloaded.needs_restart.join(" "));
        let records = vec![
            author.entry(Event::ConfigReloaded, Outcome::Ok).detail(&config),
            author.entry(Event::PolicyReloaded, Outcome::Ok).detail(&policy),
        ];
        self.audit.record_many(records).await?;
        self.metrics.set_policy(&live.policy.hash());
        self.metrics.ekey_issues.announce(live.policy.templates().map(crate::policy::Template::name));
        self.live.store(Arc::new(live));
        Ok(reloaded)
    }
}

fn read(sources: &Sources, overflow: Overflow, old: &Live) -> Result<(Live, Reloaded), ReloadError> {
    let fresh = Config::load(sources)?;
    let mut diff = reload_diff(&old.loaded.config, &fresh.config);
    diff.changed.retain(|key| !diff.needs_restart.contains(key));
    let config = Arc::new(old.loaded.config.with_live_settings(&fresh.config));
    let policy = Policy::load(&config.policy.dir, &SystemNames, overflow)?;
    let reloaded = Reloaded {
        old_policy: old.policy.hash(),
        new_policy: policy.hash(),
        changed: diff.changed,
        needs_restart: diff.needs_restart,
    };
    let live = Live { loaded: Loaded { config, ..fresh }, policy, generation: old.generation + 1 };
    Ok((live, reloaded))
}
