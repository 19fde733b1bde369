//! The user PIN of the HSM: from a file, a systemd credential, or bytes that an admin typed.

use super::{SecretBytes, SecretError};
use nix::unistd::geteuid;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest PIN that is read. PKCS#11 leaves the bound to the device; SoftHSM's is 255.
pub const MAX_PIN_BYTES: usize = 256;

/// A PIN. Its bytes are for `C_Login` alone.
#[derive(Debug)]
pub struct Pin(SecretBytes);

impl Pin {
    /// Reads a file that nobody else can read or write: a regular file of mode 0400 or 0600, ours or root's, not reached
    /// through a symbolic link. One trailing newline is not part of the PIN.
    ///
    /// # Errors
    /// [`SecretError`], which names the path, what was found and what to do.
    pub fn from_file(path: &Path) -> Result<Self, SecretError> {
        let file = open(path)?;
        let mode = checked_mode(&file, path)?;
        if mode != 0o400 && mode != 0o600 {
            return Err(SecretError::Mode { path: path.to_owned(), mode });
        }
        read(file, path)
    }

    /// Reads the credential `name` from the directory that systemd made for this unit (`$CREDENTIALS_DIRECTORY`).
    ///
    /// systemd grants a unit's user access through an ACL, which shows as group bits (mode 0440), so the file may be
    /// readable, but not writable, by its group, as long as nobody else can enter or change the directory.
    ///
    /// # Errors
    /// [`SecretError`], which names the path, what was found and what to do.
    pub fn from_credential(directory: &Path, name: &str) -> Result<Self, SecretError> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(SecretError::Name { name: name.to_owned() });
        }
        let uid = geteuid().as_raw();
        let unreadable = |source| SecretError::Unreadable { path: directory.to_owned(), uid, source };
        let around = std::fs::symlink_metadata(directory).map_err(unreadable)?;
        owned(around.uid(), directory)?;
        if around.mode() & 0o027 != 0 {
            return Err(SecretError::Mode { path: directory.to_owned(), mode: around.mode() & 0o7777 });
        }
        let path = directory.join(name);
        let file = open(&path)?;
        let mode = checked_mode(&file, &path)?;
        if mode & !0o640 != 0 {
            return Err(SecretError::Mode { path, mode });
        }
        read(file, &path)
    }

    /// Takes a PIN out of a request; `typed` is zeroised whatever happens.
    ///
    /// # Errors
    /// [`SecretError::Empty`], [`SecretError::Control`] or [`SecretError::TooLong`].
    pub fn take(typed: &mut [u8]) -> Result<Self, SecretError> {
        let found = typed.len();
        let secret = SecretBytes::take(typed)?;
        if found > MAX_PIN_BYTES {
            return Err(SecretError::TooLong { found, limit: MAX_PIN_BYTES });
        }
        Self::checked(secret, "the request")
    }

    /// The bytes, for `C_Login`.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Whether its page is locked against being swapped out.
    pub const fn locked(&self) -> bool {
        self.0.locked()
    }

    fn checked(secret: SecretBytes, origin: &str) -> Result<Self, SecretError> {
        if secret.expose().is_empty() {
            return Err(SecretError::Empty { origin: origin.to_owned() });
        }
        if secret.expose().iter().any(u8::is_ascii_control) {
            return Err(SecretError::Control { origin: origin.to_owned() });
        }
        Ok(Self(secret))
    }
}

/// Opens without following a final symbolic link, and without waiting for the writer of a FIFO.
fn open(path: &Path) -> Result<File, SecretError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(rustix::io::Errno::LOOP) => Err(SecretError::SymbolicLink { path: path.to_owned() }),
        Err(errno) => {
            Err(SecretError::Unreadable { path: path.to_owned(), uid: geteuid().as_raw(), source: errno.into() })
        }
    }
}

/// The permission bits of the open file, once it is a regular one that is ours or root's.
fn checked_mode(file: &File, path: &Path) -> Result<u32, SecretError> {
    let uid = geteuid().as_raw();
    let found = file.metadata().map_err(|source| SecretError::Unreadable { path: path.to_owned(), uid, source })?;
    if !found.is_file() {
        return Err(SecretError::NotAFile { path: path.to_owned() });
    }
    owned(found.uid(), path)?;
    Ok(found.mode() & 0o7777)
}

