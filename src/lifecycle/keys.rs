//! Key changes: a key that a ceremony made is taken in, and a staged one starts to sign. Record first, then state, then
//! effect.

use std::sync::Arc;

use super::engine::table_bytes;
use super::{Author, Daemon};
use crate::audit::{AuditError, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::metrics::Cache;
use crate::passport::{Jwk, Kid, KidRef};
use crate::signer::{Probe, SignerError};
use crate::state::{Change, KeyError, KeyRecord, KeyState, KeyTable, NewKey, PAST_LAST_S, Role, STANDINGS, StateError};
use crate::verify::{Keyring, KeyringError, PreparedKey};
use crate::wire::link::{DESTROYED, KeyRole, LinkKey, NOT_IN_HSM, PROBE_PREFIX};

/// Why a key did not change. Nothing has taken effect.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// The admin's: no such key in the HSM.
    #[error("the signer sees no key {kid} in the HSM; run `passportctl hsm list`")]
    NotThere {
        /// The id.
        kid: String,
    },
    /// The operator's or the HSM's: the signer will not use it.
    #[error("the signer does not use {kid}: {problem}")]
    Unusable {
        /// The id.
        kid: String,
        /// The signer's reason.
        problem: String,
    },
    /// The admin's: not a key id.
    #[error("{kid} is not a key id: {why}")]
    Name {
        /// What was given.
        kid: String,
        /// What is wrong with it.
        why: String,
    },
    /// The HSM's: the key does not do what it should.
    #[error("the probe signature of {kid} does not verify against the public key that the signer names")]
    Probe {
        /// The id.
        kid: String,
    },
    /// The admin's: in amnesia mode keys come and go with the signer.
    #[error("in amnesia mode the signer makes its keys itself: start it again for new ones")]
    Fleeting,
    /// The key is not fit to verify with.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The admin's: what is said to be destroyed is not.
    #[error("the signer still sees key {kid} in the HSM; have a ceremony destroy it first")]
    StillThere {
        /// The id.
        kid: String,
    },
    /// No signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The life cycle does not allow it.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It can't be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// It can't be made durable.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What [`Daemon::stage`] did.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The key's id.
    pub kid: String,
    /// Its public key; zeros for a seal key.
    pub public: [u8; 32],
}

/// What [`Daemon::activate`] and [`Daemon::rollback`] did.
#[derive(Clone, Debug)]
pub struct Activated {
    /// The key that signs now.
    pub kid: String,
    /// The one before it.
    pub retired: Option<String>,
}

/// The keys of `table` that verify passports at a time, with tables as far as `table_bytes` goes: first for those that sign.
pub(super) fn keyring(
    table: &KeyTable,
    at: i64,
    table_bytes: usize,
    before: Option<&Keyring>,
) -> Result<Keyring, KeyringError> {
    let key = |record: &KeyRecord| {
        let (current, created) = (Some(record.state == KeyState::Active), Some(record.created));
        Some(Jwk { current, created, ..Jwk::new(record.kid.parse().ok()?, record.public?) })
    };
    let keys: Vec<Jwk> = table.published(at).filter_map(key).collect();
    Keyring::with_tables(&keys, table_bytes, before)
}

/// Whether the signer's proof holds for this public key.
pub(super) fn proves(probe: &Probe, public: &[u8; 32]) -> bool {
    let mut message = PROBE_PREFIX.to_vec();
    message.extend_from_slice(&probe.challenge);
    PreparedKey::new(public).is_ok_and(|key| key.verify(&message, &probe.sig))
}

impl Daemon {
    pub(super) fn keyring_of(&self, table: &KeyTable) -> Result<Keyring, KeyringError> {
        let bytes = table_bytes(&self.live.load().loaded.config.verify);
        keyring(table, self.ending.judged(), bytes, Some(&self.keyring.load()))
    }

    /// The key that signs for a tenant and purpose.
    pub fn active(&self, tenant: &str, purpose: &str) -> Option<Kid> {
        let table = self.store.keys();
        table.active(tenant, purpose).filter(|key| key.role == Role::Passport)?.kid.parse().ok()
    }

