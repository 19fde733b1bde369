//! Codes and problems. A verdict carries a code as its reason; a [`Problem`] says that there is no verdict.

use std::fmt;

use bincode::{Decode, Encode};

use crate::passport::Refusal;

/// A stable code; its name is what metrics, audit records and JSON show. Append only: the position is the wire tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[expect(missing_docs, reason = "each code is explained once, by `Code::meaning`")]
pub enum Code {
    Malformed,
    TooLarge,
    UnsupportedVersion,
    NoPeerPolicy,
    OpDenied,
    ScopeDenied,
    BadAlg,
    BadKid,
    UnknownKid,
    BadAud,
    Expired,
    Nbf,
    VerifyFailed,
    Revoked,
    Replayed,
    LimitExceeded,
    PopRequired,
    PopInvalid,
    NeedsDaemon,
    Busy,
    RateLimited,
    NotReady,
    Paused,
    Draining,
    HsmUnavailable,
    HsmTimeout,
    AuditUnavailable,
    StoreUnavailable,
    ClockSuspect,
    ApprovalRequired,
    Internal,
}

/// How a code may appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// As the reason of a refused verdict.
    Verdict,
    /// As a problem: there is no verdict.
    Problem,
    /// As either.
    Both,
}

impl Code {
    /// Every code, in the order of the wire tags.
    pub const ALL: [Self; 31] = [
        Self::Malformed,
        Self::TooLarge,
        Self::UnsupportedVersion,
        Self::NoPeerPolicy,
        Self::OpDenied,
        Self::ScopeDenied,
        Self::BadAlg,
        Self::BadKid,
        Self::UnknownKid,
        Self::BadAud,
        Self::Expired,
        Self::Nbf,
        Self::VerifyFailed,
        Self::Revoked,
        Self::Replayed,
        Self::LimitExceeded,
        Self::PopRequired,
        Self::PopInvalid,
        Self::NeedsDaemon,
        Self::Busy,
        Self::RateLimited,
        Self::NotReady,
        Self::Paused,
        Self::Draining,
        Self::HsmUnavailable,
        Self::HsmTimeout,
        Self::AuditUnavailable,
        Self::StoreUnavailable,
        Self::ClockSuspect,
        Self::ApprovalRequired,
        Self::Internal,
    ];

    /// The stable name, use, and meaning of the code, with what a client does about it.
    pub const fn entry(self) -> (&'static str, Use, &'static str) {
        use Use::{Both, Problem, Verdict};
        match self {
            Self::Malformed => {
                ("malformed", Both, "the request or the passport is not well-formed; do not send it again")
            }
            Self::TooLarge => {
                ("too_large", Both, "a limit is exceeded; a problem's message names it; split or shorten")
            }
            Self::UnsupportedVersion => ("unsupported_version", Problem, "this wire version is not spoken here"),
            Self::NoPeerPolicy => ("no_peer_policy", Problem, "no rule names this peer; ask the operator for one"),
            Self::OpDenied => ("op_denied", Problem, "no rule allows this peer this operation or template"),
            Self::ScopeDenied => {
                ("scope_denied", Both, "a scope, subject or time is outside what is allowed, or is missing")
            }
            Self::BadAlg => ("bad_alg", Verdict, "the algorithm is not EdDSA or Ed25519"),
            Self::BadKid => ("bad_kid", Verdict, "the key id is not of our form, or differs from the one signed"),
            Self::UnknownKid => ("unknown_kid", Both, "no key of this id verifies here"),
            Self::BadAud => ("bad_aud", Both, "the audience is missing, or is not one that this peer may use"),
            Self::Expired => ("expired", Verdict, "the passport has expired"),
            Self::Nbf => ("nbf", Verdict, "the passport is not valid yet"),
            Self::VerifyFailed => ("verify_failed", Verdict, "the signature is not one of this key over these bytes"),
            Self::Revoked => ("revoked", Verdict, "the passport, its subject or its key is revoked"),
            Self::Replayed => ("replayed", Verdict, "its nonce has been used"),
            Self::LimitExceeded => ("limit_exceeded", Verdict, "its uses are used up"),
            Self::PopRequired => {
                ("pop_required", Verdict, "it needs a proof of possession, or the uid of who presents it")
            }
            Self::PopInvalid => {
                ("pop_invalid", Verdict, "the proof of possession does not hold, or another user presents it")
            }
            Self::NeedsDaemon => ("needs_daemon", Verdict, "only the daemon can accept it"),
            Self::Busy => ("busy", Problem, "too much is under way; try again"),
            Self::RateLimited => ("rate_limited", Problem, "the rate of this peer is used up; try again"),
            Self::NotReady => ("not_ready", Problem, "the daemon has no key for this yet; try again"),
            Self::Paused => ("paused", Problem, "an operator has paused issuing"),
            Self::Draining => ("draining", Problem, "the daemon is about to stop; connect again"),
            Self::HsmUnavailable => ("hsm_unavailable", Problem, "the HSM does not answer; try again"),
            Self::HsmTimeout => ("hsm_timeout", Problem, "the HSM did not answer in time; try again"),
            Self::AuditUnavailable => {
                ("audit_unavailable", Problem, "the audit record can't be written, so nothing is done")
            }
            Self::StoreUnavailable => ("store_unavailable", Problem, "the state can't be written, so nothing is done"),
            Self::ClockSuspect => {
                ("clock_suspect", Problem, "the clock can't be right; nothing is issued until it is set right")
            }
            Self::ApprovalRequired => ("approval_required", Problem, "the operation needs an approved plan"),
            Self::Internal => ("internal", Problem, "a defect of the daemon; its log has the details"),
        }
    }

