//! A token of a test's own, of one of the modules that the tests know: a copy of one that was initialised once.
//!
//! A module finds its token by a variable of the environment, which is one for a process, and a process can't safely change
//! its own environment: start the process that loads the module with [`Token::apply`].

#[path = "kryoptic.rs"]
mod kryoptic;
#[path = "loadable.rs"]
pub(crate) mod loadable;
#[path = "skipped.rs"]
pub(crate) mod skipped;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::module;

/// The token's label.
pub(crate) const LABEL: &str = "passportd-test";
/// Its user PIN.
pub(crate) const PIN: &str = "4711-test";
/// Its security officer's PIN.
pub(crate) const SO_PIN: &str = "0815-test";
/// Names the module of every test that names none itself: `softhsm` (or nothing), or `kryoptic`.
pub(crate) const CHOICE: &str = "PASSPORTD_TEST_HSM";

/// A module that the tests know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hsm {
    /// SoftHSM 2, as the distribution has it.
    SoftHsm,
    /// kryoptic, as `scripts/kryoptic` builds it.
    Kryoptic,
}

impl Hsm {
    /// What `PASSPORTD_TEST_HSM` says.
    ///
    /// # Panics
    /// When that is neither.
    pub(crate) fn chosen() -> Self {
        match std::env::var(CHOICE).unwrap_or_default().as_str() {
            "" | "softhsm" => Self::SoftHsm,
            "kryoptic" => Self::Kryoptic,
            other => panic!("{CHOICE} is softhsm or kryoptic, not {other}"),
        }
    }

