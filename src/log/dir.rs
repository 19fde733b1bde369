//! Directories that must be ours alone, and locks that name their holder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};
use nix::unistd::geteuid;

/// Write permission for group or others.
const OTHERS_WRITE: u32 = 0o022;

/// Any permission for group or others.
const OTHERS_ALL: u32 = 0o077;

/// A pid and a newline; anything longer in a lock file is not ours.
const MAX_PID_TEXT: u64 = 16;

/// What to do about a file that can't be written, where the system's word leaves that open.
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; make room there",
        io::ErrorKind::ReadOnlyFilesystem => {
            "; mount it to be written to, and let the unit write there (ReadWritePaths=)"
        }
        io::ErrorKind::PermissionDenied => "; the front's user must be able to write there",
        _ => "",
    }
}

/// What is wrong with the place that data is to be kept in.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Operator: missing or unreadable.
    #[error("{path}: {source}; it must exist and belong to the daemon's user")]
    Missing {
        /// The path.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Operator: a file, a link.
    #[error("{path}: is not a {wanted}")]
    Kind {
        /// The path.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Operator: somebody else's.
    #[error("{path}: belongs to uid {owner}, must belong to uid {expected} (chown it)")]
    Owner {
        /// The path.
        path: PathBuf,
        /// The uid that owns it.
        owner: u32,
        /// The uid that must own it.
        expected: u32,
    },
    /// Operator: more permissions than is safe.
    #[error("{path}: mode {mode:04o} lets others in, must be at most {at_most:04o} (chmod it)")]
    Mode {
        /// The path.
        path: PathBuf,
        /// The mode found.
        mode: u32,
        /// The widest mode allowed.
        at_most: u32,
    },
    /// Operator: a second daemon.
    #[error("{path}: is in use by pid {pid}; two daemons must not share it")]
    InUse {
        /// What is locked.
        path: PathBuf,
        /// The holder, as its lock file says; "unknown" when it does not.
        pid: String,
    },
    /// Host: locking failed.
    #[error("{path}: cannot lock: {source}{}", remedy(source))]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Checks that `dir` is a directory (no symbolic link) of our effective uid that nobody else can write to: whoever can
/// write there can replace what is in it.
pub fn require_private_dir(dir: &Path) -> Result<(), PlaceError> {
    let missing = |source| PlaceError::Missing { path: dir.to_owned(), source };
    let meta = fs::symlink_metadata(dir).map_err(missing)?;
    if !meta.is_dir() {
        return Err(PlaceError::Kind { path: dir.to_owned(), wanted: "directory" });
    }
    let expected = geteuid().as_raw();
    if meta.uid() != expected {
        return Err(PlaceError::Owner { path: dir.to_owned(), owner: meta.uid(), expected });
    }
    let mode = meta.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(PlaceError::Mode { path: dir.to_owned(), mode, at_most: 0o755 });
    }
    Ok(())
}

/// Checks that `file` is a regular file (no symbolic link) of our effective uid that nobody else can read or write.
pub fn require_private_file(file: &Path) -> Result<(), PlaceError> {
    let missing = |source| PlaceError::Missing { path: file.to_owned(), source };
    let meta = fs::symlink_metadata(file).map_err(missing)?;
    if !meta.is_file() {
        return Err(PlaceError::Kind { path: file.to_owned(), wanted: "regular file" });
    }
    let expected = geteuid().as_raw();
    if meta.uid() != expected {
        return Err(PlaceError::Owner { path: file.to_owned(), owner: meta.uid(), expected });
    }
    let mode = meta.mode() & 0o7777;
    if mode & OTHERS_ALL != 0 {
        return Err(PlaceError::Mode { path: file.to_owned(), mode, at_most: 0o600 });
    }
    Ok(())
}

/// Gives a directory that was just made to `uid`. The one above it may be another user's, who can put a link in its place
/// while we are still root: it is not followed.
pub fn give_dir(dir: &Path, uid: u32) -> io::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits()).open(dir)?;
    fchown(&opened, Some(uid), None)
}

/// An exclusive advisory lock (`flock`) on a file that holds the holder's pid. The kernel releases it when the process
/// ends, however it ends; the file stays, so that two starters cannot lock two different files of one name.
#[derive(Debug)]
pub struct PidLock {
    file: File,
}

