//! Lower-case hexadecimal (RFC 4648 §8, in lower case): hashes, ids and public keys as people and records read them.

/// `bytes` as lower-case hex.
pub fn encode(bytes: &[u8]) -> String {
    // A nibble is always a digit.
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes that [`encode`] wrote; `None` for anything else, upper case included.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some((digit(high)? << 4) | digit(low)?)).collect()
}

/// [`decode`], where so many bytes are wanted: a hash, a public key.
pub fn decode_exactly<const N: usize>(text: &str) -> Option<[u8; N]> {
    decode(text)?.try_into().ok()
}

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_encode_writes_is_read() {
        assert_eq!(encode(&[0, 0x0f, 0xff]), "000fff");
        assert_eq!(decode("000fff"), Some(vec![0, 0x0f, 0xff]));
        assert_eq!(decode(""), Some(vec![]));
        for bad in ["0", "0F", "zz", "00 ", "+1", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hash_has_its_length() {
        assert_eq!(decode_exactly("0aff"), Some([0x0a, 0xff]));
        assert_eq!(decode_exactly::<2>("0a"), None);
        assert_eq!(decode_exactly::<2>("0aff00"), None);
    }
}
