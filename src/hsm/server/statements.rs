//! What audit keys sign here: checkpoints, whose text the signer writes, and attestations. Transcripts are the ceremony's.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::desk::Desk;
use super::outbox::Outbox;
use crate::clock::Moment;
use crate::hsm::HsmError;
use crate::hsm::device::Device;
use crate::hsm::guard::Bounds;
use crate::hsm::marks::{Mark, Marks};
use crate::hsm::pin_note::make_own_dir;
use crate::hsm::ring::Ring;
use crate::hsm::tally::Tally;
use crate::passport::{KidRef, hex};
use crate::statement::document::{MAX_DOCUMENT, message};
use crate::statement::{ATTESTATION_PREFIX, Checkpoint, Counted, origin};
use crate::wire::link::{KeyRole, LinkCount, LinkOp, LinkRefusal, LinkReply, LinkResult, MAX_COUNTED};

/// How far the time of an attestation may be from the signer's clock, in seconds.
const MAX_DRIFT_S: i64 = 300;

/// What the signer keeps of what it has signed.
#[derive(Debug)]
pub struct Memory {
    /// How often, with each passport key.
    pub tally: Arc<Tally>,
    /// The last checkpoint.
    pub marks: Marks,
}

impl Memory {
    /// What is kept in the signer's own directory.
    ///
    /// # Errors
    /// [`HsmError::OwnDir`] or [`HsmError::File`].
    pub fn open(state_dir: &Path) -> Result<Self, HsmError> {
        let dir = make_own_dir(state_dir)?;
        Ok(Self { tally: Arc::new(Tally::open(&dir)?), marks: Marks::open(&dir)? })
    }

    /// What lives as long as the process.
    pub fn volatile() -> Self {
        Self { tally: Arc::new(Tally::volatile()), marks: Marks::volatile() }
    }
}

/// What an attestation must say for itself.
#[derive(Deserialize)]
struct Attestation<'a> {
    issuer: std::borrow::Cow<'a, str>,
    at: i64,
}

impl<D: Device> Desk<D> {
    pub(super) fn counts(&self) -> Result<LinkResult, LinkRefusal> {
        let (snapshot, signed) = self.memory.tally.freeze().map_err(|error| uncounted(&error))?;
        Ok(LinkResult::Counts { snapshot, signed })
    }

    /// A checkpoint: durable as the newest, then signed.
    pub(super) fn checkpoint(
        &self,
        id: u64,
        op: &LinkOp<'_>,
        now: Moment,
        outbox: &Outbox,
    ) -> Result<Option<LinkResult>, LinkRefusal> {
        let LinkOp::Checkpoint { kid, snapshot, size, root, head, ref recorded } = *op else {
            return Err(LinkRefusal::Internal);
        };
        let ring = self.pool.ring();
        let position = audit_key(&ring, kid, &self.bounds)?;
        let signed = self.memory.tally.frozen(snapshot).ok_or(LinkRefusal::Busy)?;
        let counts = counted(&signed, recorded)?;
        let origin = origin(&self.bounds.issuer);
        let mark = Mark { size, root: hex::encode(&root), head: hex::encode(&head) };
        match self.memory.marks.advance(&origin, mark) {
            Ok(true) => {}
            Ok(false) => return Err(LinkRefusal::Stale),
            Err(error) => return Err(uncounted(&error)),
        }
        let text = Checkpoint { origin, size, root, head, time: now.unix(), counts }.text();
        let (outbox, refused) = (outbox.clone(), Arc::clone(&self.refused));
        let (message, tally) = (text.clone().into_bytes(), Arc::clone(&self.memory.tally));
        let answer = move |outcome: Result<_, LinkRefusal>| {
            let result = match outcome {
                Ok(sig) => {
                    tally.told(&signed);
                    LinkResult::Checkpointed { text, sig }
                }
                Err(refusal) => {
                    refused.count(refusal);
                    LinkResult::Refused(refusal)
                }
            };
            outbox.reply(&LinkReply { id, result });
        };
        self.pool.sign(ring, position, message, Box::new(answer));
        Ok(None)
    }

    /// An attestation is of our issuer and of now; what else it says is the front's word.
    pub(super) fn attest(
        &self,
        id: u64,
        (kid, document): (&str, &[u8]),
        now: Moment,
        outbox: &Outbox,
    ) -> Result<Option<LinkResult>, LinkRefusal> {
        let ring = self.pool.ring();
        let position = audit_key(&ring, kid, &self.bounds)?;
        if document.len() > MAX_DOCUMENT || document.first() != Some(&b'{') {
            return Err(LinkRefusal::Malformed);
        }
        let said: Attestation<'_> = serde_json::from_slice(document).map_err(|_| LinkRefusal::Malformed)?;
        if said.issuer != self.bounds.issuer {
            return Err(LinkRefusal::ForeignIssuer);
        }
        if said.at.saturating_sub(now.unix()).saturating_abs() > MAX_DRIFT_S {
            return Err(LinkRefusal::ClockDenied);
        }
        let (outbox, refused) = (outbox.clone(), Arc::clone(&self.refused));
        let answer = move |outcome: Result<_, LinkRefusal>| {
            let outcome = outcome.inspect_err(|refusal| refused.count(*refusal));
            let result = outcome.map_or_else(LinkResult::Refused, |sig| LinkResult::Attested { sig });
            outbox.reply(&LinkReply { id, result });
        };
        self.pool.sign(ring, position, message(ATTESTATION_PREFIX, document), Box::new(answer));
        Ok(None)
    }
}

/// An audit key of a tenant that the signer serves.
fn audit_key(ring: &Ring, kid: &str, bounds: &Bounds) -> Result<usize, LinkRefusal> {
    let tenant = KidRef::parse(kid).map_err(|_| LinkRefusal::Malformed)?.tenant();
    if !bounds.tenants.contains_key(tenant) {
        return Err(LinkRefusal::TenantDenied);
    }
    let position = ring.position(kid).ok_or(LinkRefusal::UnknownKid)?;
    match ring.get(position).filter(|key| key.usable()) {
        Some(key) if key.role == KeyRole::Audit => Ok(position),
        Some(_) => Err(LinkRefusal::PurposeDenied),
        None => Err(LinkRefusal::UnknownKid),
    }
}

/// A line for each key that either side counts. What the front does not name has no record.
fn counted(signed: &BTreeMap<String, u64>, recorded: &[LinkCount]) -> Result<Vec<Counted>, LinkRefusal> {
    if recorded.len() > MAX_COUNTED || recorded.iter().any(|one| KidRef::parse(&one.kid).is_err()) {
        return Err(LinkRefusal::Malformed);
    }
    let recorded: BTreeMap<&str, u64> = recorded.iter().map(|one| (one.kid.as_str(), one.count)).collect();
    let lines = signed.iter().map(|(kid, signed)| Counted {
        kid: kid.clone(),
        signed: *signed,
        recorded: recorded.get(kid.as_str()).copied().unwrap_or(0),
    });
    Ok(lines.collect())
}

fn uncounted(error: &impl std::fmt::Display) -> LinkRefusal {
    tracing::error!(name: "count_not_kept", %error, "what the signer has signed can't be kept; see its own directory");
    LinkRefusal::Uncounted
}
