//! The front's side of the link, against signers that mean harm.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc;

use super::*;
use crate::wire::link::{LinkGreeting, LinkReply};
use crate::wire::{HEADER, WIRE_VERSION, encode_frame};

const PATIENCE: Duration = Duration::from_secs(30);

fn counter() -> Counter {
    Counter::new("counter", "in a test").unwrap()
}

/// A signer that takes one connection, reads the greeting, says `greeting`, and then does what it likes.
fn hostile(
    dir: &tempfile::TempDir,
    greeting: LinkGreeting,
    then: impl FnOnce(UnixStream) + Send + 'static,
) -> LinkConfig {
    let (config, listener) = listening(dir);
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_frame(&mut stream);
        greet(&mut stream, &greeting);
        then(stream);
    });
    config
}

fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}

fn greet(stream: &mut UnixStream, greeting: &LinkGreeting) {
    let mut out = Vec::new();
    encode_frame(greeting, &mut out).unwrap();
    stream.write_all(&out).unwrap();
}

fn say(stream: &mut UnixStream, reply: &LinkReply) {
    let mut out = Vec::new();
    encode_frame(reply, &mut out).unwrap();
    stream.write_all(&out).unwrap();
}

/// Reads a request and answers it with this signature.
fn sign_with(stream: &mut UnixStream, sig: [u8; 64]) {
    let body = read_frame(stream);
    let request: crate::wire::link::LinkRequest<'_> = crate::wire::decode(&body).unwrap();
    say(stream, &LinkReply { id: request.id, result: LinkResult::Signed { sig } });
}

fn listening(dir: &tempfile::TempDir) -> (LinkConfig, UnixListener) {
    let socket = dir.path().join("signer.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let config = LinkConfig {
        socket,
        issuer: "test".to_owned(),
        amnesia: None,
        signer_uid: nix::unistd::geteuid().as_raw(),
        op_timeout: Duration::from_millis(100),
        max_in_flight: 4,
        recycled: counter(),
        opened: counter(),
    };
    (config, listener)
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

const KID: &str = "ed25519/t1/auth/v1";

async fn signature(signer: &Signer) -> Result<[u8; 64], SignerError> {
    signer.sign(1, KID, b"payload".to_vec(), Instant::now() + PATIENCE).await?.signature().await
}

async fn up(signer: &Signer) {
    drop(signer.status().wait_for(|status| matches!(status, LinkStatus::Up(_))).await.unwrap());
}

#[test]
fn who_asks_while_one_signer_leaves_is_answered_by_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut config, listener) = listening(&dir);
    config.op_timeout = Duration::from_secs(5);
    let recycled = config.recycled.clone();
    std::thread::spawn(move || {
        let (mut first, _) = listener.accept().unwrap();
        read_frame(&mut first);
        greet(&mut first, &welcome());
        // What was asked before is answered after the announcement, by the same one.
        let body = read_frame(&mut first);
        let request: crate::wire::link::LinkRequest<'_> = crate::wire::decode(&body).unwrap();
        say(&mut first, &LinkReply { id: 0, result: LinkResult::Leaving });
        std::thread::sleep(Duration::from_millis(300));
        say(&mut first, &LinkReply { id: request.id, result: LinkResult::Signed { sig: [1; 64] } });
        assert_eq!(first.read(&mut [0]).unwrap(), 0, "the front closes it, and asks for nothing else");
        std::thread::sleep(Duration::from_millis(500));
        let (mut next, _) = listener.accept().unwrap();
        read_frame(&mut next);
        greet(&mut next, &welcome());
        sign_with(&mut next, [2; 64]);
        sign_with(&mut next, [3; 64]);
        assert_eq!(next.read(&mut [0]).unwrap(), 0, "that was all");
    });
    let (one, two, three) = alone(async move {
        let signer = Signer::start(config);
        up(&signer).await;
        let during = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            signature(&signer).await
        };
        let after = async {
            let mut status = signer.status();
            drop(status.wait_for(|status| matches!(status, LinkStatus::Away(_))).await.unwrap());
            signature(&signer).await
        };
        tokio::join!(signature(&signer), during, after)
    });
    assert_eq!(one, Ok([1; 64]));
    let mut next = [two.unwrap()[0], three.unwrap()[0]];
    next.sort_unstable();
    assert_eq!((next, recycled.get()), ([2, 3], 1));
}

#[test]
fn a_signer_that_left_and_does_not_come_back_is_waited_for_so_long_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let config = hostile(&dir, welcome(), |mut stream| {
        say(&mut stream, &LinkReply { id: 0, result: LinkResult::Leaving });
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "the front closes it");
    });
    let (answer, waited, later) = alone(async move {
        let signer = Signer::start(config);
        let mut status = signer.status();
        drop(status.wait_for(|status| matches!(status, LinkStatus::Away(_))).await.unwrap());
        let begun = Instant::now();
        let answer = signature(&signer).await;
        let waited = begun.elapsed();
        drop(status.wait_for(|status| matches!(status, LinkStatus::Down(_))).await.unwrap());
        (answer, waited, signature(&signer).await)
    });
    assert_eq!(answer, Err(SignerError::Unavailable));
    assert!(waited > link::HOLD / 2 && waited < link::HOLD * 2, "{waited:?}");
    assert_eq!(later, Err(SignerError::Open { retry_after_ms: 500 }), "at once");
}

#[test]
fn a_key_that_fails_again_and_again_is_not_asked_for_until_a_probe_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let config = hostile(&dir, welcome(), |mut stream| {
        for _ in 0..breaker::OPEN_AFTER {
            let body = read_frame(&mut stream);
            let request: crate::wire::link::LinkRequest<'_> = crate::wire::decode(&body).unwrap();
            say(&mut stream, &LinkReply { id: request.id, result: LinkResult::Refused(LinkRefusal::HsmUnavailable) });
        }
        // Another key's, and this one's once it is sound again: nothing else comes.
        sign_with(&mut stream, [4; 64]);
        sign_with(&mut stream, [5; 64]);
    });
    let opened = config.opened.clone();
    alone(async move {
        let signer = Signer::start(config);
        up(&signer).await;
        for _ in 0..breaker::OPEN_AFTER {
            assert_eq!(signature(&signer).await, Err(SignerError::Unavailable));
        }
        for _ in 0..100 {
            assert!(matches!(signature(&signer).await, Err(SignerError::Open { retry_after_ms: 250..=500 })));
        }
        let other = signer.sign(1, "ed25519/t2/auth/v1", b"payload".to_vec(), Instant::now() + PATIENCE).await.unwrap();
        assert_eq!(other.signature().await, Ok([4; 64]));
        signer.probed(KID, Ok(()));
        assert_eq!(signature(&signer).await, Ok([5; 64]));
    });
    assert_eq!(opened.get(), 1);
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
