//! The fuzz target of strict25519: `cargo fuzz run ways` in the folder above this package.

mod ways;

/// The target.
pub fn ways(data: &[u8]) {
    ways::batch(data, |_, _, _| {});
}
