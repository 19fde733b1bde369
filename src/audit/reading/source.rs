//! Where lines come from: files of them, plain or compressed, one after the other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::log::MAX_LINE;

/// How much is read at once, in bytes.
const BUFFER: usize = 256 << 10;

/// The first bytes of what gzip has written (RFC 1952 §2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where a line stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The file, or `stdin`.
    pub source: String,
    /// The line in it, from 1.
    pub line: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, line {}", self.source, self.line)
    }
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A line; its newline is taken off.
    Line,
    /// A line that is longer than any of ours.
    Overlong,
    /// So many bytes without a newline, up to the end of a file.
    Torn(u64),
    /// A segment, whose name says that its first record is this one.
    Begins(u64),
    /// A segment has so many more bytes than the break record that cut it knows of.
    Beyond(u64),
    /// A compressed file can't be unpacked any further.
    Corrupt(String),
    /// Something that claims to be this record, and can't be.
    Forged {
        /// The sequence number that it claims.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing more.
    End,
}

/// Why something can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Host or operator: a file or directory.
    #[error("{}: {why}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        why: io::Error,
    },
    /// Operator: it is not what it should be.
    #[error("{from}: {what}")]
    Format {
        /// The file, or `stdin`.
        from: String,
        /// What is wrong.
        what: String,
    },
}

impl ReadError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |why| Self::Io { path: path.to_owned(), why }
    }
}

/// Lines, one after the other.
pub trait Lines {
    /// Puts the next line in `line`, or says what else is there.
    ///
    /// # Errors
    /// If it can't be read.
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, ReadError>;

    /// Where the newest piece stands.
    fn place(&self) -> Place;

    /// How many bytes of lines have come.
    fn bytes(&self) -> u64;
}

/// One stream of bytes with a name.
pub struct Input<'a> {
    pub(super) name: String,
    pub(super) reader: Box<dyn BufRead + 'a>,
    packed: bool,
}

impl<'a> Input<'a> {
    /// A stream, decompressed if it begins as gzip does.
    ///
    /// # Errors
    /// If its first bytes can't be read.
    pub fn new(name: &str, stream: impl Read + 'a) -> Result<Self, ReadError> {
        let mut plain = BufReader::with_capacity(BUFFER, stream);
        let start = plain.fill_buf().map_err(ReadError::io(Path::new(name)))?;
        let packed = start.starts_with(&GZIP);
        let reader: Box<dyn BufRead + 'a> = if packed {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(plain)))
        } else {
            Box::new(plain)
        };
        Ok(Self { name: name.to_owned(), reader, packed })
    }

    /// A file.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(ReadError::io(path))?;
        if file.metadata().is_ok_and(|meta| meta.is_dir()) {
            return Err(ReadError::Io { path: path.to_owned(), why: io::ErrorKind::IsADirectory.into() });
        }
        Self::new(&path.display().to_string(), file)
    }

    /// Whether the stream looks like what `journalctl -o json` writes. In a record these words could only stand in a text,
    /// where their quotes would be escaped.
    /// One that can't be read does not: reading it will say why.
    pub fn is_journal(&mut self) -> bool {
        let Ok(start) = self.reader.fill_buf() else { return false };
        let first = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let has = |name: &[u8]| first.windows(name.len()).any(|bytes| bytes == name);
        [&b"\"__CURSOR\""[..], b"\"__REALTIME_TIMESTAMP\"", b"\"PASSPORT_RECORD\""].into_iter().any(has)
    }

    /// What was altered in a compressed file is damage, and no failure of the host.
    fn failed(&self, why: io::Error) -> Result<Piece, ReadError> {
        let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::InvalidInput, io::ErrorKind::UnexpectedEof];
        if self.packed && kinds.contains(&why.kind()) {
            return Ok(Piece::Corrupt(format!("it can't be unpacked ({why})")));
        }
        Err(ReadError::io(Path::new(&self.name))(why))
    }

    /// The next line, of at most `max` bytes with its newline.
    pub(super) fn piece(&mut self, line: &mut Vec<u8>, max: usize) -> Result<Piece, ReadError> {
        self.read_piece(line, max).or_else(|why| self.failed(why))
    }

    fn read_piece(&mut self, line: &mut Vec<u8>, max: usize) -> io::Result<Piece> {
        line.clear();
        let limit = u64::try_from(max).unwrap_or(u64::MAX);
        let read = self.reader.by_ref().take(limit).read_until(b'\n', line)?;
        if read == 0 {
            return Ok(Piece::End);
        }
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Piece::Line);
        }
        // No newline within `max` bytes: the torn end of a file, or a line that is none of ours.
        let mut torn = length(line.len());
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(Piece::Torn(torn));
            }
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let used = newline.map_or(buffer.len(), |at| at + 1);
            torn = torn.saturating_add(length(used));
            self.reader.consume(used);
            if newline.is_some() {
                return Ok(Piece::Overlong);
            }
        }
    }
}

