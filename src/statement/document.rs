//! Documents with a signature beside them: what was held in a ceremony, and what runs.

use serde::{Deserialize, Serialize};

use super::note::VerifierKey;
use crate::passport::hex;

/// The bytes before a transcript.
pub const TRANSCRIPT_PREFIX: &[u8] = b"passportd/transcript/v1\0";

/// The bytes before an attestation.
pub const ATTESTATION_PREFIX: &[u8] = b"passportd/attestation/v1\0";

/// The longest document, in bytes.
pub const MAX_DOCUMENT: usize = 256 << 10;

/// A detached signature, as a file beside its document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The audit key's id.
    pub kid: String,
    /// The signature over prefix and document, in hex.
    pub sig: String,
}

impl Signed {
    /// By this key.
    pub fn new(kid: &str, signature: &[u8; 64]) -> Self {
        Self { kid: kid.to_owned(), sig: hex::encode(signature) }
    }

    /// Whether the key of that name among `keys` signed this document under this prefix; none if there is no such key.
    pub fn verify(&self, prefix: &[u8], document: &[u8], keys: &[VerifierKey]) -> Option<bool> {
        let mut named = keys.iter().filter(|key| key.name == self.kid).peekable();
        named.peek()?;
        let message = message(prefix, document);
        Some(hex::decode_exactly(&self.sig).is_some_and(|sig| named.any(|key| key.verifies(&message, &sig))))
    }
}

/// What is signed.
pub fn message(prefix: &[u8], document: &[u8]) -> Vec<u8> {
    [prefix, document].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    #[test]
    fn a_signature_is_of_one_kind_of_document_and_of_one_key() {
        let signing = SigningKey::from_bytes(&[3; 32]);
        let key = VerifierKey { name: "k".to_owned(), public: signing.verifying_key().to_bytes() };
        let signed = Signed::new("k", &signing.sign(&message(TRANSCRIPT_PREFIX, b"{}")).to_bytes());
        let keys = [key.clone()];
        assert_eq!(signed.verify(TRANSCRIPT_PREFIX, b"{}", &keys), Some(true));
        assert_eq!(signed.verify(ATTESTATION_PREFIX, b"{}", &keys), Some(false));
        assert_eq!(signed.verify(TRANSCRIPT_PREFIX, b"{ }", &keys), Some(false));
        assert_eq!(signed.verify(TRANSCRIPT_PREFIX, b"{}", &[]), None);
        let other = [VerifierKey { name: "other".to_owned(), ..key }];
        assert_eq!(signed.verify(TRANSCRIPT_PREFIX, b"{}", &other), None);
    }
}
