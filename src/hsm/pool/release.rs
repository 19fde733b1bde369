//! What the module returned, and whether it may leave the process.
//!
//! The worker verifies what it signed before it goes back into the module: 5 us by the engine (portable: 11), of the 75 to 140
//! that a software token needs for a signature. To hand it to another thread would cost more than that (decision 0047).

use super::Shared;
use super::job::Ticket;
use crate::hsm::HsmError;
use crate::hsm::device::{Device, SIGNATURE};
use crate::hsm::ladder::Fault;
use crate::hsm::ring::Ring;
use crate::verify::{Item, PreparedKey, Way};
use crate::wire::link::LinkRefusal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use zeroize::Zeroize;

/// A signature, and for whom. It leaves the process only through [`Signed::release`].
pub(super) struct Signed {
    pub(super) ring: Arc<Ring>,
    pub(super) position: usize,
    pub(super) message: Vec<u8>,
    pub(super) signature: [u8; SIGNATURE],
    pub(super) ticket: Ticket,
}

impl Signed {
    /// Answers with the signature if it verifies strictly under the pinned key; else destroys it and says so. A faulty
    /// deterministic signature beside a good one would give the key away.
    pub(super) fn release<D: Device>(mut self, shared: &Shared<D>) {
        let verifies = self.pinned(shared).is_some_and(|key| {
            shared.verifier.verify(Item { key, message: &self.message, signature: &self.signature })
        });
        if verifies {
            shared.signatures.fetch_add(1, Ordering::Relaxed);
            if shared.bad_in_a_row.load(Ordering::Relaxed) > 0 {
                shared.bad_in_a_row.store(0, Ordering::Relaxed);
            }
            return self.ticket.signed(self.signature);
        }
        self.signature.zeroize();
        shared.count_bad();
        let kid = self.ring.get(self.position).map(|key| key.kid.as_str()).unwrap_or_default();
        let why = "the HSM made a signature that does not verify; it was destroyed";
        tracing::error!(name: "signature_destroyed", kid, "{why}");
        let due = shared.lock().ladder.gave_up(Instant::now());
        if let Some(rung) = due {
            shared.want(rung, &HsmError::Call { what: "sign", reason: why.to_owned(), fault: Fault::Device });
        }
        self.ticket.refuse(LinkRefusal::BadSignature);
    }

    /// The reference has no use for a table.
    fn pinned<D: Device>(&self, shared: &Shared<D>) -> Option<&PreparedKey> {
        match shared.verifier.way() {
            Way::Dalek => self.ring.get(self.position)?.public.as_ref(),
            Way::Portable | Way::Ifma => self.ring.with_table(self.position),
        }
    }
}
