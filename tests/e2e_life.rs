//! The life of the processes as an operator and the service manager see it: what is told to systemd, what each signal does,
//! what readyz says in each phase, and what a reload reports.
#![cfg(test)]

#[path = "life/ear.rs"]
mod ear;
#[path = "life/ending.rs"]
mod ending;
#[path = "life/notify.rs"]
mod notify;
#[path = "life/ready.rs"]
mod ready;
#[path = "life/reported.rs"]
mod reported;
#[path = "life/signals.rs"]
mod signals;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
