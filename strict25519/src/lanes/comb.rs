//! R' = sB − kA for groups of signatures, and its comparison with R.

use std::arch::x86_64::{__mmask8, _mm512_and_si512, _mm512_cmpeq_epi64_mask, _mm512_srli_epi64};

use super::field::{Carried, Raw};
use super::scalar::{Digits, digits, reduce};
use super::sha512::hash;
use super::vector::{V, load, splat, transpose, transpose_words};
use crate::Item;
use crate::dispatch::prefetch;
use crate::field::{Fe, words};
use crate::point::Row;
use crate::scalar::MAX_WINDOWS;
use crate::table::{BASE_WINDOW, Table, index};

/// Lanes, and so signatures in a group.
const LANES: usize = 8;

/// Groups that share one inversion. More would save little: at 8 its share is 0.06 us a signature.
const GROUPS: usize = 8;

/// The most additions for one signature: the base point's windows and the key's.
const MAX_STEPS: usize = BASE_WINDOW.cut().windows() + MAX_WINDOWS;

/// Eight running sums, as (Y − X, Y + X, Z, T): what the next addition multiplies.
#[derive(Clone, Copy)]
struct Sum {
    minus: Carried,
    plus: Carried,
    z: Carried,
    t: Carried,
}

/// The rows that each lane adds, step by step.
struct Steps<'t> {
    rows: [[&'t Row; LANES]; MAX_STEPS],
    negative: [__mmask8; MAX_STEPS],
    count: usize,
}

/// One group after its additions.
#[derive(Clone, Copy)]
struct Group {
    sum: Sum,
    /// The product of all Z of the groups before.
    before: Carried,
}

impl<'t> Steps<'t> {
    /// The steps of eight lanes. With a `spread` above 1, so many neighbouring lanes hold the same signature and share its
    /// steps; what is left over adds the neutral element.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn new(base: &'t Table, keys: [&'t Table; LANES], s: [V; 4], k: [V; 4], spread: usize) -> Self {
        let neutral: &Row = Row::NEUTRAL;
        let mut steps = Self { rows: [[neutral; LANES]; MAX_STEPS], negative: [0; MAX_STEPS], count: 0 };
        let bases = base.cut.windows();
        let (stride, rows) = (base.cut.stride(), [&*base.rows; LANES]);
        digits(base.cut, s, |window, digits| steps.put(window, &rows, window * stride, digits, spread));
        let [Table { cut, .. }, ..] = keys;
        let (stride, rows) = (cut.stride(), keys.map(|key| &*key.rows));
        digits(*cut, k, |window, digits| steps.put(bases + window, &rows, window * stride, digits, spread));
        steps.count = (bases + cut.windows()).div_ceil(spread);
        steps
    }

    /// Step `number` of every signature: a row of one window, which begins at row `from`.
    #[inline]
    fn put(&mut self, number: usize, tables: &[&'t [Row]; LANES], from: usize, digits: Digits, spread: usize) {
        if spread == 1 {
            // Nearly all the work, and the only place where the time of this function can be seen.
            let (Some(rows), Some(negative)) = (self.rows.get_mut(number), self.negative.get_mut(number)) else {
                return;
            };
            for ((row, table), magnitude) in rows.iter_mut().zip(tables).zip(digits.magnitudes) {
                put_row(row, table, from, magnitude);
            }
            *negative = digits.negative;
            return;
        }
        let (at, sub) = (number / spread, number % spread);
        let (Some(rows), Some(negative)) = (self.rows.get_mut(at), self.negative.get_mut(at)) else { return };
        for ((row, table), magnitude) in rows.iter_mut().zip(tables).zip(digits.magnitudes).skip(sub).step_by(spread) {
            put_row(row, table, from, magnitude);
        }
        *negative |= digits.negative & (lanes_of(spread) << sub);
    }

    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn add_up(&self) -> Sum {
        let mut sum = Sum::neutral();
        for (at, (rows, negative)) in self.rows.iter().zip(self.negative).take(self.count).enumerate() {
            // Rows come from L2; fetched one step ahead they are there in time (8 to 12 % of the whole).
            for row in self.rows.get(at + 1).into_iter().flatten() {
                prefetch(row);
            }
            sum = sum.plus_rows(rows, negative);
        }
        sum
    }
}

/// A magnitude is at most half of its window's size, so it fits, and the window has a row for it.
#[inline(always)]
fn put_row<'t>(row: &mut &'t Row, table: &'t [Row], from: usize, magnitude: u64) {
    if let Some(found) = table.get(from.wrapping_add(index(magnitude))) {
        *row = found;
    }
}

