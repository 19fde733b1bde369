//! A ledger's directory as its reader sees it: segments in order, plain or compressed, each up to where a break record cuts
//! it. Nothing is locked and nothing is changed: a daemon may be writing meanwhile.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::line::Record;
use super::source::{Input, Lines, Piece, Place, ReadError, length};
use crate::log::{Base, MAX_LINE, MAX_SEGMENTS, lies_beside};

/// How often the end of the newest segment is looked at again where a line has no end yet: a daemon may be writing it.
const PATIENCE: u32 = 15;
/// The pause before.
const PAUSE: Duration = Duration::from_millis(20);

/// What a break record says of a torn segment.
#[derive(Clone, Copy)]
struct Cut {
    good: u64,
    most: u64,
}

struct Segment {
    /// Its name without what compression adds.
    name: String,
    path: PathBuf,
    first: u64,
    packed: bool,
}

impl Segment {
    /// Opens it. It may have been compressed since it was listed.
    fn open(&self) -> Result<Input<'static>, ReadError> {
        match Input::open(&self.path) {
            Err(ReadError::Io { why, .. }) if why.kind() == ErrorKind::NotFound && !self.packed => {
                Input::open(&self.path.with_extension("jsonl.gz"))
            }
            other => other,
        }
    }
}

/// The segments of a directory.
pub struct Directory {
    /// Where the ledger begins: behind what was removed by the rules.
    base: Base,
    /// Those to come, the next one last.
    waiting: Vec<Segment>,
    cuts: HashMap<String, Cut>,
    current: Option<Open>,
    place: Place,
    bytes: u64,
    /// How many bytes there are to read, where nothing is compressed.
    size: Option<u64>,
}

struct Open {
    input: Input<'static>,
    cut: Option<Cut>,
    /// Bytes of good lines so far.
    good: u64,
    newest: bool,
    packed: bool,
}

impl Directory {
    /// The ledger in `dir`, from the segment on that has the record `from`.
    ///
    /// # Errors
    /// If it can't be listed, a file in it is no segment, or a first line can't be read.
    pub fn open(dir: &Path, from: u64) -> Result<Self, ReadError> {
        let base = Base::read(dir)
            .map_err(|error| ReadError::Format { from: dir.display().to_string(), what: error.to_string() })?;
        let mut segments = list(dir)?;
        // What a crash has left in front of the base was about to be removed.
        segments.retain(|segment| segment.first >= base.first);
        let cuts = cuts(&segments)?;
        // A retry of the same first record may hold nothing but torn bytes: all of them are read.
        let skipped = segments.iter().rev().find(|segment| segment.first <= from).map_or(0, |segment| segment.first);
        segments.retain(|segment| segment.first >= skipped);
        let sizes = segments.iter().map(|one| fs::metadata(&one.path).map_or(0, |meta| meta.len())).sum();
        let size = segments.iter().all(|one| !one.packed).then_some(sizes);
        segments.reverse();
        Ok(Self { base, waiting: segments, cuts, current: None, place: Place::default(), bytes: 0, size })
    }

    /// How many bytes there are to read, where that is known.
    pub const fn size(&self) -> Option<u64> {
        self.size
    }

    /// Where the ledger begins. That was written by whoever could write the ledger: a checkpoint bears it out.
    pub const fn base(&self) -> &Base {
        &self.base
    }

    /// Opens the next segment.
    fn begin(&mut self) -> Result<Piece, ReadError> {
        let Some(next) = self.waiting.pop() else { return Ok(Piece::End) };
        let input = next.open()?;
        let cut = self.cuts.get(&next.name).copied();
        self.place = Place { source: input.name.clone(), line: 0 };
        let (newest, packed) = (self.waiting.is_empty(), next.packed);
        self.current = Some(Open { input, cut, good: 0, newest, packed });
        Ok(Piece::Begins(next.first))
    }
}

impl Open {
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, ReadError> {
        if let Some(cut) = self.cut
            && self.good >= cut.good
        {
            return self.rest(cut);
        }
        let mut piece = self.input.piece(line, MAX_LINE)?;
        let mut left = if self.newest && !self.packed && self.cut.is_none() { PATIENCE } else { 0 };
        while let (Piece::Torn(bytes), 1..) = (&piece, left) {
            if *bytes != length(line.len()) {
                break;
            }
            sleep(PAUSE);
            left -= 1;
            let begun = line.clone();
            let mut more = Vec::new();
            piece = match self.input.piece(&mut more, MAX_LINE.saturating_sub(begun.len()))? {
                Piece::End => Piece::Torn(*bytes),
                Piece::Torn(further) => Piece::Torn(bytes.saturating_add(further)),
                other => other,
            };
            line.clear();
            line.extend_from_slice(&begun);
            line.extend_from_slice(&more);
        }
        if piece == Piece::Line {
            self.good += length(line.len()) + 1;
        }
        Ok(piece)
    }

