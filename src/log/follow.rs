//! Reading along: the lines of a log that is being written to, in order and without gaps, for a copy of it elsewhere.
//!
//! What is behind the newest durable line is not part of the log, and may be cut off and written anew; so a reader says how far
//! the log is durable, and nothing that was read beyond is kept.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::names::{Name, list};
use super::packed::Source;
use super::scan::{Cut, survey};
use super::{Head, LogError, MAX_LINE, Seal};

/// How often files are looked for anew that went while they were looked for.
const LOOKS: usize = 3;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line: [`Follower::line`].
    Line(Head),
    /// Nothing that is durable.
    Nothing,
    /// Lines that should be there and are not, or can't be read: from this one, to that one. They were passed over.
    Lost(u64, u64),
}

/// A reader of the log in a directory. It reads what is durable, and leaves everything as it is.
pub struct Follower<S> {
    dir: PathBuf,
    changes: Arc<AtomicU64>,
    /// At which of them the directory was looked at.
    seen: Option<u64>,
    next: u64,
    /// Up to where the log was durable when the open file was last read from its beginning or from [`Open::offset`].
    durable: u64,
    open: Option<Open>,
    line: Vec<u8>,
    have: Option<Head>,
    seal: PhantomData<fn() -> S>,
}

enum Reader {
    Plain(BufReader<File>),
    /// It was closed before it was compressed, so all of it is durable.
    Packed(BufReader<Box<dyn io::Read + Send>>),
}

/// The segment that is being read.
struct Open {
    name: Name,
    reader: Reader,
    /// Where the next line begins.
    offset: u64,
    /// Where it is cut.
    cut: Option<Cut>,
}

impl Open {
    fn new(dir: &Path, name: Name, cut: Option<Cut>) -> io::Result<Self> {
        let reader = match File::open(dir.join(name.to_string())) {
            Ok(file) => Reader::Plain(BufReader::with_capacity(64 * 1024, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Reader::Packed(BufReader::with_capacity(64 * 1024, Source::packed(dir, &name)?.reader))
            }
            Err(error) => return Err(error),
        };
        Ok(Self { name, reader, offset: 0, cut })
    }

    /// Forgets what was read ahead.
    fn again(&mut self) -> io::Result<()> {
        match &mut self.reader {
            Reader::Plain(reader) => reader.seek(SeekFrom::Start(self.offset)).map(drop),
            Reader::Packed(_) => Ok(()),
        }
    }

    /// The next whole line before the cut, without its newline; whether there is one.
    fn read(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        let left = self.cut.map_or(u64::MAX, |cut| cut.good.saturating_sub(self.offset));
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX).min(left);
        match &mut self.reader {
            Reader::Plain(reader) => reader.take(limit).read_until(b'\n', line)?,
            // One that can't be unpacked ends there.
            Reader::Packed(reader) => reader.take(limit).read_until(b'\n', line).unwrap_or(0),
        };
        if line.pop_if(|last| *last == b'\n').is_none() {
            self.again()?;
            return Ok(false);
        }
        self.offset = self.offset.saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX)).saturating_add(1);
        Ok(true)
    }
}

impl<S: Seal> Follower<S> {
    /// A reader of the log in `dir` that begins with the line `next`. `changes` are [`super::Segments::changes`] of whoever
    /// writes it.
    pub fn new(dir: &Path, changes: Arc<AtomicU64>, next: u64) -> Self {
        let (seen, durable, open, line, have, seal) = (None, 0, None, Vec::new(), None, PhantomData);
        Self { dir: dir.to_owned(), changes, seen, next, durable, open, line, have, seal }
    }

    /// The sequence number of the line that comes next.
    pub fn at(&self) -> u64 {
        self.next
    }

    /// Goes on with this line.
    pub fn go_to(&mut self, next: u64) {
        if next != self.next {
            (self.next, self.open, self.have, self.seen) = (next, None, None, None);
        }
    }

    /// The line that [`Follower::look`] has found, without its newline.
    pub fn line(&self) -> &[u8] {
        &self.line
    }

    /// The line has been dealt with.
    pub fn done(&mut self) {
        if self.have.take().is_some() {
            self.next = self.next.saturating_add(1);
        }
    }

