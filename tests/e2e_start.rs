//! How the daemon starts: what each role has given up once it runs, and that a refused PIN is not tried again.
#![cfg(test)]

#[path = "start/confined.rs"]
mod confined;
#[path = "start/inherited.rs"]
mod inherited;
#[path = "start/pin.rs"]
mod pin;
#[path = "abuse/proc.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod proc;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "setup/workshop.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod workshop;
