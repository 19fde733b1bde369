//! The task that owns the connection to the signer.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::admission::Admission;
use super::sealing::{SealAsk, SealWhat};
use super::statements::CheckpointAsk;
use super::text::{plain, plain_welcome};
use super::{Ask, Call, LinkConfig, LinkStatus, SignerError};
use crate::secret::LockedBuf;
use crate::wire::frame::{Split, split};
use crate::wire::link::{
    LinkAmnesia, LinkFront, LinkGreeting, LinkHello, LinkOp, LinkReply, LinkRequest, LinkResult, LinkWelcome,
};
use crate::wire::{HEADER, MAX_FRAME, Plain, WIRE_VERSION, decode, encode_frame};

/// Calls taken from the inbox before they are written with one `write`.
const WRITE_BATCH: usize = 64;
/// Room for one read.
const READ: usize = 16 << 10;
/// Bytes that may wait to be read: the largest frame, and what one read gives beside it.
const MAX_INPUT: usize = MAX_FRAME + HEADER + READ;
/// Bytes that may wait to be written. Requests hold places in front of the HSM and bytes of the budget, so there are never so
/// many; one that would not fit is answered with a defect.
const MAX_OUTPUT: usize = 128 << 20;
/// The first wait before connecting again; doubled up to [`BACKOFF_MAX`]: with the second that systemd or `run` waits before
/// it starts the next signer, and that one's start, passports are issued again within two.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(250);
/// The longest pause while the next signer is expected.
const BACKOFF_AWAY: Duration = Duration::from_millis(100);
/// How long calls wait for the next signer after one has announced that it leaves. It logs in and reads its keys in some
/// tenths of a second, and systemd starts it a second after the end of the last one (`RestartSec=`).
pub(super) const HOLD: Duration = Duration::from_secs(3);
/// How much longer than a call a greeting may take in amnesia mode, in which keys are made for a front that is new: a second
/// until their version begins, and the making.
const KEYS: Duration = Duration::from_secs(5);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Reads before others get their turn: a signer that never stops talking must not keep deadlines from being looked at.
const READS_PER_STEP: usize = 8;
/// The deadline here lies this much behind the signer's own answer, so that it comes first.
const GRACE: Duration = Duration::from_millis(500);
/// The signer's watchdog looks eight times within the time of an operation (`hsm::pool`), so its answer may be late by an
/// eighth.
const LOOKS: u32 = 8;

/// When a call is given up here, after it was written.
pub(super) fn patience(op_timeout: Duration) -> Duration {
    op_timeout + op_timeout / LOOKS + GRACE
}

/// How a link ended.
enum End {
    /// Nobody is left to call.
    Unused,
    /// The signer announced it, and has answered everything.
    Left,
    /// It broke: why.
    Broken(String),
}

/// Keeps a link for as long as somebody holds the handle.
pub(super) async fn run(
    config: LinkConfig,
    mut inbox: mpsc::Receiver<Call>,
    report: watch::Sender<LinkStatus>,
    admission: Arc<Admission>,
    newest: Arc<AtomicU64>,
) {
    let mut backoff = BACKOFF_MIN;
    // Until when calls wait for the next signer.
    let mut hold: Option<Instant> = None;
    loop {
        match greet(&config, newest.load(Ordering::Acquire)).await {
            Ok((stream, welcome)) => {
                (backoff, hold) = (BACKOFF_MIN, None);
                admission.sessions(usize::try_from(welcome.sessions).unwrap_or(usize::MAX));
                report.send_replace(LinkStatus::Up(welcome.clone()));
                match Link::new(stream, patience(config.op_timeout)).serve(&mut inbox).await {
                    End::Unused => return,
                    End::Left => {
                        config.recycled.inc();
                        hold = Some(Instant::now() + HOLD);
                        report.send_replace(LinkStatus::Away(welcome));
                    }
                    End::Broken(why) => drop(report.send_replace(LinkStatus::Down(why))),
                }
            }
            Err(error) if hold.is_none_or(|until| until <= Instant::now()) => {
                hold = None;
                let why = format!("{}: {error}{}", config.socket.display(), remedy(&error));
                report.send_replace(LinkStatus::Down(why));
            }
            Err(_) => {}
        }
        let pause = tokio::time::sleep(backoff);
        backoff = (backoff * 2).min(if hold.is_some() { BACKOFF_AWAY } else { BACKOFF_MAX });
        if hold.is_some() {
            // Calls stay where they are; there is room for as many as hold a place.
            tokio::select! {
                () = pause => continue,
                () = report.closed() => return,
            }
        }
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                call = inbox.recv() => match call {
                    Some(call) => drop(call.answer.send(Err(SignerError::Unavailable))),
                    None => return,
                },
            }
        }
    }
}

