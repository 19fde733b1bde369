//! Looking at the store's file without touching it: it is read into memory, and checked there.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::OFlag;
use redb::StorageBackend;

use super::file::{self, beside};
use super::{Snapshot, StateError};
use crate::log::PidLock;

/// The longest file that is looked at. The same bounds what is in memory: a damaged header may ask for any length.
pub const MAX_LOOK: u64 = 1 << 30;

/// Checks every page and row of the file, as [`super::Store::open`] does, and leaves it as it is: no lock is taken, so
/// that a daemon which starts meanwhile is not kept out, and what opening repairs is repaired in memory.
///
/// # Errors
/// [`StateError::Place`] while a daemon has it open, since what it is writing is neither old nor new; otherwise as
/// [`super::Store::open`], and [`StateError::Io`] for a file longer than [`MAX_LOOK`].
pub fn look(path: &Path) -> Result<Snapshot, StateError> {
    look_up_to(path, MAX_LOOK)
}

fn look_up_to(path: &Path, most: u64) -> Result<Snapshot, StateError> {
    open(path, Bytes::of(image(path, most)?))
}

/// The file's bytes, while no daemon has it open.
pub(super) fn image(path: &Path, most: u64) -> Result<Vec<u8>, StateError> {
    PidLock::free(&beside(path, ".lock"), path)?;
    bytes_of(path, most)
}

/// The same for whoever has the lock.
pub(super) fn bytes_of(path: &Path, most: u64) -> Result<Vec<u8>, StateError> {
    let io_error = |error: io::Error| StateError::of_host(path, &error);
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(io_error)?;
    let mut image = Vec::new();
    opened.take(most + 1).read_to_end(&mut image).map_err(io_error)?;
    if u64::try_from(image.len()).unwrap_or(u64::MAX) > most {
        return Err(StateError::Io { path: path.to_owned(), what: format!("is longer than {most} bytes") });
    }
    Ok(image)
}

/// Opens a file in memory.
pub(super) fn open(path: &Path, bytes: Bytes) -> Result<Snapshot, StateError> {
    let opener: file::Opener = Box::new(move || file::builder().create_with_backend(bytes.clone()));
    file::open(path, &opener).map(|opened| opened.snapshot)
}

/// A file in memory, which outlives the database on it.
#[derive(Clone, Debug)]
pub(super) struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    pub(super) fn of(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(image)))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
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
        if len > MAX_LOOK {
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Mode, Store};
    use super::*;
    use crate::clock::Moment;

    #[test]
    fn what_is_looked_at_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.redb");
        let store = Store::open(&path, Mode::CreateIfMissing, Moment::from_unix(7)).unwrap();
        let open = look(&path).unwrap_err().to_string();
        assert!(open.contains(&format!("is in use by pid {}", std::process::id())), "{open}");
        // As a process leaves it that is killed: opening it repairs it.
        let killed = fs::read(&path).unwrap();
        assert!(store.close());
        let lock = beside(&path, ".lock");
        fs::remove_file(&lock).unwrap();
        for image in [fs::read(&path).unwrap(), killed] {
            fs::write(&path, &image).unwrap();
            assert_eq!(look(&path).unwrap().created, 7);
            assert!(fs::read(&path).unwrap() == image && !lock.exists());
        }
        fs::write(&path, [0x5a; 4096]).unwrap();
        assert!(matches!(look(&path), Err(StateError::Corrupt { .. })));
        let grow = |bytes| fs::File::options().write(true).open(&path).unwrap().set_len(bytes).unwrap();
        // As with the whole, which would take that much memory here.
        const MOST: u64 = 1 << 20;
        grow(MOST);
        assert!(matches!(look_up_to(&path, MOST), Err(StateError::Corrupt { .. })), "so much is read");
        grow(MOST + 1);
        assert!(look_up_to(&path, MOST).unwrap_err().to_string().contains("is longer than"));
        assert!(matches!(look(&dir.path().join("none")), Err(StateError::Io { .. })));
    }
}
