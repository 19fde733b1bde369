//! Checkpoints and attestations: what the front has the signer say with an audit key.

use std::collections::BTreeMap;

use super::{Ask, Signer, SignerError};
use crate::statement::Hash;
use crate::wire::link::{LinkCount, LinkResult};

/// What a checkpoint is to say of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerAt {
    /// How many records.
    pub size: u64,
    /// The root of the Merkle tree over them.
    pub root: Hash,
    /// The hash of the newest.
    pub head: Hash,
    /// Of how many signatures of each key they have a record.
    pub recorded: BTreeMap<String, u64>,
}

/// The signer's counts, and the number by which a checkpoint means them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The number of this answer.
    pub snapshot: u64,
    /// Signatures of each key that has signed since the last checkpoint.
    pub signed: BTreeMap<String, u64>,
}

#[derive(Debug)]
pub(super) struct CheckpointAsk {
    pub(super) kid: String,
    pub(super) snapshot: u64,
    pub(super) size: u64,
    pub(super) root: Hash,
    pub(super) head: Hash,
    pub(super) recorded: Vec<LinkCount>,
}

impl Signer {
    /// How often was signed with each passport key, by the signer's own count.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn counts(&self) -> Result<Counts, SignerError> {
        match self.ask(Ask::Counts).await? {
            LinkResult::Counts { snapshot, signed } => {
                let signed = signed.into_iter().map(|one| (one.kid, one.count)).collect();
                Ok(Counts { snapshot, signed })
            }
            _ => Err(SignerError::WrongAnswer),
        }
    }

    /// The text of a checkpoint and the signature by `kid`, both to be checked by the caller.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn checkpoint(
        &self,
        kid: &str,
        counts: &Counts,
        at: &LedgerAt,
    ) -> Result<(String, [u8; 64]), SignerError> {
        // Of the others the signer has nothing to say.
        let named = at.recorded.iter().filter(|(kid, _)| counts.signed.contains_key(*kid));
        let ask = CheckpointAsk {
            kid: kid.to_owned(),
            snapshot: counts.snapshot,
            size: at.size,
            root: at.root,
            head: at.head,
            recorded: named.map(|(kid, count)| LinkCount { kid: kid.clone(), count: *count }).collect(),
        };
        match self.ask(Ask::Checkpoint(ask)).await? {
            LinkResult::Checkpointed { text, sig } => Ok((text, sig)),
            _ => Err(SignerError::WrongAnswer),
        }
    }

    /// The signature by `kid` over an attestation, to be checked by the caller.
    ///
    /// # Errors
    /// Any [`SignerError`].
    pub async fn attest(&self, kid: &str, document: Vec<u8>) -> Result<[u8; 64], SignerError> {
        match self.ask(Ask::Attest { kid: kid.to_owned(), document }).await? {
            LinkResult::Attested { sig } => Ok(sig),
            _ => Err(SignerError::WrongAnswer),
        }
    }
}
