//! SHA-512 (FIPS 180-4) of R ‖ A ‖ M for eight signatures at once.

use std::arch::x86_64::{
    __mmask8, _mm512_add_epi64, _mm512_mask_blend_epi64, _mm512_ror_epi64, _mm512_set_epi64, _mm512_shuffle_epi8,
    _mm512_srli_epi64, _mm512_ternarylogic_epi64,
};

use super::vector::{V, load, splat, transpose};
use crate::Item;

/// Bytes of one block.
const BLOCK: usize = 128;

/// What stands before the message: R and A.
const PREFIX: usize = 64;

const START: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// FIPS 180-4 §4.2.3: the fractional parts of the cube roots of the first eighty primes.
const ROUND: [u64; 80] = round_constants();

/// floor(frac(prime^(1/3)) × 2^64), found bit by bit: the largest r with r³ ≤ prime × 2^192, less its whole part.
#[expect(clippy::indexing_slicing, reason = "evaluated when it is compiled")]
const fn round_constants() -> [u64; 80] {
    let mut constants = [0; 80];
    let (mut found, mut candidate) = (0, 2);
    while found < 80 {
        if is_prime(candidate) {
            constants[found] = cube_root_fraction(candidate);
            found += 1;
        }
        candidate += 1;
    }
    constants
}

const fn is_prime(number: u64) -> bool {
    let mut divisor = 2;
    while divisor * divisor <= number {
        if number.is_multiple_of(divisor) {
            return false;
        }
        divisor += 1;
    }
    true
}

#[expect(clippy::cast_possible_truncation, reason = "the whole part is cut off")]
const fn cube_root_fraction(prime: u64) -> u64 {
    // r has 67 bits at most: 7 before the point (409^(1/3) < 8) and 64 behind it.
    let mut root: u128 = 0;
    let mut bit = 67;
    while bit > 0 {
        bit -= 1;
        let candidate = root | 1 << bit;
        if cube_is_at_most(candidate, prime) {
            root = candidate;
        }
    }
    root as u64
}

/// Whether r³ ≤ prime × 2^192, for r below 2^67.
#[expect(clippy::cast_possible_truncation, reason = "digits are cut from it")]
const fn cube_is_at_most(root: u128, prime: u64) -> bool {
    // r² has 134 bits, so in 64-bit digits.
    let digits = [root as u64, (root >> 64) as u64];
    let square = multiply(&[digits[0], digits[1], 0, 0], digits);
    let cube = multiply(&square, digits);
    // cube ≤ prime × 2^192 is: its digits from 192 on are below prime, or just prime and nothing below.
    match cube[3] {
        high if high < prime => true,
        high => high == prime && cube[0] == 0 && cube[1] == 0 && cube[2] == 0,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "digits are cut from sums; evaluated when it is compiled"
)]
const fn multiply(a: &[u64; 4], b: [u64; 2]) -> [u64; 4] {
    let mut product = [0_u64; 4];
    let mut i = 0;
    while i < 2 {
        let mut carry = 0_u128;
        let mut j = 0;
        while i + j < 4 {
            let sum = product[i + j] as u128 + a[j] as u128 * b[i] as u128 + carry;
            product[i + j] = sum as u64;
            carry = sum >> 64;
            j += 1;
        }
        i += 1;
    }
    product
}

#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn add(a: V, b: V) -> V {
    _mm512_add_epi64(a, b)
}

#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn xor3(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

/// The bytes of each 64-bit lane in reverse: SHA-512 counts from the big end.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn reverse_bytes(vector: V) -> V {
    let (high, low) = (0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607);
    _mm512_shuffle_epi8(vector, _mm512_set_epi64(high, low, high, low, high, low, high, low))
}

/// One block of each lane.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn compress(state: [V; 8], mut w: [V; 16]) -> [V; 8] {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    let (groups, _) = ROUND.as_chunks::<16>();
    for (group, constants) in groups.iter().enumerate() {
        if group > 0 {
            extend(&mut w);
        }
        for (word, constant) in w.iter().zip(constants) {
            let sum1 = xor3(_mm512_ror_epi64::<14>(e), _mm512_ror_epi64::<18>(e), _mm512_ror_epi64::<41>(e));
            let choice = _mm512_ternarylogic_epi64::<0xca>(e, f, g);
            let t1 = add(add(add(h, splat(*constant)), add(*word, choice)), sum1);
            let sum0 = xor3(_mm512_ror_epi64::<28>(a), _mm512_ror_epi64::<34>(a), _mm512_ror_epi64::<39>(a));
            let majority = _mm512_ternarylogic_epi64::<0xe8>(a, b, c);
            (h, g, f, e) = (g, f, e, add(d, t1));
            (d, c, b, a) = (c, b, a, add(t1, add(sum0, majority)));
        }
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = state;
    [add(s0, a), add(s1, b), add(s2, c), add(s3, d), add(s4, e), add(s5, f), add(s6, g), add(s7, h)]
}

/// The next sixteen words of the message schedule.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn extend(w: &mut [V; 16]) {
    macro_rules! word {
        ($($at:literal)*) => { $({
            let (x, y) = (w[($at + 1) % 16], w[($at + 14) % 16]);
            let small0 = xor3(_mm512_ror_epi64::<1>(x), _mm512_ror_epi64::<8>(x), _mm512_srli_epi64::<7>(x));
            let small1 = xor3(_mm512_ror_epi64::<19>(y), _mm512_ror_epi64::<61>(y), _mm512_srli_epi64::<6>(y));
            w[$at] = add(add(w[$at], w[($at + 9) % 16]), add(small0, small1));
        })* };
    }
    word!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
}

