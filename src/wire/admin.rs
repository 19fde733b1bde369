//! Messages of the admin socket. Append only, as those of the service socket.

use bincode::{BorrowDecode, Decode, Encode};

use super::{Health, Identity, Problem};

/// One admin request; `id` and `corr_id` as in [`super::Request`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct AdminRequest<'a> {
    /// Chosen by the client.
    pub id: u64,
    /// Joins this request with the caller's own records.
    pub corr_id: [u8; 16],
    /// What is asked.
    pub op: AdminOp<'a>,
}

/// What an admin may ask.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum AdminOp<'a> {
    /// Whom the daemon takes this peer for.
    WhoAmI,
    /// Everything an operator wants to see, as one JSON document.
    Status,
    /// The conditions, each with its detail.
    Health,
    /// A statement of version, build, configuration, policy and keys, as one JSON document.
    Attest,
    /// Takes a key that a ceremony made into the key set: published, not signing yet.
    Stage {
        /// The new key's id.
        kid: &'a str,
    },
    /// Makes a staged key the signing one of its tenant and purpose; the one before it retires.
    Activate {
        /// The staged key's id.
        kid: &'a str,
    },
    /// Stops issuing until `ResumeIssue`; verification goes on.
    PauseIssue {
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Ends `PauseIssue`.
    ResumeIssue,
    /// Reads configuration and policy again; a broken file changes nothing.
    Reload,
    /// Unready: no new connections, and nothing new is issued; the connections that are there go on verifying.
    Drain,
    /// Ends `Drain`.
    Undrain,
    /// `Reload` that tells all that changed.
    ReloadReport,
    /// From now on nobody accepts these passports: all of the list, or none where something is wrong.
    Revoke {
        /// The tenant whose passports they are.
        tenant: &'a str,
        /// Which; at most 256.
        what: Vec<Revocation<'a>>,
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Ends the tenant's epoch: every passport that was issued for it until now is revoked.
    BumpEpoch {
        /// The tenant.
        tenant: &'a str,
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Declares a key compromised: it signs no more, and nothing that it signed is accepted.
    Compromise {
        /// The key's id.
        kid: &'a str,
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Lets tickets live longer, or shorter, for a while.
    TicketTtl {
        /// The longest lifetime of a ticket meanwhile, in seconds; 300 at most.
        seconds: u32,
        /// For how long, in seconds; 14,400 at most. 0 ends what is in force.
        for_s: u32,
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Signs a checkpoint of what the ledger holds now; the newest one, if nothing was recorded since.
    Checkpoint,
    /// Makes the retired predecessor of the signing key the signing one again, once; refused after `Confirm`.
    Rollback {
        /// The tenant.
        tenant: &'a str,
        /// The purpose.
        purpose: &'a str,
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Says of the signing key that there is no way back from it.
    Confirm {
        /// The signing key's id.
        kid: &'a str,
    },
    /// Says that a ceremony has destroyed a key that verifies nothing any more; refused while the signer sees it.
    Destroyed {
        /// The key's id.
        kid: &'a str,
    },
    /// `Activate` without waiting until verifiers have fetched the key set with the new key.
    ActivateNow {
        /// The staged key's id.
        kid: &'a str,
        /// Why, for the audit record; at most 256 bytes.
        reason: &'a str,
    },
    /// Writes a record that says nothing but that records are written.
    TestAppend {
        /// What for; at most 256 bytes.
        reason: &'a str,
    },
}

/// Which passports are revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub enum Revocation<'a> {
    /// The one of this id.
    Id {
        /// Its `jti`.
        jti: &'a str,
        /// Its `exp`, if it is known: the revocation is kept no longer than it takes.
        exp: Option<i64>,
    },
    /// All of this subject.
    Subject {
        /// The subject.
        sub: &'a str,
        /// Those that were issued at this time or before (seconds since 1970); none: the present. Not in the future.
        before: Option<i64>,
    },
}

/// One admin reply.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct AdminReply {
    /// The id of the request.
    pub id: u64,
    /// The answer, or why there is none.
    pub result: Result<AdminOk, Problem>,
}

/// Answers to admins.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum AdminOk {
    /// To `WhoAmI`.
    WhoAmI(Identity),
    /// To `Status`: JSON.
    Status(String),
    /// To `Health`.
    Health(Health),
    /// To `Attest`: JSON.
    Attest(String),
    /// To `Stage`.
    Staged {
        /// The key's id.
        kid: String,
        /// Its public key, as the signer reported and proved it.
        public: [u8; 32],
    },
    /// To `Activate`, `ActivateNow` and `Rollback`.
    Activated {
        /// The key that signs now.
        kid: String,
        /// The one that it followed.
        retired: Option<String>,
    },
    /// To `Reload`: what is in force now.
    Reloaded {
        /// BLAKE3 of the policy before.
        old_policy: [u8; 32],
        /// BLAKE3 of the policy now.
        new_policy: [u8; 32],
        /// Configuration keys that changed and are in force.
        changed: Vec<String>,
        /// Configuration keys that changed and need a restart.
        needs_restart: Vec<String>,
    },
    /// To the rest: it is done and on record.
    Done,
    /// To `ReloadReport`: what is in force now, and what changed.
    ReloadReport {
        /// BLAKE3 of the configuration before.
        old_config: [u8; 32],
        /// BLAKE3 of the configuration that is in force now, without what needs a restart.
        new_config: [u8; 32],
        /// Configuration keys that changed and are in force.
        changed: Vec<String>,
        /// Configuration keys that changed and need a restart.
        needs_restart: Vec<String>,
        /// BLAKE3 of the policy before.
        old_policy: [u8; 32],
        /// BLAKE3 of the policy now.
        new_policy: [u8; 32],
        /// What the policy changed: `rule NAME added`, `template NAME removed`, `rule NAME changed`; at most 64.
        policy_changed: Vec<String>,
        /// Further changes of the policy that are not listed.
        policy_more: u32,
    },
    /// To `Revoke`: durable, and in effect on every connection.
    Revoked {
        /// Those of the list that were not revoked before.
        new: u32,
    },
    /// To `BumpEpoch`: likewise.
    EpochBumped {
        /// The tenant's epoch from now on.
        epoch: u64,
    },
    /// To `Checkpoint`: a signed note (c2sp.org/tlog-checkpoint), durable.
    Checkpoint(String),
    /// To `TestAppend`: the record is durable.
    Recorded {
        /// Its sequence number.
        seq: u64,
    },
}
