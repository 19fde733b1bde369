//! Being somebody else.

use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::User;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Users that a Debian has, in pairs: for the front and for the HSM. The first are those of `scripts/dev-setup`.
const PAIRS: [(&str, &str); 3] = [("passportd", "passportd-hsm"), ("daemon", "bin"), ("games", "man")];

/// Two unprivileged users, where there are two and this process may become them.
pub(crate) fn unprivileged_users() -> Option<(String, String)> {
    let exists = |name: &str| matches!(User::from_name(name), Ok(Some(user)) if !user.uid.is_root());
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let (front, hsm) = PAIRS.iter().find(|(front, hsm)| exists(front) && exists(hsm))?;
    Some(((*front).to_owned(), (*hsm).to_owned()))
}

/// Uid and gid of a user.
pub(crate) fn ids(user: &str) -> (u32, u32) {
    let user = User::from_name(user).unwrap().unwrap();
    (user.uid.as_raw(), user.gid.as_raw())
}

/// A connection that the kernel says was made by `uid`, `gid` and `groups`. Ids belong to threads, so a thread of its own
/// becomes that user, connects, and ends.
pub(crate) fn connect_as(socket: &Path, uid: u32, gid: u32, groups: &[u32]) -> UnixStream {
    try_connect_as(socket, uid, gid, groups).unwrap()
}

/// The same, or why that user may not.
pub(crate) fn try_connect_as(socket: &Path, uid: u32, gid: u32, groups: &[u32]) -> std::io::Result<UnixStream> {
    let (socket, groups) = (socket.to_owned(), groups.to_vec());
    let connect = move || {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let groups: Vec<_> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        set_thread_groups(&groups).unwrap();
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        UnixStream::connect(socket)
    };
    std::thread::spawn(connect).join().unwrap()
}
