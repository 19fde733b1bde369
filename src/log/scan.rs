//! Reading segments: what is good, what is torn, what is damaged.
//!
//! A break line names the torn segments before it, with the offset at which each ends. It is part of the chain, so these
//! cuts are as trustworthy as every other line. They are collected first (a break after torn bytes is always the first
//! line of its segment), then the segments are read in order up to their cuts. A segment that was cut is never written to
//! again: what is behind the cut is evidence, and whatever came behind it would not be read.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::names::{Name, list};
use super::{Break, BreakCause, Fault, Head, Link, LogError, MAX_LINE, MAX_TORN, Seal, Torn};

/// How far a missing record is looked for further down, to tell a changed order from a gap.
const LOOK_AHEAD: usize = 100_000;

/// How many break records a report lists.
pub(super) const MAX_REPORTED: usize = 1_000;

/// What a complete check of a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many segment files were read.
    pub segments: usize,
    /// How many records the chain has.
    pub records: u64,
    /// Its newest record.
    pub head: Head,
    /// The sequence numbers of the first 1,000 break records: places where the log says that writing failed.
    pub breaks: Vec<u64>,
}

/// Checks every record of the log in `dir`, without locking it. Streams: memory does not grow with the log.
///
/// # Errors
/// [`LogError::Damaged`] names the first record that is altered, missing, repeated or out of order. Records cut off at
/// the very end cannot be seen from the chain alone; compare [`Report::head`] with a checkpoint or with the state.
pub fn verify<S: Seal>(dir: &Path) -> Result<Report, LogError> {
    let names = list(dir)?;
    let (_, cuts) = survey::<S>(dir, &names)?;
    let mut report = Report { segments: names.len(), records: 0, head: Head::GENESIS, breaks: Vec::new() };
    for name in &names {
        let mut segment = Segment::open(dir, name, &cuts)?;
        let tail = segment.walk::<S>(&mut report.head, false, |link| {
            if link.is_break && report.breaks.len() < MAX_REPORTED {
                report.breaks.push(link.head.seq);
            }
        })?;
        if tail.torn > 0 {
            return Err(segment.damaged(tail.lines + 1, report.head.seq + 1, Fault::Torn { bytes: tail.torn }));
        }
    }
    report.records = report.head.seq;
    Ok(report)
}

/// What is needed to go on with a log.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) mark: u64,
    pub(super) gap: Option<Break>,
    /// The segment to append to and its length, unless a new one must be begun.
    pub(super) append_to: Option<(String, u64)>,
}

/// Checks the newest segment line by line and the linkage of earlier ones, and finds where the log ends.
pub(super) fn recover<S: Seal>(dir: &Path, names: &[Name]) -> Result<Found, LogError> {
    let (firsts, cuts) = survey::<S>(dir, names)?;
    let newest = firsts.iter().rposition(Option::is_some).unwrap_or(0);
    let (mut head, mut mark) = (Head::GENESIS, 0);
    for (name, first) in names.iter().zip(&firsts).take(newest) {
        let last = Segment::open(dir, name, &cuts)?.leap::<S>(first.as_ref(), &mut head)?;
        mark = mark.max(last.map_or(0, |link| link.mark));
    }
    let mut torn = Vec::new();
    let mut append_to = None;
    for name in names.iter().skip(newest) {
        let mut segment = Segment::open(dir, name, &cuts)?;
        let tail = segment.walk::<S>(&mut head, true, |link| mark = mark.max(link.mark))?;
        segment.sync()?;
        append_to = (tail.torn == 0 && segment.cut.is_none()).then(|| (segment.name.clone(), tail.good));
        if tail.torn > 0 {
            torn.push(Torn { segment: segment.name, offset: tail.good, bytes: tail.torn });
        }
    }
    // A torn segment may be followed by one that is still empty: the break goes there. Behind good lines it may not go.
    if !torn.is_empty() && append_to.as_ref().is_some_and(|(_, good)| *good > 0) {
        append_to = None;
    }
    if torn.len() > MAX_TORN {
        return Err(LogError::TooMany { path: dir.to_owned(), what: "too many torn segments", max: MAX_TORN });
    }
    let gap = (!torn.is_empty()).then(|| Break { cause: BreakCause::TornTail, torn, refused: 0, error: String::new() });
    Ok(Found { head, mark, gap, append_to })
}

/// What a break record says of a torn segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The length of its good part.
    pub(super) good: u64,
    /// The most bytes that it ever had.
    most: u64,
}

/// Segment name → where it is cut.
pub(super) type Cuts = HashMap<String, Cut>;

