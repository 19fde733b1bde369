//! A wall clock that is wrong, for a process that this is preloaded into (`LD_PRELOAD`): by as many seconds as the file says
//! that `FAULT_CLOCK` names. The file is mapped at the first look at a clock, so that one may be confined later.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::STEP;

/// The number in the file, which may change at any time; none where none is named.
fn step() -> Option<&'static AtomicI64> {
    static MAPPED: OnceLock<Option<&'static AtomicI64>> = OnceLock::new();
    *MAPPED.get_or_init(|| {
        let path = std::env::var_os(STEP)?;
        let file = std::fs::File::open(path).ok()?;
        let (length, protection, flags) = (size_of::<AtomicI64>(), libc::PROT_READ, libc::MAP_SHARED);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: a new mapping, of a file that the test keeps at this length; it stays until the process ends.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
        if at == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: mapped just now, for good, and aligned to a page.
        Some(unsafe { &*at.cast::<AtomicI64>() })
    })
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
