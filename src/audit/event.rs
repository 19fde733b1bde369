//! What can be recorded: names, journald message ids and priorities.

/// An event. Append-only: names and ids are what auditors search for, so none is ever changed or given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The front is ready to answer.
    DaemonStarted,
    /// The front has begun to stop; no new work is taken.
    DaemonStopping,
    /// Each key that signs passports gave a probe signature that verifies, for the first time since the start.
    SelfTestPassed,
    /// A probe signature does not verify, or the signer destroyed one that did not.
    SelfTestFailed,
    /// A passport was signed.
    PassportIssued,
    /// A passport was asked for and not given.
    IssueRefused,
    /// Another operation was asked for and not allowed; or it was allowed, and could not be done for the reason given.
    RequestRefused,
    /// A connection was refused: no policy names the peer, or it has its share already.
    PeerRefused,
    /// A key was staged: published, not yet signing.
    KeyStaged,
    /// A key became the one that signs for its tenant and purpose.
    KeyActivated,
    /// A key stopped signing; it still verifies.
    KeyRetired,
    /// An admin was given a statement of what runs, under which configuration and policy, with which keys.
    Attested,
    /// A new policy is in force.
    PolicyReloaded,
    /// A new policy has a mistake; the old one stays in force.
    PolicyRefused,
    /// New limits are in force.
    ConfigReloaded,
    /// A new configuration has a mistake; the old one stays in force. With [`super::Outcome::Failed`] it was not read to its
    /// end, for the reason given.
    ConfigRefused,
    /// An operator stopped issuing.
    IssuePaused,
    /// An operator let issuing go on.
    IssueResumed,
    /// An operator had the daemon take no new work.
    Drained,
    /// An operator had the daemon take work again.
    Undrained,
    /// The connection to the signer is gone.
    SignerLost,
    /// The signer answers again.
    SignerRecovered,
    /// The HSM returned a signature of a passport that does not verify; it was not released.
    SignatureRejected,
    /// The ledger's writing was interrupted; the record says where and why.
    LedgerBreak,
    /// A fast way to verify gave another verdict than the reference, and is not used any more.
    VerifyPathDistrusted,
    /// A secret was sealed.
    Sealed,
    /// A sealed secret was opened.
    Unsealed,
    /// A secret was to be sealed, and was not.
    SealRefused,
    /// A sealed secret was to be opened, and was not.
    UnsealRefused,
    /// A passport was revoked: from then on nobody accepts it.
    PassportRevoked,
    /// The passports of a subject that were issued until then were revoked.
    SubjectRevoked,
    /// All passports of a tenant that were issued until then were revoked.
    EpochBumped,
    /// A key was declared compromised: it neither signs nor verifies any more.
    KeyCompromised,
    /// A backup of the state took the state's place while no daemon ran: every tenant's epoch has ended.
    StateRestored,
    /// The clock was declared right while no daemon ran, whatever was known of the time: every tenant's epoch has ended.
    ClockReset,
    /// A passport was accepted that can be used up, or only with a proof; what it takes was taken.
    PassportAccepted,
    /// A ticket was signed for a passport.
    TicketIssued,
    /// An admin let tickets live longer, or shorter, for a while; `exp` is when that ends.
    TicketTtlAllowed,
    /// That has ended.
    TicketTtlEnded,
    /// The signer has signed more passports with a key than there are records: so many left none. Either a front died, or could
    /// not write, between the signature and its record, and gave nobody the passport; or somebody had passports signed unseen.
    SignaturesUnaccounted,
    /// A passport that was to be accepted is revoked or used up, or it, or the proof that came with it, is no authentic one.
    VerifyRefused,
    /// So many more refusals were not put on record one by one; `detail` says how many of which kind.
    RefusalsSuppressed,
    /// A retired key signs again in place of its successor; the next record names that one.
    KeyRolledBack,
    /// An admin has said of the key that signs that there is no way back from it.
    KeyConfirmed,
    /// A retired key verifies no more: all that it can have signed is over.
    KeyExpired,
    /// A key's private half is gone from the HSM, as far as the signer can see.
    KeyDestroyed,
    /// The oldest records are removed: they are older than `retention_days`, and a checkpoint covers them.
    LedgerPruned,
    /// An admin has had a record written to see that records are written, and arrive.
    AuditTest,
}

