//! What a key is, and where in its life it may be.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Keys that ever existed, over all tenants: one rotation a day for ten years, and room.
pub use crate::passport::MAX_KEYS;

/// For how long a retired key goes on verifying past the longest lifetime that was configured while it signed, in seconds:
/// twice the largest `passport.clock_skew_s` that can be configured. Half of it is for verifiers' clocks, the rest for what was
/// being signed when the key retired.
pub const PAST_LAST_S: i64 = 2 * 600;

/// The longest kid in bytes.
pub const MAX_KID: usize = 256;

/// How a retired key is called that verifies no more. The state in the file is still [`KeyState::Retired`].
pub const EXPIRED: &str = "expired";

/// What [`KeyRecord::standing`] says, in the order of a life.
pub const STANDINGS: [&str; 6] = {
    let [staged, active, retired, compromised, destroyed] = KeyState::ALL;
    [staged.name(), active.name(), retired.name(), EXPIRED, compromised.name(), destroyed.name()]
};

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
    /// Since when there is no way back to the key before it. Kept for good.
    #[serde(default)]
    pub confirmed_at: Option<i64>,
    /// Of a retired passport key: when the last passport that it can have signed is over; the store fills it in.
    #[serde(default)]
    pub verifies_until: Option<i64>,
    /// The audit record of its latest change; the store fills it in.
    pub audit_seq: u64,
}

impl KeyRecord {
    pub(super) fn moved(&self, state: KeyState, now: i64) -> Self {
        let mut record = Self { state, ..self.clone() };
        match state {
            KeyState::Staged => record.staged_at = now,
            KeyState::Active => {
                (record.activated_at, record.retired_at, record.verifies_until) = (Some(now), None, None);
            }
            KeyState::Retired => (record.retired_at, record.verifies_until) = (Some(now), None),
            KeyState::Compromised => record.compromised_at = Some(now),
            KeyState::Destroyed => record.destroyed_at = Some(now),
        }
        record
    }

    /// With the time at which a key that retires has verified for the last time, if passports may live for `longest_s`. It is
    /// settled once, so that no later configuration has a key verify again.
    pub(super) fn with_end(mut self, longest_s: u64) -> Self {
        if let (Role::Passport, KeyState::Retired, Some(at), None) =
            (self.role, self.state, self.retired_at, self.verifies_until)
        {
            let longest = i64::try_from(longest_s).unwrap_or(i64::MAX);
            self.verifies_until = Some(at.saturating_add(longest).saturating_add(PAST_LAST_S));
        }
        self
    }

    /// Whether passports that it signed are accepted at a time; see [`KeyState::verifies`]. A retired key no longer, once all
    /// that it can have signed is over.
    pub fn verifies(&self, at: i64) -> bool {
        self.state.verifies() && !self.is_expired(at)
    }

    /// Whether it is retired, and nothing that it signed can be valid at a time.
    pub fn is_expired(&self, at: i64) -> bool {
        self.state == KeyState::Retired && self.verifies_until.is_some_and(|until| at >= until)
    }

    /// The name of its state, where one that is retired and verifies no more is [`EXPIRED`].
    pub fn standing(&self, at: i64) -> &'static str {
        if self.is_expired(at) { EXPIRED } else { self.state.name() }
    }

    /// Whether a record may follow this one.
    pub(super) fn may_become(&self, next: &Self) -> bool {
        let confirmed = Self { confirmed_at: next.confirmed_at, audit_seq: next.audit_seq, ..self.clone() };
        let confirms = self.state == KeyState::Active && self.confirmed_at.is_none() && *next == confirmed;
        confirms || self.state.next().contains(&next.state)
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
    #[error("{tenant}/{purpose} has no retired key older than the active one, and still published, to roll back to")]
    NoPredecessor {
        /// The tenant.
        tenant: String,
        /// The purpose.
        purpose: String,
    },
    /// Somebody has said that there is no way back.
    #[error("key {kid} was confirmed at {at} (seconds since 1970), so there is no way back; make a new key instead")]
    Confirmed {
        /// The active key's id.
        kid: String,
        /// When.
        at: i64,
    },
    /// Confirming is for the key that signs.
    #[error("key {kid} is {state}, not active: only the key that signs can be confirmed")]
    NotActive {
        /// The key id.
        kid: String,
        /// Its state.
        state: KeyState,
    },
    /// It is the signer that takes the newest seal key.
    #[error("{tenant}: seal keys have no way back, the signer seals with the newest; make a new one instead")]
    Seals {
        /// The tenant.
        tenant: String,
    },
    /// Verifiers may still hold the set of before it was published.
    #[error(
        "key {kid} was staged a moment ago: verifiers may hold a key set without it for {wait_s} s more, until {at} (seconds \
         since 1970); activate it then, or at once with --now if that is worse"
    )]
    TooSoon {
        /// The key id.
        kid: String,
        /// From when it can be activated.
        at: i64,
        /// How long that is from now.
        wait_s: i64,
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