    /// Why no test can have it here; nothing if it can.
    pub(crate) fn missing(self) -> Option<&'static str> {
        match self {
            Self::SoftHsm => {
                let there = module().is_some() && Command::new("softhsm2-util").arg("--version").output().is_ok();
                (!there).then_some("SoftHSM is not installed (packages softhsm2 and libsofthsm2)")
            }
            Self::Kryoptic => kryoptic::missing(),
        }
    }

    /// The module's path.
    ///
    /// # Panics
    /// When it is [`Hsm::missing`].
    pub(crate) fn module(self) -> PathBuf {
        match self {
            Self::SoftHsm => module().expect("SoftHSM is installed"),
            Self::Kryoptic => kryoptic::module(),
        }
    }

    /// By which variable it finds its configuration.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::SoftHsm => "SOFTHSM2_CONF",
            Self::Kryoptic => "KRYOPTIC_CONF",
        }
    }

    /// What its configuration is called.
    pub(crate) const fn conf(self) -> &'static str {
        match self {
            Self::SoftHsm => "softhsm2.conf",
            Self::Kryoptic => "kryoptic.toml",
        }
    }

    /// Its name in [`CHOICE`], and in those of files that tests keep.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SoftHsm => "softhsm",
            Self::Kryoptic => "kryoptic",
        }
    }

    /// Writes the configuration of a token whose store is in `dir`.
    fn write_conf(self, dir: &Path) {
        let template = match self {
            Self::SoftHsm => include_str!("../../softhsm/softhsm2.conf"),
            Self::Kryoptic => kryoptic::CONF,
        };
        let store = dir.join("store");
        std::fs::write(dir.join(self.conf()), template.replace("@STORE@", store.to_str().unwrap())).unwrap();
    }

    /// Makes a token: of kryoptic, in the last of its slots.
    fn init_token(self, conf: &Path, label: &str) {
        match self {
            Self::SoftHsm => {
                let mut command = Command::new("softhsm2-util");
                command.args(["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", SO_PIN]);
                self.run(&mut command, conf);
            }
            Self::Kryoptic => {
                for mut command in kryoptic::init_token(kryoptic::slots(conf) - 1, label) {
                    self.run(&mut command, conf);
                }
            }
        }
    }

    fn run(self, command: &mut Command, conf: &Path) {
        let made = command.env(self.variable(), conf).output().unwrap();
        assert!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

/// A token in a directory of its own, which goes with this value.
pub(crate) struct Token {
    hsm: Hsm,
    dir: tempfile::TempDir,
}

impl Token {
    /// A copy of the initialised token, without keys. `None`, with the reason said, where the module is missing.
    pub(crate) fn new(hsm: Hsm) -> Option<Self> {
        if let Some(why) = hsm.missing() {
            skipped::skipped(why);
            return None;
        }
        let dir = tempfile::Builder::new().prefix("passportd-hsm-").tempdir().unwrap();
        copy(&template(hsm), &dir.path().join("store"));
        hsm.write_conf(dir.path());
        private_dir(&dir.path().join("state"));
        let pin = dir.path().join("pin");
        std::fs::write(&pin, format!("{PIN}\n")).unwrap();
        set_mode(&pin, 0o400);
        Some(Self { hsm, dir })
    }

    /// Fills store and state with keys that an earlier test has made, with this build of the daemon. `false` if none has.
    pub(crate) fn take_keys(&self) -> bool {
        let kept = self.kept();
        let there = kept.exists();
        if there {
            for name in ["store", "state"] {
                std::fs::remove_dir_all(self.dir().join(name)).unwrap();
                copy(&kept.join(name), &self.dir().join(name));
            }
        }
        there
    }

    /// Keeps what is in store and state for [`Token::take_keys`] of tests to come.
    pub(crate) fn keep_keys(&self) {
        let fresh = tempfile::Builder::new().prefix("token-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
        for name in ["store", "state"] {
            copy(&self.dir().join(name), &fresh.join(name));
        }
        // Another test may have been quicker; then its keys are as good.
        if std::fs::rename(&fresh, self.kept()).is_err() {
            std::fs::remove_dir_all(&fresh).unwrap();
        }
        self.forget_older_builds();
    }

    /// Where keys are kept. Another build may keep its records in another form, so each build has its own.
    fn kept(&self) -> PathBuf {
        let build = std::fs::metadata(env!("CARGO_BIN_EXE_passportd")).unwrap();
        let made = build.modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}{made}", self.keys_prefix()))
    }

    fn keys_prefix(&self) -> String {
        format!("{}-keys-", self.hsm.name())
    }

    /// Removes keys that were kept for other builds. Best effort: another test may be at the same.
    fn forget_older_builds(&self) {
        let all = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().filter_map(Result::ok);
        for path in all.map(|entry| entry.path()).filter(|path| *path != self.kept()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(&self.keys_prefix()) {
                drop(std::fs::remove_dir_all(&path));
            }
        }
    }

    /// Of which module it is.
    pub(crate) const fn hsm(&self) -> Hsm {
        self.hsm
    }

    /// The directory that holds all of the below.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a second token, without keys and with the same PIN.
    pub(crate) fn add_token(&self, label: &str) {
        if self.hsm == Hsm::Kryoptic {
            kryoptic::add_slot(&self.conf(), &self.store());
        }
        self.hsm.init_token(&self.conf(), label);
    }

    /// The module's own configuration.
    pub(crate) fn conf(&self) -> PathBuf {
        self.dir().join(self.hsm.conf())
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
        command.env(self.hsm.variable(), self.conf())
    }

    /// `pkcs11-tool` (package opensc) for this token, to be told what to do; with a PIN it logs in.
    pub(crate) fn tool(&self, pin: Option<&str>) -> Command {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(self.hsm.module());
        command.args(["--token-label", LABEL]);
        if let Some(pin) = pin {
            command.args(["--login", "--pin", pin]);
        }
        self.apply(&mut command);
        command
    }
}

/// The initialised token that is copied: made once and kept beside the build, since that takes a while.
fn template(hsm: Hsm) -> PathBuf {
    let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let ready = cache.join(format!("{}-template-1", hsm.name()));
    if !ready.exists() {
        std::fs::create_dir_all(&cache).unwrap();
        let fresh = tempfile::Builder::new().prefix("token-").tempdir_in(&cache).unwrap();
        private_dir(&fresh.path().join("store"));
        hsm.write_conf(fresh.path());
        hsm.init_token(&fresh.path().join(hsm.conf()), LABEL);
        // Another test may have been quicker; then its template is as good.
        if let Err(error) = std::fs::rename(fresh.path().join("store"), &ready) {
            assert!(ready.exists(), "{error}");
        }
    }
    ready
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
