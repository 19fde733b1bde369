//! One connection, from greeting to last byte. Its task reads what has arrived, answers what can be answered at once in
//! place, and spawns the rest; replies leave in the order in which they are done.
//!
//! What bounds it: nothing is read while replies wait to be written, too many requests are under way, or the peer is over
//! its rate; a stint of work is short, and its uid has few at one time; a frame that is
//! not complete takes bytes from the budget or is skipped and refused as `busy`, and so does a reply that comes later,
//! until it is written; a frame must be complete, and a reply taken, within the read timeout.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep};

use super::input::{Input, Step};
use crate::service::shares::{Lease, Place};
use crate::service::{Done, Speaker, Turned};
use crate::wire::{Code, Problem, WireError};
use zeroize::Zeroize as _;

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a frame that has begun, the greeting included, and for taking a reply.
    pub read: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Requests under way at once.
    pub in_flight: usize,
}

/// Unwritten output beyond which nothing more is handled before it is written. Up to here it is beside the byte budget,
/// for each connection, so it is small; the replies to a full read of single requests fit.
const OUTPUT_HIGH: usize = 32 << 10;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// The daemon drains.
    #[error("drained")]
    Drained,
    /// The greeting was refused.
    #[error("greeting refused")]
    Refused,
    /// A frame did not complete in time.
    #[error("a frame was not completed in time")]
    Slow,
    /// Replies were not taken in time.
    #[error("replies were not taken in time")]
    NotReading,
    /// Nothing was asked for long.
    #[error("idle")]
    Idle,
    /// The peer broke the framing.
    #[error(transparent)]
    Framing(#[from] WireError),
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Serves `stream` until it ends.
pub(super) async fn serve<S: Speaker>(
    stream: UnixStream,
    speaker: Arc<S>,
    place: Arc<Place>,
    patience: Patience,
    mut stop: watch::Receiver<bool>,
) -> End {
    let (reply_to, replies) = mpsc::channel(patience.in_flight);
    let mut connection = Connection {
        stream,
        speaker,
        patience,
        input: Input::new(Arc::clone(&place)),
        place,
        output: Vec::new(),
        sensitive: false,
        leases: Vec::new(),
        greeted: false,
        ending: None,
        in_flight: 0,
        reply_to,
        replies,
        since: Instant::now(),
        timer: Box::pin(tokio::time::sleep(patience.read)),
    };
    loop {
        if let Err(end) = connection.step(&mut stop).await {
            return end;
        }
    }
}

struct Connection<S> {
    stream: UnixStream,
    speaker: Arc<S>,
    patience: Patience,
    place: Arc<Place>,
    input: Input,
    output: Vec<u8>,
    /// There is a secret in `output`.
    sensitive: bool,
    /// What the replies in `output` hold of the byte budget.
    leases: Vec<Lease>,
    greeted: bool,
    /// Nothing is read any more; the connection ends, so, when everything under way is answered.
    ending: Option<End>,
    in_flight: usize,
    reply_to: mpsc::Sender<Done>,
    replies: mpsc::Receiver<Done>,
    /// When the present wait began: for a frame to complete, for output to be taken, or for the next request.
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if self.sensitive {
            self.output.zeroize();
        }
    }
}

impl<S: Speaker> Connection<S> {
    async fn step(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), End> {
        let stopping = *stop.borrow_and_update();
        let quiet = self.in_flight == 0 && self.output.is_empty();
        if quiet && stopping {
            return Err(End::Drained);
        }
        if quiet && let Some(end) = self.ending.take() {
            return Err(end);
        }
        let may_read =
            self.output.is_empty() && self.in_flight < self.patience.in_flight && self.ending.is_none() && !stopping;
        tokio::select! {
            reply = self.replies.recv(), if self.in_flight > 0 && self.output.len() < OUTPUT_HIGH => {
                self.collect(reply);
                self.flush()
            }
            ready = self.stream.writable(), if !self.output.is_empty() => {
                ready?;
                self.flush()
            }
            ready = self.stream.readable(), if may_read => {
                ready?;
                self.receive().await
            }
            () = self.timer.as_mut() => self.on_time(),
            _ = stop.changed(), if !stopping => Ok(()),
        }
    }

    fn collect(&mut self, reply: Option<Done>) {
        let mut next = reply;
        while let Some(mut done) = next {
            self.in_flight -= 1;
            self.sensitive |= done.sensitive;
            if self.sensitive && self.output.capacity() - self.output.len() < done.frame.len() {
                // By hand: a Vec that grows by itself leaves its bytes behind.
                let mut larger = Vec::with_capacity(2 * (self.output.len() + done.frame.len()));
                larger.extend_from_slice(&self.output);
                std::mem::replace(&mut self.output, larger).zeroize();
            }
            self.output.extend_from_slice(&done.frame);
            self.leases.extend(done.lease.take());
            self.since = Instant::now();
            next = if self.output.len() < OUTPUT_HIGH { self.replies.try_recv().ok() } else { None };
        }
    }

