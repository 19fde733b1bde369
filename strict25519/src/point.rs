//! Points of edwards25519 in extended coordinates (RFC 8032 §5.1.4), for making tables and for the portable comb.

use crate::field::{Fe, Loose, words};

/// d of the curve, −121665/121666.
pub(crate) const D: Fe =
    Fe::from_words([0x75eb_4dca_1359_78a3, 0x0070_0a4d_4141_d8ab, 0x8cc7_4079_7779_e898, 0x5203_6cee_2b6f_fe73]);

/// 2·d.
pub(crate) const D2: Fe =
    Fe::from_words([0xebd6_9b94_26b2_f159, 0x00e0_149a_8283_b156, 0x198e_80f2_eef3_d130, 0x2406_d9dc_56df_fce7]);

/// A square root of −1.
const ROOT_OF_MINUS_ONE: Fe =
    Fe::from_words([0xc4ee_1b27_4a0e_a0b0, 0x2f43_1806_ad2f_e478, 0x2b4d_0099_3dfb_d7a7, 0x2b83_2480_4fc1_df0b]);

/// 1/2, which is (p + 1)/2.
const HALF_WORDS: [u64; 4] = [u64::MAX - 8, u64::MAX, u64::MAX, u64::MAX >> 2];
const HALF: Fe = Fe::from_words(HALF_WORDS);

/// x = X/Z, y = Y/Z, T = X·Y/Z.
#[derive(Clone, Copy)]
pub(crate) struct Extended {
    pub(crate) x: Fe,
    pub(crate) y: Fe,
    pub(crate) z: Fe,
    pub(crate) t: Fe,
}

/// One affine multiple in a table: the words of (y + x)/2, of (y − x)/2 and of d·x·y, all canonical. The halves save
/// the doubling of Z in every addition.
#[derive(Clone, Copy, Debug)]
#[repr(align(32))]
pub(crate) struct Row {
    pub(crate) halves: [u64; 8],
    pub(crate) dxy: [u64; 4],
}

impl Row {
    /// The neutral element: (1/2, 1/2, 0).
    pub(crate) const NEUTRAL: &'static Self = &Self { halves: beside(HALF_WORDS, HALF_WORDS), dxy: [0; 4] };
}

#[inline(always)]
const fn beside([a, b, c, d]: [u64; 4], [e, f, g, h]: [u64; 4]) -> [u64; 8] {
    [a, b, c, d, e, f, g, h]
}

/// (x, y) of the point that `encoding` stands for, if it stands for one. The encoding need not be canonical.
pub(crate) fn decompress(encoding: &[u8; 32]) -> Option<(Fe, Fe)> {
    // RFC 8032 §5.1.3: x² = (y² − 1)/(d·y² + 1).
    let y = Fe::from_words(words(encoding));
    let y2 = y.square();
    let u = y2.sub(Fe::ONE).carry();
    let v = y2.times(D).add(Fe::ONE).carry();
    let v3 = v.square().times(v);
    let mut x = u.times(v3).times(u.times(v3.square().times(v)).power_p58());
    let vx2 = v.times(x.square());
    if !vx2.equals(u) {
        if !vx2.equals(u.negate()) {
            return None;
        }
        x = x.times(ROOT_OF_MINUS_ONE);
    }
    let [.., last] = *encoding;
    Some((if x.is_odd() == (last >> 7 == 1) { x } else { x.negate() }, y))
}

impl Extended {
    pub(crate) const NEUTRAL: Self = Self { x: Fe::ZERO, y: Fe::ONE, z: Fe::ONE, t: Fe::ZERO };

    pub(crate) fn from_affine(x: Fe, y: Fe) -> Self {
        Self { x, y, z: Fe::ONE, t: x.times(y) }
    }

    /// The complete addition (Hisil, Wong, Carter, Dawson 2008, §3.1 with a = −1): no pair of points is an exception.
    pub(crate) fn plus(self, other: Self) -> Self {
        let a = self.y.sub(self.x).times(other.y.sub(other.x));
        let b = self.y.add(self.x).times(other.y.add(other.x));
        let c = self.t.times(D2).times(other.t);
        let zz = self.z.times(other.z);
        let d = zz.add(zz).carry();
        Self::from_parts(b.sub(a).carry(), d.sub(c).carry(), d.add(c).carry(), b.add(a).carry())
    }

    fn from_parts(e: Fe, f: Fe, g: Fe, h: Fe) -> Self {
        Self { x: e.times(f), y: g.times(h), z: f.times(g), t: e.times(h) }
    }

    /// The same addition with a row of a table, or with its negative.
    #[inline(always)]
    pub(crate) fn plus_row(self, row: &Row, negative: bool) -> Self {
        // −(x, y) = (−x, y): the halves change places, and d·x·y its sign, which swaps F and G.
        let [p0, p1, p2, p3, m0, m1, m2, m3] = row.halves;
        let (plus, minus) = ([p0, p1, p2, p3], [m0, m1, m2, m3]);
        let (plus, minus) = if negative { (minus, plus) } else { (plus, minus) };
        let a = self.y.sub(self.x).times(Fe::from_words(minus).loose());
        let b = self.y.add(self.x).times(Fe::from_words(plus).loose());
        let c = self.t.times(Fe::from_words(row.dxy));
        let (e, h) = (b.sub(a), b.add(a));
        let (f, g) = self.z.sub(c).swap_if(negative, self.z.add(c));
        Self { x: e.times(f), y: g.times(h), z: f.times(g), t: e.times(h) }
    }

    /// The canonical encoding, given 1/Z.
    #[inline(always)]
    pub(crate) fn encode(self, inverse_z: Fe) -> [u8; 32] {
        let mut encoding = self.y.times(inverse_z).to_bytes();
        let [.., last] = &mut encoding;
        *last |= u8::from(self.x.times(inverse_z).is_odd()) << 7;
        encoding
    }

    /// The row of this point, given 1/Z.
    pub(crate) fn to_row(self, inverse_z: Fe) -> Row {
        let (x, y) = (self.x.times(inverse_z), self.y.times(inverse_z));
        let half = |sum: Loose| sum.times(HALF.loose()).to_words();
        Row { halves: beside(half(y.add(x)), half(y.sub(x))), dxy: x.times(y).times(D).to_words() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constants_are_what_they_are_called() {
        let number = |n| Fe::from_words([n, 0, 0, 0]);
        assert!(D.times(number(121_666)).equals(number(121_665).negate()));
        assert!(D2.equals(D.add(D).carry()));
        assert!(ROOT_OF_MINUS_ONE.square().equals(Fe::ONE.negate()));
        assert!(HALF.add(HALF).carry().equals(Fe::ONE));
    }
}
