//! How much room a log takes, and how much there is.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::names::Name;

/// A log's room on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files of lines, compressed ones included.
    pub segments: u64,
    /// Their size, in bytes.
    pub bytes: u64,
    /// What its file system has left for us, in bytes.
    pub free: u64,
}

/// That of the log in `dir`, as it is just now.
///
/// # Errors
/// Of the system.
pub fn usage(dir: &Path) -> io::Result<Usage> {
    let space = statvfs(dir)?;
    let free = space.blocks_available().saturating_mul(space.fragment_size());
    let mut usage = Usage { free, ..Usage::default() };
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().and_then(Name::of_file).is_none() {
            continue;
        }
        match entry.metadata() {
            Ok(meta) => {
                usage.segments += 1;
                usage.bytes = usage.bytes.saturating_add(meta.len());
            }
            // One that was removed just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_and_nothing_beside_them() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in
            [("00000000000000000001.jsonl.gz", 5), ("00000000000000000007.jsonl", 7), ("lock", 100), ("base", 90)]
        {
            fs::write(dir.path().join(name), vec![0; bytes]).unwrap();
        }
        let found = usage(dir.path()).unwrap();
        assert_eq!((found.segments, found.bytes), (2, 12));
        assert!(found.free > 0);
        assert!(usage(&dir.path().join("none")).is_err());
    }
}
