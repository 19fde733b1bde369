//! Which keys ought to be in the token: `keys.json` in the signer's own directory.
//!
//! A ceremony writes an entry once it has seen the key sign; nothing else does. A key without an entry is not used (a
//! ceremony that was killed, or another program, made it), nor is one that differs from its entry. Entries stay for ever,
//! so that a version is never given twice (law L7).

use super::HsmError;
use super::label::Label;
use crate::passport::hex;
use crate::wire::link::KeyRole;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file's name.
pub const FILE: &str = "keys.json";
/// The layout that this program writes and reads.
const LAYOUT: u32 = 1;
/// Said of a key that was retired, and of which nothing else is wrong.
pub const RETIRED: &str = "it is retired";
/// Said of one that a ceremony took for compromised.
pub const COMPROMISED: &str = "it is compromised";
/// Said of one that a ceremony destroyed.
pub const DESTROYED: &str = crate::wire::link::DESTROYED;
/// The token's serial number of keys whose HSM is lost: what verifies is kept, and no version is given again.
pub const LOST: &str = "lost";
/// The largest file that is read: some 10,000 keys.
pub const MAX_FILE: u64 = 4 << 20;

/// The keys that ceremonies made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    layout: u32,
    /// In the order in which they were made.
    pub keys: Vec<PinnedKey>,
}

/// What every layout says.
#[derive(Deserialize)]
struct Layout {
    layout: u32,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedKey {
    /// What its label ought to be: for signing keys the kid.
    pub kid: String,
    /// `CKA_LABEL`, of a key that was adopted and keeps the label that it has; else it is the kid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// `passport`, `audit` or `seal`: what the label says, again, so that the file can be read alone.
    pub role: KeyRole,
    /// `CKA_ID`, hex.
    pub cka_id: String,
    /// The public key, hex; absent for seal keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<String>,
    /// When, in seconds since 1970.
    pub created: i64,
    /// The module that made it.
    pub module: String,
    /// The token's serial number.
    pub token_serial: String,
    /// Whether the token took `CKA_ALLOWED_MECHANISMS`.
    pub mechanisms_bound: bool,
    /// When it was retired, in seconds since 1970: no longer used, and its version never again. Of seal keys alone; the
    /// front's key table knows it of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<i64>,
    /// When a ceremony took it for compromised: it signs nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compromised: Option<i64>,
    /// When a ceremony destroyed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<i64>,
}

impl Default for Pins {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl PinnedKey {
    /// `CKA_LABEL`.
    pub fn label(&self) -> &str {
        self.label.as_deref().unwrap_or(&self.kid)
    }

    /// `CKA_ID`. The file was checked when it was read.
    pub fn id(&self) -> Vec<u8> {
        hex::decode(&self.cka_id).unwrap_or_default()
    }

    /// Why it is out of service for good, whatever is in the token; none while it is not.
    pub const fn out_of_service(&self) -> Option<&'static str> {
        match (self.destroyed, self.compromised, self.retired) {
            (Some(_), ..) => Some(DESTROYED),
            (None, Some(_), _) => Some(COMPROMISED),
            (None, None, Some(_)) => Some(RETIRED),
            (None, None, None) => None,
        }
    }

    /// The public key; `None` for seal keys.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        hex::decode_exactly(self.public.as_deref()?)
    }

    fn check(&self) -> Result<(), String> {
        let label = Label::parse(&self.kid).ok_or_else(|| format!("\"{}\" is not a kid", self.kid))?;
        if label.role != self.role {
            return Err(format!("the role of {} is not what its kid says", self.kid));
        }
        if self.label.as_deref().is_some_and(Label::claims) {
            return Err(format!("the label of {} is not foreign", self.kid));
        }
        if self.retired.is_some() && self.role != KeyRole::Seal {
            return Err(format!("{} is retired, and no seal key", self.kid));
        }
        if hex::decode(&self.cka_id).is_none_or(|id| id.is_empty()) {
            return Err(format!("the cka_id of {} is not hex", self.kid));
        }
        if (self.role == KeyRole::Seal) != self.public.is_none()
            || (self.public.is_some() && self.public_key().is_none())
        {
            return Err(format!("the public key of {} is not 32 bytes of hex", self.kid));
        }
        Ok(())
    }
}

impl Pins {
    /// These keys, in this version's layout.
    pub const fn of(keys: Vec<PinnedKey>) -> Self {
        Self { layout: LAYOUT, keys }
    }

