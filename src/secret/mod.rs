//! Bytes that must not leave the process: in locked pages, left out of cores and forks, zeroised at the end.
//!
//! `mlock(2)` keeps a page out of swap, `MADV_DONTDUMP` out of cores, `MADV_DONTFORK` out of children. Where the limit on
//! locked memory is spent the bytes are still held, zeroised and marked, and [`SecretBytes::locked`] says so.

mod bytes;
mod locked;
mod pin;
mod scrub;

pub use bytes::{MAX_SECRET_BYTES, SecretBytes};
pub use locked::LockedBuf;
pub use pin::{MAX_PIN_BYTES, Pin};
pub use scrub::scrubbed;

use std::path::PathBuf;

/// Why a secret could not be held or read. No variant carries any part of it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The kernel gave no memory (us, or the host).
    #[error("no memory for a secret: {0}")]
    Memory(std::io::Error),
    /// More bytes than any secret here has.
    #[error("a secret of {found} bytes; at most {limit} are allowed")]
    TooLong {
        /// How many bytes were offered.
        found: usize,
        /// The bound that they broke.
        limit: usize,
    },
    /// The file could not be opened or read (operator).
    #[error("{}: {source}; the PIN file must exist and be readable by uid {uid}", path.display())]
    Unreadable {
        /// The file that was asked for.
        path: PathBuf,
        /// The uid that tried.
        uid: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The path ends in a symbolic link, which whoever owns the directory could point elsewhere (operator).
    #[error("{} is a symbolic link; name the PIN file itself", path.display())]
    SymbolicLink {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// Not a regular file (operator).
    #[error("{} is not a regular file; put the PIN in a file of mode 0400", path.display())]
    NotAFile {
        /// The file that was asked for.
        path: PathBuf,
    },
    /// Others may read or write it (operator).
    #[error("{} has mode {mode:04o}, so others may use it; run: chmod 0400 {}", path.display(), path.display())]
    Mode {
        /// The file that was asked for.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else owns it and could change it (operator).
    #[error("{} belongs to uid {owner}; run: chown {uid} {}", path.display(), path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who should.
        uid: u32,
    },
    /// Nothing in it (operator).
    #[error("the PIN from {origin} is empty; write the user PIN of the HSM there")]
    Empty {
        /// The file, or "the request".
        origin: String,
    },
    /// A line break or another control character inside, which no PKCS#11 PIN (UTF-8 text) has on purpose (operator).
    #[error("the PIN from {origin} holds a line break or control character; write the PIN alone, on one line")]
    Control {
        /// The file, or "the request".
        origin: String,
    },
    /// A credential's name that is not a plain file name (us).
    #[error("\"{name}\" is not the name of a credential")]
    Name {
        /// What was given.
        name: String,
    },
}
