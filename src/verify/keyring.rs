//! The keys that verify, prepared once, and the set as it is published.

use std::collections::HashMap;

use strict25519::{KeyError, PreparedKey, Window};

use crate::passport::{Jwk, etag, jwks};

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
    /// Prepares `keys` (0.1 ms each) and their JSON Web Key Set. Without tables: for the reference.
    ///
    /// # Errors
    /// [`KeyringError`] names the first key that is not fit to verify with.
    pub fn new(keys: &[Jwk]) -> Result<Self, KeyringError> {
        Self::with_tables(keys, 0, None)
    }

    /// The same with tables for the fast ways (0.4 to 2 ms each), as wide as fit into `table_bytes` together; if not even the
    /// narrowest of all do, those that sign have one first, and then those that come first. What `before` has prepared
    /// already is taken over.
    ///
    /// # Errors
    /// As [`Keyring::new`].
    pub fn with_tables(keys: &[Jwk], table_bytes: usize, before: Option<&Self>) -> Result<Self, KeyringError> {
        let widest = Window::for_budget(keys.len(), table_bytes);
        let narrow = table_bytes / Window::NARROWEST.table_bytes();
        let mut prepared = HashMap::new();
        let (mut first, mut others) = (0.., keys.iter().filter(|key| key.signs()).count()..);
        for key in keys {
            let place = if key.signs() { first.next() } else { others.next() };
            let (kid, public) = (key.kid.to_string(), &key.public);
            let has_room = place.is_some_and(|place| place < narrow);
            let window = widest.or_else(|| has_room.then_some(Window::NARROWEST));
            let known = before.and_then(|before| before.get(&kid));
            let key = match known.filter(|key| key.as_bytes() == public && key.window() == window) {
                Some(key) => key.clone(),
                None => {
                    let key = PreparedKey::new(public).map_err(|why| KeyringError { kid: kid.clone(), why })?;
                    window.map_or_else(|| key.clone(), |window| key.clone().with_table(window))
                }
            };
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

    /// How many of them have a table.
    pub fn tables(&self) -> usize {
        self.keys.values().filter(|key| key.window().is_some()).count()
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

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::passport::Kid;

    fn keys(count: u8) -> Vec<Jwk> {
        let public = |at: u8| SigningKey::from_bytes(&[at + 1; 32]).verifying_key().to_bytes();
        (0..count).map(|at| Jwk::new(Kid::new("t1", "auth", u64::from(at) + 1).unwrap(), public(at))).collect()
    }

    fn keyring(keys: &[Jwk], bytes: usize, before: Option<&Keyring>) -> Keyring {
        Keyring::with_tables(keys, bytes, before).unwrap()
    }

    #[test]
    fn tables_fit_their_memory_and_are_made_once() {
        let (three, two_wide) = (keys(3), 2 * Window::WIDEST.table_bytes());
        let first = keyring(&three[..2], two_wide, None);
        let window = |keyring: &Keyring, at: usize| keyring.get(&three[at].kid.to_string()).unwrap().window();
        assert_eq!((window(&first, 0), window(&first, 1)), (Some(Window::WIDEST), Some(Window::WIDEST)));
        // A third key makes all of them narrower, and without it they are wide again.
        let second = keyring(&three, two_wide, Some(&first));
        assert!((0..3).all(|at| window(&second, at).is_some_and(|window| window < Window::WIDEST)));
        let bytes: usize = (0..3).filter_map(|at| window(&second, at)).map(Window::table_bytes).sum();
        assert!(bytes <= two_wide);
        assert_eq!(window(&keyring(&three[..2], two_wide, Some(&second)), 1), Some(Window::WIDEST));
        // The same keys again share their tables.
        let again = keyring(&three[..2], two_wide, Some(&first));
        let kid = three[0].kid.to_string();
        assert!(again.get(&kid).unwrap().shares_table_with(first.get(&kid).unwrap()));
        assert_eq!(again.jwks(), first.jwks());
    }

    #[test]
    fn the_first_ones_have_tables_where_there_are_too_many() {
        let five = keys(5);
        let some = keyring(&five, 2 * Window::NARROWEST.table_bytes() + 1, None);
        let with = |at: usize| some.get(&five[at].kid.to_string()).unwrap().window();
        assert_eq!([with(0), with(1), with(2)], [Some(Window::NARROWEST), Some(Window::NARROWEST), None]);
        assert_eq!((some.tables(), some.len()), (2, 5));
    }

    /// New passports come from the keys that sign, so these are asked about most.
    #[test]
    fn the_keys_that_sign_have_tables_before_the_others() {
        let mut five = keys(5);
        for at in [1, 4] {
            five[at].current = Some(true);
        }
        for (room, with) in [(1, vec![1]), (2, vec![1, 4]), (3, vec![0, 1, 4]), (4, vec![0, 1, 2, 4])] {
            let bytes = room * Window::NARROWEST.table_bytes();
            let some = keyring(&five, bytes, None);
            let has = |at: &usize| some.get(&five[*at].kid.to_string()).unwrap().window().is_some();
            assert_eq!((0..5).filter(has).collect::<Vec<_>>(), with, "room for {room}");
            assert_eq!(some.jwks(), jwks(&five), "what is published keeps its order");
        }
    }

    #[test]
    fn without_memory_there_are_no_tables_and_all_keys() {
        let keys = keys(3);
        let none = keyring(&keys, 1000, None);
        assert!(keys.iter().all(|key| none.get(&key.kid.to_string()).unwrap().window().is_none()));
        assert_eq!(none.len(), 3);
    }
}
