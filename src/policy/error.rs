//! What can be wrong with a policy. Always the operator's to mend; the policy in force stays in force meanwhile.

use std::{io, path::PathBuf};

/// What to do about a file that can't be read, where the system's word leaves that open.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; create it, or correct [policy] dir",
        io::ErrorKind::PermissionDenied => "; the front's user must be able to read it",
        _ => "",
    }
}

/// Why a policy was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A file or the directory can't be read.
    #[error("{}: {source}{}", path.display(), remedy(source))]
    Read {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others than root and the daemon's user could change a file or the directory.
    #[error("{}: {why}", path.display())]
    Insecure {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it and how to mend it.
        why: &'static str,
    },
    /// There is more than a policy may have.
    #[error("{}: {what} exceeds the limit of {max}", path.display())]
    TooMuch {
        /// The file or directory.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A place in a file is wrong.
    #[error("{}:{line}:{column}: {message}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// What is wrong there and what to do.
        message: String,
    },
}
