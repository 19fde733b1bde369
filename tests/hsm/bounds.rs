//! The bounds of the link: what is at one passes, and one step beyond is refused.

use super::*;
use passportd::hsm::server::MAX_CONNECTIONS;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

#[test]
fn so_many_links_are_served_and_one_more_is_closed() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let mut links: Vec<Link> = (0..MAX_CONNECTIONS).map(|_| Link::open(&process).0).collect();
    assert!(!welcomed(&process), "it is closed without a word");
    assert!(links.iter_mut().all(|link| link.keys().len() == 3));
    links.pop();
    let begun = Instant::now();
    while !welcomed(&process) {
        assert!(begun.elapsed() < Duration::from_secs(10), "its place is free again");
    }
}

fn hello() -> Vec<u8> {
    let mut hello = Vec::new();
    encode_frame(&LinkHello { wire: WIRE_VERSION, issuer: ISSUER }, &mut hello).unwrap();
    hello
}

/// Whether there is a place for another link.
fn welcomed(process: &harness::Process) -> bool {
    let mut link = Link::raw(process);
    // It may be closed already.
    link.socket.write_all(&hello()).is_ok() && link.frame().is_some()
}

#[test]
fn a_hello_and_a_frame_must_come_in_time_and_between_frames_there_is_time() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let begun = Instant::now();
    let ((mut quiet, _), mut silent, (mut torn, _)) = (Link::open(&process), Link::raw(&process), Link::open(&process));
    torn.socket.write_all(&[0, 0, 0, 9, WIRE_VERSION]).unwrap();
    for (link, seconds) in [(&mut silent, 2), (&mut torn, 5)] {
        assert!(link.frame().is_none());
        let (took, bound) = (begun.elapsed(), Duration::from_secs(seconds));
        assert!((bound..bound * 3).contains(&took), "cut off after {took:?} of {bound:?}");
    }
    assert_eq!(quiet.keys().len(), 3);
}

#[test]
fn out_of_descriptors_a_link_waits_until_some_come_free() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let ((mut front, _), (another, _)) = (Link::open(&process), Link::open(&process));
    let pid = process.child.id();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let open: BTreeSet<u64> = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    let free = (0..).find(|fd| !open.contains(fd)).unwrap();
    let pid = Pid::from_raw(pid.try_into().unwrap());
    let before = rustix::process::getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(free), maximum: before.maximum }).unwrap();

    let used = front.stats().cpu_us;
    let mut waits = Link::raw(&process);
    waits.socket.write_all(&hello()).unwrap();
    waits.socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let nothing = waits.socket.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "there is no descriptor for it");
    assert!(front.stats().cpu_us - used < 250_000, "it does not spin");
    drop(another);
    // A link takes two descriptors, and the other gives its two back one after the other: who comes in between is cut off, and
    // comes again, as the front does.
    let begun = Instant::now();
    let greeting = loop {
        waits.socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        if let Some(frame) = waits.frame() {
            break frame;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "a greeting");
        waits = Link::raw(&process);
        drop(waits.socket.write_all(&hello()));
    };
    assert!(matches!(decode(&greeting).unwrap(), LinkGreeting::Welcome(_)));
    prlimit(pid, Resource::Nofile, before).unwrap();
    signature(waits.sign(&payload(V1, |_| {})));
}
