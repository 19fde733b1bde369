//! The operational log of a daemon in use: journald's protocol, a reader that stands still, and what is never said.
#![cfg(test)]

#[path = "logs/journal.rs"]
mod journal;
#[path = "logs/secrets.rs"]
mod secrets;
#[path = "logs/stopped.rs"]
mod stopped;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