    /// Takes a new key into the key table: published, so that verifiers can fetch it, but not signing yet. A key that is
    /// staged already is reported as it is.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing has changed.
    pub async fn stage(&self, kid: &str, author: &Author) -> Result<Staged, KeyChangeError> {
        if self.forgets() {
            return Err(KeyChangeError::Fleeting);
        }
        let _one_at_a_time = self.changes.lock().await;
        // A key of another process shows only after the module has started afresh, which stalls signing: not without need.
        let known = self.signer.keys().await?.into_iter().find(|key| key.kid == kid && key.usable);
        let key = match known {
            None => self.signer.reinitialise().await?.into_iter().find(|key| key.kid == kid),
            known => known,
        };
        let key = key.ok_or_else(|| KeyChangeError::NotThere { kid: kid.to_owned() })?;
        if !key.usable {
            return Err(KeyChangeError::Unusable { kid: kid.to_owned(), problem: key.problem });
        }
        if key.role != KeyRole::Seal && !proves(&self.signer.probe(kid).await?, &key.public) {
            return Err(KeyChangeError::Probe { kid: kid.to_owned() });
        }
        let table = self.store.keys();
        let staged = Staged { kid: kid.to_owned(), public: key.public };
        if table.get(kid).is_some_and(|known| known.state == KeyState::Staged && known.public == public(&key)) {
            self.publish(&table, self.keyring_of(&table)?);
            return Ok(staged);
        }
        let changed = table.stage(new_key(&key)?, self.reckoned().unix())?;
        self.commit(&table, changed, vec![author.entry(Event::KeyStaged, Outcome::Ok).kid(kid)]).await?;
        Ok(staged)
    }

