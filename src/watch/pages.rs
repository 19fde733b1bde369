//! Where a page of revocations begins, as its reader holds it: sealed, since the rows of the file are in one order for all, and
//! the place may be that of another tenant's row.

use std::sync::atomic::{AtomicU64, Ordering};

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};

/// Bytes of the nonce: a number that is used once in a life of the daemon, which has its own key.
const NONCE: usize = 12;
/// Bytes of the tag.
const TAG: usize = 16;
/// The longest place, sealed: a key of the file has 10 bytes, a tenant of 255 and an id of 256.
pub const MAX_PLACE: usize = NONCE + TAG + 10 + 255 + 256;

/// Seals places and opens them.
pub(super) struct Places {
    cipher: ChaCha20Poly1305,
    next: AtomicU64,
}

impl Places {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(key.into()), next: AtomicU64::new(0) }
    }

    /// For who may see what `tag` stands for.
    pub(super) fn seal(&self, place: &[u8], tag: &[u8; 32]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        nonce.iter_mut().zip(number).for_each(|(byte, of)| *byte = of);
        let mut sealed = vec![0; place.len()];
        let both = InOutBuf::new(place, &mut sealed).ok()?;
        let mac = self.cipher.encrypt_inout_detached((&nonce).into(), tag, both).ok()?;
        Some([nonce.as_slice(), &sealed, &mac].concat())
    }

    /// The place, if it was sealed in this life of the daemon for who may see the same.
    pub(super) fn open(&self, sealed: &[u8], tag: &[u8; 32]) -> Option<Vec<u8>> {
        if sealed.len() > MAX_PLACE {
            return None;
        }
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (sealed, mac) = rest.split_last_chunk::<TAG>()?;
        let mut place = vec![0; sealed.len()];
        let both = InOutBuf::new(sealed, &mut place).ok()?;
        let mac: &Tag = mac.into();
        self.cipher.decrypt_inout_detached(nonce.into(), tag, both, mac).ok()?;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_opens_in_its_life_and_for_its_rights_only() {
        let (places, others) = (Places::new(&[1; 32]), Places::new(&[2; 32]));
        let longest = vec![7; MAX_PLACE - NONCE - TAG];
        for place in [b"".as_slice(), b"\0\0\0\0jti of another", &longest] {
            let sealed = places.seal(place, &[3; 32]).unwrap();
            assert_eq!(places.open(&sealed, &[3; 32]).as_deref(), Some(place));
            assert!(place.is_empty() || !sealed.windows(place.len()).any(|part| part == place));
            assert_eq!(places.open(&sealed, &[4; 32]), None);
            assert_eq!(others.open(&sealed, &[3; 32]), None);
            assert_ne!(places.seal(place, &[3; 32]).unwrap(), sealed);
            for cut in 0..sealed.len() {
                assert_eq!(places.open(&sealed[..cut], &[3; 32]), None);
            }
        }
        assert_eq!(places.open(&[0; MAX_PLACE + 1], &[3; 32]), None);
    }
}
