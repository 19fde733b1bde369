//! Replies on their way out, from any thread.
//!
//! Whoever has a reply writes it, if the socket takes it: no hop to another thread. While the HSM is quick and more replies
//! are on their way, some are written together, since each write wakes the front. What the socket does not take stays here, and
//! a writer thread waits for the peer; a peer that does not read for [`WRITE_DEADLINE`], or leaves more than [`MAX_PENDING`]
//! unread, is cut off. So a stuck front can't hold up a worker.

use crate::secret::LockedBuf;
use crate::wire::link::{LinkGreeting, LinkReply, LinkResult};
use crate::wire::{self, HEADER, MAX_FRAME};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::SendFlags;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests of one connection that have no reply yet. The reader reads no further at this number.
pub(super) const MAX_IN_FLIGHT: usize = 1024;
/// Bytes that may wait for the peer: two of the largest replies.
const MAX_PENDING: usize = 2 << 20;
/// The reply that breaks the bound is still put there, and then the connection is closed.
const LARGEST: usize = MAX_FRAME + HEADER;
/// Replies that are written together at most. Each write costs both processes a wake-up, some 20 us of the 140 us that
/// SoftHSM needs for a signature.
const TOGETHER: usize = 32;
/// Replies wait only while this many times as many requests are under way: the HSM is not to run dry meanwhile.
const UNDER_WAY: usize = 2;
/// Replies wait for each other only while they come this close together.
const QUICK: Duration = Duration::from_millis(1);
/// While replies wait, the writer thread looks this often whether one still comes; should the module hang, or start afresh,
/// they leave without it. It wakes by itself: to be woken for each batch would cost what the batch saves.
const LOOK: Duration = Duration::from_millis(5);
/// How long a peer may leave replies unread.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);

struct Out {
    /// Locked, and zeroised as it is written: there may be secrets among the replies.
    pending: LockedBuf,
    in_flight: usize,
    /// Replies in `pending` that wait for the next one.
    held: usize,
    last_reply: Option<Instant>,
    /// The writer thread looks every [`LOOK`].
    watched: bool,
    greeted: bool,
    closed: bool,
}

struct Inner {
    socket: UnixStream,
    out: Mutex<Out>,
    /// There is something for the writer thread, or the end.
    blocked: Condvar,
    /// A reply left, or the end.
    room: Condvar,
}

/// Whether a reply waits beside `held` others while so many requests have none yet.
const fn waits(held: usize, in_flight: usize) -> bool {
    held + 1 < TOGETHER && (held + 1) * UNDER_WAY <= in_flight
}

/// The way out of a connection.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Inner>);

impl Out {
    /// Whether another request is read.
    fn has_room(&self) -> bool {
        self.in_flight < MAX_IN_FLIGHT && self.pending.len() < MAX_PENDING / 2
    }
}

