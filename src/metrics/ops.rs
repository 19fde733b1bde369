//! Which label an operation has.

use super::labels::Op;
use crate::wire::{AdminOp, ServiceOp};

impl Op {
    /// The label of a service request. The match is exhaustive: a new operation can't go uncounted.
    pub const fn service(op: &ServiceOp<'_>) -> Self {
        match op {
            ServiceOp::Ping => Self::Ping,
            ServiceOp::Version => Self::Version,
            ServiceOp::WhoAmI => Self::WhoAmI,
            ServiceOp::Health => Self::Health,
            ServiceOp::Issue(_) => Self::Issue,
            ServiceOp::IssueBatch(_) => Self::IssueBatch,
            ServiceOp::Verify { .. } => Self::Verify,
            ServiceOp::VerifyBatch { .. } => Self::VerifyBatch,
            ServiceOp::Introspect { .. } => Self::Introspect,
            ServiceOp::Keys { .. } => Self::Keys,
            ServiceOp::Seal { .. } => Self::Seal,
            ServiceOp::Unseal { .. } => Self::Unseal,
            ServiceOp::Revoke { .. } => Self::Revoke,
            ServiceOp::VerifyWith { .. } => Self::VerifyWith,
            ServiceOp::Challenge => Self::Challenge,
            ServiceOp::Watch { .. } => Self::Watch,
            ServiceOp::Revocations { .. } => Self::Revocations,
            ServiceOp::Exchange { .. } => Self::Exchange,
        }
    }

    /// The label of an admin request.
    pub const fn admin(op: &AdminOp<'_>) -> Self {
        match op {
            AdminOp::WhoAmI => Self::WhoAmI,
            AdminOp::Status => Self::Status,
            AdminOp::Health => Self::Health,
            AdminOp::Attest => Self::Attest,
            AdminOp::Stage { .. } => Self::Stage,
            AdminOp::Activate { .. } => Self::Activate,
            AdminOp::PauseIssue { .. } => Self::PauseIssue,
            AdminOp::ResumeIssue => Self::ResumeIssue,
            AdminOp::Reload | AdminOp::ReloadReport => Self::Reload,
            AdminOp::Revoke { .. } => Self::Revoke,
            AdminOp::BumpEpoch { .. } => Self::BumpEpoch,
            AdminOp::Compromise { .. } => Self::Compromise,
            AdminOp::Drain => Self::Drain,
            AdminOp::Undrain => Self::Undrain,
            AdminOp::TicketTtl { .. } => Self::TicketTtl,
            AdminOp::Checkpoint => Self::Checkpoint,
            AdminOp::Rollback { .. } => Self::Rollback,
            AdminOp::Confirm { .. } => Self::Confirm,
            AdminOp::Destroyed { .. } => Self::Destroyed,
            AdminOp::ActivateNow { .. } => Self::ActivateNow,
            AdminOp::TestAppend { .. } => Self::TestAppend,
        }
    }
}
