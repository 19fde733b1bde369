//! The keys in the token against the keys that ought to be there.

use super::HsmError;
use super::inventory::{Found, Inventory};
use super::pins::{DESTROYED, LOST, PinnedKey, Pins};
use crate::passport::hex;
use crate::verify::{PreparedKey, Window};
use crate::wire::link::{KeyRole, LinkKey, NOT_IN_HSM};
use std::collections::HashMap;
use std::sync::OnceLock;

/// Memory for the tables of all keys that sign, in bytes: what the ways need that verify signatures fast.
const TABLE_BYTES: usize = 8 << 20;

/// A key that was found, pinned, or both.
#[derive(Debug)]
pub struct RingKey {
    /// What its label ought to be: for signing keys the kid.
    pub kid: String,
    /// `CKA_LABEL`: the kid, but for a key that was adopted.
    pub label: String,
    /// What it may sign.
    pub role: KeyRole,
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// The pinned public key, checked; `None` for seal keys and keys that can't be used.
    pub public: Option<PreparedKey>,
    /// Why it is not used; empty if it is.
    pub problem: String,
    /// It is out of service for good.
    pub retired: bool,
    /// It is pinned, and not in this token.
    pub missing: bool,
    /// What the token does not say of where it comes from.
    pub unsaid: Vec<&'static str>,
    /// The HSM has another public key under its label and `CKA_ID` than the pinned one.
    changed: bool,
    /// The public key with a table, since the first signature.
    tabled: OnceLock<PreparedKey>,
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
    /// How wide the tables are; none where there are too many keys.
    window: Option<Window>,
    /// The keys are in a session, not in the token.
    fleeting: bool,
}

impl Ring {
    /// Compares. A key is usable if it is pinned, found once, fit, and both say the same.
    pub fn new(inventory: Inventory, pins: &Pins, token_serial: &str) -> Self {
        let mut made = Self { orphans: inventory.orphans, ..Self::default() };
        for pin in &pins.keys {
            let found: Vec<&Found> = match &pin.label {
                None => inventory.keys.iter().filter(|key| key.label == pin.kid).collect(),
                // Foreign labels need not be unique; its id is.
                Some(label) => {
                    inventory.others.iter().filter(|key| key.label == *label && key.id == pin.id()).collect()
                }
            };
            made.push(judge(pin, &found, token_serial));
        }
        for found in inventory.keys.iter().filter(|key| pins.get(&key.label).is_none()) {
            let unpinned = format!(
                "it is in the HSM but not pinned (CKA_ID {}): a ceremony was cut short, or another program made it",
                hex::encode(&found.id)
            );
            let problems = [&[unpinned], found.problems.as_slice()].concat();
            made.push(RingKey {
                kid: found.label.clone(),
                label: found.label.clone(),
                role: found.role,
                id: found.id.clone(),
                public: None,
                problem: problems.join("; "),
                retired: false,
                missing: false,
                unsaid: Vec::new(),
                changed: false,
                tabled: OnceLock::new(),
            });
        }
        let verifying = made.keys.iter().filter(|key| key.usable() && key.public.is_some()).count();
        made.window = Window::for_budget(verifying, TABLE_BYTES);
        made
    }

    /// The same, of keys that are in a session.
    pub fn of_session(inventory: Inventory, pins: &Pins, token_serial: &str) -> Self {
        Self { fleeting: true, ..Self::new(inventory, pins, token_serial) }
    }