/// Reads the first line of each segment that has one, and from these the cuts.
pub(super) fn survey<S: Seal>(dir: &Path, names: &[Name]) -> Result<(Vec<Option<Link>>, Cuts), LogError> {
    let mut cuts = Cuts::new();
    let mut firsts = Vec::with_capacity(names.len());
    for name in names {
        let mut segment = Segment::open(dir, name, &Cuts::new())?;
        let mut line = Vec::new();
        let first = match segment.next(&mut line)? {
            Piece::Line => S::read(&line).ok(),
            Piece::Overlong | Piece::Torn | Piece::End => None,
        };
        for torn in first.iter().flat_map(|link| &link.torn) {
            let cut = Cut { good: torn.offset, most: torn.offset.saturating_add(torn.bytes) };
            cuts.insert(torn.segment.clone(), cut);
        }
        firsts.push(first);
    }
    for (name, first) in names.iter().zip(&mut firsts) {
        // It may begin with a whole line, and be cut in front of it.
        if cuts.get(&name.to_string()).is_some_and(|cut| cut.good == 0) {
            *first = None;
        }
    }
    Ok((firsts, cuts))
}

/// What the next bytes of a segment are.
pub(super) enum Piece {
    /// A line; its newline is taken off.
    Line,
    /// A line that is longer than any of ours.
    Overlong,
    /// Bytes without a newline, up to the end.
    Torn,
    End,
}

/// Where the good part of a segment ends.
struct Tail {
    good: u64,
    torn: u64,
    lines: u64,
}

fn read_error(path: &Path, source: io::Error) -> LogError {
    LogError::Io { path: path.to_owned(), doing: "read", source }
}

pub(super) struct Segment {
    name: String,
    first: u64,
    path: std::path::PathBuf,
    reader: BufReader<io::Take<File>>,
    /// Bytes up to the cut, or all.
    len: u64,
    /// Where a break record says that this segment ends.
    cut: Option<Cut>,
    /// Bytes beyond what that record knows of.
    beyond: u64,
}

impl Segment {
    pub(super) fn open(dir: &Path, name: &Name, cuts: &Cuts) -> Result<Self, LogError> {
        let text = name.to_string();
        let path = dir.join(&text);
        let io_error = |source| LogError::Io { path: path.clone(), doing: "open", source };
        let file = File::open(&path).map_err(io_error)?;
        let full = file.metadata().map_err(io_error)?.len();
        let cut = cuts.get(&text).copied();
        let len = cut.map_or(full, |cut| cut.good.min(full));
        let beyond = cut.map_or(0, |cut| full.saturating_sub(cut.most));
        // Of a segment that is still being written to, only what is there now.
        let reader = BufReader::with_capacity(64 * 1024, file.take(len));
        Ok(Self { name: text, first: name.first, path, reader, len, cut, beyond })
    }

    fn damaged(&self, line: u64, seq: u64, fault: Fault) -> LogError {
        LogError::Damaged { file: self.path.display().to_string(), line, seq, fault }
    }

    fn io_error(&self, source: io::Error) -> LogError {
        read_error(&self.path, source)
    }

