//! The field GF(2^255 − 19), eight elements at a time: five limbs of 51 bits, each a vector of eight lanes.
//!
//! IFMA multiplies the low 52 bits of its operands and ignores the rest, so a limb that is one bit too long gives a wrong
//! product without a word. Therefore the two types: only [`Carried`] is multiplied, and every operation says which bounds
//! it needs and leaves. The tests drive each one at limbs that are exactly at those bounds, in every lane.

use std::arch::x86_64::{
    __mmask8, _mm512_add_epi64, _mm512_and_si512, _mm512_madd52hi_epu64, _mm512_madd52lo_epu64,
    _mm512_mask_blend_epi64, _mm512_mask_sub_epi64, _mm512_mullo_epi64, _mm512_permutexvar_epi64, _mm512_setzero_si512,
    _mm512_shrdi_epi64, _mm512_srli_epi64, _mm512_sub_epi64,
};

use super::vector::{V, load, splat, store};

const LIMB: u64 = (1 << 51) - 1;

/// The limbs of the prime.
const P: [u64; 5] = [LIMB - 18, LIMB, LIMB, LIMB, LIMB];

/// Every limb is below 2^52: fit to be multiplied. What a carry leaves is below 2^51 + 2^18; only
/// [`Carried::negate_canonical`] leaves more.
#[derive(Clone, Copy)]
pub(super) struct Carried(pub(super) [V; 5]);

/// Every limb is below 2^60: a product, fit to be added or subtracted once.
#[derive(Clone, Copy)]
pub(super) struct Raw(pub(super) [V; 5]);

#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn zip(a: [V; 5], b: [V; 5], op: impl Fn(V, V) -> V) -> [V; 5] {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a, b);
    [op(a0, b0), op(a1, b1), op(a2, b2), op(a3, b3), op(a4, b4)]
}

/// Any 64-bit limbs. A carry is below 2^13, and 19 of them below 2^18.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn carry_any(a: [V; 5]) -> Carried {
    let mask = splat(LIMB);
    let high = a.map(|limb| _mm512_srli_epi64::<51>(limb));
    let [l0, l1, l2, l3, l4] = a.map(|limb| _mm512_and_si512(limb, mask));
    let [h0, h1, h2, h3, h4] = high;
    Carried([
        _mm512_madd52lo_epu64(l0, h4, splat(19)),
        _mm512_add_epi64(l1, h0),
        _mm512_add_epi64(l2, h1),
        _mm512_add_epi64(l3, h2),
        _mm512_add_epi64(l4, h3),
    ])
}

impl Carried {
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn small(number: u64) -> Self {
        let zero = _mm512_setzero_si512();
        Self([splat(number), zero, zero, zero, zero])
    }

