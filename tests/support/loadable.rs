//! Modules where the signer's user can load them. The daemon takes none that anybody but root could have put there, so a
//! temporary directory will not do; and a build may lie in a home that nobody else may enter, as CI's does.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Root's alone up to `/`, and open to all who want to read.
const PLACE: &str = "/var/cache/passportd-tests";

/// The module where it is, if everybody can get there; otherwise a copy of it, which is made anew when it has changed.
pub(crate) fn loadable(module: &Path) -> PathBuf {
    let open = |dir: &Path| fs::metadata(dir).unwrap().mode() & 0o001 != 0;
    if module.ancestors().skip(1).all(open) || !nix::unistd::geteuid().is_root() {
        return module.to_owned();
    }
    fs::create_dir_all(PLACE).unwrap();
    // One for each place of a build.
    let copy = Path::new(PLACE).join(module.to_str().unwrap().trim_start_matches('/').replace('/', "-"));
    let age = |path: &Path| fs::metadata(path).and_then(|found| Ok((found.modified()?, found.len())));
    let (ours, theirs) = (age(module).unwrap(), age(&copy));
    if !theirs.is_ok_and(|(made, length)| made >= ours.0 && length == ours.1) {
        let fresh = tempfile::NamedTempFile::new_in(PLACE).unwrap();
        fs::copy(module, fresh.path()).unwrap();
        fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fresh.persist(&copy).unwrap();
    }
    copy
}
