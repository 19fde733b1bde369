//! The supplementary groups of a Unix socket's peer, as the kernel froze them at connect: `SO_PEERGROUPS` (Linux 4.13).
//!
//! A crate of its own because it takes one unsafe call, and `passportd` forbids unsafe code. None of nix, rustix, socket2
//! and tokio offers the option: its value has no fixed size.
#![deny(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The most groups that a process may have (`NGROUPS_MAX`, limits.h of Linux since 2.6.3).
pub const MAX_GROUPS: usize = 65_536;

/// Groups for which there is room at once; nearly every process has fewer.
const USUAL: usize = 32;

/// The peer's supplementary groups, in the kernel's order.
///
/// # Errors
/// The error of `getsockopt`: `ENODATA` when the socket has no peer, `ENOPROTOOPT` on an old kernel.
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; USUAL];
    loop {
        let (result, bytes) = ask(&socket, &mut groups);
        let count = bytes / size_of::<libc::gid_t>();
        match result {
            Ok(()) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // Too small: the kernel has said how much it needs.
            Err(error) if error.raw_os_error() == Some(libc::ERANGE) && count > groups.len() && count <= MAX_GROUPS => {
                groups.resize(count, 0);
            }
            Err(error) => return Err(error),
        }
    }
}

/// One `getsockopt`: whether it filled `groups`, and the bytes that it wrote or needs.
#[expect(unsafe_code, reason = "no safe wrapper knows an option of variable size")]
fn ask(socket: &impl AsFd, groups: &mut [libc::gid_t]) -> (io::Result<()>, usize) {
    let mut bytes = libc::socklen_t::try_from(size_of_val(groups)).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; `groups` is writable memory of at least `bytes`
    // bytes, any bit pattern of which is a valid `gid_t`; the kernel writes no more than `bytes` (socket(7)).
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    let result = if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    (result, usize::try_from(bytes).unwrap_or(0))
}
