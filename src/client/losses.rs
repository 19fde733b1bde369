//! Answers that do not come, and connections that break.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

use super::dial::{MAX_PAUSE, dial, pause};
use super::{Client, ClientError, Options};
use crate::wire::{Greeting, HEADER, Limits, Reply, ServiceOk, WIRE_VERSION, Welcome, encode_frame, peek_id};

fn options(socket: &Path, timeout: Duration) -> Options {
    Options { socket: socket.to_owned(), timeout, name: "test".to_owned() }
}

/// A socket in a directory that goes with the first value.
fn socket() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    (dir, socket)
}

/// The daemon's side of one connection.
struct Side(UnixStream);

impl Side {
    /// The next connection, welcomed.
    async fn accept(listener: &UnixListener) -> Self {
        let mut side = Self(listener.accept().await.unwrap().0);
        side.body().await;
        let limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };
        let welcome = Welcome { wire: WIRE_VERSION, server: "test".to_owned(), issuer: "test".to_owned(), limits };
        let mut frame = Vec::new();
        encode_frame(&Greeting::Welcome(welcome), &mut frame).unwrap();
        side.0.write_all(&frame).await.unwrap();
        side
    }

    async fn body(&mut self) -> Vec<u8> {
        let mut header = [0; HEADER];
        self.0.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(header)).unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        body
    }

    /// The id of the next request.
    async fn asked(&mut self) -> u64 {
        peek_id(&self.body().await)
    }

    async fn pong(&mut self, id: u64) {
        let mut frame = Vec::new();
        encode_frame(&Reply { id, result: Ok(ServiceOk::Pong) }, &mut frame).unwrap();
        self.0.write_all(&frame).await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_a_timeout_and_its_lateness_hurts_nobody() {
    let (_dir, socket) = socket();
    let listener = UnixListener::bind(&socket).unwrap();
    let timeout = Duration::from_millis(500);
    let daemon = async {
        let mut side = Side::accept(&listener).await;
        let (late, next) = (side.asked().await, side.asked().await);
        side.pong(late).await;
        side.pong(next).await;
    };
    let service = async {
        let client = Client::connect(options(&socket, timeout)).await.unwrap();
        let begun = Instant::now();
        let error = tokio::time::timeout(40 * timeout, client.ping()).await.expect("an end").unwrap_err();
        assert!(matches!(error, ClientError::Timeout) && error.retryable(), "{error:?}");
        assert!(begun.elapsed() >= timeout);
        // On the same connection, past the answer that nobody waits for any more.
        client.ping().await.unwrap();
    };
    tokio::join!(daemon, service);
}

#[tokio::test]
async fn a_daemon_that_says_nothing_is_a_timeout_too() {
    let (_dir, socket) = socket();
    let _listener = UnixListener::bind(&socket).unwrap();
    let error = Client::connect(options(&socket, Duration::from_millis(50))).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout), "{error:?}");
}

#[tokio::test]
async fn a_lost_connection_fails_what_is_under_way_and_is_made_anew() {
    let (_dir, socket) = socket();
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = async {
        let mut first = Side::accept(&listener).await;
        let id = first.asked().await;
        first.pong(id).await;
        first.asked().await;
        drop(first);
        let mut second = Side::accept(&listener).await;
        for _ in 0..2 {
            let id = second.asked().await;
            second.pong(id).await;
        }
    };
    let service = async {
        let client = Client::connect(options(&socket, Duration::from_secs(20))).await.unwrap();
        client.ping().await.unwrap();
        let error = client.ping().await.unwrap_err();
        assert!(matches!(error, ClientError::Lost(_)) && error.retryable(), "{error:?}");
        // No request is sent twice by itself: the two that the second connection sees are these.
        client.ping().await.unwrap();
        client.ping().await.unwrap();
    };
    tokio::join!(daemon, service);
}

#[tokio::test]
async fn a_daemon_that_is_away_is_come_back_to_after_a_pause() {
    let (_dir, socket) = socket();
    let listener = UnixListener::bind(&socket).unwrap();
    let client = {
        let connect = Client::connect(options(&socket, Duration::from_secs(20)));
        let (client, side) = tokio::join!(connect, Side::accept(&listener));
        drop(side);
        client.unwrap()
    };
    drop(listener);
    std::fs::remove_file(&socket).unwrap();
    // The first may still meet the end of the old connection.
    let _first = client.ping().await.unwrap_err();
    let _second = client.ping().await.unwrap_err();
    let begun = Instant::now();
    let away = client.ping().await.unwrap_err();
    assert!(matches!(away, ClientError::Connect { .. }) && away.retryable(), "{away:?}");
    assert!(begun.elapsed() >= MAX_PAUSE / 16, "half of twice the first pause, at least");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = async {
        let mut side = Side::accept(&listener).await;
        let id = side.asked().await;
        side.pong(id).await;
    };
    let (answer, ()) = tokio::join!(client.ping(), daemon);
    answer.unwrap();
}

#[test]
fn pauses_double_up_to_a_bound_and_no_two_clients_keep_step() {
    for (failures, longest) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 800), (u32::MAX, 800)] {
        let longest = Duration::from_millis(longest);
        let pauses: BTreeSet<_> = (0..64).map(|_| pause(failures)).collect();
        assert!(pauses.iter().all(|one| (longest / 2..=longest).contains(one)), "{failures}: {pauses:?}");
        // 64 draws of 256 lengths: 57 different ones are to be expected.
        assert!(pauses.len() > 16, "{failures}: {pauses:?}");
    }
    assert_eq!(MAX_PAUSE, Duration::from_millis(800));
}

/// Connections that the kernel has queued for a daemon that is slow to take them are no reason to say that it is away.
#[tokio::test]
async fn a_full_queue_of_connections_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    rustix::net::listen(&listener, 1).unwrap();
    let mut queued = Vec::new();
    while let Ok(one) = UnixStream::connect(&socket).await {
        queued.push(one);
    }
    let dialled = tokio::spawn({
        let socket = socket.clone();
        async move { dial(&socket).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!dialled.is_finished(), "there is no room yet");
    drop(listener.accept().unwrap());
    assert!(dialled.await.unwrap().is_ok());
}
