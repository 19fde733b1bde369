//! Peers that mean harm, or are broken, over real sockets: whatever they send, hold or leave, the daemon stays, stays
//! within its bounds, and serves the others (laws L6, L9, L10).
#![cfg(test)]

#[path = "abuse/budget.rs"]
mod budget;
#[path = "abuse/bytes.rs"]
mod bytes;
#[path = "abuse/flood.rs"]
mod flood;
#[path = "abuse/forged.rs"]
mod forged;
#[path = "abuse/many.rs"]
mod many;
#[path = "abuse/proc.rs"]
mod proc;
#[path = "abuse/slow.rs"]
mod slow;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
