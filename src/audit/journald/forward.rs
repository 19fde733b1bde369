//! The thread that copies the ledger to journald. It reads along in the ledger's files, so what journald does not take now it
//! takes later, in the same order: nothing is queued, and nothing is dropped.

use std::mem;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::copy;
use super::mark::{Found, History, Mark, MarkFile};
use super::stats::Shared;
use crate::clock::Moment;
use crate::log::{Courier, Delivery, Follower, LogError, Next, Receipts, Seal};

/// How often journald is asked for receipts, and the mark written.
const LOOK: Duration = Duration::from_secs(1);

/// Between attempts where nobody listens, or the ledger can't be read.
const AWAY: Duration = Duration::from_millis(200);

/// How long a full queue is waited for before something else is looked at.
const FULL: Duration = Duration::from_millis(200);

/// Records in a row, and the pause after them: what has piled up leaves time for others.
const IN_A_ROW: usize = 512;
const PAUSE: Duration = Duration::from_millis(10);

/// When journald has gone, what it had read so shortly before is sent again, with what it had not read: it may not have come to
/// write that.
const AGAIN: Duration = Duration::from_secs(5);

/// How long it must have taken nothing to be worth a warning.
const BEHIND: Duration = Duration::from_secs(10);

/// How long the end waits for journald to take and read what is left. The next start goes on there.
const END: Duration = Duration::from_secs(1);

/// How a stretch of work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stretch {
    /// All that is durable was sent.
    Done,
    /// There is more.
    More,
    /// journald's queue is full.
    Full,
    /// Nobody listens, or the ledger can't be read.
    Away,
}

pub(super) struct Forwarder<S> {
    lines: Follower<S>,
    courier: Courier,
    shared: Arc<Shared>,
    file: MarkFile,
    written: Option<Mark>,
    history: History,
    /// What the mark said at the start.
    at_start: u64,
    /// The newest record that was ever sent.
    newest_sent: u64,
    looked: Instant,
    /// Since when nothing was taken that is there to be taken.
    behind: Option<Instant>,
    warned: bool,
    unreadable: bool,
}

impl<S: Seal> Forwarder<S> {
    /// From where an earlier daemon left off, in the ledger in `dir` whose newest record is `head`.
    pub(super) fn new(
        dir: &Path,
        lines: impl FnOnce(u64) -> Follower<S>,
        courier: Courier,
        shared: Arc<Shared>,
        now: Moment,
    ) -> Self {
        let file = MarkFile::new(dir);
        let head = shared.newest();
        let found = file.read();
        let mark = Mark::from_here(found, head, now.unix().saturating_sub(since_boot()));
        let written = (found == Found::Mark(mark)).then_some(mark);
        Self {
            lines: lines(mark.read.saturating_add(1)),
            courier,
            shared,
            file,
            written,
            history: History::new(mark),
            at_start: mark.read,
            newest_sent: mark.read,
            looked: Instant::now(),
            behind: None,
            warned: false,
            unreadable: false,
        }
    }

    /// Until it is told to end.
    pub(super) fn run(mut self) {
        loop {
            let ending = self.shared.ends();
            let stretch = self.stretch(self.shared.newest());
            self.look(Instant::now(), stretch);
            if ending {
                return self.end(Instant::now() + END);
            }
            match stretch {
                Stretch::Done => thread::park_timeout(LOOK),
                Stretch::More => thread::sleep(PAUSE),
                Stretch::Full => self.courier.wait(FULL),
                Stretch::Away => thread::sleep(AWAY),
            }
        }
    }

