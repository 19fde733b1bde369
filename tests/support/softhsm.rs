//! A SoftHSM of a test's own: a copy of a token that was initialised once.
//!
//! SoftHSM finds its token by `SOFTHSM2_CONF`, which is one for a process, and a process can't safely change its own
//! environment: start the process that loads the module with [`SoftHsm::apply`].
//!
//! A test that does not use all of it declares it as
//! `#[expect(dead_code, reason = "shared")] #[path = "support/softhsm.rs"] mod softhsm;`

#[path = "skipped.rs"]
pub(crate) mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;

use skipped::skipped;

/// The token's label.
pub(crate) const LABEL: &str = "passportd-test";
/// Its user PIN.
pub(crate) const PIN: &str = "4711-test";
/// Its security officer's PIN.
const SO_PIN: &str = "0815-test";
/// Where Debian and others put the module.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
];

/// A token in a directory of its own, which goes with this value.
pub(crate) struct SoftHsm {
    dir: tempfile::TempDir,
}

impl SoftHsm {
    /// A copy of the initialised token, without keys. `None`, with the reason printed, where SoftHSM is not installed.
    pub(crate) fn new() -> Option<Self> {
        if module().is_none() || Command::new("softhsm2-util").arg("--version").output().is_err() {
            skipped("SoftHSM is not installed (packages softhsm2 and libsofthsm2)");
            return None;
        }
        let dir = tempfile::Builder::new().prefix("passportd-hsm-").tempdir().unwrap();
        copy(&template(), &dir.path().join("store"));
        write_conf(dir.path());
        private_dir(&dir.path().join("state"));
        let pin = dir.path().join("pin");
        std::fs::write(&pin, format!("{PIN}\n")).unwrap();
        set_mode(&pin, 0o400);
        Some(Self { dir })
    }

    /// Fills store and state with keys that an earlier test has made, with this build of the daemon. `false` if none has.
    pub(crate) fn take_keys(&self) -> bool {
        let kept = kept();
        let there = kept.exists();
        if there {
            for name in ["store", "state"] {
                std::fs::remove_dir_all(self.dir().join(name)).unwrap();
                copy(&kept.join(name), &self.dir().join(name));
            }
        }
        there
    }

    /// Keeps what is in store and state for [`SoftHsm::take_keys`] of tests to come.
    pub(crate) fn keep_keys(&self) {
        let fresh = tempfile::Builder::new().prefix("softhsm-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
        for name in ["store", "state"] {
            copy(&self.dir().join(name), &fresh.join(name));
        }
        // Another test may have been quicker; then its keys are as good.
        if std::fs::rename(&fresh, kept()).is_err() {
            std::fs::remove_dir_all(&fresh).unwrap();
        }
        forget_older_builds();
    }

    /// The directory that holds all of the below.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a second token, without keys and with the same PIN.
    pub(crate) fn add_token(&self, label: &str) {
        init_token(&self.conf(), label);
    }

    /// What goes into `SOFTHSM2_CONF`.
    pub(crate) fn conf(&self) -> PathBuf {
        self.dir().join("softhsm2.conf")
    }

    /// The token store.
    pub(crate) fn store(&self) -> PathBuf {
        self.dir().join("store")
    }

    /// An empty directory of mode 0700 for the signer's own files.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir().join("state")
    }

    /// A file of mode 0400 with the PIN.
    pub(crate) fn pin_file(&self) -> PathBuf {
        self.dir().join("pin")
    }

    /// Makes a process that is about to be started use this token.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("SOFTHSM2_CONF", self.conf())
    }
}

/// The module's path, if it is installed.
pub(crate) fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// The initialised token that is copied: made once and kept beside the build, since `--init-token` takes a while.
fn template() -> PathBuf {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let ready = cache.join("softhsm-template-1");
    if !ready.exists() {
        std::fs::create_dir_all(&cache).unwrap();
        let fresh = tempfile::Builder::new().prefix("softhsm-").tempdir_in(&cache).unwrap();
        private_dir(&fresh.path().join("store"));
        write_conf(fresh.path());
        init_token(&fresh.path().join("softhsm2.conf"), LABEL);
        // Another test may have been quicker; then its template is as good.
        if let Err(error) = std::fs::rename(fresh.path().join("store"), &ready) {
            assert!(ready.exists(), "{error}");
        }
    }
    ready
}

fn init_token(conf: &Path, label: &str) {
    let made = Command::new("softhsm2-util")
        .args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN])
        .env("SOFTHSM2_CONF", conf)
        .output()
        .unwrap();
    assert!(made.status.success(), "softhsm2-util: {}", String::from_utf8_lossy(&made.stderr));
}

/// Where keys are kept. Another build may keep its records in another form, so each build has its own.
fn kept() -> PathBuf {
    let build = std::fs::metadata(env!("CARGO_BIN_EXE_passportd")).unwrap();
    let made = build.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("softhsm-keys-{made}"))
}

/// Removes keys that were kept for other builds. Best effort: another test may be at the same.
fn forget_older_builds() {
    let all = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().filter_map(Result::ok).map(|entry| entry.path());
    for path in all.filter(|path| *path != kept()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("softhsm-keys-") {
            drop(std::fs::remove_dir_all(&path));
        }
    }
}

/// The shipped template, filled in.
fn write_conf(dir: &Path) {
    let text = include_str!("../../softhsm/softhsm2.conf");
    let store = dir.join("store");
    std::fs::write(dir.join("softhsm2.conf"), text.replace("@STORE@", store.to_str().unwrap())).unwrap();
}

fn copy(from: &Path, to: &Path) {
    private_dir(to);
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn private_dir(path: &Path) {
    std::fs::create_dir(path).unwrap();
    set_mode(path, 0o700);
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}
