//! A copy of a file-based store, and of the list of pinned keys, before a ceremony changes either.

use super::CeremonyError;
use crate::hsm::{ModuleConfig, pins};
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Copies that are kept; the oldest go.
pub(super) const KEPT: usize = 8;
/// Where they are, in the signer's own directory.
const DIRECTORY: &str = "backups";
/// The one that is being made. What is left of an attempt that failed goes with the next, and is never counted.
const PARTIAL: &str = ".partial";
/// What a store may hold: SoftHSM keeps two files for each object in one directory a token.
const MAX_FILES: usize = 20_000;
const MAX_BYTES: u64 = 256 << 20;
const MAX_DEPTH: u32 = 3;

/// Copies, and returns where to; `None` if there is no file-based store and nothing is pinned yet.
pub(super) fn take(config: &ModuleConfig) -> Result<Option<PathBuf>, CeremonyError> {
    take_at_most(config, MAX_FILES, MAX_BYTES)
}

fn take_at_most(config: &ModuleConfig, max_files: usize, max_bytes: u64) -> Result<Option<PathBuf>, CeremonyError> {
    let listed = config.state_dir.join(pins::FILE);
    if config.store.is_none() && !listed.exists() {
        return Ok(None);
    }
    let all = config.state_dir.join(DIRECTORY);
    make_private(&all)?;
    let partial = all.join(PARTIAL);
    match std::fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fails(&partial, &error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&partial).map_err(|error| fails(&partial, &error))?;
    let mut copy = Copy { files: 0, bytes: 0, max_files, max_bytes };
    if let Some(store) = &config.store {
        copy.directory(store, &partial.join("store"), 0)?;
    }
    if listed.exists() {
        copy.file(&listed, &partial.join(pins::FILE))?;
    }
    sync(&partial)?;
    // It never replaces another: a directory that is not empty can't be renamed over.
    let target = all.join(name_of_now());
    std::fs::rename(&partial, &target).map_err(|error| fails(&target, &error))?;
    sync(&all)?;
    prune(&all, &target)?;
    Ok(Some(target))
}

/// Removes all copies, since they hold a key that was destroyed, and copies what is left.
pub(super) fn purge(config: &ModuleConfig) -> Result<(), CeremonyError> {
    let all = config.state_dir.join(DIRECTORY);
    let entries = match std::fs::read_dir(&all) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fails(&all, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| fails(&all, &error))?.path();
        std::fs::remove_dir_all(&path).map_err(|error| fails(&path, &error))?;
    }
    sync(&all)?;
    take(config).map(drop)
}

fn fails(path: &Path, reason: &impl ToString) -> CeremonyError {
    CeremonyError::Backup { path: path.to_owned(), reason: reason.to_string() }
}

fn make_private(path: &Path) -> Result<(), CeremonyError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fails(path, &error)),
        _ => Ok(()),
    }
}

/// The time to the microsecond, so that names sort by age; two ceremonies never run at once.
fn name_of_now() -> String {
    jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S.%6fZ").to_string()
}

/// What was copied so far.
struct Copy {
    files: usize,
    bytes: u64,
    max_files: usize,
    max_bytes: u64,
}

impl Copy {
    fn directory(&mut self, from: &Path, to: &Path, depth: u32) -> Result<(), CeremonyError> {
        if depth > MAX_DEPTH {
            return Err(fails(from, &"it is nested too deeply for a token store"));
        }
        DirBuilder::new().mode(0o700).create(to).map_err(|error| fails(to, &error))?;
        for entry in std::fs::read_dir(from).map_err(|error| fails(from, &error))? {
            let entry = entry.map_err(|error| fails(from, &error))?;
            let (source, target) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().map_err(|error| fails(&source, &error))?;
            if kind.is_dir() {
                self.directory(&source, &target, depth + 1)?;
            } else if kind.is_file() {
                self.file(&source, &target)?;
            } else {
                return Err(fails(&source, &"it is neither a file nor a directory"));
            }
        }
        sync(to)
    }

