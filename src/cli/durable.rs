//! Files that are there whole or not at all: written beside their place under another name, made durable, and then put there.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
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

fn draft(dir: &Path, bytes: &[u8], mode: u32) -> io::Result<Draft> {
    // A name of its own length: the file's may be the longest that there is. O_EXCL follows no link and opens nothing
    // that somebody put there.
    let path = dir.join(format!(".passportctl-{}", uuid::Uuid::now_v7().simple()));
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let draft = Draft { path, renamed: false };
    new.write_all(bytes)?;
    // Not left to the umask.
    new.set_permissions(Permissions::from_mode(mode))?;
    new.sync_all()?;
    Ok(draft)
}

/// Puts `bytes` in the place of `file`, durably.
pub(super) fn replace(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = directory(file);
    let mut draft = draft(dir, bytes, mode)?;
    fs::rename(&draft.path, file)?;
    draft.renamed = true;
    // The rename is durable once the directory is.
    File::open(dir)?.sync_all()
}

/// Makes `file` with `bytes`, durably; it must not be there yet.
pub(super) fn create(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = directory(file);
    let draft = draft(dir, bytes, mode)?;
    // Unlike a rename, a link replaces nothing.
    fs::hard_link(&draft.path, file)?;
    drop(draft);
    File::open(dir)?.sync_all()
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
}