    /// The product. No limb of it reaches 2^60, even with one operand's limbs at 2^52 − 1: at most five low halves below 2^52
    /// and ten high ones below 2^51 come together, the upper five limbs counting 19 times.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn times(self, other: Self) -> Raw {
        let z = _mm512_setzero_si512();
        let [a0, a1, a2, a3, a4] = self.0;
        let b = other.0;
        let ([mut l0, mut l1, mut l2, mut l3, mut l4], [mut l5, mut l6, mut l7, mut l8]) = ([z; 5], [z; 4]);
        let ([mut h0, mut h1, mut h2, mut h3, mut h4], [mut h5, mut h6, mut h7, mut h8]) = ([z; 5], [z; 4]);
        macro_rules! row {
            ($a:ident: $($l:ident $h:ident),*) => {
                let [b0, b1, b2, b3, b4] = b;
                row!(@ $a; $($l $h),*; b0, b1, b2, b3, b4);
            };
            (@ $a:ident; $($l:ident $h:ident),*; $($b:ident),*) => {
                $(
                    $l = _mm512_madd52lo_epu64($l, $a, $b);
                    $h = _mm512_madd52hi_epu64($h, $a, $b);
                )*
            };
        }
        row!(a0: l0 h0, l1 h1, l2 h2, l3 h3, l4 h4);
        row!(a1: l1 h1, l2 h2, l3 h3, l4 h4, l5 h5);
        row!(a2: l2 h2, l3 h3, l4 h4, l5 h5, l6 h6);
        row!(a3: l3 h3, l4 h4, l5 h5, l6 h6, l7 h7);
        row!(a4: l4 h4, l5 h5, l6 h6, l7 h7, l8 h8);
        // A product is split at bit 52, a limb has 51 bits: the high half counts twice in the next limb.
        let with = |low, high| _mm512_add_epi64(low, _mm512_add_epi64(high, high));
        let fold = |low, high| _mm512_add_epi64(low, _mm512_mullo_epi64(high, splat(19)));
        Raw([
            fold(l0, with(l5, h4)),
            fold(with(l1, h0), with(l6, h5)),
            fold(with(l2, h1), with(l7, h6)),
            fold(with(l3, h2), with(l8, h7)),
            fold(with(l4, h3), _mm512_add_epi64(h8, h8)),
        ])
    }

    /// The product, carried.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn by(self, other: Self) -> Self {
        self.times(other).carry()
    }

    pub(super) const fn raw(self) -> Raw {
        Raw(self.0)
    }

    /// 2p − self in the lanes of `mask`. Only for canonical elements (limbs below 2^51), whose negatives stay below 2^52.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn negate_canonical(self, mask: __mmask8) -> Self {
        Self(zip(self.0, P.map(|limb| splat(2 * limb)), |a, p2| _mm512_mask_sub_epi64(a, mask, p2, a)))
    }

    /// `other` in the lanes of `mask`, `self` in the rest.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn blend(self, mask: __mmask8, other: Self) -> Self {
        Self(zip(self.0, other.0, |a, b| _mm512_mask_blend_epi64(mask, a, b)))
    }

    /// Lane `order[i]` in lane i.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn permute(self, order: V) -> Self {
        Self(self.0.map(|limb| _mm512_permutexvar_epi64(order, limb)))
    }

    /// The element that four vectors of packed words hold; bit 255 does not count.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn unpack([a, b, c, d]: [V; 4]) -> Self {
        let mask = splat(LIMB);
        Self([
            _mm512_and_si512(a, mask),
            _mm512_and_si512(_mm512_shrdi_epi64::<51>(a, b), mask),
            _mm512_and_si512(_mm512_shrdi_epi64::<38>(b, c), mask),
            _mm512_and_si512(_mm512_shrdi_epi64::<25>(c, d), mask),
            _mm512_and_si512(_mm512_srli_epi64::<12>(d), mask),
        ])
    }

    /// The canonical representative. A carried element is below 2p, so p is subtracted at most once.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn freeze(self) -> [V; 5] {
        let (mask, shift) = (splat(LIMB), |limb| _mm512_srli_epi64::<51>(limb));
        let [a0, a1, a2, a3, a4] = self.0;
        // Whether adding 19 reaches bit 255, that is, whether self is at least p.
        let mut over = shift(_mm512_add_epi64(a0, splat(19)));
        for limb in [a1, a2, a3, a4] {
            over = shift(_mm512_add_epi64(limb, over));
        }
        let mut carry = _mm512_mullo_epi64(over, splat(19));
        [a0, a1, a2, a3, a4].map(|limb| {
            let limb = _mm512_add_epi64(limb, carry);
            carry = shift(limb);
            _mm512_and_si512(limb, mask)
        })
    }

    /// The limbs of each lane.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn to_lanes(self) -> [[u64; 5]; 8] {
        let [l0, l1, l2, l3, l4] = self.0.map(|limb| store(limb));
        let mut lanes = [[0; 5]; 8];
        for (lane, ((((a, b), c), d), e)) in lanes.iter_mut().zip(l0.into_iter().zip(l1).zip(l2).zip(l3).zip(l4)) {
            *lane = [a, b, c, d, e];
        }
        lanes
    }

    /// From the limbs of each lane, which must be below 2^51 + 2^18.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn from_lanes(lanes: [[u64; 5]; 8]) -> Self {
        let column = |at: fn([u64; 5]) -> u64| load(lanes.map(at));
        Self([
            column(|[a, ..]| a),
            column(|[_, b, ..]| b),
            column(|[_, _, c, ..]| c),
            column(|[.., d, _]| d),
            column(|[.., e]| e),
        ])
    }
}

