//! What is done to the file while no daemon runs. Each takes the lock, so that none starts meanwhile.

use std::fs::{self, File};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use super::epochs::{Done, MAX_PENDING, Pending};
use super::file::{self, beside, draft};
use super::look::{self, Bytes, MAX_LOOK, bytes_of, image};
use super::rows::{self, Meta, RowError, Rows};
use super::{Snapshot, StateError, dump};
use crate::clock::Moment;
use crate::log::{PidLock, require_private_dir, require_private_file};

/// Generations of a restored state begin beyond what was there: so many a second can't have been since 1970.
const GENERATIONS_A_SECOND: u64 = 1 << 20;

/// Who does it, when and why.
#[derive(Clone, Debug)]
pub struct By {
    /// The uid.
    pub uid: u32,
    /// The present.
    pub now: Moment,
    /// Why, for the audit record.
    pub reason: String,
}

/// Writes everything that the file holds as text, one row a line. How many lines.
///
/// # Errors
/// As [`look`]; [`StateError::Io`] when `out` can't be written.
pub fn export(path: &Path, out: &mut dyn Write) -> Result<usize, StateError> {
    let (meta, rows) = read(path)?;
    dump::write(&meta, &rows, out).map_err(|error| StateError::of_host(path, &error))
}

/// Makes the file `path`, which must not be there, of what [`export`] has written; `from` is its name in errors.
///
/// # Errors
/// [`StateError::Corrupt`] for a text that is not exactly what was written; [`StateError::Io`] and [`StateError::Place`].
pub fn import(path: &Path, from: &Path, text: &mut dyn BufRead) -> Result<Snapshot, StateError> {
    let _lock = locked(path)?;
    if path.symlink_metadata().is_ok() {
        let what = "is there already; a state is imported into a new file only".to_owned();
        return Err(StateError::Io { path: path.to_owned(), what });
    }
    let (meta, rows) = dump::read(text).map_err(|what| StateError::Text { path: from.to_owned(), what })?;
    let unfinished = draft(path, &rows, &meta)?;
    // Unlike a rename, a link replaces nothing.
    let linked = fs::hard_link(&unfinished, path);
    drop(fs::remove_file(&unfinished));
    linked.and_then(|()| synced(path)).map_err(|error| StateError::of_host(path, &error))?;
    again(path)
}

/// A copy of the file from another time, as it was read.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Backup {
    /// Reads it whole: whoever restores it may not have the right to.
    ///
    /// # Errors
    /// As [`look`].
    pub fn read(path: &Path) -> Result<Self, StateError> {
        Ok(Self { path: path.to_owned(), bytes: image(path, MAX_LOOK)? })
    }
}

/// What a restore comes to.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What the backup holds.
    pub backup: Snapshot,
    /// Where the file went that was there, if there was one.
    pub aside: Option<PathBuf>,
}

