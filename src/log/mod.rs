//! Append-only segments and the group-commit loop, and beside them the way to journald ([`journal`]). The room knows lines, sequence numbers and hashes; what a line means
//! is its caller's affair (the [`Seal`] trait).
//!
//! A log is a directory of files `NNNNNNNNNNNNNNNNNNNN.jsonl`, named after the first sequence number in each. One thread
//! owns the newest; a line counts as stored when `fdatasync` has returned after it, and only then is its producer told.
//!
//! Nothing is repaired silently (L11). Bytes that a crash or a failing disk left behind the last good line stay where
//! they are; a *break* line in a new segment says which segment, from which offset, and how many. Damage anywhere else
//! stops [`Segments::open`] and is named.

mod base;
mod commit;
mod courier;
mod dir;
pub mod durable;
mod follow;
pub mod journal;
mod keep;
mod names;
mod packed;
mod read;
mod scan;
mod segment;
mod segments;
mod terms;
mod usage;
mod wait;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

pub use base::Base;
pub use commit::{Committer, MAX_GROUP};
pub use courier::{Courier, Delivery, Receipts};
pub use dir::{PidLock, PlaceError, give_dir, remedy, require_private_dir, require_private_file};
pub use follow::{Follower, Next};
pub use keep::{Keeper, Old};
pub use names::{COPIED, COPIED_NEW, lies_beside};
pub use packed::readers;
pub use read::lines_after;
pub use scan::{Report, verify};
pub use segments::{Media, Recovered, SegmentConfig, Segments, Shelf, Volatile, look};
pub use terms::{CommitError, Pace, Receipt};
pub use usage::{Usage, usage};
pub use wait::end_thread;

/// The longest line, newline included. A line of the audit ledger is bounded far below it.
pub const MAX_LINE: usize = 16 * 1024;

/// How many torn segments one break line names. More than this means a disk that fails all the time.
pub const MAX_TORN: usize = 32;

/// How many segment files a directory may hold.
pub const MAX_SEGMENTS: usize = 100_000;

/// A SHA-256 value.
pub type Hash = [u8; 32];

/// Where a chain stands: the sequence number and hash of its newest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The newest line's sequence number; 0 when there is none yet.
    pub seq: u64,
    /// The newest line's hash; zeros when there is none yet.
    pub hash: Hash,
}

impl Head {
    /// The head of an empty chain: the first line has sequence number 1 and follows 32 zero bytes.
    pub const GENESIS: Self = Self { seq: 0, hash: [0; 32] };
}

/// Bytes behind the last good line of a segment: not part of the log, left in place as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment's file name.
    pub segment: String,
    /// The length of its good part; everything from here on is not part of the log.
    pub offset: u64,
    /// How many bytes were found (or had been tried to write) there.
    pub bytes: u64,
}

/// Why a break line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakCause {
    /// At open, the newest segment ended in an incomplete line: the process or the host died while writing.
    TornTail,
    /// Writing failed for a while (a full disk, an I/O error); nothing that failed was acknowledged.
    Outage,
}

/// What a break line records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Break {
    /// Why.
    pub cause: BreakCause,
    /// The torn segments, oldest first; empty after an outage that left the segment clean.
    pub torn: Vec<Torn>,
    /// How many entries were refused in an outage.
    pub refused: u64,
    /// The last error of an outage; empty after a torn tail.
    pub error: String,
}

/// What a stored line says about its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its sequence number and its own hash, which the reader has checked.
    pub head: Head,
    /// The hash of the line before it.
    pub prev: Hash,
    /// Whether it is a break line.
    pub is_break: bool,
    /// A number of the caller's that only grows, as of when the line was written; 0 where there was none.
    pub mark: u64,
    /// The torn segments that a break line names.
    pub torn: Vec<Torn>,
}

