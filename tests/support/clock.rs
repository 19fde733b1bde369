//! A wall clock that is wrong, for the roles of a house that the test starts.

use std::fs;
use std::path::PathBuf;

use fault_module::STEP;
use tempfile::TempDir;

use super::{Options, Roles, fault_module as module};

/// The clock of front and signer.
pub(crate) struct Clock {
    dir: TempDir,
}

impl Clock {
    /// One that is right so far.
    pub(crate) fn new() -> Self {
        let clock = Self { dir: tempfile::tempdir().unwrap() };
        fs::write(clock.file(), 0_i64.to_ne_bytes()).unwrap();
        clock
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("step")
    }

    /// Has it be off by so many seconds, from now on.
    pub(crate) fn step(&self, seconds: i64) {
        use std::io::Write as _;
        // In place: it is mapped.
        fs::File::options().write(true).open(self.file()).unwrap().write_all(&seconds.to_ne_bytes()).unwrap();
    }

    /// What a process needs that is to go by it.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        [("LD_PRELOAD", text(module::path())), (STEP, text(self.file()))]
    }

    /// The options of a house whose front and signer go by it.
    pub(crate) fn options(&self, options: Options) -> Options {
        let roles = ["front", "signer"].iter().flat_map(|role| self.environment().map(|one| (*role, one)));
        roles
            .fold(options.roles(Roles::Apart), |options, (role, (name, value))| options.environment(role, name, &value))
    }
}
