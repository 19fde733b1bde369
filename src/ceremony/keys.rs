//! Making one key, and believing it only after reading it back.

use super::CeremonyError;
use crate::hsm::inventory::{Found, Inventory};
use crate::hsm::label::{Label, label};
use crate::hsm::make;
use crate::hsm::pins::{PinnedKey, Pins};
use crate::passport::hex;
use crate::statement::transcript::Device;
use crate::wire::link::KeyRole;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use std::path::Path;

/// An open read-write session, and what is known.
pub(super) struct Bench<'a> {
    pub(super) session: &'a Session,
    pub(super) state_dir: &'a Path,
    pub(super) device: Device,
    pub(super) pins: Pins,
    pub(super) inventory: Inventory,
    /// Kids of the keys that were made or adopted.
    pub(super) made: Vec<String>,
    /// Nothing is written: all is as it would be.
    pub(super) dry_run: bool,
}

impl Bench<'_> {
    /// Whether a key of this kind was made before, fit or not. One that is no longer fit is for an admin to look at,
    /// not a reason to make another unasked.
    pub(super) fn exists(&self, role: KeyRole, tenant: &str, purpose: &str) -> bool {
        let same =
            |kid: &str| Label::parse(kid).is_some_and(|l| l.role == role && l.tenant == tenant && l.purpose == purpose);
        self.pins.keys.iter().any(|key| same(&key.kid))
    }

    /// One more than the highest version that was ever pinned or stands in the HSM, so that none is used twice.
    pub(super) fn next_version(&self, role: KeyRole, tenant: &str, purpose: &str) -> u64 {
        let pinned = self.pins.keys.iter().map(|key| key.kid.as_str());
        let there = self.inventory.labels.iter().map(String::as_str);
        let versions = pinned.chain(there).filter_map(Label::parse);
        let same = versions.filter(|l| l.role == role && l.tenant == tenant && l.purpose == purpose);
        same.map(|l| l.version).max().unwrap_or(0).saturating_add(1)
    }

    /// Makes the next version of a key, tries it, reads it back and pins it.
    pub(super) fn make(&mut self, role: KeyRole, tenant: &str, purpose: &str) -> Result<(), CeremonyError> {
        let kid = label(role, tenant, purpose, self.next_version(role, tenant, purpose))?;
        let id = fresh_id()?;
        self.make_as(kid, &id, role)
    }

    /// The same under a name and an id that were chosen before.
    pub(super) fn make_as(&mut self, kid: String, id: &[u8], role: KeyRole) -> Result<(), CeremonyError> {
        let handle = match role {
            KeyRole::Seal => make::seal_key(self.session, &kid, id, true)?,
            KeyRole::Passport | KeyRole::Audit => make::key_pair(self.session, &kid, id, true)?,
        };
        self.inventory = Inventory::read(self.session)?;
        let unfit = |problem: String| CeremonyError::Unfit { kid: kid.clone(), problem };
        let found = self.found(&kid, id).ok_or_else(|| unfit("it can't be found again".to_owned()))?;
        if !found.problems.is_empty() {
            return Err(unfit(found.problems.join("; ")));
        }
        self.try_out(&found, handle).map_err(unfit)?;
        self.pin(kid, None, role, &found)
    }

    /// What is in the token under this label and id.
    pub(super) fn found(&self, label: &str, id: &[u8]) -> Option<Found> {
        let mut all = self.inventory.keys.iter().chain(&self.inventory.others);
        all.find(|key| key.label == label && key.id == id).cloned()
    }

    /// Pins a key that has shown what it can. `label`: its own, if that is not the kid.
    pub(super) fn pin(
        &mut self,
        kid: String,
        label: Option<String>,
        role: KeyRole,
        found: &Found,
    ) -> Result<(), CeremonyError> {
        let pinned = PinnedKey {
            kid: kid.clone(),
            label,
            role,
            cka_id: hex::encode(&found.id),
            public: found.public.map(|public| hex::encode(&public)),
            created: crate::clock::Moment::now().unix(),
            module: self.device.module.clone(),
            token_serial: self.device.serial.clone(),
            mechanisms_bound: found.mechanisms_bound,
            retired: None,
            compromised: None,
            destroyed: None,
        };
        self.pins.keys.push(pinned);
        // The commit point: from here on the key is one of ours.
        self.write_pins()?;
        self.made.push(kid);
        Ok(())
    }

    pub(super) fn write_pins(&self) -> Result<(), CeremonyError> {
        if !self.dry_run {
            self.pins.write(self.state_dir)?;
        }
        Ok(())
    }

    /// As [`make::try_out`].
    pub(super) fn try_out(&self, found: &Found, handle: ObjectHandle) -> Result<(), String> {
        make::try_out(self.session, found, handle)
    }

    /// As [`make::sign`].
    pub(super) fn sign(&self, public: &[u8; 32], handle: ObjectHandle, message: &[u8]) -> Result<[u8; 64], String> {
        make::sign(self.session, public, handle, message)
    }
}

/// An id that no other key has.
pub(super) fn fresh_id() -> Result<Vec<u8>, CeremonyError> {
    Ok(make::fresh_id()?)
}
