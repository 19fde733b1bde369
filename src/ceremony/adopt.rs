//! Plans that make no key: taking over one that is there, and taking a seal key out of service. Neither touches an object
//! of the HSM; what changes is the list of pinned keys.

use super::CeremonyError;
use super::keys::Bench;
use crate::hsm::inventory::{self, Found};
use crate::hsm::label::{Label, label};
use crate::hsm::ring::Ring;
use crate::passport::hex;
use crate::wire::link::KeyRole;

impl Bench<'_> {
    /// Takes over the one private or secret key with this `CKA_ID` as the next version of a key. It is held to all that a
    /// key of ours is held to, signs once, and keeps its label.
    pub(super) fn adopt(&mut self, role: KeyRole, tenant: &str, purpose: &str, id: &[u8]) -> Result<(), CeremonyError> {
        let kid = label(role, tenant, purpose, self.next_version(role, tenant, purpose))?;
        let refused = |problem: String| CeremonyError::NotAdopted { cka_id: hex::encode(id), problem };
        let found = self.adoptable(role, id).map_err(refused)?;
        let handle = inventory::handle(self.session, &found.label, id, found.role)?;
        self.try_out(&found, handle).map_err(refused)?;
        let foreign = Some(found.label.clone());
        self.pin(kid, foreign, role, &found)
    }

    /// What has this id, if it can be taken over.
    fn adoptable(&self, role: KeyRole, id: &[u8]) -> Result<Found, String> {
        if let Some(pin) = self.pins.keys.iter().find(|key| key.id() == id) {
            return Err(format!("it is in use already, as {}", pin.kid));
        }
        if self.inventory.keys.iter().any(|key| key.id == id) {
            return Err("its label is one of passportd's own, but it was never pinned: have it destroyed, and make a \
                        new key (passportctl hsm rotate)"
                .to_owned());
        }
        let mut all = self.inventory.others.iter().filter(|key| key.id == id);
        let found = all.next().ok_or("there is no private or secret key with it")?;
        if all.next().is_some() {
            return Err("several keys have it".to_owned());
        }
        match (found.role == KeyRole::Seal, role == KeyRole::Seal) {
            (true, false) => Err("it is a secret key; only purpose `seal` takes one".to_owned()),
            (false, true) => Err("it is a private key; purpose `seal` takes a secret one".to_owned()),
            _ if !found.problems.is_empty() => Err(found.problems.join("; ")),
            _ => Ok(found.clone()),
        }
    }

    /// Takes a seal key out of service: what it sealed can no longer be opened. Only while a newer one of the tenant can be
    /// used, so that something seals.
    pub(super) fn retire_seal(&mut self, kid: &str) -> Result<(), CeremonyError> {
        let wrong = |why: String| CeremonyError::Request(format!("{kid} can't be retired: {why}"));
        let Some(own) = Label::parse(kid).filter(|own| own.role == KeyRole::Seal) else {
            return Err(wrong(
                "it is no seal key (passportctl key activate retires the passport key before)".to_owned(),
            ));
        };
        let ring = Ring::new(self.inventory.clone(), &self.pins, &self.device.serial);
        let newer = |kid: &str| {
            Label::parse(kid)
                .is_some_and(|l| l.role == KeyRole::Seal && l.tenant == own.tenant && l.version > own.version)
        };
        if !ring.keys().iter().any(|key| key.usable() && newer(&key.kid)) {
            return Err(wrong(format!("tenant {} has no newer seal key that can be used", own.tenant)));
        }
        let pin = self.pins.keys.iter_mut().find(|key| key.kid == kid);
        let pin = pin.ok_or_else(|| wrong("there is none of that name".to_owned()))?;
        pin.retired.get_or_insert(crate::clock::Moment::now().unix());
        self.write_pins()
    }
}
