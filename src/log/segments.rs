//! Segment files: names, creation, and what a segment can be asked to do.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::OFlag;

use super::dir::{PidLock, require_private_dir};
use super::keep::tidy;
use super::names::{LOCK, Name, list};
use super::packed::sync_dir;
use super::{Break, Head, LogError, Seal, placed, scan};

/// Auditors read through the group.
pub(super) const MODE: u32 = 0o640;

/// How often a segment of one first sequence number may be started anew after torn beginnings.
const MAX_RETRIES: u16 = 999;

/// How segments are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentConfig {
    /// A segment that has reached this many bytes is closed and the next one begun.
    pub max_bytes: u64,
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self { max_bytes: 64 * 1024 * 1024 }
    }
}

/// One open segment. A trait, so that tests can make the disk fail.
pub trait Media: Send {
    /// Appends all of `bytes`; after an error any part of them may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Returns when everything appended is on stable storage (`fdatasync`).
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the segment back to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// Where new segments come from.
pub trait Shelf: Send + 'static {
    /// Creates the segment whose first line will have the sequence number `first`; returns its name.
    fn create(&mut self, first: u64) -> io::Result<(String, Box<dyn Media>)>;
    /// Removes a segment in which nothing was ever stored.
    fn discard(&mut self, name: &str) -> io::Result<()>;
}

/// What [`Segments::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The newest good line.
    pub head: Head,
    /// The greatest [`super::Link::mark`] of the lines that were read: of the newest segment all, of others the last.
    pub mark: u64,
    /// How many segment files there are.
    pub segments: usize,
    /// The break that has to be recorded before anything else, if the log ends torn.
    pub gap: Option<Break>,
}

/// The segment that lines are appended to.
pub(super) struct Current {
    pub(super) name: String,
    pub(super) media: Box<dyn Media>,
    /// Its length up to the last durable line.
    pub(super) good: u64,
}

/// An opened and locked directory of segments.
pub struct Segments {
    dir: PathBuf,
    /// Held for as long as the segments are.
    _lock: PidLock,
    changes: Arc<AtomicU64>,
    pub(super) config: SegmentConfig,
    /// Taken by the commit thread.
    pub(super) current: Option<Current>,
}

impl Segments {
    /// Locks `dir`, checks the log in it and makes it ready for appending. Every line of the newest segment is checked,
    /// and of earlier ones that each continues the one before it ([`super::verify`] checks every line).
    ///
    /// The directory must exist, belong to our effective uid and be writable by nobody else.
    pub fn open<S: Seal>(dir: &Path, config: SegmentConfig) -> Result<(Self, Recovered), LogError> {
        require_private_dir(dir)?;
        let lock = PidLock::acquire(&dir.join(LOCK), dir)?;
        let names = list(dir)?;
        let found = scan::recover::<S>(dir, &names)?;
        tidy(dir, &names)?;
        let current = match &found.append_to {
            Some((name, good)) => Some(reopen(dir, name, *good)?),
            None => None,
        };
        let recovered = Recovered { head: found.head, mark: found.mark, segments: names.len(), gap: found.gap };
        Ok((Self { dir: dir.to_owned(), _lock: lock, changes: Arc::default(), config, current }, recovered))
    }

    /// Grows with each segment that is begun or removed, before a line in it is durable: whoever reads along looks at the
    /// directory again.
    pub fn changes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.changes)
    }
}

/// Checks the log in `dir` as [`Segments::open`] does, and leaves it as it is; no lock is taken. Returns its newest line.
/// What it reads is bounded: one segment, and of the others two lines each.
///
/// # Errors
/// As [`Segments::open`]; [`PlaceError::InUse`](super::PlaceError::InUse) while a daemon writes to it.
pub fn look<S: Seal>(dir: &Path) -> Result<Head, LogError> {
    PidLock::free(&dir.join(LOCK), dir)?;
    Ok(scan::recover::<S>(dir, &list(dir)?)?.head)
}

/// Makes a new segment's mode and name durable.
fn settle(dir: &Path, file: &File) -> io::Result<()> {
    // The umask may have taken bits away.
    file.set_permissions(Permissions::from_mode(MODE))?;
    sync_dir(dir)
}

impl Segments {
    /// A new segment sorts behind all that are there, a name that came free among them notwithstanding: it may begin with
    /// the break record that cuts them. One that could not be settled is removed: each attempt on a failing disk would else
    /// use up a name, of which there are [`MAX_RETRIES`].
    fn create_with(
        &self,
        first: u64,
        settle: impl Fn(&Path, &File) -> io::Result<()>,
    ) -> io::Result<(String, Box<dyn Media>)> {
        for retry in next_retry(&self.dir, first).map_err(placed(&self.dir, "list the directory"))?..=MAX_RETRIES {
            let name = Name { first, retry };
            let path = self.dir.join(name.to_string());
            let opened = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(MODE)
                .custom_flags(OFlag::O_NOFOLLOW.bits())
                .open(&path);
            match opened {
                Ok(file) => {
                    if let Err(error) = settle(&self.dir, &file) {
                        // Should this fail too, the name is used up, as by a torn segment.
                        fs::remove_file(&path).unwrap_or_default();
                        return Err(placed(&path, "make it durable")(error));
                    }
                    return Ok((name.to_string(), Box::new(SegmentFile { path, file })));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(placed(&path, "make it")(error)),
            }
        }
        let what =
            format!("{MAX_RETRIES} torn segments start with record {first}; move the log to a sound disk and restart");
        Err(io::Error::other(format!("{}: {what}", self.dir.display())))
    }
}

/// The number behind those of all segments that start with `first`.
fn next_retry(dir: &Path, first: u64) -> io::Result<u16> {
    let mut next = 0;
    for entry in fs::read_dir(dir)? {
        // What is no segment stops the next start, not the records of this one.
        if let Some(name) = entry?.file_name().to_str().and_then(Name::of_file).filter(|name| name.first == first) {
            next = next.max(name.retry.saturating_add(1));
        }
    }
    Ok(next)
}

impl Shelf for Segments {
    fn create(&mut self, first: u64) -> io::Result<(String, Box<dyn Media>)> {
        let created = self.create_with(first, settle);
        self.changes.fetch_add(1, Ordering::Release);
        created
    }