    /// Reads `keys.json`. No file means that no ceremony was held yet.
    ///
    /// # Errors
    /// [`HsmError::Pins`] if the file is not exactly what a ceremony writes, or others than its owner could have
    /// changed it ([`HsmError::PinsOpen`], [`HsmError::PinsLayout`]); [`HsmError::File`] if it can't be read.
    pub fn read(state_dir: &Path) -> Result<Self, HsmError> {
        let path = state_dir.join(FILE);
        let Some(text) = read_own(&path, MAX_FILE)? else { return Ok(Self::default()) };
        Self::parse(&path, &text)
    }

    /// What the file `path` says.
    ///
    /// # Errors
    /// [`HsmError::PinsLayout`], or [`HsmError::Pins`] if it is not exactly what a ceremony writes.
    pub fn parse(path: &Path, text: &str) -> Result<Self, HsmError> {
        let wrong = |why: String| HsmError::Pins(path.to_owned(), why);
        // First: what else a later layout holds is unknown.
        if let Ok(Layout { layout }) = serde_json::from_str(text)
            && layout != LAYOUT
        {
            return Err(HsmError::PinsLayout(path.to_owned(), layout));
        }
        let pins: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        pins.check().map_err(wrong)?;
        Ok(pins)
    }

    fn check(&self) -> Result<(), String> {
        if self.layout != LAYOUT {
            return Err(format!("layout {} is not {LAYOUT}, the one that this version knows", self.layout));
        }
        for (n, key) in self.keys.iter().enumerate() {
            key.check()?;
            if self.keys.iter().take(n).any(|other| other.kid == key.kid || other.cka_id == key.cka_id) {
                return Err(format!("{} is listed twice, or its cka_id is", key.kid));
            }
        }
        Ok(())
    }

    /// Replaces `keys.json`: all or nothing, and durable when this returns.
    ///
    /// # Errors
    /// [`HsmError::Pins`] for keys that [`Pins::read`] would refuse, [`HsmError::File`].
    pub fn write(&self, state_dir: &Path) -> Result<(), HsmError> {
        let path = state_dir.join(FILE);
        self.check().map_err(|why| HsmError::Pins(path.clone(), why))?;
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|error| HsmError::Pins(path.clone(), error.to_string()))?;
        text.push(b'\n');
        replace(&path, &text)
    }

    /// The entry for a kid.
    pub fn get(&self, kid: &str) -> Option<&PinnedKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }
}

/// The text of a file that nobody but its owner, this user or root, can have written; none if there is no file.
///
/// # Errors
/// [`HsmError::PinsOpen`], [`HsmError::Pins`] over `limit` bytes, [`HsmError::File`].
pub(crate) fn read_own(path: &Path, limit: u64) -> Result<Option<String>, HsmError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(file_error("read", path, errno.into())),
    };
    let found = file.metadata().map_err(|error| file_error("read", path, error))?;
    let uid = nix::unistd::geteuid().as_raw();
    if !found.is_file() || found.mode() & 0o077 != 0 || (found.uid() != uid && found.uid() != 0) {
        let why = format!(
            "belongs to uid {} and has mode {:04o}; it must be a file of uid {uid} with mode 0600",
            found.uid(),
            found.mode() & 0o7777
        );
        return Err(HsmError::PinsOpen(path.to_owned(), why));
    }
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).map_err(|error| file_error("read", path, error))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > limit {
        return Err(HsmError::Pins(path.to_owned(), format!("is larger than {limit} bytes")));
    }
    Ok(Some(text))
}

/// Writes a file beside `path`, syncs it, renames it over `path` and syncs the directory.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), HsmError> {
    exchange(path, content, true)
}

/// The same without waiting for the disk: it outlives this process, but a power loss may leave an empty file.
pub(super) fn replace_soon(path: &Path, content: &[u8]) -> Result<(), HsmError> {
    exchange(path, content, false)
}

fn exchange(path: &Path, content: &[u8], durable: bool) -> Result<(), HsmError> {
    let fresh: PathBuf = path.with_extension("json.new");
    let fails = |error| file_error("write", &fresh, error);
    // Left by a ceremony that was killed. The ceremony lock is held, so nobody else writes it now.
    match std::fs::remove_file(&fresh) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fails(error)),
        _ => {}
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&fresh, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| fails(errno.into()))?;
    let mut file = File::from(fd);
    file.write_all(content).map_err(fails)?;
    if durable {
        file.sync_all().map_err(fails)?;
    }
    // The commit point: before it the old list holds, after it the new one.
    std::fs::rename(&fresh, path).map_err(|error| file_error("replace", path, error))?;
    if !durable {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(|error| file_error("sync", directory, error))
}

