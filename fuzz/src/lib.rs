//! Fuzz targets of passportd: one function for each, shared by libFuzzer's binaries and the replay of the corpora.
//! `docs/FUZZING.md` is the guide.

mod targets;

pub use targets::*;