/// Turns entries into lines and lines into links. The commit thread owns it.
pub trait Seal: Send + 'static {
    /// What producers hand in.
    type Entry: Send + 'static;

    /// Appends the line for `entry` (without a newline, at most [`MAX_LINE`] − 1 bytes) as the successor of `prev`, and
    /// returns its hash. An error fails the entry's group only.
    fn seal(&mut self, entry: &Self::Entry, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String>;

    /// The same for a break line.
    fn seal_break(&mut self, gap: &Break, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String>;

    /// Called for each entry, in order, once it is durable.
    fn durable(&mut self, entry: Self::Entry, at: Head);

    /// Called for a break line once it is durable.
    fn durable_break(&mut self, gap: &Break, at: Head);

    /// When a stored line was written, in seconds since 1970; none if it does not say. What does not is kept for ever.
    fn written(_line: &[u8]) -> Option<i64> {
        None
    }

    /// What a stored line accounts for, and how many of it: what is still to be known when the line is gone.
    fn accounts(_line: &[u8]) -> Option<(String, u64)> {
        None
    }

    /// Reads a stored line (without its newline) and checks it against its own hash. The error says what is wrong.
    fn read(line: &[u8]) -> Result<Link, String>;
}

/// What is wrong with a record of a damaged log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The line is not a record, or does not match its own hash.
    #[error("was altered: {0}")]
    Altered(String),
    /// The line is whole, but its `prev` is not the hash of the record before it.
    #[error("does not follow the record before it: one of the two was replaced")]
    Unlinked,
    /// Records are missing.
    #[error("is missing: the next one found is record {found}")]
    Missing {
        /// The sequence number found instead.
        found: u64,
    },
    /// The record comes later: the order was changed.
    #[error("is out of order: record {found} stands before it")]
    OutOfOrder {
        /// The sequence number found instead.
        found: u64,
    },
    /// An earlier record stands there once more.
    #[error("is not there: record {found} is repeated in its place")]
    Repeated {
        /// The sequence number found instead.
        found: u64,
    },
    /// The file ends without a newline and no break record names the rest.
    #[error("is torn: {bytes} bytes without an end, which no break record names")]
    Torn {
        /// How many bytes follow the last good record.
        bytes: u64,
    },
    /// The log ends before it.
    #[error("is not there: the log ends before it")]
    Gone,
    /// The file's name promises another first record.
    #[error("is not the one that the file's name says it starts with")]
    Misnamed,
}

/// Why a log could not be opened or does not verify.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Operator: the directory or its lock.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Host: reading or writing failed.
    #[error("{path}: cannot {doing}: {source}{}", remedy(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Someone or something changed what was stored.
    #[error(
        "{file}, line {line}: record {seq} {fault}. The log is evidence and is not repaired: copy the directory away, \
         find out what changed it, and restore it from a copy kept elsewhere"
    )]
    Damaged {
        /// The segment's file, with its directory.
        file: String,
        /// The line in it, from 1.
        line: u64,
        /// The first record that is not as it must be.
        seq: u64,
        /// What is wrong.
        fault: Fault,
    },
    /// Someone or something changed where the log begins.
    #[error(
        "{path}: {why}. It says where a log begins whose oldest records were removed: restore it from a copy kept elsewhere"
    )]
    Base {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Someone made another copy of a segment.
    #[error(
        "{path}: is there twice, plain and compressed, and the two differ: copy both away and find out which is right"
    )]
    Twice {
        /// The plain one.
        path: PathBuf,
    },
    /// Operator: the directory holds something that is not ours.
    #[error("{path}: {name:?} is not a segment of the log; move it elsewhere")]
    Stranger {
        /// The directory.
        path: PathBuf,
        /// The file's name.
        name: String,
    },
    /// Host: more torn or more segments than the bounds allow.
    #[error("{path}: {what} (at most {max}); the disk fails again and again: move the log to a sound one")]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Host: no thread.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

/// The same error with the place and what to do about it: it ends in front of an operator. Its kind stays.
fn placed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    let path = path.to_owned();
    move |source| io::Error::new(source.kind(), LogError::Io { path, doing, source })
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod keep_tests;
#[cfg(test)]
mod recovery_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
