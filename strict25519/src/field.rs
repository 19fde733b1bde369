//! The field GF(2^255 − 19), one element at a time: `fiat-crypto`'s verified arithmetic (five limbs of 51 bits) behind
//! the few operations that points need.
//!
//! Its two types carry the proof's bounds: an [`Fe`] is tight (limbs ≤ 2^51), a [`Loose`] is what one addition or
//! subtraction of two tight elements leaves (limbs ≤ 3 × 2^51). Only tight elements are added, and anything is multiplied,
//! so no operation can be reached with limbs that its proof does not cover.

use fiat_crypto::curve25519_64 as fiat;

use crate::inverse;

/// The low 51 bits.
const LIMB: u64 = (1 << 51) - 1;

/// An element, tight.
#[derive(Clone, Copy)]
pub(crate) struct Fe(fiat::fiat_25519_tight_field_element);

/// An element after one addition or subtraction.
#[derive(Clone, Copy)]
pub(crate) struct Loose(fiat::fiat_25519_loose_field_element);

/// The four little-endian words of an encoding.
#[inline(always)]
pub(crate) fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|at| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
}

impl Fe {
    pub(crate) const ZERO: Self = Self::from_limbs([0; 5]);
    pub(crate) const ONE: Self = Self::from_limbs([1, 0, 0, 0, 0]);

    /// Limbs of at most 51 bits each.
    pub(crate) const fn from_limbs(limbs: [u64; 5]) -> Self {
        Self(fiat::fiat_25519_tight_field_element(limbs))
    }

    /// The element whose encoding has these words; bit 255 does not count, and the number need not be below the prime.
    #[inline(always)]
    pub(crate) const fn from_words([a, b, c, d]: [u64; 4]) -> Self {
        Self::from_limbs([
            a & LIMB,
            (a >> 51 | b << 13) & LIMB,
            (b >> 38 | c << 26) & LIMB,
            (c >> 25 | d << 39) & LIMB,
            d >> 12 & LIMB,
        ])
    }

    /// From limbs below 1.5 × 2^52, as the lanes leave them.
    pub(crate) fn from_carried(limbs: [u64; 5]) -> Self {
        Loose(fiat::fiat_25519_loose_field_element(limbs)).carry()
    }

    /// The limbs, each at most 2^51.
    pub(crate) const fn limbs(self) -> [u64; 5] {
        self.0.0
    }

    /// The canonical encoding.
    #[inline(always)]
    pub(crate) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        fiat::fiat_25519_to_bytes(&mut bytes, &self.0);
        bytes
    }

    /// The words of the canonical encoding.
    #[inline(always)]
    pub(crate) fn to_words(self) -> [u64; 4] {
        words(&self.to_bytes())
    }

    /// Bit 0 of the canonical encoding: the sign in RFC 8032.
    #[inline(always)]
    pub(crate) fn is_odd(self) -> bool {
        let [low, ..] = self.to_bytes();
        low & 1 == 1
    }

    #[inline(always)]
    pub(crate) fn add(self, other: Self) -> Loose {
        let mut sum = fiat::fiat_25519_loose_field_element([0; 5]);
        fiat::fiat_25519_add(&mut sum, &self.0, &other.0);
        Loose(sum)
    }

    #[inline(always)]
    pub(crate) fn sub(self, other: Self) -> Loose {
        let mut difference = fiat::fiat_25519_loose_field_element([0; 5]);
        fiat::fiat_25519_sub(&mut difference, &self.0, &other.0);
        Loose(difference)
    }

    #[inline(always)]
    pub(crate) fn loose(self) -> Loose {
        let mut loose = fiat::fiat_25519_loose_field_element([0; 5]);
        fiat::fiat_25519_relax(&mut loose, &self.0);
        Loose(loose)
    }

    #[inline(always)]
    pub(crate) fn times(self, other: Self) -> Self {
        self.loose().times(other.loose())
    }

    #[inline(always)]
    pub(crate) fn square(self) -> Self {
        let mut square = fiat::fiat_25519_tight_field_element([0; 5]);
        fiat::fiat_25519_carry_square(&mut square, &self.loose().0);
        Self(square)
    }

    /// Squared `times` times.
    #[inline]
    fn squares(self, times: u32) -> Self {
        (0..times).fold(self, |power, _| power.square())
    }

    pub(crate) fn negate(self) -> Self {
        Self::ZERO.sub(self).carry()
    }

    /// (x^(2^250 − 1), x^11), by the addition chain of curve25519's reference code.
    fn power_250(self) -> (Self, Self) {
        let x2 = self.square();
        let x9 = x2.squares(2).times(self);
        let x11 = x9.times(x2);
        let ones5 = x11.square().times(x9);
        let ones10 = ones5.squares(5).times(ones5);
        let ones20 = ones10.squares(10).times(ones10);
        let ones40 = ones20.squares(20).times(ones20);
        let ones50 = ones40.squares(10).times(ones10);
        let ones100 = ones50.squares(50).times(ones50);
        let ones200 = ones100.squares(100).times(ones100);
        (ones200.squares(50).times(ones50), x11)
    }

    /// x^(p − 2), which is 1/x, and 0 for 0 (3.5 us).
    pub(crate) fn invert_by_power(self) -> Self {
        let (ones250, x11) = self.power_250();
        ones250.squares(5).times(x11)
    }

    /// x^((p − 5) / 8), for square roots (RFC 8032 §5.1.3).
    pub(crate) fn power_p58(self) -> Self {
        let (ones250, _) = self.power_250();
        ones250.squares(2).times(self)
    }

    /// 1/x, and 0 for 0. In variable time: for public data only.
    pub(crate) fn invert(self) -> Self {
        inverse::of(self)
    }

    pub(crate) fn equals(self, other: Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Loose {
    #[inline(always)]
    pub(crate) fn times(self, other: Self) -> Fe {
        let mut product = fiat::fiat_25519_tight_field_element([0; 5]);
        fiat::fiat_25519_carry_mul(&mut product, &self.0, &other.0);
        Fe(product)
    }

    /// (self, other), or (other, self) if `condition`; without a branch, which nobody could predict.
    #[inline(always)]
    pub(crate) fn swap_if(self, condition: bool, other: Self) -> (Self, Self) {
        let mask = u64::from(condition).wrapping_neg();
        let (fiat::fiat_25519_loose_field_element(a), fiat::fiat_25519_loose_field_element(b)) = (self.0, other.0);
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (a, b);
        let [d0, d1, d2, d3, d4] =
            [(a0 ^ b0) & mask, (a1 ^ b1) & mask, (a2 ^ b2) & mask, (a3 ^ b3) & mask, (a4 ^ b4) & mask];
        let loose = |limbs| Self(fiat::fiat_25519_loose_field_element(limbs));
        (loose([a0 ^ d0, a1 ^ d1, a2 ^ d2, a3 ^ d3, a4 ^ d4]), loose([b0 ^ d0, b1 ^ d1, b2 ^ d2, b3 ^ d3, b4 ^ d4]))
    }

    #[inline(always)]
    pub(crate) fn carry(self) -> Fe {
        let mut carried = fiat::fiat_25519_tight_field_element([0; 5]);
        fiat::fiat_25519_carry(&mut carried, &self.0);
        Fe(carried)
    }
}
