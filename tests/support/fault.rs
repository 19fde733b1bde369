//! A house whose HSM fails on demand.

use std::fs;
use std::path::{Path, PathBuf};

use ::fault_module::Control;

use super::fault_module as module;
use super::house::{House, replace};
use super::softhsm::token::Token;

/// Where the control file is: in `hsm.state_dir`, which a confined signer and a ceremony may read.
fn control(dir: &Path) -> PathBuf {
    dir.join("state/fault.control")
}

/// What the roles that load the module need to know.
pub(super) fn environment(token: &Token) -> [(&'static str, String); 2] {
    module::environment(&token.hsm().module(), &control(token.dir()))
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
        self.callers(function).len()
    }

    /// The names of the threads that made those calls.
    pub(crate) fn callers(&self, function: &str) -> Vec<String> {
        let line = format!("{} {function} ", ::fault_module::SAYS);
        let log = self.log();
        let said = log.lines().filter_map(|said| said.strip_prefix(&line)?.split_once(' '));
        said.map(|(_process, thread)| thread.to_owned()).collect()
    }
}
