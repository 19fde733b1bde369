//! Who somebody is: the user who presents a passport, whoever has its key, and the peer of a listener.
#![cfg(test)]

#[path = "peer/bound.rs"]
mod bound;
#[path = "peer/listeners.rs"]
mod listeners;
#[path = "peer/proving.rs"]
mod proving;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