/// The first of every `spread` lanes.
const fn lanes_of(spread: usize) -> __mmask8 {
    match spread {
        1 => 0b1111_1111,
        2 => 0b0101_0101,
        4 => 0b0001_0001,
        _ => 0b0000_0001,
    }
}

impl Sum {
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn neutral() -> Self {
        let one = Carried::small(1);
        Self { minus: one, plus: one, z: one, t: Carried::small(0) }
    }

    /// Adds one row in each lane, its negative in the lanes of `negative`: `Extended::plus_row` in lanes.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn plus_rows(self, rows: &[&Row; LANES], negative: __mmask8) -> Self {
        let [a, b, c, d, e, f, g, h] = transpose(rows.map(|row| load(row.halves)));
        let (plus, minus) = (Carried::unpack([a, b, c, d]), Carried::unpack([e, f, g, h]));
        let dxy = Carried::unpack(transpose_words(rows.map(|row| row.dxy)));
        let c = self.t.times(dxy.negate_canonical(negative));
        let a = self.minus.times(minus.blend(negative, plus));
        let b = self.plus.times(plus.blend(negative, minus));
        Self::from_parts::<0>(a, b, c, self.z.raw())
    }

    /// The complete addition: `Extended::plus` in lanes.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn plus(self, other: Self) -> Self {
        let a = self.minus.times(other.minus);
        let b = self.plus.times(other.plus);
        let c = self.t.by(Carried(crate::point::D2.limbs().map(|limb| splat(limb)))).times(other.t);
        let zz = self.z.times(other.z);
        Self::from_parts::<1>(a, b, c, zz.plus(zz).raw())
    }

    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn from_parts<const CALLER: u8>(a: Raw, b: Raw, c: Raw, d: Raw) -> Self {
        let (e, f, g, h) = (b.minus(a), d.minus(c), d.plus(c), b.plus(a));
        let (x, y) = (e.times(f), g.times(h));
        Self { minus: y.minus(x), plus: y.plus(x), z: f.by(g), t: e.by(h) }
    }

    /// The sum over every `spread` neighbouring lanes, in each of them.
    #[inline]
    #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
    fn join(self, spread: usize) -> Self {
        let mut sum = self;
        for (distance, _) in [(1_u64, 2), (2, 4), (4, 8)].into_iter().take_while(|(_, needed)| *needed <= spread) {
            let order = load([0, 1, 2, 3, 4, 5, 6, 7].map(|lane: u64| lane ^ distance));
            let Self { minus, plus, z, t } = sum;
            sum = sum.plus(Self {
                minus: minus.permute(order),
                plus: plus.permute(order),
                z: z.permute(order),
                t: t.permute(order),
            });
        }
        sum
    }
}

/// How many lanes each of `count` signatures gets.
const fn spread_of(count: usize) -> usize {
    match count {
        0 | 1 => 8,
        2 => 4,
        3 | 4 => 2,
        _ => 1,
    }
}

/// The items in lanes, each in `spread` of them; lanes to spare repeat the last item.
fn in_lanes<'a, 'i>(items: &[&'a Item<'i>], spread: usize) -> Option<[&'a Item<'i>; LANES]> {
    let last = items.last()?;
    Some(std::array::from_fn(|lane| *items.get(lane / spread).unwrap_or(last)))
}

