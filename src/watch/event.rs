//! What watchers are told, and who wants to be told what.

use std::collections::BTreeSet;

use crate::state::KeyState;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Keys that are staged, activated, retired or compromised.
    Keys,
    /// Passports and subjects that are revoked.
    Revocations,
    /// Epochs that begin.
    Epochs,
    /// Policies that come into force.
    Policy,
    /// Draining, and its end.
    Drain,
}

/// What has happened. Each says how it stands since, not by how much it changed: to hear of one twice, or of two of a tenant in
/// the other order, leads to the same if the greater epoch and the later time are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A key is in this state.
    Key {
        /// Its id.
        kid: String,
        /// Its state.
        state: KeyState,
    },
    /// The passport of this id is revoked.
    RevokedId {
        /// Its `jti`.
        jti: String,
        /// Until when that can matter, in seconds since 1970.
        until: i64,
    },
    /// A subject's passports that were issued by a time are revoked.
    RevokedSubject {
        /// The subject.
        sub: String,
        /// The time, in seconds since 1970.
        before: i64,
        /// Until when that can matter, in seconds since 1970.
        until: i64,
    },
    /// This epoch has begun.
    Epoch {
        /// Passports of earlier ones are refused.
        epoch: u64,
    },
    /// This policy is in force.
    Policy {
        /// Its hash.
        hash: [u8; 32],
    },
    /// New work is refused, or taken again.
    Draining {
        /// Refused.
        on: bool,
    },
}

impl What {
    /// What it is about.
    pub const fn topic(&self) -> Topic {
        match self {
            Self::Key { .. } => Topic::Keys,
            Self::RevokedId { .. } | Self::RevokedSubject { .. } => Topic::Revocations,
            Self::Epoch { .. } => Topic::Epochs,
            Self::Policy { .. } => Topic::Policy,
            Self::Draining { .. } => Topic::Drain,
        }
    }

    /// Bytes of its text.
    pub(super) const fn text_len(&self) -> usize {
        match self {
            Self::Key { kid: text, .. }
            | Self::RevokedId { jti: text, .. }
            | Self::RevokedSubject { sub: text, .. } => text.len(),
            Self::Epoch { .. } | Self::Policy { .. } | Self::Draining { .. } => 0,
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number in the life of this process; later events have greater ones.
    pub seq: u64,
    /// Whose it is; none: everybody's.
    pub tenant: Option<String>,
    /// What has happened.
    pub what: What,
}

/// The tenants whose events a watcher may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// Every one, also those that are made later.
    All,
    /// These.
    These(BTreeSet<String>),
}

/// What a watcher wants and may see. What is everybody's is seen by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// About what.
    pub topics: BTreeSet<Topic>,
    /// Of whom.
    pub tenants: Tenants,
}

impl Wants {
    pub(super) fn tenant(&self, tenant: Option<&str>) -> bool {
        match (tenant, &self.tenants) {
            (None, _) | (_, Tenants::All) => true,
            (Some(tenant), Tenants::These(these)) => these.contains(tenant),
        }
    }

    /// Stands for it in a cursor: who has it from wanting less has not heard all that it wants now.
    pub(super) fn tag(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for topic in &self.topics {
            hasher.update(match topic {
                Topic::Keys => b"k",
                Topic::Revocations => b"r",
                Topic::Epochs => b"e",
                Topic::Policy => b"p",
                Topic::Drain => b"d",
            });
        }
        match &self.tenants {
            Tenants::All => {
                hasher.update(b"*");
            }
            Tenants::These(these) => {
                for name in these {
                    // Names have no zeros in them.
                    hasher.update(b"\0").update(name.as_bytes());
                }
            }
        }
        hasher.finalize().into()
    }
}

/// How far a watcher has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The life of the daemon, at random.
    pub life: [u8; 16],
    /// What was wanted, hashed.
    pub wants: [u8; 32],
    /// The newest event that was read or passed over.
    pub seq: u64,
}
