//! Properties of the process itself: signals, files, privileges to come, cores, memory.

use super::SandboxError;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::getppid;

/// `MCL_ONFAULT` (mlockall(2)): lock pages as they are touched. Without it every thread's whole stack would be faulted in.
/// The number is the generic one of the kernel's `mman.h`, which these architectures use.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
const ON_FAULT: Option<MlockAllFlags> = Some(MlockAllFlags::from_bits_retain(4));
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ON_FAULT: Option<MlockAllFlags> = None;

/// How many threads this process has.
pub(super) fn threads() -> Result<usize, SandboxError> {
    let tasks = std::fs::read_dir("/proc/self/task").map_err(|error| SandboxError::step("count threads", &error))?;
    Ok(tasks.count())
}

/// What no role holds back: faults, which can't be; the end of children; job control; a limit of CPU time.
const NEVER_HELD: [Signal; 13] = [
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGCHLD,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGXCPU,
];

/// Holds back every signal but `heeded` and those that none can hold back, for this thread and all that it starts: most of
/// them end a process by default, and nobody means that by SIGUSR1, SIGPIPE or SIGALRM. A mask that was inherited, which
/// could hold back SIGTERM, goes with it.
///
/// # Errors
/// [`SandboxError::Step`], [`SandboxError::Unverified`].
pub fn heed_only(heeded: &[Signal]) -> Result<(), SandboxError> {
    const STEP: &str = "set the signal mask";
    let mut held = SigSet::all();
    NEVER_HELD.iter().chain(heeded).for_each(|signal| held.remove(*signal));
    held.thread_set_mask().map_err(|errno| SandboxError::step(STEP, &errno))?;
    let found = SigSet::thread_get_mask().map_err(|errno| SandboxError::step(STEP, &errno))?;
    // The kernel never holds these two back.
    let holdable = Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP));
    match holdable.into_iter().find(|signal| found.contains(*signal) != held.contains(*signal)) {
        None => Ok(()),
        Some(other) => Err(SandboxError::Unverified { step: STEP, found: other.to_string() }),
    }
}

/// New files are ours alone, and no core file is written. (A core that is piped to a helper ignores the limit; being
/// not dumpable stops that one.)
pub(super) fn private_files() -> Result<(), SandboxError> {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|errno| SandboxError::step("set RLIMIT_CORE to 0", &errno))?;
    match getrlimit(Resource::RLIMIT_CORE) {
        Ok((0, 0)) => Ok(()),
        other => Err(SandboxError::Unverified { step: "set RLIMIT_CORE to 0", found: format!("{other:?}") }),
    }
}

/// No exec can raise privileges any more (and Landlock may be used without them).
pub(super) fn no_new_privs() -> Result<(), SandboxError> {
    prctl::set_no_new_privs().map_err(|errno| SandboxError::step("set no_new_privs", &errno))?;
    match prctl::get_no_new_privs() {
        Ok(true) => Ok(()),
        other => Err(SandboxError::Unverified { step: "set no_new_privs", found: format!("{other:?}") }),
    }
}

/// Ends this process when its parent ends. After the change of uid, which clears the setting (prctl(2)).
pub(super) fn die_with(parent: Option<u32>) -> Result<(), SandboxError> {
    let Some(parent) = parent else { return Ok(()) };
    prctl::set_pdeathsig(Signal::SIGTERM).map_err(|errno| SandboxError::step("set PR_SET_PDEATHSIG", &errno))?;
    // The parent may have died in between; then no signal comes.
    if u32::try_from(getppid().as_raw()) == Ok(parent) { Ok(()) } else { Err(SandboxError::Orphan(parent)) }
}

/// No core, no ptrace by others of the same uid, and /proc/self/mem belongs to root.
pub(super) fn not_dumpable() -> Result<(), SandboxError> {
    prctl::set_dumpable(false).map_err(|errno| SandboxError::step("set not dumpable", &errno))?;
    match prctl::get_dumpable() {
        Ok(false) => Ok(()),
        other => Err(SandboxError::Unverified { step: "set not dumpable", found: format!("{other:?}") }),
    }
}

/// Locks what is mapped now and what will be, as it is touched. Best effort.
pub(super) fn lock_memory(notes: &mut Vec<String>) -> bool {
    // Under a limit, MCL_FUTURE turns the first allocation beyond it into an abort.
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    if limit != RLIM_INFINITY {
        notes
            .push(format!("memory is not locked as a whole: RLIMIT_MEMLOCK is {limit} bytes; secret pages are locked"));
        return false;
    }
    let Some(on_fault) = ON_FAULT else { return false };
    match mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault) {
        Ok(()) => true,
        Err(errno) => {
            notes.push(format!("memory is not locked as a whole: mlockall: {errno}; secret pages are locked"));
            false
        }
    }
}