/// Sets `verdicts[i]` to whether `items[i]` verifies. At most [`GROUPS`] × [`LANES`] items, whose keys have tables of one width and
/// whose signatures [`Item::may_hold`].
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(crate) fn verify(base: &Table, items: &[&Item<'_>], verdicts: &mut [bool]) {
    let neutral = Sum::neutral();
    let mut groups = [Group { sum: neutral, before: neutral.z }; GROUPS];
    let mut product = neutral.z;
    for (items, group) in items.chunks(LANES).zip(&mut groups) {
        let spread = spread_of(items.len());
        let Some(lanes) = in_lanes(items, spread) else { continue };
        let keys = lanes.map(|item| item.key.table().unwrap_or(base));
        let k = reduce(hash(lanes));
        let s = transpose_words(lanes.map(Item::s));
        let mut sum = Steps::new(base, keys, s, k, spread).add_up().join(spread);
        // Y = (plus + minus)/2 and X = (plus − minus)/2: the halves go into Z.
        sum.z = sum.z.raw().plus(sum.z.raw());
        *group = Group { sum, before: product };
        product = product.by(sum.z);
    }
    // In a single group neighbours that share a signature share their Z.
    let spread = if items.len() <= LANES { spread_of(items.len()) } else { 1 };
    let mut inverse = Carried::from_lanes(invert_lanes(product.to_lanes(), spread));
    let chunks = items.chunks(LANES).zip(verdicts.chunks_mut(LANES)).zip(&groups);
    for ((items, verdicts), Group { sum, before }) in chunks.rev() {
        let spread = spread_of(items.len());
        let Some(lanes) = in_lanes(items, spread) else { continue };
        let inverse_z = inverse.by(*before);
        inverse = inverse.by(sum.z);
        let equal = equals_r(lanes, *sum, inverse_z);
        for (at, verdict) in verdicts.iter_mut().enumerate() {
            *verdict = equal >> (at * spread) & 1 == 1;
        }
    }
}

/// In which lanes the encoding of the point is R, byte for byte.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn equals_r(lanes: [&Item<'_>; LANES], sum: Sum, inverse_z: Carried) -> __mmask8 {
    let (plus, minus) = (sum.plus.raw(), sum.minus.raw());
    let y = plus.plus(minus).by(inverse_z).freeze();
    let [x, ..] = plus.minus(minus).by(inverse_z).freeze();
    let r = transpose_words(lanes.map(|item| words(item.r())));
    let [.., top] = r;
    let signs = _mm512_cmpeq_epi64_mask(_mm512_srli_epi64::<63>(top), _mm512_and_si512(x, splat(1)));
    Carried::unpack(r).0.into_iter().zip(y).fold(signs, |equal, (r, y)| equal & _mm512_cmpeq_epi64_mask(r, y))
}

/// The inverses of all lanes; of every `spread` neighbours only the first is looked at. Scalar code, kept out of the
/// functions above, where it would be compiled for vectors, and slower.
#[inline(never)]
fn invert_lanes(lanes: [[u64; 5]; LANES], spread: usize) -> [[u64; 5]; LANES] {
    let mut product = Fe::ONE;
    let mut parts = [(Fe::ONE, Fe::ONE); LANES];
    for (limbs, part) in lanes.iter().step_by(spread).zip(&mut parts) {
        let element = Fe::from_carried(*limbs);
        *part = (element, product);
        product = product.times(element);
    }
    let mut inverse = product.invert();
    let mut inverses = [[0; 5]; LANES];
    for (lanes, (element, before)) in inverses.chunks_mut(spread).zip(&parts).rev() {
        lanes.fill(inverse.times(*before).limbs());
        inverse = inverse.times(*element);
    }
    inverses
}

/// The encoding of sB + k(−A), which must come out the same whether one signature has one lane, two, four or eight.
#[cfg(test)]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(crate) fn sum(key: &Table, s: [u64; 4], k: [u64; 4]) -> [u8; 32] {
    let encodings = [1, 2, 4, 8].map(|spread| {
        let steps = Steps::new(
            crate::table::base(),
            [key; LANES],
            transpose_words([s; LANES]),
            transpose_words([k; LANES]),
            spread,
        );
        let sum = steps.add_up().join(spread);
        let z = sum.z.raw().plus(sum.z.raw());
        let inverse = Carried::from_lanes(invert_lanes(z.to_lanes(), 1));
        let affine = |sum: Carried| sum.by(inverse).to_lanes().map(Fe::from_carried);
        let (y, x) = (affine(sum.plus.raw().plus(sum.minus.raw())), affine(sum.plus.raw().minus(sum.minus.raw())));
        let lanes: Vec<_> =
            x.into_iter().zip(y).map(|(x, y)| crate::point::Extended::from_affine(x, y).encode(Fe::ONE)).collect();
        assert!(lanes.iter().all(|lane| *lane == lanes[0]), "spread {spread}");
        lanes[0]
    });
    assert!(encodings.iter().all(|encoding| *encoding == encodings[0]));
    encodings[0]
}
