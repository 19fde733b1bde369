//! The client that services link: asynchronous, pipelined, reconnecting.
//!
//! Any number of tasks may use one [`Client`] at once; their requests share a connection and are answered in any order.
//! A lost connection fails the requests that were under way with [`ClientError::Lost`] and is made anew, with a jittered
//! pause, when the next request comes. Requests are not repeated by themselves: whether that is safe, the caller knows.
//!
//! ```no_run
//! use passportd::client::{Client, IssueRequest, Options, Want};
//!
//! # async fn example() -> Result<(), passportd::client::ClientError> {
//! let client = Client::connect(Options::service("/run/passportd/passportd.sock")).await?;
//! let passport = client.issue(&IssueRequest { template: "demo".into(), sub: "alice".into(), ..Default::default() }).await?;
//! let verdict = client.verify(&passport, &Want { aud: Some("demo".into()), scopes: vec!["read".into()], ..Want::default() }).await?;
//! println!("{verdict:?}");
//! # Ok(())
//! # }
//! ```

mod admin;
mod connection;
mod dial;
mod exchanging;
#[cfg(test)]
mod losses;
mod parts;
mod proving;
mod request;
mod secrets;
mod service;
mod verifier;
mod watching;

use std::path::PathBuf;
use std::time::Duration;

pub use admin::AdminClient;
#[cfg(feature = "cli")]
pub(crate) use dial::dial;
pub use exchanging::TicketRequest;
pub use request::IssueRequest;
pub use service::{Client, Keys, Want};
pub use verifier::{
    FeedError, MAX_REVOCATIONS, MAX_SKEW_S, MAX_STALE, MIN_STALE, Propagation, Unfed, Verifier, VerifierOptions,
};

use crate::wire::{Code, Problem, WireError};

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket.
    pub socket: PathBuf,
    /// The longest that one request may take, connecting included.
    pub timeout: Duration,
    /// What the daemon's log calls this client; at most 64 bytes.
    pub name: String,
}

impl Options {
    /// Ten seconds for a request on `socket`.
    pub fn service(socket: impl Into<PathBuf>) -> Self {
        let name = concat!("passportd-client/", env!("CARGO_PKG_VERSION")).to_owned();
        Self { socket: socket.into(), timeout: Duration::from_secs(10), name }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket, or we may not reach it.
    #[error("can't connect to {socket}: {why}")]
    Connect {
        /// The socket.
        socket: String,
        /// The system's word, and what to do.
        why: String,
    },
    /// No answer in time. Whether the request took effect is not known.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke. Whether the request took effect is not known.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The daemon says that there is no answer, and why.
    #[error("{}: {}", .0.code, .0.message)]
    Problem(Problem),
    /// A request that no frame can hold.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// An answer that does not fit the question: not a passportd, or a defect.
    #[error("the answer is of the wrong kind")]
    WrongAnswer,
}

impl ClientError {
    /// Whether sending the same request again may succeed. After [`ClientError::Lost`] and [`ClientError::Timeout`] an
    /// issued passport may exist that nobody received; it expires by itself.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout | Self::Lost(_) => true,
            Self::Problem(problem) => problem.retryable,
            Self::Wire(_) | Self::WrongAnswer => false,
        }
    }

    /// The daemon's code, if it was the daemon that said no.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }
}
