//! The file of the store: made, and opened.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use redb::{Builder, Database, DatabaseError};

use super::StateError;
use super::epochs::Epochs;
use super::kept::Kept;
use super::rows::{self, Meta, Rows};
use super::store::Snapshot;
use crate::clock::Moment;

/// redb's page cache: reads are served from the snapshot, so a little is enough (redb's own default is 1 GiB).
const CACHE_BYTES: usize = 1024 * 1024;

/// Opens the database once more, after a failure too.
pub(super) type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

pub(super) fn builder() -> Builder {
    let mut builder = Builder::new();
    // Without it redb trusts a file that it closed cleanly, and may panic on one that was altered since.
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

pub(super) fn new_meta(now: Moment) -> Meta {
    Meta { created: now.unix(), audit_seq: 0, generation: 0, longest_s: 0, mark: now.unix(), ..Meta::default() }
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Makes the file under another name and renames it when it is whole, so that a crash leaves either none or a good one.
pub(super) fn create(dir: &Path, path: &Path, now: Moment) -> Result<(), StateError> {
    let io_error = |e: std::io::Error| StateError::of_host(path, &e);
    let unfinished = draft(path, &Rows::default(), &new_meta(now))?;
    fs::rename(&unfinished, path).map_err(io_error)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error)
}

/// Makes a file of these rows, durably, beside `path`; its name.
pub(super) fn draft(path: &Path, rows: &Rows, meta: &Meta) -> Result<PathBuf, StateError> {
    let io_error = |e: std::io::Error| StateError::of_host(path, &e);
    let unfinished = beside(path, ".new");
    match fs::remove_file(&unfinished) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error(e)),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    drop(options.open(&unfinished).map_err(io_error)?);
    let db = builder().create(&unfinished).map_err(|e| rows::RowError::from(e).at(path))?;
    rows::commit(&db, rows, meta).map_err(|e| e.at(path))?;
    drop(db);
    File::open(&unfinished).and_then(|file| file.sync_all()).map_err(io_error)?;
    Ok(unfinished)
}

/// What is in a file.
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) snapshot: Snapshot,
    pub(super) kept: Kept,
}

pub(super) fn open(path: &Path, opener: &Opener) -> Result<Opened, StateError> {
    let opened = rows::guarded(|| {
        let db = opener()?;
        let (meta, keys, kept) = rows::load(&db)?;
        Ok((db, meta, keys, kept))
    });
    let (db, meta, keys, kept) = opened.map_err(|e| e.at(path))?;
    let own = kept.epochs().map(|(tenant, epoch)| (tenant.to_owned(), epoch)).collect();
    let epochs = Epochs { floor: meta.floor, own };
    Ok(Opened { db, snapshot: Snapshot::new(&meta, Arc::new(keys), Arc::new(epochs)), kept })
}
