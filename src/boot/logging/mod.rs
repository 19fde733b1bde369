//! The operational log: what an operator reads. Every event is named ([`events`]), becomes a line for standard error or a
//! datagram for journald ([`record`]), is summarised when there are too many like it ([`storm`]), and waits in a bounded
//! queue for one thread ([`queue`]), so that a reader that stands still can't stop the daemon (DESIGN §11).

pub(super) mod events;
mod queue;
mod record;
mod sink;
mod storm;

use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Metadata, Subscriber, error, warn};

use queue::Queue;
use record::{Form, Record};
use sink::{Destination, Sink};

/// How long the end of the process waits for its last lines to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The writer's stack: where memory is locked, every byte of it is (mlockall(2)).
const STACK: usize = 128 << 10;
/// The level: `off`, `error`, `warn`, `info` (the default), `debug` or `trace`.
const LEVEL: &str = "PASSPORTD_LOG";
/// Where to: `auto` (the default), `stderr`, `journald`, or the path of a socket that speaks journald's protocol.
const TO: &str = "PASSPORTD_LOG_TO";

static LOG: OnceLock<Queue> = OnceLock::new();
/// Amnesia mode; see [`forget_peers`].
static FORGETS: AtomicBool = AtomicBool::new(false);

/// From here on the log says what happens, and not to whom.
pub(super) fn forget_peers() {
    FORGETS.store(true, Ordering::Relaxed);
}

/// From here on events are written, by whoever says them: the sandbox refuses threads that are there before it.
pub(super) fn start(role: &'static str) {
    let level = env::var(LEVEL).ok().map(|level| level.parse::<LevelFilter>());
    let to = env::var(TO).ok();
    let (destination, unmet) = Destination::choose(to.as_deref(), env::var("JOURNAL_STREAM").ok().as_deref());
    let plain = unwelcome(env::var_os("NO_COLOR").as_deref());
    let ansi = io::stderr().is_terminal() && !plain;
    let (form, sink) = match destination {
        Destination::Stderr => (Form::Line { role, ansi }, Sink::Stderr),
        Destination::Journal(sender) => (Form::Datagram { role }, Sink::Journal(sender)),
    };
    let queue = LOG.get_or_init(|| Queue::new(form, sink));
    let recorder = Recorder { level: level.clone().and_then(Result::ok).unwrap_or(LevelFilter::INFO), queue };
    // The second call of a process would find the first one's recorder, which is the same.
    drop(tracing::subscriber::set_global_default(recorder));
    if let Some(Err(_)) = level {
        warn!(name: "log_setting", setting = LEVEL, "not a level; taking info. Levels: off, error, warn, info, debug, trace");
    }
    if let Some(why) = unmet {
        warn!(name: "log_setting", setting = TO, "{why}; logging to standard error");
    }
    std::panic::set_hook(Box::new(|info| {
        // Where, and not what: a panic's message may hold any value of the program.
        let at = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let thread = thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        error!(name: "service_crashed", reason = "panic", at, thread, "a defect of passportd; please report it");
        flush();
    }));
}

/// Whether `NO_COLOR` turns colours off: with any value but an empty one (no-color.org).
fn unwelcome(no_color: Option<&OsStr>) -> bool {
    no_color.is_some_and(|value| !value.is_empty())
}

/// From here on nobody waits for the log's reader. To be called once the sandbox is entered; `run`, which has one thread
/// and stays so, never does.
pub(super) fn queue_from_now() -> io::Result<()> {
    let Some(queue) = LOG.get() else { return Ok(()) };
    // The writer must take no signal: roles wait for theirs in other ways, some after this call.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = thread::Builder::new().name("log".to_owned()).stack_size(STACK).spawn(|| queue.drain()).map(drop);
    before.thread_set_mask()?;
    started
}

/// Waits, not for long, until everything said so far is written: before the process ends.
pub(super) fn flush() {
    if let Some(queue) = LOG.get() {
        queue.flush(LAST_WORDS);
    }
}

/// Hands events of ours to the queue. There are no spans: a request's parts carry its `corr_id`.
struct Recorder {
    level: LevelFilter,
    queue: &'static Queue,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries may say anything, of anybody.
        metadata.is_event() && *metadata.level() <= self.level && metadata.target().starts_with("passportd")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let record = Record::of(event);
        self.queue.say(if FORGETS.load(Ordering::Relaxed) { record.of_nobody() } else { record });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[cfg(test)]
mod tests;