    fn file(&mut self, from: &Path, to: &Path) -> Result<(), CeremonyError> {
        self.files += 1;
        if self.files > self.max_files {
            return Err(fails(from, &format!("there are more than {} files", self.max_files)));
        }
        let source = rustix::fs::open(from, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let source = File::from(source.map_err(|errno| fails(from, &errno))?);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::open(to, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| fails(to, &errno))?;
        let mut target = File::from(target);
        let left = self.max_bytes.saturating_sub(self.bytes);
        let copied = std::io::copy(&mut source.take(left + 1), &mut target).map_err(|error| fails(to, &error))?;
        if copied > left {
            return Err(fails(from, &format!("the store is larger than {} bytes", self.max_bytes)));
        }
        self.bytes += copied;
        target.flush().and_then(|()| target.sync_all()).map_err(|error| fails(to, &error))
    }
}

fn sync(directory: &Path) -> Result<(), CeremonyError> {
    File::open(directory).and_then(|open| open.sync_all()).map_err(|error| fails(directory, &error))
}

/// Removes all but the newest [`KEPT`], of which `newest` is one. Names that come after it are from a clock that was ahead:
/// they are older than they say, and go first.
fn prune(all: &Path, newest: &Path) -> Result<(), CeremonyError> {
    let mut others: Vec<PathBuf> =
        std::fs::read_dir(all).map_err(|error| fails(all, &error))?.flatten().map(|entry| entry.path()).collect();
    others.retain(|path| path != newest);
    others.sort_by(|a, b| (a.as_path() < newest, a).cmp(&(b.as_path() < newest, b)));
    let old = (others.len() + 1).saturating_sub(KEPT);
    for path in others.into_iter().take(old) {
        std::fs::remove_dir_all(&path).map_err(|error| fails(&path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hsm::TokenChoice;
    use std::os::unix::fs::MetadataExt;
    use std::time::Duration;

    fn config(dir: &tempfile::TempDir) -> ModuleConfig {
        let state_dir = dir.path().join("state");
        let store = dir.path().join("store");
        std::fs::create_dir(&state_dir).unwrap();
        std::fs::create_dir_all(store.join("token")).unwrap();
        std::fs::write(store.join("token/a.object"), b"object").unwrap();
        ModuleConfig {
            fleeting: None,
            module: PathBuf::new(),
            token: TokenChoice::default(),
            sessions: 1,
            op_timeout: Duration::ZERO,
            login_timeout: Duration::from_secs(60),
            max_stuck: 4,
            keepalive: None,
            recycle_kib: None,
            queue: 1,
            state_dir,
            store: Some(store),
            module_config: None,
            module_env: String::new(),
        }
    }

    #[test]
    fn the_copy_is_whole_private_and_one_of_the_last_eight() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        std::fs::write(config.state_dir.join(pins::FILE), b"{}").unwrap();
        let first = take(&config).unwrap().unwrap();
        assert_eq!(std::fs::read(first.join("store/token/a.object")).unwrap(), b"object");
        assert_eq!(std::fs::read(first.join(pins::FILE)).unwrap(), b"{}");
        for path in [first.clone(), first.join("store"), first.join("store/token")] {
            assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o700);
        }
        assert_eq!(std::fs::metadata(first.join("store/token/a.object")).unwrap().mode() & 0o7777, 0o600);
        let later: Vec<PathBuf> = (0..KEPT).map(|_| take(&config).unwrap().unwrap()).collect();
        assert!(!first.exists() && later.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_cost_the_newest_copy() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        let all = config.state_dir.join(DIRECTORY);
        let future = |n: usize| all.join(format!("29990101T00000{n}.000000Z"));
        (0..KEPT).for_each(|n| std::fs::create_dir_all(future(n)).unwrap());
        let taken: Vec<PathBuf> = (0..KEPT).map(|_| take(&config).unwrap().unwrap()).collect();
        assert!(taken.iter().all(|path| path.join("store/token/a.object").exists()), "{taken:?}");
        assert!((0..KEPT).all(|n| !future(n).exists()));
    }

    #[test]
    fn attempts_that_failed_leave_the_whole_copies_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        let link = config.store.as_ref().unwrap().join("link");
        let whole = take(&config).unwrap().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &link).unwrap();
        (0..KEPT).for_each(|_| assert!(take(&config).is_err()));
        std::fs::remove_file(&link).unwrap();
        let next = take(&config).unwrap().unwrap();
        assert!(whole.join("store/token/a.object").exists() && next.join("store/token/a.object").exists());
        assert_eq!(std::fs::read_dir(config.state_dir.join(DIRECTORY)).unwrap().count(), 2, "no leftovers");
    }

    #[test]
    fn so_many_files_and_bytes_are_copied_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        let token = config.store.as_ref().unwrap().join("token");
        for file in ["b", "c"] {
            std::fs::write(token.join(file), [0; 100]).unwrap();
        }
        let bytes = 200 + b"object".len() as u64;
        assert!(take_at_most(&config, 3, bytes).unwrap().is_some());
        for (files, bytes, words) in [(2, bytes, "more than 2 files"), (3, bytes - 1, "larger than 205 bytes")] {
            let refused = take_at_most(&config, files, bytes).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
        let nested = token.join("2/3");
        std::fs::create_dir_all(&nested).unwrap();
        assert!(take(&config).is_ok(), "as deep as the bound");
        std::fs::create_dir(nested.join("4")).unwrap();
        assert!(take(&config).unwrap_err().to_string().contains("nested too deeply"));
    }

    #[test]
    fn links_out_of_the_store_stop_the_ceremony() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(&dir);
        std::os::unix::fs::symlink("/etc/passwd", config.store.as_ref().unwrap().join("link")).unwrap();
        let refused = take(&config).unwrap_err().to_string();
        assert!(refused.contains("nothing was changed") && refused.contains("link"), "{refused}");
    }

    #[test]
    fn without_a_store_or_pins_there_is_nothing_to_copy() {
        let dir = tempfile::tempdir().unwrap();
        let config = ModuleConfig { store: None, ..config(&dir) };
        assert_eq!(take(&config).unwrap(), None);
        assert_eq!(std::fs::read_dir(&config.state_dir).unwrap().count(), 0);
    }
}
