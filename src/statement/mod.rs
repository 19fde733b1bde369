//! What audit keys sign: checkpoints of the ledger, transcripts of ceremonies, attestations. Pure: no files, no keys of ours,
//! no clock.
//!
//! | part | what it holds |
//! |---|---|
//! | [`merkle`] | the tree of RFC 6962 over the ledger's records: roots, proofs of inclusion and of consistency |
//! | [`note`] | signed notes (c2sp.org/signed-note): a text and signatures beneath it |
//! | [`checkpoint`] | the text of a checkpoint (c2sp.org/tlog-checkpoint) |
//! | [`document`] | JSON documents with a signature beside them: transcripts and attestations |
//! | [`plan`] | what a ceremony is to do: one text, and the hash that is approved |
//! | [`approval`] | who has to approve, and who has |
//! | [`transcript`] | what a ceremony did, and whether one is to be believed |
//!
//! No two kinds of bytes that an audit key signs can be one another: each begins with words of its own.

pub mod approval;
pub mod checkpoint;
pub mod document;
pub mod merkle;
pub mod note;
pub mod plan;
pub mod transcript;

pub use checkpoint::{Checkpoint, CheckpointError, Counted, ORIGIN, origin};
pub use document::{ATTESTATION_PREFIX, Signed, TRANSCRIPT_PREFIX};
pub use merkle::{Frontier, Hash};
pub use note::{Note, NoteError, VerifierKey};
