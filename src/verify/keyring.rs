//! The keys that verify, prepared once, and the set as it is published.

use std::collections::HashMap;

use strict25519::{KeyError, PreparedKey};

use crate::passport::{Kid, etag, jwks};

/// A key that can't be loaded. The store or the HSM holds something that no honest key generation makes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the public key of {kid} can't be used: {why}; take it out of service and look for tampering")]
pub struct KeyringError {
    /// The key's id.
    pub kid: String,
    /// What is wrong with it.
    pub why: KeyError,
}

/// An immutable set of verifying keys. A change of keys makes a new one.
#[derive(Debug)]
pub struct Keyring {
    keys: HashMap<Box<str>, PreparedKey>,
    jwks: Vec<u8>,
    etag: [u8; 32],
}

impl Keyring {
    /// Prepares `keys` (0.1 ms each) and their JSON Web Key Set.
    ///
    /// # Errors
    /// [`KeyringError`] names the first key that is not fit to verify with.
    pub fn new<'a>(keys: impl Iterator<Item = (&'a Kid, &'a [u8; 32])> + Clone) -> Result<Self, KeyringError> {
        let mut prepared = HashMap::new();
        for (kid, public) in keys.clone() {
            let kid = kid.to_string();
            let key = PreparedKey::new(public).map_err(|why| KeyringError { kid: kid.clone(), why })?;
            prepared.insert(kid.into_boxed_str(), key);
        }
        let jwks = jwks(keys);
        let etag = etag(&jwks);
        Ok(Self { keys: prepared, jwks, etag })
    }

    /// The key of exactly this id.
    pub fn get(&self, kid: &str) -> Option<&PreparedKey> {
        self.keys.get(kid)
    }

    /// How many keys verify.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no key verifies.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The set as JSON (RFC 7517, RFC 8037).
    pub fn jwks(&self) -> &[u8] {
        &self.jwks
    }

    /// BLAKE3 of [`Keyring::jwks`].
    pub fn etag(&self) -> &[u8; 32] {
        &self.etag
    }
}
