//! May this file be loaded into the process that holds the PIN? Only if nobody but root could have put it there.

use super::HsmError;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Write permission for group or others.
const WRITABLE: u32 = 0o022;

/// Resolves the module's path and checks it: absolute; the file, every directory above it, and every directory above
/// the path as it was given (where a symbolic link could be replaced) belong to root and nobody else may write them.
///
/// # Errors
/// [`HsmError::ModuleRelative`], [`HsmError::ModuleMissing`] or [`HsmError::ModuleUntrusted`], naming the first culprit.
pub fn trusted(path: &Path) -> Result<PathBuf, HsmError> {
    if !path.is_absolute() {
        return Err(HsmError::ModuleRelative(path.to_owned()));
    }
    let real = path.canonicalize().map_err(|error| HsmError::ModuleMissing(path.to_owned(), error))?;
    if real.is_dir() {
        return Err(HsmError::NotAModule(real, "it is a directory".to_owned()));
    }
    for component in real.ancestors().chain(path.ancestors().skip(1)) {
        root_alone(component)?;
    }
    Ok(real)
}

/// Follows links: for a directory in the given path, what matters is the directory it leads to. (The link itself lies in
/// a directory that is checked too.)
fn root_alone(path: &Path) -> Result<(), HsmError> {
    let found = std::fs::metadata(path).map_err(|error| HsmError::ModuleMissing(path.to_owned(), error))?;
    if found.uid() != 0 || found.mode() & WRITABLE != 0 {
        return Err(HsmError::ModuleUntrusted {
            path: path.to_owned(),
            owner: found.uid(),
            mode: found.mode() & 0o7777,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_library_is_trusted_through_its_link() {
        // Any file of the system will do; /bin/sh is a link on merged-/usr systems.
        let real = trusted(Path::new("/bin/sh")).unwrap();
        assert!(real.is_absolute() && real != Path::new("/bin/sh"));
    }

    #[test]
    fn a_file_in_a_directory_that_others_write_is_not() {
        // /tmp is root's, but anybody may put files there.
        let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let file = dir.path().join("module.so");
        std::fs::write(&file, b"").unwrap();
        let refused = trusted(&file).unwrap_err();
        assert!(matches!(&refused, HsmError::ModuleUntrusted { .. }), "{refused}");
    }

    #[test]
    fn a_trusted_file_behind_an_untrusted_link_is_not() {
        let dir = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let link = dir.path().join("module.so");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert!(matches!(trusted(&link), Err(HsmError::ModuleUntrusted { .. })));
    }

    #[test]
    fn relative_absent_and_directory_are_told_apart() {
        assert!(matches!(trusted(Path::new("libsofthsm2.so")), Err(HsmError::ModuleRelative(_))));
        assert!(matches!(trusted(Path::new("/nonexistent/m.so")), Err(HsmError::ModuleMissing(..))));
        assert!(matches!(trusted(Path::new("/usr/lib")), Err(HsmError::NotAModule(..))));
    }
}
