//! A disk in trouble, for a process that this is preloaded into (`LD_PRELOAD`): what is done to one file fails as the numbers say of the
//! file that `FAULT_DISK` names. That is mapped at the first look at a disk, so that one may be confined later.
//!
//! These are the calls that the standard library makes for a file that is written in its places and synced. What is read is never wrong.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use libc::{c_char, c_int, c_void, mode_t, off64_t, size_t, ssize_t};

use crate::DISK;
use crate::shared::numbers;

/// The error of a sync, or how many milliseconds longer it takes, as a negative number; the error of a write; 0 where there is none. And
/// the file: its device and its number.
type Numbers = [AtomicI64; 4];

fn trouble() -> Option<&'static Numbers> {
    static MAPPED: OnceLock<Option<&'static Numbers>> = OnceLock::new();
    *MAPPED.get_or_init(|| numbers(DISK))
}

/// The error that such a call gives for this file, if it gives any.
fn error(fd: c_int, which: fn(&Numbers) -> &AtomicI64) -> Option<c_int> {
    let numbers = trouble()?;
    let error = c_int::try_from(which(numbers).load(Ordering::SeqCst)).ok().filter(|error| *error != 0)?;
    let mut found = std::mem::MaybeUninit::<libc::stat64>::uninit();
    // SAFETY: there is room for what is written.
    let known = unsafe { libc::fstat64(fd, found.as_mut_ptr()) } == 0;
    // SAFETY: it was written, as the answer says.
    let found = known.then(|| unsafe { found.assume_init() })?;
    let [.., device, number] = numbers;
    let is = |wanted: &AtomicI64, found: u64| wanted.load(Ordering::SeqCst) == found.cast_signed();
    (is(device, found.st_dev) && is(number, found.st_ino)).then_some(error)
}

fn of_sync([sync, ..]: &Numbers) -> &AtomicI64 {
    sync
}

fn of_write([_, write, ..]: &Numbers) -> &AtomicI64 {
    write
}

fn fail(error: c_int) -> c_int {
    // SAFETY: takes nothing.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: the address of this thread's own number.
    unsafe { *errno = error };
    -1
}

fn narrow(answer: libc::c_long) -> c_int {
    c_int::try_from(answer).unwrap_or(-1)
}

fn sync(fd: c_int, call: libc::c_long) -> c_int {
    match error(fd, of_sync) {
        Some(error @ 1..) => return fail(error),
        Some(late) => std::thread::sleep(std::time::Duration::from_millis(late.unsigned_abs().into())),
        None => {}
    }
    // SAFETY: takes no memory.
    narrow(unsafe { libc::syscall(call, fd) })
}

/// fdatasync(2), unless it is to fail or to be late.
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

/// fsync(2), unless it is to fail or to be late.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

/// ftruncate(2), unless it is to fail.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(fd: c_int, length: off64_t) -> c_int {
    match error(fd, of_write) {
        Some(error) => fail(error),
        // SAFETY: takes no memory.
        None => narrow(unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) }),
    }
}

/// pwrite(2), unless it is to fail.
///
/// # Safety
/// As pwrite(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, offset: off64_t) -> ssize_t {
    if let Some(error) = error(fd, of_write) {
        fail(error);
        return -1;
    }
    // SAFETY: the caller's word for `bytes` is passed on.
    let written = unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset) };
    ssize_t::try_from(written).unwrap_or(-1)
}

/// open(2), unless it is to write where only reading is left.
///
/// # Safety
/// As open(2). The mode is read only where there is one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's word for `path` is passed on.
    let fd = narrow(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) });
    match error(fd, of_write) {
        Some(libc::EROFS) if flags & libc::O_ACCMODE != libc::O_RDONLY => {
            // SAFETY: opened above, and nobody else's.
            unsafe { libc::close(fd) };
            fail(libc::EROFS)
        }
        _ => fd,
    }
}