    /// The stable name.
    pub const fn name(self) -> &'static str {
        self.entry().0
    }

    /// Whether it may be a reason, a problem, or both.
    pub const fn used_as(self) -> Use {
        self.entry().1
    }

    /// What it means, in one line.
    pub const fn meaning(self) -> &'static str {
        self.entry().2
    }

    /// Whether the same request may succeed when it is sent again.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::RateLimited
                | Self::NotReady
                | Self::Draining
                | Self::HsmUnavailable
                | Self::HsmTimeout
                | Self::AuditUnavailable
                | Self::StoreUnavailable
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Refusal> for Code {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed => Self::Malformed,
            Refusal::BadAlg => Self::BadAlg,
            Refusal::BadKid => Self::BadKid,
            Refusal::UnknownKid => Self::UnknownKid,
            Refusal::BadAud => Self::BadAud,
            Refusal::Expired => Self::Expired,
            Refusal::Nbf => Self::Nbf,
            Refusal::VerifyFailed => Self::VerifyFailed,
            Refusal::Revoked => Self::Revoked,
            Refusal::Replayed => Self::Replayed,
            Refusal::LimitExceeded => Self::LimitExceeded,
            Refusal::ScopeDenied => Self::ScopeDenied,
            Refusal::PopRequired => Self::PopRequired,
            Refusal::PopInvalid => Self::PopInvalid,
            Refusal::NeedsDaemon => Self::NeedsDaemon,
        }
    }
}

/// Why there is no verdict. The text is for people, never holds internals, and may change; the code does not.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Problem {
    /// What programs decide by.
    pub code: Code,
    /// One line for people.
    pub message: String,
    /// Whether the same request may succeed when it is sent again.
    pub retryable: bool,
    /// When to try again, where the daemon can tell.
    pub retry_after_ms: Option<u32>,
}

impl Problem {
    /// A problem with the code's own meaning as text.
    pub fn new(code: Code) -> Self {
        Self::saying(code, code.meaning())
    }

    /// A problem with a text of its own.
    pub fn saying(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: code.retryable(), retry_after_ms: None }
    }

    /// `too_large`, naming the limit that was hit and its value.
    pub fn too_large(limit: &'static str, value: usize) -> Self {
        Self::saying(Code::TooLarge, format!("{limit} is {value}"))
    }

    /// The same problem with a hint of when to try again.
    #[must_use]
    pub fn after_ms(mut self, millis: u32) -> Self {
        self.retry_after_ms = Some(millis);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_tags_and_names_are_distinct() {
        let mut names = std::collections::BTreeSet::new();
        for (tag, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, tag);
            assert!(names.insert(code.name()));
            assert!(!code.meaning().is_empty());
        }
    }

    #[test]
    fn only_problems_are_retryable() {
        for code in Code::ALL.into_iter().filter(|code| code.retryable()) {
            assert_eq!(code.used_as(), Use::Problem, "{code}");
        }
    }
}
