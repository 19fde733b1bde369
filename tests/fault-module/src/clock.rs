//! A wall clock that is wrong, for a process that this is preloaded into (`LD_PRELOAD`): by as many seconds as the file says
//! that `FAULT_CLOCK` names. The file is mapped at the first look at a clock, so that one may be confined later.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::STEP;
use crate::shared::numbers;

fn step() -> Option<&'static AtomicI64> {
    static MAPPED: OnceLock<Option<&'static [AtomicI64; 1]>> = OnceLock::new();
    MAPPED.get_or_init(|| numbers(STEP)).map(|[step]| step)
}

/// clock_gettime(2), with the step added to `CLOCK_REALTIME`.
///
/// # Safety
/// As clock_gettime(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    // SAFETY: the caller's word for `time` is passed on.
    let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if answer != 0 {
        return -1;
    }
    if clock == libc::CLOCK_REALTIME
        && let Some(step) = step()
    {
        // SAFETY: the kernel has just written there.
        unsafe { (*time).tv_sec += step.load(Ordering::Relaxed) };
    }
    0
}
