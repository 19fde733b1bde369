//! Configuration and policy, read again and swapped in one piece. A mistake in either changes nothing.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Author, Daemon, Live};
use crate::audit::{AuditError, Entry, Event, Outcome};
use crate::config::{Config, ConfigError, Loaded, Sources, reload_diff};
use crate::passport::hex;
use crate::policy::{Overflow, Policy, PolicyError, SystemNames};
use crate::watch::What;

/// Bytes of a list of names in an audit record: with two hashes before it, it fits `audit::MAX_DETAIL`.
const MAX_NAMES: usize = 300;

/// The longest that a reload waits for another change: for as long as another reload may read.
const TURN: Duration = Duration::from_secs(30);

/// The longest that reading may take: the user database may ask a directory service that does not answer. With [`TURN`] and
/// the ledger's patience it stays below what `passportctl reload` waits, so that nothing is swapped behind the back of
/// somebody who gave up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The configuration has a mistake.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The policy has a mistake.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The policy is in another directory than it was, and that one can't be read: out of the sandbox's reach, as a rule.
    #[error(
        "{}: {source}; a reload takes another [policy] dir only within that of the start, /etc, or the configuration's; \
         restart the front for any other, which the front's user must be able to read", path.display()
    )]
    Moved {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Us: a defect.
    #[error(
        "reading was interrupted by a defect of passportd; report it, with the service_crashed in the log, and reload again"
    )]
    Interrupted,
    /// Nobody's: the daemon was told to end meanwhile.
    #[error("the daemon is ending")]
    Ending,
    /// Nobody's: another change takes long.
    #[error("another change, of keys or by another reload, has been under way for longer than {TURN:?}; try again")]
    Turn,
    /// Host: a file system or a directory service does not answer.
    #[error(
        "reading configuration and policy has taken longer than {PATIENCE:?} and goes on; does the user database (passwd, \
         group in nsswitch.conf) ask a service that does not answer?"
    )]
    Slow,
}

/// What is in force now.
#[derive(Clone, Debug)]
pub struct Reloaded {
    /// The policy's hash before.
    pub old_policy: [u8; 32],
    /// And now.
    pub new_policy: [u8; 32],
    /// The configuration's hash before.
    pub old_config: [u8; 32],
    /// And now: of what is in force, so that settings which need a restart don't count.
    pub new_config: [u8; 32],
    /// Settings that changed and are in force.
    pub changed: Vec<String>,
    /// Settings that changed and need a restart.
    pub needs_restart: Vec<String>,
    /// Rules and templates that changed, as [`Policy::difference`] names them.
    pub policy_changed: Vec<String>,
}

impl Reloaded {
    /// What changed of the configuration, on one line of bounded length.
    pub fn config_line(&self) -> String {
        let hashes = from_to(&self.old_config, &self.new_config);
        let mut names = self.changed.clone();
        names.extend(self.needs_restart.iter().map(|key| format!("{key} (needs a restart)")));
        format!("config {hashes}; changed: {}", listed(&names, MAX_NAMES))
    }

    /// What changed of the policy, on one line of bounded length.
    pub fn policy_line(&self) -> String {
        format!("policy {}; {}", from_to(&self.old_policy, &self.new_policy), listed(&self.policy_changed, MAX_NAMES))
    }
}

fn from_to(old: &[u8; 32], new: &[u8; 32]) -> String {
    format!("{} -> {}", hex::encode(old), hex::encode(new))
}

