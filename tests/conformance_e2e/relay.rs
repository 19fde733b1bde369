//! A socket behind which everybody is somebody else.

use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use crate::support::people::connect_as;

/// Hands on all that comes to `socket` to the daemon at `daemon`, as `uid`, and what it answers back. The threads end with
/// the test's process.
pub(crate) fn to(daemon: &Path, socket: &Path, uid: u32) {
    let listener = UnixListener::bind(socket).unwrap();
    let daemon = daemon.to_owned();
    std::thread::spawn(move || {
        for peer in listener.incoming() {
            let (peer, real) = (peer.unwrap(), connect_as(&daemon, uid, uid, &[]));
            for (from, to) in [(&peer, &real), (&real, &peer)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                std::thread::spawn(move || pass_on(from, to));
            }
        }
    });
}

/// The end of one side is passed on, too.
fn pass_on(mut from: UnixStream, mut to: UnixStream) {
    drop(std::io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}
