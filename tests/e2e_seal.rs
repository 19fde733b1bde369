//! Small secrets, sealed and opened: over the services' socket, on the command line, and on record.
#![cfg(test)]

#[path = "custody/seal.rs"]
mod seal;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
