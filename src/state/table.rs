//! The key table: which keys exist, what each may do, and what may become of it. Pure.
//!
//! ```text
//! staged ──activate──▶ active ──retire──▶ retired ──destroy──▶ destroyed
//!                        ▲                   │
//!                        └─────rollback──────┘      staged, active, retired ──compromise──▶ compromised ──▶ destroyed
//! ```
//! A transition returns the changed records; the store applies them to the table as it is by then, checks every rule
//! once more, and makes them durable. Nothing is ever removed: a version or public key that was used stays used (L7).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::{KeyError, KeyRecord, KeyState, MAX_KEYS, MAX_KID, NewKey, Role};

/// All keys that ever were. Immutable: a change makes another table, which shares the records that did not change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyTable {
    keys: BTreeMap<String, Arc<KeyRecord>>,
}

impl KeyTable {
    /// The record of `kid`.
    pub fn get(&self, kid: &str) -> Option<&KeyRecord> {
        self.keys.get(kid).map(AsRef::as_ref)
    }

    /// All records, in the order of their kids.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        self.keys.values().map(AsRef::as_ref)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys of one tenant and purpose, in the order of their kids.
    pub fn of(&self, tenant: &str, purpose: &str) -> impl Iterator<Item = &KeyRecord> {
        self.iter().filter(move |key| key.tenant == tenant && key.purpose == purpose)
    }

    /// The key that signs for a tenant and purpose.
    pub fn active(&self, tenant: &str, purpose: &str) -> Option<&KeyRecord> {
        self.of(tenant, purpose).find(|key| key.state == KeyState::Active)
    }

    /// What verifies at a time, and what the JWKS shows: passport keys that sign, may soon sign, or have signed what is still
    /// valid.
    pub fn published(&self, at: i64) -> impl Iterator<Item = &KeyRecord> {
        self.iter().filter(move |key| key.role == Role::Passport && key.verifies(at))
    }

    /// From when a staged key may be activated, if those who hold a key set keep it for `warning_s`: until then some verifiers
    /// don't know it. The first key of a tenant and purpose follows no other, so nobody relies on it yet.
    pub fn ready_at(&self, key: &KeyRecord, warning_s: u64) -> i64 {
        let follows =
            self.of(&key.tenant, &key.purpose).any(|other| other.kid != key.kid && other.activated_at.is_some());
        let warning_s = if follows && key.role == Role::Passport { warning_s } else { 0 };
        key.staged_at.saturating_add(i64::try_from(warning_s).unwrap_or(i64::MAX))
    }

    /// The key that [`Self::rollback`] makes active again.
    pub fn predecessor(&self, active: &KeyRecord, now: i64) -> Option<&KeyRecord> {
        let older = self.of(&active.tenant, &active.purpose).filter(|key| key.version < active.version);
        let back = older.filter(|key| key.state == KeyState::Retired && key.verifies(now) && key.role == active.role);
        back.max_by_key(|key| key.version)
    }

    /// How many keys are in `state`.
    pub fn count(&self, state: KeyState) -> usize {
        self.iter().filter(|key| key.state == state).count()
    }

    /// The version that the next key of a tenant and purpose gets; none when the numbers are used up.
    pub fn next_version(&self, tenant: &str, purpose: &str) -> Option<u32> {
        self.newest(tenant, purpose).map_or(Some(1), |newest| newest.checked_add(1))
    }

    fn newest(&self, tenant: &str, purpose: &str) -> Option<u32> {
        self.of(tenant, purpose).map(|key| key.version).max()
    }

    fn find(&self, kid: &str) -> Result<&KeyRecord, KeyError> {
        self.get(kid).ok_or_else(|| KeyError::Unknown { kid: shown(kid) })
    }

