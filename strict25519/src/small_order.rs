//! The eight points of small order.

/// Their canonical encodings. Non-canonical ones need no list: they never equal a point that was computed, and keys must
/// be canonical.
const ENCODINGS: [[u8; 32]; 8] = {
    // y of the points of order 8: the two roots of d·y⁴ + 2y² + 1 … in canonical form, the second is p minus the first.
    const Y8: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, //
        0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    const Y8_NEGATIVE: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, //
        0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ];
    let mut one = [0; 32];
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let zero = [0; 32];
    [one, minus_one, zero, signed(zero), Y8, signed(Y8), Y8_NEGATIVE, signed(Y8_NEGATIVE)]
};

const fn signed(mut encoding: [u8; 32]) -> [u8; 32] {
    encoding[31] |= 0x80;
    encoding
}

/// Whether `encoding` is the canonical encoding of a point of order 1, 2, 4 or 8.
#[inline(always)]
pub(crate) fn has_small_order(encoding: &[u8; 32]) -> bool {
    // The first byte alone tells almost always.
    matches!(encoding[0], 0x00 | 0x01 | 0x26 | 0xc7 | 0xec) && ENCODINGS.contains(encoding)
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::EIGHT_TORSION;

    use super::*;

    #[test]
    fn the_list_is_the_torsion_subgroup() {
        let mut torsion = EIGHT_TORSION.map(|point| point.compress().to_bytes());
        let mut listed = ENCODINGS;
        torsion.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, torsion);
        assert!(ENCODINGS.iter().all(has_small_order));
        assert!(!has_small_order(&signed(ENCODINGS[0])), "the sign of x = 0 is no canonical encoding");
    }
}