    /// Sends what is durable, up to `newest`.
    fn stretch(&mut self, newest: u64) -> Stretch {
        for _ in 0..IN_A_ROW {
            let head = match self.lines.look(newest) {
                Ok(Next::Line(head)) => head,
                Ok(Next::Nothing) => {
                    self.shared.stats.caught_up();
                    return Stretch::Done;
                }
                Ok(Next::Lost(from, to)) => {
                    self.lost(from, to, "it is not there, or can't be read");
                    continue;
                }
                Err(error) => return self.unreadable(&error),
            };
            self.unreadable = false;
            let (datagram, made) = match copy::of_line(self.lines.line(), &head) {
                Ok(copied) => copied,
                Err(why) => {
                    self.lost(head.seq, head.seq, &why);
                    self.lines.done();
                    continue;
                }
            };
            self.shared.stats.waits_since(made);
            match self.courier.send(&datagram) {
                Delivery::Taken => {
                    self.lines.done();
                    self.shared.stats.count(true);
                    if head.seq <= self.newest_sent {
                        self.shared.stats.again();
                    }
                    self.newest_sent = self.newest_sent.max(head.seq);
                    self.behind = None;
                    self.shared.stats.set_up(true);
                }
                Delivery::Full => return Stretch::Full,
                Delivery::TooLong => {
                    self.lost(head.seq, head.seq, "the host lets no datagram through that is as long");
                    self.lines.done();
                }
                Delivery::Gone => {
                    self.gone(Instant::now());
                    return Stretch::Away;
                }
            }
        }
        Stretch::More
    }

    /// journald has gone: what it may not have written is sent again to the one that comes.
    fn gone(&mut self, now: Instant) {
        let safe = self.history.before(now, AGAIN, self.at_start);
        self.lines.go_to(self.lines.at().min(safe.saturating_add(1)));
        self.shared.stats.set_up(false);
    }

    /// Receipts, the mark and what operators are told, once in a while.
    fn look(&mut self, now: Instant, stretch: Stretch) {
        match stretch {
            Stretch::Done => {
                self.behind = None;
                if mem::take(&mut self.warned) {
                    let resent = self.shared.stats.resent();
                    info!(name: "journald_caught_up", resent, "journald has taken every record");
                }
            }
            Stretch::Full | Stretch::Away => {
                let since = *self.behind.get_or_insert(now);
                if !self.warned && now.saturating_duration_since(since) >= BEHIND {
                    self.warned = true;
                    self.shared.stats.set_up(false);
                    let next = self.lines.at();
                    warn!(name: "journald_behind", next, "journald takes no records; they wait in the ledger");
                }
            }
            Stretch::More => {}
        }
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.receipts(now);
        }
    }

    /// Asks whether all that was sent was read; if so, this is where a next start goes on. Whether there is nothing to wait for.
    fn receipts(&mut self, now: Instant) -> bool {
        let sent = self.lines.at().saturating_sub(1);
        let all = sent <= self.history.mark.read;
        let receipts = if all { Receipts::NotYet } else { self.courier.receipts() };
        match receipts {
            Receipts::All => {
                self.history.receipt(now, sent);
                self.shared.stats.set_up(true);
            }
            Receipts::Gone => self.gone(now),
            // Time alone makes it known that more is on journald's disk.
            Receipts::NotYet => self.history.receipt(now, self.history.mark.read),
        }
        // Before anything was read there is nothing to go on from: a host may have no journald at all.
        let worth = self.written.is_some() || self.history.mark.read > self.at_start;
        if worth && self.written != Some(self.history.mark) {
            self.file.write(&self.history.mark);
            self.written = Some(self.history.mark);
        }
        all || receipts == Receipts::All
    }

    /// Sends what is left, as far as journald takes it in time.
    fn end(mut self, until: Instant) {
        loop {
            let stretch = self.stretch(self.shared.newest());
            let settled = self.receipts(Instant::now()) && stretch == Stretch::Done;
            if settled || stretch == Stretch::Away || Instant::now() >= until {
                return;
            }
            if stretch != Stretch::More {
                // Short: it is journald's to read, and nobody says when it has.
                thread::sleep(PAUSE);
            }
        }
    }

    fn lost(&self, from: u64, to: u64, why: &str) {
        self.shared.stats.lost(to.saturating_sub(from).saturating_add(1));
        error!(name: "journald_gap", from, to, why, "records of the ledger can't be given to journald");
    }

    fn unreadable(&mut self, error: &LogError) -> Stretch {
        if !self.unreadable {
            self.unreadable = true;
            warn!(name: "ledger_unreadable", %error, "the ledger can't be read for journald; it is tried again");
        }
        Stretch::Away
    }
}

/// Seconds since the machine was started, sleep included.
fn since_boot() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec
}