    /// Enters a new key as staged.
    pub fn stage(&self, key: NewKey, now: i64) -> Result<Vec<KeyRecord>, KeyError> {
        let NewKey { kid, tenant, purpose, version, role, public, created } = key;
        let (state, staged_at, audit_seq) = (KeyState::Staged, now, 0);
        let (activated_at, retired_at, compromised_at, destroyed_at) = (None, None, None, None);
        let (confirmed_at, verifies_until) = (None, None);
        let record = KeyRecord {
            kid,
            tenant,
            purpose,
            version,
            role,
            public,
            state,
            created,
            staged_at,
            activated_at,
            retired_at,
            compromised_at,
            destroyed_at,
            confirmed_at,
            verifies_until,
            audit_seq,
        };
        if self.get(&record.kid).is_some() {
            return Err(KeyError::KidReused { kid: shown(&record.kid) });
        }
        self.checked(vec![record])
    }

    /// Makes a staged key the one that signs; the one before it is retired in the same change.
    pub fn activate(&self, kid: &str, now: i64) -> Result<Vec<KeyRecord>, KeyError> {
        let key = self.find(kid)?;
        if key.state != KeyState::Staged {
            return Err(KeyError::NotStaged { kid: shown(kid), state: key.state });
        }
        let before = self.active(&key.tenant, &key.purpose);
        let mut changed: Vec<_> = before.map(|key| key.moved(KeyState::Retired, now)).into_iter().collect();
        changed.push(key.moved(KeyState::Active, now));
        self.checked(changed)
    }

    /// As [`Self::activate`], once those who hold a key set without it have fetched another.
    pub fn activate_warned(&self, kid: &str, now: i64, warning_s: u64) -> Result<Vec<KeyRecord>, KeyError> {
        let changed = self.activate(kid, now)?;
        let at = self.ready_at(self.find(kid)?, warning_s);
        if now < at {
            return Err(KeyError::TooSoon { kid: shown(kid), at, wait_s: at.saturating_sub(now) });
        }
        Ok(changed)
    }

    /// Makes the newest retired key that is older than the active one, and still verifies, active again, and retires the
    /// active one, whose passports go on verifying. Not once the active one is confirmed.
    pub fn rollback(&self, tenant: &str, purpose: &str, now: i64) -> Result<Vec<KeyRecord>, KeyError> {
        let owned = || (tenant.to_owned(), purpose.to_owned());
        let Some(active) = self.active(tenant, purpose) else {
            let (tenant, purpose) = owned();
            return Err(KeyError::NoActive { tenant, purpose });
        };
        if active.role == Role::Seal {
            return Err(KeyError::Seals { tenant: tenant.to_owned() });
        }
        if let Some(at) = active.confirmed_at {
            return Err(KeyError::Confirmed { kid: active.kid.clone(), at });
        }
        let Some(back) = self.predecessor(active, now) else {
            let (tenant, purpose) = owned();
            return Err(KeyError::NoPredecessor { tenant, purpose });
        };
        // One step: who asks twice gets what was asked for once.
        let back = KeyRecord { confirmed_at: back.confirmed_at.or(Some(now)), ..back.moved(KeyState::Active, now) };
        self.checked(vec![active.moved(KeyState::Retired, now), back])
    }

    /// Says of the key that signs that there is no way back from it. One that was confirmed before stays so.
    pub fn confirm(&self, kid: &str, now: i64) -> Result<Vec<KeyRecord>, KeyError> {
        let key = self.find(kid)?;
        if key.state != KeyState::Active {
            return Err(KeyError::NotActive { kid: shown(kid), state: key.state });
        }
        if key.confirmed_at.is_some() {
            return Ok(Vec::new());
        }
        self.checked(vec![KeyRecord { confirmed_at: Some(now), ..key.clone() }])
    }

    /// Stops a key from signing, without a successor.
    pub fn retire(&self, kid: &str, now: i64) -> Result<Vec<KeyRecord>, KeyError> {
        self.checked(vec![self.find(kid)?.moved(KeyState::Retired, now)])
    }

    /// Stops a key from signing and from verifying.
    pub fn compromise(&self, kid: &str, now: i64) -> Result<Vec<KeyRecord>, KeyError> {
        self.checked(vec![self.find(kid)?.moved(KeyState::Compromised, now)])
    }

