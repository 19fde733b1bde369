//! The first frame each way.

use bincode::{BorrowDecode, Decode, Encode};

use super::Problem;

/// The longest `client` string of a [`Hello`], in bytes. It goes to logs, nowhere else.
pub const MAX_CLIENT: usize = 64;

/// What a client says first, on either socket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Hello<'a> {
    /// The highest wire version that the client speaks.
    pub wire: u8,
    /// The client's name and version, e.g. `passportctl/0.1.0`; at most [`MAX_CLIENT`] bytes. It decides nothing.
    pub client: &'a str,
}

/// The daemon's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Greeting {
    /// Requests may follow.
    Welcome(Welcome),
    /// The connection is closed after this.
    Refused(Problem),
}

/// What a client needs to know of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Welcome {
    /// The wire version of this connection.
    pub wire: u8,
    /// The daemon's name and version.
    pub server: String,
    /// The `iss` of every passport that this daemon issues and accepts.
    pub issuer: String,
    /// What one request may hold.
    pub limits: Limits,
}

/// The bounds a client splits its requests by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Limits {
    /// The largest body, in bytes.
    pub max_frame: u32,
    /// The largest `msg` of a passport, in bytes.
    pub max_msg_bytes: u32,
    /// The most items of one batch.
    pub max_batch: u32,
    /// The most requests of one connection that may await their replies; more are not read until some are answered.
    pub max_in_flight: u32,
}
