//! Scalars of eight signatures at once: SHA-512's output modulo L, and comb digits.

use std::arch::x86_64::{
    __mmask8, _mm512_abs_epi64, _mm512_add_epi64, _mm512_and_si512, _mm512_cmpgt_epi64_mask, _mm512_madd52hi_epu64,
    _mm512_madd52lo_epu64, _mm512_mask_add_epi64, _mm512_mask_sub_epi64, _mm512_maskz_set1_epi64, _mm512_movepi64_mask,
    _mm512_mullo_epi64, _mm512_or_si512, _mm512_setzero_si512, _mm512_shrdv_epi64, _mm512_slli_epi64,
    _mm512_srai_epi64, _mm512_srli_epi64, _mm512_srlv_epi64, _mm512_sub_epi64,
};

use super::vector::{V, splat, store};
use crate::scalar::Cut;

/// Limbs of 52 bits here: what IFMA multiplies.
const LIMB: u64 = (1 << 52) - 1;

/// L − 2^252, 125 bits.
const TAIL: u128 = 27_742_317_777_372_353_535_851_937_790_883_648_493;

/// The limbs of [`TAIL`].
#[expect(clippy::cast_possible_truncation, reason = "the limbs are cut from it")]
const TAIL_LIMBS: [u64; 3] = [TAIL as u64 & LIMB, (TAIL >> 52) as u64 & LIMB, (TAIL >> 104) as u64];

/// The limbs of 256·[`TAIL`], which is −2^260 modulo L.
#[expect(clippy::cast_possible_truncation, reason = "the limbs are cut from it")]
const FOLD: [u64; 3] = [(TAIL << 8) as u64 & LIMB, (TAIL >> 44) as u64 & LIMB, (TAIL >> 96) as u64];

/// a·b of limbs; the sum of six half products stays below 2^55.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn add_product(low: V, high: V, a: V, b: u64) -> (V, V) {
    (_mm512_madd52lo_epu64(low, a, splat(b)), _mm512_madd52hi_epu64(high, a, splat(b)))
}

/// Moves what is above 52 bits one limb up; limbs may be negative. The last one keeps its own.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn carry<const N: usize>(limbs: [V; N]) -> [V; N] {
    let mut carried = _mm512_setzero_si512();
    let mut left = N;
    limbs.map(|limb| {
        left -= 1;
        let limb = _mm512_add_epi64(limb, carried);
        if left == 0 {
            return limb;
        }
        carried = _mm512_srai_epi64::<52>(limb);
        _mm512_and_si512(limb, splat(LIMB))
    })
}

/// The 512-bit numbers in `words` modulo L, canonical, as words.
///
/// 2^260 is −FOLD modulo L, so the upper half is multiplied by FOLD and subtracted, and what is then above 2^260 once
/// more; 256·L keeps the result positive. It is below 2^262, and its part above 2^252 is the quotient or one more.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn reduce(words: [V; 8]) -> [V; 4] {
    let ([x0, x1, x2, x3, x4], [x5, x6, x7, x8, x9]) = limbs(words);
    let z = _mm512_setzero_si512();
    let [f0, f1, f2] = FOLD;

    // t = FOLD × (x5 … x9), below 2^385.
    let [mut t0, mut t1, mut t2, mut t3, mut t4, mut t5, mut t6, mut t7] = [z; 8];
    (t0, t1) = add_product(t0, t1, x5, f0);
    (t1, t2) = add_product(t1, t2, x5, f1);
    (t2, t3) = add_product(t2, t3, x5, f2);
    (t1, t2) = add_product(t1, t2, x6, f0);
    (t2, t3) = add_product(t2, t3, x6, f1);
    (t3, t4) = add_product(t3, t4, x6, f2);
    (t2, t3) = add_product(t2, t3, x7, f0);
    (t3, t4) = add_product(t3, t4, x7, f1);
    (t4, t5) = add_product(t4, t5, x7, f2);
    (t3, t4) = add_product(t3, t4, x8, f0);
    (t4, t5) = add_product(t4, t5, x8, f1);
    (t5, t6) = add_product(t5, t6, x8, f2);
    (t4, t5) = add_product(t4, t5, x9, f0);
    (t5, t6) = add_product(t5, t6, x9, f1);
    (t6, t7) = add_product(t6, t7, x9, f2);
    let [t0, t1, t2, t3, t4, t5, t6, t7] = carry([t0, t1, t2, t3, t4, t5, t6, t7]);

    // u = FOLD × (t5 … t7), below 2^258, so of five limbs.
    let [mut u0, mut u1, mut u2, mut u3, mut u4, mut above] = [z; 6];
    (u0, u1) = add_product(u0, u1, t5, f0);
    (u1, u2) = add_product(u1, u2, t5, f1);
    (u2, u3) = add_product(u2, u3, t5, f2);
    (u1, u2) = add_product(u1, u2, t6, f0);
    (u2, u3) = add_product(u2, u3, t6, f1);
    (u3, u4) = add_product(u3, u4, t6, f2);
    (u2, u3) = add_product(u2, u3, t7, f0);
    (u3, u4) = add_product(u3, u4, t7, f1);
    (u4, above) = add_product(u4, above, t7, f2);
    let _always_zero = above;

    // v = x + u + 256·L − t.
    let plus = |x, u, t| _mm512_sub_epi64(_mm512_add_epi64(x, u), t);
    let lift = |v, limb| _mm512_add_epi64(v, splat(limb));
    let v0 = lift(plus(x0, u0, t0), f0);
    let v1 = lift(plus(x1, u1, t1), f1);
    let v2 = lift(plus(x2, u2, t2), f2);
    let (v3, v4) = (plus(x3, u3, t3), plus(x4, u4, t4));
    let [v0, v1, v2, v3, v4, v5] = carry([v0, v1, v2, v3, v4, splat(1)]);

    // The quotient by 2^252, at most 10 bits; L is a little more than 2^252.
    let quotient = _mm512_or_si512(_mm512_srli_epi64::<44>(v4), _mm512_slli_epi64::<8>(v5));
    let v4 = _mm512_and_si512(v4, splat(LIMB >> 8));
    let less = |v, limb| _mm512_sub_epi64(v, _mm512_mullo_epi64(quotient, splat(limb)));
    let [c0, c1, c2] = TAIL_LIMBS;
    let [w0, w1, w2, w3, w4] = carry([less(v0, c0), less(v1, c1), less(v2, c2), v3, v4]);

    // Where that was one too many, L comes back.
    let negative = _mm512_movepi64_mask(w4);
    let back = |w, limb| _mm512_mask_add_epi64(w, negative, w, splat(limb));
    let reduced = carry([back(w0, c0), back(w1, c1), back(w2, c2), w3, back(w4, 1 << 44)]);
    pack(reduced)
}

