//! What can keep a command from its end, and the exit code that says so.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use crate::client::ClientError;
use crate::config::ConfigError;
use crate::passport::EnvelopeError;
use crate::wire::{Code, Problem, WireError};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done; what was asked about is valid.
    Ok,
    /// No connection, no answer, not ready, a finding, a failed step.
    Failed,
    /// The arguments or the input are wrong.
    Usage,
    /// A passport was refused.
    NotValid,
    /// The daemon won't answer, and says why.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NotValid => 3,
            Exit::Refused => 4,
        })
    }
}

/// Why a command did not do what it was asked. Each message is for the person who typed it, and says what to do.
#[derive(Debug, Error)]
pub enum CliError {
    /// The daemon could not be asked, or refused.
    #[error("{}", client(.0))]
    Client(#[from] ClientError),
    /// The input is not what the command reads.
    #[error("{from}: {what}")]
    Input {
        /// The file, or `stdin`.
        from: String,
        /// What is wrong and what is expected.
        what: String,
    },
    /// An argument that clap can't judge.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        why: io::Error,
    },
    /// Stdout can't be written; a closed pipe is no error.
    #[error("can't write the answer: {0}")]
    Output(io::Error),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A ceremony could not be held, or says no.
    #[error("{0}")]
    Ceremony(String),
    /// An answer that does not hold together.
    #[error("the daemon's answer is wrong: {0}; is this passportctl of the daemon's version?")]
    Answer(String),
    /// A check or measurement of our own failed.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// The exit code that the error stands for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Client(ClientError::Problem(_)) => Exit::Refused,
            Self::Input { .. } | Self::Usage(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    pub(super) fn input(from: &str, what: impl Into<String>) -> Self {
        Self::Input { from: from.to_owned(), what: what.into() }
    }

    pub(super) fn envelope(from: &str, error: &EnvelopeError) -> Self {
        Self::input(from, error.to_string())
    }
}

fn client(error: &ClientError) -> String {
    match error {
        ClientError::Problem(problem) => explained(problem),
        ClientError::Timeout => {
            "no answer in time; see `passportctl health`, or give more --timeout (whether it took effect is not known)"
                .to_owned()
        }
        ClientError::Wire(version @ WireError::Version(_)) => {
            format!("{version}; install passportd and passportctl of one version, and start the daemon again")
        }
        other => other.to_string(),
    }
}

/// One line: code, message, and what to do.
fn explained(problem: &Problem) -> String {
    let mut line = format!("{}: {}", problem.code, problem.message);
    match (problem.code, problem.retry_after_ms) {
        (_, Some(millis)) => line.push_str(&format!(" (in {millis} ms or later)")),
        (Code::NoPeerPolicy | Code::OpDenied, None) => {
            line.push_str(" (`passportctl whoami` shows what the daemon sees in you)");
        }
        // The messages of most codes say so themselves.
        _ if problem.retryable && !problem.message.contains("try again") => line.push_str(" (try again)"),
        _ => {}
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_says_what_to_do() {
        let said = |problem: Problem| CliError::from(ClientError::Problem(problem)).to_string();
        let denied = said(Problem::saying(Code::OpDenied, "rule web allows no issue"));
        assert_eq!(
            denied,
            "op_denied: rule web allows no issue (`passportctl whoami` shows what the daemon sees in you)"
        );
        assert_eq!(said(Problem::saying(Code::Busy, "full").after_ms(20)), "busy: full (in 20 ms or later)");
        assert_eq!(said(Problem::saying(Code::HsmTimeout, "late")), "hsm_timeout: late (try again)");
        assert_eq!(said(Problem::saying(Code::Paused, "paused: incident")), "paused: paused: incident");
    }

    #[test]
    fn exits_say_who_is_at_fault() {
        assert_eq!(CliError::from(ClientError::Problem(Problem::new(Code::Busy))).exit(), Exit::Refused);
        assert_eq!(CliError::from(ClientError::Timeout).exit(), Exit::Failed);
        assert_eq!(CliError::input("stdin", "empty").exit(), Exit::Usage);
    }
}
