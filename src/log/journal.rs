//! journald's native protocol (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md): one datagram of fields for each entry. The audit
//! records and the operational log both speak it.
//!
//! A stopped journald blocks a naive sender after 11 messages (measured), so sends do not block: they are repeated a few
//! times, and then the entry is lost, which the caller counts.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Where journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Bytes of a datagram that its writers keep to. A Unix datagram can be as long as its sender's buffer, by default 212,992
/// bytes (net.core.wmem_default), so none is refused with EMSGSIZE and none needs a memfd.
pub const MAX_DATAGRAM: usize = 64 * 1024;

/// Pauses between attempts when journald's queue is full.
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(16), Duration::from_millis(64)];

/// One entry. Every value goes in the length-prefixed form, which no byte in it can leave.
#[derive(Clone, Debug, Default)]
pub struct Datagram(Vec<u8>);

impl Datagram {
    /// Appends a field: `NAME\n`, the length as 64 bits little-endian, the value, `\n`. The name is ours: upper-case
    /// letters, digits and underscores, or journald leaves the field out.
    pub fn field(&mut self, name: &str, value: &str) {
        let Self(out) = self;
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'\n');
    }

    /// The bytes to send.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// The sending end. Belongs to one thread, which may pause in [`Sender::send`].
#[derive(Debug)]
pub struct Sender {
    socket: UnixDatagram,
    path: PathBuf,
    /// journald took nothing lately: one attempt for each entry, so that a long queue is soon worked off at exit.
    stalled: bool,
}

impl Sender {
    /// A sender to the socket at `path`, which need not be there yet.
    ///
    /// # Errors
    /// When the host gives no socket.
    pub fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), stalled: false })
    }

    /// Whether journald took the datagram; that is no receipt. Pauses up to 85 ms when its queue is full.
    pub fn send(&mut self, datagram: &[u8]) -> bool {
        let pauses = if self.stalled { &[][..] } else { &BACKOFF[..] };
        self.send_within(datagram, pauses)
    }

    /// The same without a pause.
    pub fn send_now(&mut self, datagram: &[u8]) -> bool {
        self.send_within(datagram, &[])
    }

    fn send_within(&mut self, datagram: &[u8], pauses: &[Duration]) -> bool {
        let mut pauses = pauses.iter();
        loop {
            // Addressed each time: a journald that came back is found by its path.
            let full = match self.socket.send_to(datagram, &self.path) {
                Ok(_) => {
                    self.stalled = false;
                    return true;
                }
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
            match pauses.next() {
                Some(pause) if full => thread::sleep(*pause),
                _ => {
                    self.stalled |= full;
                    return false;
                }
            }
        }
    }
}

/// Reads a datagram as journald does, both forms, since a forged field would be in the textual one.
#[cfg(test)]
pub(crate) fn decode(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|b| *b == b'\n').unwrap();
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if let Some(equals) = line.iter().position(|b| *b == b'=') {
            fields.push((String::from_utf8(line[..equals].to_vec()).unwrap(), line[equals + 1..].to_vec()));
            bytes = rest;
            continue;
        }
        let len = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
        fields.push((String::from_utf8(line.to_vec()).unwrap(), rest[8..8 + len].to_vec()));
        assert_eq!(rest[8 + len], b'\n');
        bytes = &rest[9 + len..];
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_field_is_spelt_as_the_protocol_says() {
        let mut datagram = Datagram::default();
        datagram.field("MESSAGE", "a\nb=c");
        datagram.field("PRIORITY", "6");
        let bytes = datagram.into_bytes();
        assert_eq!(bytes, b"MESSAGE\n\x05\0\0\0\0\0\0\0a\nb=c\nPRIORITY\n\x01\0\0\0\0\0\0\x006\n");
        assert_eq!(decode(&bytes), [("MESSAGE".into(), b"a\nb=c".to_vec()), ("PRIORITY".into(), b"6".to_vec())]);
    }

    #[test]
    fn the_longest_datagram_passes_a_socket_of_default_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        let mut sender = Sender::new(&path).unwrap();
        assert!(sender.send(&vec![b'x'; MAX_DATAGRAM]));
        let mut buffer = vec![0; 2 * MAX_DATAGRAM];
        assert_eq!(reader.recv(&mut buffer).unwrap(), MAX_DATAGRAM);
        // One that no socket takes is lost at once: nobody waits for it.
        assert!(!sender.send(&vec![b'x'; 64 << 20]));
        assert!(!sender.stalled);
    }

    #[test]
    fn a_full_queue_is_waited_for_once_and_then_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let reader = UnixDatagram::bind(&path).unwrap();
        let mut sender = Sender::new(&path).unwrap();
        while sender.send_now(b"x") {}
        assert!(sender.stalled);
        let begun = Instant::now();
        assert!((0..1000).all(|_| !sender.send(b"x")));
        assert!(begun.elapsed() < Duration::from_secs(10), "no pause while it stands still");
        reader.recv(&mut [0; 8]).unwrap();
        assert!(sender.send(b"y") && !sender.stalled, "and it is used again once it reads");
    }
}