    fn discard(&mut self, name: &str) -> io::Result<()> {
        let removed = fs::remove_file(self.dir.join(name));
        self.changes.fetch_add(1, Ordering::Release);
        removed
    }
}

/// An open segment, and where it is.
struct SegmentFile {
    path: PathBuf,
    file: File,
}

impl Media for SegmentFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(placed(&self.path, "write"))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data().map_err(placed(&self.path, "sync"))
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(placed(&self.path, "cut"))
    }
}

/// Keeps nothing: for amnesia mode, where the chain lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub struct Volatile;

impl Shelf for Volatile {
    fn create(&mut self, first: u64) -> io::Result<(String, Box<dyn Media>)> {
        Ok((Name { first, retry: 0 }.to_string(), Box::new(Self)))
    }

    fn discard(&mut self, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

impl Media for Volatile {
    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Opens the newest segment for appending. What is in it may have reached only the page cache before we were killed, so
/// it is synced before anything builds on it.
fn reopen(dir: &Path, name: &str, good: u64) -> Result<Current, LogError> {
    let path = dir.join(name);
    let io_error = |doing| {
        let path = path.clone();
        move |source| LogError::Io { path, doing, source }
    };
    let file = OpenOptions::new()
        .append(true)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&path)
        .map_err(io_error("open for appending"))?;
    file.sync_data().map_err(io_error("sync"))?;
    Ok(Current { name: name.to_owned(), media: Box::new(SegmentFile { path, file }), good })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::super::Fault;
    use super::super::testing::Plain;
    use super::*;

    #[test]
    fn segments_are_readable_by_the_group_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let (mut segments, found) = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
        assert_eq!(found, Recovered { head: Head::GENESIS, mark: 0, segments: 0, gap: None });
        let (name, mut media) = segments.create(1).unwrap();
        media.append(b"x").unwrap();
        assert_eq!(segments.create(1).unwrap().0, "00000000000000000001.r001.jsonl");
        assert_eq!(fs::metadata(dir.path().join(&name)).unwrap().mode() & 0o7777, MODE);
    }

    #[test]
    fn segments_that_fail_at_birth_use_up_no_names() {
        let dir = tempfile::tempdir().unwrap();
        let (mut segments, _) = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
        for _ in 0..=MAX_RETRIES + 1 {
            assert!(segments.create_with(1, |_, _| Err(io::Error::other("I/O error"))).is_err());
        }
        assert_eq!(segments.create(1).unwrap().0, "00000000000000000001.jsonl");
    }

    #[test]
    fn so_many_torn_beginnings_are_gone_around_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let (mut segments, _) = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
        for retry in 0..MAX_RETRIES {
            fs::write(dir.path().join(Name { first: 1, retry }.to_string()), "torn").unwrap();
        }
        assert_eq!(segments.create(1).unwrap().0, "00000000000000000001.r999.jsonl");
        let refused = segments.create(1).err().unwrap().to_string();
        assert!(refused.contains("999 torn segments start with record 1"), "{refused}");
    }

    #[test]
    fn a_file_that_is_no_segment_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        let error = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).err().unwrap();
        assert!(error.to_string().contains("notes.txt"), "{error}");
    }

    /// Found by the fuzz target `ledger`: record 1 was written into it, and then the log was damaged.
    #[test]
    fn an_empty_segment_bears_witness_of_the_records_before_it() {
        for (name, good) in [("00000000000000000001.jsonl", true), ("00000000000000000003.jsonl", false)] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "").unwrap();
            let verified = scan::verify::<Plain>(dir.path()).map(drop);
            let opened = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).map(drop);
            for outcome in [verified, opened] {
                let damage =
                    matches!(&outcome, Err(LogError::Damaged { seq: 1, fault: Fault::Missing { found: 3 }, .. }));
                assert_eq!((outcome.is_ok(), damage), (good, !good), "{name}: {outcome:?}");
            }
        }
    }

    #[test]
    fn who_only_looks_leaves_everything_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let name = "00000000000000000001.jsonl";
        fs::write(dir.path().join(name), "torn").unwrap();
        assert_eq!(look::<Plain>(dir.path()).unwrap(), Head::GENESIS);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!((names, fs::read(dir.path().join(name)).unwrap()), (vec![name.into()], b"torn".to_vec()));
        let open = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
        assert!(look::<Plain>(dir.path()).unwrap_err().to_string().contains("in use by pid"));
        drop(open);
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        assert!(look::<Plain>(dir.path()).unwrap_err().to_string().contains("notes.txt"));
    }

    #[test]
    fn two_openers_cannot_share_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let first = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).unwrap();
        let error = Segments::open::<Plain>(dir.path(), SegmentConfig::default()).err().unwrap();
        assert!(error.to_string().contains("in use by pid"), "{error}");
        drop(first);
    }
}
