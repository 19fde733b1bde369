//! The module that fails on demand (`tests/fault-module`), between the daemon and the HSM.

use std::fs;
use std::path::{Path, PathBuf};

use fault_module::{CONTROL, Control, WRAPS};

use super::house::{House, replace};
use super::softhsm;

/// Where the control file is: in `hsm.state_dir`, which a confined signer and a ceremony may read.
fn control(dir: &Path) -> PathBuf {
    dir.join("state/fault.control")
}

/// The module. It is a dependency of the tests, so that it is built with them; it lies where those are.
///
/// # Panics
/// When it is not there.
pub(super) fn module() -> PathBuf {
    let module = Path::new(env!("CARGO_BIN_EXE_passportd")).with_file_name("deps").join("libfault_module.so");
    assert!(module.exists(), "{} is not built: cargo build -p fault-module", module.display());
    module
}

/// What the roles that load it need to know.
pub(super) fn environment(dir: &Path) -> [(&'static str, String); 2] {
    let wraps = softhsm::module().unwrap();
    [(WRAPS, wraps.to_str().unwrap().to_owned()), (CONTROL, control(dir).to_str().unwrap().to_owned())]
}

impl House {
    /// From now on the module fails as this says (`tests/fault-module/src/control.rs`), and no longer as it did.
    ///
    /// # Panics
    /// When the text is wrong.
    pub(crate) fn fault(&self, text: &str) {
        Control::parse(text).unwrap_or_else(|why| panic!("{why}"));
        replace(&control(self.dir()), text);
    }

    /// The module fails no longer.
    pub(crate) fn no_fault(&self) {
        if let Err(error) = fs::remove_file(control(self.dir())) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }

    /// How often the module was asked for a function whose rule says `log`, in all processes so far.
    pub(crate) fn calls(&self, function: &str) -> usize {
        let line = format!("{} {function} ", fault_module::SAYS);
        self.log().lines().filter(|said| said.starts_with(&line)).count()
    }
}
