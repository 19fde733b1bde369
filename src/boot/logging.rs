//! The operational log: lines to standard error, whose reader can't stop the daemon.
//!
//! A pipe or a journal whose reader is stopped blocks whoever writes to it, and a service thread that logs would stand
//! still with it (DESIGN §11). So lines pass a bounded queue to one thread; when it is full, they are dropped and
//! counted, and a line in their place says how many. The sandbox refuses threads that are there before it, so until
//! [`queue_from_now`] lines are written by whoever says them. `run`, which has one thread and stays so, never queues.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

/// Lines that wait at the most.
const MAX_LINES: usize = 4096;
/// Bytes of one line; a longer one is cut. With [`MAX_LINES`] the queue holds 16 MiB at the most.
const MAX_LINE: usize = 4096;
/// How long the end of the process waits for its last lines to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The writer's stack: where memory is locked, every byte of it is (mlockall(2)).
const STACK: usize = 128 << 10;

static LOG: Queue = Queue::new();

/// Operational messages, one line each; `PASSPORTD_LOG` is `error`, `warn`, `info` (the default), `debug` or `trace`.
pub(super) fn log_to_stderr() {
    let level = std::env::var("PASSPORTD_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let ansi = io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let lines = || Lines(&LOG);
    tracing_subscriber::fmt().with_writer(lines).with_ansi(ansi).with_target(false).with_max_level(level).init();
}

/// From here on nobody waits for the reader of standard error. To be called once the sandbox is entered.
pub(super) fn queue_from_now() -> io::Result<()> {
    // The writer must take no signal: roles wait for theirs in other ways, some after this call.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = thread::Builder::new()
        .name("log".to_owned())
        .stack_size(STACK)
        .spawn(|| LOG.drain(&mut io::stderr()))
        .map(|_detached| LOG.lock().queues = true);
    before.thread_set_mask()?;
    started
}

/// Waits, not for long, until everything said so far is written: before the process ends.
pub(super) fn flush() {
    LOG.flush(LAST_WORDS);
}

struct Queue {
    state: Mutex<State>,
    /// Tells the writer that there is a line.
    filled: Condvar,
    /// Tells [`Queue::flush`] that there is none left.
    emptied: Condvar,
}

struct State {
    /// Whether there is a writer; without one, lines go straight to standard error.
    queues: bool,
    lines: VecDeque<Line>,
    /// Lines dropped since the newest that was queued.
    dropped: u64,
    /// Whether the writer holds a line that is not written yet.
    writing: bool,
}

struct Line {
    /// How many were dropped before this one.
    dropped: u64,
    text: Vec<u8>,
}

impl Queue {
    const fn new() -> Self {
        let state = State { queues: false, lines: VecDeque::new(), dropped: 0, writing: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock goes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a line, or counts it as dropped. `false`: there is no writer yet.
    fn push(&self, text: &[u8]) -> bool {
        let mut state = self.lock();
        if !state.queues {
            return false;
        }
        if state.lines.len() >= MAX_LINES {
            state.dropped += 1;
            return true;
        }
        let dropped = mem::take(&mut state.dropped);
        state.lines.push_back(Line { dropped, text: cut(text) });
        drop(state);
        self.filled.notify_one();
        true
    }

    /// The next line; waits for one. Dropped lines that no later one followed come as a line without text.
    fn next(&self) -> Line {
        let mut state = self.lock();
        state.writing = false;
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.writing = true;
                return line;
            }
            if state.dropped > 0 {
                state.writing = true;
                return Line { dropped: mem::take(&mut state.dropped), text: Vec::new() };
            }
            self.emptied.notify_all();
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The writer's life. Where standard error is closed there is nobody to tell.
    fn drain(&self, out: &mut impl Write) {
        loop {
            let Line { dropped, text } = self.next();
            if dropped > 0 {
                drop(out.write_all(gap(dropped).as_bytes()));
            }
            drop(out.write_all(&text));
        }
    }

    fn flush(&self, patience: Duration) {
        let state = self.lock();
        let waits = |state: &mut State| state.queues && (state.writing || !state.lines.is_empty() || state.dropped > 0);
        drop(self.emptied.wait_timeout_while(state, patience, waits));
    }
}

/// The line as it is queued: whole, or cut with a sign of it.
fn cut(text: &[u8]) -> Vec<u8> {
    const SIGN: &[u8] = b" [cut]\n";
    match text.get(..MAX_LINE - SIGN.len()) {
        Some(start) if text.len() > MAX_LINE => [start, SIGN].concat(),
        _ => text.to_vec(),
    }
}

/// What stands where lines were dropped, in the form of the others.
fn gap(dropped: u64) -> String {
    let mut line = String::new();
    // Without the time the line still says what matters.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    line + &format!("  WARN the reader of standard error was too slow: lines were dropped here dropped={dropped}\n")
}

/// What `tracing_subscriber` writes into; it hands over each event in one call, as one line.
struct Lines(&'static Queue);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.push(line) {
            return Ok(line.len());
        }
        io::stderr().write_all(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A reader that takes a line only when it is let.
    struct Slow {
        may: Receiver<()>,
        out: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once nobody says when, it takes all.
            let _ = self.may.recv();
            self.out.lock().unwrap().push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A queue with a writer whose reader is stopped; it reads on once the sender is dropped.
    fn stopped() -> (&'static Queue, Sender<()>, Arc<Mutex<Vec<String>>>) {
        let queue: &'static Queue = Box::leak(Box::new(Queue::new()));
        queue.lock().queues = true;
        let (let_go, may) = channel();
        let out = Arc::new(Mutex::new(Vec::new()));
        let mut slow = Slow { may, out: Arc::clone(&out) };
        thread::spawn(move || queue.drain(&mut slow));
        (queue, let_go, out)
    }

    /// Says one line and waits until the writer holds it.
    fn held(queue: &Queue) {
        queue.push(b"first\n");
        while !queue.lock().writing {
            thread::yield_now();
        }
    }

    #[test]
    fn lines_come_out_in_order() {
        let (queue, let_go, out) = stopped();
        drop(let_go);
        let said: Vec<String> = (0..1000).map(|n| format!("line {n}\n")).collect();
        assert!(said.iter().all(|line| queue.push(line.as_bytes())));
        queue.flush(Duration::from_secs(10));
        assert_eq!(*out.lock().unwrap(), said);
    }

    #[test]
    fn nobody_waits_for_a_stopped_reader_and_the_gap_is_counted_where_it_is() {
        let (queue, let_go, out) = stopped();
        held(queue);
        for n in 0..MAX_LINES + 7 {
            assert!(queue.push(format!("{n}\n").as_bytes()));
        }
        {
            let state = queue.lock();
            assert_eq!((state.lines.len(), state.dropped), (MAX_LINES, 7));
        }
        // One is read, so that there is room for one more.
        let_go.send(()).unwrap();
        while queue.lock().lines.len() == MAX_LINES {
            thread::yield_now();
        }
        queue.push(b"after\n");
        drop(let_go);
        queue.flush(Duration::from_secs(10));
        let out = out.lock().unwrap();
        let [last, gap, after] = &out[out.len() - 3..] else { panic!() };
        assert_eq!((last.as_str(), after.as_str()), ("4095\n", "after\n"));
        assert!(gap.contains(" WARN ") && gap.ends_with(" dropped=7\n") && gap.len() > 90, "{gap}");
        assert_eq!(out.len(), 1 + MAX_LINES + 2);
    }

    #[test]
    fn a_gap_that_nothing_follows_is_counted_too() {
        let (queue, let_go, out) = stopped();
        held(queue);
        assert!((0..MAX_LINES + 2).all(|_| queue.push(b"x\n")));
        drop(let_go);
        queue.flush(Duration::from_secs(10));
        assert!(out.lock().unwrap().iter().any(|line| line.ends_with("dropped=2\n")));
    }

    #[test]
    fn the_end_waits_for_a_stopped_reader_only_so_long() {
        let (queue, _let_go, _) = stopped();
        held(queue);
        let begun = std::time::Instant::now();
        queue.flush(Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50));
        assert!(queue.lock().writing);
    }

    #[test]
    fn without_a_writer_lines_are_not_queued() {
        let queue = Queue::new();
        assert!(!queue.push(b"x\n"));
        queue.flush(Duration::from_secs(10));
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let cut = |n| cut("x".repeat(n).as_bytes());
        assert_eq!(cut(MAX_LINE).len(), MAX_LINE);
        let long = cut(MAX_LINE + 1);
        assert!(long.len() == MAX_LINE && long.ends_with(b"x [cut]\n"));
    }
}
