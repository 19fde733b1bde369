//! Who presents a passport: one user alone, or whoever has a key.
#![cfg(test)]

#[path = "peer/bound.rs"]
mod bound;
#[path = "peer/proving.rs"]
mod proving;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
