//! passportd issues, verifies, revokes and rotates short-lived, Ed25519-signed capability documents for the services
//! on a host. The private keys stay in a PKCS#11 device.
//!
//! The rooms below stand in the order in which they may import each other: each sees only those before it, which
//! `tests/layers.rs` enforces. `ARCHITECTURE.md` is the map.
#![forbid(unsafe_code)]

#[cfg(feature = "daemon")]
pub mod secret;

pub mod clock;

pub mod passport;

#[cfg(feature = "daemon")]
pub mod statement;

pub mod wire;

#[cfg(feature = "daemon")]
pub mod metrics;

#[cfg(feature = "daemon")]
pub mod policy;

#[cfg(feature = "daemon")]
pub mod config;

#[cfg(feature = "daemon")]
pub mod sandbox;

pub mod verify;

#[cfg(feature = "daemon")]
pub mod hsm;

#[cfg(feature = "daemon")]
pub mod signer;

#[cfg(feature = "daemon")]
pub mod seal;

#[cfg(feature = "daemon")]
pub mod log;

#[cfg(feature = "daemon")]
pub mod state;

#[cfg(not(feature = "daemon"))]
#[path = "state/alone.rs"]
pub mod state;

#[cfg(feature = "daemon")]
pub mod audit;

#[cfg(feature = "daemon")]
pub mod watch;

#[cfg(feature = "daemon")]
pub mod issue;

pub mod check;

#[cfg(feature = "daemon")]
pub mod ceremony;

#[cfg(feature = "daemon")]
pub mod lifecycle;

#[cfg(feature = "daemon")]
pub mod service;

#[cfg(feature = "daemon")]
pub mod server;

#[cfg(feature = "daemon")]
pub mod boot;

#[cfg(feature = "client")]
pub mod client;

#[cfg(feature = "cli")]
pub mod cli;

/// The bodies of the fuzz targets name the library as their own package does.
#[cfg(test)]
extern crate self as passportd;

/// The committed corpora, through the bodies of the fuzz targets; see `docs/FUZZING.md`.
#[cfg(test)]
#[cfg(feature = "daemon")]
#[path = "../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "public in the package of the targets, which has the same files")]
mod fuzz_replay;

/// For tests of every room; shared with those of `tests/`.
#[cfg(test)]
mod skipped {
    include!("../tests/support/skipped.rs");
}
