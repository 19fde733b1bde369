//! Files that are there whole or not at all: written beside their place under another name, made durable, and then put there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// A file that goes away again unless it was renamed.
struct Draft {
    path: PathBuf,
    renamed: bool,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.renamed {
            // Whatever kept us from the rename is the error that is told.
            drop(fs::remove_file(&self.path));
        }
    }
}

fn directory(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// How the names of drafts begin.
const DRAFT: &str = ".passportd-";

/// Removes the drafts in `dir` that a crash has left there, as far as that works. Nobody may be making one there.
pub fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let unique = name.to_str().and_then(|name| name.strip_prefix(DRAFT));
        if unique.is_some_and(|unique| uuid::Uuid::try_parse(unique).is_ok())
            && entry.file_type().is_ok_and(|kind| kind.is_file())
        {
            // What stays takes room, no more.
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn draft(dir: &Path, bytes: &[u8], mode: u32) -> io::Result<Draft> {
    // A name of its own length: the file's may be the longest that there is. O_EXCL follows no link and opens nothing
    // that somebody put there.
    let path = dir.join(format!("{DRAFT}{}", uuid::Uuid::now_v7().simple()));
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let draft = Draft { path, renamed: false };
    new.write_all(bytes)?;
    // Not left to the umask.
    new.set_permissions(Permissions::from_mode(mode))?;
    new.sync_all()?;
    Ok(draft)
}

/// Puts `bytes` in the place of `file`, durably.
///
/// # Errors
/// Of the system; `file` is as it was, unless only the directory could not be made durable.
pub fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = directory(file);
    let mut draft = draft(dir, bytes, mode)?;
    fs::rename(&draft.path, file)?;
    draft.renamed = true;
    // The rename is durable once the directory is.
    File::open(dir)?.sync_all()
}

/// Makes `file` with `bytes`, durably; it must not be there yet.
///
/// # Errors
/// Of the system; `AlreadyExists` among them.
pub fn create(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = directory(file);
    let draft = draft(dir, bytes, mode)?;
    // Unlike a rename, a link replaces nothing.
    fs::hard_link(&draft.path, file)?;
    drop(draft);
    File::open(dir)?.sync_all()
}

/// What is in `file` now, its first `most` bytes; none where nothing is. Nothing but a regular file is read, since nothing else is
/// meant to be replaced.
///
/// # Errors
/// Of the system; `InvalidInput` for what is no regular file.
pub fn current(file: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(there) if !there.is_file() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file, so it is not replaced; name another, or where a symbolic link leads",
        )),
        Ok(_) => {
            let most = u64::try_from(most).unwrap_or(u64::MAX);
            let mut bytes = Vec::new();
            File::open(file)?.take(most).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_replaced_unless_it_is_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        create(&file, b"one", 0o600).unwrap();
        assert_eq!(create(&file, b"two", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"one");
        replace(&file, b"two", 0o640).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn what_a_crash_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        draft(dir.path(), b"half", 0o600).unwrap().renamed = true;
        for other in [".passportd-mine", "latest", "passportd-0190b0d0a9f07000800000000000000a"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        sweep(dir.path());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        sweep(&dir.path().join("none"));
    }

    #[test]
    fn only_regular_files_are_read_and_no_more_than_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        assert_eq!(current(&file, 3).unwrap(), None);
        fs::write(&file, "older").unwrap();
        assert_eq!(current(&file, 3).unwrap(), Some(b"old".to_vec()));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for other in [link.as_path(), dir.path(), Path::new("/dev/null")] {
            let error = current(other, 3).unwrap_err().to_string();
            assert!(error.contains("no regular file"), "{}: {error}", other.display());
        }
    }
}
