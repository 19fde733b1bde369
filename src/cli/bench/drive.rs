//! The load itself: each connection keeps its requests under way, with frames that were encoded once.
//!
//! One read takes all replies that have arrived, and one write sends all requests that follow from them: the client
//! shares its processors with the daemon, so what it spends is taken from what it measures.

mod paced;

use std::cell::RefCell;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::LocalSet;

use super::work::{Answer, Work};
use crate::cli::error::CliError;
use crate::client::{ClientError, dial};
use crate::wire::frame::{Split, split};
use crate::wire::{Greeting, HEADER, Hello, WIRE_VERSION, decode, encode_frame};

pub(super) use paced::{Pace, paced};

/// Bytes asked for in one read.
const READ: usize = 64 * 1024;
/// Latencies are kept in nanoseconds up to a minute, to three digits.
const MAX_NANOS: u64 = 60_000_000_000;
const DIGITS: u8 = 3;
/// How long the last replies are waited for after the end, so that the next round starts with a quiet daemon.
const DRAIN: Duration = Duration::from_secs(2);

/// How much load, for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) connections: u16,
    pub(super) in_flight: u16,
    pub(super) seconds: Duration,
}

/// Where connections come from.
pub(super) enum Place {
    /// A listening socket.
    Path(PathBuf),
    /// A function that makes a connected one.
    Pair(Box<dyn Fn() -> io::Result<StdStream>>),
}

/// What came of it.
pub(super) struct Tally {
    /// Nanoseconds from a request to its reply.
    pub(super) latency: Histogram<u64>,
    /// Items that were issued or accepted within the time.
    pub(super) good: u64,
    /// Items that were not.
    pub(super) bad: u64,
    /// Why the first of those was not.
    pub(super) why: Option<String>,
    /// How long was measured.
    pub(super) elapsed: Duration,
}

impl Tally {
    pub(super) fn new() -> Result<Self, CliError> {
        let latency = Histogram::new_with_bounds(1, MAX_NANOS, DIGITS)
            .map_err(|error| CliError::Failed(format!("no histogram: {error}")))?;
        Ok(Self { latency, good: 0, bad: 0, why: None, elapsed: Duration::ZERO })
    }

    /// Counts one reply.
    fn count(&mut self, took: Duration, answer: Answer) {
        self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(MAX_NANOS).max(1));
        self.good += answer.good;
        self.bad += answer.bad;
        self.why = self.why.take().or(answer.why);
    }

    /// Counts what was asked on one connection and never answered.
    fn unanswered(&mut self, requests: u64) {
        self.bad += requests;
        self.why.get_or_insert_with(|| format!("{requests} requests of one connection were not answered in time"));
    }

    /// Adds another round.
    pub(super) fn add(&mut self, other: &Self) -> Result<(), CliError> {
        self.latency.add(&other.latency).map_err(|error| CliError::Failed(format!("no sum: {error}")))?;
        self.good += other.good;
        self.bad += other.bad;
        self.why = self.why.take().or_else(|| other.why.clone());
        self.elapsed += other.elapsed;
        Ok(())
    }
}

/// Opens the connections, greets, and then keeps the load up for the planned time.
pub(super) async fn drive<W: Work + 'static>(place: &Place, work: Rc<W>, plan: Plan) -> Result<Tally, CliError> {
    let mut lanes = Vec::with_capacity(usize::from(plan.connections));
    for number in 0..plan.connections {
        lanes.push(Lane::open(place, &*work, number, plan.in_flight).await?);
    }
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let start = Instant::now();
    let end = start + plan.seconds;
    let tasks = LocalSet::new();
    let running: Vec<_> =
        lanes.into_iter().map(|lane| tasks.spawn_local(lane.run(Rc::clone(&work), Rc::clone(&tally), end))).collect();
    tasks
        .run_until(async {
            for task in running {
                task.await.map_err(|error| CliError::Failed(error.to_string()))??;
            }
            Ok::<_, CliError>(())
        })
        .await?;
    let mut tally = tally.replace(Tally::new()?);
    tally.elapsed = plan.seconds;
    Ok(tally)
}

/// One request that is sent again and again.
struct Slot {
    frame: Vec<u8>,
    sent: Instant,
}

/// One connection.
struct Lane {
    stream: UnixStream,
    slots: Vec<Slot>,
    received: Vec<u8>,
    filled: usize,
    pending: Vec<u8>,
    written: usize,
    waiting: usize,
}

fn lost(error: &io::Error) -> CliError {
    CliError::Client(ClientError::Lost(error.to_string()))
}

impl Lane {
    async fn open<W: Work>(place: &Place, work: &W, number: u16, in_flight: u16) -> Result<Self, CliError> {
        let stream = match place {
            Place::Path(path) => dial(path).await.map_err(|error| {
                let why = format!("connection {}: {error}; see server.max_connections_per_uid", number + 1);
                ClientError::Connect { socket: path.display().to_string(), why }
            })?,
            Place::Pair(make) => make().and_then(UnixStream::from_std).map_err(|error| lost(&error))?,
        };
        let now = Instant::now();
        let mut slots = Vec::with_capacity(usize::from(in_flight));
        for id in 1..=u64::from(in_flight) {
            let mut frame = Vec::new();
            work.request(id, &mut frame)?;
            slots.push(Slot { frame, sent: now });
        }
        let received = vec![0; READ];
        let mut lane = Self { stream, slots, received, filled: 0, pending: Vec::new(), written: 0, waiting: 0 };
        if W::GREETS {
            lane.greet().await?;
        }
        Ok(lane)
    }

