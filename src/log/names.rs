//! The names of a log's directory: segments, and what lies beside them.

use std::fs;
use std::path::Path;

use super::packed::PACKED;
use super::{LogError, MAX_SEGMENTS};

/// The lock file, beside the segments.
pub(super) const LOCK: &str = "lock";

/// How far a copy of the log has come that somebody keeps elsewhere ([`super::durable`] says nothing of it: it may be lost).
pub const COPIED: &str = "journald";

/// The same in the making.
pub const COPIED_NEW: &str = "journald.tmp";

/// Where the log begins ([`super::Base`]).
pub(super) const BASE: &str = "base";

/// The same in the making.
pub(super) const BASE_NEW: &str = "base.tmp";

/// What the name of a compressed segment in the making ends in. What is left of one counts for nothing.
pub(super) const PACKING: &str = ".gz.tmp";

/// What is no segment, and belongs there all the same.
const OURS: [&str; 5] = [LOCK, COPIED, COPIED_NEW, BASE, BASE_NEW];

/// Whether a file of a log's directory is no segment, and belongs there all the same.
pub fn lies_beside(name: &str) -> bool {
    OURS.contains(&name) || name.strip_suffix(PACKING).and_then(Name::parse).is_some()
}

/// A segment's name: its first sequence number and, when earlier files of that number hold nothing but torn bytes, a
/// running number, so that no file is ever renamed or written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) first: u64,
    pub(super) retry: u16,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.retry {
            0 => write!(f, "{:020}.jsonl", self.first),
            // The r makes a plain listing show them in the order of the chain.
            retry => write!(f, "{:020}.r{retry:03}.jsonl", self.first),
        }
    }
}

impl Name {
    /// Of a segment's file, plain or compressed.
    pub(super) fn of_file(text: &str) -> Option<Self> {
        Self::parse(text.strip_suffix(PACKED).unwrap_or(text))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let stem = text.strip_suffix(".jsonl")?;
        let (first, retry) = stem.split_once(".r").unwrap_or((stem, "000"));
        let name = Self { first: first.parse().ok()?, retry: retry.parse().ok()? };
        (name.to_string() == text).then_some(name)
    }
}

/// The segments of a directory in order. A file of any other name is an error: it may be a segment that someone renamed.
pub(super) fn list(dir: &Path) -> Result<Vec<Name>, LogError> {
    list_at_most(dir, MAX_SEGMENTS)
}

pub(super) fn list_at_most(dir: &Path, max: usize) -> Result<Vec<Name>, LogError> {
    let io_error = |source| LogError::Io { path: dir.to_owned(), doing: "list the directory", source };
    let mut names: Vec<Name> = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error)? {
        let text = entry.map_err(io_error)?.file_name();
        if text.to_str().is_some_and(lies_beside) {
            continue;
        }
        let name = text.to_str().and_then(Name::of_file);
        let stranger = || LogError::Stranger { path: dir.to_owned(), name: text.to_string_lossy().into_owned() };
        names.push(name.ok_or_else(stranger)?);
        if names.len() > max {
            return Err(LogError::TooMany { path: dir.to_owned(), what: "too many segments", max });
        }
    }
    names.sort_unstable();
    // While one is compressed it is there twice.
    names.dedup();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_they_were_written() {
        let texts = ["00000000000000000005.jsonl", "00000000000000000005.r001.jsonl", "00000000000000000006.jsonl"];
        assert!(texts.is_sorted());
        let names: Vec<Name> = texts.iter().map(|text| Name::parse(text).unwrap()).collect();
        assert!(names.is_sorted());
        for text in ["5.jsonl", "00000000000000000005.jsonl.bak", "00000000000000000005.r000.jsonl", "x"] {
            assert_eq!(Name::parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_lies_beside_segments_is_no_stranger() {
        let dir = tempfile::tempdir().unwrap();
        OURS.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        assert_eq!(list(dir.path()).unwrap(), []);
    }
}
