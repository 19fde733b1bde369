//! Numbers modulo L, the order of the base point (RFC 8032 §5.1), as comb digits.

/// L = 2^252 + 27742317777372353535851937790883648493, in little-endian words.
pub(crate) const ORDER: [u64; 4] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6, 0, 0x1000_0000_0000_0000];

/// Whether `scalar` is below L: what RFC 8032 §5.1.7 demands of the second half of a signature.
#[inline(always)]
pub(crate) fn is_below_order(scalar: [u64; 4]) -> bool {
    let ([a, b, c, d], [l0, l1, l2, l3]) = (scalar, ORDER);
    (d, c, b, a) < (l3, l2, l1, l0)
}

/// How a scalar is cut into digits: windows of so many bits, from the least significant one.
///
/// A digit is signed, in (−2^(bits−1), 2^(bits−1)], so a table needs half as many rows. The last window takes what is
/// left of the 252 bits and the carry; a scalar below L needs no more, since L's bits 125 to 251 are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) bits: u32,
}

/// The most windows that a [`Cut`] has: 63, of 4 bits each.
pub(crate) const MAX_WINDOWS: usize = 63;

impl Cut {
    /// How many windows.
    pub(crate) const fn windows(self) -> usize {
        252_u32.div_ceil(self.bits) as usize
    }

    /// The largest digit of every window but the last.
    pub(crate) const fn largest(self) -> usize {
        1 << (self.bits - 1)
    }

    /// The largest digit of the last window.
    pub(crate) const fn largest_last(self) -> usize {
        1 << (252 - (252_u32.div_ceil(self.bits) - 1) * self.bits)
    }

    /// The digits of `scalar`, which must be below L, with the number of their window.
    #[inline(always)]
    pub(crate) fn digits(self, scalar: [u64; 4]) -> impl Iterator<Item = (usize, i64)> {
        let [a, b, c, d] = scalar;
        let words = [a, b, c, d, 0];
        let last = self.windows() - 1;
        let (bits, half) = (self.bits, 1_i64 << (self.bits - 1));
        let mut carry = 0;
        (0..=last).map(move |window| {
            let at = window * bits as usize;
            let (word, shift) = (at / 64, at % 64);
            let low = words.get(word).copied().unwrap_or_default() >> shift;
            let high = words.get(word + 1).copied().unwrap_or_default();
            // In two steps, since a shift by 64 is none. The last window keeps all that is left.
            let mask = if window < last { (1 << bits) - 1 } else { u64::MAX };
            // At most 10 bits.
            let digit = ((low | high << 1 << (63 - shift)) & mask).cast_signed() + carry;
            carry = i64::from(window < last && digit > half);
            (window, digit - (carry << bits))
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use curve25519_dalek::Scalar;

    use super::*;
    use crate::field::words;
    use crate::testing::Dice;

    /// Scalars at the edges of windows and of the range, and random ones.
    pub(crate) fn edges() -> Vec<Scalar> {
        let mut scalars = vec![Scalar::ZERO, Scalar::ONE, -Scalar::ONE];
        for bits in 4..=8_u32 {
            // Every digit at the edge of its window: as large as can be, one less, one more, and all ones.
            for digit in [(1_u64 << (bits - 1)) - 1, 1 << (bits - 1), (1 << (bits - 1)) + 1, (1 << bits) - 1] {
                let shift = Scalar::from(1_u64 << bits);
                scalars.push((0..252 / bits).fold(Scalar::ZERO, |sum, _| sum * shift + Scalar::from(digit)));
            }
        }
        for bit in 0..253 {
            let power = (0..bit).fold(Scalar::ONE, |power, _| power + power);
            scalars.extend([power, power - Scalar::ONE, -power]);
        }
        let mut dice = Dice(9);
        scalars.extend((0..200).map(|_| {
            let mut bytes = [0; 64];
            bytes.fill_with(|| dice.byte());
            Scalar::from_bytes_mod_order_wide(&bytes)
        }));
        scalars
    }

    #[test]
    fn digits_add_up_to_the_scalar_and_stay_inside_the_table() {
        for bits in 4..=8 {
            let cut = Cut { bits };
            assert!(cut.windows() <= MAX_WINDOWS);
            for scalar in edges() {
                let mut sum = Scalar::ZERO;
                let mut power = Scalar::ONE;
                let digits: Vec<_> = cut.digits(words(scalar.as_bytes())).collect();
                assert_eq!(digits.len(), cut.windows());
                for (window, digit) in digits {
                    let largest = if window + 1 < cut.windows() { cut.largest() } else { cut.largest_last() };
                    assert!(usize::try_from(digit.unsigned_abs()).unwrap() <= largest, "{scalar:?}");
                    let magnitude = power * Scalar::from(digit.unsigned_abs());
                    sum += if digit < 0 { -magnitude } else { magnitude };
                    power *= Scalar::from(1_u64 << bits);
                }
                assert_eq!(sum, scalar);
            }
        }
    }

    #[test]
    fn the_order_is_the_first_number_that_is_not_below_itself() {
        let minus_one = words((-Scalar::ONE).as_bytes());
        assert!(is_below_order(minus_one) && is_below_order([0; 4]));
        let [low, rest @ ..] = ORDER;
        assert_eq!(minus_one, [low - 1, rest[0], rest[1], rest[2]]);
        for not_below in [ORDER, [low + 1, rest[0], rest[1], rest[2]], [0, 0, 0, 2 << 60], [u64::MAX; 4]] {
            assert!(!is_below_order(not_below));
        }
    }
}
