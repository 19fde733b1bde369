//! What can be wrong with the configuration. Every fault is the operator's to mend, so each says where and how.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file; line and column count from 1, columns in characters.
    File {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// In the TOML text that `PASSPORT_CONFIG` holds.
    Inline {
        /// Its line.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// In an environment variable.
    Variable {
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Inline { line, column } => write!(f, "PASSPORT_CONFIG:{line}:{column}"),
            Self::Variable { name } => write!(f, "environment variable {name}"),
        }
    }
}

/// What to do about a file that can't be read, where the system's word leaves that open.
fn remedy(reason: &io::Error) -> &'static str {
    match reason.kind() {
        io::ErrorKind::NotFound => "; create it, or correct the path where it is named (--config for passportd.toml)",
        io::ErrorKind::PermissionDenied => "; the user of this process must be able to read it",
        _ => "",
    }
}

/// One thing that is wrong. No message repeats a value, since the wrong line may hold a secret.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The file cannot be opened or read.
    #[error("{}: cannot be read: {reason}{}", path.display(), remedy(reason))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The file is not one that only the administrator can change.
    #[error("{}: {problem}", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Not TOML, or not what the file may hold.
    #[error("{place}: {message}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        message: String,
    },
    /// A section or key that does not exist.
    #[error("{place}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key as written.
        key: String,
        /// A nearer name, or empty.
        hint: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{place}: `{key}`: {message}")]
    Value {
        /// Where.
        place: Place,
        /// `section.key`.
        key: String,
        /// What is expected.
        message: String,
    },
    /// A setting without a default is missing.
    #[error("`{key}` is not set: {help}")]
    Missing {
        /// `section.key`.
        key: &'static str,
        /// What to write.
        help: &'static str,
    },
    /// Settings that cannot hold together.
    #[error("{message} ({origins})")]
    Contradiction {
        /// What does not fit.
        message: String,
        /// Where the settings come from.
        origins: String,
    },
    /// A `PASSPORT_*` variable that means nothing.
    #[error(
        "environment variable {name} is not known{hint}: settings are PASSPORT__SECTION__KEY; \
         unset it, since a misspelt limit must not pass unnoticed"
    )]
    UnknownVariable {
        /// Its name.
        name: String,
        /// A nearer name, or empty.
        hint: String,
    },
    /// A setting that must not come from the environment.
    #[error(
        "environment variable {name}: hsm.* and security.* are taken only from the root-owned file, \
         because whoever can set an environment must not choose the module that is loaded or weaken the rules"
    )]
    NotFromEnvironment {
        /// Its name.
        name: String,
    },
    /// Two variables for one setting.
    #[error("environment variables {first} and {second} set the same key `{key}`: unset one")]
    TwoVariables {
        /// `section.key`.
        key: String,
        /// The one that came first.
        first: String,
        /// The other.
        second: String,
    },
    /// A variable whose value is not UTF-8.
    #[error("environment variable {name} does not hold UTF-8 text")]
    NotUtf8 {
        /// Its name.
        name: String,
    },
    /// `AUTH_DEV_BYPASS`, of an older system.
    #[error("environment variable {name}: there is no way to bypass authentication; unset it")]
    DevBypass {
        /// Its name.
        name: String,
    },
}

/// Everything that is wrong with the configuration, at least one fault, in the order of the text.
#[derive(Debug, Error)]
pub struct ConfigError {
    /// The faults.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl From<Fault> for ConfigError {
    fn from(fault: Fault) -> Self {
        Self { faults: vec![fault] }
    }
}
