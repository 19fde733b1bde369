//! Requests on their way in. The front's bytes are as hostile as a stranger's: it may have been taken over.

use super::desk::Desk;
use super::outbox::Outbox;
use crate::hsm::device::Device;
use crate::hsm::guard::MAX_PAYLOAD;
use crate::secret::LockedBuf;
use crate::wire::frame::{Split, split};
use crate::wire::link::{LinkAmnesia, LinkFront, LinkGreeting, LinkHello, LinkRequest};
use crate::wire::sealed::MAX_SEALED;
use crate::wire::{self, HEADER};
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The largest request, with its header: a payload or a sealed secret, and what names it.
const MAX_REQUEST: usize = MAX_SEALED + 1024;
const _: () = assert!(MAX_SEALED > MAX_PAYLOAD, "or a payload is the largest");
/// Room for many requests, so that what is pipelined is read at once. It may hold secrets, so it is locked, and zeroised as
/// it is read.
const BUFFER: usize = 128 * 1024;
/// How long a frame may take from its first byte to its last. Between frames a front may be silent for ever.
const FRAME_DEADLINE: Duration = Duration::from_secs(5);
/// How long a new connection may take to say hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(2);

/// Serves a connection until it ends. `Err` is why it was closed, for the log.
pub(super) fn run<D: Device>(desk: &Desk<D>, outbox: &Outbox, socket: UnixStream) -> Result<(), &'static str> {
    let mut input = Input { socket, buffer: LockedBuf::new(BUFFER), done: 0, begun: None, timed: None };
    input.begun = Some((Instant::now(), HELLO_DEADLINE));
    if !input.next()? {
        return Ok(());
    }
    let (hello, front) = read_hello(input.body())?;
    let greeting = desk.greet(&hello, front);
    outbox.greet(&greeting);
    if matches!(greeting, LinkGreeting::Refused(_)) {
        return Err("its hello was refused");
    }
    while input.next()? {
        let request: LinkRequest<'_> = wire::decode(input.body()).map_err(|_| {
            desk.unreadable();
            "a frame is malformed"
        })?;
        if !desk.serves(front) {
            return Err("another front has taken its place");
        }
        if !outbox.begin() {
            return Err("it does not read its replies");
        }
        desk.serve(&request, outbox);
    }
    Ok(())
}

/// What the front says first: of one in amnesia mode, with which one it is.
fn read_hello(body: &[u8]) -> Result<(LinkHello<'_>, Option<LinkFront>), &'static str> {
    if let Ok(hello) = wire::decode::<LinkHello<'_>>(body) {
        return Ok((hello, None));
    }
    let said: LinkAmnesia<'_> = wire::decode(body).map_err(|_| "its first frame is not a hello")?;
    Ok((said.hello, Some(said.front)))
}

struct Input {
    socket: UnixStream,
    buffer: LockedBuf,
    /// Bytes of the frame that was handed out last; they leave the buffer before the next is looked for.
    done: usize,
    /// When the frame that is not complete began, and how long it may take.
    begun: Option<(Instant, Duration)>,
    /// What the socket's read timeout is set to.
    timed: Option<Duration>,
}

impl Input {
    /// The body of the frame that was found last.
    fn body(&self) -> &[u8] {
        self.buffer.expose().get(HEADER..self.done).unwrap_or_default()
    }

    /// Finds the next frame; `false` when the peer has closed between frames.
    fn next(&mut self) -> Result<bool, &'static str> {
        self.buffer.consume(std::mem::take(&mut self.done));
        loop {
            match split(self.buffer.expose()).map_err(|_| "a frame is too large")? {
                Split::Frame { used, .. } => {
                    self.done = used;
                    self.begun = None;
                    return Ok(true);
                }
                Split::Partial { need } if need > MAX_REQUEST => return Err("a frame is too large"),
                Split::Partial { .. } => {
                    if !self.buffer.is_empty() && self.begun.is_none() {
                        self.begun = Some((Instant::now(), FRAME_DEADLINE));
                    }
                    if self.fill()? == 0 {
                        return if self.buffer.is_empty() { Ok(false) } else { Err("it ended within a frame") };
                    }
                }
            }
        }
    }

    /// Reads more. The buffer is larger than any frame, so there is room.
    fn fill(&mut self) -> Result<usize, &'static str> {
        loop {
            self.set_timeout()?;
            let room =
                self.buffer.room(BUFFER - self.buffer.len()).map_err(|_| "there is no memory for its requests")?;
            match self.socket.read(room) {
                Ok(more) => {
                    self.buffer.filled(more);
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
