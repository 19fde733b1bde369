//! Directories that must not be written even where the kernel has no Landlock: SoftHSM writes its token file anew at each
//! login, and a kill in that window loses the token (DESIGN §8).

use super::SandboxError;
use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr as _};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statvfs::{FsFlags, statvfs};
use std::path::{Path, PathBuf};

/// Sees to it that nothing can be written there: by a mount that only this process and its children have, where Landlock
/// will not do it, and systemd has not (`ReadOnlyPaths=`). Best effort, since it takes root.
pub(super) fn keep_unwritten(paths: &[PathBuf], notes: &mut Vec<String>) -> Result<(), SandboxError> {
    if paths.is_empty() || landlock_is_there() {
        return Ok(());
    }
    let mut open = paths.iter().filter(|path| !is_read_only(path)).peekable();
    if open.peek().is_none() {
        return Ok(());
    }
    // What others mount is still seen here, and what is mounted here is seen by nobody.
    let apart = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE));
    for path in open {
        let bound = apart.and_then(|()| bind(path));
        if let Err(errno) = bound {
            notes.push(format!(
                "nothing keeps this process from writing to {}, and a kill during a login can cost the token ({errno}): \
                 start it as root or by its unit, or boot with Landlock",
                path.display()
            ));
        } else if !is_read_only(path) {
            let found = format!("{} can be written", path.display());
            return Err(SandboxError::Unverified { step: "mount read-only", found });
        }
    }
    Ok(())
}

const NONE: Option<&str> = None;

/// Over itself; the flag takes a second call (mount(2)).
fn bind(path: &Path) -> nix::Result<()> {
    mount(Some(path), path, NONE, MsFlags::MS_BIND, NONE)?;
    mount(NONE, path, NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, NONE)
}

fn is_read_only(path: &Path) -> bool {
    statvfs(path).is_ok_and(|found| found.flags().contains(FsFlags::ST_RDONLY))
}

/// Its first version can forbid writing.
fn landlock_is_there() -> bool {
    let asked = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    asked.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}
