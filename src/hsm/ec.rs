//! Edwards keys as modules spell them: the point raw or in DER, the curve as an OID or a name.

/// `id-Ed25519`, 1.3.101.112 (RFC 8410 §3), in DER.
pub(crate) const OID: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// The curve's name as a PrintableString (PKCS#11 3.0 §2.3.5), in DER: what SoftHSM keeps and what is given to it.
pub(crate) const CURVE_NAME: [u8; 14] = *b"\x13\x0cedwards25519";

/// Whether `CKA_EC_PARAMS` means edwards25519.
pub(crate) fn is_ed25519(params: &[u8]) -> bool {
    params == OID || params == CURVE_NAME
}

/// The public key in `CKA_EC_POINT`: 32 raw bytes, an OCTET STRING or a BIT STRING of them. Nothing else, so that a
/// longer point of another curve is not cut down to something that looks like ours.
pub(crate) fn public_key(point: &[u8]) -> Option<[u8; 32]> {
    let bytes = match point {
        [0x04, 0x20, rest @ ..] | [0x03, 0x21, 0x00, rest @ ..] if rest.len() == 32 => rest,
        raw if raw.len() == 32 => raw,
        _ => return None,
    };
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_point_gives_the_same_key() {
        // Bytes that begin as DER would: a raw key must not be mistaken for one.
        let mut key = [7_u8; 32];
        key[..2].copy_from_slice(&[0x04, 0x20]);
        assert_eq!(public_key(&key), Some(key));
        assert_eq!(public_key(&[&[0x04, 0x20][..], &key].concat()), Some(key));
        assert_eq!(public_key(&[&[0x03, 0x21, 0x00][..], &key].concat()), Some(key));
    }

    #[test]
    fn other_lengths_are_not_cut_down() {
        for len in [0, 31, 33, 57, 65] {
            assert_eq!(public_key(&vec![4; len]), None, "{len}");
        }
        assert_eq!(public_key(&[&[0x04, 0x21][..], &[7; 32]].concat()), None);
    }

    #[test]
    fn the_curve_may_be_an_oid_or_a_name() {
        assert!(is_ed25519(&OID) && is_ed25519(&CURVE_NAME));
        assert!(!is_ed25519(b"\x13\x0aedwards448") && !is_ed25519(&[0x06, 0x03, 0x2b, 0x65, 0x71]) && !is_ed25519(b""));
    }
}
