//! What verifiers of their own live on: the keys, what is in force, and what changes. Append only, as `service`.

use bincode::{Decode, Encode};

/// A JSON Web Key Set (RFC 7517, RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeySet {
    /// BLAKE3 of the bytes of `jwks`.
    pub etag: [u8; 32],
    /// For how long it may be used before asking again.
    pub max_age_s: u32,
    /// The set as JSON.
    pub jwks: Vec<u8>,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Topic {
    /// Keys that are staged, activated, retired, destroyed or compromised.
    Keys,
    /// Passports, subjects and keys that are revoked.
    Revocations,
    /// Epochs that begin.
    Epochs,
    /// Policies that come into force.
    Policy,
    /// Draining, and its end.
    Drain,
}

impl Topic {
    /// All, in the order of the wire.
    pub const ALL: [Self; 5] = [Self::Keys, Self::Revocations, Self::Epochs, Self::Policy, Self::Drain];

    /// Its name in commands.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Revocations => "revocations",
            Self::Epochs => "epochs",
            Self::Policy => "policy",
            Self::Drain => "drain",
        }
    }

    /// That of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.name() == name)
    }
}

/// How far a watcher has read. Only the daemon makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Cursor {
    /// The life of the daemon, at random.
    pub life: [u8; 16],
    /// What was wanted and allowed, hashed.
    pub wants: [u8; 32],
    /// The newest event that was read or passed over.
    pub seq: u64,
}

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Watched {
    /// These have happened, in this order; none: nothing has, in the time that it would wait.
    Events {
        /// The events.
        events: Vec<Event>,
        /// From where to read on.
        cursor: Cursor,
    },
    /// It was too slow: some are no longer there.
    Lagged {
        /// How many, at most.
        missed: u64,
        /// From where to read on, after a look at all that is in force.
        cursor: Cursor,
    },
    /// It has no cursor, or one of another life of the daemon, of other topics or of other rights.
    Begin {
        /// From where to read on, after a look at all that is in force.
        cursor: Cursor,
    },
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Event {
    /// Its number in the life of this daemon; later events have greater ones.
    pub seq: u64,
    /// When it was in effect, in milliseconds since 1970 by the daemon's clock.
    pub at_ms: i64,
    /// Whose it is; none: everybody's.
    pub tenant: Option<String>,
    /// What has happened.
    pub what: What,
}

/// What has happened. Each says how it stands since, not by how much it changed: to hear of one twice leads to the same if the
/// greater epoch and the later times are kept.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum What {
    /// A key is in this state: `Keys` has the set.
    Key {
        /// Its id.
        kid: String,
        /// `staged`, `active`, `retired`, `compromised` or `destroyed`.
        state: String,
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
        /// The time, in seconds since 1970: of this second still.
        before: i64,
        /// Until when that can matter, in seconds since 1970.
        until: i64,
    },
    /// Nothing that this key signed is accepted any more.
    RevokedKey {
        /// Its id.
        kid: String,
    },
    /// This epoch has begun: of the event's tenant, or, if it has none, of every tenant that is in an earlier one.
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
            Self::RevokedId { .. } | Self::RevokedSubject { .. } | Self::RevokedKey { .. } => Topic::Revocations,
            Self::Epoch { .. } => Topic::Epochs,
            Self::Policy { .. } => Topic::Policy,
            Self::Draining { .. } => Topic::Drain,
        }
    }
}

/// Part of what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct RevocationPage {
    /// The tenants that the peer may watch: of others it is told nothing, and can't judge for itself. None: every one.
    pub tenants: Option<Vec<String>>,
    /// Revocations.
    pub revoked: Vec<Standing>,
    /// On the first page: the epochs of the tenants that have one.
    pub epochs: Vec<TenantEpoch>,
    /// The epoch in which every tenant is at least.
    pub floor: u64,
    /// On the first page: the ids of the keys that are compromised.
    pub compromised: Vec<String>,
    /// For the next page; none: this was the last.
    pub next: Option<Vec<u8>>,
}

/// A revocation that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Standing {
    /// Whose.
    pub tenant: String,
    /// `RevokedId` or `RevokedSubject`.
    pub what: What,
}

/// In which epoch a tenant is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TenantEpoch {
    /// The tenant.
    pub tenant: String,
    /// Its epoch.
    pub epoch: u64,
}