    /// Makes a staged key the one that signs for its tenant and purpose; the one before it retires, and goes on
    /// verifying. An active key is reported as it is. Not before everybody who holds a key set has had the time to fetch one
    /// with the new key in it, unless there is a reason to hurry.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing has changed.
    pub async fn activate(&self, kid: &str, hurry: Option<&str>, author: &Author) -> Result<Activated, KeyChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        let table = self.store.keys();
        if table.get(kid).is_some_and(|known| known.state == KeyState::Active) {
            self.publish(&table, self.keyring_of(&table)?);
            return Ok(Activated { kid: kid.to_owned(), retired: None });
        }
        let now = self.reckoned().unix();
        let changed = match hurry {
            Some(_) => table.activate(kid, now)?,
            None => table.activate_warned(kid, now, self.live.load().loaded.config.cache.jwks_ttl_s)?,
        };
        let entry = author.entry(Event::KeyActivated, Outcome::Ok).kid(kid);
        let entry = match hurry {
            Some(reason) => entry.reason("at_once").detail(reason),
            None => entry,
        };
        self.sign_with(&table, changed, entry, kid, author).await
    }

    /// Makes the retired predecessor of the key that signs active again; the one that signs retires, and goes on verifying.
    /// There is no further way back from it, so that who asks twice gets what was asked for once.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing has changed.
    pub async fn rollback(
        &self,
        (tenant, purpose): (&str, &str),
        reason: &str,
        author: &Author,
    ) -> Result<Activated, KeyChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        let table = self.store.keys();
        let changed = table.rollback(tenant, purpose, self.reckoned().unix())?;
        let back = changed.iter().find(|key| key.state == KeyState::Active).map(|key| key.kid.clone());
        let kid = back.unwrap_or_default();
        let entry = author.entry(Event::KeyRolledBack, Outcome::Ok).kid(&kid).detail(reason);
        self.sign_with(&table, changed, entry, &kid, author).await
    }

    /// Has `kid` sign, once it has shown that it can, and the one retire that did.
    async fn sign_with(
        &self,
        table: &KeyTable,
        changed: Vec<KeyRecord>,
        entry: Entry,
        kid: &str,
        author: &Author,
    ) -> Result<Activated, KeyChangeError> {
        if let Some(KeyRecord { role: Role::Passport, public: Some(public), .. }) = table.get(kid)
            && !proves(&self.signer.probe(kid).await?, public)
        {
            return Err(KeyChangeError::Probe { kid: kid.to_owned() });
        }
        let retired = changed.iter().find(|key| key.state == KeyState::Retired).map(|key| key.kid.clone());
        let mut records = vec![entry];
        records.extend(retired.iter().map(|retired| author.entry(Event::KeyRetired, Outcome::Ok).kid(retired)));
        self.commit(table, changed, records).await?;
        self.metrics.rotations.inc();
        self.doubt_signer();
        Ok(Activated { kid: kid.to_owned(), retired })
    }

    /// Says of the key that signs that there is no way back from it. One of which that was said is reported as it is.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing has changed.
    pub async fn confirm(&self, kid: &str, author: &Author) -> Result<(), KeyChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        let table = self.store.keys();
        let changed = table.confirm(kid, self.reckoned().unix())?;
        if changed.is_empty() {
            return Ok(());
        }
        self.commit(&table, changed, vec![author.entry(Event::KeyConfirmed, Outcome::Ok).kid(kid)]).await
    }

    /// Puts on record that a ceremony has destroyed a key that verifies nothing any more, if the signer can't see it. One of
    /// which that is known is reported as it is.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing has changed.
    pub async fn destroyed(&self, kid: &str, author: &Author) -> Result<(), KeyChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        let table = self.store.keys();
        if table.get(kid).is_some_and(|known| known.state == KeyState::Destroyed) {
            return Ok(());
        }
        let longest = i64::try_from(self.store.snapshot().longest_s).unwrap_or(i64::MAX);
        let changed = table.destroy(kid, self.reckoned().unix(), longest.saturating_add(PAST_LAST_S))?;
        let missing = |key: &LinkKey| key.problem.split("; ").any(|problem| problem == NOT_IN_HSM);
        let gone = |key: &LinkKey| missing(key) || key.problem == DESTROYED;
        let there = |keys: Vec<LinkKey>| keys.iter().any(|key| key.kid == kid && !gone(key));
        // What another process destroyed goes only once the module has started afresh.
        if there(self.signer.keys().await?) && there(self.signer.reinitialise().await?) {
            return Err(KeyChangeError::StillThere { kid: kid.to_owned() });
        }
        self.commit(&table, changed, vec![author.entry(Event::KeyDestroyed, Outcome::Ok).kid(kid)]).await
    }

    /// Has a key neither sign nor verify from now on. One that is compromised already is reported as it is.
    ///
    /// # Errors
    /// [`KeyChangeError`]; nothing has changed.
    pub async fn compromise(&self, kid: &str, reason: &str, author: &Author) -> Result<(), KeyChangeError> {
        let _one_at_a_time = self.changes.lock().await;
        let table = self.store.keys();
        if table.get(kid).is_some_and(|known| known.state == KeyState::Compromised) {
            self.publish(&table, self.keyring_of(&table)?);
            return Ok(());
        }
        let changed = table.compromise(kid, self.reckoned().unix())?;
        let record = author.entry(Event::KeyCompromised, Outcome::Ok).kid(kid).detail(reason);
        self.commit(&table, changed, vec![record]).await?;
        self.doubt_signer();
        Ok(())
    }

    /// Record, state, effect. Should the state fail after the record, the record is followed by one that says so.
    pub(super) async fn commit(
        &self,
        table: &KeyTable,
        changed: Vec<KeyRecord>,
        records: Vec<Entry>,
    ) -> Result<(), KeyChangeError> {
        let table = table.apply(&changed)?;
        self.make(changed, &table, records).await
    }

    pub(super) async fn make(
        &self,
        changed: Vec<KeyRecord>,
        table: &KeyTable,
        records: Vec<Entry>,
    ) -> Result<(), KeyChangeError> {
        let keyring = self.keyring_of(table)?;
        let first = records.first().cloned();
        let receipt = self.audit.record_many(records).await?;
        if let Err(error) = self.store.commit(Change::keys(changed.clone()), receipt.last).await {
            if let Some(entry) = first {
                let failed = entry.failed(Moment::now()).reason("store_unavailable").detail(&error.to_string());
                self.audit.record(failed).await?;
            }
            return Err(error.into());
        }
        self.audit.state_is_at(receipt.last);
        self.told.add(changed.iter().map(|key| (key.kid.as_str(), receipt.last)));
        self.publish(table, keyring);
        Ok(())
    }

    /// These verify from now on, as the table says.
    pub(super) fn publish(&self, table: &KeyTable, keyring: Keyring) {
        self.keyring.store(Arc::new(keyring));
        self.published.changed.notify_one();
        self.tell_keys(table);
        self.count_keys();
        self.tell_manager();
    }

    pub(super) fn count_keys(&self) {
        let table = self.store.keys();
        let at = self.ending.judged();
        for standing in STANDINGS {
            let count = table.iter().filter(|key| key.standing(at) == standing).count();
            self.metrics.keys.at(standing).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let verifying = i64::try_from(self.keyring.load().len()).unwrap_or(i64::MAX);
        self.metrics.cache_items.at(Cache::VerifyingKeys).set(verifying);
        let tables = i64::try_from(self.keyring.load().tables()).unwrap_or(i64::MAX);
        self.metrics.cache_items.at(Cache::Tables).set(tables);
        self.metrics.cache_items.at(Cache::Jwks).set(1);
    }
}

fn public(key: &LinkKey) -> Option<[u8; 32]> {
    (key.role != KeyRole::Seal).then_some(key.public)
}

pub(super) fn new_key(key: &LinkKey) -> Result<NewKey, KeyChangeError> {
    let bad = |why: String| KeyChangeError::Name { kid: key.kid.clone(), why };
    // A seal key is named like the others but for the algorithm before the first slash.
    let tail = key.kid.split_once('/').map(|(_, tail)| format!("ed25519/{tail}")).unwrap_or_default();
    let named = KidRef::parse(&tail).map_err(|error| bad(error.to_string()))?;
    Ok(NewKey {
        kid: key.kid.clone(),
        tenant: named.tenant().to_owned(),
        purpose: named.purpose().to_owned(),
        version: named.version().try_into().map_err(|_| bad("its version is out of range".to_owned()))?,
        role: match key.role {
            KeyRole::Passport => Role::Passport,
            KeyRole::Audit => Role::Audit,
            KeyRole::Seal => Role::Seal,
        },
        public: public(key),
        created: Moment::now().unix(),
    })
}
