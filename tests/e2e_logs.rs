//! The operational log of a daemon in use: journald's protocol, a reader that stands still, and what is never said.
#![cfg(test)]

#[path = "logs/journal.rs"]
mod journal;
#[path = "logs/resent.rs"]
mod resent;
#[path = "logs/secrets.rs"]
mod secrets;
#[path = "logs/stopped.rs"]
mod stopped;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

/// These variables, for every role that a test starts; `run` passes them on.
fn with_env(options: support::Options, variables: &[(&str, &str)]) -> support::Options {
    let all = ["run", "front", "signer"].into_iter().flat_map(|role| variables.iter().map(move |pair| (role, *pair)));
    all.fold(options, |options, (role, (name, value))| options.environment(role, name, value))
}
