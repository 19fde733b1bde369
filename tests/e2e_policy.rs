//! Who may do what, and how that and the rest of the configuration changes while the daemon runs.
#![cfg(test)]

#[path = "e2e/cgroups.rs"]
mod cgroups;
#[path = "e2e/operate.rs"]
mod operate;
#[path = "e2e/peers.rs"]
mod peers;
#[path = "e2e/reload.rs"]
mod reload;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
