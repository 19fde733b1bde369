//! Where checkpoints are kept: a directory that can be shipped off the host as it is.
//!
//! | file | what |
//! |---|---|
//! | `latest` | the newest checkpoint |
//! | `2026-11-24.notes` | all of that day (by the signer's clock, UTC), one after the other |
//! | `keys` | the audit keys, historical ones included, as vkeys |
//! | `frontier` | the daemon's own: what it goes on from |

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::log::durable;
use crate::statement::{Note, VerifierKey};

/// Auditors read through the group.
const MODE: u32 = 0o640;

/// How often a day's file may be begun anew behind one that was cut short.
const MAX_FILES: u16 = 999;

/// The largest file of a day; the next goes into another.
const MAX_DAY: u64 = 8 << 20;

/// The directory, and the keys as they are now.
#[derive(Clone, Debug)]
pub struct Notes {
    /// The directory.
    pub dir: PathBuf,
    /// Every audit key there was.
    pub keys: Vec<VerifierKey>,
}

impl Notes {
    /// Keeps a checkpoint of `time`, durably.
    ///
    /// # Errors
    /// Of the system.
    pub fn keep(&self, note: &Note, time: i64) -> io::Result<()> {
        let note = note.to_string();
        // Whoever has a checkpoint has its key.
        let keys: String = self.keys.iter().map(|key| format!("{}\n", key.vkey())).collect();
        let path = self.dir.join("keys");
        if durable::current(&path, keys.len().saturating_add(1))?.as_deref() != Some(keys.as_bytes()) {
            durable::replace(&path, keys.as_bytes(), MODE)?;
        }
        append(&self.dir, &day(time), note.as_bytes())?;
        durable::replace(&self.dir.join("latest"), note.as_bytes(), MODE)
    }
}

fn day(time: i64) -> String {
    let at = jiff::Timestamp::from_second(time).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%d").to_string()
}

/// Behind what is there, unless that is cut short, as by a power loss: then into a file of its own. Nothing is written over.
fn append(dir: &Path, day: &str, note: &[u8]) -> io::Result<()> {
    for n in 0..=MAX_FILES {
        let name = if n == 0 { format!("{day}.notes") } else { format!("{day}.r{n:03}.notes") };
        let path = dir.join(name);
        let there = match fs::symlink_metadata(&path) {
            Ok(there) if there.len() >= MAX_DAY => continue,
            Ok(_) => fs::read(&path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if Note::parse_all(&there).is_err() {
            continue;
        }
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        let mut file = OpenOptions::new().append(true).create(true).mode(MODE).custom_flags(flags).open(&path)?;
        // Not left to the umask.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(note)?;
        file.sync_all()?;
        return if there.is_empty() { File::open(dir)?.sync_all() } else { Ok(()) };
    }
    Err(io::Error::other("there are too many files of this day that were cut short; move them away"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Note {
        let key = VerifierKey { name: "k".to_owned(), public: [0; 32] };
        Note::signed(text.to_owned(), &key, &[0; 64])
    }

    #[test]
    fn checkpoints_are_kept_by_day_and_the_newest_apart() {
        let dir = tempfile::tempdir().unwrap();
        let keys = vec![VerifierKey { name: "k".to_owned(), public: [0; 32] }];
        let notes = Notes { dir: dir.path().to_owned(), keys: keys.clone() };
        let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
        for (text, time) in [("a\n", 0), ("b\n", 86_399), ("c\n", 86_400)] {
            notes.keep(&note(text), time).unwrap();
        }
        assert_eq!(Note::parse_all(&read("1970-01-01.notes")).unwrap(), [note("a\n"), note("b\n")]);
        assert_eq!(Note::parse_all(&read("1970-01-02.notes")).unwrap(), [note("c\n")]);
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(["1970-01-01.notes", "latest", "keys"].map(mode), [0o640; 3], "for auditors, whatever the umask");
        assert_eq!(Note::parse(&read("latest")).unwrap(), note("c\n"));
        assert_eq!(VerifierKey::parse_all(&String::from_utf8(read("keys")).unwrap()).unwrap(), keys);
        // Cut short: it stays as it is, and the next ones are whole.
        let torn = note("d\n").to_string().trim_end().to_owned();
        fs::write(dir.path().join("1970-01-02.notes"), &torn).unwrap();
        notes.keep(&note("e\n"), 86_401).unwrap();
        assert_eq!(read("1970-01-02.notes"), torn.as_bytes());
        assert_eq!(Note::parse_all(&read("1970-01-02.r001.notes")).unwrap(), [note("e\n")]);
    }
}
