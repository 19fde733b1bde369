//! The bytes of one connection that are not handled yet.
//!
//! Reading goes to a buffer that is borrowed from a pool while there is something to handle, so that idle connections
//! hold none. Only a frame that is larger than one read gets memory of its own, taken from the budget first. Whatever is
//! given back has been wiped: there may have been a secret in it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UnixStream;

use crate::service::shares::{Lease, Place};
use crate::wire::frame::{Split, split};
use crate::wire::{HEADER, WireError, peek_id};

/// One read.
const READ: usize = 64 << 10;

/// Bytes of a frame from which the id of its request can be read: the header, the wire version, the longest varint.
const PEEK: usize = HEADER + 1 + 9;

/// Buffers kept for the next reads; more than this many tasks never handle input at once in practice, and any more are
/// freed.
const POOLED: usize = 64;

/// Buffers of [`READ`] bytes that nobody uses now.
struct Pool(Mutex<Vec<Vec<u8>>>);

static POOL: Pool = Pool(Mutex::new(Vec::new()));

impl Pool {
    fn borrow(&self) -> Vec<u8> {
        let pooled = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        pooled.unwrap_or_else(|| vec![0; READ])
    }

    /// Takes a buffer back of which so much has been written to, at most.
    fn give_back(&self, mut buffer: Vec<u8>, used: usize) {
        // Always, not only after a Seal: a frame that is moved or skipped has not been looked at. The largest read of 64 KiB
        // costs some 2 µs here, and verifying what fits in one a hundred.
        buffer.get_mut(..used).unwrap_or_default().fill(0);
        let buffer = std::hint::black_box(buffer);
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() == READ && pool.len() < POOLED {
            pool.push(buffer);
        }
    }
}

/// What [`Input::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A complete frame: see [`Input::frame`].
    Frame,
    /// A frame for which there is no memory; it is being skipped.
    Skip {
        /// The id of its request, as far as it could be read.
        id: u64,
    },
    /// Nothing complete.
    Wait,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Input {
    place: Arc<Place>,
    /// Bytes `start..end` are unhandled; none behind them is in use. Empty while idle.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The body of the frame that was found last.
    frame: (usize, usize),
    /// Present while `buffer` is memory of this connection's own.
    lease: Option<Lease>,
    /// Bytes of a refused frame that are still to come.
    skip: usize,
    ended: bool,
}

impl Input {
    pub(super) fn new(place: Arc<Place>) -> Self {
        let buffer = Vec::new();
        Self { place, buffer, start: 0, end: 0, frame: (0, 0), lease: None, skip: 0, ended: false }
    }

    /// Whether the peer has closed its side.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// Whether a frame has begun and is not complete.
    pub(super) fn partial(&self) -> bool {
        self.end > self.start || self.skip > 0
    }

    /// Reads once. `false` when nothing was there after all.
    pub(super) fn read(&mut self, stream: &UnixStream) -> io::Result<bool> {
        self.fill(|room| stream.try_read(room))
    }

