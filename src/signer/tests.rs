//! The front's side of the link, against signers that mean harm.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;

use super::*;
use crate::wire::link::{LinkGreeting, LinkReply};
use crate::wire::{HEADER, WIRE_VERSION, encode_frame};

const PATIENCE: Duration = Duration::from_secs(30);

/// A signer that takes one connection, reads the greeting, says `greeting`, and then does what it likes.
fn hostile(
    dir: &tempfile::TempDir,
    greeting: LinkGreeting,
    then: impl FnOnce(UnixStream) + Send + 'static,
) -> LinkConfig {
    let socket = dir.path().join("signer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
        stream.read_exact(&mut body).unwrap();
        let mut out = Vec::new();
        encode_frame(&greeting, &mut out).unwrap();
        stream.write_all(&out).unwrap();
        then(stream);
    });
    LinkConfig {
        socket,
        issuer: "test".to_owned(),
        signer_uid: nix::unistd::geteuid().as_raw(),
        op_timeout: Duration::from_millis(100),
        max_in_flight: 4,
    }
}

/// Runs `test` on a runtime of one thread, which a task that never waits would have for itself.
fn alone<T: Send + 'static>(test: impl Future<Output = T> + Send + 'static) -> T {
    let (said, hears) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        said.send(runtime.block_on(test)).unwrap();
    });
    hears.recv_timeout(PATIENCE).expect("an end in time")
}

fn welcome() -> LinkGreeting {
    let (module, token) = ("module".to_owned(), "to\nken".to_owned());
    LinkGreeting::Welcome(LinkWelcome { wire: WIRE_VERSION, sessions: 1, module, token, boot_id: 1 })
}

#[test]
fn a_signer_that_never_stops_talking_does_not_stop_deadlines() {
    let dir = tempfile::tempdir().unwrap();
    let config = hostile(&dir, welcome(), |mut stream| {
        let mut replies = Vec::new();
        for id in 0..500 {
            encode_frame(&LinkReply { id: u64::MAX - id, result: LinkResult::Keys(Vec::new()) }, &mut replies).unwrap();
        }
        while stream.write_all(&replies).is_ok() {}
    });
    let answer = alone(async move {
        let signer = Signer::start(config);
        let mut status = signer.status();
        drop(status.wait_for(|status| matches!(status, LinkStatus::Up(_))).await.unwrap());
        signer.probe("ed25519/t1/auth/v1").await.map(|probe| probe.sig)
    });
    assert_eq!(answer, Err(SignerError::Timeout));
}

#[test]
fn what_a_signer_says_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let why = format!("no\n<1>forged\x1b[2J{}", "x".repeat(1 << 16));
    let config = hostile(&dir, LinkGreeting::Refused(why), drop);
    let said = alone(async move {
        let mut status = Signer::start(config).status();
        let refused = |status: &LinkStatus| matches!(status, LinkStatus::Down(why) if why.contains("refuses"));
        let LinkStatus::Down(why) = status.wait_for(refused).await.unwrap().clone() else { panic!("refused") };
        why
    });
    assert!(said.contains("<1>forged") && !said.contains(char::is_control) && said.len() < 1024, "{said:?}");
    let key = LinkKey {
        kid: "k".to_owned(),
        role: crate::wire::link::KeyRole::Passport,
        public: [0; 32],
        usable: false,
        problem: "a\r\nb\u{202e}c".to_owned(),
    };
    assert_eq!(text::plain_keys(vec![key])[0].problem, "a\u{fffd}\u{fffd}b\u{fffd}c");
    let LinkGreeting::Welcome(welcome) = welcome() else { panic!("it welcomes") };
    assert_eq!(text::plain_welcome(welcome).token, "to\u{fffd}ken");
}

#[test]
fn the_signers_own_answer_comes_first() {
    // Its watchdog answers within an eighth of the time, and then the answer has to travel.
    for seconds in [1, 4, 8, 30, 120] {
        let op_timeout = Duration::from_secs(seconds);
        assert!(link::patience(op_timeout) >= op_timeout * 9 / 8 + Duration::from_millis(500), "{seconds}");
    }
}