    /// Reads once and handles every frame that is complete.
    async fn receive(&mut self) -> Result<(), End> {
        let begun = self.input.partial();
        if !self.input.read(&self.stream)? {
            return Ok(());
        }
        if self.input.ended() {
            self.ending = Some(End::Closed);
            self.speaker.ended();
        }
        let mut stint = self.place.stint().await;
        loop {
            match self.input.next() {
                Ok(Step::Frame) => {
                    self.since = Instant::now();
                    if let Some(pause) = self.handle().await? {
                        drop(stint);
                        self.leave_unread(pause).await?;
                        stint = self.place.stint().await;
                    }
                }
                Ok(Step::Skip { .. }) if !self.greeted => {
                    self.speaker.refuse_greeting(&mut self.output);
                    self.flush_all().await?;
                    return Err(End::Refused);
                }
                Ok(Step::Skip { id }) => self.speaker.refuse(id, Problem::new(Code::Busy), &mut self.output),
                Ok(Step::Wait) => break,
                Err(broken) => {
                    // What came before is answered; only then the connection ends.
                    self.ending = Some(broken.into());
                    return self.flush();
                }
            }
            let (full, crowded) = (self.output.len() >= OUTPUT_HIGH, self.in_flight >= self.patience.in_flight);
            if full || crowded || stint.is_over() {
                // Others get their turn, and a peer that makes us wait holds nobody up.
                drop(stint);
                tokio::task::yield_now().await;
                if full {
                    self.flush_all().await?;
                }
                if crowded {
                    // Complete frames stay in the input; they are looked at when replies have made room.
                    self.wait_for_room().await?;
                }
                stint = self.place.stint().await;
            }
        }
        drop(stint);
        self.input.rest();
        if !begun && self.input.partial() {
            // From its first byte, so that a drip of bytes does not stretch the time.
            self.since = Instant::now();
        }
        self.flush()
    }

    /// Handles the frame that was found last, and those behind it that go with it. The peer may have to be left unread for a while after it.
    async fn handle(&mut self) -> Result<Option<Duration>, End> {
        if !self.greeted {
            self.greeted = true;
            if self.speaker.greet(self.input.frame(), &mut self.output).is_err() {
                self.flush_all().await?;
                return Err(End::Refused);
            }
            return Ok(None);
        }
        match self.speaker.turn(&mut self.input.bodies(), &mut self.output).await {
            Turned::Done => Ok(None),
            Turned::Pause(pause) => Ok(Some(pause)),
            Turned::Later(later) => {
                self.in_flight += 1;
                let reply_to = self.reply_to.clone();
                // The channel holds as many replies as may be under way, so the send never waits; it fails if the peer left.
                tokio::spawn(async move { drop(reply_to.try_send(later.await)) });
                Ok(None)
            }
        }
    }

    /// Reads nothing for a while; what is under way is answered meanwhile.
    async fn leave_unread(&mut self, pause: Duration) -> Result<(), End> {
        let end = tokio::time::sleep(pause);
        tokio::pin!(end);
        loop {
            self.flush_all().await?;
            tokio::select! {
                () = &mut end => break,
                reply = self.replies.recv(), if self.in_flight > 0 => self.collect(reply),
            }
        }
        self.since = Instant::now();
        Ok(())
    }

    async fn wait_for_room(&mut self) -> Result<(), End> {
        self.flush_all().await?;
        let reply = self.replies.recv().await;
        self.collect(reply);
        // What comes next is written behind it, and might move it.
        if self.sensitive { self.flush_all().await } else { Ok(()) }
    }

    /// Writes what the socket takes now.
    fn flush(&mut self) -> Result<(), End> {
        let mut written = 0;
        while let Some(rest) = self.output.get(written..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        if written > 0 {
            self.since = Instant::now();
        }
        if written == self.output.len() {
            self.leases.clear();
            if std::mem::take(&mut self.sensitive) {
                // All of it, with what was there before.
                self.output.zeroize();
            }
            if self.output.capacity() > OUTPUT_HIGH {
                self.output = Vec::new();
            }
        }
        self.output.drain(..written.min(self.output.len()));
        Ok(())
    }

    /// Writes everything; a peer that does not take it in time is cut off.
    async fn flush_all(&mut self) -> Result<(), End> {
        self.flush()?;
        while !self.output.is_empty() {
            match tokio::time::timeout(self.patience.read, self.stream.writable()).await {
                Ok(ready) => ready?,
                Err(_) => return Err(End::NotReading),
            }
            self.flush()?;
        }
        Ok(())
    }

    /// The timer is set anew only when it fires, not at every request.
    fn on_time(&mut self) -> Result<(), End> {
        let (limit, end) = if !self.output.is_empty() {
            (self.patience.read, End::NotReading)
        } else if self.in_flight > 0 {
            (Duration::MAX, End::Idle)
        } else if !self.greeted || self.input.partial() {
            (self.patience.read, End::Slow)
        } else {
            (self.patience.idle, End::Idle)
        };
        let waited = self.since.elapsed();
        if waited >= limit {
            return Err(end);
        }
        let next = limit.saturating_sub(waited).min(self.patience.read);
        self.timer.as_mut().reset(Instant::now() + next);
        Ok(())
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
