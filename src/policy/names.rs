//! User and group names, and the ids that stand for nobody in particular.

use std::{fs, io, path::Path};

use nix::unistd::{Group, User};

use super::error::PolicyError;

/// Where the kernel says what it shows for ids that have no mapping (proc_sys_kernel(5)).
const OVERFLOW_UID: &str = "/proc/sys/kernel/overflowuid";
/// As above, for groups.
const OVERFLOW_GID: &str = "/proc/sys/kernel/overflowgid";

/// Resolves names when a policy is loaded.
pub trait Names {
    /// The uid of a user, `None` if there is no such user.
    ///
    /// # Errors
    /// If the user database can't be asked.
    fn uid(&self, user: &str) -> io::Result<Option<u32>>;

    /// The gid of a group, `None` if there is no such group.
    ///
    /// # Errors
    /// If the group database can't be asked.
    fn gid(&self, group: &str) -> io::Result<Option<u32>>;
}

/// The system's user and group databases (`getpwnam_r(3)`, `getgrnam_r(3)`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemNames;

impl Names for SystemNames {
    fn uid(&self, user: &str) -> io::Result<Option<u32>> {
        Ok(User::from_name(user)?.map(|user| user.uid.as_raw()))
    }

    fn gid(&self, group: &str) -> io::Result<Option<u32>> {
        Ok(Group::from_name(group)?.map(|group| group.gid.as_raw()))
    }
}

/// The ids that the kernel shows for every id of another user namespace that has no mapping. All strangers share them,
/// so they match no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// The uid, 65534 unless the kernel was told otherwise.
    pub uid: u32,
    /// The gid, 65534 unless the kernel was told otherwise.
    pub gid: u32,
}

impl Overflow {
    /// Asks the kernel.
    ///
    /// # Errors
    /// If `/proc/sys/kernel` can't be read; a guess could let strangers match.
    pub fn read() -> Result<Self, PolicyError> {
        Ok(Self { uid: id(Path::new(OVERFLOW_UID))?, gid: id(Path::new(OVERFLOW_GID))? })
    }
}

/// Reads a file that holds one id.
fn id(path: &Path) -> Result<u32, PolicyError> {
    let text = fs::read_to_string(path).and_then(|text| text.trim().parse().map_err(io::Error::other));
    text.map_err(|source| PolicyError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_root_and_not_a_stranger() {
        assert_eq!(SystemNames.uid("root").unwrap(), Some(0));
        assert_eq!(SystemNames.gid("root").unwrap(), Some(0));
        assert_eq!(SystemNames.uid("no-such-user-here").unwrap(), None);
        assert_eq!(SystemNames.gid("no-such-group-here").unwrap(), None);
    }

    #[test]
    fn the_kernel_says_who_is_nobody() {
        let overflow = Overflow::read().unwrap();
        assert!(overflow.uid > 0 && overflow.gid > 0);
    }
}
