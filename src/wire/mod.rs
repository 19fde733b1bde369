//! The wire: frames, greetings, messages of the service and admin sockets, problems, and the link between front and
//! signer; and, as JSON, the ceremony's. `docs/WIRE.md` specifies every byte. This is the only room that names bincode; [`armour`] says what it
//! takes to use it on strangers' bytes.

pub mod admin;
mod armour;
#[cfg(feature = "daemon")]
pub mod ceremony;
pub mod exchange;
mod form;
pub mod frame;
pub mod hello;
pub mod link;
mod plain;
pub mod problem;
mod refusal;
pub mod sealed;
pub mod service;
pub mod verdict;
pub mod watch;

pub use admin::{AdminOk, AdminOp, AdminReply, AdminRequest, Revocation};
pub use armour::{Frames, MAX_WEIGHT, WireError, decode, encode_frame, peek_id};
pub use exchange::{Exchanged, Ticket, TicketSpec};
pub use hello::{Greeting, Hello, Limits, Welcome};
pub use plain::{Plain, PlainBuf};
pub use problem::{Code, Problem};
pub use service::{
    Condition, Health, ISSUED_OVERHEAD, Identity, IssueSpec, Issued, Passport, PassportForm, Possession, Reply,
    Request, ServiceOk, ServiceOp, VersionInfo, Want,
};
pub use verdict::{Accepted, Consumed, Introspection, Verdict};
pub use watch::{Cursor, Event, KeySet, RevocationPage, Standing, TenantEpoch, Topic, Watched, What};

/// The first byte of every body. It names the layout of all that follows.
pub const WIRE_VERSION: u8 = 1;

/// The largest body, in bytes (1 MiB). A header that announces more ends the connection before any buffer grows.
pub const MAX_FRAME: usize = 1 << 20;

/// The length prefix: four bytes, big-endian, the size of the body without the prefix.
pub const HEADER: usize = 4;
