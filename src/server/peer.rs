//! Who is at the other end, by the kernel's word, frozen at connect: nothing that a client sends is asked.

use std::os::fd::AsFd;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use crate::policy::{Peer, cgroup};

/// The peer of a connected Unix socket that came through `listener`, as far as one call says: without its groups.
///
/// # Errors
/// The error of `SO_PEERCRED`; without it there is no peer.
pub fn credentials(socket: &impl AsFd, listener: &str) -> nix::Result<Peer> {
    let credentials = getsockopt(socket, PeerCredentials)?;
    Ok(Peer {
        uid: credentials.uid(),
        gid: credentials.gid(),
        pid: credentials.pid(),
        groups: Vec::new(),
        listener: listener.to_owned(),
        cgroup: None,
    })
}

/// The same peer with its groups.
pub fn with_groups(peer: Peer, socket: &impl AsFd) -> Peer {
    // Without them a rule by group fails closed.
    Peer { groups: peergroups::peer_groups(socket).unwrap_or_default(), ..peer }
}

/// The same peer with its control group. Where that is not found out, a rule by it fails closed.
pub fn with_cgroup(peer: Peer, socket: &impl AsFd) -> Peer {
    Peer { cgroup: cgroup::of_peer(peer.pid, socket), ..peer }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_socket_pair_shows_this_process() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = with_groups(credentials(&here, "main").unwrap(), &here);
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        assert_eq!(peer.pid, nix::unistd::getpid().as_raw());
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        let mut seen = peer.groups;
        own.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, own);
    }
}