impl PidLock {
    /// Locks `lock`, creating it with mode 0600, on behalf of `what`, which the error names.
    pub fn acquire(lock: &Path, what: &Path) -> Result<Self, PlaceError> {
        let failed = |source| PlaceError::Lock { path: lock.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(lock)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PlaceError::InUse { path: what.to_owned(), pid: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The pid is a help to whoever is locked out, no more: on a full disk the lock must still be had. Written before
        // it is cut to length, it needs no room where a pid was before.
        if let Err(error) = write_pid(&mut file) {
            tracing::warn!(name: "pid_not_written", lock = %lock.display(), %error, "the lock does not say whose it is");
        }
        Ok(Self { file })
    }

    /// Whether nobody has `lock` locked, by the kernel's word (proc_locks(5)), on behalf of `what`. For whoever only looks:
    /// to try the lock would keep out a daemon that starts just then.
    pub fn free(lock: &Path, what: &Path) -> Result<(), PlaceError> {
        let Ok(meta) = fs::symlink_metadata(lock) else { return Ok(()) };
        let file = format!("{:02x}:{:02x}:{}", major(meta.dev()), minor(meta.dev()), meta.ino());
        let all = fs::read_to_string("/proc/locks").unwrap_or_default();
        match all.lines().find_map(|line| locker(line, &file)) {
            Some(pid) => Err(PlaceError::InUse { path: what.to_owned(), pid: pid.to_owned() }),
            None => Ok(()),
        }
    }
}

/// Who has this file locked, in a line such as `1: FLOCK  ADVISORY  WRITE 708 fe:00:11996 0 EOF`.
fn locker<'l>(line: &'l str, file: &str) -> Option<&'l str> {
    let mut words = line.split_whitespace().skip(1);
    let (kind, pid, locked) = (words.next()?, words.nth(2)?, words.next()?);
    (kind == "FLOCK" && locked == file).then_some(pid)
}

impl Drop for PidLock {
    /// Closing alone would leave the lock with a child that another thread has forked and that has not come to its exec
    /// yet: such a child shares every open file, and so its locks (flock(2)).
    fn drop(&mut self) {
        // An error changes nothing: the descriptor is closed next.
        drop(self.file.unlock());
    }
}

fn write_pid(file: &mut File) -> io::Result<()> {
    let text = format!("{}\n", std::process::id());
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
}

/// The pid in a lock file. Only digits are believed: the text goes into a message.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(MAX_PID_TEXT).read_to_string(&mut text);
    let pid = text.trim_end();
    if read.is_err() || pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
        return "unknown".to_owned();
    }
    pid.to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        require_private_dir(dir.path()).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o775)).unwrap();
        let error = require_private_dir(dir.path()).unwrap_err();
        assert!(matches!(error, PlaceError::Mode { mode: 0o775, .. }), "{error}");
    }

    #[test]
    fn a_link_or_a_file_is_no_directory() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        symlink(dir.path(), &link).unwrap();
        assert!(matches!(require_private_dir(&link), Err(PlaceError::Kind { .. })));
        assert!(matches!(require_private_dir(&dir.path().join("none")), Err(PlaceError::Missing { .. })));
    }

    #[test]
    fn a_directory_is_given_away_and_what_a_link_points_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (own, link) = (dir.path().join("own"), dir.path().join("link"));
        fs::create_dir(&own).unwrap();
        symlink(&own, &link).unwrap();
        assert!(give_dir(&link, geteuid().as_raw()).is_err());
        give_dir(&own, geteuid().as_raw()).unwrap();
        if geteuid().is_root() {
            give_dir(&own, 12345).unwrap();
            assert_eq!(fs::metadata(&own).unwrap().uid(), 12345);
        }
    }

    #[test]
    fn a_full_disk_does_not_keep_the_lock_from_being_had() {
        // Every write to it fails for lack of room (full(4)), and it can't be cut to length.
        let full = Path::new("/dev/full");
        let _lock = PidLock::acquire(full, full).unwrap();
        let error = PidLock::acquire(full, full).unwrap_err().to_string();
        assert!(error.contains("in use by pid unknown"), "{error}");
    }

    #[test]
    fn who_only_looks_takes_no_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        PidLock::free(&path, dir.path()).unwrap();
        assert!(!path.exists());
        let held = PidLock::acquire(&path, dir.path()).unwrap();
        let error = PidLock::free(&path, dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
        drop(held);
        PidLock::free(&path, dir.path()).unwrap();
        let line = "1: FLOCK  ADVISORY  WRITE 708 fe:00:11996 0 EOF";
        assert_eq!(locker(line, "fe:00:11996"), Some("708"));
        assert_eq!(locker(line, "fe:00:1199"), None);
        assert_eq!(locker(&line.replace("FLOCK", "-> FLOCK"), "fe:00:11996"), None, "it waits");
        assert_eq!(locker(&line.replace("FLOCK", "POSIX"), "fe:00:11996"), None);
    }

    #[test]
    fn the_second_holder_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = PidLock::acquire(&path, dir.path()).unwrap();
        let error = PidLock::acquire(&path, dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by pid {}", std::process::id())), "{error}");
        let with_a_forked_child = first.file.try_clone().unwrap();
        drop(first);
        PidLock::acquire(&path, dir.path()).unwrap();
        drop(with_a_forked_child);
    }
}
