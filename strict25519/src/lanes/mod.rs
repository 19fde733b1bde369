//! The comb in AVX-512 IFMA lanes: eight signatures at once, or one spread over the lanes.
//!
//! Everything in here is safe code inside functions with `#[target_feature]`; only the call into [`verify`] from outside
//! needs the processor to have been asked first, in `dispatch`.

mod comb;
mod field;
mod scalar;
mod sha512;
mod vector;

#[cfg(test)]
pub(crate) use comb::sum;
pub(crate) use comb::verify;
