//! The module that fails on demand (`tests/fault-module`): where it is, and what a process that loads it needs to know.
//!
//! Root alone may have it: nothing of passportd loads a module that is not root's.

use std::path::{Path, PathBuf};

use fault_module::{CONTROL, WRAPS};

use super::softhsm::token::loadable::loadable;

/// The module. It is a dependency of the tests, so that it is built with them; it lies where those are.
///
/// # Panics
/// When it is not there.
pub(crate) fn path() -> PathBuf {
    let module = Path::new(env!("CARGO_BIN_EXE_passportd")).with_file_name("deps").join("libfault_module.so");
    assert!(module.exists(), "{} is not built: cargo build -p fault-module", module.display());
    loadable(&module)
}

/// The environment of a process that loads it over `wraps`. The control file must lie where such a process may read once
/// it is confined, as in `hsm.state_dir`.
pub(crate) fn environment(wraps: &Path, control: &Path) -> [(&'static str, String); 2] {
    [(WRAPS, wraps.to_str().unwrap().to_owned()), (CONTROL, control.to_str().unwrap().to_owned())]
}