/// Puts a copy of `backup` in the place of the file, which is kept beside it under another name. The next daemon that opens it
/// puts that on record and ends every tenant's epoch: what was issued since the backup, and may have been revoked or used up,
/// is worth nothing. With `only_look` nothing is changed.
///
/// # Errors
/// [`StateError`]; the file is as it was.
pub fn restore(path: &Path, backup: &Backup, by: &By, only_look: bool) -> Result<Restored, StateError> {
    let _lock = locked(path)?;
    let Backup { path: source, bytes } = backup;
    if path.canonicalize().is_ok_and(|own| source.canonicalize().is_ok_and(|other| own == other)) {
        let what = "is the state itself, not a backup of it".to_owned();
        return Err(StateError::Io { path: source.clone(), what });
    }
    let (mut meta, rows) = decoded(source, bytes.clone())?;
    let found = look::open(source, Bytes::of(bytes.clone()))?;
    // Where it can still be read, what must not go back does not.
    let there = path.symlink_metadata().is_ok();
    let known = read_locked(path).ok().map(|(meta, _)| meta);
    let aside = there.then(|| beside(path, &format!(".replaced-{}", by.now.micros())));
    if only_look {
        return Ok(Restored { backup: found, aside });
    }
    let done = Done::Restored { audit_seq: meta.audit_seq };
    pend(path, &mut meta, done, by)?;
    let second = u64::try_from(by.now.unix()).unwrap_or(0).saturating_mul(GENERATIONS_A_SECOND);
    let before = known.as_ref().map_or(0, |known| known.generation).max(meta.generation);
    meta.generation = before.saturating_add(1).max(second);
    if let Some(known) = known {
        meta.mark = meta.mark.max(known.mark);
        meta.floor = meta.floor.max(known.floor);
        meta.longest_s = meta.longest_s.max(known.longest_s);
    }
    let unfinished = draft(path, &rows, &meta)?;
    let io_error = |error: io::Error| StateError::of_host(path, &error);
    if let Some(aside) = &aside {
        fs::hard_link(path, aside).map_err(io_error)?;
    }
    fs::rename(&unfinished, path).and_then(|()| synced(path)).map_err(io_error)?;
    again(path)?;
    Ok(Restored { backup: found, aside })
}

/// Sets the mark of the clock to the present: the clock that stands before it, or absurdly far ahead, is right. The next daemon
/// that opens the file puts that on record and ends every tenant's epoch: what had expired by the old mark is worth nothing.
/// The mark before. With `only_look` nothing is changed.
///
/// # Errors
/// [`StateError`]; the file is as it was.
pub fn reset_clock(path: &Path, by: &By, only_look: bool) -> Result<i64, StateError> {
    let _lock = locked(path)?;
    require_private_file(path)?;
    let known = read_locked(path)?.0.mark;
    if only_look {
        return Ok(known);
    }
    let changed = rows::guarded(|| {
        let db = file::builder().open(path)?;
        let (mut meta, ..) = rows::load(&db)?;
        let done = Done::ClockReset { from: meta.mark, to: by.now.unix() };
        if let Err(error) = pend(path, &mut meta, done, by) {
            return Ok(Err(error));
        }
        meta.mark = by.now.unix();
        meta.generation = meta.generation.saturating_add(1);
        rows::commit(&db, &Rows::default(), &meta).map(Ok)
    });
    changed.map_err(|error| error.at(path))?.map(|()| known)
}

fn pend(path: &Path, meta: &mut Meta, what: Done, by: &By) -> Result<(), StateError> {
    if meta.pending.len() >= MAX_PENDING {
        let what = format!("was restored or reset {MAX_PENDING} times without a start; start the daemon first");
        return Err(StateError::Io { path: path.to_owned(), what });
    }
    meta.pending.push(Pending { what, at: by.now.unix(), uid: by.uid, reason: by.reason.clone() });
    Ok(())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn locked(path: &Path) -> Result<PidLock, StateError> {
    require_private_dir(directory(path))?;
    Ok(PidLock::acquire(&beside(path, ".lock"), path)?)
}

fn synced(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// What is in the file, while no daemon has it open.
fn read(path: &Path) -> Result<(Meta, Rows), StateError> {
    decoded(path, image(path, MAX_LOOK)?)
}

/// The same while we have the lock.
fn read_locked(path: &Path) -> Result<(Meta, Rows), StateError> {
    decoded(path, bytes_of(path, MAX_LOOK)?)
}

fn decoded(path: &Path, image: Vec<u8>) -> Result<(Meta, Rows), StateError> {
    let all = rows::guarded(|| {
        let db = file::builder().create_with_backend(Bytes::of(image)).map_err(RowError::from)?;
        dump::all(&db)
    });
    all.map_err(|error| error.at(path))
}

/// What was written is read back before anybody is told that it is there.
fn again(path: &Path) -> Result<Snapshot, StateError> {
    look::open(path, Bytes::of(bytes_of(path, MAX_LOOK)?))
}
