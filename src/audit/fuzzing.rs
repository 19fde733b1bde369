//! What the fuzz target `ledger` needs of this room: single lines, and recovery without a thread that writes.

use std::path::Path;

use super::record::Beside;
use super::{Chain, Entry, record};
use crate::clock::Moment;
use crate::log::{Break, Hash, Head, Link, LogError, Recovered, SegmentConfig, Segments};

/// Appends the line of `entry` behind `prev`, without a newline, and returns its hash.
///
/// # Errors
/// If it can't be written.
pub fn write(entry: &Entry, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
    record::write(entry, Beside::default(), prev, out)
}

/// The same for a break record.
///
/// # Errors
/// If it can't be written.
pub fn write_break(gap: &Break, at: Moment, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
    record::write(&Entry::for_break(gap, at), Beside { gap: Some(gap), state_seq: 0 }, prev, out)
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
pub fn read(line: &[u8]) -> Result<Link, String> {
    record::read(line)
}

/// Opens the ledger in `dir` and lets go of it again.
///
/// # Errors
/// As [`Segments::open`].
pub fn recover(dir: &Path) -> Result<Recovered, LogError> {
    Segments::open::<Chain>(dir, SegmentConfig::default()).map(|(_, recovered)| recovered)
}
