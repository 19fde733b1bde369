//! Verifying a signature while the worker makes the next one.
//!
//! `verify_strict` takes about a quarter of what SoftHSM needs for a signature. While requests wait, a worker hands what it
//! signed to this thread and goes back into the module; while none do, it verifies itself, without a hop.

use super::Shared;
use super::job::Ticket;
use crate::hsm::HsmError;
use crate::hsm::device::{Device, SIGNATURE};
use crate::hsm::ladder::Fault;
use crate::hsm::ring::Ring;
use crate::wire::link::LinkRefusal;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use zeroize::Zeroize;

/// Signatures that may wait here; a worker that finds no room verifies itself.
pub(super) const WAITING: usize = 64;
/// Verification needs little.
const STACK: usize = 256 * 1024;

/// What the module returned, and for whom. It leaves the process only through [`Signed::release`].
pub(super) struct Signed {
    pub(super) ring: Arc<Ring>,
    pub(super) position: usize,
    pub(super) message: Vec<u8>,
    pub(super) signature: [u8; SIGNATURE],
    pub(super) ticket: Ticket,
}

impl Signed {
    /// Answers with the signature if it passes `verify_strict` under the pinned key; else destroys it and says so. A faulty
    /// deterministic signature beside a good one would give the key away.
    pub(super) fn release<D: Device>(mut self, shared: &Shared<D>) {
        let key = self.ring.get(self.position);
        let verifies =
            key.and_then(|key| key.public.as_ref()).is_some_and(|public| public.verify(&self.message, &self.signature));
        if verifies {
            shared.signatures.fetch_add(1, Ordering::Relaxed);
            if shared.bad_in_a_row.load(Ordering::Relaxed) > 0 {
                shared.bad_in_a_row.store(0, Ordering::Relaxed);
            }
            return self.ticket.signed(self.signature);
        }
        self.signature.zeroize();
        shared.count_bad();
        let kid = key.map(|key| key.kid.as_str()).unwrap_or_default();
        let why = "the HSM made a signature that does not verify; it was destroyed";
        tracing::error!(name: "signature_destroyed", kid, "{why}");
        let due = shared.lock().ladder.gave_up(Instant::now());
        if let Some(rung) = due {
            shared.want(rung, &HsmError::Call { what: "sign", reason: why.to_owned(), fault: Fault::Device });
        }
        self.ticket.refuse(LinkRefusal::BadSignature);
    }
}

pub(super) fn queue() -> (SyncSender<Signed>, Receiver<Signed>) {
    sync_channel(WAITING)
}

/// Starts the thread. It ends when the pool is closed.
pub(super) fn spawn<D: Device>(shared: &Arc<Shared<D>>) -> Result<(), HsmError> {
    let (sender, signed) = queue();
    let own = Arc::clone(shared);
    let check = move || signed.into_iter().for_each(|one| one.release(&own));
    let started = std::thread::Builder::new().name("hsm-check".to_owned()).stack_size(STACK).spawn(check);
    started.map_err(|error| HsmError::Host("start the checking thread", error))?;
    *shared.checker.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    Ok(())
}

/// Hands over what was signed, or does the work itself where nobody takes it.
pub(super) fn hand_over<D: Device>(shared: &Shared<D>, signed: Signed) {
    let checker: Option<SyncSender<Signed>> = shared.checker.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(checker) = checker else { return signed.release(shared) };
    match checker.try_send(signed) {
        Ok(()) => {}
        Err(TrySendError::Full(signed) | TrySendError::Disconnected(signed)) => signed.release(shared),
    }
}
