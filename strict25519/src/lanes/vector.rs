//! Vectors of eight 64-bit lanes: in, out and transposed.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_extract_epi64, _mm256_set_epi64x, _mm512_castsi256_si512, _mm512_castsi512_si256,
    _mm512_extracti64x4_epi64, _mm512_inserti64x4, _mm512_permutex2var_epi64, _mm512_set_epi64, _mm512_set1_epi64,
    _mm512_shuffle_i64x2, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64,
};

/// Eight lanes.
pub(super) type V = __m512i;

/// The same number in every lane.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn splat(number: u64) -> V {
    _mm512_set1_epi64(number.cast_signed())
}

/// Lane i holds `lanes[i]`. Compiles to one load.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn load(lanes: [u64; 8]) -> V {
    let [a, b, c, d, e, f, g, h] = lanes.map(u64::cast_signed);
    _mm512_set_epi64(h, g, f, e, d, c, b, a)
}

#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
fn load_half([a, b, c, d]: [u64; 4]) -> __m256i {
    _mm256_set_epi64x(d.cast_signed(), c.cast_signed(), b.cast_signed(), a.cast_signed())
}

/// The other way round. Compiles to one store.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn store(vector: V) -> [u64; 8] {
    let (low, high) = (_mm512_castsi512_si256(vector), _mm512_extracti64x4_epi64::<1>(vector));
    [
        _mm256_extract_epi64::<0>(low),
        _mm256_extract_epi64::<1>(low),
        _mm256_extract_epi64::<2>(low),
        _mm256_extract_epi64::<3>(low),
        _mm256_extract_epi64::<0>(high),
        _mm256_extract_epi64::<1>(high),
        _mm256_extract_epi64::<2>(high),
        _mm256_extract_epi64::<3>(high),
    ]
    .map(i64::cast_unsigned)
}

/// Lane j of vector i becomes lane i of vector j.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn transpose([r0, r1, r2, r3, r4, r5, r6, r7]: [V; 8]) -> [V; 8] {
    // Even and odd columns of each pair of rows, then of four rows, then of eight.
    let pair = |a, b| (_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let ((e01, o01), (e23, o23), (e45, o45), (e67, o67)) = (pair(r0, r1), pair(r2, r3), pair(r4, r5), pair(r6, r7));
    let even = |a, b| _mm512_shuffle_i64x2::<0x88>(a, b);
    let odd = |a, b| _mm512_shuffle_i64x2::<0xdd>(a, b);
    let (e0, e1) = ((even(e01, e23), odd(e01, e23)), (even(e45, e67), odd(e45, e67)));
    let (o0, o1) = ((even(o01, o23), odd(o01, o23)), (even(o45, o67), odd(o45, o67)));
    [
        even(e0.0, e1.0),
        even(o0.0, o1.0),
        even(e0.1, e1.1),
        even(o0.1, o1.1),
        odd(e0.0, e1.0),
        odd(o0.0, o1.0),
        odd(e0.1, e1.1),
        odd(o0.1, o1.1),
    ]
}

/// Word j of row i becomes lane i of vector j.
#[inline]
#[target_feature(enable = "avx512ifma,avx512vbmi2,avx512dq,avx512bw,avx512vl")]
pub(super) fn transpose_words(rows: [[u64; 4]; 8]) -> [V; 4] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows.map(|row| load_half(row));
    let join = |low, high| _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high);
    let (p0, p1, p2, p3) = (join(r0, r4), join(r1, r5), join(r2, r6), join(r3, r7));
    let (e01, o01) = (_mm512_unpacklo_epi64(p0, p1), _mm512_unpackhi_epi64(p0, p1));
    let (e23, o23) = (_mm512_unpacklo_epi64(p2, p3), _mm512_unpackhi_epi64(p2, p3));
    let low = _mm512_set_epi64(13, 12, 5, 4, 9, 8, 1, 0);
    let high = _mm512_set_epi64(15, 14, 7, 6, 11, 10, 3, 2);
    [
        _mm512_permutex2var_epi64(e01, low, e23),
        _mm512_permutex2var_epi64(o01, low, o23),
        _mm512_permutex2var_epi64(e01, high, e23),
        _mm512_permutex2var_epi64(o01, high, o23),
    ]
}
