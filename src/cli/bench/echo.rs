//! A server that does nothing: it reads what has arrived and writes a reply of fixed size for each complete frame. What
//! a load costs against it is the cost of the socket, the executor and this client.
//!
//! It runs on an executor of the daemon's kind, in a thread of its own, over the two ends of a Unix socket pair: the
//! kernel's path is that of a listening socket, and no file is left behind.

use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc as channel;

use super::drive::Place;
use super::work::{Answer, Work};
use crate::cli::error::CliError;
use crate::client::ClientError;
use crate::wire::frame::{Split, split};
use crate::wire::{Accepted, HEADER, Reply, ServiceOk, Verdict, encode_frame};

/// Connections that wait to be served.
const QUEUE: usize = 64;
/// Bytes asked for in one read: the same as in the daemon.
const READ: usize = 64 * 1024;
/// An id is eight bytes, big-endian, at the start of a body.
const ID: usize = 8;

/// Sizes of frames in bytes, header included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) request: usize,
    pub(super) reply: usize,
}

impl Sizes {
    /// Those of a single verify of a usual passport.
    pub(super) fn usual() -> Result<Self, CliError> {
        Ok(Self { request: 450, reply: verdict_size()? })
    }
}

/// When a passport of these years expires: it says how many bytes its verdict takes.
const EXP: i64 = 1_800_000_000;

/// The frame of a reply that accepts one passport.
pub(super) fn verdict_size() -> Result<usize, CliError> {
    let result = Ok(ServiceOk::Verdict(Verdict::Accepted(Accepted { exp: EXP })));
    let mut frame = Vec::new();
    encode_frame(&Reply { id: 1, result }, &mut frame).map_err(ClientError::Wire)?;
    Ok(frame.len())
}

/// The running server; ends when dropped.
pub(super) struct Echo {
    sizes: Sizes,
    connections: Option<channel::Sender<StdStream>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts the server.
    pub(super) fn start(sizes: Sizes) -> Result<Self, CliError> {
        let (connections, inbox) = channel::channel(QUEUE);
        let (started, outcome) = mpsc::channel();
        let failed = |error: &dyn std::fmt::Display| CliError::Failed(format!("no echo server: {error}"));
        let thread = std::thread::Builder::new()
            .name("echo".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
                let told = started.send(runtime.as_ref().map(drop).map_err(ToString::to_string));
                if let (Ok(runtime), Ok(())) = (runtime, told) {
                    runtime.block_on(serve(inbox, sizes));
                }
            })
            .map_err(|error| failed(&error))?;
        outcome.recv().map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(Self { sizes, connections: Some(connections), thread: Some(thread) })
    }

    /// Where to connect.
    pub(super) fn place(&self) -> Place {
        let connections = self.connections.clone();
        Place::Pair(Box::new(move || {
            let (ours, theirs) = StdStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            let connections = connections.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            // The server takes them faster than they can be made, so a full queue means that it has died.
            connections.try_send(theirs).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(ours)
        }))
    }

    /// The load that it understands.
    pub(super) fn work(&self) -> Echoes {
        Echoes { sizes: self.sizes }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.connections = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

async fn serve(mut inbox: channel::Receiver<StdStream>, sizes: Sizes) {
    while let Some(stream) = inbox.recv().await {
        if let Ok(stream) = UnixStream::from_std(stream) {
            tokio::spawn(echo(stream, sizes));
        }
    }
}

async fn echo(mut stream: UnixStream, sizes: Sizes) {
    let (mut received, mut filled, mut replies) = (vec![0; READ], 0_usize, Vec::new());
    loop {
        if filled == received.len() {
            received.resize(received.len() * 2, 0);
        }
        match stream.read(received.get_mut(filled..).unwrap_or_default()).await {
            Ok(read) if read > 0 => filled += read,
            _ => return,
        }
        let mut used_up = 0;
        while let Ok(Split::Frame { body, used }) = split(received.get(used_up..filled).unwrap_or_default()) {
            reply(body, sizes, &mut replies);
            used_up += used;
        }
        received.copy_within(used_up..filled, 0);
        filled -= used_up;
        if stream.write_all(&replies).await.is_err() {
            return;
        }
        replies.clear();
    }
}

fn reply(body: &[u8], sizes: Sizes, out: &mut Vec<u8>) {
    let id = body.get(..ID).unwrap_or(&[0; ID]);
    frame(id, sizes.reply, out);
}

/// A frame of `size` bytes, or as many as header and id take.
fn frame(id: &[u8], size: usize, out: &mut Vec<u8>) {
    let body = size.saturating_sub(HEADER).max(ID);
    let end = out.len() + HEADER + body;
    out.extend_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(id);
    out.resize(end, 0);
}

/// The load that the server understands.
pub(super) struct Echoes {
    sizes: Sizes,
}

impl Work for Echoes {
    const GREETS: bool = false;

    fn request(&self, id: u64, out: &mut Vec<u8>) -> Result<(), CliError> {
        frame(&id.to_be_bytes(), self.sizes.request, out);
        Ok(())
    }

    fn answer(&self, body: &[u8]) -> Result<Answer, CliError> {
        let id = body.first_chunk().ok_or_else(|| CliError::Failed("an echo without its id".to_owned()))?;
        Ok(Answer { id: u64::from_be_bytes(*id), good: 1, bad: 0, why: None })
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::cli::bench::drive::{Plan, drive, frame_size};

    #[test]
    fn frames_have_the_sizes_that_were_asked_for() {
        let sizes = Sizes::usual().unwrap();
        let echoes = Echoes { sizes };
        assert_eq!(frame_size(&echoes).unwrap(), 450);
        let mut out = Vec::new();
        reply(&7_u64.to_be_bytes(), sizes, &mut out);
        let accepted = Ok(ServiceOk::Verdict(Verdict::Accepted(Accepted { exp: 1_900_000_000 })));
        let mut real = Vec::new();
        encode_frame(&Reply { id: 7, result: accepted }, &mut real).unwrap();
        assert_eq!(out.len(), real.len(), "as many bytes as a real verdict has");
        assert_eq!(echoes.answer(&out[HEADER..]).unwrap().id, 7);
    }

    #[test]
    fn a_load_of_many_in_flight_is_answered_without_a_loss() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let plan = Plan { connections: 3, in_flight: 50, seconds: Duration::from_millis(100) };
        let echo = Echo::start(Sizes { request: 20_000, reply: 5000 }).unwrap();
        let tally = runtime.block_on(drive(&echo.place(), Rc::new(echo.work()), plan)).unwrap();
        assert!(tally.good >= 150, "{}", tally.good);
        assert_eq!((tally.bad, tally.latency.len()), (0, tally.good));
    }
}
