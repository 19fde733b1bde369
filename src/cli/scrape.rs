//! One GET to the daemon's metrics port.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The largest answer that is read, in bytes. Ours has some 20 KiB.
const MAX_ANSWER: u64 = 4 << 20;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) status: u16,
    pub(super) body: String,
}

/// GETs `path`: one request, and the answer ends with the connection.
pub(super) fn get(address: SocketAddr, path: &str, timeout: Duration) -> io::Result<Page> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    // In one write: a server that answers after the first piece would reset what it did not read.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAccept: text/plain\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    page(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

fn page(answer: &[u8]) -> Option<Page> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let chunked = lines.any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    Some(Page { status, body: if chunked { unchunked(body)? } else { body.to_owned() } })
}

/// RFC 9112 §7.1, without extensions and trailers.
fn unchunked(mut body: &str) -> Option<String> {
    let mut out = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(out);
        }
        out.push_str(rest.get(..size)?);
        body = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}

/// The sum of a counter's series whose label `op` starts with `op`, from the Prometheus text format 0.0.4.
pub(super) fn total(page: &str, metric: &str, op: &str) -> f64 {
    let series = page.lines().filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once('}'));
    let label = format!("op=\"{op}");
    series
        .filter(|(labels, _)| labels.starts_with(&label) || labels.contains(&format!(",{label}")))
        .filter_map(|(_, value)| value.split_whitespace().next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn counters_are_summed_by_operation() {
        let text = concat!(
            "# TYPE passport_ops_total counter\n",
            "passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"ok\"} 3\n",
            "passport_ops_total{op=\"issue_batch\",result=\"ok\",alg=\"Ed25519\"} 4 1700000000000\n",
            "passport_ops_total{op=\"verify\",result=\"ok\"} 5\n",
            "passport_ops_total_x{op=\"issue\"} 9\n",
        );
        assert!((total(text, "passport_ops_total", "issue") - 7.0).abs() < 1e-9);
        assert!((total(text, "passport_ops_total", "verify") - 5.0).abs() < 1e-9);
        assert!(total(text, "nothing", "issue").abs() < 1e-9);
    }

    #[test]
    fn pages_plain_and_chunked() {
        let plain = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(page(plain), Some(Page { status: 200, body: "ok".into() }));
        let chunked = b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(page(chunked), Some(Page { status: 503, body: "abcd".into() }));
        assert_eq!(page(b"220 mail ready\r\n\r\n"), None);
        assert_eq!(page(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"), None);
    }

    #[test]
    fn a_page_over_a_real_socket() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let probe = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        if let Err(error) = TcpStream::connect(probe.local_addr().unwrap()) {
            return crate::skipped::skipped(&format!("a scrape, since the loopback interface is down: {error}"));
        }
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        assert_eq!(get(address, "/readyz", Duration::from_secs(5)).unwrap().status, 404);
        assert!(server.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
    }
}
