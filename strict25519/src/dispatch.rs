//! The one place with `unsafe` code: from "the processor has these instructions", which is found out here, into functions
//! that are compiled for them.
#![expect(unsafe_code, reason = "calling functions with #[target_feature], and prefetching")]

use crate::Item;

/// Whether the processor has what [`lanes`] needs.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_lanes() -> bool {
    // What the compiler takes as implied by the others is asked for, too.
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512ifma")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
}

/// Other processors have no lanes.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const fn has_lanes() -> bool {
    false
}

/// [`crate::lanes::verify`], if the processor has lanes. `false` if not: nothing was done then.
pub(crate) fn lanes(items: &[&Item<'_>], verdicts: &mut [bool]) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_lanes() {
        // SAFETY: the processor was just found to have every feature that the function is compiled for.
        unsafe { crate::lanes::verify(crate::table::base(), items, verdicts) };
        return true;
    }
    let _unused = (items, verdicts);
    false
}

/// [`crate::portable::verify`], compiled for MULX where the processor has it, which makes it a tenth faster.
pub(crate) fn portable(items: &[Item<'_>], verdicts: &mut [bool]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "bmi2,adx")]
        fn with_mulx(items: &[Item<'_>], verdicts: &mut [bool]) {
            crate::portable::verify(items, verdicts);
        }
        if is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("adx") {
            // SAFETY: the processor was just found to have both features.
            unsafe { with_mulx(items, verdicts) };
            return;
        }
    }
    crate::portable::verify(items, verdicts);
}

/// Asks for the memory of `value` to be brought near.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch(row: &crate::point::Row) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let (start, end) = (std::ptr::from_ref(&row.halves), std::ptr::from_ref(&row.dxy));
    // SAFETY: prefetching has no effect that a program can see, and both addresses are those of live references.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
    // SAFETY: as above. The row is 96 bytes long and touches two cache lines.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(end.cast()) };
}

/// Runs a test that is compiled for lanes, where the processor has them; says that it did not where not.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn in_lanes(test: unsafe fn()) {
    let run = || {
        // SAFETY: only called where the processor was just found to have every feature that tests of lanes are compiled
        // for; they ask for nothing else.
        unsafe { test() };
    };
    crate::testing::lanes_or_say(has_lanes(), run, crate::testing::skipped_lanes);
}

/// The encoding of sB + k(−A), added up in lanes in every spread, if the processor has them.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn sum_in_lanes(key: &crate::table::Table, s: [u64; 4], k: [u64; 4]) -> Option<[u8; 32]> {
    // SAFETY: as in `lanes`.
    has_lanes().then(|| unsafe { crate::lanes::sum(key, s, k) })
}

/// Other processors have no lanes.
#[cfg(all(test, not(target_arch = "x86_64")))]
pub(crate) fn sum_in_lanes(_: &crate::table::Table, _: [u64; 4], _: [u64; 4]) -> Option<[u8; 32]> {
    None
}