    async fn greet(&mut self) -> Result<(), CliError> {
        let client = concat!("passportctl-bench/", env!("CARGO_PKG_VERSION"));
        encode_frame(&Hello { wire: WIRE_VERSION, client }, &mut self.pending).map_err(ClientError::Wire)?;
        loop {
            self.write()?;
            self.stream.ready(self.interest()).await.map_err(|error| lost(&error))?;
            self.read()?;
            let filled = self.received.get(..self.filled).unwrap_or_default();
            if let Split::Frame { body, used } = split(filled).map_err(ClientError::Wire)? {
                let greeting: Greeting = decode(body).map_err(ClientError::Wire)?;
                self.drop_front(used);
                return match greeting {
                    Greeting::Welcome(_) => Ok(()),
                    Greeting::Refused(problem) => Err(ClientError::Problem(problem).into()),
                };
            }
        }
    }

    fn interest(&self) -> Interest {
        if self.written < self.pending.len() { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
    }

    async fn run<W: Work>(mut self, work: Rc<W>, tally: Rc<RefCell<Tally>>, end: Instant) -> Result<(), CliError> {
        for slot in &mut self.slots {
            slot.sent = Instant::now();
            self.pending.extend_from_slice(&slot.frame);
        }
        self.waiting = self.slots.len();
        let limit = tokio::time::sleep_until((end + DRAIN).into());
        tokio::pin!(limit);
        while self.waiting > 0 {
            self.write()?;
            tokio::select! {
                biased;
                ready = self.stream.ready(self.interest()) => drop(ready.map_err(|error| lost(&error))?),
                () = &mut limit => break,
            }
            self.read()?;
            self.take(&*work, &tally, end)?;
        }
        if self.waiting > 0 {
            tally.borrow_mut().unanswered(u64::try_from(self.waiting).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    /// Reads what has arrived, if anything has.
    fn read(&mut self) -> Result<(), CliError> {
        if self.received.len() - self.filled < READ / 2 {
            self.received.resize(self.received.len() * 2, 0);
        }
        match self.stream.try_read(self.received.get_mut(self.filled..).unwrap_or_default()) {
            Ok(0) => Err(ClientError::Lost("the daemon closed it".to_owned()).into()),
            Ok(read) => {
                self.filled += read;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Writes what is pending, as far as the socket takes it.
    fn write(&mut self) -> Result<(), CliError> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(lost(&error)),
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// Counts every reply that is complete and, until the end, lines its request up again.
    fn take<W: Work>(&mut self, work: &W, tally: &RefCell<Tally>, end: Instant) -> Result<(), CliError> {
        // One look at the clock for all replies of one read: they arrived together.
        let now = Instant::now();
        let counts = now <= end;
        let mut tally = tally.borrow_mut();
        let mut used_up = 0;
        while let Some((index, answer)) = self.next_answer(work, &mut used_up)? {
            let Some(slot) = self.slots.get_mut(index) else { break };
            if counts {
                tally.count(now.duration_since(slot.sent), answer);
                slot.sent = now;
                self.pending.extend_from_slice(&slot.frame);
            } else {
                self.waiting -= 1;
            }
        }
        drop(tally);
        self.drop_front(used_up);
        Ok(())
    }

    /// The next reply beyond `used_up`, and the slot that it answers.
    fn next_answer<W: Work>(&self, work: &W, used_up: &mut usize) -> Result<Option<(usize, Answer)>, CliError> {
        let rest = self.received.get(*used_up..self.filled).unwrap_or_default();
        let Split::Frame { body, used } = split(rest).map_err(ClientError::Wire)? else { return Ok(None) };
        let answer = work.answer(body)?;
        *used_up += used;
        let index = usize::try_from(answer.id).ok().and_then(|id| id.checked_sub(1));
        match index.filter(|index| *index < self.slots.len()) {
            Some(index) => Ok(Some((index, answer))),
            None => Err(CliError::Answer(format!("a reply to {}, which was not asked", answer.id))),
        }
    }

    fn drop_front(&mut self, used: usize) {
        self.received.copy_within(used..self.filled, 0);
        self.filled -= used;
    }
}

/// The size of a frame that `work` sends, header included.
pub(super) fn frame_size(work: &impl Work) -> Result<usize, CliError> {
    let mut frame = Vec::new();
    work.request(1, &mut frame)?;
    Ok(frame.len().max(HEADER))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read as _, Write as _};
    use std::thread;

    use super::*;
    use crate::cli::bench::echo::{Echo, Sizes};

    #[test]
    fn a_request_that_is_never_answered_is_counted() {
        let (ours, mut theirs) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Cell::new(Some(ours));
        let place = Place::Pair(Box::new(move || Ok(ours.take().unwrap())));
        let server = thread::spawn(move || {
            let mut request = vec![0; Sizes::usual().unwrap().request];
            while theirs.read_exact(&mut request).is_ok() {
                let id = &request[4..12];
                if id.iter().map(|byte| u32::from(*byte)).sum::<u32>() != 2 {
                    theirs.write_all(&[&12_u32.to_be_bytes()[..], id, &[0; 4]].concat()).unwrap();
                }
            }
        });
        let echo = Echo::start(Sizes::usual().unwrap()).unwrap();
        let plan = Plan { connections: 1, in_flight: 3, seconds: Duration::from_millis(50) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tally = runtime.block_on(drive(&place, Rc::new(echo.work()), plan)).unwrap();
        server.join().unwrap();
        assert!(tally.good > 0 && tally.bad == 1, "{} good, {} bad", tally.good, tally.bad);
        assert_eq!(tally.why.unwrap(), "1 requests of one connection were not answered in time");
    }
}
