//! The control file as it is now, and what it makes of a call.

use crate::control::{Action, Control, Kill, Rule};
use cryptoki_sys::{CK_RV, CKR_GENERAL_ERROR};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How often a call that stands still looks whether its line is gone.
const LOOK: Duration = Duration::from_millis(5);

/// What tells one file from the next: inode, time of change, size. A file that is replaced has another inode, within one
/// tick of the kernel's clock, too.
type Stamp = (u64, i64, i64, u64);

/// The file as it was read last.
#[derive(Default)]
struct Read {
    stamp: Option<Stamp>,
    control: Control,
    /// It was not understood; nothing works until it is.
    broken: bool,
}

static READ: OnceLock<Mutex<Read>> = OnceLock::new();
static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();

/// Does something with the control file of this moment.
fn now<T>(act: impl FnOnce(&mut Read) -> T) -> T {
    let path = PATH.get_or_init(|| std::env::var_os(crate::CONTROL).map(PathBuf::from));
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let found = path.as_ref().and_then(|path| std::fs::metadata(path).ok());
    let stamp = found.map(|file| (file.ino(), file.ctime(), file.ctime_nsec(), file.len()));
    if read.stamp != stamp {
        let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
        let control = Control::parse(&text);
        if let Err(why) = &control {
            say(&format!("can't read the control file: {why}"));
        }
        *read = Read { stamp, broken: control.is_err(), control: control.unwrap_or_default() };
    }
    act(&mut read)
}

/// A line on standard error, in one write: several threads and processes write there.
fn say(what: &str) {
    let line = format!("{} {what}\n", crate::SAYS);
    drop(std::io::stderr().write_all(line.as_bytes()));
}

/// What the kernel calls this thread: a library has its own std, which does not know of the program's threads.
fn thread() -> String {
    // With the NUL at its end (PR_GET_NAME(2const)).
    let mut name = [0_u8; 16];
    // SAFETY: it writes 16 bytes at most.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect()
}

/// How many sessions may be open.
pub(crate) fn session_limit() -> Option<u64> {
    now(|read| read.control.sessions)
}

/// A call of a function with all that happens to it. `finish` bends what was answered, rule by rule.
pub(crate) fn around(function: &str, real: impl FnOnce() -> CK_RV, finish: impl Fn(&Rule, CK_RV)) -> CK_RV {
    let thread = thread();
    let rules = now(|read| if read.broken { None } else { Some(read.control.call(function, &thread)) });
    let Some(rules) = rules else { return CKR_GENERAL_ERROR };
    if let Some(value) = happens(function, &rules, false) {
        return value;
    }
    let answer = real();
    rules.iter().for_each(|rule| finish(rule, answer));
    happens(function, &rules, true).unwrap_or(answer)
}

/// All that is no matter of the answer's content, before the call or after it. The value to return, if a rule says so.
fn happens(function: &str, rules: &[Rule], late: bool) -> Option<CK_RV> {
    for action in rules.iter().filter(|rule| rule.late == late).flat_map(|rule| &rule.actions) {
        match action {
            Action::Return(value) => return Some(*value),
            Action::Delay(time) => stand_still(function, action, Some(*time)),
            Action::Hang => stand_still(function, action, None),
            Action::Kill(kill) => die(*kill),
            Action::Leak(bytes) => leak(*bytes),
            Action::Log => say(&format!("{function} {} {}", std::process::id(), thread())),
            Action::Flip(_) | Action::Lie(..) | Action::State(_) | Action::Flags(_) => {}
        }
    }
    None
}

/// Waits until the time is over or the line is gone.
fn stand_still(function: &str, action: &Action, time: Option<Duration>) {
    let begun = Instant::now();
    while now(|read| read.control.has(function, action)) {
        let left = time.map_or(LOOK, |time| time.saturating_sub(begun.elapsed()));
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Memory that is used once, so that it counts, and never given back.
fn leak(bytes: usize) {
    let lost = Box::leak(vec![0xa5_u8; bytes].into_boxed_slice());
    std::hint::black_box(lost);
}

fn die(kill: Kill) {
    let signal = match kill {
        Kill::Segv => libc::SIGSEGV,
        Kill::Kill => libc::SIGKILL,
        Kill::Abrt => libc::SIGABRT,
    };
    // SAFETY: SIG_DFL is no function of ours that could be called. Rust's own handler of SIGSEGV would see that no stack
    // has overflowed, and return.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: it takes no pointer.
    unsafe { libc::raise(signal) };
}
