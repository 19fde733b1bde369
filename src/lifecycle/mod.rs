//! The front's life: what it holds, and every change of it. Keys are staged and activated here, configuration and policy
//! swapped, issuing paused, the daemon drained. Requests only read.

mod checkpoints;
mod clock;
mod ending;
mod engine;
mod fleeting;
mod health;
mod keys;
mod late;
mod manager;
mod published;
mod rejected;
mod reload;
mod revoking;
mod signer;
mod status;
mod tickets;
mod unsettled;
mod watching;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

pub use checkpoints::{NoCheckpoint, watch_checkpoints};
pub use engine::{verdicts, verifier, watch_verifier};
pub use keys::{Activated, KeyChangeError, Staged};
pub use late::watch_state;
pub use manager::{Manager, watchdog_every};
pub use published::watch_published;
pub use reload::{ReloadError, Reloaded, say_cgroups};
pub use revoking::{RevokeError, Revoked, Wish, watch_kept};
pub use signer::watch_signer;
pub use tickets::{MAX_ACTIVE, MAX_TICKET_TTL_FOR_S};

use crate::audit::{Audit, AuditError, Entry, Event, Outcome, Peer};
use crate::clock::Moment;
use crate::config::{Loaded, Sources};
use crate::metrics::Metrics;
use crate::policy::{Overflow, Policy, Template};
use crate::sandbox::Applied;
use crate::signer::Signer;
use crate::state::Store;
use crate::verify::{Keyring, KeyringError, Verdicts, Verifier};
use crate::watch::{Stream, What};
use signer::Doubts;

/// Configuration and policy of one moment. A reload makes a new one.
#[derive(Debug)]
pub struct Live {
    /// The configuration, and where it came from.
    pub loaded: Loaded,
    /// The rules and templates.
    pub policy: Policy,
    /// Grows with every reload, so that connections know when to look at their rights again.
    pub generation: u64,
}

/// What the front holds.
#[expect(missing_debug_implementations, reason = "the stores hold threads and channels that have nothing to show")]
pub struct Daemon {
    /// Configuration and policy.
    pub live: ArcSwap<Live>,
    /// The keys that verify.
    pub keyring: ArcSwap<Keyring>,
    /// How signatures are verified.
    pub verifier: Verifier,
    /// What it has accepted a moment ago.
    pub verdicts: Verdicts,
    /// Key table and state.
    pub store: Store,
    /// The ledger.
    pub audit: Audit,
    /// The signer process.
    pub signer: Signer,
    /// What Prometheus reads.
    pub metrics: Arc<Metrics>,
    /// What confines this process.
    pub applied: Applied,
    /// Who started it, and is told how it stands.
    pub manager: Manager,
    /// Who wants to know at once.
    pub events: Arc<Stream>,
    /// When it started.
    pub started: Moment,
    sources: Sources,
    overflow: Overflow,
    reading: reload::Reading,
    /// Issuing is paused, and why.
    paused: Mutex<Option<String>>,
    /// An admin had it drained.
    drained: AtomicBool,
    /// The process is about to end.
    stopping: watch::Sender<bool>,
    /// What the last look at the signer found.
    hsm: ArcSwap<signer::Seen>,
    /// Asks for another look.
    doubts: Doubts,
    /// Of each key, the audit record of its newest change that was reported as done.
    told: late::Told,
    /// The states in which watchers know the keys to be.
    shown: watching::Shown,
    /// Revocations that were reported as failed.
    unsettled: unsettled::Unsettled,
    /// What the clock is held to.
    clock: clock::Clock,
    /// What comes by itself in the lives of keys.
    ending: ending::Ending,
    /// The file that others read the keys from.
    published: published::Published,
    /// Signatures that do not verify.
    rejected: rejected::Rejected,
    /// Tickets that are out, and how long they may live.
    tickets: tickets::Tickets,
    /// What was signed of the ledger.
    checkpoints: checkpoints::Checkpoints,
    /// Changes of keys, configuration and policy happen one at a time.
    changes: tokio::sync::Mutex<()>,
    /// So do pausing and draining, which wait for nothing but the ledger: in an emergency, not for a signer or a
    /// directory service.
    switches: tokio::sync::Mutex<()>,
}

/// Whose change it is, for the record.
#[derive(Clone, Debug)]
pub struct Author {
    /// The admin, or none for a signal.
    pub peer: Option<Peer>,
    /// The admin's correlation id.
    pub corr_id: [u8; 16],
}

impl Author {
    /// A change that came as a signal, or from the daemon itself.
    pub const NOBODY: Self = Self { peer: None, corr_id: [0; 16] };

    fn entry(&self, event: Event, outcome: Outcome) -> Entry {
        let entry = Entry::new(event, outcome, Moment::now()).corr_id(self.corr_id);
        match &self.peer {
            Some(peer) => entry.peer(peer.clone()),
            None => entry,
        }
    }
}

