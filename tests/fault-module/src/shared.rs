//! What a preloaded process and its test both look at.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::AtomicI64;

/// The numbers in the file that the variable names, which may change at any time; none where none is named. Without anything of the
/// standard library that opens a file: that may be what asks.
pub(crate) fn numbers<const N: usize>(variable: &str) -> Option<&'static [AtomicI64; N]> {
    let path = CString::new(std::env::var_os(variable)?.as_bytes()).ok()?;
    // SAFETY: the path ends with a zero, and outlives the call.
    let fd =
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let fd = libc::c_int::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    let (length, protection, flags) = (size_of::<[AtomicI64; N]>(), libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: a new mapping, of a file that the test keeps at this length; it stays until the process ends.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
    // SAFETY: opened above, and nobody else's; a mapping does without it.
    unsafe { libc::close(fd) };
    if at == libc::MAP_FAILED {
        return None;
    }
    // SAFETY: mapped just now, for good, and aligned to a page.
    Some(unsafe { &*at.cast::<[AtomicI64; N]>() })
}