    /// What is behind a cut is evidence, and no line of the ledger; more than was there then would be records that nobody
    /// reads.
    fn rest(&mut self, cut: Cut) -> Result<Piece, ReadError> {
        let path = PathBuf::from(&self.input.name);
        let mut found = self.good;
        loop {
            let here = self.input.reader.fill_buf().map_err(ReadError::io(&path))?.len();
            if here == 0 {
                break;
            }
            self.input.reader.consume(here);
            found = found.saturating_add(length(here));
        }
        self.cut = None;
        let beyond = found.saturating_sub(cut.most);
        Ok(if beyond > 0 { Piece::Beyond(beyond) } else { Piece::End })
    }
}

impl Lines for Directory {
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, ReadError> {
        loop {
            let Some(open) = &mut self.current else {
                match self.begin()? {
                    // One that a break record cuts before its first line promises nothing.
                    Piece::Begins(_)
                        if self.current.as_ref().and_then(|open| open.cut).is_some_and(|cut| cut.good == 0) => {}
                    other => return Ok(other),
                }
                continue;
            };
            let piece = open.next(line)?;
            match piece {
                Piece::End => self.current = None,
                Piece::Beyond(_) => return Ok(piece),
                _ => {
                    self.place.line += 1;
                    self.bytes += length(line.len()) + 1;
                    return Ok(piece);
                }
            }
        }
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// `NNNNNNNNNNNNNNNNNNNN.jsonl` or `….rNNN.jsonl`, and `.gz` once it is compressed.
fn parse(text: &str) -> Option<(&str, u64, bool)> {
    let (name, packed) = text.strip_suffix(".gz").map_or((text, false), |name| (name, true));
    let stem = name.strip_suffix(".jsonl")?;
    let (first, retry) = stem.split_once(".r").unwrap_or((stem, "001"));
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    Some((name, first.parse().ok().filter(|_| digits(first, 20) && digits(retry, 3))?, packed))
}

/// The segments in order. A file of any other kind is an error: it may be a segment that someone renamed.
fn list(dir: &Path) -> Result<Vec<Segment>, ReadError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(ReadError::io(dir))? {
        let path = entry.map_err(ReadError::io(dir))?.path();
        let text = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match parse(&text) {
            Some((name, first, packed)) => {
                found.push(Segment { name: name.to_owned(), path, first, packed });
            }
            None if lies_beside(&text) => {}
            None => {
                let what = format!("{text:?} is not a segment of the ledger; move it elsewhere");
                return Err(ReadError::Format { from: dir.display().to_string(), what });
            }
        }
        if found.len() > MAX_SEGMENTS {
            let what = format!("more than {MAX_SEGMENTS} segments");
            return Err(ReadError::Format { from: dir.display().to_string(), what });
        }
    }
    found.sort_by(|a, b| (&a.name, a.packed).cmp(&(&b.name, b.packed)));
    for (plain, packed) in found.iter().zip(found.iter().skip(1)).filter(|(one, other)| one.name == other.name) {
        if !same(&plain.path, &packed.path)? {
            let what =
                "the segment is there plain and compressed, and the two differ: one of them was altered".to_owned();
            return Err(ReadError::Format { from: plain.path.display().to_string(), what });
        }
    }
    // While a segment is compressed it is there twice; the plain one goes last.
    found.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(found)
}

/// Whether two files hold the same, unpacked. One that is gone by now was just compressed.
fn same(plain: &Path, packed: &Path) -> Result<bool, ReadError> {
    let mut inputs = Vec::new();
    for path in [plain, packed] {
        match Input::open(path) {
            Err(ReadError::Io { why, .. }) if why.kind() == ErrorKind::NotFound => return Ok(true),
            input => inputs.push(input?),
        }
    }
    let [one, other] = &mut inputs[..] else { return Ok(true) };
    loop {
        // What can't be unpacked is not the same.
        let (Ok(a), Ok(b)) = (one.reader.fill_buf(), other.reader.fill_buf()) else { return Ok(false) };
        let shared = a.len().min(b.len());
        if a.get(..shared) != b.get(..shared) || (shared == 0 && a.len() != b.len()) {
            return Ok(false);
        }
        if shared == 0 {
            return Ok(true);
        }
        one.reader.consume(shared);
        other.reader.consume(shared);
    }
}

/// Break records stand first in their segments, and name those that are torn before them. They are part of the chain, and
/// so are these cuts.
fn cuts(segments: &[Segment]) -> Result<HashMap<String, Cut>, ReadError> {
    let mut cuts = HashMap::new();
    let mut line = Vec::new();
    for segment in segments {
        if segment.open()?.piece(&mut line, MAX_LINE)? != Piece::Line {
            continue;
        }
        let Ok(record) = Record::read(&line) else { continue };
        for torn in record.torn {
            let cut = Cut { good: torn.offset, most: torn.offset.saturating_add(torn.bytes) };
            cuts.insert(torn.segment.into_owned(), cut);
        }
    }
    Ok(cuts)
}

#[cfg(test)]
mod marks {
    use super::*;
    use crate::log::{COPIED, COPIED_NEW};

    #[test]
    fn what_the_daemon_keeps_beside_its_segments_is_no_stranger() {
        let dir = tempfile::tempdir().unwrap();
        ["lock", COPIED, COPIED_NEW, "base.tmp"].iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        assert!(list(dir.path()).unwrap().is_empty());
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert!(list(dir.path()).is_err());
    }
}
