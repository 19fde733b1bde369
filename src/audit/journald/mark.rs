//! How far journald has got, kept beside the ledger, so that the next start goes on there. It may be lost or old: then records
//! are sent twice, and none is left out.

use std::collections::VecDeque;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::log::{COPIED, COPIED_NEW};

/// How many records are sent again where the mark can't be read.
pub(super) const MAX_UNKNOWN: u64 = 100_000;

/// How many receipts are remembered, one a second at most: those of [`KEPT`] and then some.
const MAX_RECEIPTS: usize = 512;

/// journald writes its files out every five minutes (`SyncIntervalSec=`): what it took since is gone after a power loss.
pub(super) const KEPT: Duration = Duration::from_secs(360);

/// The longest mark.
const MAX_MARK: usize = 256;

/// By how much the moment of the machine's start, as the clock tells it, may differ at two times of one run.
const SAME_START_S: i64 = 60;

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// The newest record that journald has read.
    pub(super) read: u64,
    /// The newest that it must have on its disk.
    pub(super) kept: u64,
    /// When the machine was started, in seconds since 1970.
    pub(super) booted: i64,
}

/// What was found at a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// None: nothing was ever copied from here.
    Nothing,
    /// One that can't be read.
    Unreadable,
    /// This one.
    Mark(Mark),
}

impl Mark {
    /// The newest record that need not be sent, of a ledger whose newest is `head`.
    pub(super) fn from_here(found: Found, head: u64, booted: i64) -> Self {
        let (read, kept) = match found {
            Found::Nothing => (head, head),
            Found::Unreadable => (head.saturating_sub(MAX_UNKNOWN), head.saturating_sub(MAX_UNKNOWN)),
            Found::Mark(mark) if mark.booted.abs_diff(booted) <= SAME_START_S.unsigned_abs() => (mark.read, mark.kept),
            Found::Mark(mark) => (mark.kept, mark.kept),
        };
        let read = read.min(head);
        Self { read, kept: kept.min(read), booted }
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct MarkFile {
    file: PathBuf,
    new: PathBuf,
}

impl MarkFile {
    pub(super) fn new(dir: &Path) -> Self {
        Self { file: dir.join(COPIED), new: dir.join(COPIED_NEW) }
    }

    pub(super) fn read(&self) -> Found {
        match fs::read(&self.file) {
            Ok(bytes) if bytes.len() <= MAX_MARK => {
                serde_json::from_slice(&bytes).map_or(Found::Unreadable, Found::Mark)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
            _ => Found::Unreadable,
        }
    }

    /// Not synced: an old one, or none that can be read, does no harm. So nobody is told of a disk that takes none.
    pub(super) fn write(&self, mark: &Mark) {
        let written = serde_json::to_vec(mark).map(|bytes| fs::write(&self.new, bytes));
        if matches!(written, Ok(Ok(()))) {
            drop(fs::rename(&self.new, &self.file));
        }
    }
}

/// What journald had read at which time.
#[derive(Debug)]
pub(super) struct History {
    /// Since a start, the newest last.
    receipts: VecDeque<(Instant, u64)>,
    pub(super) mark: Mark,
}

impl History {
    pub(super) fn new(mark: Mark) -> Self {
        Self { receipts: VecDeque::new(), mark }
    }

    /// journald has read up to this record.
    pub(super) fn receipt(&mut self, now: Instant, read: u64) {
        if read > self.mark.read {
            self.mark.read = read;
            self.receipts.push_back((now, read));
        }
        if self.receipts.len() > MAX_RECEIPTS {
            self.receipts.pop_front();
        }
        while let Some((_, read)) = self.receipts.pop_front_if(|(at, _)| now.saturating_duration_since(*at) >= KEPT) {
            self.mark.kept = read;
        }
    }

    /// The newest record that it had read so long ago; the newest of the mark at the start if that was later.
    pub(super) fn before(&self, now: Instant, age: Duration, at_start: u64) -> u64 {
        let older = |(at, _): &&(Instant, u64)| now.saturating_duration_since(*at) >= age;
        self.receipts.iter().rev().find(older).map_or(at_start.max(self.mark.kept), |(_, read)| *read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_says_where_to_go_on() {
        let mark = |read, kept| Mark { read, kept, booted: 1_000 };
        let kept = Found::Mark(mark(90, 40));
        for (found, head, booted, expected) in [
            (Found::Nothing, 100, 1_000, mark(100, 100)),
            (kept, 100, 1_000, mark(90, 40)),
            (kept, 100, 1_060, Mark { booted: 1_060, ..mark(90, 40) }),
            // Another run of the machine: what journald had not written out may be gone.
            (kept, 100, 1_061, Mark { booted: 1_061, ..mark(40, 40) }),
            (kept, 100, 900, Mark { booted: 900, ..mark(40, 40) }),
            // Another ledger.
            (kept, 30, 1_000, mark(30, 30)),
            (Found::Unreadable, 100, 1_000, mark(0, 0)),
            (Found::Unreadable, MAX_UNKNOWN + 5, 1_000, mark(5, 5)),
        ] {
            assert_eq!(Mark::from_here(found, head, booted), expected, "{found:?} {head} {booted}");
        }
    }

    #[test]
    fn a_mark_is_kept_and_a_torn_one_is_known_for_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = MarkFile::new(dir.path());
        assert_eq!(file.read(), Found::Nothing);
        let mark = Mark { read: 7, kept: 3, booted: 1_000 };
        file.write(&mark);
        assert_eq!(file.read(), Found::Mark(mark));
        let whole = fs::read(dir.path().join(COPIED)).unwrap();
        for cut in 0..whole.len() {
            fs::write(dir.path().join(COPIED), &whole[..cut]).unwrap();
            assert_eq!(file.read(), Found::Unreadable, "{cut}");
        }
        for (length, read) in [(MAX_MARK, Found::Mark(mark)), (MAX_MARK + 1, Found::Unreadable)] {
            let mut long = whole.clone();
            long.resize(length, b' ');
            fs::write(dir.path().join(COPIED), long).unwrap();
            assert_eq!(file.read(), read, "{length}");
        }
    }

    #[test]
    fn what_was_read_long_ago_is_on_the_disk_and_so_much_is_remembered() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut history = History::new(Mark { read: 10, kept: 4, booted: 0 });
        assert_eq!(history.before(at(0), Duration::from_secs(5), 10), 10, "of before the start nothing is in doubt");
        for second in 1..=20 {
            history.receipt(at(second), 10 + second);
        }
        assert_eq!(history.before(at(20), Duration::from_secs(5), 10), 25);
        assert_eq!((history.mark.read, history.mark.kept), (30, 4));
        history.receipt(at(20) + KEPT, 30);
        assert_eq!((history.mark.kept, history.receipts.len()), (30, 0));
        assert_eq!(history.before(at(20) + KEPT, Duration::from_secs(5), 10), 30);
        for n in 0..2 * MAX_RECEIPTS as u64 {
            history.receipt(at(1_000), 100 + n);
        }
        assert_eq!(history.receipts.len(), MAX_RECEIPTS);
    }
}
