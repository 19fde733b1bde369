//! SoftHSM, which every test can have that needs an HSM: a token of it, of a test's own.
//!
//! A test that does not use all of it declares it as
//! `#[expect(dead_code, reason = "shared")] #[path = "support/softhsm.rs"] mod softhsm;`

#[path = "token.rs"]
pub(crate) mod token;

use std::ops::Deref;
use std::path::PathBuf;

use token::{Hsm, Token};
pub(crate) use token::{LABEL, PIN, skipped};

/// Where Debian and others put the module.
const MODULES: [&str; 3] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
];

/// A token of SoftHSM.
pub(crate) struct SoftHsm(Token);

impl SoftHsm {
    /// A copy of the initialised token, without keys. `None`, with the reason said, where SoftHSM is not installed.
    pub(crate) fn new() -> Option<Self> {
        Token::new(Hsm::SoftHsm).map(Self)
    }
}

impl Deref for SoftHsm {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.0
    }
}

/// The module's path, if it is installed.
pub(crate) fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}
