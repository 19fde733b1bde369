//! Sealing small secrets: from what the HSM derives to ciphertext and back. Pure, but for the nonce.
//!
//! The HSM computes HMAC-SHA256 over a derivation under a seal key that never leaves it; HKDF-SHA256 (RFC 5869) makes
//! the key of one namespace and version out of that; XChaCha20-Poly1305 seals. Its nonce of 24 random bytes may be drawn
//! at random for every blob: among 2^64 of them the chance that two are the same is below 2^-64, so that neither a
//! restored state nor a second instance repeats one.
//!
//! Nothing of where a secret belongs stands in the blob but its key; issuer, namespace and name are authenticated beside
//! it. A blob of another instance, namespace, name or version does not open.

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::hsm::sealer::{KEY, SealPlace, Sealer, Unopenable};
use crate::wire::sealed::{NONCE, Sealed, TAG};

/// What precedes everything that is hashed under a seal key.
const DOMAIN: &[u8] = b"passportd/seal/v1\0";
/// HKDF's `info`.
const INFO: &[u8] = b"passportd/seal/xchacha20poly1305/v1";

/// The one way of sealing that there is.
#[derive(Clone, Copy, Debug, Default)]
pub struct XChaCha;

impl Sealer for XChaCha {
    fn derivation(&self, place: &SealPlace<'_>) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        prefixed(place.issuer, &mut out);
        prefixed(place.namespace.as_str(), &mut out);
        out.extend_from_slice(&place.kid.version().to_be_bytes());
        out
    }

    fn key(&self, derived: &[u8; KEY]) -> Zeroizing<[u8; KEY]> {
        let mut key = Zeroizing::new([0; KEY]);
        // It fails beyond 255 blocks of 32 bytes.
        let made = Hkdf::<Sha256>::new(None, derived).expand(INFO, key.as_mut_slice());
        debug_assert!(made.is_ok(), "one block");
        key
    }

    fn seal(&self, key: &[u8; KEY], place: &SealPlace<'_>, plain: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).ok()?;
        seal_with(key, place, &nonce, plain)
    }

    fn open(
        &self,
        key: &[u8; KEY],
        place: &SealPlace<'_>,
        sealed: &Sealed<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Unopenable> {
        let (ciphertext, tag) = sealed.body.split_last_chunk::<TAG>().ok_or(Unopenable)?;
        // Decrypted where it then stays; nothing is decrypted before the tag has been verified.
        let mut plain = Zeroizing::new(vec![0; ciphertext.len()]);
        let both = InOutBuf::new(ciphertext, &mut plain).map_err(|_| Unopenable)?;
        let aead = XChaCha20Poly1305::new(key.into());
        let tag: &Tag = tag.into();
        aead.decrypt_inout_detached(sealed.nonce.into(), &beside(sealed.header, place), both, tag)
            .map_err(|_| Unopenable)?;
        Ok(plain)
    }
}

fn seal_with(key: &[u8; KEY], place: &SealPlace<'_>, nonce: &[u8; NONCE], plain: &[u8]) -> Option<Vec<u8>> {
    let header = Sealed::header(place.kid);
    let mut ciphertext = vec![0; plain.len()];
    let both = InOutBuf::new(plain, &mut ciphertext).ok()?;
    let aead = XChaCha20Poly1305::new(key.into());
    let tag = aead.encrypt_inout_detached(nonce.into(), &beside(&header, place), both).ok()?;
    Some([&header, nonce.as_slice(), &ciphertext, &tag].concat())
}

/// What is authenticated beside the ciphertext.
fn beside(header: &[u8], place: &SealPlace<'_>) -> Vec<u8> {
    let mut out = header.to_vec();
    prefixed(place.issuer, &mut out);
    prefixed(place.namespace.as_str(), &mut out);
    prefixed(place.name, &mut out);
    out.extend_from_slice(&place.kid.version().to_be_bytes());
    out
}

/// A text behind its length, so that no two lists of texts look the same.
fn prefixed(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