/// Files and streams of records, in the order in which they were given.
pub struct Streams<'a> {
    /// Those to come, the next one last.
    waiting: Vec<Input<'a>>,
    current: Option<Input<'a>>,
    place: Place,
    bytes: u64,
}

impl<'a> Streams<'a> {
    /// These, one after the other.
    pub fn new(mut inputs: Vec<Input<'a>>) -> Self {
        inputs.reverse();
        Self { waiting: inputs, current: None, place: Place::default(), bytes: 0 }
    }
}

impl Lines for Streams<'_> {
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, ReadError> {
        loop {
            let Some(input) = &mut self.current else {
                let Some(next) = self.waiting.pop() else { return Ok(Piece::End) };
                self.place = Place { source: next.name.clone(), line: 0 };
                self.current = Some(next);
                continue;
            };
            let piece = input.piece(line, MAX_LINE)?;
            if piece == Piece::End {
                self.current = None;
                continue;
            }
            self.place.line += 1;
            self.bytes += length(line.len()) + 1;
            return Ok(piece);
        }
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

pub(super) fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(inputs: Vec<Input<'_>>) -> Vec<(Piece, String, Place)> {
        let (mut lines, mut line, mut out) = (Streams::new(inputs), Vec::new(), Vec::new());
        loop {
            let piece = lines.next(&mut line).unwrap();
            if piece == Piece::End {
                return out;
            }
            let corrupt = matches!(piece, Piece::Corrupt(_));
            out.push((piece, String::from_utf8_lossy(&line).into_owned(), lines.place()));
            if corrupt {
                return out;
            }
        }
    }

    #[test]
    fn compressed_streams_are_read_like_plain_ones() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(b"three\n").unwrap();
        let packed = packed.finish().unwrap();
        // gzip files may be put one behind the other.
        let packed = [packed.clone(), packed].concat();
        let inputs = vec![Input::new("a", &b"one\ntwo\n"[..]).unwrap(), Input::new("b", &packed[..]).unwrap()];
        let found: Vec<_> = all(inputs).into_iter().map(|(_, line, place)| format!("{place}: {line}")).collect();
        assert_eq!(found, ["a, line 1: one", "a, line 2: two", "b, line 1: three", "b, line 2: three"]);
    }

    #[test]
    fn what_was_altered_in_a_compressed_stream_is_damage() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        (0..200).for_each(|n| writeln!(packed, "line {n} {}", n * 7919).unwrap());
        let packed = packed.finish().unwrap();
        let first = all(vec![Input::new("a", &packed[..packed.len() - 9]).unwrap()]).pop().unwrap().0;
        assert!(matches!(first, Piece::Corrupt(_)), "cut: {first:?}");
        let mut altered = packed;
        let last = altered.len() - 6;
        altered[last] ^= 1;
        let found = all(vec![Input::new("a", &altered[..]).unwrap()]);
        assert!(found.iter().any(|one| matches!(one.0, Piece::Corrupt(_))), "its checksum");
    }

    #[test]
    fn what_is_no_line_is_said() {
        let long = format!("{}\nend", "x".repeat(MAX_LINE + 7));
        let found: Vec<_> = all(vec![Input::new("a", long.as_bytes()).unwrap()]).into_iter().map(|one| one.0).collect();
        assert_eq!(found, [Piece::Overlong, Piece::Torn(3)]);
    }

    #[test]
    fn a_journal_is_known_by_members_that_no_text_can_forge() {
        let known = |text: &str| Input::new("a", text.as_bytes()).unwrap().is_journal();
        assert!(known("{\"__CURSOR\" : \"s=1\"}\n") && known("{\"MESSAGE\":\"x\",\"PASSPORT_RECORD\":\"{}\"}"));
        assert!(!known(r#"{"event":"e","sub":"\"__CURSOR\""}"#) && !known(""));
    }
}
