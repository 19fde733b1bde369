//! Single threads of a daemon that stand still, while the others go on.

use std::fs;
use std::marker::PhantomData;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Threads that stand still until this value goes. The thread that stopped them alone may let them go on.
pub(crate) struct Stalled {
    threads: Vec<Pid>,
    _here: PhantomData<*const ()>,
}

impl Stalled {
    /// Stops every thread of this name. None where the kernel does not let this process do that.
    pub(crate) fn threads(pid: i32, name: &str) -> Option<Self> {
        let mut stalled = Self { threads: Vec::new(), _here: PhantomData };
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path()) {
            // It may end meanwhile.
            if !fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name) {
                continue;
            }
            let thread = Pid::from_raw(task.file_name().unwrap().to_str().unwrap().parse().unwrap());
            ptrace::seize(thread, ptrace::Options::empty()).ok()?;
            stalled.threads.push(thread);
            ptrace::interrupt(thread).unwrap();
            waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        }
        assert!(!stalled.threads.is_empty(), "{pid} has no thread {name:?}");
        Some(stalled)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        for thread in &self.threads {
            // One that was killed meanwhile is gone.
            let _gone = ptrace::detach(*thread, None);
        }
    }
}
