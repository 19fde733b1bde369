//! A daemon that has run, and whose files are then spoilt in one way after the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use toml::{Table, Value};

use super::support::passports::demo;
use super::support::{House, Options, people, process};

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
        self.start_by(None, role, environment)
    }

    /// Starts a role as this user, as systemd would, and waits for its end.
    pub(crate) fn start_as(&self, ids: Option<(u32, u32)>, role: &str) -> Ended {
        self.start_by(ids, role, &[])
    }

    fn start_by(&self, ids: Option<(u32, u32)>, role: &str, environment: &[(&str, &str)]) -> Ended {
        // The build may lie where only its own user may look.
        let public = ids.map(|_| public_copy());
        let mut command = match &public {
            Some(dir) => process::command_of(&dir.path().join("passportd"), role, self.dir()),
            None => process::command(role, self.dir()),
        };
        command.envs(environment.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some((uid, gid)) = ids {
            command.uid(uid).gid(gid);
        }
        let log = self.path("one.log");
        command.stderr(fs::File::create(&log).unwrap());
        let status = wait(command);
        Ended { status, said: fs::read_to_string(log).unwrap() }
    }

    /// The front's user, where it is not the tester's.
    pub(crate) fn front(&self) -> Option<(u32, u32)> {
        self.house.front_ids()
    }

    /// The signer's user, where it is not the tester's.
    pub(crate) fn signer(&self) -> Option<(u32, u32)> {
        self.house.hsm_user().map(|name| people::ids(&name))
    }

    /// Every file with its owner, mode and content, but for sockets, locks and the output of what a test starts.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        list(self.dir(), &mut files);
        files
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

fn list(dir: &Path, files: &mut BTreeMap<PathBuf, (u32, u32, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let (path, meta) = entry.map(|entry| (entry.path(), entry.metadata().unwrap())).unwrap();
        if meta.is_dir() {
            list(&path, files);
        }
        let passing = ["lock", "log"].iter().any(|end| path.extension().is_some_and(|found| found == *end));
        let passing = passing || path.file_name().is_some_and(|name| name == "lock");
        if (meta.is_file() && !passing) || meta.is_dir() {
            let content = if meta.is_file() { content(&path) } else { Vec::new() };
            files.insert(path, (meta.uid(), meta.mode(), content));
        }
    }
}

/// What a file says. The store marks its file whenever it opens it, so its rows count.
fn content(path: &Path) -> Vec<u8> {
    rows(path).unwrap_or_else(|| fs::read(path).unwrap())
}

fn rows(path: &Path) -> Option<Vec<u8>> {
    use redb::{ReadableDatabase as _, ReadableTable as _};
    path.extension().filter(|extension| *extension == "redb")?;
    // Opening it may repair it, which is not for a test to do to the one that is looked at.
    let dir = tempfile::tempdir().unwrap();
    fs::copy(path, dir.path().join("copy")).unwrap();
    let store = redb::Database::open(dir.path().join("copy")).ok()?;
    let read = store.begin_read().ok()?;
    let mut rows = Vec::new();
    for name in ["meta", "keys"] {
        let table: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new(name);
        for row in read.open_table(table).ok()?.iter().ok()? {
            let (key, value) = row.ok()?;
            rows.extend([name.as_bytes(), key.value().as_bytes(), value.value()].concat());
        }
    }
    Some(rows)
}

/// The program, in a directory where every user may start it.
fn public_copy() -> tempfile::TempDir {
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    fs::copy(env!("CARGO_BIN_EXE_passportd"), dir.path().join("passportd")).unwrap();
    dir
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
