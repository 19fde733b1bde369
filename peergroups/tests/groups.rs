//! Against the kernel: this process's own groups, and those of a process with many.
#![cfg(test)]

use std::io::Read as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use peergroups::peer_groups;

/// The groups that `/proc/self/status` shows.
fn own() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    line.split_whitespace().map(|group| group.parse().unwrap()).collect()
}

fn sorted(mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups
}

#[test]
fn a_socket_pair_shows_this_process() {
    let (here, _there) = UnixStream::pair().unwrap();
    assert_eq!(sorted(peer_groups(&here).unwrap()), sorted(own()));
}

/// Ids with zero bytes, and more of them than fit at once. Needs root, to give a child such groups.
#[test]
fn a_peer_with_many_groups_shows_all_of_them() {
    let dir = std::env::temp_dir().join(format!("peergroups-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let listener = UnixListener::bind(dir.join("s")).unwrap();
    let wanted: Vec<u32> = (0..300).map(|n| 65_536 * (n % 3) + 256 * n + 1).collect();
    let list = wanted.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let script = format!("import socket; s=socket.socket(socket.AF_UNIX); s.connect({:?}); s.recv(1)", dir.join("s"));
    let mut child = Command::new("setpriv")
        .args(["--groups", &list, "python3", "-c", &script])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut peer = None;
    for _ in 0..500 {
        peer = listener.accept().ok();
        if peer.is_some() || child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    std::fs::remove_dir_all(&dir).unwrap();
    let Some((stream, _)) = peer else {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("not permitted"), "{said}");
        return eprintln!("SKIPPED: a child with many groups needs root");
    };
    let seen = peer_groups(&stream).unwrap();
    drop(stream);
    child.wait().unwrap();
    assert_eq!(sorted(seen), sorted(wanted));
}
