//! Changes of the state that came although they were reported as failed: a disk that answers too late, or that has kept
//! what it said it could not. They are in force from then on, so the ledger must say so: its newest word was "failed".

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::unsettled::NotSettled;
use super::{Author, Daemon};
use crate::audit::{AuditError, Event, Outcome};
use crate::state::{KeyRecord, KeyState, KeyTable};

/// Between attempts to put them on record.
const AGAIN: Duration = Duration::from_secs(1);

/// Watches until the daemon stops.
pub async fn watch_state(daemon: Arc<Daemon>) {
    let mut changes = daemon.store.changes();
    let mut stopping = daemon.stopping();
    while !*stopping.borrow_and_update() {
        let recorded = daemon.account().await;
        if let Err(error) = &recorded {
            tracing::error!(name: "late_change_not_recorded", %error, "a change that came late is not on record yet");
        }
        let settled = daemon.settle_revocations().await;
        if let Err(NotSettled::Audit(error)) = &settled {
            tracing::error!(name: "late_change_not_recorded", %error, "a revocation that came late is not on record yet");
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = daemon.unsettled.more.notified() => {}
            () = tokio::time::sleep(AGAIN), if recorded.is_err() || settled.is_err() => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Of each key, the audit record of its newest change that was reported as done. As many as the key table has.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashMap<String, u64>>);

impl Told {
    pub(super) fn add<'a>(&self, keys: impl Iterator<Item = (&'a str, u64)>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(keys.map(|(kid, audit_seq)| (kid.to_owned(), audit_seq)));
    }

    /// The keys of `table` whose newest change was not.
    fn late(&self, table: &KeyTable) -> Vec<KeyRecord> {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.iter().filter(|key| told.get(&key.kid) != Some(&key.audit_seq)).cloned().collect()
    }
}

impl Daemon {
    /// Puts on record what the state holds beyond what was reported as done.
    pub(super) async fn account(&self) -> Result<(), AuditError> {
        // A change that is under way accounts for itself.
        let _one_at_a_time = self.changes.lock().await;
        let snapshot = self.store.snapshot();
        self.audit.state_is_at(snapshot.audit_seq);
        let table = &snapshot.keys;
        let late = self.told.late(table);
        if late.is_empty() {
            return Ok(());
        }
        let records = late.iter().map(|key| {
            let told = format!(
                "now {}; record {} announced it; it was reported as failed, and came all the same",
                key.state.name(),
                key.audit_seq
            );
            Author::NOBODY.entry(event(key), Outcome::Ok).kid(&key.kid).reason("late").detail(&told)
        });
        // One group: a key table is no larger than one.
        self.audit.record_many(records.collect()).await?;
        self.told.add(late.iter().map(|key| (key.kid.as_str(), key.audit_seq)));
        match self.keyring_of(table) {
            Ok(keyring) => self.publish(table, keyring),
            Err(error) => {
                tracing::error!(name: "late_key_unfit", %error, "a key that came late can't be verified with");
            }
        }
        self.doubt_signer();
        Ok(())
    }
}

/// How the ledger calls a change that made a key so. A way back is there as a confirmation: it is one, of the key that came back.
const fn event(key: &KeyRecord) -> Event {
    match key.state {
        KeyState::Staged => Event::KeyStaged,
        KeyState::Active if key.confirmed_at.is_some() => Event::KeyConfirmed,
        KeyState::Active => Event::KeyActivated,
        KeyState::Compromised => Event::KeyCompromised,
        KeyState::Retired => Event::KeyRetired,
        KeyState::Destroyed => Event::KeyDestroyed,
    }
}
