//! What the fuzz target `state` needs of this room: files in memory, and rows of any content.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::{Snapshot, StateError, file, rows};

/// How errors name the file.
pub const PATH: &str = "state.redb";

/// A damaged header may ask for any length; a disk would be full.
const MAX_LEN: u64 = 64 << 20;

/// A file in memory, which outlives the database on it.
#[derive(Clone, Debug)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    fn of(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(image)))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The range of `length` bytes at `offset`, as a file that ends before it would fail.
fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    Ok(start..start.checked_add(length).ok_or(io::ErrorKind::UnexpectedEof)?)
}

impl StorageBackend for Bytes {
    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.lock().len()).map_err(io::Error::other)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.lock();
        out.copy_from_slice(bytes.get(range(offset, out.len())?).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > MAX_LEN {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.lock().resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = range(offset, data.len())?;
        let end = u64::try_from(range.end).map_err(io::Error::other)?;
        if end > self.len()? {
            self.set_len(end)?;
        }
        self.lock().get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(data);
        Ok(())
    }
}

/// A commit: the JSON of the head, and key ids with the JSON of their records.
pub type Commit = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// The file after these commits: as a process leaves it that is killed, and as one leaves it that closes it. Every row has
/// the checksum that belongs to it.
///
/// # Errors
/// If the store can't be written.
pub fn images(commits: &[Commit]) -> Result<[Vec<u8>; 2], StateError> {
    let bytes = Bytes::of(Vec::new());
    let written = file::builder().create_with_backend(bytes.clone()).map_err(rows::RowError::from).and_then(|db| {
        commits.iter().try_for_each(|(head, keys)| rows::commit_json(&db, head, keys))?;
        Ok(bytes.lock().clone())
    });
    let killed = written.map_err(|error| error.at(Path::new(PATH)))?;
    let closed = std::mem::take(&mut *bytes.lock());
    Ok([killed, closed])
}

/// Opens a file as [`super::Store::open`] does, without its directory, lock and thread.
///
/// # Errors
/// As [`super::Store::open`].
pub fn open(image: Vec<u8>) -> Result<Snapshot, StateError> {
    let bytes = Bytes::of(image);
    let opener: file::Opener = Box::new(move || file::builder().create_with_backend(bytes.clone()));
    file::open(Path::new(PATH), &opener).map(|(_, snapshot)| snapshot)
}