fn file_error(what: &'static str, path: &Path, source: std::io::Error) -> HsmError {
    HsmError::File { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn key(kid: &str, id: &str) -> PinnedKey {
        let role = Label::parse(kid).unwrap().role;
        PinnedKey {
            kid: kid.to_owned(),
            label: None,
            role,
            cka_id: id.to_owned(),
            public: (role != KeyRole::Seal).then(|| "ab".repeat(32)),
            created: 1,
            module: "SoftHSM 2.6".to_owned(),
            token_serial: "1f".to_owned(),
            mechanisms_bound: false,
            retired: None,
            compromised: None,
            destroyed: None,
        }
    }

    fn three() -> Pins {
        let keys = vec![
            key("ed25519/t1/auth/v1", "01"),
            key("ed25519/t1/audit/v1", "02"),
            key("hmac-sha256/t1/seal/v1", "03"),
        ];
        Pins::of(keys)
    }

    #[test]
    fn what_is_written_is_read_and_leaves_one_private_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Pins::read(dir.path()).unwrap(), Pins::default());
        // As a ceremony that was killed would leave it.
        std::fs::write(dir.path().join("keys.json.new"), b"half").unwrap();
        three().write(dir.path()).unwrap();
        assert_eq!(Pins::read(dir.path()).unwrap(), three());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(std::fs::metadata(dir.path().join(FILE)).unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_foreign_label_and_a_retirement_are_kept_and_nothing_is_said_of_the_others() {
        let mut pins = three();
        assert!(!serde_json::to_string(&pins).unwrap().contains("label"));
        pins.keys[0].label = Some("billing signer".to_owned());
        pins.keys[2].retired = Some(7);
        let path = Path::new("keys.json");
        let read = Pins::parse(path, &serde_json::to_string(&pins).unwrap()).unwrap();
        assert_eq!(read, pins);
        assert_eq!((read.keys[0].label(), read.keys[1].label()), ("billing signer", "ed25519/t1/audit/v1"));
    }

    #[test]
    fn a_file_that_others_may_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        three().write(dir.path()).unwrap();
        std::fs::set_permissions(dir.path().join(FILE), Permissions::from_mode(0o640)).unwrap();
        let refused = Pins::read(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("mode 0640"), "{refused}");
    }

    #[test]
    fn anything_unexpected_is_refused() {
        let good = serde_json::to_string(&three()).unwrap();
        let edits = [
            (r#""layout":1"#, r#""layout":2"#),
            (r#""layout":1"#, r#""layout":1,"more":0"#),
            (r#""role":"audit""#, r#""role":"passport""#),
            (r#""cka_id":"02""#, r#""cka_id":"01""#),
            (r#""cka_id":"02""#, r#""cka_id":"0""#),
            (r#""role":"audit""#, r#""role":"audit","label":"ed25519/t1/auth/v1""#),
            (r#""role":"audit""#, r#""role":"audit","retired":1"#),
            ("ed25519/t1/audit/v1", "ed25519/t1/auth/v1"),
            ("abab", "ab"),
        ];
        for (from, to) in edits {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(FILE);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            let refused = Pins::read(dir.path()).unwrap_err();
            assert!(matches!(refused, HsmError::Pins(..) | HsmError::PinsLayout(..)), "{from} -> {to}: {refused}");
        }
    }
    #[test]
    fn a_file_of_so_many_bytes_is_read_and_no_larger_one() {
        let dir = tempfile::tempdir().unwrap();
        three().write(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let most = usize::try_from(MAX_FILE).unwrap();
        let padded = |length: usize| text.clone() + &" ".repeat(length - text.len());
        std::fs::write(&path, padded(most)).unwrap();
        assert_eq!(Pins::read(dir.path()).unwrap(), three());
        std::fs::write(&path, padded(most + 1)).unwrap();
        let refused = Pins::read(dir.path()).unwrap_err().to_string();
        assert!(refused.contains("is larger than 4194304 bytes"), "{refused}");
    }
}
