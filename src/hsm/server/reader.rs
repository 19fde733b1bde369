//! Requests on their way in. The front's bytes are as hostile as a stranger's: it may have been taken over.

use super::desk::Desk;
use super::outbox::Outbox;
use crate::hsm::device::Device;
use crate::hsm::guard::MAX_PAYLOAD;
use crate::wire::frame::{Split, split};
use crate::wire::link::{LinkGreeting, LinkHello, LinkRequest};
use crate::wire::{self, HEADER};
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The largest request, with its header: a payload and what names it.
const MAX_REQUEST: usize = MAX_PAYLOAD + 1024;
/// Room for many requests, so that what is pipelined is read at once.
const BUFFER: usize = 64 * 1024;
/// How long a frame may take from its first byte to its last. Between frames a front may be silent for ever.
const FRAME_DEADLINE: Duration = Duration::from_secs(5);
/// How long a new connection may take to say hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(2);

/// Serves a connection until it ends. `Err` is why it was closed, for the log.
pub(super) fn run<D: Device>(desk: &Desk<D>, outbox: &Outbox, socket: UnixStream) -> Result<(), &'static str> {
    let mut input = Input { socket, buffer: vec![0; BUFFER], start: 0, end: 0, begun: None, timed: None };
    input.begun = Some((Instant::now(), HELLO_DEADLINE));
    let Some(frame) = input.next()? else { return Ok(()) };
    let hello: LinkHello<'_> = wire::decode(input.body(frame)).map_err(|_| "its first frame is not a hello")?;
    let greeting = desk.greet(&hello);
    outbox.greet(&greeting);
    if matches!(greeting, LinkGreeting::Refused(_)) {
        return Err("its hello was refused");
    }
    while let Some(frame) = input.next()? {
        let request: LinkRequest<'_> = wire::decode(input.body(frame)).map_err(|_| {
            desk.unreadable();
            "a frame is malformed"
        })?;
        if !outbox.begin() {
            return Err("it does not read its replies");
        }
        desk.serve(&request, outbox);
    }
    Ok(())
}

/// A body within the buffer.
#[derive(Clone, Copy)]
struct Found {
    at: usize,
    len: usize,
}

struct Input {
    socket: UnixStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// When the frame that is not complete began, and how long it may take.
    begun: Option<(Instant, Duration)>,
    /// What the socket's read timeout is set to.
    timed: Option<Duration>,
}

impl Input {
    fn body(&self, found: Found) -> &[u8] {
        self.buffer.get(found.at..found.at + found.len).unwrap_or_default()
    }

    /// The next frame; `None` when the peer has closed between frames.
    fn next(&mut self) -> Result<Option<Found>, &'static str> {
        loop {
            let waiting = self.buffer.get(self.start..self.end).unwrap_or_default();
            match split(waiting).map_err(|_| "a frame is too large")? {
                Split::Frame { body, used } => {
                    let found = Found { at: self.start + HEADER, len: body.len() };
                    self.start += used;
                    self.begun = None;
                    return Ok(Some(found));
                }
                Split::Partial { need } if need > MAX_REQUEST => return Err("a frame is too large"),
                Split::Partial { .. } => {
                    if self.start < self.end && self.begun.is_none() {
                        self.begun = Some((Instant::now(), FRAME_DEADLINE));
                    }
                    if self.fill()? == 0 {
                        return if self.start == self.end { Ok(None) } else { Err("it ended within a frame") };
                    }
                }
            }
        }
    }

    /// Reads more. The buffer is larger than any frame, so there is room once what was used is gone.
    fn fill(&mut self) -> Result<usize, &'static str> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        loop {
            self.set_timeout()?;
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match self.socket.read(room) {
                Ok(more) => {
                    self.end += more;
                    return Ok(more);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Err("a frame takes too long"),
                // Reset: the front is gone.
                Err(_) => return Ok(0),
            }
        }
    }

    fn set_timeout(&mut self) -> Result<(), &'static str> {
        let left = match self.begun {
            None => None,
            Some((begun, limit)) => {
                let left = limit.saturating_sub(begun.elapsed());
                // A timeout of zero would be an error, and it is over in any case.
                if left.is_zero() {
                    return Err("a frame takes too long");
                }
                Some(left)
            }
        };
        if left != self.timed {
            self.socket.set_read_timeout(left).map_err(|_| "its socket failed")?;
            self.timed = left;
        }
        Ok(())
    }
}
