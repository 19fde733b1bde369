//! Reading a policy directory. Whoever can write to it decides who may do what, so its owner and mode are checked.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::Arc,
};

use super::{
    build,
    decide::Policy,
    error::PolicyError,
    names::{Names, Overflow},
};

/// The most files of a policy.
pub const MAX_FILES: usize = 256;
/// The largest file of a policy, in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;

/// One file of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its name within the directory.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Policy {
    /// Reads the `*.toml` files of `dir` in the order of their names; names that begin with a dot are left out, for
    /// editors put their drafts there. An empty directory is a policy under which nobody may do anything.
    ///
    /// # Errors
    /// Names the file, and the line and column, and says what to do. Nothing is taken of a policy with an error.
    pub fn load(dir: &Path, names: &dyn Names, overflow: Overflow) -> Result<Self, PolicyError> {
        Self::from_files(dir, read(dir)?, names, overflow)
    }

    /// Makes a policy of files that were read already; `dir` is only named in messages.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn from_files(
        dir: &Path,
        mut files: Vec<PolicyFile>,
        names: &dyn Names,
        overflow: Overflow,
    ) -> Result<Self, PolicyError> {
        files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let (rules, templates) = build::build(dir, &files, names, overflow)?;
        let dir = Arc::from(dir.to_string_lossy().as_ref());
        Ok(Self { dir, rules, templates, hash: hash(&files), overflow })
    }
}

/// The hash over the sorted files. Lengths stand before names and bytes, so that no two policies run together.
fn hash(files: &[PolicyFile]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in files.iter().flat_map(|file| [file.name.as_bytes(), &file.bytes]) {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Reads the files of a directory.
fn read(dir: &Path) -> Result<Vec<PolicyFile>, PolicyError> {
    let failed = |source| PolicyError::Read { path: dir.into(), source };
    secure(dir, &fs::metadata(dir).map_err(failed)?)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if name.starts_with('.') || !name.ends_with(".toml") {
            continue;
        }
        if files.len() == MAX_FILES {
            return Err(PolicyError::TooMuch { path: dir.into(), what: "the number of files", max: MAX_FILES });
        }
        files.push(PolicyFile { name: name.to_owned(), bytes: read_file(&path)? });
    }
    Ok(files)
}

/// Reads one file, of which no more than the limit is ever in memory.
fn read_file(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let failed = |source| PolicyError::Read { path: path.into(), source };
    // Looked at before it is opened, for opening a FIFO would wait for its writer; and again as it is open, so that
    // what was checked is what is read.
    regular(path, &fs::metadata(path).map_err(failed)?)?;
    let file = fs::File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    regular(path, &metadata)?;
    secure(path, &metadata)?;
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(PolicyError::TooMuch { path: path.into(), what: "the size in bytes", max: MAX_FILE_BYTES });
    }
    Ok(bytes)
}

/// Makes sure that it is a regular file.
fn regular(path: &Path, metadata: &fs::Metadata) -> Result<(), PolicyError> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(PolicyError::Read { path: path.into(), source: io::Error::other("not a regular file; move it elsewhere") })
}

/// Makes sure that nobody but root and the daemon's own user can change it.
fn secure(path: &Path, metadata: &fs::Metadata) -> Result<(), PolicyError> {
    let insecure = |why| Err(PolicyError::Insecure { path: path.into(), why });
    if metadata.uid() != 0 && metadata.uid() != nix::unistd::geteuid().as_raw() {
        return insecure("the owner must be root or the daemon's user; mend it with chown");
    }
    if metadata.mode() & 0o022 != 0 {
        return insecure("group or others may write to it; mend it with chmod go-w");
    }
    Ok(())
}