/// The parts that boot has opened.
#[expect(missing_debug_implementations, reason = "as Daemon")]
pub struct Parts {
    /// Configuration and policy.
    pub live: Live,
    /// Who wants to know at once.
    pub events: Stream,
    /// Where the configuration is read from again.
    pub sources: Sources,
    /// The ids that stand for strangers; the sandbox hides where the kernel says them.
    pub overflow: Overflow,
    /// How signatures are verified.
    pub verifier: Verifier,
    /// What it has accepted a moment ago.
    pub verdicts: Verdicts,
    /// Key table and state.
    pub store: Store,
    /// The ledger.
    pub audit: Audit,
    /// The signer process.
    pub signer: Signer,
    /// What Prometheus reads.
    pub metrics: Arc<Metrics>,
    /// What confines this process.
    pub applied: Applied,
    /// Who started it.
    pub manager: Manager,
}

impl Daemon {
    /// Puts the parts together.
    ///
    /// # Errors
    /// [`KeyringError`] when a key of the store is not fit to verify with.
    pub fn new(parts: Parts) -> Result<Self, KeyringError> {
        let Parts {
            live,
            sources,
            overflow,
            verifier,
            verdicts,
            store,
            audit,
            signer,
            metrics,
            applied,
            manager,
            events,
        } = parts;
        let events = Arc::new(events);
        metrics.set_policy(&live.policy.hash());
        metrics.ekey_issues.announce(live.policy.templates().map(Template::name));
        engine::announce(&metrics, &verifier);
        let table_bytes = engine::table_bytes(&live.loaded.config.verify);
        let ending = ending::Ending::new(store.snapshot().mark);
        let keyring = keys::keyring(&store.keys(), ending.judged(), table_bytes, None)?;
        let told = late::Told::default();
        told.add(store.keys().iter().map(|key| (key.kid.as_str(), key.audit_seq)));
        let clock = clock::Clock::new(store.snapshot().mark);
        let shown = watching::Shown::new(&store.keys(), ending.judged());
        watching::follow(&store, &events, &metrics);
        let daemon = Self {
            live: ArcSwap::from_pointee(live),
            keyring: ArcSwap::from_pointee(keyring),
            verifier,
            verdicts,
            store,
            audit,
            signer,
            metrics,
            applied,
            manager,
            events,
            started: Moment::now(),
            sources,
            overflow,
            reading: reload::Reading::default(),
            paused: Mutex::new(None),
            drained: AtomicBool::new(false),
            stopping: watch::channel(false).0,
            hsm: ArcSwap::from_pointee(signer::Seen::nothing()),
            doubts: Doubts::default(),
            told,
            shown,
            unsettled: unsettled::Unsettled::default(),
            clock,
            ending,
            published: published::Published::default(),
            rejected: rejected::Rejected::default(),
            tickets: tickets::Tickets::default(),
            checkpoints: checkpoints::Checkpoints::default(),
            changes: tokio::sync::Mutex::new(()),
            switches: tokio::sync::Mutex::new(()),
        };
        daemon.count_keys();
        Ok(daemon)
    }

    /// Whether nothing is kept beyond the life of this process.
    pub const fn forgets(&self) -> bool {
        self.applied.amnesia
    }

    /// Why issuing is paused, if it is.
    pub fn paused(&self) -> Option<String> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops issuing until [`Daemon::resume`]. Not kept over a restart.
    ///
    /// It holds from before its record is written, so that no passport that is recorded after it is released: whoever
    /// releases one looks again once it is recorded.
    ///
    /// # Errors
    /// [`AuditError`]: it can't be put on record, so all is as it was.
    pub async fn pause(&self, reason: &str, author: &Author) -> Result<(), AuditError> {
        let _one_at_a_time = self.switches.lock().await;
        let before = self.set_paused(Some(reason.to_owned()));
        let recorded = self.audit.record(author.entry(Event::IssuePaused, Outcome::Ok).detail(reason)).await;
        if recorded.is_err() {
            self.set_paused(before);
        }
        self.tell_manager();
        recorded.map(drop)
    }

    fn set_paused(&self, paused: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.paused.lock().unwrap_or_else(PoisonError::into_inner), paused)
    }

    /// Ends [`Daemon::pause`].
    ///
    /// # Errors
    /// As [`Daemon::pause`].
    pub async fn resume(&self, author: &Author) -> Result<(), AuditError> {
        let _one_at_a_time = self.switches.lock().await;
        self.audit.record(author.entry(Event::IssueResumed, Outcome::Ok)).await?;
        self.set_paused(None);
        self.tell_manager();
        Ok(())
    }

    /// Whether new work is refused, for a while or for good.
    pub fn draining(&self) -> bool {
        self.drained.load(Ordering::Relaxed) || self.ending()
    }

    /// Whether the process is about to end.
    pub fn ending(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Refuses new work (`true`), or takes it again.
    ///
    /// # Errors
    /// As [`Daemon::pause`].
    pub async fn set_drained(&self, drained: bool, author: &Author) -> Result<(), AuditError> {
        let _one_at_a_time = self.switches.lock().await;
        let event = if drained { Event::Drained } else { Event::Undrained };
        self.audit.record(author.entry(event, Outcome::Ok)).await?;
        self.drained.store(drained, Ordering::Relaxed);
        self.tell_watchers(What::Draining { on: drained });
        self.tell_manager();
        Ok(())
    }

    /// Turns true when the process is about to end.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Begins the end: no new work; what is under way is finished by whoever holds it.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Has the signer looked at again soon, because a request met a failure.
    pub fn doubt_signer(&self) {
        self.doubts.raise();
    }
}

#[cfg(test)]
pub(crate) mod tests;