fn owned(owner: u32, path: &Path) -> Result<(), SecretError> {
    let uid = geteuid().as_raw();
    if owner == 0 || owner == uid { Ok(()) } else { Err(SecretError::Owner { path: path.to_owned(), owner, uid }) }
}

fn read(mut file: File, path: &Path) -> Result<Pin, SecretError> {
    // Room for the PIN, its newline, and one byte more, by which a longer file is known.
    let mut secret = SecretBytes::zeroed(MAX_PIN_BYTES + 2)?;
    let mut len = 0;
    while let Some(room) = secret.expose_mut().get_mut(len..).filter(|room| !room.is_empty()) {
        match file.read(room) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(SecretError::Unreadable { path: path.to_owned(), uid: geteuid().as_raw(), source });
            }
        }
    }
    secret.truncate(len);
    if secret.expose().last() == Some(&b'\n') {
        len -= 1;
        secret.truncate(len);
    }
    if len > MAX_PIN_BYTES {
        return Err(SecretError::TooLong { found: len, limit: MAX_PIN_BYTES });
    }
    Pin::checked(secret, &path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn file(dir: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.path().join("pin");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn one_trailing_newline_goes_and_no_more() {
        for (content, pin) in
            [(&b"1234\n"[..], Some(&b"1234"[..])), (b"1234", Some(b"1234")), (b"12 34\n", Some(b"12 34"))]
        {
            let dir = tempfile::tempdir().unwrap();
            let read = Pin::from_file(&file(&dir, content, 0o400)).unwrap();
            assert_eq!(Some(read.expose()), pin);
        }
        for content in [&b"1234\n\n"[..], b"1234\r\n", b"12\n34\n", b"\x001234"] {
            let dir = tempfile::tempdir().unwrap();
            let refused = Pin::from_file(&file(&dir, content, 0o600)).unwrap_err();
            assert!(matches!(refused, SecretError::Control { .. }), "{refused}");
        }
    }

    #[test]
    fn modes_that_let_others_in_are_refused_with_the_remedy() {
        for mode in [0o644, 0o640, 0o660, 0o604, 0o700, 0o440] {
            let dir = tempfile::tempdir().unwrap();
            let path = file(&dir, b"1234\n", mode);
            let text = Pin::from_file(&path).unwrap_err().to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.ends_with(&format!("chmod 0400 {}", path.display())), "{text}");
        }
    }

    #[test]
    fn lengths_at_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut content = vec![b'7'; MAX_PIN_BYTES];
        content.push(b'\n');
        assert_eq!(Pin::from_file(&file(&dir, &content, 0o600)).unwrap().expose().len(), MAX_PIN_BYTES);
        content.insert(0, b'7');
        let path = file(&dir, &content, 0o600);
        assert!(matches!(Pin::from_file(&path), Err(SecretError::TooLong { found: 257, limit: 256 })));
        assert!(matches!(Pin::from_file(&file(&dir, b"\n", 0o600)), Err(SecretError::Empty { .. })));
    }

    #[test]
    fn links_directories_and_absent_files_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let real = file(&dir, b"1234", 0o400);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(Pin::from_file(&link), Err(SecretError::SymbolicLink { .. })));
        assert!(matches!(Pin::from_file(dir.path()), Err(SecretError::NotAFile { .. })));
        assert!(matches!(Pin::from_file(&dir.path().join("none")), Err(SecretError::Unreadable { .. })));
    }

    #[test]
    fn a_credential_may_be_readable_by_the_group_in_a_closed_directory() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        file(&dir, b"1234", 0o440);
        assert_eq!(Pin::from_credential(dir.path(), "pin").unwrap().expose(), b"1234");
        for name in ["", "../pin", ".pin", "a/b"] {
            assert!(matches!(Pin::from_credential(dir.path(), name), Err(SecretError::Name { .. })));
        }
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Pin::from_credential(dir.path(), "pin"), Err(SecretError::Mode { .. })));
    }

    #[test]
    fn a_typed_pin_leaves_nothing_behind() {
        let mut typed = *b"98765432";
        assert_eq!(Pin::take(&mut typed).unwrap().expose(), b"98765432");
        assert_eq!(typed, [0; 8]);
        assert!(matches!(Pin::take(&mut []), Err(SecretError::Empty { .. })));
        assert!(matches!(Pin::take(&mut [b'1'; 257]), Err(SecretError::TooLong { .. })));
    }
}
