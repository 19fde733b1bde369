//! Load at a given rate, whatever the daemon does with it.
//!
//! A latency counts from the moment at which its request was due, not from when it could be sent: a daemon that stands
//! still for a second then has a second's worth of late answers, as its users would, and not one.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{DRAIN, Lane, Place, Tally, lost};
use crate::cli::bench::work::Work;
use crate::cli::error::CliError;

/// Requests of one connection that may be under way. One that is due while all are is sent as soon as one is answered.
const IN_FLIGHT: u16 = 64;

/// How much is asked, and for how long.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::bench) struct Pace {
    pub(in crate::cli::bench) per_second: u32,
    /// Connections that share the rate.
    pub(in crate::cli::bench) connections: u16,
    pub(in crate::cli::bench) seconds: Duration,
}

/// Asks at the planned rate, to the end of the planned time. To be run inside a `LocalSet`.
pub(in crate::cli::bench) async fn paced<W: Work + 'static>(
    place: &Place,
    work: Rc<W>,
    pace: Pace,
) -> Result<Tally, CliError> {
    let mut lanes = Vec::with_capacity(usize::from(pace.connections));
    for number in 0..pace.connections {
        lanes.push(Lane::open(place, &*work, number, IN_FLIGHT).await?);
    }
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let start = Instant::now();
    let gap = Duration::from_secs(1) / pace.per_second.max(1);
    let lanes = lanes.into_iter().zip(0_u32..).map(|(lane, number)| {
        let paced = Paced {
            free: (0..lane.slots.len()).collect(),
            lane,
            // One after the other, so that the connections together have an even rate.
            due: start + gap * number,
            gap: gap * u32::from(pace.connections),
            end: start + pace.seconds,
        };
        tokio::task::spawn_local(paced.run(Rc::clone(&work), Rc::clone(&tally)))
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.map_err(|error| CliError::Failed(error.to_string()))??;
    }
    let mut tally = tally.replace(Tally::new()?);
    tally.elapsed = pace.seconds;
    Ok(tally)
}

/// One connection, and when its next request is due.
struct Paced {
    lane: Lane,
    /// Slots that are not under way.
    free: Vec<usize>,
    due: Instant,
    gap: Duration,
    end: Instant,
}

impl Paced {
    async fn run<W: Work>(mut self, work: Rc<W>, tally: Rc<RefCell<Tally>>) -> Result<(), CliError> {
        let last = self.end + DRAIN;
        loop {
            self.send_due(Instant::now());
            self.lane.write()?;
            let all_sent = self.due >= self.end;
            if all_sent && self.free.len() == self.lane.slots.len() {
                return Ok(());
            }
            let wake = if all_sent || self.free.is_empty() { last } else { self.due };
            tokio::select! {
                biased;
                ready = self.lane.stream.ready(self.lane.interest()) => drop(ready.map_err(|error| lost(&error))?),
                () = tokio::time::sleep_until(wake.into()) => {}
            }
            if Instant::now() >= last {
                tally.borrow_mut().unanswered(self.left());
                return Ok(());
            }
            self.lane.read()?;
            self.take(&*work, &tally)?;
        }
    }

    /// Lines up what is due, as far as slots are free.
    fn send_due(&mut self, now: Instant) {
        while self.due <= now && self.due < self.end {
            let Some(slot) = self.free.pop() else { return };
            if let Some(slot) = self.lane.slots.get_mut(slot) {
                slot.sent = self.due;
                self.lane.pending.extend_from_slice(&slot.frame);
            }
            self.due += self.gap;
        }
    }

    fn take<W: Work>(&mut self, work: &W, tally: &RefCell<Tally>) -> Result<(), CliError> {
        let now = Instant::now();
        let mut tally = tally.borrow_mut();
        let mut used_up = 0;
        while let Some((index, answer)) = self.lane.next_answer(work, &mut used_up)? {
            if let Some(slot) = self.lane.slots.get(index) {
                tally.count(now.duration_since(slot.sent), answer);
                self.free.push(index);
            }
        }
        self.lane.drop_front(used_up);
        Ok(())
    }

    /// Requests that were due and have no answer: those under way, and those that never left.
    fn left(&self) -> u64 {
        let under_way = self.lane.slots.len() - self.free.len();
        let unsent = self.end.saturating_duration_since(self.due).as_nanos() / self.gap.as_nanos().max(1);
        u64::try_from(under_way).unwrap_or(u64::MAX).saturating_add(u64::try_from(unsent).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use tokio::task::LocalSet;

    use super::*;
    use crate::cli::bench::echo::{Echo, Sizes};

    fn run(place: &Place, pace: Pace) -> Tally {
        let echo = Echo::start(Sizes::usual().unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(LocalSet::new().run_until(paced(place, Rc::new(echo.work()), pace))).unwrap()
    }

    #[test]
    fn as_many_are_asked_as_the_rate_says() {
        let echo = Echo::start(Sizes::usual().unwrap()).unwrap();
        let pace = Pace { per_second: 1000, connections: 3, seconds: Duration::from_millis(300) };
        let tally = run(&echo.place(), pace);
        assert_eq!((tally.good, tally.bad), (300, 0), "{:?}", tally.why);
    }

    /// 200 requests are due while the server stands still, three times as many as may be under way.
    #[test]
    fn a_server_that_stands_still_is_charged_for_what_was_due_meanwhile() {
        let stood = Duration::from_millis(200);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = Cell::new(Some(ours));
        let place = Place::Pair(Box::new(move || Ok(ours.take().unwrap())));
        let server = thread::spawn(move || {
            thread::sleep(stood);
            let mut request = vec![0; Sizes::usual().unwrap().request];
            while theirs.read_exact(&mut request).is_ok() {
                let reply = [&12_u32.to_be_bytes()[..], &request[4..12], &[0; 4]].concat();
                theirs.write_all(&reply).unwrap();
            }
        });
        let tally = run(&place, Pace { per_second: 1000, connections: 1, seconds: stood });
        server.join().unwrap();
        assert_eq!((tally.good, tally.bad), (200, 0), "{:?}", tally.why);
        // Those due in the first half waited for at least the second half.
        let half = u64::try_from(stood.as_nanos() / 2).unwrap();
        let late = tally.latency.count_between(half, u64::MAX);
        assert!(late >= 95, "{late} of 200 are charged");
    }
}
