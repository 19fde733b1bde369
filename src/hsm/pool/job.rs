//! A request on its way through the pool, and the right to answer it.

use super::{Answer, DeriveAnswer, Ring};
use crate::hsm::device::{DERIVED, SIGNATURE};
use crate::wire::link::LinkRefusal;
use std::sync::Arc;
use std::time::Instant;
use zeroize::Zeroizing;

/// Who waits, and for what.
pub(super) enum Waiting {
    Signature(Answer),
    Derived(DeriveAnswer),
}

/// The right to answer a request, once. Dropped without an answer, it answers that we have a defect.
pub(super) struct Ticket(Option<Waiting>);

impl Ticket {
    pub(super) const fn new(waiting: Waiting) -> Self {
        Self(Some(waiting))
    }

    pub(super) fn signed(mut self, signature: [u8; SIGNATURE]) {
        if let Some(Waiting::Signature(answer)) = self.0.take_if(|waiting| matches!(waiting, Waiting::Signature(_))) {
            answer(Ok(signature));
        }
    }

    pub(super) fn derived(mut self, key: Zeroizing<[u8; DERIVED]>) {
        if let Some(Waiting::Derived(answer)) = self.0.take_if(|waiting| matches!(waiting, Waiting::Derived(_))) {
            answer(Ok(key));
        }
    }

    pub(super) fn refuse(mut self, refusal: LinkRefusal) {
        self.say(refusal);
    }

    fn say(&mut self, refusal: LinkRefusal) {
        match self.0.take() {
            Some(Waiting::Signature(answer)) => answer(Err(refusal)),
            Some(Waiting::Derived(answer)) => answer(Err(refusal)),
            None => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.say(LinkRefusal::Internal);
    }
}

/// What is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An Ed25519 signature over the message.
    Sign,
    /// HMAC-SHA256 of the message.
    Derive,
}

/// With which key, from what.
pub(super) struct Task {
    pub(super) kind: Kind,
    /// The keys that the request was judged by.
    pub(super) ring: Arc<Ring>,
    /// The key in them.
    pub(super) position: usize,
    pub(super) message: Vec<u8>,
    /// Attempts that failed.
    pub(super) attempts: u32,
}

pub(super) struct Job {
    pub(super) task: Task,
    pub(super) deadline: Instant,
    pub(super) ticket: Ticket,
}

impl Job {
    pub(super) fn new(ring: Arc<Ring>, position: usize, message: Vec<u8>, deadline: Instant, waiting: Waiting) -> Self {
        let kind = match waiting {
            Waiting::Signature(_) => Kind::Sign,
            Waiting::Derived(_) => Kind::Derive,
        };
        Self { task: Task { kind, ring, position, message, attempts: 0 }, deadline, ticket: Ticket::new(waiting) }
    }
}
