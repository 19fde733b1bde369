//! A disk that fails under one file of a front that the test starts.

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use fault_module::DISK;
use nix::errno::Errno;
use tempfile::TempDir;

use super::{Options, Roles, fault_module as module};

/// What is the matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// As a file system that was made read-only, as ext4 does it after an error: what is open can't be written, and nothing is opened for
    /// writing.
    ReadOnly,
    /// Writes fail: EIO.
    Write,
    /// A sync fails, and nobody knows what has come to the disk: EIO.
    Sync,
    /// A sync takes so many milliseconds longer.
    Slow(i64),
}

/// The disk of a front.
pub(crate) struct Disk {
    dir: TempDir,
}

impl Disk {
    /// One that is well so far.
    pub(crate) fn new() -> Self {
        let disk = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(disk.file(), [0; 32]).unwrap();
        disk
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// The options of a house whose front has it.
    pub(crate) fn options(&self, options: Options) -> Options {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let options = options.roles(Roles::Apart).environment("front", "LD_PRELOAD", &text(module::path()));
        options.environment("front", DISK, &text(self.file()))
    }

    /// From now on this file is in trouble.
    pub(crate) fn fails(&self, path: &Path, trouble: Trouble) {
        let found = fs::metadata(path).unwrap();
        self.write(16, [found.dev().cast_signed(), found.ino().cast_signed()]);
        self.write(
            0,
            match trouble {
                Trouble::ReadOnly => [0, Errno::EROFS as i64],
                Trouble::Write => [0, Errno::EIO as i64],
                Trouble::Sync => [Errno::EIO as i64, 0],
                Trouble::Slow(ms) => [-ms, 0],
            },
        );
    }

    /// It is well again.
    pub(crate) fn recovers(&self) {
        self.write(0, [0, 0]);
    }

    fn write(&self, at: u64, numbers: [i64; 2]) {
        // In place: it is mapped.
        let file = fs::File::options().write(true).open(self.file()).unwrap();
        file.write_all_at(&numbers.map(i64::to_ne_bytes).concat(), at).unwrap();
    }
}
