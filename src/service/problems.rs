//! The one place that turns errors into what a client may know. Internals stay here; the log and the ledger have them.

use tracing::error;

use super::rate::OverRate;
use crate::issue::{IssueError, Noticed};
use crate::lifecycle::{KeyChangeError, NoCheckpoint, ReloadError, RevokeError};
use crate::passport::ClaimsError;
use crate::policy::{Denial, DenyCode};
use crate::signer::SignerError;
use crate::state::{KeyError, StateError};
use crate::wire::link::LinkRefusal;
use crate::wire::{Code, MAX_FRAME, Problem, WireError};

/// When to come back after the HSM failed, in milliseconds.
const HSM_RETRY_MS: u32 = 500;

/// A request that can't be read.
pub(super) fn of_wire(error: WireError) -> Problem {
    match error {
        WireError::Version(_) => Problem::new(Code::UnsupportedVersion),
        WireError::Reply { .. } | WireError::Oversize { .. } => Problem::too_large("max_frame", MAX_FRAME),
        WireError::Empty | WireError::Malformed | WireError::NotCanonical => Problem::new(Code::Malformed),
    }
}

/// A refusal by policy: the code and its static text, never the rule.
pub(super) fn of_denial(denial: &Denial) -> Problem {
    Problem::saying(code_of_denial(denial.code), denial.code.client_text())
}

pub(super) const fn code_of_denial(code: DenyCode) -> Code {
    match code {
        DenyCode::NoPeerPolicy => Code::NoPeerPolicy,
        DenyCode::OpDenied => Code::OpDenied,
        DenyCode::ScopeDenied | DenyCode::Lacking => Code::ScopeDenied,
        DenyCode::BadAud => Code::BadAud,
        DenyCode::Malformed => Code::Malformed,
    }
}

/// More than the peer's rate allows.
pub(super) fn of_rate(over: OverRate) -> Problem {
    match over {
        OverRate::Wait { millis } => Problem::new(Code::RateLimited).after_ms(millis),
        OverRate::Never { most } => Problem::too_large("the rate of this peer, in items a second,", most),
    }
}

/// Why there is no passport.
pub(super) fn of_issue(error: &IssueError) -> Problem {
    match error {
        IssueError::Denied(denial) => of_denial(denial),
        IssueError::Claims(ClaimsError::TooLarge { max, .. }) => Problem::too_large("limits.max_msg_bytes", *max),
        IssueError::Claims(error) => Problem::saying(Code::Malformed, error.to_string()),
        IssueError::Context => Problem::saying(Code::Malformed, "ctx must be one JSON object"),
        IssueError::Paused => Problem::new(Code::Paused),
        // Whoever asked for a ticket is told so in a verdict.
        IssueError::Revoked => Problem::new(Code::Revoked),
        IssueError::NoKey { .. } => Problem::new(Code::NotReady),
        IssueError::Signer(error) => of_signer(*error),
        IssueError::BadSignature { noticed, .. } => {
            // What the signer destroyed is in its own log.
            if *noticed == Noticed::ByFront {
                error!(name: "signature_refused", %error, "a signature was refused");
            }
            Problem::new(Code::HsmUnavailable).after_ms(HSM_RETRY_MS)
        }
        IssueError::Audit(_) | IssueError::Batch => audit_unavailable(),
    }
}

/// Whether the HSM is to be looked at after this: not after load, a bound or a missing seal key, which would let one uid have
/// every key sign a probe ten times a second.
pub(super) const fn is_doubt(error: SignerError) -> bool {
    use LinkRefusal::{BadSignature, Internal};
    use SignerError::{Refused, Timeout, Unavailable, WrongAnswer};
    matches!(error, Unavailable | Timeout | WrongAnswer | Refused(BadSignature | Internal))
}

/// Whether the signer's own bounds refused what policy grants: a decision, and so one for the ledger.
pub(super) const fn by_bounds(error: SignerError) -> bool {
    use LinkRefusal::{BadSignature, RateLimited, TooLong, Uncounted, UnknownKid};
    matches!(error, SignerError::Refused(refusal)
        if !matches!(refusal, RateLimited | BadSignature | UnknownKid | TooLong | Uncounted))
}

/// Why the signer gave no signature.
pub(super) fn of_signer(error: SignerError) -> Problem {
    match error {
        SignerError::Unavailable => Problem::new(Code::HsmUnavailable).after_ms(HSM_RETRY_MS),
        SignerError::Open { retry_after_ms } => Problem::new(Code::HsmUnavailable).after_ms(retry_after_ms),
        SignerError::Timeout => Problem::new(Code::HsmTimeout),
        SignerError::Busy | SignerError::Refused(LinkRefusal::RateLimited) => {
            Problem::new(Code::Busy).after_ms(HSM_RETRY_MS / 10)
        }
        // The key is gone from the HSM, or not usable any more: readyz says which, and nobody's rights are at fault.
        SignerError::Refused(LinkRefusal::BadSignature | LinkRefusal::UnknownKid | LinkRefusal::Uncounted) => {
            Problem::new(Code::HsmUnavailable).after_ms(HSM_RETRY_MS)
        }
        SignerError::Refused(LinkRefusal::TooLong) => {
            Problem::saying(Code::TooLarge, "the HSM signs no passport as long as this one; ask for less")
        }
        SignerError::Refused(refusal) => {
            let why = "the signer's bounds and this daemon's policy or configuration disagree";
            error!(name: "signer_disagrees", ?refusal, "{why}");
            Problem::saying(Code::OpDenied, "the signer's bounds do not allow this; tell the operator")
        }
        SignerError::WrongAnswer => Problem::new(Code::Internal),
    }
}

