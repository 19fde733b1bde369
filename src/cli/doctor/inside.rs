//! Looking into files. No lock is taken, so that a daemon which starts meanwhile is not kept out; and what a daemon has
//! open is left to it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;
use zeroize::Zeroizing;

use super::facts::{Found, KeyList, Kind, Read};
use super::gather::{found, is_hidden, unreadable};
use crate::audit::{self, ChainError, PlaceError};
use crate::hsm::pins::{self, Pins};
use crate::secret::{MAX_PIN_BYTES, Pin, SecretError};
use crate::state::{self, MAX_LOOK, StateError};

/// How an ELF file begins (elf(5)).
const ELF: [u8; 4] = *b"\x7fELF";

fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

fn bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a file that can be read is certainly no shared library.
pub(super) fn is_no_library(path: &Path) -> bool {
    bytes(path, 4).is_ok_and(|begin| begin != ELF)
}

/// Why what is in the file is no PIN. What can't be read, or is encrypted, is nobody's business here.
pub(super) fn unfit(path: &Path) -> Option<String> {
    if path.to_string_lossy().contains("credstore.encrypted") {
        return None;
    }
    // One byte more than a PIN and its newline: by it a longer file is known.
    let mut room = Zeroizing::new([0; MAX_PIN_BYTES + 2]);
    let mut file = open(path).ok()?;
    let mut length = 0;
    while let Some(rest) = room.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest).ok()? {
            0 => break,
            more => length += more,
        }
    }
    let typed = room.get_mut(..length)?;
    let typed = match typed {
        [line @ .., b'\n'] => line,
        all => all,
    };
    match Pin::take(typed) {
        Err(SecretError::Empty { .. }) => Some("it is empty".to_owned()),
        Err(SecretError::Control { .. }) => Some("it holds a line break or control character".to_owned()),
        Err(SecretError::TooLong { limit, .. }) => Some(format!("it is longer than {limit} bytes")),
        Ok(_) | Err(_) => None,
    }
}

pub(super) fn key_list(dir: &Path, owner: u32, uid: u32) -> KeyList {
    let path = dir.join(pins::FILE);
    let found = found(&path);
    let keys = match (&found, bytes(&path, pins::MAX_FILE)) {
        (Found::There(stat), Ok(text)) if stat.kind == Kind::File => {
            match Pins::parse(&path, &String::from_utf8_lossy(&text)) {
                Ok(pins) => Read::Good(pins.keys.len()),
                Err(error) => Read::Bad(vec![error.detail()]),
            }
        }
        (_, Err(error)) if is_hidden(uid, &error) => Read::Hidden(unreadable(uid, &path)),
        (_, Err(error)) => Read::Bad(vec![format!("{}: {error}", path.display())]),
        (_, Ok(_)) => Read::Good(0),
    };
    KeyList { path, found, keys, owner }
}

/// `runs`: a daemon answers.
pub(super) fn ledger(dir: &Path, uid: u32, runs: bool) -> Read<u64> {
    if runs {
        return Read::Left("the daemon that runs has it open, and looked at it when it started".to_owned());
    }
    match audit::look(dir) {
        Ok(newest) => Read::Good(newest),
        Err(ChainError::Place(PlaceError::InUse { path, pid })) => Read::Left(in_use(&path, &pid)),
        Err(ChainError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Read::Good(0),
        Err(ChainError::Io { path, source, .. }) if is_hidden(uid, &source) => Read::Hidden(unreadable(uid, &path)),
        Err(error) => Read::Bad(vec![error.to_string()]),
    }
}

/// The same of the state.
pub(super) fn state(path: &Path, uid: u32, runs: bool) -> Read<u64> {
    if runs {
        return Read::Left("the daemon that runs has it open, and looked at it when it started".to_owned());
    }
    let (readable, stat) = match (open(path), found(path)) {
        (_, Found::Missing) => return Read::Good(0),
        (readable, Found::There(stat)) => (readable, stat),
        (_, Found::Hidden(why)) => return Read::Hidden(why),
    };
    match readable {
        Err(error) if is_hidden(uid, &error) => return Read::Hidden(unreadable(uid, path)),
        _ if stat.kind != Kind::File => return Read::Hidden(format!("{} is not a regular file", path.display())),
        _ if stat.len > MAX_LOOK => {
            let why =
                format!("{} is longer than {MAX_LOOK} bytes; the daemon looks at it as it starts", path.display());
            return Read::Hidden(why);
        }
        _ => {}
    }
    match state::look(path) {
        Ok(snapshot) => Read::Good(snapshot.audit_seq),
        Err(StateError::Place(PlaceError::InUse { path, pid })) => Read::Left(in_use(&path, &pid)),
        Err(error) => Read::Bad(vec![error.to_string()]),
    }
}

fn in_use(path: &Path, pid: &str) -> String {
    format!("pid {pid} has {} open, and looked at it when it started", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_file_is_no_pin() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pin");
        let (longest, long) = ("7".repeat(MAX_PIN_BYTES), "7".repeat(MAX_PIN_BYTES + 1));
        for (text, says) in [
            ("1234", None),
            ("1234\n", None),
            (&longest, None),
            ("", Some("it is empty")),
            ("\n", Some("it is empty")),
            ("12\n34\n", Some("control character")),
            ("1234\r\n", Some("control character")),
            (&long, Some("longer than 256 bytes")),
            (&long.repeat(9), Some("longer than 256 bytes")),
        ] {
            std::fs::write(&path, text).unwrap();
            let said = unfit(&path);
            assert!(
                says.map_or(said.is_none(), |says| said.as_ref().is_some_and(|said| said.contains(says))),
                "{said:?}"
            );
        }
        assert_eq!(unfit(&dir.path().join("none")), None);
    }

    #[test]
    fn libraries_are_known_by_how_they_begin() {
        assert!(is_no_library(Path::new("/etc/passwd")) && !is_no_library(Path::new("/no/such/file")));
        assert!(!is_no_library(&Path::new("/bin/true").canonicalize().unwrap()));
    }
}