    /// Records that a key's private half is gone. A retired passport key must have been so until nothing that it signed is
    /// valid; where the record does not say when that is, for `max_ttl_s`.
    pub fn destroy(&self, kid: &str, now: i64, max_ttl_s: i64) -> Result<Vec<KeyRecord>, KeyError> {
        let key = self.find(kid)?;
        let until = key.verifies_until.unwrap_or_else(|| key.retired_at.unwrap_or(now).saturating_add(max_ttl_s));
        if key.role == Role::Passport && key.state == KeyState::Retired && now < until {
            return Err(KeyError::StillVerifies { kid: shown(kid), until });
        }
        self.checked(vec![key.moved(KeyState::Destroyed, now)])
    }

    fn checked(&self, changed: Vec<KeyRecord>) -> Result<Vec<KeyRecord>, KeyError> {
        self.apply(&changed)?;
        Ok(changed)
    }

    /// The table after a change. Checks every rule, so that changes that were worked out against an older table cannot
    /// add up to something that neither meant.
    pub fn apply(&self, changed: &[KeyRecord]) -> Result<Self, KeyError> {
        let mut table = self.clone();
        for record in changed {
            well_formed(record)?;
            match table.get(&record.kid) {
                Some(old) if !old.same_key(record) => return Err(KeyError::KidReused { kid: shown(&record.kid) }),
                Some(old) if !old.may_become(record) => {
                    return Err(KeyError::Illegal { kid: shown(&old.kid), state: old.state, wanted: record.state });
                }
                Some(_) => {}
                None => table.admits(record)?,
            }
            table.keys.insert(record.kid.clone(), Arc::new(record.clone()));
        }
        table.one_active_each()?;
        Ok(table)
    }

    /// A table of stored records: any state, but the rules that hold at every moment must hold.
    pub(super) fn load(records: Vec<KeyRecord>) -> Result<Self, KeyError> {
        let mut records = records;
        records.sort_by_key(|record| record.version);
        let mut table = Self::default();
        for record in records {
            well_formed(&record)?;
            table.fits(&record)?;
            table.keys.insert(record.kid.clone(), Arc::new(record));
        }
        table.one_active_each()?;
        Ok(table)
    }

    fn admits(&self, new: &KeyRecord) -> Result<(), KeyError> {
        if new.state != KeyState::Staged {
            return Err(KeyError::Malformed { kid: shown(&new.kid), what: "a new key must be staged first" });
        }
        self.fits(new)
    }

    fn fits(&self, new: &KeyRecord) -> Result<(), KeyError> {
        if self.keys.len() >= MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        if let Some(newest) = self.newest(&new.tenant, &new.purpose)
            && new.version <= newest
        {
            return Err(KeyError::OldVersion { kid: shown(&new.kid), version: new.version, newest });
        }
        let twin = self.iter().find(|key| key.public.is_some() && key.public == new.public);
        match twin {
            Some(other) => Err(KeyError::PublicReused { kid: shown(&new.kid), other: other.kid.clone() }),
            None => Ok(()),
        }
    }

    fn one_active_each(&self) -> Result<(), KeyError> {
        let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        for key in self.iter().filter(|key| key.state == KeyState::Active) {
            if let Some(first) = seen.insert((&key.tenant, &key.purpose), &key.kid) {
                let (tenant, purpose) = (key.tenant.clone(), key.purpose.clone());
                return Err(KeyError::TwoActive { tenant, purpose, first: first.to_owned(), second: key.kid.clone() });
            }
        }
        Ok(())
    }
}

/// What a record must be by itself.
fn well_formed(key: &KeyRecord) -> Result<(), KeyError> {
    let ending = format!("/{}/{}/v{}", key.tenant, key.purpose, key.version);
    let what = if key.kid.len() > MAX_KID {
        "the key id is too long"
    } else if key.tenant.is_empty() || key.purpose.is_empty() || !key.kid.ends_with(&ending) {
        "the key id does not end in its tenant, purpose and version"
    } else if key.version == 0 {
        "versions start at 1"
    } else if (key.role == Role::Seal) == key.public.is_some() {
        "passport and audit keys have a public key, seal keys have none"
    } else {
        return Ok(());
    };
    Err(KeyError::Malformed { kid: shown(&key.kid), what })
}

/// A kid as errors show it: one that comes from a request may be long.
fn shown(kid: &str) -> String {
    kid.get(..kid.floor_char_boundary(MAX_KID)).unwrap_or_default().to_owned()
}
