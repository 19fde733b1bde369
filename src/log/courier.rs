//! To journald, with receipts. That a datagram was taken says that it is in a queue, and the queue goes with the socket: what a
//! journald had not read when it was stopped is lost, and nobody is told. Two things can be known, and are enough.
//!
//! - Whether everything was read: what lies unread is charged to its sender, whose socket is ready to be written to only while
//!   that is less than a quarter of its buffer (unix(7), `SO_SNDBUF`). With the smallest buffer that there is, one unread record
//!   is more.
//! - Whether the reader is the same: the socket is connected, so that it fails once the other one is closed.
//!
//! An empty datagram, which journald passes over, shows that the reader is still there when all was read.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::{EMSGSIZE, ENOBUFS};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBuf;

use super::journal::MAX_DATAGRAM;

/// Room for the longest datagram and its book-keeping. The kernel doubles it.
const ROOM: usize = 2 * MAX_DATAGRAM;

/// What became of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is in the reader's queue.
    Taken,
    /// The queue is full.
    Full,
    /// It is longer than what the host lets through.
    TooLong,
    /// Nobody is there, or another one than before; what this one had not read is lost.
    Gone,
}

/// What is known of the datagrams that were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// All of them were read, by a reader that is still there.
    All,
    /// Not all of them, or it can't be known now.
    NotYet,
    /// As [`Delivery::Gone`].
    Gone,
}

/// A connection to one reader after the other. Nothing in it blocks but [`Courier::wait`].
#[derive(Debug)]
pub struct Courier {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Courier {
    /// To whoever reads at `path`, now or later.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        setsockopt(&socket, SndBuf, &ROOM)?;
        socket.connect(&self.path)?;
        Ok(socket)
    }

    /// Hands a datagram over. After [`Delivery::Gone`] the next one goes to a new reader.
    pub fn send(&mut self, datagram: &[u8]) -> Delivery {
        let socket = match self.socket.take().map_or_else(|| self.connect(), Ok) {
            Ok(socket) => socket,
            // Connecting may find the queue full as well.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Delivery::Full,
            Err(_) => return Delivery::Gone,
        };
        let delivery = match socket.send(datagram) {
            Ok(_) => Delivery::Taken,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Delivery::Full,
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => Delivery::Full,
            Err(error) if error.raw_os_error() == Some(EMSGSIZE) => Delivery::TooLong,
            Err(_) => return Delivery::Gone,
        };
        self.socket = Some(socket);
        delivery
    }

    /// Waits until there may be room again, or for so long.
    pub fn wait(&self, patience: Duration) {
        match &self.socket {
            Some(socket) => drop(writable(socket, patience)),
            None => std::thread::sleep(patience),
        }
    }

    /// Whether all was read. Each datagram must have been longer than 200 bytes: a shorter one is not noticed.
    pub fn receipts(&mut self) -> Receipts {
        let Some(socket) = &self.socket else { return Receipts::Gone };
        let small = setsockopt(socket, SndBuf, &0);
        let all = small.is_ok() && writable(socket, Duration::ZERO);
        let restored = setsockopt(socket, SndBuf, &ROOM);
        match (all, restored) {
            (true, Ok(())) => match self.send(&[]) {
                Delivery::Taken => Receipts::All,
                Delivery::Full | Delivery::TooLong => Receipts::NotYet,
                Delivery::Gone => Receipts::Gone,
            },
            (false, Ok(())) => Receipts::NotYet,
            (_, Err(_)) => {
                // With so small a buffer it is of no use.
                self.socket = None;
                Receipts::Gone
            }
        }
    }
}

fn writable(socket: &UnixDatagram, patience: Duration) -> bool {
    let mut polled = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    matches!(poll(&mut polled, timeout), Ok(1..))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: [u8; 600] = [b'x'; 600];

    fn reader(dir: &Path) -> (UnixDatagram, PathBuf) {
        let path = dir.join("socket");
        drop(std::fs::remove_file(&path));
        (UnixDatagram::bind(&path).unwrap(), path)
    }

    #[test]
    fn there_is_a_receipt_once_all_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, path) = reader(dir.path());
        let mut courier = Courier::new(&path);
        let mut buffer = vec![0; 2 * MAX_DATAGRAM];
        for length in [200, RECORD.len(), MAX_DATAGRAM] {
            for _ in 0..2 {
                assert_eq!(courier.send(&vec![b'x'; length]), Delivery::Taken, "{length}");
            }
            assert_eq!(courier.receipts(), Receipts::NotYet, "{length}");
            assert_eq!(reader.recv(&mut buffer).unwrap(), length);
            assert_eq!(courier.receipts(), Receipts::NotYet, "{length}: one of two");
            assert_eq!(reader.recv(&mut buffer).unwrap(), length);
            assert_eq!(courier.receipts(), Receipts::All, "{length}");
            assert_eq!(reader.recv(&mut buffer).unwrap(), 0, "the question");
        }
    }

    #[test]
    fn a_full_queue_is_waited_for_and_gives_no_receipt() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, path) = reader(dir.path());
        let mut courier = Courier::new(&path);
        assert_eq!(courier.send(&vec![b'x'; 64 << 20]), Delivery::TooLong);
        while courier.send(&RECORD) == Delivery::Taken {}
        assert_eq!(courier.send(&RECORD), Delivery::Full);
        assert_eq!(courier.receipts(), Receipts::NotYet);
        let reads = std::thread::spawn(move || {
            reader.recv(&mut [0; 1024]).unwrap();
            reader
        });
        courier.wait(Duration::from_secs(20));
        let _reader = reads.join().unwrap();
        assert_eq!(courier.send(&RECORD), Delivery::Taken);
    }

    #[test]
    fn what_a_reader_left_unread_is_known_to_be_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (first, path) = reader(dir.path());
        let mut courier = Courier::new(&path);
        assert_eq!(courier.send(&RECORD), Delivery::Taken);
        drop(first);
        assert_eq!(courier.receipts(), Receipts::Gone, "not taken for read, though nothing is in the queue");
        assert_eq!(courier.send(&RECORD), Delivery::Gone);
        let (second, path) = reader(dir.path());
        assert_eq!(courier.send(&RECORD), Delivery::Taken, "it is found again");
        drop(second);
        // Not even one that is replaced before anybody looks.
        let (_third, _) = (reader(dir.path()), path);
        assert_eq!(courier.send(&RECORD), Delivery::Gone);
        assert_eq!(courier.send(&RECORD), Delivery::Taken);
    }
}
