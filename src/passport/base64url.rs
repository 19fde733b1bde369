//! Base64url without padding (RFC 4648 §5) from text to bytes, by a table. What is decoded here is public, so it need not
//! take a time of its own, and this takes a third of what decoding in constant time takes.

/// What stands for no character of the alphabet: more than any value.
const NONE: u8 = 0xff;

/// The value of each byte as a character.
static VALUES: [u8; 256] = {
    let mut table = [NONE; 256];
    let (mut left, mut byte) = (table.as_mut_slice(), 0);
    while let Some((first, rest)) = left.split_first_mut() {
        *first = value(byte);
        (left, byte) = (rest, byte.wrapping_add(1));
    }
    table
};

const fn value(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => NONE,
    }
}

/// The bytes that four characters stand for, and the bits of their values: 64 or more if one is of another alphabet.
fn quad(characters: [u8; 4]) -> ([u8; 3], u32) {
    let [a, b, c, d] = characters.map(|byte| u32::from(VALUES.get(usize::from(byte)).copied().unwrap_or(NONE)));
    let [_, x, y, z] = ((a << 18) | (b << 12) | (c << 6) | d).to_be_bytes();
    ([x, y, z], a | b | c | d)
}

/// How many bytes so many characters stand for.
pub(super) const fn decoded_len(characters: usize) -> usize {
    characters / 4 * 3 + characters % 4 * 3 / 4
}

/// How many characters stand for so many bytes.
pub(super) const fn encoded_len(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Fills `room`, whose length is the text's [`decoded_len`]. `false` if it is not that long, or if the text is not the one
/// that stands for these bytes: padding, white space, other characters, bits that encode nothing. Then what is in `room` has no
/// meaning.
#[must_use]
pub(super) fn decode(text: &[u8], room: &mut [u8]) -> bool {
    let (quads, rest) = text.as_chunks::<4>();
    let (triples, tail) = room.as_chunks_mut::<3>();
    if quads.len() != triples.len() {
        return false;
    }
    let mut bits = 0;
    for (characters, bytes) in quads.iter().zip(triples) {
        let (three, all) = quad(*characters);
        *bytes = three;
        bits |= all;
    }
    // The characters that are not there are zeros, and so must be the bytes that they would make.
    let whole = match (rest, tail) {
        ([], []) => true,
        ([a, b], [x]) => {
            let ([first, second, third], all) = quad([*a, *b, b'A', b'A']);
            *x = first;
            bits |= all;
            second | third == 0
        }
        ([a, b, c], [x, y]) => {
            let ([first, second, third], all) = quad([*a, *b, *c, b'A']);
            (*x, *y) = (first, second);
            bits |= all;
            third == 0
        }
        _ => false,
    };
    whole && bits < 64
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64UrlUnpadded, Encoding as _};

    use super::*;

    /// What another decoder makes of a text.
    fn theirs(text: &[u8]) -> Option<Vec<u8>> {
        Base64UrlUnpadded::decode_vec(std::str::from_utf8(text).ok()?).ok()
    }

    fn ours(text: &[u8]) -> Option<Vec<u8>> {
        let mut room = vec![0; decoded_len(text.len())];
        decode(text, &mut room).then_some(room)
    }

    #[test]
    fn every_length_is_decoded_as_it_was_encoded() {
        for length in 0..200 {
            let bytes: Vec<u8> = (0..length).map(|at: usize| (at * 151 + length * 7).to_le_bytes()[0]).collect();
            let text = Base64UrlUnpadded::encode_string(&bytes);
            assert_eq!((text.len(), decoded_len(text.len())), (encoded_len(length), length));
            assert_eq!(ours(text.as_bytes()), Some(bytes));
        }
    }

    #[test]
    fn every_byte_in_every_place_is_taken_or_refused_as_by_another_decoder() {
        let mut refused = 0;
        for (length, at, byte) in (1..=9).flat_map(|n| (0..n).flat_map(move |at| (0..=255).map(move |b| (n, at, b)))) {
            for fill in [b'A', b'_', b'Q'] {
                let mut text = vec![fill; length];
                text[at] = byte;
                assert_eq!(ours(&text), theirs(&text), "{:?}", String::from_utf8_lossy(&text));
                refused += usize::from(ours(&text).is_none());
            }
        }
        assert!(refused > 20_000, "{refused}");
    }

    #[test]
    fn a_room_of_another_length_is_not_filled() {
        for (text, length) in [("AAAA", 3), ("AAA", 2), ("AA", 1), ("", 0)] {
            for other in (0..8).filter(|other| *other != length) {
                assert!(!decode(text.as_bytes(), &mut vec![0; other]), "{text} {other}");
            }
        }
        // One character stands for no byte.
        assert!(!decode(b"A", &mut []) && !decode(b"AAAAA", &mut [0; 3]));
    }
}
