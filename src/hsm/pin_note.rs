//! What is remembered of a refused PIN outside the process: `pin.json` in the signer's own directory.
//!
//! An HSM counts refused PINs and locks itself. Whoever starts the signer again and again must not bring that about, so a
//! PIN that was refused is not tried again until the credential changes or an operator says so.
//!
//! The note says which PIN it was by 16 bits of a slow hash under a salt: of a PIN that was refused, and too few to find it
//! by. One of 65,536 changed PINs looks like the old one and wants the operator's word.
//!
//! | note | PIN | at the next login |
//! |---|---|---|
//! | none | any | tried |
//! | `trying`, or empty: cut short | any | tried, unless the token says that a login has failed since the last that did not |
//! | `refused` | the same | not tried |
//! | `refused` | another | tried |
//! | `allowed` | any | tried, once, unless it is the last attempt |
//! | `final` | any | tried, once |

use super::HsmError;
use super::module::Token;
use super::pins::{replace, replace_soon};
use crate::passport::hex;
use crate::secret::Pin;
use pbkdf2::pbkdf2_hmac;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The one directory that the signer writes to, in its state directory.
pub const OWN_DIR: &str = "signer";
/// The note's name in it.
pub const FILE: &str = "pin.json";
/// The layout that this program writes and reads.
const LAYOUT: u32 = 1;
/// The largest note that is read.
const MAX_FILE: u64 = 4096;
/// Rounds of PBKDF2-HMAC-SHA256 (RFC 8018): a tenth of a second; unoptimised, as unit tests are, some twenty.
const ROUNDS: u32 = if cfg!(test) { 1000 } else { 200_000 };
/// Bytes of the hash that are kept.
const TAG: usize = 2;
/// Bytes of the salt.
const SALT: usize = 16;

/// What `CK_TOKEN_INFO.flags` say of the user PIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinFlags {
    /// `CKF_USER_PIN_LOCKED`.
    pub locked: bool,
    /// `CKF_USER_PIN_FINAL_TRY`: a wrong one locks it.
    pub final_try: bool,
    /// `CKF_USER_PIN_COUNT_LOW`: one was wrong since the last that was right.
    pub count_low: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// A login is about to be made. Left behind by a process that was killed before it knew the outcome.
    Trying,
    /// The token has refused it.
    Refused,
    /// An operator wants it tried.
    Allowed,
    /// The same, even if it is the last attempt.
    Final,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    layout: u32,
    state: State,
    /// The token that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    token_serial: String,
    /// Hex; with the tag, of a refused PIN alone.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    salt: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    tag: String,
    /// What the token said of the attempts that are left.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    left: String,
}

impl Note {
    const fn of(state: State, token_serial: String) -> Self {
        Self { layout: LAYOUT, state, token_serial, salt: String::new(), tag: String::new(), left: String::new() }
    }

    fn is_of(&self, pin: &Pin) -> bool {
        hex::decode(&self.salt).is_some_and(|salt| tag(pin, &salt) == self.tag)
    }
}

/// To be asked before `C_Login` with a PIN that nobody has typed just now. When this returns, the note says that a login is
/// being tried: durably, if anything was known of a refused PIN. Else a power loss costs an attempt at most, while the disk
/// may hold up a recovery: 2.6 s were seen on a busy one.
///
/// # Errors
/// [`HsmError::PinRemembered`], [`HsmError::PinFinalTry`] or [`HsmError::PinLocked`]: the login must not be made.
/// [`HsmError::PinNote`], [`HsmError::OwnDir`] or [`HsmError::File`] if the note can't be read or written: then neither,
/// since a locked HSM is worse than one that is not used.
pub fn before(state_dir: &Path, token: &Token, pin: &Pin, flags: PinFlags) -> Result<(), HsmError> {
    let path = place(state_dir)?;
    let known = allows(state_dir, token, pin, flags)?;
    write(&path, &Note::of(State::Trying, token.serial.clone()), if known { replace } else { replace_soon })
}

/// The same question, and nothing is written: for amnesia mode. Whether anything is known of a refused PIN.
///
/// # Errors
/// As [`before`].
pub fn allows(state_dir: &Path, token: &Token, pin: &Pin, flags: PinFlags) -> Result<bool, HsmError> {
    let path = state_dir.join(OWN_DIR).join(FILE);
    let label = || token.label.clone();
    if flags.locked {
        return Err(HsmError::PinLocked(label()));
    }
    let note = read(&path)?.filter(|note| note.token_serial.is_empty() || note.token_serial == token.serial);
    let last = note.as_ref().is_some_and(|note| note.state == State::Final);
    if flags.final_try && !last {
        return Err(HsmError::PinFinalTry(label()));
    }
    let known = note.is_some() || flags.count_low;
    if let Some(note) = note {
        let refused = match note.state {
            State::Refused => note.is_of(pin),
            State::Trying => flags.count_low,
            State::Allowed | State::Final => false,
        };
        if refused {
            return Err(HsmError::PinRemembered { token: label(), left: note.left });
        }
    }
    Ok(known)
}