    /// Reads once, by whatever way.
    pub(super) fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<bool> {
        if self.buffer.is_empty() {
            self.buffer = POOL.borrow();
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        match read(room) {
            Ok(0) => self.ended = true,
            Ok(n) => self.end += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.rest();
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Finds the next complete frame. The bytes of the one before are gone after this.
    pub(super) fn next(&mut self) -> Result<Step, WireError> {
        if self.skip > 0 {
            let n = self.skip.min(self.end - self.start);
            self.start += n;
            self.skip -= n;
            if self.skip > 0 {
                return Ok(Step::Wait);
            }
        }
        let unhandled = self.buffer.get(self.start..self.end).unwrap_or_default();
        match split(unhandled)? {
            Split::Frame { body, used } => {
                let body_start = self.start + used - body.len();
                self.frame = (body_start, self.start + used);
                self.start += used;
                Ok(Step::Frame)
            }
            Split::Partial { .. } if unhandled.is_empty() => Ok(Step::Wait),
            Split::Partial { need } => Ok(self.make_room(need)),
        }
    }

    /// The body that [`Input::next`] found.
    pub(super) fn frame(&self) -> &[u8] {
        self.buffer.get(self.frame.0..self.frame.1).unwrap_or_default()
    }

    /// The body that [`Input::next`] found, and those of the complete frames behind it. What is taken is gone after this.
    pub(super) fn bodies(&mut self) -> Bodies<'_> {
        let (from, to) = self.frame;
        let bytes = self.buffer.get(..self.end).unwrap_or_default();
        Bodies { first: bytes.get(from..to), bytes, start: &mut self.start }
    }

    /// Moves a frame that has begun to memory of exactly its size, if the budget has it. If not, it is skipped as soon as
    /// it is known whose request it is; the few bytes until then are beside the budget.
    fn make_room(&mut self, need: usize) -> Step {
        if self.lease.is_some() && self.start == 0 && self.buffer.len() >= need {
            return Step::Wait;
        }
        let begun = self.buffer.get(self.start..self.end).unwrap_or_default();
        let held = begun.len();
        let lease = self.place.lease(need);
        let size = if lease.is_some() { need } else { need.min(PEEK) };
        if held >= size {
            let id = peek_id(begun.get(HEADER..).unwrap_or_default());
            self.skip = need - held;
            self.start = self.end;
            return Step::Skip { id };
        }
        let mut own = vec![0; size];
        if let Some(start) = own.get_mut(..held) {
            start.copy_from_slice(begun);
        }
        POOL.give_back(std::mem::replace(&mut self.buffer, own), self.end);
        self.lease = lease;
        (self.start, self.end) = (0, held);
        Step::Wait
    }

    /// Gives the buffer back if everything in it is handled.
    pub(super) fn rest(&mut self) {
        if self.start == self.end {
            POOL.give_back(std::mem::take(&mut self.buffer), self.end);
            self.lease = None;
            (self.start, self.end) = (0, 0);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        POOL.give_back(std::mem::take(&mut self.buffer), self.end);
    }
}

/// See [`Input::bodies`].
#[derive(Debug)]
pub(super) struct Bodies<'a> {
    first: Option<&'a [u8]>,
    bytes: &'a [u8],
    start: &'a mut usize,
}

impl<'a> Iterator for Bodies<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        // What is no complete frame is left to `Input::next`, which knows what to do about it.
        match split(self.bytes.get(*self.start..)?) {
            Ok(Split::Frame { body, used }) => {
                *self.start += used;
                Some(body)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, Interest};

    use super::*;
    use crate::service::shares::{Bounds, Shares};
    use crate::wire::{Request, ServiceOp, encode_frame};

    fn input(bytes: usize) -> (Input, Arc<Shares>) {
        let bounds = move || Bounds { connections: 8, connections_per_uid: 8, bytes, bytes_per_uid: bytes };
        let shares = Shares::new(2, Box::new(bounds));
        let place = Arc::new(shares.admit(1, crate::service::shares::OwnBounds::default()).unwrap());
        (Input::new(place), shares)
    }

    fn ping(id: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        encode_frame(&Request { id, corr_id: [0; 16], op: ServiceOp::Ping }, &mut frame).unwrap();
        frame
    }

    /// What is found when `parts` arrive one after the other: the frames' ids, and the ids of those that were skipped.
    async fn found(input: &mut Input, parts: &[&[u8]]) -> (Vec<u64>, Vec<u64>) {
        let (mut far, near) = UnixStream::pair().unwrap();
        let (mut frames, mut skipped) = (Vec::new(), Vec::new());
        for part in parts {
            far.write_all(part).await.unwrap();
            let mut left = part.len();
            while left > 0 {
                near.ready(Interest::READABLE).await.unwrap();
                let before = input.end;
                assert!(input.read(&near).unwrap(), "bytes are there");
                left -= input.end - before;
                loop {
                    match input.next().unwrap() {
                        Step::Frame => frames.push(peek_id(input.frame())),
                        Step::Skip { id } => skipped.push(id),
                        Step::Wait => break,
                    }
                }
                input.rest();
            }
        }
        (frames, skipped)
    }

    #[tokio::test]
    async fn a_frame_is_found_wherever_it_was_cut() {
        let frame = ping(7);
        for cut in 1..frame.len() {
            let (mut input, shares) = input(1 << 20);
            let (head, tail) = frame.split_at(cut);
            assert_eq!(found(&mut input, &[head, tail, &ping(8)]).await, (vec![7, 8], vec![]), "cut at {cut}");
            assert_eq!(shares.bytes(), 0, "everything is given back");
            assert!(input.buffer.is_empty() && !input.partial());
        }
    }

    #[tokio::test]
    async fn without_memory_a_frame_is_skipped_and_the_next_one_read_wherever_it_was_cut() {
        let frame = ping(7);
        for cut in 1..frame.len() {
            let (mut input, shares) = input(0);
            let (head, tail) = frame.split_at(cut);
            let (frames, skipped) = found(&mut input, &[head, tail, &ping(8)]).await;
            assert_eq!((frames, skipped), (vec![8], vec![7]), "cut at {cut}");
            assert_eq!(shares.bytes(), 0);
        }
    }

    #[test]
    fn the_pool_keeps_so_many_buffers_and_only_those_of_one_read() {
        let pool = Pool(Mutex::new(Vec::new()));
        let kept = || pool.0.lock().unwrap().len();
        let all: Vec<_> = (0..=POOLED).map(|_| pool.borrow()).collect();
        assert!(all.iter().all(|buffer| buffer.len() == READ));
        pool.give_back(vec![0; READ + 1], 1);
        pool.give_back(Vec::new(), 0);
        assert_eq!(kept(), 0, "memory of a connection's own is freed");
        for (n, buffer) in all.into_iter().enumerate() {
            pool.give_back(buffer, 0);
            assert_eq!(kept(), (n + 1).min(POOLED));
        }
        drop(pool.borrow());
        assert_eq!(kept(), POOLED - 1, "what is kept is used again");
    }

    #[test]
    fn what_is_given_back_is_blank() {
        let pool = Pool(Mutex::new(Vec::new()));
        let mut buffer = pool.borrow();
        buffer[..500].fill(7);
        pool.give_back(buffer, 500);
        assert!(pool.borrow().iter().all(|byte| *byte == 0));
    }

    #[tokio::test]
    async fn nothing_of_a_request_is_left_where_it_was_read() {
        let secret = b"a canary that nobody else has";
        let mut frame = Vec::new();
        let op = ServiceOp::Seal { namespace: "t1/a", name: "n", plain: crate::wire::Plain(secret) };
        encode_frame(&Request { id: 1, corr_id: [0; 16], op }, &mut frame).unwrap();
        // Handled at once, moved to memory of its own, skipped for want of memory, and cut off.
        for (bytes, parts) in [(1 << 20, 1), (1 << 20, 2), (0, 2)] {
            let (mut input, _shares) = input(bytes);
            let parts: Vec<&[u8]> = frame.chunks(frame.len().div_ceil(parts)).collect();
            found(&mut input, &parts).await;
        }
        let (mut cut, _shares) = input(1 << 20);
        found(&mut cut, &[&frame[..frame.len() - 1]]).await;
        drop(cut);
        let pool = POOL.0.lock().unwrap();
        assert!(pool.iter().all(|buffer| !buffer.windows(secret.len()).any(|window| window == secret)));
    }

    #[tokio::test]
    async fn what_is_taken_together_is_what_would_be_found_one_by_one() {
        let (mut input, shares) = input(1 << 20);
        let stream: Vec<u8> = (1..=9).flat_map(ping).collect();
        let (mut far, near) = UnixStream::pair().unwrap();
        // The last one is not complete.
        far.write_all(&stream[..stream.len() - 1]).await.unwrap();
        near.ready(Interest::READABLE).await.unwrap();
        assert!(input.read(&near).unwrap());
        let mut found = Vec::new();
        for take in [3, 1, 9] {
            assert_eq!(input.next().unwrap(), Step::Frame);
            found.push(input.bodies().take(take).map(peek_id).collect::<Vec<_>>());
        }
        assert_eq!(found, [vec![1, 2, 3], vec![4], vec![5, 6, 7, 8]]);
        assert_eq!(input.next().unwrap(), Step::Wait);
        far.write_all(&stream[stream.len() - 1..]).await.unwrap();
        near.ready(Interest::READABLE).await.unwrap();
        assert!(input.read(&near).unwrap());
        assert_eq!(input.next().unwrap(), Step::Frame);
        assert_eq!(input.bodies().map(peek_id).collect::<Vec<_>>(), [9]);
        input.rest();
        assert_eq!(shares.bytes(), 0);
    }

    #[tokio::test]
    async fn bytes_one_by_one_make_the_same_frames() {
        let (mut input, shares) = input(1 << 20);
        let stream: Vec<u8> = (1..20).flat_map(ping).collect();
        let parts: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(found(&mut input, &parts).await, ((1..20).collect(), vec![]));
        assert_eq!(shares.bytes(), 0);
    }
}
