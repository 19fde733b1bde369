//! Checkpoints that an auditor holds: read from files, believed or not, in the order of their sizes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::source::ReadError;
use crate::log::Hash;
use crate::statement::{Checkpoint, Note, ORIGIN, VerifierKey};
use crate::wire::link::MAX_COUNTED;

/// The longest file of notes or keys, in bytes: those of a day that has one each second.
const MAX_FILE: u64 = 128 << 20;

/// The most checkpoints that are compared with records: a year of one each five minutes. Of more, every second of the older half is left
/// out, and so on: a history that was rewritten shows by any of them.
pub const MAX_ANCHORS: usize = 100_000;

/// A checkpoint and who signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The whole note.
    pub note: String,
    /// The key that signed it; none where no keys were given.
    pub by: Option<String>,
    /// The file that it is from.
    pub source: String,
}

impl std::fmt::Display for Anchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Checkpoint { size, time, .. } = &self.checkpoint;
        let time = jiff::Timestamp::from_second(*time).map_or_else(|_| time.to_string(), |at| at.to_string());
        write!(f, "of {time} over {size} records")
    }
}

/// Why checkpoints are not believed.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// Host or operator: a file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Whoever made it: signed by nobody who is known, or altered.
    #[error("{source_name}: the checkpoint {anchor}: {why}")]
    Unsigned {
        /// The file.
        source_name: String,
        /// Which.
        anchor: String,
        /// What is wrong.
        why: String,
    },
    /// The signer, or whoever has its key: there are two histories.
    #[error(
        "the checkpoint {one} ({one_source}) and the checkpoint {other} ({other_source}) contradict each other: {how}"
    )]
    Contradiction {
        /// One.
        one: String,
        /// Where it is.
        one_source: String,
        /// The other one.
        other: String,
        /// Where that is.
        other_source: String,
        /// In what.
        how: String,
    },
}

fn wrong(from: &Path, what: impl Into<String>) -> ReadError {
    ReadError::Format { from: from.display().to_string(), what: what.into() }
}

fn contents(path: &Path) -> Result<Vec<u8>, ReadError> {
    let found = fs::metadata(path).map_err(ReadError::io(path))?;
    // A pipe or a device would never end.
    if !found.is_file() {
        return Err(wrong(path, "it is no regular file".to_owned()));
    }
    if found.len() > MAX_FILE {
        return Err(wrong(path, format!("more than {MAX_FILE} bytes")));
    }
    fs::read(path).map_err(ReadError::io(path))
}

/// The keys in a file of vkeys.
///
/// # Errors
/// If it can't be read, or is none.
pub fn keys(path: &Path) -> Result<Vec<VerifierKey>, ReadError> {
    let text = String::from_utf8(contents(path)?).map_err(|_| wrong(path, "it is not UTF-8"))?;
    let keys = VerifierKey::parse_all(&text).map_err(|error| wrong(path, error.to_string()))?;
    if keys.is_empty() { Err(wrong(path, "there is no key in it")) } else { Ok(keys) }
}

