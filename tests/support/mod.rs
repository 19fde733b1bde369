//! What the end-to-end tests share: a daemon of one's own over a real HSM, and ways to talk to it.
//!
//! A test that does not use all of it declares it as `#[expect(dead_code, reason = "shared by several tests")] mod support;`.

pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod document;
pub(crate) mod fault;
pub(crate) mod fault_module;
pub(crate) mod fences;
pub(crate) mod house;
pub(crate) mod journald;
pub(crate) mod keys;
pub(crate) mod ledger;
pub(crate) mod options;
pub(crate) mod passports;
pub(crate) mod people;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod softhsm;
pub(crate) mod stall;

use std::time::{Duration, Instant};

pub(crate) use house::House;
pub(crate) use options::{Options, Roles, Users};
pub(crate) use softhsm::token::Hsm;

/// How often a test repeats what it repeats: `PASSPORTD_ROUNDS`, else `default`.
pub(crate) fn rounds(default: u32) -> u32 {
    std::env::var("PASSPORTD_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(default)
}

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none after `patience`.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Says why a test, or a part of it, is skipped.
pub(crate) fn skipped(why: &str) {
    softhsm::skipped::skipped(why);
}

/// Whether this process may become anybody. Says so where it may not.
pub(crate) fn root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped(&format!("{test} needs root, to be several users or to mount a file system"));
    }
    root
}
