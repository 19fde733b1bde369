//! Compressed segments: gzip (RFC 1952), so that zcat reads them. The comment in the header says how the segment ends, so that
//! a start need not unpack it; the next segment, which follows that end, bears it out.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::names::{Name, list};
use super::{Head, LogError};
use crate::passport::hex;

/// What a compressed segment's name ends in.
pub(super) const PACKED: &str = ".gz";

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// Its last line.
    pub(super) head: Head,
    /// [`super::Link::mark`] of that.
    pub(super) mark: u64,
    /// When that was written, in seconds since 1970 ([`super::Seal::written`]).
    pub(super) written: Option<i64>,
}

impl Ends {
    pub(super) fn comment(&self) -> String {
        let written = self.written.map(|seconds| format!(" written {seconds}")).unwrap_or_default();
        format!("passportd ends {} {} mark {}{written}", self.head.seq, hex::encode(&self.head.hash), self.mark)
    }

    pub(super) fn read(comment: &str) -> Option<Self> {
        let mut words = comment.strip_prefix("passportd ends ")?.split(' ');
        let seq = words.next()?.parse().ok()?;
        let hash = hex::decode_exactly(words.next()?)?;
        let mark = words.next().filter(|word| *word == "mark").and_then(|_| words.next())?.parse().ok()?;
        let written = match words.next() {
            Some("written") => Some(words.next()?.parse().ok()?),
            Some(_) => return None,
            None => None,
        };
        words.next().is_none().then_some(Self { head: Head { seq, hash }, mark, written })
    }
}

/// A segment to be read.
pub(super) struct Source {
    pub(super) reader: Box<dyn Read + Send>,
    /// Its bytes, unpacked.
    pub(super) len: u64,
    pub(super) ends: Option<Ends>,
    pub(super) packed: bool,
}

pub(super) fn packed_path(dir: &Path, name: &Name) -> PathBuf {
    dir.join(format!("{name}{PACKED}"))
}

impl Source {
    /// The plain file, or where there is none any more the compressed one.
    pub(super) fn open(dir: &Path, name: &Name) -> io::Result<Self> {
        match File::open(dir.join(name.to_string())) {
            Ok(file) => {
                let len = file.metadata()?.len();
                Ok(Self { reader: Box::new(file), len, ends: None, packed: false })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => match Self::packed(dir, name) {
                Err(packed) if packed.kind() == ErrorKind::NotFound => Err(error),
                other => other,
            },
            Err(error) => Err(error),
        }
    }

    /// The compressed one.
    pub(super) fn packed(dir: &Path, name: &Name) -> io::Result<Self> {
        let mut file = File::open(packed_path(dir, name))?;
        let mut length = [0; 4];
        // RFC 1952 section 2.3.1, ISIZE. No segment has 4 GiB. What is too short to have it can't be unpacked, either.
        if file.seek(SeekFrom::End(-4)).is_ok() {
            file.read_exact(&mut length)?;
        }
        file.rewind()?;
        let decoder = MultiGzDecoder::new(file);
        let comment = decoder.header().and_then(|header| header.comment()).map(String::from_utf8_lossy);
        let ends = comment.and_then(|comment| Ends::read(&comment));
        Ok(Self { reader: Box::new(decoder), len: u32::from_le_bytes(length).into(), ends, packed: true })
    }
}

/// What the segments in `dir` hold, in their order, unpacked: also what break records cut off.
///
/// # Errors
/// If the directory can't be read, or holds a stranger. Each segment may fail of its own.
pub fn readers(dir: &Path) -> Result<impl Iterator<Item = io::Result<Box<dyn Read + Send>>>, LogError> {
    let (names, dir) = (list(dir)?, dir.to_owned());
    Ok(names.into_iter().map(move |name| Source::open(&dir, &name).map(|source| source.reader)))
}

/// What was wrong with compressed bytes.
pub(super) fn broken(error: &io::Error) -> String {
    format!("its compressed segment can't be unpacked ({error})")
}

/// Whether the two have the same bytes. `pause` is called again and again.
pub(super) fn same(
    one: &mut dyn Read,
    other: &mut dyn Read,
    pause: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let (a, b) = (fill(one, &mut left)?, fill(other, &mut right)?);
        if left.get(..a) != right.get(..b) {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
        pause()?;
    }
}

fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Makes names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file; one that is not there is removed already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
