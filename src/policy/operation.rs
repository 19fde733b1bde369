//! The operations that a policy can grant.

use std::fmt;

use serde::{Serialize, Serializer};

/// An operation of the service or the admin socket, as policies name it. A batch counts as its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Is anybody there?
    Ping,
    /// Which version is it?
    Version,
    /// Who am I to you, and what may I do?
    WhoAmI,
    /// Issue a passport.
    Issue,
    /// Verify passports, which consumes those that can be.
    Verify,
    /// Look at a passport without consuming it.
    Introspect,
    /// Fetch the public keys.
    Keys,
    /// Ask for the readiness conditions.
    Health,
    /// Encrypt a small secret.
    Seal,
    /// Decrypt one.
    Unseal,
    /// Take back a passport that one may have issued.
    Revoke,
    /// Hear of what changes, and see what is revoked.
    Watch,
    /// Have a ticket for a passport.
    Exchange,
    /// Ask for the state of the daemon.
    Status,
    /// Have the audit key attest the state of the daemon.
    Attest,
    /// Begin a key rotation.
    Stage,
    /// Let a staged key sign.
    Activate,
    /// Stop issuing.
    PauseIssue,
    /// Go on issuing.
    ResumeIssue,
    /// Read policy and configuration again.
    Reload,
    /// Stop taking new work, or take it again.
    Drain,
    /// Revoke any passport, and all of any subject.
    RevokeAny,
    /// Revoke all passports of a tenant.
    BumpEpoch,
    /// Have a key neither sign nor verify.
    Compromise,
    /// Let tickets live longer for a while.
    TicketTtl,
    /// Sign a checkpoint of the ledger.
    Checkpoint,
    /// Have the key before sign again.
    Rollback,
    /// Say that there is no way back to it.
    Confirm,
    /// Say that a key was destroyed.
    Destroy,
    /// Write a record that says nothing but that records are written.
    TestAppend,
}

impl Operation {
    /// Every operation: those of the service socket first, then those of the admin socket.
    pub const ALL: [Self; 30] = [
        Self::Ping,
        Self::Version,
        Self::WhoAmI,
        Self::Issue,
        Self::Verify,
        Self::Introspect,
        Self::Keys,
        Self::Health,
        Self::Seal,
        Self::Unseal,
        Self::Revoke,
        Self::Watch,
        Self::Exchange,
        Self::Status,
        Self::Attest,
        Self::Stage,
        Self::Activate,
        Self::PauseIssue,
        Self::ResumeIssue,
        Self::Reload,
        Self::Drain,
        Self::RevokeAny,
        Self::BumpEpoch,
        Self::Compromise,
        Self::TicketTtl,
        Self::Checkpoint,
        Self::Rollback,
        Self::Confirm,
        Self::Destroy,
        Self::TestAppend,
    ];

    /// The name in policies, audit records and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Version => "version",
            Self::WhoAmI => "whoami",
            Self::Issue => "issue",
            Self::Verify => "verify",
            Self::Introspect => "introspect",
            Self::Keys => "keys",
            Self::Health => "health",
            Self::Seal => "seal",
            Self::Unseal => "unseal",
            Self::Revoke => "revoke",
            Self::Watch => "watch",
            Self::Exchange => "exchange",
            Self::Status => "status",
            Self::Attest => "attest",
            Self::Stage => "stage",
            Self::Activate => "activate",
            Self::PauseIssue => "pause_issue",
            Self::ResumeIssue => "resume_issue",
            Self::Reload => "reload",
            Self::Drain => "drain",
            Self::RevokeAny => "revoke_any",
            Self::BumpEpoch => "bump_epoch",
            Self::Compromise => "compromise",
            Self::TicketTtl => "ticket_ttl",
            Self::Checkpoint => "checkpoint",
            Self::Rollback => "rollback",
            Self::Confirm => "confirm",
            Self::Destroy => "destroy",
            Self::TestAppend => "test_append",
        }
    }

    /// The operation of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.name() == name)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
