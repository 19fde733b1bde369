//! What another user could read, by modes alone: root, who calls the doctor, may read everything.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{User, getgrouplist};

use super::facts::Unread;

/// Files of a policy's directory that are looked at.
const MAX_FILES: usize = 64;
/// Where an access control list is kept (acl(5)). With one the bits of the group say something else.
const ACL: &str = "system.posix_acl_access";

const READ: u32 = 0o4;
const SEARCH: u32 = 0o1;

/// A user with all its groups.
struct Reader {
    uid: u32,
    gids: Vec<u32>,
}

/// What the user `name` may not read of these files, and of these directories with what is in them. None if there is no
/// such user.
pub(super) fn unread(name: &str, files: &[&Path], directories: &[&Path]) -> Option<Unread> {
    let user = User::from_name(name).ok().flatten()?;
    let groups = getgrouplist(&CString::new(name).ok()?, user.gid).ok()?;
    let reader = Reader { uid: user.uid.as_raw(), gids: groups.iter().map(|gid| gid.as_raw()).collect() };
    let mut paths: Vec<PathBuf> = files.iter().chain(directories).map(|path| path.to_path_buf()).collect();
    for entries in directories.iter().filter_map(|dir| fs::read_dir(dir).ok()) {
        let inside = entries.flatten().map(|entry| entry.path());
        paths.extend(inside.filter(|path| path.extension().is_some_and(|end| end == "toml")).take(MAX_FILES));
    }
    let refused = paths.into_iter().filter_map(|path| reader.stopped_at(&path).map(|at| (path, at)));
    Some(Unread { user: name.to_owned(), refused: refused.collect() })
}

impl Reader {
    /// The first thing on the way to the file, from the root down, that does not let this user go on. What can't be
    /// looked at, or is not there, is another check's.
    fn stopped_at(&self, path: &Path) -> Option<PathBuf> {
        let real = path.canonicalize().ok()?;
        let mut way: Vec<_> = real.ancestors().skip(1).map(|dir| (dir, SEARCH)).collect();
        way.reverse();
        way.push((&real, if real.is_dir() { READ | SEARCH } else { READ }));
        way.into_iter().find(|(at, wanted)| !self.may(at, *wanted)).map(|(at, _)| at.to_owned())
    }

    fn may(&self, path: &Path, wanted: u32) -> bool {
        let Ok(meta) = fs::metadata(path) else { return true };
        let shift = match (meta.uid() == self.uid, self.gids.contains(&meta.gid())) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        let by_mode = (meta.mode() >> shift) & wanted == wanted;
        self.uid == 0 || by_mode || rustix::fs::getxattr(path, ACL, &mut [0; 0]).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn who_may_read_is_said_by_owner_group_and_the_way() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, file) = (dir.path().join("inner"), dir.path().join("inner/f"));
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        let meta = fs::metadata(&file).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let stranger = Reader { uid: meta.uid() + 1, gids: vec![meta.gid() + 1] };
        let member = Reader { uid: meta.uid() + 1, gids: vec![1, meta.gid()] };
        let owner = Reader { uid: meta.uid() + 1_000_000, gids: Vec::new() };
        set(dir.path(), 0o755);
        for (way, mode, stopped) in [
            (0o711, 0o644, None),
            (0o711, 0o640, Some(&file)),
            (0o750, 0o644, Some(&inner)),
            (0o755, 0o600, Some(&file)),
        ] {
            set(&inner, way);
            set(&file, mode);
            assert_eq!(stranger.stopped_at(&file).as_ref(), stopped, "{way:o} {mode:o}");
            let group = (mode & 0o040 == 0).then_some(&file);
            assert_eq!(member.stopped_at(&file).as_ref(), group, "{way:o} {mode:o}");
        }
        set(&inner, 0o700);
        assert_eq!(owner.stopped_at(&file).as_ref(), Some(&inner));
        assert_eq!(Reader { uid: 0, gids: Vec::new() }.stopped_at(&file), None, "root may");
        assert_eq!(stranger.stopped_at(&dir.path().join("none")), None);
    }

    #[test]
    fn a_directory_is_read_with_what_is_in_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("10.toml"), "").unwrap();
        fs::set_permissions(dir.path().join("10.toml"), fs::Permissions::from_mode(0o600)).unwrap();
        // Of the users that every host has.
        let nobody = unread("nobody", &[], &[dir.path()]).unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(nobody.refused, [(dir.path().join("10.toml"), real.join("10.toml"))]);
        assert!(unread("no-such-user", &[], &[]).is_none());
    }
}
