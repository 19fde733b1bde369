//! Root works on somebody else's files as that user: what is made there is theirs, and a link that they put in its way leads root
//! nowhere.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::error::CliError;

/// From now on this process is the owner of the directory that `path` is in, if root runs it. Whatever root alone may read has to
/// be open by then.
///
/// # Errors
/// Host: the kernel does not let it.
pub(super) fn become_owner_of(path: &Path) -> Result<(), CliError> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // What is not there is told by whoever needs it.
    let Ok(found) = dir.metadata() else { return Ok(()) };
    let (uid, gid) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
    if !geteuid().is_root() || uid.is_root() {
        return Ok(());
    }
    // Groups first, then gids, then uids: each step needs the right that the next one gives up.
    setgroups(&[])
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(|errno| CliError::Failed(format!("can't go on as uid {uid}, which owns {}: {errno}", dir.display())))
}
