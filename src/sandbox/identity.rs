//! Who the process is, and what root's leftovers it may not keep.

use super::{Plan, SandboxError};
use caps::CapSet;
use nix::unistd::{Gid, Group, Uid, User, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use std::collections::BTreeSet;

/// Whom the process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Real, effective and saved uid.
    pub uid: u32,
    /// Real, effective and saved gid.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Whether privileges were dropped here. Under systemd `User=` did it before.
    pub switched: bool,
}

/// Whom to become; `None` is nobody else.
pub(super) struct Target {
    uid: Uid,
    gid: Gid,
    groups: BTreeSet<u32>,
}

/// Looks the user and groups up, while name services can still be read.
pub(super) fn resolve(plan: &Plan, notes: &mut Vec<String>) -> Result<Option<Target>, SandboxError> {
    let Some(name) = plan.user.as_deref() else {
        if Uid::effective().is_root() {
            notes.push(format!("the {} role runs as root, without capabilities: no user is configured", plan.role));
        }
        return Ok(None);
    };
    let user = User::from_name(name)
        .map_err(|errno| SandboxError::step("look up the user", &errno))?
        .ok_or_else(|| SandboxError::Unknown { kind: "user", name: name.to_owned() })?;
    if !Uid::effective().is_root() {
        if user.uid != Uid::effective() {
            notes.push(format!(
                "the {} role runs as uid {}, not as \"{name}\": only root can change users",
                plan.role,
                Uid::effective()
            ));
        }
        return Ok(None);
    }
    if user.uid.is_root() {
        return Err(SandboxError::Root(name.to_owned()));
    }
    let mut groups = BTreeSet::from([user.gid.as_raw()]);
    for name in &plan.groups {
        let group = Group::from_name(name)
            .map_err(|errno| SandboxError::step("look up the group", &errno))?
            .ok_or_else(|| SandboxError::Unknown { kind: "group", name: name.clone() })?;
        groups.insert(group.gid.as_raw());
    }
    Ok(Some(Target { uid: user.uid, gid: user.gid, groups }))
}

/// Empties the bounding set, so that no exec can gain a capability. Only `CAP_SETPCAP` may; without it, `no_new_privs`
/// has the same effect for us.
pub(super) fn empty_bounding_set(notes: &mut Vec<String>) -> Result<bool, SandboxError> {
    const STEP: &str = "empty the capability bounding set";
    let fails = |error: caps::errors::CapsError| SandboxError::step(STEP, &error);
    // The kernel's own view: the crate may not know the newest capabilities.
    if bounding_set()? == 0 {
        return Ok(true);
    }
    if !caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP).map_err(fails)? {
        notes.push("the capability bounding set is not empty: emptying it needs CAP_SETPCAP".to_owned());
        return Ok(false);
    }
    caps::clear(None, CapSet::Bounding).map_err(fails)?;
    match bounding_set()? {
        0 => Ok(true),
        left => Err(SandboxError::Unverified { step: STEP, found: format!("CapBnd is {left:016x}") }),
    }
}

/// `CapBnd` of this thread (proc_pid_status(5)), a hexadecimal mask.
fn bounding_set() -> Result<u64, SandboxError> {
    const STEP: &str = "read the capability bounding set";
    let status =
        std::fs::read_to_string("/proc/thread-self/status").map_err(|error| SandboxError::step(STEP, &error))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapBnd:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .ok_or_else(|| SandboxError::step(STEP, &"no CapBnd line"))
}

/// Groups first, then gids, then uids: each step needs the privilege that the next one gives up.
pub(super) fn switch(target: Option<Target>) -> Result<Identity, SandboxError> {
    let Some(Target { uid, gid, groups }) = target else { return present(false) };
    let list: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&list).map_err(|errno| SandboxError::step("setgroups", &errno))?;
    setresgid(gid, gid, gid).map_err(|errno| SandboxError::step("setresgid", &errno))?;
    setresuid(uid, uid, uid).map_err(|errno| SandboxError::step("setresuid", &errno))?;

    let found = present(true)?;
    if found.uid != uid.as_raw()
        || found.gid != gid.as_raw()
        || found.groups.iter().copied().collect::<BTreeSet<_>>() != groups
    {
        return Err(SandboxError::Unverified { step: "dropping privileges", found: format!("{found:?}") });
    }
    let root = Uid::from_raw(0);
    if setresuid(root, root, root).is_ok() || setgroups(&[Gid::from_raw(0)]).is_ok() {
        return Err(SandboxError::Unverified { step: "dropping privileges", found: "root can be regained".to_owned() });
    }
    Ok(found)
}

fn present(switched: bool) -> Result<Identity, SandboxError> {
    let fails = |errno| SandboxError::step("read the ids", &errno);
    let (uids, gids) = (getresuid().map_err(fails)?, getresgid().map_err(fails)?);
    if uids.real != uids.effective || uids.real != uids.saved || gids.real != gids.effective || gids.real != gids.saved
    {
        // A set-user-id executable would do this; ours never is one.
        return Err(SandboxError::Unverified { step: "one uid and one gid", found: format!("{uids:?} {gids:?}") });
    }
    let mut groups: Vec<u32> = getgroups().map_err(fails)?.into_iter().map(Gid::as_raw).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(Identity { uid: uids.real.as_raw(), gid: gids.real.as_raw(), groups, switched })
}

/// Every capability that is left (inherited ones survive a change of uid; a role that stays root has them all).
pub(super) fn drop_capabilities() -> Result<(), SandboxError> {
    const STEP: &str = "drop capabilities";
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| SandboxError::step(STEP, &error))?;
        let left = caps::read(None, set).map_err(|error| SandboxError::step(STEP, &error))?;
        if !left.is_empty() {
            return Err(SandboxError::Unverified { step: STEP, found: format!("{set:?} still holds {left:?}") });
        }
    }
    Ok(())
}