    /// The next line, if it is durable: all lines up to `durable` are, and were before this is called.
    ///
    /// # Errors
    /// When the directory or a file can't be read. The next call tries again.
    pub fn look(&mut self, durable: u64) -> Result<Next, LogError> {
        if let Some(head) = self.have {
            return Ok(Next::Line(head));
        }
        if self.next > durable {
            return Ok(Next::Nothing);
        }
        for _ in 0..LOOKS {
            // Whatever holds a durable line was there before that became durable.
            let changes = self.changes.load(Ordering::Acquire);
            let looked = if self.seen == Some(changes) { self.read_on(durable) } else { self.find(durable) };
            match looked {
                Ok(true) => {
                    self.seen = Some(changes);
                    return Ok(self.have.map_or(Next::Nothing, Next::Line));
                }
                // Not where it was looked for: a line is always found in a listing of its own time.
                Ok(false) if self.seen == Some(changes) => self.seen = None,
                Ok(false) => return self.pass_over(durable),
                Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    (self.open, self.seen) = (None, None);
                }
                Err(error) => {
                    (self.open, self.seen) = (None, None);
                    return Err(error);
                }
            }
        }
        self.pass_over(durable)
    }

    /// Reads on in the open segment; whether the line was found.
    fn read_on(&mut self, durable: u64) -> Result<bool, LogError> {
        let Some(open) = &mut self.open else { return Ok(false) };
        let path = self.dir.join(open.name.to_string());
        let failed = |source| LogError::Io { path: path.clone(), doing: "read", source };
        if durable > self.durable {
            open.again().map_err(failed)?;
            self.durable = durable;
        }
        loop {
            let before = open.offset;
            if !open.read(&mut self.line).map_err(failed)? {
                return Ok(false);
            }
            match S::read(&self.line) {
                Ok(link) if link.head.seq == self.next => {
                    self.have = Some(link.head);
                    return Ok(true);
                }
                Ok(link) if link.head.seq < self.next => {}
                _ => {
                    open.offset = before;
                    return open.again().map_err(failed).map(|()| false);
                }
            }
        }
    }

    /// Looks for the segment that has the line, and reads up to it; whether it was found.
    fn find(&mut self, durable: u64) -> Result<bool, LogError> {
        let names = list(&self.dir)?;
        let end = names.partition_point(|name| name.first <= self.next);
        let Some(first) = end.checked_sub(1).and_then(|last| names.get(last)).map(|name| name.first) else {
            return Ok(false);
        };
        let begin = names.partition_point(|name| name.first < first);
        // The break record that cuts one of these begins the next one that is whole, and those that are not begin with the
        // same number.
        let after = names.get(end).map(|name| name.first);
        let until = names.partition_point(|name| Some(name.first) <= after.or(Some(first)));
        let (_, cuts) = survey::<S>(&self.dir, names.get(begin..until).unwrap_or_default())?;
        for name in names.get(begin..end).unwrap_or_default() {
            let cut = cuts.get(&name.to_string()).copied();
            if cut.is_some_and(|cut| cut.good == 0) {
                continue;
            }
            self.take_up(*name, cut)?;
            if self.read_on(durable)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_up(&mut self, name: Name, cut: Option<Cut>) -> Result<(), LogError> {
        if let Some(open) = self.open.as_mut().filter(|open| open.name == name) {
            open.cut = cut;
            // What was read ahead may lie behind a cut of which nothing was known.
            return open.again().map_err(|source| self.failed(name, source));
        }
        self.open = Some(Open::new(&self.dir, name, cut).map_err(|source| self.failed(name, source))?);
        Ok(())
    }

    fn failed(&self, name: Name, source: io::Error) -> LogError {
        LogError::Io { path: self.dir.join(name.to_string()), doing: "read", source }
    }

    /// Goes on where the log goes on: with the next segment, or behind what is durable.
    fn pass_over(&mut self, durable: u64) -> Result<Next, LogError> {
        let names = list(&self.dir)?;
        let next = names.iter().map(|name| name.first).find(|first| *first > self.next);
        let (from, next) = (self.next, next.unwrap_or(u64::MAX).min(durable.saturating_add(1)));
        self.go_to(next);
        Ok(Next::Lost(from, next - 1))
    }
}
