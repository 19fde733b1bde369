//! Which checkpoint the signer signed last: `signer/checkpoints.json`, in the signer's own directory.
//!
//! A front that was taken over can have a checkpoint signed of a ledger that it has rewritten, and none of one that is as long as
//! the last or shorter: two histories of one length, both signed, there never are, by whichever audit keys. A ledger that was
//! restored from a copy, or begun anew, is signed once a ceremony has given the old one up.

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

/// By origin. Older versions kept one of each audit key, by its kid: the longest of them counts.
type Kept = BTreeMap<String, Mark>;

/// No origin begins like a kid.
fn is_kid(name: &str) -> bool {
    name.starts_with("ed25519/")
}

fn last<'k>(kept: &'k Kept, origin: &str) -> Option<&'k Mark> {
    let older = || kept.iter().filter(|(name, _)| is_kid(name)).map(|(_, mark)| mark).max_by_key(|mark| mark.size);
    kept.get(origin).or_else(older)
}

fn read(path: &Path) -> Result<Kept, HsmError> {
    let fails = |source| failed("read", path, source);
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => drop(file.take(MAX_FILE).read_to_end(&mut bytes).map_err(fails)?),
        Err(error) if error.kind() == ErrorKind::NotFound => bytes.extend_from_slice(b"{}"),
        Err(error) => return Err(fails(error)),
    }
    serde_json::from_slice(&bytes).map_err(|error| fails(error.into()))
}

fn write(path: &Path, kept: &Kept) -> Result<(), HsmError> {
    let fails =
        |error: serde_json::Error| HsmError::File { what: "write", path: path.to_owned(), source: error.into() };
    replace(path, &serde_json::to_vec(kept).map_err(fails)?).map_err(owned)
}

/// Of how many records the last checkpoint of `origin` is, by the signer's own directory; none if there was none.
///
/// # Errors
/// [`HsmError::File`].
pub fn records(dir: &Path, origin: &str) -> Result<Option<u64>, HsmError> {
    Ok(last(&read(&dir.join(FILE))?, origin).map(|mark| mark.size))
}

/// Gives the ledger of `origin` up, durably, if the last checkpoint of it is of so many records: the next may be of any. `false`: it
/// is of more or fewer. One that was given up already is.
///
/// # Errors
/// [`HsmError::OwnDir`] or [`HsmError::File`]; it may have been given up all the same.
pub fn give_up(dir: &Path, origin: &str, records: u64) -> Result<bool, HsmError> {
    let path = dir.join(FILE);
    let mut kept = read(&path)?;
    match last(&kept, origin) {
        None => return Ok(true),
        Some(mark) if mark.size != records => return Ok(false),
        Some(_) => {}
    }
    kept.retain(|name, _| name != origin && !is_kid(name));
    write(&path, &kept)?;
    Ok(true)
}

/// The newest of each origin.
#[derive(Debug)]
pub struct Marks {
    path: Option<PathBuf>,
    kept: Mutex<Kept>,
}

impl Marks {
    /// Marks that nobody keeps.
    pub fn volatile() -> Self {
        Self { path: None, kept: Mutex::default() }
    }

    /// The marks of the signer's own directory.
    ///
    /// # Errors
    /// [`HsmError::OwnDir`] or [`HsmError::File`].
    pub fn open(dir: &Path) -> Result<Self, HsmError> {
        let path = dir.join(FILE);
        let kept = Mutex::new(read(&path)?);
        Ok(Self { path: Some(path), kept })
    }

    /// Takes a mark before its checkpoint is signed, durably. `false`: one was signed that is as long or longer. The same once
    /// more is taken: its answer may have been lost.
    ///
    /// # Errors
    /// [`HsmError::OwnDir`] or [`HsmError::File`]; nothing may be signed.
    pub fn advance(&self, origin: &str, mark: Mark) -> Result<bool, HsmError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path {
            // A ceremony may have given the ledger up.
            *kept = read(path)?;
        }
        match last(&kept, origin) {
            Some(last) if *last == mark => return Ok(true),
            Some(last) if last.size >= mark.size => return Ok(false),
            _ => {}
        }
        let mut after = kept.clone();
        after.retain(|name, _| !is_kid(name));
        after.insert(origin.to_owned(), mark);
        if let Some(path) = &self.path {
            write(path, &after)?;
        }
        *kept = after;
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
            assert!(marks.advance("b", mark(1, "one")).unwrap(), "another issuer's");
        }
        assert!(Marks::open(dir.path()).unwrap().advance("a", mark(6, "two")).unwrap());
    }

    #[test]
    fn one_history_whichever_key_signs_it() {
        let dir = tempfile::tempdir().unwrap();
        let old = [("ed25519/t1/audit/v1", mark(5, "one")), ("ed25519/t2/audit/v1", mark(9, "two"))];
        let old: BTreeMap<_, _> = old.into_iter().collect();
        std::fs::write(dir.path().join(FILE), serde_json::to_vec(&old).unwrap()).unwrap();
        assert_eq!(records(dir.path(), "a").unwrap(), Some(9));
        let marks = Marks::open(dir.path()).unwrap();
        assert!(!marks.advance("a", mark(9, "three")).unwrap());
        assert!(marks.advance("a", mark(10, "three")).unwrap());
        assert_eq!(records(dir.path(), "a").unwrap(), Some(10));
        assert_eq!(records(dir.path(), "b").unwrap(), None, "what older versions kept is taken over once");
    }

    #[test]
    fn a_ledger_that_was_given_up_begins_again_under_a_signer_that_runs() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(dir.path()).unwrap();
        assert!(marks.advance("a", mark(5, "one")).unwrap() && marks.advance("b", mark(7, "one")).unwrap());
        assert!(!give_up(dir.path(), "a", 4).unwrap(), "it has grown, or is another than was meant");
        assert!(!marks.advance("a", mark(1, "new")).unwrap());
        assert!(give_up(dir.path(), "a", 5).unwrap() && give_up(dir.path(), "a", 5).unwrap());
        assert!(marks.advance("a", mark(1, "new")).unwrap());
        assert!(!marks.advance("a", mark(1, "newer")).unwrap());
        assert!(!marks.advance("b", mark(7, "new")).unwrap());
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
        assert!(Marks::open(dir.path()).is_err() && marks.advance("a", mark(1, "one")).is_err());
    }
}
