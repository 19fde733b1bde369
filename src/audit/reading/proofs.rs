//! Proofs for somebody who does not have the ledger: that a record is in it, and that one checkpoint continues another.

use serde::{Deserialize, Serialize};

use super::chain::{Start, walk};
use super::checks::Bad;
use super::line::Record;
use super::source::Lines;
use crate::log::Base;
use crate::passport::hex;
use crate::statement::merkle::{self, Hash, Prover};
use crate::statement::{Checkpoint, Note, VerifierKey};

/// The most hashes of a proof: a tree has at most 64 levels, and a proof of consistency one more.
const MAX_HASHES: usize = 65;

/// A proof, as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// That a record is in the ledger (RFC 9162 section 2.1.3).
    Inclusion {
        /// The record, as it stands in the ledger.
        record: String,
        /// Its place, from 0.
        index: u64,
        /// How many records the checkpoint covers.
        size: u64,
        /// The path, in hex.
        hashes: Vec<String>,
        /// The checkpoint's note.
        checkpoint: String,
    },
    /// That a checkpoint continues an older one (RFC 9162 section 2.1.4).
    Consistency {
        /// How many records the older one covers.
        from: u64,
        /// How many the newer one covers.
        to: u64,
        /// The path, in hex.
        hashes: Vec<String>,
        /// The older one's note.
        older: String,
        /// The newer one's note.
        newer: String,
    },
}

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The records do not verify.
    #[error(transparent)]
    Bad(#[from] Bad),
    /// Operator: what was asked for does not exist.
    #[error("{0}")]
    Absent(String),
    /// Whoever made it: it proves nothing.
    #[error("{0}")]
    Wrong(String),
}

fn absent<T>(what: impl Into<String>) -> Result<T, ProofError> {
    Err(ProofError::Absent(what.into()))
}

fn in_hex(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| hex::encode(hash)).collect()
}

/// Goes over the records up to the checkpoint `to`, which must fit them, and gives each leaf to `each`.
fn leaves(
    lines: &mut dyn Lines,
    base: &Base,
    to: &Checkpoint,
    each: &mut dyn FnMut(u64, &[u8], Hash),
) -> Result<(), ProofError> {
    let mut tree = base.tree.clone();
    let walked = walk(lines, Start::Behind(base.head()), &mut |record, line| {
        let leaf = merkle::leaf(line);
        tree.push(leaf);
        each(record.seq, line, leaf);
        record.seq < to.size
    });
    let head = walked.map_err(Bad::from)?.head;
    if head.seq < to.size {
        return absent(format!("there are {} records, and the checkpoint is over {}", head.seq, to.size));
    }
    if (tree.root(), head.hash) != (to.root, to.head) {
        return Err(ProofError::Wrong(format!("the checkpoint over {} records is of other records", to.size)));
    }
    Ok(())
}

/// That the record `seq` is among those of a checkpoint, from all records behind `base`.
///
/// # Errors
/// [`ProofError`].
pub fn inclusion(
    lines: &mut dyn Lines,
    base: &Base,
    seq: u64,
    (checkpoint, note): (&Checkpoint, &str),
) -> Result<Proof, ProofError> {
    let size = checkpoint.size;
    if (1..base.first).contains(&seq) {
        return absent(format!("record {seq} was removed; the ledger begins with record {}", base.first));
    }
    let prover = seq.checked_sub(1).and_then(|index| Some((index, Prover::inclusion(index, size, &base.tree)?)));
    let Some((index, mut prover)) = prover else {
        return absent(format!("record {seq} is not among the {size} of the checkpoint"));
    };
    let mut record = String::new();
    leaves(lines, base, checkpoint, &mut |own, line, leaf| {
        prover.push(leaf);
        if own == seq {
            record = String::from_utf8_lossy(line).into_owned();
        }
    })?;
    let Some(hashes) = prover.finish() else { return absent("there are too few records") };
    Ok(Proof::Inclusion { record, index, size, hashes: in_hex(&hashes), checkpoint: note.to_owned() })
}

/// That a checkpoint continues an older one, each with its note.
///
/// # Errors
/// [`ProofError`].
pub fn consistency(
    lines: &mut dyn Lines,
    base: &Base,
    older: (&Checkpoint, &str),
    newer: (&Checkpoint, &str),
) -> Result<Proof, ProofError> {
    let (from, to) = (older.0.size, newer.0.size);
    if from < base.head().seq {
        return absent(format!(
            "the checkpoint over {from} records is older than record {}, the first that is there",
            base.first
        ));
    }
    let Some(mut prover) = Prover::consistency(from, to, &base.tree) else {
        return absent(format!("no checkpoint over {to} records continues one over {from}"));
    };
    leaves(lines, base, newer.0, &mut |_, _, leaf| prover.push(leaf))?;
    let Some(hashes) = prover.finish() else { return absent("there are too few records") };
    let proof =
        Proof::Consistency { from, to, hashes: in_hex(&hashes), older: older.1.to_owned(), newer: newer.1.to_owned() };
    Ok(proof)
}

