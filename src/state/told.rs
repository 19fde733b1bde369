//! Who is told what, once it is known how a commit ended.

use super::StateError;
use super::spend::Spending;
use super::store::Committed;
use super::writer::{Ack, Job};

/// Who is told when the commit is done, and what.
pub(super) enum Told {
    Committed(Ack<Committed>, Committed),
    Spent(Ack<Spending>, Spending),
}

impl Told {
    pub(super) fn done(self) {
        match self {
            Self::Committed(ack, committed) => answer(ack, Ok(committed)),
            Self::Spent(ack, spending) => answer(ack, Ok(spending)),
        }
    }

    pub(super) fn failed(self, error: &StateError) {
        match self {
            Self::Committed(ack, _) => answer(ack, Err(error.again())),
            Self::Spent(ack, _) => answer(ack, Err(error.again())),
        }
    }
}

pub(super) fn refuse(job: Job, error: &StateError) {
    match job {
        Job::Commit { ack, .. } => answer(ack, Err(error.again())),
        Job::Spend { ack, .. } => answer(ack, Err(error.again())),
        Job::Evict { .. } | Job::Mark | Job::Close => {}
    }
}

/// A caller that went away needs no answer.
pub(super) fn answer<T>(ack: Ack<T>, result: Result<T, StateError>) {
    drop(ack.send(result));
}
