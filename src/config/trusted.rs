//! Reading a file that decides what code is loaded and what is signed.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

use super::error::Fault;

/// Largest configuration file. Ours has about 50 settings.
pub(super) const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Reads `path` if only root, or a `reader` that is not root itself, can change it. The check is on the open file,
/// so that nobody can swap it in between.
pub(super) fn read(path: &Path, reader: u32) -> Result<String, Fault> {
    let unreadable = |reason| Fault::Unreadable { path: path.to_path_buf(), reason };
    // Opening a FIFO would wait for a writer without O_NONBLOCK.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if let Some(problem) = problem(&meta, reader) {
        return Err(Fault::Untrusted { path: path.to_path_buf(), problem });
    }
    let text = bounded(file).map_err(unreadable)?;
    String::from_utf8(text)
        .map_err(|_| Fault::Untrusted { path: path.to_path_buf(), problem: "is not UTF-8 text".to_owned() })
}

fn bounded(file: File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut text)?;
    Ok(text)
}

fn problem(meta: &Metadata, reader: u32) -> Option<String> {
    let (owner, mode) = (meta.uid(), meta.mode() & 0o7777);
    if !meta.is_file() {
        return Some("is not a regular file; move it away, and write one".to_owned());
    }
    if owner != 0 && owner != reader {
        return Some(format!("belongs to uid {owner}; it must belong to root: chown root"));
    }
    if mode & 0o022 != 0 {
        return Some(format!("has mode {mode:04o}; group and others must not be able to write it: chmod go-w"));
    }
    let size = meta.len();
    (size >= MAX_FILE_BYTES).then(|| format!("has {size} bytes; it must be smaller than {MAX_FILE_BYTES}"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn me() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    #[test]
    fn only_files_that_nobody_else_can_write_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        fs::write(&path, "x = 1").unwrap();
        for (mode, good) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path, me()).is_ok(), good, "{mode:o}");
        }
        assert!(matches!(read(dir.path(), me()), Err(Fault::Untrusted { .. })), "a directory");
        assert!(matches!(read(&dir.path().join("absent"), me()), Err(Fault::Unreadable { .. })));
    }

    #[test]
    fn another_owner_a_fifo_and_a_large_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let owner = fs::metadata(&path).unwrap().uid();
        assert_eq!(read(&path, owner.wrapping_add(1)).is_ok(), owner == 0, "root's file is good for everybody");

        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(read(&fifo, me()).unwrap_err().to_string().contains("regular"), "and opening it does not hang");

        fs::write(&path, vec![b'#'; usize::try_from(MAX_FILE_BYTES).unwrap()]).unwrap();
        assert!(read(&path, me()).unwrap_err().to_string().contains("smaller"));
    }
}