    /// What was read may have reached only the page cache before its writer was killed.
    fn sync(&self) -> Result<(), LogError> {
        let synced = self.reader.get_ref().get_ref().sync_data();
        synced.map_err(|source| LogError::Io { path: self.path.clone(), doing: "sync", source })
    }

    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, LogError> {
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = self.reader.by_ref().take(limit).read_until(b'\n', line);
        if read.map_err(|e| self.io_error(e))? == 0 {
            return Ok(Piece::End);
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Piece::Line);
        }
        // No newline within MAX_LINE: either a torn end (a crash can leave a long run of zeros) or a damaged line.
        loop {
            let filled = self.reader.fill_buf();
            let buffer = filled.map_err(|source| read_error(&self.path, source))?;
            if buffer.is_empty() {
                return Ok(Piece::Torn);
            }
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let used = newline.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            if newline.is_some() {
                return Ok(Piece::Overlong);
            }
        }
    }

    /// Checks each line as the successor of `head`. With `may_be_torn`, an unreadable last line counts as torn;
    /// otherwise, and anywhere else, it is damage.
    fn walk<S: Seal>(
        &mut self,
        head: &mut Head,
        may_be_torn: bool,
        mut seen: impl FnMut(&Link),
    ) -> Result<Tail, LogError> {
        let mut tail = Tail { good: 0, torn: 0, lines: 0 };
        let mut line = Vec::new();
        loop {
            let why = match self.next(&mut line)? {
                Piece::End => break,
                Piece::Torn => {
                    tail.torn = self.len.saturating_sub(tail.good);
                    break;
                }
                Piece::Overlong => "its line is too long".to_owned(),
                Piece::Line => match S::read(&line) {
                    Ok(link) => {
                        self.follow::<S>(&link, head, tail.lines + 1)?;
                        *head = link.head;
                        tail.lines += 1;
                        tail.good += u64::try_from(line.len() + 1).unwrap_or(u64::MAX);
                        seen(&link);
                        continue;
                    }
                    Err(why) => why,
                },
            };
            let last = self.reader.fill_buf().map_err(|source| read_error(&self.path, source))?.is_empty();
            if !(last && may_be_torn) {
                return Err(self.damaged(tail.lines + 1, head.seq + 1, Fault::Altered(why)));
            }
            tail.torn = self.len.saturating_sub(tail.good);
            break;
        }
        if self.cut.is_some() && tail.torn > 0 {
            return Err(self.damaged(tail.lines + 1, head.seq + 1, Fault::Torn { bytes: tail.torn }));
        }
        self.nothing_beyond(head, tail.lines)?;
        if tail.lines == 0 {
            self.begun_after(head)?;
        }
        Ok(tail)
    }

    /// Whether a segment that was given up holds no more than when that was put on record. What came later would be
    /// records that were acknowledged, and that nobody reads.
    fn nothing_beyond(&self, head: &Head, lines: u64) -> Result<(), LogError> {
        match self.beyond {
            0 => Ok(()),
            bytes => Err(self.damaged(lines + 1, head.seq + 1, Fault::Torn { bytes })),
        }
    }

    /// Whether a segment without records was begun for the one after `head`. Its name bears witness that those before it
    /// were there; and what is appended must be what the name says. One that a break record names is accounted for.
    fn begun_after(&self, head: &Head) -> Result<(), LogError> {
        let next = head.seq.saturating_add(1);
        match self.first.cmp(&next) {
            _ if self.cut.is_some() => Ok(()),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(self.damaged(1, next, Fault::Missing { found: self.first })),
            Ordering::Less => Err(self.damaged(1, next, Fault::Misnamed)),
        }
    }

    /// Checks only that this segment's first line follows `head`, and moves `head` to its last line, if it has lines.
    fn leap<S: Seal>(&mut self, first: Option<&Link>, head: &mut Head) -> Result<Option<Link>, LogError> {
        if self.len == 0 {
            self.nothing_beyond(head, 0)?;
            return self.begun_after(head).map(|()| None);
        }
        let Some(first) = first else {
            let fault = Fault::Altered("the first line is not a record".to_owned());
            return Err(self.damaged(1, head.seq + 1, fault));
        };
        self.follow::<S>(first, head, 1)?;
        let last = self.last_line()?;
        let read = last.as_deref().map_or_else(|| Err("its line has no end".to_owned()), S::read);
        let link = match read {
            Ok(link) if link.head.seq >= first.head.seq => link,
            Ok(link) => {
                let fault = Fault::Repeated { found: link.head.seq };
                return Err(self.damaged(1, first.head.seq + 1, fault));
            }
            // The record that cannot be read has no number to go by: let the full walk find and name it.
            Err(_) => {
                let mut from = *head;
                return self.walk::<S>(&mut from, false, |_| {}).and_then(|tail| {
                    Err(self.damaged(tail.lines + 1, from.seq + 1, Fault::Torn { bytes: tail.torn }))
                });
            }
        };
        *head = link.head;
        self.nothing_beyond(head, link.head.seq - first.head.seq + 1)?;
        Ok(Some(link))
    }

    /// Whether `link` may stand after `head`, at `line` of this segment.
    fn follow<S: Seal>(&mut self, link: &Link, head: &Head, line: u64) -> Result<(), LogError> {
        let (expected, found) = (head.seq.saturating_add(1), link.head.seq);
        let fault = if found < expected {
            Fault::Repeated { found }
        } else if found > expected {
            let later = self.occurs_within::<S>(LOOK_AHEAD, expected)?;
            if later { Fault::OutOfOrder { found } } else { Fault::Missing { found } }
        } else if link.prev != head.hash {
            Fault::Unlinked
        } else if line == 1 && found != self.first {
            Fault::Misnamed
        } else {
            return Ok(());
        };
        Err(self.damaged(line, expected, fault))
    }

    /// Whether one of the next `lines` has this number.
    pub(super) fn occurs_within<S: Seal>(&mut self, lines: usize, seq: u64) -> Result<bool, LogError> {
        let mut line = Vec::new();
        for _ in 0..lines {
            match self.next(&mut line)? {
                Piece::Line if S::read(&line).is_ok_and(|link| link.head.seq == seq) => return Ok(true),
                Piece::Line | Piece::Overlong => {}
                Piece::Torn | Piece::End => break,
            }
        }
        Ok(false)
    }

    /// The last line before the end or the cut; none if it has no newline or is too long.
    fn last_line(&mut self) -> Result<Option<Vec<u8>>, LogError> {
        let span = self.len.min(u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 1);
        let mut file = File::open(&self.path).map_err(|e| self.io_error(e))?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.len - span)).map_err(|e| self.io_error(e))?;
        file.take(span).read_to_end(&mut bytes).map_err(|e| self.io_error(e))?;
        if bytes.pop() != Some(b'\n') {
            return Ok(None);
        }
        let start = bytes.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
        let whole = span == self.len;
        Ok(start.or(whole.then_some(0)).and_then(|start| bytes.get(start..)).map(<[u8]>::to_vec))
    }
}