    /// Whether the keys are in the token.
    pub const fn is_kept(&self) -> bool {
        !self.fleeting
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

    /// The public key at a position with a table, as wide as there is memory for: made at the first call, in 0.4 to 2 ms.
    pub fn with_table(&self, position: usize) -> Option<&PreparedKey> {
        let key = self.keys.get(position)?;
        let public = key.public.as_ref()?;
        let tabled = |window| key.tabled.get_or_init(|| public.clone().with_table(window));
        Some(self.window.map_or(public, tabled))
    }

    /// All keys: pinned ones in the order in which they were made, then the others.
    pub fn keys(&self) -> &[RingKey] {
        &self.keys
    }

    /// Objects that belong to no key.
    pub fn orphans(&self) -> &[String] {
        &self.orphans
    }

    /// Whether a signer may start with it: not if a pinned passport key is another one now, and no passport key can be
    /// used. (As long as one can, one altered key must not stop every tenant; it is refused alone.)
    ///
    /// # Errors
    /// [`HsmError::PinnedKeyChanged`].
    pub fn may_start(&self) -> Result<(), HsmError> {
        let passports = || self.keys.iter().filter(|key| key.role == KeyRole::Passport);
        match passports().find(|key| key.changed) {
            Some(key) if !passports().any(RingKey::usable) => Err(HsmError::PinnedKeyChanged(key.kid.clone())),
            _ => Ok(()),
        }
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
    let (mut changed, out) = (false, pin.out_of_service());
    let retired = out.is_some();
    problems.extend(out.map(str::to_owned));
    match found {
        [] if out == Some(DESTROYED) => {}
        [] if pin.token_serial == LOST => {
            problems.push("its HSM is lost: it verifies, and signs nothing any more".to_owned());
        }
        [] if pin.token_serial != token_serial => {
            problems.push(format!("it was made in the token with serial number {}", pin.token_serial));
        }
        [] => problems.push(NOT_IN_HSM.to_owned()),
        [one] => {
            if out == Some(DESTROYED) {
                problems.push("it is in the HSM all the same".to_owned());
            }
            problems.extend(one.problems.iter().cloned());
            if one.id != pin.id() {
                problems.push("its CKA_ID is not the pinned one".to_owned());
            }
            if one.public != pin.public_key() {
                changed = one.public.is_some();
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
    let unsaid = if let [one] = found { one.unsaid.clone() } else { Vec::new() };
    let (kid, label) = (pin.kid.clone(), pin.label().to_owned());
    let (role, id, problem) = (pin.role, pin.id(), problems.join("; "));
    let (missing, tabled) = (found.is_empty(), OnceLock::new());
    RingKey { kid, label, role, id, public, problem, retired, missing, unsaid, changed, tabled }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::transcript::Attributes;

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
            unsaid: vec![],
            attributes: Attributes::default(),
            problems: vec![],
        }
    }

    /// A token with so many keys that sign, and as many that derive.
    fn crowd(count: u8) -> Ring {
        let key = |at: u8, role: KeyRole| {
            let signs = role != KeyRole::Seal;
            let public = ed25519_dalek::SigningKey::from_bytes(&[at + 1; 32]).verifying_key().to_bytes();
            let label =
                if signs { format!("ed25519/t1/auth/v{}", at + 1) } else { format!("hmac-sha256/t1/seal/v{}", at + 1) };
            let id = vec![at, u8::from(signs)];
            let found =
                Found { label: label.clone(), role, id: id.clone(), public: signs.then_some(public), ..found() };
            let pin = PinnedKey {
                kid: label,
                role,
                cka_id: hex::encode(&id),
                public: signs.then(|| hex::encode(&public)),
                ..pins().keys[0].clone()
            };
            (found, pin)
        };
        let all = (0..count).flat_map(|at| [key(at, KeyRole::Passport), key(at, KeyRole::Seal)]);
        let (keys, pinned) = all.unzip();
        Ring::new(Inventory { keys, ..Inventory::default() }, &Pins::of(pinned), "s1")
    }

    #[test]
    fn tables_fit_their_memory_and_are_made_once() {
        let few = crowd(2);
        let key = few.with_table(0).unwrap();
        assert_eq!(
            (key.window(), key.as_bytes()),
            (Some(Window::WIDEST), few.get(0).unwrap().public.as_ref().unwrap().as_bytes())
        );
        assert!(key.shares_table_with(few.with_table(0).unwrap()));
        assert!(few.with_table(1).is_none(), "a seal key signs nothing");
        assert!(few.get(0).unwrap().public.as_ref().unwrap().window().is_none(), "what the front is told needs none");
        // With too many for the narrowest tables they are verified by the reference, and up to there they fit.
        let most = u8::try_from(TABLE_BYTES / Window::NARROWEST.table_bytes()).unwrap();
        let [fits, does_not] = [most, most + 1].map(|count| crowd(count).with_table(0).unwrap().window());
        assert_eq!((fits, does_not), (Some(Window::NARROWEST), None));
    }

    fn pins() -> Pins {
        let key = PinnedKey {
            kid: KID.to_owned(),
            label: None,
            role: KeyRole::Passport,
            cka_id: "0102".to_owned(),
            public: Some(hex::encode(&public())),
            created: 0,
            module: String::new(),
            token_serial: "s1".to_owned(),
            mechanisms_bound: true,
            retired: None,
            compromised: None,
            destroyed: None,
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
        let weak = Found { problems: vec!["CKA_EXTRACTABLE is set".to_owned()], ..found() };
        let problem = problem(vec![weak], &Pins::default(), "s1");
        assert!(
            problem.contains("not pinned (CKA_ID 0102)") && problem.ends_with("; CKA_EXTRACTABLE is set"),
            "{problem}"
        );
    }

    #[test]
    fn an_adopted_key_is_found_by_its_label_and_id() {
        let mut pins = pins();
        pins.keys[0].label = Some("billing".to_owned());
        let foreign = |label: &str, id: u8| Found { label: label.to_owned(), id: vec![1, id], ..found() };
        let ring = |others: Vec<Found>| Ring::new(Inventory { others, ..Inventory::default() }, &pins, "s1");
        let made = ring(vec![foreign("billing", 3), foreign("other", 2), foreign("billing", 2)]);
        assert_eq!(made.keys().len(), 1, "what nobody has adopted is another program's");
        assert!(made.keys()[0].usable() && made.keys()[0].label == "billing" && made.position(KID) == Some(0));
        let gone = ring(vec![foreign("billing", 3), foreign("other", 2)]);
        assert!(gone.keys()[0].problem.contains("not in the HSM"));
    }

    #[test]
    fn no_signer_starts_when_its_only_passport_key_is_another_one() {
        let other = ed25519_dalek::SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
        let bent = || Found { public: Some(other), ..found() };
        let start = |keys: Vec<Found>, pins: &Pins| {
            Ring::new(Inventory { keys, ..Inventory::default() }, pins, "s1")
                .may_start()
                .map_err(|error| error.detail())
        };
        assert_eq!(start(vec![found()], &pins()), Ok(()));
        assert_eq!(start(vec![], &pins()), Ok(()), "gone is not changed: it may come back");
        let refused = start(vec![bent()], &pins()).unwrap_err();
        assert!(refused.contains(KID), "{refused}");
        let mut two = pins();
        let second =
            PinnedKey { kid: "ed25519/t2/auth/v1".to_owned(), cka_id: "0103".to_owned(), ..two.keys[0].clone() };
        let fine = Found { label: second.kid.clone(), id: vec![1, 3], ..found() };
        two.keys.push(second);
        assert_eq!(start(vec![bent(), fine], &two), Ok(()), "another tenant's goes on");
    }

    #[test]
    fn a_retired_seal_key_is_not_used() {
        let mut pins = pins();
        let kid = "hmac-sha256/t1/seal/v1".to_owned();
        pins.keys[0] =
            PinnedKey { kid: kid.clone(), role: KeyRole::Seal, public: None, retired: Some(1), ..pins.keys[0].clone() };
        let keys = vec![Found { label: kid, role: KeyRole::Seal, public: None, ..found() }];
        let ring = Ring::new(Inventory { keys, ..Inventory::default() }, &pins, "s1");
        assert_eq!(ring.keys()[0].problem, "it is retired");
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