/// The files of notes in a directory, or the file itself.
fn files(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    if !fs::metadata(path).map_err(ReadError::io(path))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(ReadError::io(path))? {
        let file = entry.map_err(ReadError::io(path))?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name == "latest" || name.ends_with(".notes") {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// Checkpoints, sorted by size.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    /// Each once.
    pub list: Vec<Anchor>,
    /// How many were left out, after they were held against each other.
    pub thinned: usize,
    /// Files that end in the middle of a checkpoint, as a crash of the daemon leaves them: what they end with was not read.
    pub torn: Vec<String>,
}

/// The notes of a file, and whether it ends in the middle of one.
fn notes(file: &Path) -> Result<(Vec<Note>, bool), ReadError> {
    let bytes = contents(file)?;
    let whole = match Note::parse_all(&bytes) {
        Ok(notes) => return Ok((notes, false)),
        Err(error) => error,
    };
    // Up to the last line of a signature that has an end.
    let dash = "\n\u{2014} ".as_bytes();
    let end = bytes.windows(dash.len()).enumerate().rev().filter(|(_, word)| *word == dash).find_map(|(at, _)| {
        let line = bytes.get(at + 1..)?;
        Some(at + 2 + line.iter().position(|byte| *byte == b'\n')?)
    });
    let sound = end.and_then(|end| bytes.get(..end)).and_then(|sound| Note::parse_all(sound).ok());
    // The first of a day, cut short.
    let begun = bytes.starts_with(ORIGIN.as_bytes()) || ORIGIN.as_bytes().starts_with(&bytes);
    if end.is_none() && begun && file.extension().is_some_and(|ending| ending == "notes") {
        return Ok((Vec::new(), true));
    }
    // What is altered in the middle is not torn.
    sound.filter(|notes| !notes.is_empty()).map(|notes| (notes, true)).ok_or_else(|| wrong(file, whole.to_string()))
}

/// The checkpoints in these files and directories, by size, each once. With `keys`, each must be signed by one of them.
///
/// # Errors
/// If they can't be read, are not signed, or contradict each other.
pub fn anchors(paths: &[PathBuf], keys: &[VerifierKey]) -> Result<Anchors, AnchorError> {
    at_most(MAX_ANCHORS, paths, keys)
}

fn at_most(most: usize, paths: &[PathBuf], keys: &[VerifierKey]) -> Result<Anchors, AnchorError> {
    let (mut found, mut torn, mut thinned) = (Vec::new(), Vec::new(), 0);
    let mut known = BTreeSet::<Hash>::new();
    for path in paths {
        for file in files(path)? {
            let (notes, is_torn) = notes(&file)?;
            torn.extend(is_torn.then(|| file.display().to_string()));
            for note in notes {
                let checkpoint = Checkpoint::parse(note.text()).map_err(|error| wrong(&file, error.to_string()))?;
                if !known.insert(Sha256::digest(note.to_string()).into()) {
                    continue;
                }
                let source = file.display().to_string();
                let mut anchor = Anchor { checkpoint, note: note.to_string(), by: None, source };
                if !keys.is_empty() {
                    let key = note.verify(keys).map_err(|why| AnchorError::Unsigned {
                        source_name: anchor.source.clone(),
                        anchor: anchor.to_string(),
                        why: why.to_string(),
                    })?;
                    anchor.by = Some(key.name.clone());
                }
                found.push(anchor);
                if found.len() > most {
                    thinned += thin(&mut found)?;
                    // One that comes again does no harm.
                    known.clear();
                }
            }
        }
    }
    sort(&mut found);
    consistent(&found)?;
    Ok(Anchors { list: found, thinned, torn })
}

fn sort(found: &mut [Anchor]) {
    found.sort_by_key(|anchor| (anchor.checkpoint.size, anchor.checkpoint.time));
}

/// Leaves every second of the older half out, once none contradicts another. How many.
fn thin(found: &mut Vec<Anchor>) -> Result<usize, AnchorError> {
    sort(found);
    consistent(found)?;
    let (all, half) = (found.len(), found.len() / 2);
    let mut at = 0;
    found.retain(|_| {
        at += 1;
        at > half || at % 2 == 1
    });
    Ok(all - found.len())
}

/// Whether no two of them, sorted by size, can't both be true of one ledger.
fn consistent(anchors: &[Anchor]) -> Result<(), AnchorError> {
    for (one, other) in anchors.iter().zip(anchors.iter().skip(1)) {
        let (was, is) = (&one.checkpoint, &other.checkpoint);
        let how = if was.origin != is.origin {
            format!("they are of two logs, {} and {}", was.origin, is.origin)
        } else if was.size == is.size && (was.root, was.head) != (is.root, is.head) {
            "the same number of records, and others: there are two histories".to_owned()
        } else if let Some(fallen) = was
            .counts
            .iter()
            .find(|old| is.counted(&old.kid).map_or(is.counts.len() < MAX_COUNTED, |new| new.signed < old.signed))
        {
            format!("the signer's count for {} has fallen: signatures were made that it does not count", fallen.kid)
        } else {
            continue;
        };
        return Err(AnchorError::Contradiction {
            one: one.to_string(),
            one_source: one.source.clone(),
            other: other.to_string(),
            other_source: other.source.clone(),
            how,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn read(files: &[(&str, &str)], keys: &[VerifierKey]) -> Result<Anchors, AnchorError> {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| fs::write(dir.path().join(name), text).unwrap());
        anchors(&[dir.path().to_owned()], keys)
    }

    #[test]
    fn the_daemons_own_directory_is_read_each_checkpoint_once() {
        let lines = ledger(30, "alice");
        let [one, two, three] = [10, 20, 30].map(|size| checkpoint(&lines[..size]).note);
        let day = format!("{one}{two}");
        let torn = three.get(..three.len() - 9).unwrap();
        let files = [
            ("latest", three.as_str()),
            ("2027-01-15.notes", &day),
            ("2027-01-16.notes", &format!("{two}{torn}")),
            ("2027-01-16.r001.notes", &three),
            ("frontier", "{}"),
            ("keys", "no note"),
        ];
        let found = read(&files, &[key().1]).unwrap();
        assert_eq!(found.list.iter().map(|one| one.checkpoint.size).collect::<Vec<_>>(), [10, 20, 30]);
        assert!(found.torn.len() == 1 && found.torn[0].ends_with("2027-01-16.notes"), "{:?}", found.torn);
        assert!(read(&[("latest", torn)], &[]).is_err(), "it is whole, or was not made by a daemon");
        for cut in [torn, torn.get(..3).unwrap()] {
            let first = read(&[("latest", three.as_str()), ("2027-01-17.notes", cut)], &[]).unwrap();
            assert_eq!((first.list.len(), first.torn.len()), (1, 1), "the first of a day");
        }
        assert!(read(&[("other.notes", "no note")], &[]).is_err());
        let altered = day.replace("head ", "haed ");
        assert!(read(&[("a.notes", &altered)], &[]).is_err());
    }

    #[test]
    fn of_more_than_can_be_compared_the_older_ones_are_thinned() {
        let lines = ledger(40, "alice");
        let notes: String = (1..=40).map(|size| checkpoint(&lines[..size]).note).collect();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.notes");
        fs::write(&file, &notes).unwrap();
        let found = at_most(10, std::slice::from_ref(&file), &[key().1]).unwrap();
        let sizes: Vec<_> = found.list.iter().map(|one| one.checkpoint.size).collect();
        assert!(sizes.len() <= 10 && sizes.len() + found.thinned == 40, "{sizes:?}");
        assert!(sizes.is_sorted() && sizes.ends_with(&[38, 39, 40]) && sizes.starts_with(&[1]), "{sizes:?}");
        // What contradicts one that is there is found all the same.
        let other = checkpoint(&ledger(12, "bob")).note;
        fs::write(&file, format!("{other}{notes}")).unwrap();
        let two = at_most(20, &[file], &[]).unwrap_err().to_string();
        assert!(two.contains("there are two histories"), "{two}");
    }

    #[test]
    fn what_is_not_signed_or_contradicts_itself_is_not_believed() {
        let lines = ledger(30, "alice");
        let (one, other) = (checkpoint(&lines[..10]), checkpoint(&ledger(10, "bob")));
        let said = |files: &[(&str, &str)], keys: &[VerifierKey]| read(files, keys).unwrap_err().to_string();
        let foreign = VerifierKey { name: "k".to_owned(), public: [7; 32] };
        let unknown = said(&[("a.notes", &one.note)], std::slice::from_ref(&foreign));
        assert!(unknown.contains("no signature of a key that was given"), "{unknown}");
        let altered = one.note.replace("\n10\n", "\n11\n");
        assert!(said(&[("a.notes", &altered)], &[key().1]).contains("was altered, or is forged"));
        let two = said(&[("a.notes", &one.note), ("b.notes", &other.note)], &[]);
        assert!(two.contains("there are two histories"), "{two}");
        let fallen = counting(&lines[..20], 2, 10);
        let fallen = said(&[("a.notes", &one.note), ("b.notes", &fallen.note)], &[]);
        assert!(fallen.contains("count for ed25519/t1/auth/v1 has fallen"), "{fallen}");
    }
}
