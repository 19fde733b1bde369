//! How the daemon starts: which mistakes it names, with which exit code, and what each role has given up once it runs.
#![cfg(test)]

#[path = "start/confined.rs"]
mod confined;
#[path = "start/mistakes.rs"]
mod mistakes;
#[path = "start/pin.rs"]
mod pin;
#[path = "abuse/proc.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod proc;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "start/workshop.rs"]
mod workshop;
