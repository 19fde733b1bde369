//! The daemon's processes: starting, finding and ending them, each by its own id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Hsm;

/// In the environment of a role: the service manager watches that very process.
pub(crate) const OWN_WATCHDOG: (&str, &str) = ("WATCHDOG_PID", "its own");

/// The log comes through a pipe, since the role may have no file open for writing (amnesia mode).
pub(crate) const PIPED: &str = "its log is piped";
/// Every system call of the role that opens, makes, removes or writes something is written to this file by strace(1).
pub(crate) const TRACED: &str = "its calls are traced to";

/// What of a role's system calls is traced: whatever names a file to change it, and whatever writes.
const CALLS: &str = "trace=open,openat,openat2,creat,truncate,ftruncate,fallocate,mkdir,mkdirat,mknod,mknodat,rename,renameat,\
    renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,write,writev,pwrite64,pwritev,\
    pwritev2,sendfile,copy_file_range,splice,memfd_create,io_uring_setup,landlock_restrict_self";

/// Whether this process ignores a signal, and so what it starts.
pub(crate) fn ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    mask >> (signal as i32 - 1) & 1 == 1
}

/// A role that the test has started.
pub(crate) struct Started {
    /// `run`, `front` or `signer`.
    pub(crate) role: &'static str,
    child: Child,
}

impl Started {
    /// Starts `passportd <role>`; what it says goes to the end of `log`.
    pub(crate) fn new(role: &'static str, dir: &Path, log: &Path, environment: &[(&str, &str)]) -> Self {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = command(role, dir);
        if environment.contains(&OWN_WATCHDOG) {
            command = watched(&command);
        }
        let named = |wanted: &str| environment.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        if let Some(file) = named(TRACED) {
            command = traced(&command, file);
        }
        let ours = |one: &(&str, &str)| *one == OWN_WATCHDOG || one.0 == PIPED || one.0 == TRACED;
        command.envs(environment.iter().copied().filter(|one| !ours(one))).stdin(Stdio::null());
        if named(PIPED).is_some() {
            let (mut reader, writer) = std::io::pipe().unwrap();
            command.stdout(writer.try_clone().unwrap()).stderr(writer);
            let mut log = log;
            std::thread::spawn(move || std::io::copy(&mut reader, &mut log));
        } else {
            command.stdout(log.try_clone().unwrap()).stderr(log);
        }
        Self { role, child: command.spawn().unwrap() }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Has it end, by SIGTERM, and by SIGKILL after `patience`: it and what it has started.
    pub(crate) fn stop(&mut self, patience: Duration) -> ExitStatus {
        let family = children(self.pid());
        for pid in &family {
            // A child that a test has stopped could not end.
            signal(*pid, Signal::SIGCONT);
        }
        signal(self.pid(), Signal::SIGCONT);
        signal(self.pid(), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Some(status) = self.ended() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        eprintln!("{} does not end; killing it and its children {family:?}", self.role);
        for pid in children(self.pid()) {
            signal(pid, Signal::SIGKILL);
        }
        drop(self.child.kill());
        self.child.wait().unwrap()
    }
}

/// `passportd <role>` of this build, with a clean environment.
pub(crate) fn command(role: &str, dir: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_passportd")), role, dir)
}

/// The same of a copy of it.
pub(crate) fn command_of(program: &Path, role: &str, dir: &Path) -> Command {
    let mut command = Command::new(program);
    let level = std::env::var("PASSPORTD_LOG").unwrap_or_else(|_| "info".to_owned());
    command.env_clear().env("PASSPORTD_LOG", level).env("RUST_BACKTRACE", "1");
    for hsm in [Hsm::SoftHsm, Hsm::Kryoptic] {
        command.env(hsm.variable(), dir.join(hsm.conf()));
    }
    command.arg(role).arg("--config").arg(dir.join("passportd.toml"));
    command
}

/// The same, with its own process id in `WATCHDOG_PID`: the shell becomes the program.
fn watched(command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.args(["-c", "WATCHDOG_PID=$$ exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
    shell
}

/// The same under strace(1), which says of each descriptor what it is, and of no text what it says.
fn traced(command: &Command, file: &str) -> Command {
    let mut strace = Command::new("strace");
    strace.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    strace.args(["-f", "-qq", "-y", "-s", "0", "-o", file, "-e", CALLS, "--"]);
    strace.arg(command.get_program()).args(command.get_args());
    strace
}

/// Sends a signal; a process that is gone is no failure.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        eprintln!("{signal} to {pid}: {error}");
    }
}

/// The children of a process.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let path = PathBuf::from(format!("/proc/{pid}/task/{pid}/children"));
    let list = std::fs::read_to_string(path).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Whether every thread of a process is stopped (state `T` of proc_pid_stat(5)).
pub(crate) fn stands_still(pid: i32) -> bool {
    let states = states(pid);
    !states.is_empty() && states.into_iter().all(|state| state == 'T')
}

/// Whether a process is gone, its files and sockets with it: they are closed before its last thread is a zombie, but after
/// its command line can no longer be read. The kernel's own count of threads is asked, since a list of them that is read while
/// they end may lack some that have not.
pub(crate) fn gone(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The name stands in parentheses and may hold anything; after it, the 1st field is the state and the 18th that count.
    let mut fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace();
    let (state, threads) = (fields.next().unwrap(), fields.nth(16).unwrap());
    matches!(state, "Z" | "X") && matches!(threads, "0" | "1")
}

/// The state of every thread of a process (proc_pid_stat(5)); none when nothing is left of it.
fn states(pid: i32) -> Vec<char> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    // A thread may end while it is looked at.
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    // The name before the state stands in parentheses and may hold anything.
    stats.filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next()).collect()
}

/// The role that a process plays: its first argument.
pub(crate) fn role_of(pid: i32) -> Option<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let argument = line.split(|byte| *byte == 0).nth(1)?;
    String::from_utf8(argument.to_vec()).ok()
}
