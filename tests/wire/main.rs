//! The wire, held against its specification `docs/WIRE.md`, against pinned bytes, against a second codec, and against
//! bytes that nobody should send.
//!
//! `PASSPORTD_ROUNDS` scales what is repeated. `PASSPORTD_BLESS=1` rewrites the generated parts of `docs/WIRE.md` and
//! appends new frames to `tests/golden/frames.txt`; lines that are there it never changes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "helpers of tests"
)]

mod armour;
mod generate;
mod golden;
mod memory;
mod mirror;
mod oracle;
mod pinned;
mod samples;
mod schema;
mod spec;
mod stream;

use std::path::PathBuf;

/// How often to repeat what is random.
fn rounds() -> u32 {
    std::env::var("PASSPORTD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Whether generated files are to be rewritten.
fn bless() -> bool {
    std::env::var_os("PASSPORTD_BLESS").is_some_and(|value| value == "1")
}

fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
