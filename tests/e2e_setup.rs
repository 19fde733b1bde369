//! Ways to set it up wrong. Each has a message that says what is wrong, where, and what to do, and its exit code; and
//! nothing is lost or changed by it.
#![cfg(test)]

#[path = "setup/accounts.rs"]
mod accounts;
#[path = "setup/configuration.rs"]
mod configuration;
#[path = "setup/doctor.rs"]
mod doctor;
#[path = "cli_fake/mod.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod fake;
#[path = "setup/files.rs"]
mod files;
#[path = "setup/module.rs"]
mod module;
#[path = "setup/policy.rs"]
mod policy;
#[path = "abuse/proc.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod proc;
#[path = "setup/running.rs"]
mod running;
#[path = "setup/sockets.rs"]
mod sockets;
#[path = "setup/stores.rs"]
mod stores;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "setup/table.rs"]
mod table;
#[path = "cli_fake/tool.rs"]
mod tool;
#[path = "setup/user.rs"]
mod user;
#[path = "setup/workshop.rs"]
mod workshop;