/// Why a secret was not sealed or opened. One text for every reason for which a sealed secret does not open: which it was
/// would help nobody but an attacker.
pub(super) fn of_sealing(error: SignerError) -> Problem {
    match error {
        SignerError::Refused(LinkRefusal::Unopenable) => {
            Problem::saying(Code::Malformed, "the blob does not open here under this namespace and name")
        }
        // The tenant has no seal key, or it can't be used.
        SignerError::Refused(LinkRefusal::UnknownKid) => Problem::new(Code::NotReady),
        error => of_signer(error),
    }
}

/// The ledger does not take the record.
pub(super) fn audit_unavailable() -> Problem {
    Problem::new(Code::AuditUnavailable).after_ms(HSM_RETRY_MS)
}

/// Why a key did not change. Admins are told all of it.
pub(super) fn of_key_change(error: &KeyChangeError) -> Problem {
    let code = match error {
        KeyChangeError::NotThere { .. } => Code::UnknownKid,
        KeyChangeError::Name { .. } => Code::Malformed,
        KeyChangeError::Key(KeyError::TooSoon { wait_s, .. }) => {
            let millis = u32::try_from(wait_s.saturating_mul(1000)).unwrap_or(u32::MAX);
            return Problem::saying(Code::NotReady, error.to_string()).after_ms(millis);
        }
        KeyChangeError::Key(_) | KeyChangeError::StillThere { .. } | KeyChangeError::Fleeting => Code::OpDenied,
        KeyChangeError::Signer(error) => return of_signer(*error),
        KeyChangeError::Unusable { .. } | KeyChangeError::Probe { .. } | KeyChangeError::Keyring(_) => {
            Code::HsmUnavailable
        }
        KeyChangeError::Audit(_) => Code::AuditUnavailable,
        KeyChangeError::State(_) => Code::StoreUnavailable,
    };
    Problem::saying(code, error.to_string())
}

/// Why there is no checkpoint. Admins are told all of it.
pub(super) fn of_checkpoint(error: &NoCheckpoint) -> Problem {
    let code = match error {
        NoCheckpoint::Signer(error) => return of_signer(*error),
        NoCheckpoint::Fleeting => Code::OpDenied,
        NoCheckpoint::NoKey(_) | NoCheckpoint::NoTree(_) | NoCheckpoint::OtherLedger => Code::NotReady,
        NoCheckpoint::Unfit(_) | NoCheckpoint::Text(_) => Code::HsmUnavailable,
        NoCheckpoint::Audit(_) | NoCheckpoint::File { .. } => Code::AuditUnavailable,
    };
    Problem::saying(code, error.to_string())
}

/// Why nothing was revoked.
pub(super) fn of_revoke(error: &RevokeError) -> Problem {
    match error {
        RevokeError::Audit(_) => audit_unavailable(),
        RevokeError::State(error) => of_state(error),
    }
}

/// Why nothing was kept.
pub(super) fn of_state(error: &StateError) -> Problem {
    match error {
        StateError::Full(_) => Problem::saying(Code::StoreUnavailable, error.to_string()),
        StateError::TooLong => Problem::saying(Code::Malformed, error.to_string()),
        _ => Problem::new(Code::StoreUnavailable),
    }
}

/// Why nothing was reloaded. Admins are told all of it.
pub(super) fn of_reload(error: &ReloadError) -> Problem {
    let code = match error {
        ReloadError::Config(_) | ReloadError::Policy(_) | ReloadError::Moved { .. } => Code::Malformed,
        ReloadError::Audit(_) => Code::AuditUnavailable,
        ReloadError::Interrupted => Code::Internal,
        ReloadError::Ending => Code::Draining,
        ReloadError::Slow | ReloadError::Turn => Code::NotReady,
    };
    Problem::saying(code, format!("not reloaded, what was in force stays so: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_by_the_signers_bounds_is_op_denied_and_nothing_else_is() {
        // The link turns these into errors of their own.
        let own = |refusal: &LinkRefusal| {
            matches!(refusal, LinkRefusal::Busy | LinkRefusal::Timeout | LinkRefusal::HsmUnavailable)
        };
        let refused = LinkRefusal::ALL.into_iter().filter(|refusal| !own(refusal)).map(SignerError::Refused);
        let open = SignerError::Open { retry_after_ms: 250 };
        let others =
            [open, SignerError::Unavailable, SignerError::Timeout, SignerError::Busy, SignerError::WrongAnswer];
        for error in refused.chain(others) {
            assert_eq!(by_bounds(error), of_signer(error).code == Code::OpDenied, "{error:?}");
        }
    }
}