/// Ten limbs of 52 bits: the lower five and the upper five.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn limbs([a, b, c, d, e, f, g, h]: [V; 8]) -> ([V; 5], [V; 5]) {
    let cut = |low, high, by| _mm512_and_si512(_mm512_shrdv_epi64(low, high, splat(by)), splat(LIMB));
    (
        [_mm512_and_si512(a, splat(LIMB)), cut(a, b, 52), cut(b, c, 40), cut(c, d, 28), cut(d, e, 16)],
        [cut(e, f, 4), cut(e, f, 56), cut(f, g, 44), cut(g, h, 32), _mm512_srli_epi64::<20>(h)],
    )
}

/// Four words from five limbs of 52 bits.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn pack([a, b, c, d, e]: [V; 5]) -> [V; 4] {
    [
        _mm512_or_si512(a, _mm512_slli_epi64::<52>(b)),
        _mm512_or_si512(_mm512_srli_epi64::<12>(b), _mm512_slli_epi64::<40>(c)),
        _mm512_or_si512(_mm512_srli_epi64::<24>(c), _mm512_slli_epi64::<28>(d)),
        _mm512_or_si512(_mm512_srli_epi64::<36>(d), _mm512_slli_epi64::<16>(e)),
    ]
}

/// One window's digits: their magnitudes, and which are negative.
#[derive(Clone, Copy)]
pub(super) struct Digits {
    pub(super) magnitudes: [u64; 8],
    pub(super) negative: __mmask8,
}

