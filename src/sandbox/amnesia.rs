//! What makes it the kernel's business, and not ours, that nothing reaches a disk: no byte can be written to a file, no file
//! is open for it, and memory is not swapped out. That none can be made is Landlock's part (`confine`).

use super::{Plan, SandboxError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;
use std::path::Path;

/// Takes the right to write away; the swap areas in use, if there are any.
pub(super) fn begin(plan: &Plan, notes: &mut Vec<String>) -> Result<Option<String>, SandboxError> {
    if let Some(path) = plan.read_write.first() {
        let reason = format!("the {} role is to write to {}", plan.role, path.display());
        return Err(SandboxError::Step { step: "take the right to write away", reason });
    }
    nothing_open(plan.role, notes)?;
    no_bytes()?;
    swaps(Path::new("/proc/swaps"), total_swap)
}

/// Not a byte into any file, of this process and all that it starts: a write fails with `EFBIG`, since roles hold back SIGXFSZ.
/// Pipes and sockets are no files.
///
/// # Errors
/// [`SandboxError::Step`], [`SandboxError::Unverified`].
pub fn no_bytes() -> Result<(), SandboxError> {
    const STEP: &str = "set RLIMIT_FSIZE to 0";
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0).map_err(|errno| SandboxError::step(STEP, &errno))?;
    match getrlimit(Resource::RLIMIT_FSIZE) {
        Ok((0, 0)) => Ok(()),
        other => Err(SandboxError::Unverified { step: STEP, found: format!("{other:?}") }),
    }
}

/// Neither standard output nor standard error is a file, into which log lines would go and fail. What else somebody has left
/// open for us is named, and nothing can be written to it.
fn nothing_open(role: &'static str, notes: &mut Vec<String>) -> Result<(), SandboxError> {
    const STEP: &str = "look at the open files";
    let fails = |error: std::io::Error| SandboxError::step(STEP, &error);
    for entry in fs::read_dir("/proc/self/fd").map_err(fails)? {
        let entry = entry.map_err(fails)?;
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // That of the listing itself is closed by the time that somebody asks.
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")) else { continue };
        let regular = fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
        if regular && may_write(&info) {
            let file = fs::read_link(entry.path()).map_or_else(|_| "?".to_owned(), |path| path.display().to_string());
            if (1..=2).contains(&fd) {
                return Err(SandboxError::Writable { role, fd, file });
            }
            notes.push(format!("descriptor {fd}, left open by who started this, is a file open for writing: {file}"));
        }
    }
    Ok(())
}

/// By the octal `flags:` of proc_pid_fdinfo(5): the access mode is in the lowest two bits, and 0 is reading alone.
fn may_write(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok()).is_none_or(|flags| flags & 3 != 0)
}

/// All swap there is, in bytes, by sysinfo(2), which needs no file.
fn total_swap() -> Result<u64, SandboxError> {
    nix::sys::sysinfo::sysinfo()
        .map(|found| found.swap_total())
        .map_err(|errno| SandboxError::step("ask sysinfo(2) for swap", &errno))
}

/// The swap areas in use, of the kernel's list. It is not there where the kernel knows no swap, and where /proc shows nothing but
/// processes (`ProcSubset=pid`): then how much there is says whether there is any.
fn swaps(list: &Path, total: impl FnOnce() -> Result<u64, SandboxError>) -> Result<Option<String>, SandboxError> {
    match fs::read_to_string(list) {
        Ok(text) => Ok(areas(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok((total()? > 0).then(|| "swap, of which /proc says no more here".to_owned()))
        }
        Err(error) => Err(SandboxError::step("read /proc/swaps", &error)),
    }
}

/// The first column, below its heading.
fn areas(list: &str) -> Option<String> {
    let areas: Vec<&str> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    (!areas.is_empty()).then(|| areas.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_areas_are_those_below_the_heading() {
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(areas(heading), None);
        assert_eq!(areas(""), None);
        let two = format!("{heading}/dev/zram0 partition 1 0 100\n/swap\\040file file 4 0 -2\n");
        assert_eq!(areas(&two).as_deref(), Some("/dev/zram0, /swap\\040file"));
        let nowhere = |total| swaps(Path::new("/nonexistent"), || Ok(total)).unwrap();
        assert_eq!(nowhere(0), None, "a kernel without swap has no such file");
        assert!(nowhere(4096).is_some(), "and neither has a /proc of processes alone");
        assert!(total_swap().is_ok());
    }

    #[test]
    fn only_reading_is_not_writing_and_what_is_not_said_is() {
        for (info, writes) in [
            ("pos:\t0\nflags:\t0100000\n", false),
            ("pos:\t0\nflags:\t02100001\n", true),
            ("flags:\t0102002\n", true),
            ("pos:\t0\n", true),
        ] {
            assert_eq!(may_write(info), writes, "{info}");
        }
    }
}
