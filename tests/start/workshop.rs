//! A daemon that has run, and whose files are then spoilt in one way after the other.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use toml::{Table, Value};

use super::support::passports::demo;
use super::support::{House, Options, process};

/// How long a start that fails may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The daemon's directory, as it was.
pub(crate) struct Workshop {
    house: House,
}

/// How a role ended that could not start.
pub(crate) struct Ended {
    /// Its status; none when it went on running and had to be told to end.
    pub(crate) status: Option<ExitStatus>,
    /// What it said.
    pub(crate) said: String,
}

impl Workshop {
    /// A daemon with a key, a passport on record, and no process that runs.
    pub(crate) fn new() -> Self {
        let mut house = House::start(Options::default());
        house.raw().issue(demo("alice")).unwrap();
        house.stop();
        Self { house }
    }

    /// Where everything is.
    pub(crate) fn dir(&self) -> &Path {
        self.house.dir()
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Changes settings, given as `section.key`; `Value::String("")` removes one.
    pub(crate) fn set(&self, settings: &[(&str, Value)]) {
        let path = self.path("passportd.toml");
        let mut config: Table = fs::read_to_string(&path).unwrap().parse().unwrap();
        for (key, value) in settings {
            let (section, key) = key.split_once('.').unwrap();
            let section = config.entry(section).or_insert_with(|| Value::Table(Table::new())).as_table_mut().unwrap();
            match value {
                Value::String(text) if text.is_empty() => drop(section.remove(key)),
                value => drop(section.insert(key.to_owned(), value.clone())),
            }
        }
        fs::write(path, config.to_string()).unwrap();
    }

    /// Starts a role and waits for its end.
    pub(crate) fn start(&self, role: &str, environment: &[(&str, &str)]) -> Ended {
        let mut command = process::command(role, self.dir());
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        let log = self.path("one.log");
        command.stderr(fs::File::create(&log).unwrap());
        let status = wait(command);
        Ended { status, said: fs::read_to_string(log).unwrap() }
    }

    /// Runs `spoil`, then `then`, and puts every file back as it was.
    pub(crate) fn with(&self, spoil: impl FnOnce(&Self), then: impl FnOnce(&Self)) {
        let kept = tempfile::tempdir().unwrap();
        copy(self.dir(), kept.path());
        spoil(self);
        then(self);
        for entry in fs::read_dir(self.dir()).unwrap() {
            let path = entry.unwrap().path();
            drop(if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) });
        }
        copy(kept.path(), self.dir());
    }
}

fn wait(mut command: Command) -> Option<ExitStatus> {
    let mut child: Child = command.spawn().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    process::signal(i32::try_from(child.id()).unwrap(), nix::sys::signal::Signal::SIGTERM);
    drop(child.wait());
    None
}

/// Copies a directory with owners and modes. Sockets of the dead are left out.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, copied, meta) = (entry.path(), to.join(entry.file_name()), entry.metadata().unwrap());
        if meta.is_dir() {
            fs::create_dir(&copied).unwrap();
            copy(&path, &copied);
        } else if meta.is_file() {
            fs::copy(&path, &copied).unwrap();
        } else {
            continue;
        }
        chown(&copied, Some(meta.uid()), Some(meta.gid())).unwrap();
        fs::set_permissions(&copied, fs::Permissions::from_mode(meta.mode() & 0o7777)).unwrap();
    }
}