/// Where one lane's message stands.
struct Stream<'a> {
    item: &'a Item<'a>,
    /// Holds the blocks that are not wholly inside the message.
    scratch: [u8; BLOCK],
}

impl<'a> Stream<'a> {
    fn blocks(&self) -> usize {
        // The bit 1 and the length (128 bits) come behind the message.
        (PREFIX + self.item.message.len() + 1 + 16).div_ceil(BLOCK)
    }

    /// Block `number`.
    #[inline]
    fn block(&mut self, number: usize) -> &[u8; BLOCK] {
        let message = self.item.message;
        let inside = (number * BLOCK).checked_sub(PREFIX);
        if let Some(block) = inside.and_then(|from| message.get(from..)).and_then(<[u8]>::first_chunk) {
            return block;
        }
        self.scratch = [0; BLOCK];
        let room = match inside {
            Some(_) => &mut self.scratch[..],
            None => {
                let (r, rest) = self.scratch.split_at_mut(32);
                let (a, rest) = rest.split_at_mut(32);
                r.copy_from_slice(self.item.r());
                a.copy_from_slice(self.item.key.as_bytes());
                rest
            }
        };
        let from = inside.unwrap_or(0);
        let rest = message.get(from..).unwrap_or_default();
        let taken = rest.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..taken), rest.get(..taken)) {
            to.copy_from_slice(from);
        }
        // The bit 1 goes right behind the message, once.
        if from <= message.len()
            && let Some(end) = room.get_mut(taken)
        {
            *end = 0x80;
        }
        if number + 1 == self.blocks() {
            let bits = (PREFIX + message.len()) as u128 * 8;
            if let Some(length) = self.scratch.last_chunk_mut::<16>() {
                *length = bits.to_be_bytes();
            }
        }
        &self.scratch
    }
}

/// SHA-512(R ‖ A ‖ M) of each item, as the eight little-endian words of the number that RFC 8032 §5.1.7 makes of it.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn hash(items: [&Item<'_>; 8]) -> [V; 8] {
    let mut streams = items.map(|item| Stream { item, scratch: [0; BLOCK] });
    let blocks = streams.each_ref().map(Stream::blocks);
    let most = blocks.iter().copied().max().unwrap_or(0);
    let mut state = START.map(|word| splat(word));
    for number in 0..most {
        let rows = streams.each_mut().map(|stream| halves(stream.block(number)));
        let first = transpose(rows.map(|(first, _)| reverse_bytes(load(first))));
        let second = transpose(rows.map(|(_, second)| reverse_bytes(load(second))));
        let next = compress(state, join(first, second));
        let alive = mask(blocks.map(|blocks| number < blocks));
        state = zip(state, next, |old, new| _mm512_mask_blend_epi64(alive, old, new));
    }
    state.map(|word| reverse_bytes(word))
}

/// Bit i for lane i.
pub(super) fn mask(lanes: [bool; 8]) -> __mmask8 {
    lanes.into_iter().rev().fold(0, |mask, lane| mask << 1 | u8::from(lane))
}

fn halves(block: &[u8; BLOCK]) -> ([u64; 8], [u64; 8]) {
    let (words, _) = block.as_chunks::<8>();
    let word = |at: usize| words.get(at).map_or(0, |word| u64::from_le_bytes(*word));
    (std::array::from_fn(word), std::array::from_fn(|at| word(at + 8)))
}

fn join([a, b, c, d, e, f, g, h]: [V; 8], [i, j, k, l, m, n, o, p]: [V; 8]) -> [V; 16] {
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

fn zip(a: [V; 8], b: [V; 8], op: impl Fn(V, V) -> V) -> [V; 8] {
    let ([a0, a1, a2, a3, a4, a5, a6, a7], [b0, b1, b2, b3, b4, b5, b6, b7]) = (a, b);
    [op(a0, b0), op(a1, b1), op(a2, b2), op(a3, b3), op(a4, b4), op(a5, b5), op(a6, b6), op(a7, b7)]
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha512};

    use super::*;
    use crate::PreparedKey;
    use crate::dispatch::in_lanes;
    use crate::lanes::vector::store;

    #[test]
    fn every_length_in_every_lane_is_hashed_as_the_reference_does_it() {
        #[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
        fn body() {
            let key = PreparedKey::new(&crate::table::BASE_POINT).unwrap();
            let signature: [u8; 64] = std::array::from_fn(|at| u8::try_from(at).unwrap());
            let bytes: Vec<u8> = (0..2000_u32).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
            for length in (0..600).chain([1023, 1024, 1900]) {
                let messages: [&[u8]; 8] = std::array::from_fn(|lane| &bytes[lane..lane + (length + lane * 61) % 1901]);
                let items = messages.map(|message| Item { key: &key, message, signature: &signature });
                let found = hash(items.each_ref()).map(|word| store(word));
                for (lane, message) in messages.into_iter().enumerate() {
                    let hashed = Sha512::new()
                        .chain_update(&signature[..32])
                        .chain_update(key.as_bytes())
                        .chain_update(message)
                        .finalize();
                    let words: Vec<u64> =
                        hashed.chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
                    assert_eq!(found.map(|word| word[lane]).as_slice(), words, "{} bytes", message.len());
                }
            }
        }
        in_lanes(body);
    }
}