/// Severities of syslog (RFC 5424 §6.2.1), as journald's `PRIORITY` takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Priority {
    /// Action must be taken at once.
    Alert = 1,
    /// Critical.
    Critical = 2,
    /// An error.
    Error = 3,
    /// A warning.
    Warning = 4,
    /// Normal but significant.
    Notice = 5,
    /// Informational.
    Info = 6,
}

impl Priority {
    /// The digit.
    pub const fn digit(self) -> &'static str {
        match self {
            Self::Alert => "1",
            Self::Critical => "2",
            Self::Error => "3",
            Self::Warning => "4",
            Self::Notice => "5",
            Self::Info => "6",
        }
    }
}

impl Event {
    /// All of them, in the order of their declaration.
    pub const ALL: &'static [Self] = &[
        Self::DaemonStarted,
        Self::DaemonStopping,
        Self::SelfTestPassed,
        Self::SelfTestFailed,
        Self::PassportIssued,
        Self::IssueRefused,
        Self::RequestRefused,
        Self::PeerRefused,
        Self::KeyStaged,
        Self::KeyActivated,
        Self::KeyRetired,
        Self::Attested,
        Self::PolicyReloaded,
        Self::PolicyRefused,
        Self::ConfigReloaded,
        Self::ConfigRefused,
        Self::IssuePaused,
        Self::IssueResumed,
        Self::Drained,
        Self::Undrained,
        Self::SignerLost,
        Self::SignerRecovered,
        Self::SignatureRejected,
        Self::LedgerBreak,
        Self::VerifyPathDistrusted,
        Self::Sealed,
        Self::Unsealed,
        Self::SealRefused,
        Self::UnsealRefused,
        Self::PassportRevoked,
        Self::SubjectRevoked,
        Self::EpochBumped,
        Self::KeyCompromised,
        Self::StateRestored,
        Self::ClockReset,
        Self::PassportAccepted,
        Self::TicketIssued,
        Self::TicketTtlAllowed,
        Self::TicketTtlEnded,
        Self::SignaturesUnaccounted,
        Self::VerifyRefused,
        Self::RefusalsSuppressed,
        Self::KeyRolledBack,
        Self::KeyConfirmed,
        Self::KeyExpired,
        Self::KeyDestroyed,
        Self::LedgerPruned,
        Self::AuditTest,
    ];

    /// The name in records: lower case, words joined by underscores.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DaemonStarted => "daemon_started",
            Self::DaemonStopping => "daemon_stopping",
            Self::SelfTestPassed => "self_test_passed",
            Self::SelfTestFailed => "self_test_failed",
            Self::PassportIssued => "passport_issued",
            Self::IssueRefused => "issue_refused",
            Self::RequestRefused => "request_refused",
            Self::PeerRefused => "peer_refused",
            Self::KeyStaged => "key_staged",
            Self::KeyActivated => "key_activated",
            Self::KeyRetired => "key_retired",
            Self::Attested => "attested",
            Self::PolicyReloaded => "policy_reloaded",
            Self::PolicyRefused => "policy_refused",
            Self::ConfigReloaded => "config_reloaded",
            Self::ConfigRefused => "config_refused",
            Self::IssuePaused => "issue_paused",
            Self::IssueResumed => "issue_resumed",
            Self::Drained => "drained",
            Self::Undrained => "undrained",
            Self::SignerLost => "signer_lost",
            Self::SignerRecovered => "signer_recovered",
            Self::SignatureRejected => "signature_rejected",
            Self::LedgerBreak => "ledger_break",
            Self::VerifyPathDistrusted => "verify_path_distrusted",
            Self::Sealed => "sealed",
            Self::Unsealed => "unsealed",
            Self::SealRefused => "seal_refused",
            Self::UnsealRefused => "unseal_refused",
            Self::PassportRevoked => "passport_revoked",
            Self::SubjectRevoked => "subject_revoked",
            Self::EpochBumped => "epoch_bumped",
            Self::KeyCompromised => "key_compromised",
            Self::StateRestored => "state_restored",
            Self::ClockReset => "clock_reset",
            Self::PassportAccepted => "passport_accepted",
            Self::TicketIssued => "ticket_issued",
            Self::TicketTtlAllowed => "ticket_ttl_allowed",
            Self::TicketTtlEnded => "ticket_ttl_ended",
            Self::SignaturesUnaccounted => "signatures_unaccounted",
            Self::VerifyRefused => "verify_refused",
            Self::RefusalsSuppressed => "refusals_suppressed",
            Self::KeyRolledBack => "key_rolled_back",
            Self::KeyConfirmed => "key_confirmed",
            Self::KeyExpired => "key_expired",
            Self::KeyDestroyed => "key_destroyed",
            Self::LedgerPruned => "ledger_pruned",
            Self::AuditTest => "audit_test",
        }
    }

    /// journald's `MESSAGE_ID` (systemd.journal-fields(7)): 128 random bits as 32 lower-case hex digits.
    pub const fn message_id(self) -> &'static str {
        match self {
            Self::DaemonStarted => "e9fb26a570d040ac441203eb12812c0c",
            Self::DaemonStopping => "59b7f937fe1f604f9f625ee9953ac681",
            Self::SelfTestPassed => "401de0721338771296e6ff4607eaf209",
            Self::SelfTestFailed => "f161a122e0ef8d33396c2dc3b5b6d63e",
            Self::PassportIssued => "48bf4642faeac59a6f8447ad643e49cc",
            Self::IssueRefused => "8a043fb20a18c611725dc157f1f81f5b",
            Self::RequestRefused => "7449518706b3c3f28b35f5331b164897",
            Self::PeerRefused => "5891518c36d2e35766518ea2f376957e",
            Self::KeyStaged => "06dafc67e81f003e67ddcf65b1187c13",
            Self::KeyActivated => "c3c12e7a8de7231091f0c965a34e2498",
            Self::KeyRetired => "662035187e4f1dd3b24a7502c588b112",
            Self::Attested => "fd5c391835c1403369ee06686a58cce1",
            Self::PolicyReloaded => "07835e405440773c189e61d4deaa1c69",
            Self::PolicyRefused => "1edbbed5a5db8954a342e80af0fb1ec2",
            Self::ConfigReloaded => "0743088fff61f5b26abc9c23c2821a75",
            Self::ConfigRefused => "eacbc6ce0cdcc65564efa50f8e085ac8",
            Self::IssuePaused => "f2672636e9484918883d886afe375aba",
            Self::IssueResumed => "b1dcd983a94650d42a56fa2f40f3c32c",
            Self::Drained => "6e87da0813942ebe77e668b5ad4b6412",
            Self::Undrained => "de515af0b9e3de884271b9732751f04f",
            Self::SignerLost => "7b909779823cd8000a60c89f1607777a",
            Self::SignerRecovered => "c51f3243c630c0570032967bd56fe486",
            Self::SignatureRejected => "f1c84c21ac4743e11d72fd7c4ee06844",
            Self::LedgerBreak => "e6ff267e4e2d969e8578d4f90f3e3e3f",
            Self::VerifyPathDistrusted => "bdef19d5fe8920e01ee975188a501b92",
            Self::Sealed => "8f94a760377372f48d7f473d56b2ff5c",
            Self::Unsealed => "d1fd66215c19182198a6c6947fe95ca4",
            Self::SealRefused => "290ff0d86df7d892719a118bb2b7f862",
            Self::UnsealRefused => "ba9c79e7fac6e79ee52cfd55f69cd50b",
            Self::PassportRevoked => "62fdc25c4ffe81c72020b11120ac72b2",
            Self::SubjectRevoked => "8e272b38b5c8b79a72db42a7d12f1b0c",
            Self::EpochBumped => "7279862174d357173bcf6c075f89d15f",
            Self::KeyCompromised => "4b07dddb5a71dcdbdc088b465ad7f202",
            Self::StateRestored => "0c6f2a8be41d4f79b3a5d80e67c1f294",
            Self::ClockReset => "e95b17d03c8a4b62a0f4c62d9b83715e",
            Self::PassportAccepted => "c79c32a658cef7dd827b65cffe882c9b",
            Self::TicketIssued => "0565a722e3796ab504574dcc6e455f24",
            Self::TicketTtlAllowed => "f3e99f05de41d38c5d4947b8c08dfa44",
            Self::TicketTtlEnded => "e13ac670a65a9a815086d685f14008c3",
            Self::SignaturesUnaccounted => "dd245d6683c588f019a1e45a98d57143",
            Self::VerifyRefused => "5792245dfd8ee7fa95d689045f612c2a",
            Self::RefusalsSuppressed => "f94375cc814b0df3e88014447845b0e4",
            Self::KeyRolledBack => "d893f35f4020b41f1c77d5f18be30bcf",
            Self::KeyConfirmed => "d89aee32a45775dee24ffdfce71645a0",
            Self::KeyExpired => "f54bf874401343f38b1030efc8c5cdb8",
            Self::KeyDestroyed => "f192291d4033b4841734fbfb5c453876",
            Self::LedgerPruned => "1e492a8cd2084b46ab46490dfa907eea",
            Self::AuditTest => "8a1f0e6d5c7b4b0fa2c94e1d7f3b6a58",
        }
    }

    /// How urgent it is.
    pub const fn priority(self) -> Priority {
        match self {
            Self::SignatureRejected => Priority::Alert,
            Self::SelfTestFailed | Self::VerifyPathDistrusted | Self::KeyCompromised | Self::SignaturesUnaccounted => {
                Priority::Critical
            }
            Self::PolicyRefused | Self::ConfigRefused | Self::SignerLost | Self::LedgerBreak => Priority::Error,
            Self::IssueRefused
            | Self::RequestRefused
            | Self::PeerRefused
            | Self::SealRefused
            | Self::UnsealRefused
            | Self::IssuePaused
            | Self::Drained
            | Self::EpochBumped
            | Self::StateRestored
            | Self::ClockReset
            | Self::SubjectRevoked
            | Self::VerifyRefused
            | Self::RefusalsSuppressed
            | Self::TicketTtlAllowed
            | Self::KeyRolledBack => Priority::Warning,
            Self::DaemonStarted
            | Self::DaemonStopping
            | Self::KeyStaged
            | Self::KeyActivated
            | Self::KeyRetired
            | Self::Attested
            | Self::PassportRevoked
            | Self::PolicyReloaded
            | Self::ConfigReloaded
            | Self::IssueResumed
            | Self::Undrained
            | Self::TicketTtlEnded
            | Self::KeyConfirmed
            | Self::KeyExpired
            | Self::KeyDestroyed
            | Self::LedgerPruned
            | Self::AuditTest
            | Self::SignerRecovered => Priority::Notice,
            Self::SelfTestPassed
            | Self::PassportIssued
            | Self::PassportAccepted
            | Self::TicketIssued
            | Self::Sealed
            | Self::Unsealed => Priority::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_and_ids_are_unique_and_well_formed() {
        let names: HashSet<_> = Event::ALL.iter().map(|event| event.name()).collect();
        let ids: HashSet<_> = Event::ALL.iter().map(|event| event.message_id()).collect();
        assert_eq!((names.len(), ids.len()), (Event::ALL.len(), Event::ALL.len()));
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))));
    }

    #[test]
    fn the_list_is_complete_and_in_order() {
        for (at, event) in Event::ALL.iter().enumerate() {
            assert_eq!(*event as usize, at);
        }
        assert_eq!(Event::ALL.last(), Some(&Event::AuditTest), "append the new event to ALL, then move this pin");
    }

    /// Two ids are pinned here in the way that auditors have them in their filters.
    #[test]
    fn ids_do_not_change() {
        assert_eq!(Event::PassportIssued.message_id(), "48bf4642faeac59a6f8447ad643e49cc");
        assert_eq!(Event::LedgerBreak.message_id(), "e6ff267e4e2d969e8578d4f90f3e3e3f");
    }
}
