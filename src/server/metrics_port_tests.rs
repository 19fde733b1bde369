use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use super::*;
use crate::metrics::{Condition, Words};

const SHORT: Deadlines = Deadlines { head: Duration::from_millis(200), whole: Duration::from_millis(600) };

struct Port {
    addr: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: watch::Sender<bool>,
    served: JoinHandle<io::Result<()>>,
}

/// A port on a free loopback address; none where that interface is down, as in a network namespace of one's own.
fn port(deadlines: Deadlines) -> Option<Port> {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    if let Err(error) = std::net::TcpStream::connect(probe.local_addr().unwrap()) {
        crate::skipped::skipped(&format!("the metrics port, since the loopback interface is down: {error}"));
        return None;
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let words = Words { key_states: &["active"], ledger_events: &["issue"] };
    let metrics = Arc::new(Metrics::new(words).unwrap());
    let ready = Arc::new(AtomicBool::new(true));
    let (stop, stopped) = watch::channel(false);
    let state = Arc::clone(&ready);
    let report: Ready = Arc::new(move || {
        let ok = state.load(Ordering::Relaxed);
        let condition = Condition {
            name: "hsm",
            ok,
            summary: if ok { "" } else { "does not sign" },
            detail: "PIN refused at slot 7".into(),
        };
        ReadyReport { issue_ready: ok, verify_ready: true, conditions: vec![condition] }
    });
    let served = tokio::spawn(serve_within(listener, metrics, report, stopped, deadlines));
    Some(Port { addr, ready, stop, served })
}

fn usual() -> Option<Port> {
    port(DEADLINES)
}

/// Sends bytes and reads until the other end closes. A reset after the answer is an end too.
async fn exchange(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    read_all(&mut stream).await
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk).await {
        out.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8(out).unwrap()
}

async fn ask(addr: SocketAddr, method: &str, path: &str) -> (u16, String, String) {
    let answer = exchange(addr, format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn the_three_pages_and_nothing_else() {
    let Some(port) = usual() else { return };
    let (status, head, body) = ask(port.addr, "GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4") && head.contains("connection: close"), "{head}");
    assert!(body.contains("passport_build_info{") && body.ends_with('\n'));
    assert_eq!(ask(port.addr, "GET", "/metrics?x=1").await.0, 200, "a query is allowed and ignored");
    let (status, _, body) = ask(port.addr, "GET", "/healthz").await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    for path in ["/", "/metrics/", "/Metrics", "//metrics", "/metrics/../healthz", "/debug/pprof", "/%6detrics"] {
        assert_eq!(ask(port.addr, "GET", path).await.0, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"] {
        let (status, head, _) = ask(port.addr, method, "/metrics").await;
        assert!(status == 405 && head.contains("allow: get, head"), "{method}: {head}");
    }
    assert_eq!(ask(port.addr, "POST", "/secret").await.0, 404);
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let Some(port) = usual() else { return };
    let (_, get, body) = ask(port.addr, "GET", "/healthz").await;
    let (status, head, none) = ask(port.addr, "HEAD", "/healthz").await;
    assert_eq!((status, none.as_str()), (200, ""));
    let length = format!("content-length: {}", body.len());
    assert!(get.contains(&length) && head.contains(&length), "{head}");
}

#[tokio::test]
async fn readyz_follows_the_conditions_and_tells_no_details() {
    let Some(port) = usual() else { return };
    let (status, head, body) = ask(port.addr, "GET", "/readyz").await;
    assert!(status == 200 && head.contains("content-type: application/json"));
    assert_eq!(body, r#"{"issue_ready":true,"verify_ready":true,"conditions":[{"name":"hsm","ok":true}]}"#);
    port.ready.store(false, Ordering::Relaxed);
    let (status, _, body) = ask(port.addr, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains(r#"{"name":"hsm","ok":false,"detail":"does not sign"}"#) && !body.contains("PIN"), "{body}");
    assert_eq!(ask(port.addr, "GET", "/healthz").await.0, 200, "alive, though not ready");
}

#[tokio::test]
async fn one_request_a_connection() {
    let Some(port) = usual() else { return };
    let twice = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(exchange(port.addr, twice).await.matches("HTTP/1.1 200").count(), 1);
}

#[tokio::test]
async fn oversize_heads_and_garbage_are_refused() {
    let Some(port) = usual() else { return };
    let around = "GET /healthz HTTP/1.1\r\nX: \r\n\r\n".len();
    for (bytes, status) in [(MAX_HEAD_BYTES, 200), (MAX_HEAD_BYTES + 1, 431)] {
        let head = format!("GET /healthz HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(bytes - around));
        let answer = exchange(port.addr, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{bytes} bytes: {answer}");
    }
    for (headers, status) in [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)] {
        let head = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(headers));
        let answer = exchange(port.addr, head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers} headers: {answer}");
    }
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(9000));
    assert!(!exchange(port.addr, path.as_bytes()).await.contains(" 200 "));
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"[..], b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n"] {
        assert!(!exchange(port.addr, garbage).await.contains(" 200 "));
    }
    assert_eq!(ask(port.addr, "GET", "/healthz").await.0, 200, "and the port still answers");
}

#[tokio::test]
async fn a_body_that_never_comes_holds_nobody() {
    let Some(port) = port(SHORT) else { return };
    let started = Instant::now();
    let answer = exchange(port.addr, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn slow_heads_are_cut_off_and_their_places_free_again() {
    let Some(port) = port(SHORT) else { return };
    let mut slow = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = TcpStream::connect(port.addr).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").await.unwrap();
        slow.push(stream);
    }
    // Every place is taken; this one waits in the kernel's queue until the deadline frees one.
    let (status, ..) = tokio::time::timeout(Duration::from_secs(5), ask(port.addr, "GET", "/healthz")).await.unwrap();
    assert_eq!(status, 200);
    for mut stream in slow {
        let answer = tokio::time::timeout(Duration::from_secs(5), read_all(&mut stream)).await.unwrap();
        assert!(!answer.contains(" 200 "), "{answer}");
    }
}

#[tokio::test]
async fn so_many_connections_are_served_and_the_next_waits_for_a_place() {
    const NEVER: Duration = Duration::from_secs(3600);
    let Some(port) = port(Deadlines { head: NEVER, whole: NEVER }) else { return };
    let slow = async || {
        let mut stream = TcpStream::connect(port.addr).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        stream
    };
    let mut held = Vec::new();
    for _ in 1..MAX_CONNECTIONS {
        held.push(slow().await);
    }
    let last = tokio::time::timeout(Duration::from_secs(20), ask(port.addr, "GET", "/healthz")).await;
    assert_eq!(last.expect("the last place is one").0, 200);
    held.push(slow().await);
    let mut next = slow().await;
    next.write_all(b"\r\n").await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(200), next.readable()).await;
    assert!(waits.is_err(), "there is no place for it");
    drop(held.pop());
    let answer = tokio::time::timeout(Duration::from_secs(20), read_all(&mut next)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn head_and_connection_have_their_deadlines() {
    const SOON: Duration = Duration::from_millis(200);
    let never = Duration::from_secs(3600);
    for deadlines in [Deadlines { head: SOON, whole: never }, Deadlines { head: never, whole: SOON }] {
        let Some(port) = port(deadlines) else { return };
        let begun = Instant::now();
        let mut stream = TcpStream::connect(port.addr).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), read_all(&mut stream)).await.unwrap();
        assert!(begun.elapsed() >= SOON && !answer.contains(" 200 "), "{answer} after {:?}", begun.elapsed());
    }
    assert_eq!((DEADLINES.head, DEADLINES.whole), (Duration::from_secs(3), Duration::from_secs(10)));
}

#[tokio::test]
async fn a_drip_of_bytes_does_not_extend_the_deadline() {
    let Some(port) = port(SHORT) else { return };
    let mut stream = TcpStream::connect(port.addr).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    let started = Instant::now();
    while stream.write_all(b"X").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(started.elapsed() < Duration::from_secs(5), "still open");
    }
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_the_port() {
    let Some(port) = usual() else { return };
    let mut idle = TcpStream::connect(port.addr).await.unwrap();
    assert_eq!(ask(port.addr, "GET", "/healthz").await.0, 200);
    port.stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(5), port.served).await.unwrap().unwrap().unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(5), read_all(&mut idle)).await.unwrap();
    assert_eq!(rest, "");
    assert!(TcpStream::connect(port.addr).await.is_err());
}
