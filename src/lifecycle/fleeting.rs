//! Amnesia mode: the keys that the signer has made for this front are those that sign. There is no ceremony, and nothing to wait
//! for: those before them are gone, so until the new ones are in force nothing is issued.

use std::collections::HashSet;

use tracing::info;

use super::keys::{new_key, proves};
use super::{Author, Daemon, KeyChangeError};
use crate::audit::{Entry, Event, Outcome};
use crate::state::{KeyRecord, KeyState, KeyTable};
use crate::wire::link::{KeyRole, LinkKey};

/// Keys that change in one piece: with their records far fewer than the ledger takes at once.
const AT_ONCE: usize = 64;

/// What is to become of the keys.
#[derive(Default)]
struct Turn {
    changed: Vec<KeyRecord>,
    records: Vec<Entry>,
}

impl Turn {
    fn note(&mut self, changed: Vec<KeyRecord>, table: &KeyTable) -> Result<KeyTable, KeyChangeError> {
        let next = table.apply(&changed)?;
        for key in &changed {
            let event = match key.state {
                KeyState::Staged => Event::KeyStaged,
                KeyState::Active => Event::KeyActivated,
                _ => Event::KeyRetired,
            };
            self.records.push(Author::NOBODY.entry(event, Outcome::Ok).kid(&key.kid));
        }
        self.changed.extend(changed);
        Ok(next)
    }
}

impl Daemon {
    /// In amnesia mode: has the keys that the signer names be those that sign, each once it has shown that it does. Those that it no longer names
    /// retire: what they have signed is accepted until it expires.
    ///
    /// # Errors
    /// [`KeyChangeError`]; some may have been taken.
    pub(super) async fn follow(&self, there: &[LinkKey]) -> Result<(), KeyChangeError> {
        if !self.forgets() {
            return Ok(());
        }
        let there: Vec<&LinkKey> = there.iter().filter(|key| key.role != KeyRole::Seal && key.usable).collect();
        if follows(&self.store.keys(), &there) {
            return Ok(());
        }
        let _one_at_a_time = self.changes.lock().await;
        let fresh: Vec<&LinkKey> =
            there.iter().filter(|key| self.store.keys().get(&key.kid).is_none()).copied().collect();
        for some in fresh.chunks(AT_ONCE) {
            self.take(some).await?;
        }
        let (table, now) = (self.store.keys(), self.reckoned().unix());
        let named: HashSet<&str> = there.iter().map(|key| key.kid.as_str()).collect();
        let (mut turn, mut next) = (Turn::default(), KeyTable::clone(&table));
        // Of a purpose that is no longer in the signer's bounds, so that it has no successor.
        let gone = table.iter().filter(|key| key.state == KeyState::Active && !named.contains(key.kid.as_str()));
        for key in gone.take(AT_ONCE) {
            next = turn.note(next.retire(&key.kid, now)?, &next)?;
        }
        if !turn.changed.is_empty() {
            self.make(turn.changed, &next, turn.records).await?;
        }
        info!(name: "keys_followed", keys = fresh.len(), "the signer has made new keys, which sign from now on");
        Ok(())
    }

    async fn take(&self, fresh: &[&LinkKey]) -> Result<(), KeyChangeError> {
        let (table, now) = (self.store.keys(), self.reckoned().unix());
        let (mut turn, mut next) = (Turn::default(), KeyTable::clone(&table));
        for key in fresh {
            let kid = &key.kid;
            if !proves(&self.signer.probe(kid).await?, &key.public) {
                return Err(KeyChangeError::Probe { kid: kid.clone() });
            }
            next = turn.note(next.stage(new_key(key)?, now)?, &next)?;
            next = turn.note(next.activate(kid, now)?, &next)?;
        }
        self.make(turn.changed, &next, turn.records).await?;
        let newest = next.iter().map(|key| u64::from(key.version)).max().unwrap_or(0);
        self.signer.knows(newest);
        self.metrics.rotations.inc();
        Ok(())
    }
}

/// Whether each of them is known, and no other key signs.
fn follows(table: &KeyTable, there: &[&LinkKey]) -> bool {
    let known = there.iter().all(|key| table.get(&key.kid).is_some());
    let active = |key: &&KeyRecord| key.state == KeyState::Active;
    known && table.iter().filter(active).all(|key| there.iter().any(|one| one.kid == key.kid))
}
