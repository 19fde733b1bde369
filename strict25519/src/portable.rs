//! The comb, one signature at a time, in safe Rust for any processor.

use curve25519_dalek::Scalar;
use sha2::{Digest as _, Sha512};

use crate::field::{Fe, words};
use crate::point::Extended;
use crate::table::{Table, base, index};
use crate::{Item, PreparedKey};

/// How many signatures share one inversion. More would save little: at 64 its share is 0.06 us each.
const TOGETHER: usize = 64;

/// One signature on the way: its place in the batch, R' = sB − kA, and the product of all Z before it.
#[derive(Clone, Copy)]
struct Pending {
    at: usize,
    sum: Extended,
    before: Fe,
}

/// Sets `verdicts[i]` to whether `items[i]` verifies, for all whose key has a table; the others are set to `false`.
#[inline(always)]
pub(crate) fn verify(items: &[Item<'_>], verdicts: &mut [bool]) {
    let base = base();
    for (items, verdicts) in items.chunks(TOGETHER).zip(verdicts.chunks_mut(TOGETHER)) {
        verdicts.fill(false);
        let mut pending = [Pending { at: 0, sum: Extended::NEUTRAL, before: Fe::ONE }; TOGETHER];
        let (mut product, mut count) = (Fe::ONE, 0);
        for (at, item) in items.iter().enumerate().filter(|(_, item)| item.may_hold()) {
            let (Some(table), Some(slot)) = (item.key.table(), pending.get_mut(count)) else { continue };
            let sum = add_up(base, table, item.s(), k_of(item));
            *slot = Pending { at, sum, before: product };
            product = product.times(sum.z);
            count += 1;
        }
        if count == 0 {
            continue;
        }
        let mut inverse = product.invert();
        for one in pending.iter().take(count).rev() {
            let encoding = one.sum.encode(inverse.times(one.before));
            inverse = inverse.times(one.sum.z);
            if let (Some(item), Some(verdict)) = (items.get(one.at), verdicts.get_mut(one.at)) {
                *verdict = encoding == *item.r();
            }
        }
    }
}

/// k = SHA-512(R ‖ A ‖ M) mod L (RFC 8032 §5.1.7), over A's bytes as they were given.
#[inline(never)]
fn k_of(item: &Item<'_>) -> [u64; 4] {
    let hash =
        Sha512::new().chain_update(item.r()).chain_update(PreparedKey::as_bytes(item.key)).chain_update(item.message);
    words(Scalar::from_bytes_mod_order_wide(&hash.finalize().into()).as_bytes())
}

/// sB + k(−A).
#[inline(always)]
fn add_up(base: &Table, key: &Table, s: [u64; 4], k: [u64; 4]) -> Extended {
    let sum = base.cut.digits(s).fold(Extended::NEUTRAL, |sum, digit| base.add(sum, digit));
    key.cut.digits(k).fold(sum, |sum, digit| key.add(sum, digit))
}

impl Table {
    #[inline(always)]
    fn add(&self, sum: Extended, (window, digit): (usize, i64)) -> Extended {
        let row = self.rows.get(window * self.cut.stride() + index(digit.unsigned_abs()));
        // A digit is never beyond its window's rows.
        row.map_or(sum, |row| sum.plus_row(row, digit < 0))
    }
}

/// The encoding of sB + k(−A).
pub(crate) fn sum(key: &Table, s: [u64; 4], k: [u64; 4]) -> [u8; 32] {
    let sum = add_up(base(), key, s, k);
    sum.encode(sum.z.invert())
}