/// As many names as fit into `max` bytes, and how many more there are.
fn listed(names: &[String], max: usize) -> String {
    let mut text = String::new();
    for (at, name) in names.iter().enumerate() {
        let rest = format!(" and {} more", names.len() - at);
        if text.len() + name.len() + 2 + rest.len() > max {
            return text + &rest;
        }
        text.push_str(if at == 0 { "" } else { ", " });
        text.push_str(name);
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}

impl Daemon {
    /// Reads configuration and policy again.
    ///
    /// # Errors
    /// [`ReloadError`]; what was in force stays so, and a mistake is on record.
    pub async fn reload(&self, author: &Author) -> Result<Reloaded, ReloadError> {
        let _one_at_a_time = tokio::select! {
            turn = tokio::time::timeout(TURN, self.changes.lock()) => turn.map_err(|_| ReloadError::Turn)?,
            () = self.ended() => return Err(ReloadError::Ending),
        };
        self.manager.reloading();
        let outcome = self.reload_alone(author).await;
        // Before the admin hears of it: systemd must not find the service still reloading after its ExecReload=.
        self.manager.reloaded(&self.status_line());
        outcome
    }

    async fn reload_alone(&self, author: &Author) -> Result<Reloaded, ReloadError> {
        let old = self.live.load_full();
        let (sources, overflow) = (self.sources.clone(), self.overflow);
        let before = Arc::clone(&old);
        // The end waits for no reading.
        let read = tokio::select! {
            read = self.reading.run(PATIENCE, move || read(&sources, overflow, &before)) => read,
            () = self.ended() => Err(ReloadError::Ending),
        };
        let (live, reloaded) = match read {
            Ok(read) => read,
            Err(error) => {
                let entry = refused(author, &error).detail(&error.to_string());
                if let Err(unrecorded) = self.audit.record(entry).await {
                    // The admin needs to see the mistake more than this.
                    tracing::error!(name: "reload_not_recorded", %unrecorded, "a refused reload is not on record");
                }
                return Err(error);
            }
        };
        let records = vec![
            author.entry(Event::ConfigReloaded, Outcome::Ok).detail(&reloaded.config_line()),
            author.entry(Event::PolicyReloaded, Outcome::Ok).detail(&reloaded.policy_line()),
        ];
        self.audit.record_many(records).await?;
        // Before the first that lives so long is issued; if the disk does not take it, `watch_kept` asks again.
        drop(self.remember_lifetime(live.loaded.config.passport.max_ttl_s).await);
        self.metrics.set_policy(&live.policy.hash());
        self.metrics.ekey_issues.announce(live.policy.templates().map(crate::policy::Template::name));
        self.verdicts.set_most(live.loaded.config.verify.cache_items);
        self.live.store(Arc::new(live));
        // Also where it is the same: names may mean other users now, so that watchers have to be judged again.
        self.tell_watchers(What::Policy { hash: reloaded.new_policy });
        Ok(reloaded)
    }
}

impl Daemon {
    /// Completes when the end has begun.
    async fn ended(&self) {
        // An error says that the daemon itself is gone.
        drop(self.stopping().wait_for(|stopping| *stopping).await);
    }
}

/// How the ledger calls it: a mistake was refused; what was not read to its end, and may be good, went wrong.
fn refused(author: &Author, error: &ReloadError) -> Entry {
    let unread = |reason| author.entry(Event::ConfigRefused, Outcome::Failed).reason(reason);
    match error {
        ReloadError::Policy(_) | ReloadError::Moved { .. } => author.entry(Event::PolicyRefused, Outcome::Refused),
        ReloadError::Config(_) => author.entry(Event::ConfigRefused, Outcome::Refused),
        ReloadError::Slow | ReloadError::Turn => unread("slow"),
        ReloadError::Ending => unread("ending"),
        ReloadError::Interrupted | ReloadError::Audit(_) => unread("interrupted"),
    }
}

/// Reads on a thread of its own: files, and the user database, which may ask a network. One at a time, so that no more
/// than one thread is ever lost to a service that does not answer.
#[derive(Debug, Default)]
pub(super) struct Reading(Arc<tokio::sync::Mutex<()>>);

impl Reading {
    pub(super) async fn run<T: Send + 'static>(
        &self,
        patience: Duration,
        read: impl FnOnce() -> Result<T, ReloadError> + Send + 'static,
    ) -> Result<T, ReloadError> {
        let alone = Arc::clone(&self.0).try_lock_owned().map_err(|_| ReloadError::Slow)?;
        let reading = tokio::task::spawn_blocking(move || {
            let read = read();
            drop(alone);
            read
        });
        let read = tokio::time::timeout(patience, reading).await.map_err(|_| ReloadError::Slow)?;
        read.unwrap_or(Err(ReloadError::Interrupted))
    }
}

fn read(sources: &Sources, overflow: Overflow, old: &Live) -> Result<(Live, Reloaded), ReloadError> {
    let fresh = Config::load(sources)?;
    let mut diff = reload_diff(&old.loaded.config, &fresh.config);
    diff.changed.retain(|key| !diff.needs_restart.contains(key));
    let config = Arc::new(old.loaded.config.with_live_settings(&fresh.config));
    let moved = config.policy.dir != old.loaded.config.policy.dir;
    let policy = Policy::load(&config.policy.dir, &SystemNames, overflow).map_err(|error| match error {
        PolicyError::Read { path, source } if moved && source.kind() == io::ErrorKind::PermissionDenied => {
            ReloadError::Moved { path, source }
        }
        other => other.into(),
    })?;
    let reloaded = Reloaded {
        old_policy: old.policy.hash(),
        new_policy: policy.hash(),
        old_config: old.loaded.hash,
        new_config: config.hash(),
        changed: diff.changed,
        needs_restart: diff.needs_restart,
        policy_changed: old.policy.difference(&policy),
    };
    let hash = reloaded.new_config;
    let live = Live { loaded: Loaded { config, hash, ..fresh }, policy, generation: old.generation + 1 };
    Ok((live, reloaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::MAX_DETAIL;

    #[test]
    fn the_difference_is_bounded_and_counts_what_it_leaves_out() {
        let names: Vec<String> = (0..1024).map(|n| format!("rule {}{n:04} added", "r".repeat(60))).collect();
        let text = listed(&names, MAX_NAMES);
        let shown = text.matches("added").count();
        assert!(shown > 1 && text.len() <= MAX_NAMES, "{text}");
        assert!(text.ends_with(&format!("added and {} more", 1024 - shown)), "{text}");
        assert_eq!(listed(&names[..2], MAX_NAMES), format!("{}, {}", names[0], names[1]));
        assert_eq!(listed(&[], MAX_NAMES), "nothing");
        let reloaded = Reloaded {
            old_policy: [0; 32],
            new_policy: [1; 32],
            old_config: [2; 32],
            new_config: [3; 32],
            changed: names.clone(),
            needs_restart: Vec::new(),
            policy_changed: names,
        };
        for line in [reloaded.config_line(), reloaded.policy_line()] {
            assert!(line.len() <= MAX_DETAIL && line.ends_with(" more"), "{}: {line}", line.len());
        }
    }
}
