//! A kernel that lacks something.

/// From now on this thread, and every process that it starts, is told that the kernel has no Landlock (ENOSYS). Takes
/// CAP_SYS_ADMIN.
///
/// # Errors
/// What the kernel says.
pub fn without_landlock() -> std::io::Result<()> {
    /// The same on every architecture (asm-generic/unistd.h).
    const LANDLOCK_CREATE_RULESET: u32 = 444;
    let refused = libc::SECCOMP_RET_ERRNO | (libc::ENOSYS.unsigned_abs() & libc::SECCOMP_RET_DATA);
    let line = |code: u32, jt: u8, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf: 0, k };
    // seccomp(2): the number of the call is the first word of its data.
    let mut filter = [
        line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, LANDLOCK_CREATE_RULESET),
        line(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        line(libc::BPF_RET | libc::BPF_K, 0, refused),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program outlives the call, which copies it.
    let answer = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