impl Raw {
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn carry(self) -> Carried {
        carry_any(self.0)
    }

    /// self + other, carried.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn plus(self, other: Self) -> Carried {
        carry_any(zip(self.0, other.0, |a, b| _mm512_add_epi64(a, b)))
    }

    /// self − other, carried. 1024 times the prime, whose limbs are above 2^60, keeps every limb positive.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    pub(super) fn minus(self, other: Self) -> Carried {
        let lifted = zip(self.0, P.map(|limb| splat(limb << 10)), |a, p| _mm512_add_epi64(a, p));
        carry_any(zip(lifted, other.0, |a, b| _mm512_sub_epi64(a, b)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::in_lanes;
    use crate::field::Fe;
    use crate::testing::Dice;

    /// The largest limb that [`Carried`] allows, and the largest one that [`Raw`] allows.
    const CARRIED: u64 = (1 << 51) + (1 << 18) - 1;
    const RAW: u64 = (1 << 60) - 1;

    /// What limbs stand for, by arithmetic that has no bounds to be wrong about: 64-bit limbs times powers of 2^51.
    fn value(limbs: [u64; 5]) -> Fe {
        let shift = Fe::from_words([1 << 51, 0, 0, 0]);
        limbs.into_iter().rev().fold(Fe::ZERO, |sum, limb| {
            let limb = Fe::from_words([limb, 0, 0, 0]);
            sum.times(shift).add(limb).carry()
        })
    }

    fn columns(lanes: [[u64; 5]; 8]) -> [[u64; 8]; 5] {
        std::array::from_fn(|limb| std::array::from_fn(|lane| lanes[lane][limb]))
    }

    /// Eight lanes of limbs: at the bound, at zero, and mixtures of the two and of random ones, in a different lane each time.
    fn extremes(bound: u64) -> Vec<[[u64; 5]; 8]> {
        let mut dice = Dice(bound);
        let mut kinds = vec![[bound; 5], [0; 5], [LIMB; 5], P, [1, 0, 0, 0, 0]];
        for at in 0..5 {
            let (mut one, mut others) = ([0; 5], [bound; 5]);
            (one[at], others[at]) = (bound, 0);
            kinds.extend([one, others]);
        }
        for _ in 0..200 {
            let pick = |dice: &mut Dice| match dice.next() % 4 {
                0 => bound,
                1 => 0,
                2 => LIMB,
                _ => dice.next() % bound.saturating_add(1),
            };
            kinds.push(std::array::from_fn(|_| pick(&mut dice)));
        }
        (0..kinds.len() * 2)
            .map(|at| std::array::from_fn(|lane| kinds[(at + lane * (1 + at / kinds.len())) % kinds.len()]))
            .collect()
    }

    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn limbs_of(vectors: [V; 5]) -> [[u64; 5]; 8] {
        let columns = vectors.map(|vector| store(vector));
        std::array::from_fn(|lane| columns.map(|column| column[lane]))
    }

    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn vectors(lanes: [[u64; 5]; 8]) -> [V; 5] {
        columns(lanes).map(|column| load(column))
    }

    fn assert_lanes(what: &str, got: [[u64; 5]; 8], bound: u64, expected: impl Fn(usize) -> Fe) {
        for (lane, limbs) in got.into_iter().enumerate() {
            assert!(limbs.iter().all(|limb| *limb <= bound), "{what}, lane {lane}: {limbs:x?}");
            assert!(value(limbs).equals(expected(lane)), "{what}, lane {lane}: {limbs:x?}");
        }
    }

    #[test]
    fn products_are_right_and_within_their_bound_at_the_largest_limbs() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let all = extremes(CARRIED);
            for (a, b) in all.iter().flat_map(|a| all.iter().step_by(7).map(move |b| (*a, *b))) {
                let product = Carried(vectors(a)).times(Carried(vectors(b)));
                assert_lanes("times", limbs_of(product.0), (1 << 59) - 1, |lane| value(a[lane]).times(value(b[lane])));
                let carried = Carried(vectors(a)).by(Carried(vectors(b)));
                assert_lanes("by", limbs_of(carried.0), CARRIED, |lane| value(a[lane]).times(value(b[lane])));
            }
        }
        in_lanes(body);
    }

    /// What [`Carried::negate_canonical`] leaves is multiplied, too.
    #[test]
    fn products_stay_within_raw_with_one_operand_at_52_bits() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let all = extremes(CARRIED);
            let negated = extremes((1 << 52) - 1);
            for (a, b) in all.iter().step_by(5).flat_map(|a| negated.iter().step_by(3).map(move |b| (*a, *b))) {
                let product = Carried(vectors(a)).times(Carried(vectors(b)));
                assert_lanes("times", limbs_of(product.0), RAW, |lane| value(a[lane]).times(value(b[lane])));
            }
        }
        in_lanes(body);
    }

    #[test]
    fn sums_and_differences_are_right_at_the_largest_limbs() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let all = extremes(RAW);
            for (a, b) in all.iter().flat_map(|a| all.iter().step_by(7).map(move |b| (*a, *b))) {
                let (x, y) = (Raw(vectors(a)), Raw(vectors(b)));
                assert_lanes("plus", limbs_of(x.plus(y).0), CARRIED, |lane| value(a[lane]).add(value(b[lane])).carry());
                assert_lanes("minus", limbs_of(x.minus(y).0), CARRIED, |lane| {
                    value(a[lane]).sub(value(b[lane])).carry()
                });
            }
            for a in extremes(u64::MAX) {
                assert_lanes("carry", limbs_of(carry_any(vectors(a)).0), CARRIED, |lane| value(a[lane]));
            }
        }
        in_lanes(body);
    }

    #[test]
    fn negation_is_right_for_every_canonical_limb_and_only_where_it_is_asked_for() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            for (at, a) in extremes(LIMB).into_iter().enumerate() {
                let mask = at.to_le_bytes()[0].wrapping_mul(37);
                let got = limbs_of(Carried(vectors(a)).negate_canonical(mask).0);
                assert_lanes("negate", got, (1 << 52) - 1, |lane| {
                    if mask >> lane & 1 == 1 { value(a[lane]).negate() } else { value(a[lane]) }
                });
            }
        }
        in_lanes(body);
    }

    #[test]
    fn a_frozen_element_is_canonical() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let near_p = (0..40).map(|offset| {
                let mut limbs = P;
                limbs[0] = limbs[0] - 20 + offset;
                [limbs; 8]
            });
            for a in extremes(CARRIED).into_iter().chain(near_p) {
                for (lane, limbs) in limbs_of(Carried(vectors(a)).freeze()).into_iter().enumerate() {
                    let [w0, w1, w2, w3] = value(a[lane]).to_words();
                    let canonical = [
                        w0 & LIMB,
                        (w0 >> 51 | w1 << 13) & LIMB,
                        (w1 >> 38 | w2 << 26) & LIMB,
                        (w2 >> 25 | w3 << 39) & LIMB,
                        w3 >> 12,
                    ];
                    assert_eq!(limbs, canonical, "{:x?}", a[lane]);
                }
            }
        }
        in_lanes(body);
    }

    #[test]
    fn packed_words_and_lanes_come_and_go_unchanged() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let mut dice = Dice(5);
            for _ in 0..200 {
                let rows: [[u64; 4]; 8] = std::array::from_fn(|_| std::array::from_fn(|_| dice.next()));
                let unpacked = Carried::unpack(super::super::vector::transpose_words(rows));
                assert_lanes("unpack", unpacked.to_lanes(), LIMB, |lane| Fe::from_words(rows[lane]));
                assert_eq!(Carried::from_lanes(unpacked.to_lanes()).to_lanes(), unpacked.to_lanes());
                let order = std::array::from_fn(|lane| u64::try_from(lane).unwrap() ^ 5);
                let moved = unpacked.permute(load(order)).to_lanes();
                assert_eq!(moved, std::array::from_fn(|lane| unpacked.to_lanes()[lane ^ 5]));
                let eight: [[u64; 8]; 8] = std::array::from_fn(|_| std::array::from_fn(|_| dice.next()));
                let turned = super::super::vector::transpose(eight.map(|row| load(row))).map(|row| store(row));
                assert_eq!(turned, std::array::from_fn(|i| std::array::from_fn(|j| eight[j][i])));
            }
        }
        in_lanes(body);
    }
}
