//! What tests share.

mod skipped {
    include!("../tests/support/skipped.rs");
}

pub(crate) use skipped::skipped_lanes;

/// A small generator (SplitMix64), so that every run asks the same.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next()).unwrap() % bound
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Runs `with_lanes` where there are lanes, and says so where there are none.
pub(crate) fn lanes_or_say(has: bool, with_lanes: impl FnOnce(), say: impl FnOnce()) {
    if has { with_lanes() } else { say() }
}

#[test]
fn a_test_of_the_lanes_never_passes_in_silence() {
    let (mut ran, mut said) = (0, 0);
    lanes_or_say(true, || ran += 1, || said += 1);
    lanes_or_say(false, || ran += 1, || said += 1);
    assert_eq!((ran, said), (1, 1));
}

#[test]
fn what_is_skipped_for_want_of_lanes_is_said_and_listed() {
    let list = std::env::temp_dir().join(format!("strict25519-skipped-{}", std::process::id()));
    let mut said = Vec::new();
    for test in ["one", "two"] {
        skipped::skip(test, &mut said, Some(&list));
    }
    let listed = std::fs::read_to_string(&list).unwrap();
    std::fs::remove_file(&list).unwrap();
    assert_eq!(said, listed.as_bytes());
    assert_eq!(listed, "SKIPPED: one, in lanes: no AVX-512 IFMA\nSKIPPED: two, in lanes: no AVX-512 IFMA\n");
}