impl Outbox {
    /// Starts the writer thread.
    pub(super) fn start(socket: UnixStream) -> std::io::Result<Self> {
        let out = Out {
            pending: LockedBuf::new(MAX_PENDING + LARGEST),
            in_flight: 0,
            held: 0,
            last_reply: None,
            watched: false,
            greeted: false,
            closed: false,
        };
        let made =
            Self(Arc::new(Inner { socket, out: Mutex::new(out), blocked: Condvar::new(), room: Condvar::new() }));
        let own = made.clone();
        std::thread::Builder::new().name("link-writer".to_owned()).spawn(move || own.write_what_waits())?;
        Ok(made)
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        self.0.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request in. `false` if the peer leaves its replies unread for too long, or the connection is closed.
    pub(super) fn begin(&self) -> bool {
        self.begin_within(WRITE_DEADLINE)
    }

    fn begin_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut out = self.lock();
        loop {
            if out.closed {
                return false;
            }
            if out.has_room() {
                out.in_flight += 1;
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            out = self.0.room.wait_timeout(out, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends the reply of a request that was counted in.
    pub(super) fn reply(&self, reply: &LinkReply) {
        let mut out = self.lock();
        out.in_flight = out.in_flight.saturating_sub(1);
        let encoded = wire::encode_frame(reply, &mut out.pending);
        let now = Instant::now();
        let quick = out.last_reply.replace(now).is_some_and(|last| now.duration_since(last) < QUICK);
        if encoded.is_ok() && quick && waits(out.held, out.in_flight) && !out.closed {
            out.held += 1;
            if !out.watched {
                out.watched = true;
                self.0.blocked.notify_one();
            }
            return;
        }
        out.held = 0;
        self.push(out, encoded.is_ok());
    }

    /// Sends the greeting.
    pub(super) fn greet(&self, greeting: &LinkGreeting) {
        let mut out = self.lock();
        out.greeted = true;
        let encoded = wire::encode_frame(greeting, &mut out.pending);
        self.push(out, encoded.is_ok());
    }

    /// Tells the peer to go elsewhere once it has its replies. One that has not been greeted yet is closed.
    pub(super) fn leaving(&self) {
        let mut out = self.lock();
        if !out.greeted {
            drop(out);
            return self.close();
        }
        let encoded = wire::encode_frame(&LinkReply { id: 0, result: LinkResult::Leaving }, &mut out.pending);
        out.held = 0;
        self.push(out, encoded.is_ok());
    }

    fn push(&self, mut out: MutexGuard<'_, Out>, encoded: bool) {
        let fine = encoded && out.pending.len() <= MAX_PENDING && !out.closed && self.send(&mut out).is_ok();
        let rest = !out.pending.is_empty();
        drop(out);
        if !fine {
            self.close();
        } else if rest {
            self.0.blocked.notify_one();
        }
        self.0.room.notify_one();
    }

    /// Writes what the socket takes now. The socket itself blocks, for its reader; these writes do not.
    fn send(&self, out: &mut Out) -> Result<(), rustix::io::Errno> {
        while !out.pending.is_empty() {
            match rustix::net::send(&self.0.socket, out.pending.expose(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => out.pending.consume(sent),
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        if out.pending.is_empty() {
            out.held = 0;
        }
        Ok(())
    }

    /// Returns when something must be written: what the socket did not take, or replies that have waited long enough for
    /// others. `false` at the end.
    fn wait_for_work(&self) -> bool {
        let mut out = self.lock();
        while !out.closed {
            let waited = out.last_reply.is_none_or(|last| last.elapsed() >= QUICK);
            if !out.pending.is_empty() && (out.held == 0 || waited) {
                return true;
            }
            out.watched = out.held > 0;
            out = if out.watched {
                self.0.blocked.wait_timeout(out, LOOK).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.0.blocked.wait(out).unwrap_or_else(PoisonError::into_inner)
            };
        }
        false
    }

    fn write_what_waits(&self) {
        let limit = PollTimeout::try_from(WRITE_DEADLINE).unwrap_or(PollTimeout::MAX);
        loop {
            if !self.wait_for_work() {
                return;
            }
            let mut polled = [PollFd::new(self.0.socket.as_fd(), PollFlags::POLLOUT)];
            let writable = matches!(poll(&mut polled, limit), Ok(1..) | Err(Errno::EINTR));
            let sent = writable && self.send(&mut self.lock()).is_ok();
            self.0.room.notify_one();
            if !sent {
                self.close();
                return;
            }
        }
    }

    /// Ends the connection; its reader and writer notice.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        // The peer may be gone already.
        self.0.socket.shutdown(Shutdown::Both).unwrap_or_default();
        self.0.blocked.notify_all();
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Split, split};
    use crate::wire::link::{KeyRole, LinkKey};
    use std::io::{Read, Write};

    /// The ids of `count` replies, which must come without a further one.
    fn read(peer: &mut UnixStream, count: usize) -> Vec<u64> {
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut bytes, mut ids) = (Vec::new(), Vec::new());
        while ids.len() < count {
            let mut part = [0; 4096];
            let more = peer.read(&mut part).expect("a reply that is held must leave");
            bytes.extend_from_slice(&part[..more]);
            while let Split::Frame { body, used } = split(&bytes).unwrap() {
                ids.push(wire::decode::<LinkReply>(body).unwrap().id);
                bytes.drain(..used);
            }
        }
        ids
    }

    #[test]
    fn replies_that_wait_for_one_that_does_not_come_leave_by_themselves() {
        let (ours, mut peer) = UnixStream::pair().unwrap();
        let outbox = Outbox::start(ours).unwrap();
        // The next one of each round hangs in the module, or waits for it to start afresh.
        for round in 0..3 {
            let ids: Vec<u64> = (0..4).map(|n| round * 10 + n).collect();
            ids.iter().for_each(|_| assert!(outbox.begin()));
            assert!(outbox.begin());
            for id in &ids {
                outbox.reply(&LinkReply { id: *id, result: LinkResult::Keys(Vec::new()) });
            }
            assert_eq!(read(&mut peer, 4), ids);
        }
        assert_eq!(outbox.lock().held, 0);
        outbox.close();
    }

    /// Else the HSM would have nothing to do while they are on their way.
    #[test]
    fn replies_wait_for_each_other_while_more_are_under_way() {
        for (under_way, together) in [(1, 1), (2, 1), (3, 2), (4, 2), (8, 3), (20, 7), (64, 22), (96, 32), (1000, 32)] {
            let mut held = 0;
            while waits(held, under_way - 1 - held) {
                held += 1;
            }
            assert_eq!(held + 1, together, "{under_way}");
        }
    }

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn so_many_requests_are_under_way_and_the_next_waits_for_a_reply() {
        let (ours, _peer) = UnixStream::pair().unwrap();
        let outbox = Outbox::start(ours).unwrap();
        assert!((0..MAX_IN_FLIGHT).all(|_| outbox.begin_within(SHORT)));
        assert!(!outbox.begin_within(SHORT));
        outbox.reply(&LinkReply { id: 1, result: LinkResult::Keys(Vec::new()) });
        assert!(outbox.begin_within(SHORT) && !outbox.begin_within(SHORT));
        outbox.close();
    }

    /// A reply whose frame has so many bytes.
    fn reply_of(bytes: usize) -> LinkReply {
        let with = |fill: usize| {
            let (kid, problem) = (String::new(), "x".repeat(fill));
            let key = LinkKey { kid, role: KeyRole::Passport, public: [0; 32], usable: false, problem };
            LinkReply { id: 1, result: LinkResult::Keys(vec![key]) }
        };
        let length = |reply: &LinkReply| {
            let mut frame = Vec::new();
            wire::encode_frame(reply, &mut frame).unwrap();
            frame.len()
        };
        // Lengths of more than 64 KiB take as many bytes each.
        let reply = with(bytes - (length(&with(1 << 17)) - (1 << 17)));
        assert_eq!(length(&reply), bytes);
        reply
    }

    #[test]
    fn so_many_bytes_wait_for_the_peer_and_one_more_cuts_it_off() {
        let (mut ours, _peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 4096]).is_ok() {}
        let outbox = Outbox::start(ours).unwrap();
        let held = || {
            let out = outbox.lock();
            (out.pending.len(), out.closed)
        };
        outbox.reply(&reply_of(MAX_PENDING / 2 - 1));
        assert!(outbox.begin_within(SHORT), "with less than half of it another request is read");
        outbox.reply(&LinkReply { id: 1, result: LinkResult::Keys(Vec::new()) });
        let short = held().0 - (MAX_PENDING / 2 - 1);
        assert!(!outbox.begin_within(SHORT), "with half of it none is");
        outbox.reply(&reply_of(MAX_PENDING / 2 + 1 - short));
        assert_eq!(held(), (MAX_PENDING, false));
        outbox.reply(&LinkReply { id: 1, result: LinkResult::Keys(Vec::new()) });
        assert!(held().1);
    }
}