/// To be told what came of it.
///
/// # Errors
/// [`HsmError::File`] if the note can't be changed. `trying` then stays, which keeps nobody from trying again.
pub fn after(state_dir: &Path, token: &Token, pin: &Pin, outcome: &Result<(), HsmError>) -> Result<(), HsmError> {
    let path = place(state_dir)?;
    let left = match outcome {
        Err(HsmError::PinIncorrect { left, .. }) => *left,
        // Without a PIN of its own the token has refused none: the one that it gets may be this.
        Err(error) if error.refused_pin() && !matches!(error, HsmError::PinUnset(_)) => "",
        // Not durable: what comes back after a power loss is `trying`, which keeps nobody from trying.
        _ => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &path, error)),
            _ => return Ok(()),
        },
    };
    let mut salt = [0; SALT];
    getrandom::fill(&mut salt)
        .map_err(|error| HsmError::Host("get random bytes", std::io::Error::other(error.to_string())))?;
    let note = Note {
        salt: hex::encode(&salt),
        tag: tag(pin, &salt),
        left: left.to_owned(),
        ..Note::of(State::Refused, token.serial.clone())
    };
    write(&path, &note, replace)
}

/// An operator wants the PIN tried once more, whatever is known of it; `last`: even if that is the last attempt.
///
/// # Errors
/// [`HsmError::File`].
pub fn allow(state_dir: &Path, last: bool) -> Result<(), HsmError> {
    let state = if last { State::Final } else { State::Allowed };
    write(&place(state_dir)?, &Note::of(state, String::new()), replace)
}

/// What the note says, for the doctor: nothing if no PIN was refused.
///
/// # Errors
/// [`HsmError::PinNote`] or [`HsmError::File`].
pub fn describe(state_dir: &Path) -> Result<Option<String>, HsmError> {
    let note = read(&state_dir.join(OWN_DIR).join(FILE))?;
    Ok(note.map(|note| match note.state {
        State::Trying => "a login was cut short".to_owned(),
        State::Refused => format!("the PIN was refused, and is not tried again; {}", note.left),
        State::Allowed => "an operator wants it tried once more".to_owned(),
        State::Final => "an operator wants it tried once more, be it the last time".to_owned(),
    }))
}

/// Makes the signer's own directory, for it alone, if it is not there.
///
/// # Errors
/// [`HsmError::File`].
pub fn make_own_dir(state_dir: &Path) -> Result<PathBuf, HsmError> {
    let dir = state_dir.join(OWN_DIR);
    if !dir.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|error| failed("make", &dir, error))?;
    }
    Ok(dir)
}

fn place(state_dir: &Path) -> Result<PathBuf, HsmError> {
    make_own_dir(state_dir).map(|dir| dir.join(FILE))
}

fn tag(pin: &Pin, salt: &[u8]) -> String {
    let mut tag = [0; TAG];
    pbkdf2_hmac::<Sha256>(pin.expose(), salt, ROUNDS, &mut tag);
    hex::encode(&tag)
}

fn read(path: &Path) -> Result<Option<Note>, HsmError> {
    let wrong = |why: String| HsmError::PinNote(path.to_owned(), why);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(failed("read", path, errno.into())),
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(|error| failed("read", path, error))?;
    if text.is_empty() {
        // Of a login under which the power was lost.
        return Ok(Some(Note::of(State::Trying, String::new())));
    }
    let note: Note = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    match note.layout {
        LAYOUT => Ok(Some(note)),
        other => Err(wrong(format!("layout {other} is not {LAYOUT}, the one that this version knows"))),
    }
}

fn write(path: &Path, note: &Note, put: fn(&Path, &[u8]) -> Result<(), HsmError>) -> Result<(), HsmError> {
    let text = serde_json::to_vec(note).map_err(|error| HsmError::PinNote(path.to_owned(), error.to_string()))?;
    put(path, &text).map_err(owned)
}

/// A file in the signer's own directory that could not be read or written. `what` reads as in "could not …".
pub(super) fn failed(what: &'static str, path: &Path, source: std::io::Error) -> HsmError {
    owned(HsmError::File { what, path: path.to_owned(), source })
}

/// A right that is missing will be missing at the next start, too; what else the host says of a file may pass.
pub(super) fn owned(error: HsmError) -> HsmError {
    match error {
        HsmError::File { what, path, source } if source.kind() == ErrorKind::PermissionDenied => {
            let dir = path.ancestors().find(|above| above.ends_with(OWN_DIR)).unwrap_or(&path).to_owned();
            HsmError::OwnDir { dir, uid: nix::unistd::geteuid().as_raw(), what, path, source }
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "pin_note_tests.rs"]
mod tests;