fn hashes(texts: &[String]) -> Result<Vec<Hash>, ProofError> {
    let hashes = texts.iter().map(|text| hex::decode_exactly(text)).collect::<Option<Vec<_>>>();
    let hashes = hashes.filter(|hashes| hashes.len() <= MAX_HASHES);
    hashes.ok_or_else(|| ProofError::Wrong("its hashes are no SHA-256 values, or too many".to_owned()))
}

/// A note's checkpoint, and who signed it.
fn believed(note: &str, keys: &[VerifierKey]) -> Result<(Checkpoint, String), ProofError> {
    let wrong = |error: &dyn std::fmt::Display| ProofError::Wrong(error.to_string());
    let note = Note::parse(note.as_bytes()).map_err(|error| wrong(&error))?;
    let key = note.verify(keys).map_err(|error| wrong(&error))?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| wrong(&error))?;
    Ok((checkpoint, key.name.clone()))
}

impl Proof {
    /// Checks the proof with these keys alone; what it proves, in words.
    ///
    /// # Errors
    /// [`ProofError::Wrong`].
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<String, ProofError> {
        let wrong = |what: &str| Err(ProofError::Wrong(what.to_owned()));
        match self {
            Self::Inclusion { record, index, size, hashes: path, checkpoint } => {
                let (checkpoint, by) = believed(checkpoint, keys)?;
                let read =
                    Record::read(record.as_bytes()).map_err(|why| ProofError::Wrong(format!("the record: {why}")))?;
                if read.seq.checked_sub(1) != Some(*index) || *size != checkpoint.size {
                    return wrong("record, index, size and checkpoint are not of each other");
                }
                let leaf = merkle::leaf(record.as_bytes());
                if !merkle::verify_inclusion(*index, *size, leaf, &hashes(path)?, &checkpoint.root) {
                    return wrong("the record is not in the tree of the checkpoint");
                }
                Ok(format!("record {} is among the {size} that {by} has signed", read.seq))
            }
            Self::Consistency { from, to, hashes: path, older, newer } => {
                let ((older, by), (newer, _)) = (believed(older, keys)?, believed(newer, keys)?);
                if (older.size, newer.size) != (*from, *to) || older.origin != newer.origin {
                    return wrong("sizes and checkpoints are not of each other");
                }
                if !merkle::verify_consistency((*from, &older.root), (*to, &newer.root), &hashes(path)?) {
                    return wrong("the newer checkpoint does not continue the older one: the history was rewritten");
                }
                Ok(format!("the first {from} of {to} records are those that {by} had signed before"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{Input, Streams};
    use super::super::testing::*;
    use super::*;

    fn with<T>(lines: &[Vec<u8>], prove: impl FnOnce(&mut dyn Lines) -> T) -> T {
        let text = text(lines);
        prove(&mut Streams::new(vec![Input::new("file", &text[..]).unwrap()]))
    }

    #[test]
    fn every_record_is_proven_by_itself_and_no_other() {
        let lines = ledger(37, "alice");
        let anchor = checkpoint(&lines[..33]);
        let keys = [key().1];
        for seq in 1..=33 {
            let proof =
                with(&lines, |all| inclusion(all, &Base::GENESIS, seq, (&anchor.checkpoint, &anchor.note))).unwrap();
            assert!(proof.verify(&keys).unwrap().starts_with(&format!("record {seq} is among the 33")));
            assert!(proof.verify(&[]).is_err());
            let json = serde_json::to_string(&proof).unwrap();
            assert_eq!(serde_json::from_str::<Proof>(&json).unwrap(), proof);
            let other = String::from_utf8(ledger(37, "bob")[usize::try_from(seq).unwrap() - 1].clone()).unwrap();
            let Proof::Inclusion { index, size, hashes, checkpoint, .. } = proof else { panic!() };
            let forged = Proof::Inclusion { record: other, index, size, hashes, checkpoint };
            assert!(forged.verify(&keys).unwrap_err().to_string().contains("not in the tree"));
        }
        for absent in [0, 34] {
            assert!(
                with(&lines, |all| inclusion(all, &Base::GENESIS, absent, (&anchor.checkpoint, &anchor.note))).is_err()
            );
        }
        assert!(
            with(&ledger(37, "bob"), |all| inclusion(all, &Base::GENESIS, 3, (&anchor.checkpoint, &anchor.note)))
                .is_err()
        );
    }

    #[test]
    fn a_checkpoint_continues_an_older_one_of_the_same_history_only() {
        let lines = ledger(40, "alice");
        let (old, new) = (checkpoint(&lines[..21]), checkpoint(&lines));
        let pair = |old: &super::super::anchors::Anchor| {
            with(&lines, |all| {
                consistency(all, &Base::GENESIS, (&old.checkpoint, &old.note), (&new.checkpoint, &new.note))
            })
            .unwrap()
        };
        let keys = [key().1];
        assert!(pair(&old).verify(&keys).unwrap().contains("the first 21 of 40"));
        let other = checkpoint(&ledger(21, "bob"));
        let found = pair(&other).verify(&keys).unwrap_err().to_string();
        assert!(found.contains("history was rewritten"), "{found}");
    }
}