/// What to do, where the system's word leaves that open.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; the signer does not run: its log says why",
        io::ErrorKind::PermissionDenied => {
            "; the front may not reach the signer's socket: see server.user and the directory"
        }
        _ => "",
    }
}

/// Connects, checks who is there, and exchanges greetings, all within the time of one operation.
async fn greet(config: &LinkConfig, newest: u64) -> io::Result<(UnixStream, LinkWelcome)> {
    // In amnesia mode it may have keys to make first.
    let patience = config.op_timeout + if config.amnesia.is_some() { KEYS } else { Duration::ZERO };
    tokio::time::timeout(patience, connect(config, newest))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the signer accepts no greeting")))
}

async fn connect(config: &LinkConfig, newest: u64) -> io::Result<(UnixStream, LinkWelcome)> {
    let mut stream = UnixStream::connect(&config.socket).await?;
    let uid = stream.peer_cred()?.uid();
    if uid != config.signer_uid && uid != 0 {
        return Err(io::Error::other(format!("uid {uid} listens there, not the signer's")));
    }
    let mut hello = Vec::new();
    let first = LinkHello { wire: WIRE_VERSION, issuer: &config.issuer };
    match config.amnesia.map(|id| LinkFront { id, newest }) {
        None => encode_frame(&first, &mut hello),
        Some(front) => encode_frame(&LinkAmnesia { hello: first, front }, &mut hello),
    }
    .map_err(io::Error::other)?;
    stream.write_all(&hello).await?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header).await?;
    let length = usize::try_from(u32::from_be_bytes(header)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(io::Error::other("the greeting is not one of a signer"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match decode::<LinkGreeting>(&body).map_err(io::Error::other)? {
        LinkGreeting::Welcome(welcome) => Ok((stream, plain_welcome(welcome))),
        LinkGreeting::Refused(why) => Err(io::Error::other(format!("the signer refuses this front: {}", plain(&why)))),
    }
}

struct Pending {
    call: Call,
    until: Instant,
}

struct Link {
    stream: UnixStream,
    pending: HashMap<u64, Pending>,
    next_id: u64,
    /// Locked, and zeroised as it is read: secrets come this way.
    input: LockedBuf,
    /// And go this way.
    output: LockedBuf,
    patience: Duration,
    heard: Instant,
    /// The signer takes no further calls here.
    leaving: bool,
}

impl Link {
    fn new(stream: UnixStream, patience: Duration) -> Self {
        Self {
            stream,
            pending: HashMap::new(),
            next_id: 1,
            input: LockedBuf::new(MAX_INPUT),
            output: LockedBuf::new(MAX_OUTPUT),
            patience,
            heard: Instant::now(),
            leaving: false,
        }
    }

    /// Serves calls until the link ends. What is under way is answered.
    async fn serve(mut self, inbox: &mut mpsc::Receiver<Call>) -> End {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut calls = Vec::with_capacity(WRITE_BATCH);
        let end = loop {
            if self.leaving && self.pending.is_empty() {
                break End::Left;
            }
            let step = tokio::select! {
                n = inbox.recv_many(&mut calls, WRITE_BATCH), if !self.leaving => {
                    if n == 0 { break End::Unused; }
                    self.take(&mut calls);
                    self.flush()
                }
                ready = self.stream.readable() => match ready.and_then(|()| self.receive()) {
                    Ok(more) => {
                        if more {
                            // A socket that is always ready never waits, so the runtime would get no turn either.
                            tokio::task::yield_now().await;
                        }
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                ready = self.stream.writable(), if !self.output.is_empty() => ready.and_then(|()| self.flush()),
                now = tick.tick() => self.expire(now),
            };
            if let Err(error) = step {
                break End::Broken(format!("the link to the signer broke: {error}"));
            }
        };
        for (_, pending) in self.pending.drain() {
            drop(pending.call.answer.send(Err(SignerError::Unavailable)));
        }
        end
    }

    fn take(&mut self, calls: &mut Vec<Call>) {
        let until = Instant::now() + self.patience;
        if self.pending.is_empty() {
            self.heard = Instant::now();
        }
        for call in calls.drain(..) {
            let op = match &call.ask {
                Ask::Sign(payload) => LinkOp::Sign { payload },
                Ask::Probe(kid) => LinkOp::Probe { kid },
                Ask::Keys => LinkOp::Keys,
                Ask::Reinitialise => LinkOp::Reinitialise,
                Ask::Stats => LinkOp::Stats,
                Ask::Health => LinkOp::Health,
                Ask::Counts => LinkOp::Counts,
                Ask::Checkpoint(CheckpointAsk { kid, snapshot, size, root, head, recorded }) => LinkOp::Checkpoint {
                    kid,
                    snapshot: *snapshot,
                    size: *size,
                    root: *root,
                    head: *head,
                    recorded: recorded.clone(),
                },
                Ask::Attest { kid, document } => LinkOp::Attest { kid, document },
                Ask::Seal(SealAsk { namespace, name, what }) => match what {
                    SealWhat::Seal(plain) => LinkOp::Seal { namespace, name, plain: Plain(plain) },
                    SealWhat::Unseal(blob) => LinkOp::Unseal { namespace, name, blob },
                },
            };
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            match encode_frame(&LinkRequest { id, op }, &mut self.output) {
                Ok(()) => drop(self.pending.insert(id, Pending { call, until })),
                Err(_) => drop(call.answer.send(Err(SignerError::WrongAnswer))),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(self.output.expose()) {
                Ok(n) => self.output.consume(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has come, within bounds; whether there may be more.
    fn receive(&mut self) -> io::Result<bool> {
        for _ in 0..READS_PER_STEP {
            let room = self.input.room(READ).map_err(io::Error::other)?;
            match self.stream.try_read(room) {
                Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the signer closed it")),
                Ok(n) => {
                    self.input.filled(n);
                    self.deliver()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Answers every call whose reply has arrived whole.
    fn deliver(&mut self) -> io::Result<()> {
        self.heard = Instant::now();
        loop {
            match split(self.input.expose()).map_err(io::Error::other)? {
                Split::Partial { .. } => return Ok(()),
                Split::Frame { body, used } => {
                    let reply: LinkReply = decode(body).map_err(io::Error::other)?;
                    self.leaving |= matches!(reply.result, LinkResult::Leaving);
                    // A reply without a call is one whose deadline has passed, or that announcement.
                    if let Some(pending) = self.pending.remove(&reply.id) {
                        drop(pending.call.answer.send(Ok(reply.result)));
                    }
                    self.input.consume(used);
                }
            }
        }
    }

    /// Answers calls whose time is up; a link on which nothing moves any more is given up, so that a stopped signer is
    /// noticed and a new one found.
    fn expire(&mut self, now: Instant) -> io::Result<()> {
        let late: Vec<u64> = self.pending.iter().filter(|(_, p)| p.until <= now).map(|(id, _)| *id).collect();
        for id in &late {
            if let Some(pending) = self.pending.remove(id) {
                drop(pending.call.answer.send(Err(SignerError::Timeout)));
            }
        }
        if !late.is_empty() && now.duration_since(self.heard) > self.patience {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it no longer answers"));
        }
        Ok(())
    }
}