/// Hands the digits of the scalars in `words`, which must be below L, to `each`, window by window: what
/// [`Cut::digits`] says of each lane.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn digits(cut: Cut, [a, b, c, d]: [V; 4], mut each: impl FnMut(usize, Digits)) {
    let zero = _mm512_setzero_si512();
    let (full, half) = (splat(1 << cut.bits), splat(1 << (cut.bits - 1)));
    let mask = splat((1 << cut.bits) - 1);
    let last = cut.windows() - 1;
    let mut carried = zero;
    for window in 0..last {
        let at = window as u64 * u64::from(cut.bits);
        let (low, high) = match at / 64 {
            0 => (a, b),
            1 => (b, c),
            2 => (c, d),
            _ => (d, zero),
        };
        let bits = _mm512_and_si512(_mm512_shrdv_epi64(low, high, splat(at % 64)), mask);
        let digit = _mm512_add_epi64(bits, carried);
        let above = _mm512_cmpgt_epi64_mask(digit, half);
        let digit = _mm512_mask_sub_epi64(digit, above, digit, full);
        carried = _mm512_maskz_set1_epi64(above, 1);
        let negative = _mm512_movepi64_mask(digit);
        each(window, Digits { magnitudes: store(_mm512_abs_epi64(digit)), negative });
    }
    // The last window keeps all that is left, and it lies in the last word for every width.
    let left = _mm512_srlv_epi64(d, splat(last as u64 * u64::from(cut.bits) - 192));
    each(last, Digits { magnitudes: store(_mm512_add_epi64(left, carried)), negative: 0 });
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::Scalar;

    use super::*;
    use crate::dispatch::in_lanes;
    use crate::field::words;
    use crate::lanes::vector::load;
    use crate::scalar::tests::edges;
    use crate::testing::Dice;

    fn wide(words: [u64; 8]) -> [u64; 4] {
        let mut bytes = [0; 64];
        for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *to = word.to_le_bytes();
        }
        crate::field::words(Scalar::from_bytes_mod_order_wide(&bytes).as_bytes())
    }

    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn transposed<const N: usize>(lanes: [[u64; N]; 8]) -> [V; N] {
        std::array::from_fn(|word| load(lanes.map(|lane| lane[word])))
    }

    /// Numbers whose halves are all ones, all zeros, near multiples of L, and such that every carry runs to the end.
    fn numbers() -> Vec<[u64; 8]> {
        let mut dice = Dice(3);
        let mut numbers = vec![[0; 8], [u64::MAX; 8]];
        for at in 0..8 {
            let (mut one, mut others) = ([0; 8], [u64::MAX; 8]);
            (one[at], others[at]) = (u64::MAX, 0);
            numbers.extend([one, others]);
        }
        // m·L − 1, m·L, m·L + 1 for small m and for m up to 2^259, and the same added to multiples of 2^252 and 2^260.
        for shift in 0..259 {
            for step in [-1_i8, 0, 1] {
                let order = crate::scalar::ORDER;
                let (by, bits) = (shift / 64, shift % 64);
                let mut number = [0_u64; 8];
                for (at, word) in order.into_iter().enumerate() {
                    number[at + by] |= word << bits;
                    if bits > 0 && at + by + 1 < 8 {
                        number[at + by + 1] |= word >> (64 - bits);
                    }
                }
                let mut borrow: i8 = step;
                for word in &mut number {
                    let (next, over) = if borrow < 0 {
                        word.overflowing_sub(1)
                    } else {
                        word.overflowing_add(borrow.unsigned_abs().into())
                    };
                    *word = next;
                    borrow = if over { borrow } else { 0 };
                }
                numbers.push(number);
            }
        }
        for bit in 0..512 {
            let mut power = [0; 8];
            power[bit / 64] = 1 << (bit % 64);
            let mut below = [u64::MAX; 8];
            for (at, word) in below.iter_mut().enumerate() {
                *word = if at < bit / 64 {
                    u64::MAX
                } else if at == bit / 64 {
                    (1 << (bit % 64)) - 1
                } else {
                    0
                };
            }
            numbers.extend([power, below]);
        }
        numbers.extend((0..4000).map(|_| {
            std::array::from_fn(|_| match dice.next() % 3 {
                0 => u64::MAX,
                1 => 0,
                _ => dice.next(),
            })
        }));
        numbers
    }

    #[test]
    fn reduction_is_that_of_the_reference() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let numbers = numbers();
            for at in 0..numbers.len() {
                let lanes: [[u64; 8]; 8] = std::array::from_fn(|lane| numbers[(at + lane * 31) % numbers.len()]);
                let reduced = reduce(transposed(lanes)).map(|word| store(word));
                for (lane, number) in lanes.into_iter().enumerate() {
                    assert_eq!(reduced.map(|word| word[lane]), wide(number), "lane {lane}: {number:x?}");
                }
            }
        }
        in_lanes(body);
    }

    #[test]
    fn digits_are_those_of_a_single_scalar() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let scalars = edges();
            for bits in 4..=8 {
                let cut = Cut { bits };
                for at in 0..scalars.len() {
                    let lanes: [[u64; 4]; 8] =
                        std::array::from_fn(|lane| words(scalars[(at + lane * 5) % scalars.len()].as_bytes()));
                    let expected = lanes.map(|scalar| cut.digits(scalar).map(|(_, digit)| digit).collect::<Vec<_>>());
                    digits(cut, transposed(lanes), |window, found| {
                        for (lane, (expected, magnitude)) in expected.iter().zip(found.magnitudes).enumerate() {
                            let (digit, negative) = (expected[window], found.negative >> lane & 1 == 1);
                            assert_eq!((magnitude, negative), (digit.unsigned_abs(), digit < 0));
                        }
                    });
                }
            }
        }
        in_lanes(body);
    }
}
