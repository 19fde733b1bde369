//! What each fuzz target does with its bytes. A body returns when what it asserts holds, and panics when it does not.
//!
//! The same functions are built into libFuzzer's binaries (`fuzz/fuzz_targets/`) and, over the committed corpora, into
//! the unit tests of passportd (`fuzz/src/replay.rs`). `docs/FUZZING.md` says what each target asserts.

mod connection;
mod files;
mod guard;
mod jws;
mod ledger;
mod messages;
mod passports;
mod proofs;
mod script;
mod sealed;
mod state;
mod verdicts;

pub use connection::input;
pub use files::{config, policy, uri};
pub use guard::link_signer;
pub use jws::jws;
pub use ledger::ledger;
pub use messages::{admin, ceremony, frames, link_front, service};
pub use passports::{claims, envelope};
pub use proofs::proof;
pub use sealed::sealed;
pub use state::state;
pub use verdicts::verdicts;

/// A target's body.
pub type Target = fn(&[u8]);

/// Every target by the name of its corpus.
pub const ALL: [(&str, Target); 18] = [
    ("admin", admin),
    ("ceremony", ceremony),
    ("claims", claims),
    ("config", config),
    ("envelope", envelope),
    ("frames", frames),
    ("input", input),
    ("jws", jws),
    ("ledger", ledger),
    ("link_front", link_front),
    ("link_signer", link_signer),
    ("policy", policy),
    ("proof", proof),
    ("sealed", sealed),
    ("service", service),
    ("state", state),
    ("uri", uri),
    ("verdicts", verdicts),
];
