//! One segment: its lines in order, each checked, plain or compressed.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::names::Name;
use super::packed::{Ends, Source, broken};
use super::scan::{Cut, Cuts};
use super::{Fault, Head, Link, LogError, MAX_LINE, Seal};

/// How far a missing record is looked for further down, to tell a changed order from a gap.
const LOOK_AHEAD: usize = 100_000;

/// What the next bytes of a segment are.
pub(super) enum Piece {
    /// A line; its newline is taken off.
    Line,
    /// A line that is longer than any of ours.
    Overlong,
    /// Bytes without a newline, up to the end.
    Torn,
    /// Bytes that can't be unpacked.
    Broken(String),
    End,
}

/// Where the good part of a segment ends.
pub(super) struct Tail {
    pub(super) good: u64,
    pub(super) torn: u64,
    pub(super) lines: u64,
}

fn read_error(path: &Path, source: io::Error) -> LogError {
    LogError::Io { path: path.to_owned(), doing: "read", source }
}

pub(super) struct Segment {
    pub(super) name: String,
    first: u64,
    path: std::path::PathBuf,
    reader: BufReader<io::Take<Box<dyn Read + Send>>>,
    /// Bytes up to the cut, or all.
    len: u64,
    /// Where a break record says that this segment ends.
    pub(super) cut: Option<Cut>,
    /// Bytes beyond what that record knows of.
    beyond: u64,
    pub(super) packed: bool,
    /// What a compressed one says of its end.
    ends: Option<Ends>,
}

impl Segment {
    pub(super) fn open(dir: &Path, name: &Name, cuts: &Cuts) -> Result<Self, LogError> {
        let text = name.to_string();
        let path = dir.join(&text);
        let io_error = |source| LogError::Io { path: path.clone(), doing: "open", source };
        let Source { reader, len: full, ends, packed } = Source::open(dir, name).map_err(io_error)?;
        let cut = cuts.get(&text).copied();
        let len = cut.map_or(full, |cut| cut.good.min(full));
        let beyond = cut.map_or(0, |cut| full.saturating_sub(cut.most));
        // Of a segment that is still being written to, only what is there now.
        // What is compressed is not written to; at its end it is checked against the sum that stands there.
        let reader = BufReader::with_capacity(64 * 1024, reader.take(if packed { u64::MAX } else { len }));
        let path = if packed { Path::new(&format!("{}.gz", path.display())).to_owned() } else { path };
        Ok(Self { name: text, first: name.first, path, reader, len, cut, beyond, packed, ends })
    }

    pub(super) fn damaged(&self, line: u64, seq: u64, fault: Fault) -> LogError {
        LogError::Damaged { file: self.path.display().to_string(), line, seq, fault }
    }

    fn io_error(&self, source: io::Error) -> LogError {
        read_error(&self.path, source)
    }

    /// What was read may have reached only the page cache before its writer was killed.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        // Any descriptor will do: it is of the file.
        let synced = File::open(&self.path).and_then(|file| file.sync_data());
        synced.map_err(|source| LogError::Io { path: self.path.clone(), doing: "sync", source })
    }

    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, LogError> {
        line.clear();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        let read = self.reader.by_ref().take(limit).read_until(b'\n', line);
        match read {
            Ok(0) => return Ok(Piece::End),
            Ok(_) => {}
            Err(error) if self.packed => return Ok(Piece::Broken(broken(&error))),
            Err(error) => return Err(self.io_error(error)),
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Piece::Line);
        }
        // No newline within MAX_LINE: either a torn end (a crash can leave a long run of zeros) or a damaged line.
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if self.packed => return Ok(Piece::Broken(broken(&error))),
                Err(source) => return Err(read_error(&self.path, source)),
            };
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
    pub(super) fn walk<S: Seal>(
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
                Piece::Broken(why) => {
                    return Err(self.damaged(tail.lines + 1, head.seq + 1, Fault::Altered(why)));
                }
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
            let last = may_be_torn && self.reader.fill_buf().map_err(|e| read_error(&self.path, e))?.is_empty();
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
    pub(super) fn leap<S: Seal>(&mut self, first: Option<&Link>, head: &mut Head) -> Result<Option<Link>, LogError> {
        if self.len == 0 {
            self.nothing_beyond(head, 0)?;
            return self.begun_after(head).map(|()| None);
        }
        let Some(first) = first else {
            let fault = Fault::Altered("the first line is not a record".to_owned());
            return Err(self.damaged(1, head.seq + 1, fault));
        };
        self.follow::<S>(first, head, 1)?;
        if self.packed {
            return self.leap_packed::<S>(first, head);
        }
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

    /// The same for a compressed one. What it says of its end is held against the beginning of the next one; one that says
    /// nothing is read.
    fn leap_packed<S: Seal>(&mut self, first: &Link, head: &mut Head) -> Result<Option<Link>, LogError> {
        let mut link = first.clone();
        match &self.ends {
            Some(ends) => (link.head, link.mark) = (ends.head, ends.mark),
            None => {
                let from = Head { seq: first.head.seq - 1, hash: first.prev };
                // From the beginning once more: the first line was read.
                let mut at = from;
                self.reopen()?.walk::<S>(&mut at, false, |line| link = line.clone())?;
            }
        }
        *head = link.head;
        Ok(Some(link))
    }

    fn reopen(&self) -> Result<Self, LogError> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let name = Name::parse(&self.name).ok_or_else(|| self.io_error(io::ErrorKind::NotFound.into()))?;
        Self::open(dir, &name, &Cuts::new())
    }

    /// Whether `link` may stand after `head`, at `line` of this segment.
    pub(super) fn follow<S: Seal>(&mut self, link: &Link, head: &Head, line: u64) -> Result<(), LogError> {
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
                Piece::Torn | Piece::End | Piece::Broken(_) => break,
            }
        }
        Ok(false)
    }

    /// The last line before the end or the cut; none if it has no newline or is too long.
    pub(super) fn last_line(&mut self) -> Result<Option<Vec<u8>>, LogError> {
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
