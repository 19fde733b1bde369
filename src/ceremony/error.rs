//! Why a ceremony is not held, and whose fault that is.

use std::path::PathBuf;

use crate::hsm::HsmError;
use crate::passport::KidError;
use crate::secret::SecretError;
use crate::statement::approval::Refusal;
use crate::statement::plan::PlanError;
use crate::wire::ceremony::MessageError;

/// Why a ceremony was not held, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CeremonyError {
    /// The peer may not (peer).
    #[error(
        "uid {0} may not hold ceremonies; root may, and without [server] hsm_user the user that the signer runs as"
    )]
    Peer(u32),
    /// The request is not one (peer).
    #[error("{0}")]
    Request(String),
    /// A name that can't be in a kid (peer).
    #[error("{0}; \"audit\" and \"seal\" are reserved")]
    Name(#[from] KidError),
    /// The PIN is missing or unfit (peer).
    #[error(transparent)]
    Pin(#[from] SecretError),
    /// Another ceremony is under way (peer).
    #[error("another ceremony is under way; try again when it has ended")]
    Busy,
    /// The store could not be copied, so nothing was made (operator).
    #[error("could not copy {} before the ceremony: {reason}; nothing was changed", path.display())]
    Backup {
        /// What could not be copied.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key was made and is not as it should be; it is not pinned (HSM).
    #[error("the new key {kid} is not used: {problem}; it stays in the HSM unpinned, have it destroyed")]
    Unfit {
        /// Its label.
        kid: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The key is not one that can be taken over (HSM admin).
    #[error("the key with CKA_ID {cka_id} is not adopted: {problem}; nothing was changed")]
    NotAdopted {
        /// What was asked for.
        cka_id: String,
        /// Why not.
        problem: String,
    },
    /// The plan is not approved, or not any more (approvers, planner).
    #[error("{0}; nothing was done")]
    NotApproved(#[from] Refusal),
    /// There are approvers, and they were not asked (peer).
    #[error(
        "plans have to be approved by {rule}: write one with `passportctl ceremony plan {plan} …`, have it approved, and \
         carry it out with `passportctl ceremony run`"
    )]
    NeedsApproval {
        /// Who approves.
        rule: String,
        /// Which plan does the same.
        plan: &'static str,
    },
    /// It was carried out before (peer).
    #[error("this plan was carried out before and is spent; make a new one")]
    Spent,
    /// More plans are under way than are kept (HSM admin).
    #[error("{0} plans are under way; finish one of them, or wait until one expires")]
    TooMany(usize),
    /// A step can't be done (HSM admin).
    #[error("step {step}: {why}")]
    Step {
        /// Which, from 1.
        step: usize,
        /// Why not.
        why: String,
    },
    /// The HSM, its module or our files (HSM, operator).
    #[error(transparent)]
    Hsm(#[from] HsmError),
    /// The connection failed (peer, host).
    #[error("the connection failed: {0}")]
    Link(#[from] std::io::Error),
}

impl From<MessageError> for CeremonyError {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Link(error) => Self::Link(error),
            MessageError::TooLong { .. } | MessageError::NotUnderstood { .. } => Self::Request(error.to_string()),
        }
    }
}

impl From<PlanError> for CeremonyError {
    fn from(error: PlanError) -> Self {
        Self::Request(error.to_string())
    }
}
