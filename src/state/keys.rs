//! What a key is, and where in its life it may be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Keys that ever existed, over all tenants: one rotation a day for ten years, and room.
pub use crate::passport::MAX_KEYS;

/// The longest kid in bytes.
pub const MAX_KID: usize = 256;

/// What a key is for. Only passport keys are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Signs passports; in the JWKS.
    Passport,
    /// Signs checkpoints, transcripts, attestations.
    Audit,
    /// Derives the keys that small secrets are encrypted with; has no public half.
    Seal,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// Exists and is published, but does not sign yet.
    Staged,
    /// Signs; one for each tenant and purpose at most.
    Active,
    /// Signs no more; still verifies.
    Retired,
    /// Known or feared to be in other hands: neither signs nor verifies.
    Compromised,
    /// The private half is gone; the record stays.
    Destroyed,
}

impl KeyState {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Staged, Self::Active, Self::Retired, Self::Compromised, Self::Destroyed];

    /// In lower case, as in metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
        }
    }

    /// Whether passports signed with such a key are accepted, and so whether the key is published: the two are one, here
    /// and in every verifier that has the JWKS. A staged key is among them so that nobody refuses the first passport that
    /// it signs: those who hold the JWKS of a minute ago, and ourselves, between the commit that makes it active and the
    /// next look at the key table. Before it is active it signs nothing that is released.
    pub const fn verifies(self) -> bool {
        matches!(self, Self::Staged | Self::Active | Self::Retired)
    }

    /// The states that may follow.
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Staged => &[Self::Active, Self::Compromised, Self::Destroyed],
            Self::Active => &[Self::Retired, Self::Compromised],
            Self::Retired => &[Self::Active, Self::Compromised, Self::Destroyed],
            Self::Compromised => &[Self::Destroyed],
            Self::Destroyed => &[],
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key as a ceremony made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The key id, which ends in `/<tenant>/<purpose>/v<version>`.
    pub kid: String,
    /// Whose it is.
    pub tenant: String,
    /// What the tenant uses it for.
    pub purpose: String,
    /// Greater than every earlier version of the tenant and purpose.
    pub version: u32,
    /// What it is for.
    pub role: Role,
    /// The raw Ed25519 public key; none exactly for [`Role::Seal`].
    pub public: Option<[u8; 32]>,
    /// When the HSM made it, in seconds since 1970.
    pub created: i64,
}

/// A key and its life so far. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// See [`NewKey::kid`].
    pub kid: String,
    /// See [`NewKey::tenant`].
    pub tenant: String,
    /// See [`NewKey::purpose`].
    pub purpose: String,
    /// See [`NewKey::version`].
    pub version: u32,
    /// See [`NewKey::role`].
    pub role: Role,
    /// See [`NewKey::public`].
    pub public: Option<[u8; 32]>,
    /// Where it is in its life.
    pub state: KeyState,
    /// See [`NewKey::created`].
    pub created: i64,
    /// When it was staged.
    pub staged_at: i64,
    /// When it was last made active.
    pub activated_at: Option<i64>,
    /// When it was last retired.
    pub retired_at: Option<i64>,
    /// When it was declared compromised.
    pub compromised_at: Option<i64>,
    /// When its private half was destroyed.
    pub destroyed_at: Option<i64>,
    /// The audit record of its latest change; the store fills it in.
    pub audit_seq: u64,
}

impl KeyRecord {
    pub(super) fn moved(&self, state: KeyState, now: i64) -> Self {
        let mut record = Self { state, ..self.clone() };
        match state {
            KeyState::Staged => record.staged_at = now,
            KeyState::Active => (record.activated_at, record.retired_at) = (Some(now), None),
            KeyState::Retired => record.retired_at = Some(now),
            KeyState::Compromised => record.compromised_at = Some(now),
            KeyState::Destroyed => record.destroyed_at = Some(now),
        }
        record
    }

    pub(super) fn same_key(&self, other: &Self) -> bool {
        (&self.tenant, &self.purpose, self.version, self.role, self.public, self.created)
            == (&other.tenant, &other.purpose, other.version, other.role, other.public, other.created)
    }
}

/// Why a change of keys is not allowed. The operator asked for it; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No such key.
    #[error("no key {kid} is known; `passportctl hsm list` shows those that are")]
    Unknown {
        /// The key id.
        kid: String,
    },
    /// Not from this state.
    #[error("key {kid} is {state} and cannot become {wanted}; from {state} it can become: {}", names(.state.next()))]
    Illegal {
        /// The key id.
        kid: String,
        /// Its state.
        state: KeyState,
        /// What was asked for.
        wanted: KeyState,
    },
    /// Activating is for staged keys.
    #[error("key {kid} is {state}, not staged: only a staged key can be activated (a retired one: by rollback)")]
    NotStaged {
        /// The key id.
        kid: String,
        /// Its state.
        state: KeyState,
    },
    /// Nothing to roll back from.
    #[error("{tenant}/{purpose} has no active key to roll back from")]
    NoActive {
        /// The tenant.
        tenant: String,
        /// The purpose.
        purpose: String,
    },
    /// Nothing to roll back to.
    #[error("{tenant}/{purpose} has no retired key older than the active one to roll back to")]
    NoPredecessor {
        /// The tenant.
        tenant: String,
        /// The purpose.
        purpose: String,
    },
    /// A kid with another public key, role or owner.
    #[error("key {kid} exists already with another public key or role; a key id is never used twice")]
    KidReused {
        /// The key id.
        kid: String,
    },
    /// One public key under two ids.
    #[error("the public key of {kid} is already that of {other}; every key id needs a key of its own")]
    PublicReused {
        /// The new key id.
        kid: String,
        /// The key id that has it.
        other: String,
    },
    /// L7: a version is never used again.
    #[error("key {kid} has version {version}, which must be greater than {newest}, the newest that was ever used")]
    OldVersion {
        /// The key id.
        kid: String,
        /// Its version.
        version: u32,
        /// The newest so far.
        newest: u32,
    },
    /// A record that contradicts itself.
    #[error("key {kid}: {what}")]
    Malformed {
        /// The key id, shortened if it is too long.
        kid: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A change that would leave two keys signing.
    #[error("{tenant}/{purpose} would have two active keys, {first} and {second}; another change came first")]
    TwoActive {
        /// The tenant.
        tenant: String,
        /// The purpose.
        purpose: String,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// L7: passports that it signed may still be valid.
    #[error("key {kid} still verifies passports until {until} (seconds since 1970); destroy it after that")]
    StillVerifies {
        /// The key id.
        kid: String,
        /// When the last of its passports ends.
        until: i64,
    },
    /// The bound.
    #[error("there are {MAX_KEYS} keys already, the most that the key table holds")]
    TooMany,
}

fn names(states: &[KeyState]) -> String {
    if states.is_empty() {
        return "nothing".to_owned();
    }
    states.iter().map(|state| state.name()).collect::<Vec<_>>().join(", ")
}
