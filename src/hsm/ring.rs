//! The keys in the token against the keys that ought to be there.

use super::inventory::{Found, Inventory};
use super::pins::{PinnedKey, Pins};
use crate::passport::hex;
use crate::wire::link::{KeyRole, LinkKey};
use std::collections::HashMap;
use strict25519::PreparedKey;

/// A key that was found, pinned, or both.
#[derive(Debug)]
pub struct RingKey {
    /// Its label: for signing keys the kid.
    pub kid: String,
    /// What it may sign.
    pub role: KeyRole,
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// The pinned public key, checked; `None` for seal keys and keys that can't be used.
    pub public: Option<PreparedKey>,
    /// Why it is not used; empty if it is.
    pub problem: String,
}

impl RingKey {
    /// Whether the signer uses it.
    pub const fn usable(&self) -> bool {
        self.problem.is_empty()
    }
}

/// All keys, by kid. Made anew at every initialisation of the module, and never changed.
#[derive(Debug, Default)]
pub struct Ring {
    keys: Vec<RingKey>,
    by_kid: HashMap<String, usize>,
    orphans: Vec<String>,
}

impl Ring {
    /// Compares. A key is usable if it is pinned, found once, fit, and both say the same.
    pub fn new(inventory: Inventory, pins: &Pins, token_serial: &str) -> Self {
        let mut made = Self { orphans: inventory.orphans, ..Self::default() };
        for pin in &pins.keys {
            let found: Vec<&Found> = inventory.keys.iter().filter(|key| key.label == pin.kid).collect();
            made.push(judge(pin, &found, token_serial));
        }
        for found in inventory.keys.iter().filter(|key| pins.get(&key.label).is_none()) {
            let problem = format!(
                "it is in the HSM but not pinned (CKA_ID {}): a ceremony was cut short, or another program made it",
                hex::encode(&found.id)
            );
            let key =
                RingKey { kid: found.label.clone(), role: found.role, id: found.id.clone(), public: None, problem };
            made.push(key);
        }
        made
    }

    fn push(&mut self, key: RingKey) {
        // Pinned kids come first and are unique; a second unpinned key of the same label changes nothing.
        self.by_kid.entry(key.kid.clone()).or_insert(self.keys.len());
        self.keys.push(key);
    }

    /// Where a kid stands.
    pub fn position(&self, kid: &str) -> Option<usize> {
        self.by_kid.get(kid).copied()
    }

    /// The key at a position.
    pub fn get(&self, position: usize) -> Option<&RingKey> {
        self.keys.get(position)
    }

    /// All keys: pinned ones in the order in which they were made, then the others.
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// Objects that belong to no key.
    pub fn orphans(&self) -> &[String] {
        &self.orphans
    }

    /// What the front is told.
    pub fn link_keys(&self) -> Vec<LinkKey> {
        let tell = |key: &RingKey| LinkKey {
            kid: key.kid.clone(),
            role: key.role,
            public: key.public.as_ref().map_or([0; 32], |public| *public.as_bytes()),
            usable: key.usable(),
            problem: key.problem.clone(),
        };
        self.keys.iter().map(tell).collect()
    }
}

fn judge(pin: &PinnedKey, found: &[&Found], token_serial: &str) -> RingKey {
    let mut problems: Vec<String> = Vec::new();
    match found {
        [] if pin.token_serial != token_serial => {
            problems.push(format!("it was made in the token with serial number {}", pin.token_serial));
        }
        [] => problems.push("it is pinned but not in the HSM".to_owned()),
        [one] => {
            problems.extend(one.problems.iter().cloned());
            if one.id != pin.id() {
                problems.push("its CKA_ID is not the pinned one".to_owned());
            }
            if one.public != pin.public_key() {
                problems.push("its public key is not the pinned one".to_owned());
            }
        }
        _ => problems.push("several keys have its label".to_owned()),
    }
    let mut public = None;
    if let Some(bytes) = pin.public_key() {
        match PreparedKey::new(&bytes) {
            Ok(key) => public = Some(key),
            Err(error) => problems.push(format!("its public key is unfit: {error}")),
        }
    }
    RingKey { kid: pin.kid.clone(), role: pin.role, id: pin.id(), public, problem: problems.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KID: &str = "ed25519/t1/auth/v1";

    fn public() -> [u8; 32] {
        ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()
    }

    fn found() -> Found {
        Found {
            label: KID.to_owned(),
            role: KeyRole::Passport,
            id: vec![1, 2],
            public: Some(public()),
            mechanisms_bound: true,
            problems: vec![],
        }
    }

    fn pins() -> Pins {
        let key = PinnedKey {
            kid: KID.to_owned(),
            role: KeyRole::Passport,
            cka_id: "0102".to_owned(),
            public: Some(hex::encode(&public())),
            created: 0,
            module: String::new(),
            token_serial: "s1".to_owned(),
            mechanisms_bound: true,
        };
        Pins::of(vec![key])
    }

    fn problem(keys: Vec<Found>, pins: &Pins, serial: &str) -> String {
        let ring = Ring::new(Inventory { keys, ..Inventory::default() }, pins, serial);
        ring.get(ring.position(KID).unwrap()).unwrap().problem.clone()
    }

    #[test]
    fn a_key_that_is_pinned_and_the_same_is_used() {
        assert_eq!(problem(vec![found()], &pins(), "s1"), "");
        let ring = Ring::new(Inventory { keys: vec![found()], ..Inventory::default() }, &pins(), "s1");
        let told = &ring.link_keys()[0];
        assert!(told.usable && told.public == public());
        assert_eq!(ring.position("ed25519/t1/auth/v2"), None);
    }

    #[test]
    fn every_difference_is_named_and_the_key_not_used() {
        let other = ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        for (keys, serial, text) in [
            (vec![], "s1", "not in the HSM"),
            (vec![], "s2", "serial number s1"),
            (vec![found(), found()], "s1", "several keys"),
            (vec![Found { id: vec![1, 3], ..found() }], "s1", "CKA_ID is not the pinned one"),
            (vec![Found { public: Some(other), ..found() }], "s1", "public key is not the pinned one"),
            (vec![Found { public: None, ..found() }], "s1", "public key is not the pinned one"),
            (vec![Found { problems: vec!["CKA_EXTRACTABLE is set".to_owned()], ..found() }], "s1", "CKA_EXTRACTABLE"),
        ] {
            let problem = problem(keys, &pins(), serial);
            assert!(problem.contains(text), "{problem}");
        }
    }

    #[test]
    fn a_key_that_no_ceremony_finished_is_not_used() {
        let problem = problem(vec![found()], &Pins::default(), "s1");
        assert!(problem.contains("not pinned (CKA_ID 0102)"), "{problem}");
    }

    #[test]
    fn a_pinned_key_of_small_order_is_unfit() {
        let mut pins = pins();
        // The identity: every signature with s = 0 fits it.
        let identity = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        };
        pins.keys[0].public = Some(hex::encode(&identity));
        assert!(problem(vec![Found { public: Some(identity), ..found() }], &pins, "s1").contains("unfit"));
    }
}
