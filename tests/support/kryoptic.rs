//! kryoptic: where `scripts/kryoptic` has put it, and how a token of it is made.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::loadable::loadable;
use super::{PIN, SO_PIN};

/// The version that is built, and its library: as in `scripts/kryoptic`.
const BUILT: &str = "kryoptic-1.5.4/libkryoptic_pkcs11.so";
/// Its configuration: a slot has one token, which is one file of SQLite.
pub(super) const CONF: &str = "[[slots]]\nslot = 0\ndbtype = \"sqlite\"\ndbargs = \"@STORE@/token-0.sql\"\n";

/// Why no test can have it here; nothing if it can.
pub(super) fn missing() -> Option<&'static str> {
    if !built().is_some_and(|built| built.exists()) {
        Some("kryoptic is not built: run scripts/kryoptic, once")
    } else if !nix::unistd::geteuid().is_root() {
        Some("kryoptic is built, but passportd loads root's modules alone: run this as root")
    } else if Command::new("pkcs11-tool").arg("--version").output().is_err() {
        Some("pkcs11-tool, which makes kryoptic's tokens, is not installed (package opensc)")
    } else {
        None
    }
}

/// Where the script has put it: the cache of `scripts/lib.sh`.
fn built() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from).or_else(home)?;
    Some(cache.join("passportd").join(BUILT))
}

/// Where it can be loaded from.
pub(super) fn module() -> PathBuf {
    loadable(&built().expect("it is not missing"))
}

/// How many slots a configuration has.
pub(super) fn slots(conf: &Path) -> usize {
    std::fs::read_to_string(conf).unwrap().matches("[[slots]]").count()
}

/// Writes a slot more into a configuration.
pub(super) fn add_slot(conf: &Path, store: &Path) {
    let (number, mut text) = (slots(conf), std::fs::read_to_string(conf).unwrap());
    let slot = CONF.replace("slot = 0", &format!("slot = {number}")).replace("-0.sql", &format!("-{number}.sql"));
    text.push_str(&slot.replace("@STORE@", store.to_str().unwrap()));
    std::fs::write(conf, text).unwrap();
}

/// What makes a token: the officer's part, then the user's PIN.
pub(super) fn init_token(slot: usize, label: &str) -> [Command; 2] {
    let slot = slot.to_string();
    let tool = |arguments: &[&str]| {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(module()).args(["--slot-index", &slot, "--so-pin", SO_PIN]).args(arguments);
        command
    };
    [tool(&["--init-token", "--label", label]), tool(&["--init-pin", "--login", "--login-type", "so", "--pin", PIN])]
}
