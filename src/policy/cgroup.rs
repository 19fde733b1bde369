//! In which unit a peer runs, for rules by `cgroup`: as its process says, where the kernel has a handle of who connected.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerPidfd;

/// The longest path of a control group, in bytes.
pub(super) const MAX_CGROUP: usize = 512;
/// Bytes that are read of what a process says of its control groups: a line for each hierarchy (cgroups(7)).
const MAX_CGROUPS: u64 = 16 * 1024;

/// The control group of the process `pid` that connected `socket`, by `SO_PEERPIDFD` (Linux 6.5). None where the kernel has no
/// such handle, nobody may look, or the process has ended.
pub fn of_peer(pid: i32, socket: &impl AsFd) -> Option<String> {
    cgroup_of(pid, getsockopt(socket, PeerPidfd), cgroups_of)
}

/// Why [`of_peer`] would never find one; none if it would.
pub fn missing() -> Option<&'static str> {
    let pidfd =
        UnixStream::pair().map_err(|_| nix::Error::EMFILE).and_then(|(here, _there)| getsockopt(&here, PeerPidfd));
    // Of a process that is another's, as peers are.
    why_not(pidfd, cgroups_of(1))
}

fn why_not(pidfd: nix::Result<OwnedFd>, another: io::Result<String>) -> Option<&'static str> {
    match (pidfd, another) {
        (Err(_), _) => Some("this kernel does not say which process connected (SO_PEERPIDFD, Linux 6.5)"),
        (Ok(_), Err(_)) => Some(
            "the control groups of other users' processes can't be read here: by ProtectProc=, by hidepid=, or because no \
             rule asked for them when the daemon started; restart it",
        ),
        (Ok(_), Ok(_)) => None,
    }
}

/// Looked up by its id, between two looks at whether the process that connected lives: so long the id is nobody else's.
fn cgroup_of(pid: i32, pidfd: nix::Result<OwnedFd>, look: impl FnOnce(i32) -> io::Result<String>) -> Option<String> {
    let pidfd = pidfd.ok()?;
    if !lives(&pidfd) {
        return None;
    }
    let said = look(pid).ok()?;
    if lives(&pidfd) { unified(&said).map(str::to_owned) } else { None }
}

/// A handle of a process can be read once that has ended (pidfd_open(2)).
fn lives(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
}

fn cgroups_of(pid: i32) -> io::Result<String> {
    let mut said = String::new();
    File::open(format!("/proc/{pid}/cgroup"))?.take(MAX_CGROUPS).read_to_string(&mut said)?;
    Ok(said)
}

/// That of the unified hierarchy, which is systemd's (cgroups(7): its line begins with `0::`).
fn unified(said: &str) -> Option<&str> {
    // A line that was cut off would be the path of a group above.
    let mut lines = said.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.find_map(|line| line.strip_prefix("0::")).filter(|path| path.len() <= MAX_CGROUP)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn pidfd(socket: &UnixStream) -> nix::Result<OwnedFd> {
        getsockopt(socket, PeerPidfd)
    }

    const SAID: &str = "9:name=systemd:/a\n0::/system.slice/web.service\n";

    #[test]
    fn the_group_is_that_of_the_unified_hierarchy() {
        assert_eq!(unified(SAID), Some("/system.slice/web.service"));
        assert_eq!(unified("0::/\n"), Some("/"));
        for none in ["", "1:cpu:/system.slice/web.service\n", "10::/system.slice/web.service\n", SAID.trim_end()] {
            assert_eq!(unified(none), None, "{none:?}");
        }
        assert_eq!(unified(&format!("0::/{}\n", "x".repeat(MAX_CGROUP))), None);
    }

    #[test]
    fn without_the_call_nobody_is_in_any_group() {
        let missing = || Err(nix::Error::ENOPROTOOPT);
        assert_eq!(cgroup_of(1, missing(), |_| Ok(SAID.to_owned())), None);
        assert!(why_not(missing(), Ok(SAID.to_owned())).unwrap().contains("SO_PEERPIDFD"));
        let (here, _there) = UnixStream::pair().unwrap();
        let Ok(handle) = pidfd(&here) else { return assert!(super::missing().is_some()) };
        assert!(why_not(Ok(handle), Err(io::ErrorKind::NotFound.into())).unwrap().contains("ProtectProc"));
        assert_eq!(cgroup_of(1, pidfd(&here), |_| Ok(SAID.to_owned())).as_deref(), Some("/system.slice/web.service"));
        assert_eq!(cgroup_of(1, pidfd(&here), |_| Err(io::ErrorKind::NotFound.into())), None);
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let found = of_peer(nix::unistd::getpid().as_raw(), &here);
        assert_eq!(found.as_deref(), unified(&own));
    }

    #[test]
    fn a_process_that_has_ended_is_in_none() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let handle = || -> OwnedFd {
            let pid = rustix::process::Pid::from_raw(id.as_raw()).unwrap();
            rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
        };
        let before = handle();
        let group = cgroup_of(id.as_raw(), Ok(handle()), |_| Ok(SAID.to_owned()));
        assert_eq!(group.as_deref(), Some("/system.slice/web.service"));
        // It ends while it is looked at: what was read may be of another that has its id by now.
        let looked = cgroup_of(id.as_raw(), Ok(handle()), |_| {
            drop(child.stdin.take());
            child.wait().unwrap();
            Ok(SAID.to_owned())
        });
        assert_eq!(looked, None);
        assert_eq!(cgroup_of(id.as_raw(), Ok(before), |_| panic!("nobody is looked at")), None);
    }
}
