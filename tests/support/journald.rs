//! A real journald, for tests and benches.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{eventually, process, root_or_skip, skipped};

pub(crate) fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A journald in a mount namespace of its own: its socket and its files are in `dir`.
pub(crate) struct Journald(Child);

impl Journald {
    /// None, and why is said, where this machine can't.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        Self::start_with(dir, "RateLimitBurst=0", "")
    }

    /// With a line of configuration, and something that the shell does beforehand.
    pub(crate) fn start_with(dir: &Path, line: &str, before: &str) -> Option<Self> {
        const SCRIPT: &str = "set -e
            mount -t tmpfs tmpfs /run
            mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal
            printf '[Journal]\\nStorage=volatile\\nAudit=no\\nReadKMsg=no\\nForwardToWall=no\\n%s\\n' \"$2\" \\
                > /run/systemd/journald.conf.d/test.conf
            mount --bind \"$1/run\" /run/systemd/journal
            mount --bind \"$1/log\" /run/log/journal
            eval \"$3\"
            exec /lib/systemd/systemd-journald";
        const PROGRAM: &str = "/lib/systemd/systemd-journald";
        if !root_or_skip("a real journald") {
            return None;
        }
        let mounts = Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|output| output.status.success());
        if !Path::new(PROGRAM).exists() || !mounts {
            skipped("a real journald: there is none, or no mount namespaces");
            return None;
        }
        for name in ["run", "log"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        // That of an earlier one.
        drop(fs::remove_file(dir.join("run/socket")));
        open(dir, 0o755);
        let mut command = Command::new("unshare");
        command
            .args(["-m", "bash", "-c", SCRIPT, "journald"])
            .arg(dir)
            .args([line, before])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let journald = Self(command.spawn().unwrap());
        eventually("journald listens", Duration::from_secs(20), || dir.join("run/socket").exists().then_some(()));
        open(&dir.join("run"), 0o755);
        Some(journald)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        process::signal(i32::try_from(self.id()).unwrap(), signal);
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        self.signal(Signal::SIGTERM);
        drop(self.0.wait());
    }
}
