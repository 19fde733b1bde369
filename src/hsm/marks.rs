//! Which checkpoint each audit key signed last: `signer/checkpoints.json`, in the signer's own directory.
//!
//! A front that was taken over can have a checkpoint signed of a ledger that it has rewritten, and none of one that is as long as
//! the last or shorter: two histories of one length, both signed, there never are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::HsmError;
use super::pin_note::{failed, owned};
use super::pins::replace;

/// The file's name in the signer's own directory.
pub const FILE: &str = "checkpoints.json";

/// The largest that is read.
const MAX_FILE: u64 = 1 << 20;

/// The ledger of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// How many records.
    pub size: u64,
    /// The root over them, in hex.
    pub root: String,
    /// The newest record's hash, in hex.
    pub head: String,
}

/// The newest of each audit key.
#[derive(Debug)]
pub struct Marks {
    path: Option<PathBuf>,
    by_kid: Mutex<BTreeMap<String, Mark>>,
}

impl Marks {
    /// Marks that nobody keeps.
    pub fn volatile() -> Self {
        Self { path: None, by_kid: Mutex::default() }
    }

    /// The marks of the signer's own directory.
    ///
    /// # Errors
    /// [`HsmError::OwnDir`] or [`HsmError::File`].
    pub fn open(dir: &Path) -> Result<Self, HsmError> {
        let path = dir.join(FILE);
        let fails = |source| failed("read", &path, source);
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => drop(file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fails)?),
            Err(error) if error.kind() == ErrorKind::NotFound => bytes.extend_from_slice(b"{}"),
            Err(error) => return Err(fails(error)),
        }
        let by_kid = serde_json::from_slice(&bytes).map_err(|error| fails(error.into()))?;
        Ok(Self { path: Some(path), by_kid: Mutex::new(by_kid) })
    }

    /// Takes a mark before its checkpoint is signed, durably. `false`: the key has signed one that is as long or longer. The same
    /// once more is taken: its answer may have been lost.
    ///
    /// # Errors
    /// [`HsmError::OwnDir`] or [`HsmError::File`]; nothing may be signed.
    pub fn advance(&self, kid: &str, mark: Mark) -> Result<bool, HsmError> {
        let mut by_kid = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
        match by_kid.get(kid) {
            Some(last) if *last == mark => return Ok(true),
            Some(last) if last.size >= mark.size => return Ok(false),
            _ => {}
        }
        let mut after = by_kid.clone();
        after.insert(kid.to_owned(), mark);
        if let Some(path) = &self.path {
            let fails =
                |error: serde_json::Error| HsmError::File { what: "write", path: path.clone(), source: error.into() };
            replace(path, &serde_json::to_vec(&after).map_err(fails)?).map_err(owned)?;
        }
        *by_kid = after;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(size: u64, root: &str) -> Mark {
        Mark { size, root: root.to_owned(), head: "h".to_owned() }
    }

    #[test]
    fn a_ledger_grows_over_restarts_and_has_one_history_of_each_length() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(dir.path()).unwrap();
        assert!(marks.advance("a", mark(5, "one")).unwrap());
        assert!(marks.advance("a", mark(5, "one")).unwrap(), "the same once more");
        for marks in [marks, Marks::open(dir.path()).unwrap()] {
            assert!(!marks.advance("a", mark(5, "another")).unwrap());
            assert!(!marks.advance("a", mark(4, "one")).unwrap());
            assert!(marks.advance("b", mark(1, "one")).unwrap(), "each key for itself");
        }
        assert!(Marks::open(dir.path()).unwrap().advance("a", mark(6, "two")).unwrap());
    }

    #[test]
    fn what_can_not_be_kept_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(dir.path()).unwrap();
        std::fs::remove_dir(dir.path()).unwrap();
        assert!(marks.advance("a", mark(1, "one")).is_err());
        assert!(marks.advance("a", mark(1, "other")).is_err(), "it was not taken");
        std::fs::create_dir(dir.path()).unwrap();
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        assert!(Marks::open(dir.path()).is_err());
    }
}
