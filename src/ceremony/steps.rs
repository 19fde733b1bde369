//! The steps of a plan, one by one. Each can be begun again after a kill at any point: it finds what it did, and makes no
//! second key.

use cryptoki::object::{Attribute, ObjectHandle};

use super::journal::Intent;
use super::keys::{Bench, fresh_id};
use super::run::Going;
use super::{CeremonyError, CeremonyPlan, backup, role_of, standing};
use crate::clock::Moment;
use crate::hsm::inventory::{self, Inventory};
use crate::hsm::label::{AUDIT_PURPOSE, Label, SEAL_PURPOSE, label};
use crate::hsm::pin_note::make_own_dir;
use crate::hsm::pins::{LOST, PinnedKey};
use crate::hsm::ring::{Ring, RingKey};
use crate::hsm::{Bounds, HsmError, marks};
use crate::passport::hex;
use crate::statement::origin;
use crate::statement::plan::{LostKey, Opened, Step, challenge};
use crate::statement::transcript::{KeyFacts, StepDone};
use crate::wire::link::KeyRole;
use sha2::{Digest as _, Sha256};

/// Objects of one label and one id: a private and a public one, and what a kill may have left of them.
const MAX_HALVES: usize = 16;

impl Bench<'_> {
    /// Does one step, and writes down that it is done.
    pub(super) fn step(
        &mut self,
        going: &mut Going<'_>,
        at: usize,
        step: &Step,
        opened: &Opened,
        plan: &CeremonyPlan,
    ) -> Result<(), CeremonyError> {
        let mut notes = Vec::new();
        match step {
            Step::Init { tenant, purpose } => {
                let all = [
                    (KeyRole::Passport, purpose.as_str()),
                    (KeyRole::Audit, AUDIT_PURPOSE),
                    (KeyRole::Seal, SEAL_PURPOSE),
                ];
                let wanted = all.map(|(role, purpose)| (role, tenant.as_str(), purpose));
                self.intend(going, at, |bench| {
                    wanted.into_iter().filter(|(role, tenant, purpose)| !bench.exists(*role, tenant, purpose)).collect()
                })?;
                self.make_intended(going, at)?;
            }
            Step::Rotate { tenant, purpose } => {
                self.intend(going, at, |_| vec![(role_of(purpose), tenant, purpose)])?;
                self.make_intended(going, at)?;
            }
            Step::Adopt { tenant, purpose, cka_id } => self.adopt_once(going, at, tenant, purpose, cka_id)?,
            Step::RetireSeal { kid } => self.retire_seal(kid)?,
            Step::Destroy { kid, verifies_until, purge_backups } => {
                self.destroy(kid, *verifies_until, plan.bounds.as_ref())?;
                notes.push(format!("{kid} was destroyed"));
                if plan.module.store.is_some() {
                    notes.push(match purge_backups {
                        true => {
                            backup::purge(&plan.module)?;
                            "the copies of the store that held it were removed; copies that others made are theirs to remove".to_owned()
                        }
                        false => "copies of the store in state_dir/backups still hold it".to_owned(),
                    });
                }
            }
            Step::Compromise { kid } => {
                self.compromise(kid)?;
                notes.push(format!("{kid} signs nothing any more; what it has signed is the daemon's to revoke"));
            }
            Step::Approvers { rule } => {
                standing::set_rule(self.state_dir, rule)?;
                notes.push(format!("plans are approved by {rule} from now on"));
            }
            Step::NewLedger { records } => notes.push(self.new_ledger(*records, plan.bounds.as_ref())?),
            Step::Restore { keys } => {
                let count = self.restore(keys)?;
                notes.push(format!("{count} keys of a lost HSM are remembered: they verify, and sign nothing"));
            }
        }
        let kids: Vec<String> = going
            .run()?
            .steps
            .get(at)
            .map(|step| step.intents.iter().map(|one| one.kid.clone()).collect())
            .unwrap_or_default();
        let keys = kids.iter().map(|kid| self.facts(kid, &opened.hash)).collect::<Result<_, _>>()?;
        if let Some(state) = going.run()?.steps.get_mut(at) {
            state.done = Some(StepDone { done: Moment::now().unix(), keys, notes });
        }
        // The commit point of the step: it is not done again.
        going.write()
    }

    /// Writes down which keys are going to be made, before one is.
    fn intend<'t>(
        &self,
        going: &mut Going<'_>,
        at: usize,
        wanted: impl FnOnce(&Self) -> Vec<(KeyRole, &'t str, &'t str)>,
    ) -> Result<(), CeremonyError> {
        let Some(state) = going.run()?.steps.get_mut(at).filter(|state| state.intents.is_empty()) else {
            return Ok(());
        };
        for (role, tenant, purpose) in wanted(self) {
            let kid = label(role, tenant, purpose, self.next_version(role, tenant, purpose))?;
            state.intents.push(Intent { kid, cka_id: hex::encode(&fresh_id()?), role });
        }
        going.write()
    }

    fn make_intended(&mut self, going: &mut Going<'_>, at: usize) -> Result<(), CeremonyError> {
        let intents = going.run()?.steps.get(at).map(|state| state.intents.clone()).unwrap_or_default();
        for (n, mut intent) in intents.into_iter().enumerate() {
            match self.pins.get(&intent.kid) {
                Some(pin) if pin.cka_id == intent.cka_id => {
                    self.made.push(intent.kid);
                    continue;
                }
                // Another ceremony was held since, and has this version: ours was not made, or it would not.
                Some(_) => {
                    intent.kid = self.next_of(&intent)?;
                    let state = going.run()?.steps.get_mut(at);
                    if let Some(old) = state.and_then(|state| state.intents.get_mut(n)) {
                        *old = intent.clone();
                    }
                    going.write()?;
                }
                None => {}
            }
            self.make_or_take(&intent)?;
        }
        Ok(())
    }

    fn next_of(&self, intent: &Intent) -> Result<String, CeremonyError> {
        let own = Label::parse(&intent.kid).ok_or_else(|| CeremonyError::Request("its name is spoilt".to_owned()))?;
        Ok(label(own.role, own.tenant, own.purpose, self.next_version(own.role, own.tenant, own.purpose))?)
    }

    /// Pins the key that was made before a kill, if it is whole; else clears what is left of it away, and makes it. It has
    /// signed nothing: only pinned keys do.
    fn make_or_take(&mut self, intent: &Intent) -> Result<(), CeremonyError> {
        let id = hex::decode(&intent.cka_id).unwrap_or_default();
        if let Some(found) = self.found(&intent.kid, &id).filter(|found| found.problems.is_empty())
            && let Ok(handle) = inventory::handle(self.session, &intent.kid, &id, intent.role)
            && self.try_out(&found, handle).is_ok()
        {
            return self.pin(intent.kid.clone(), None, intent.role, &found);
        }
        self.clear_away(&intent.kid, &id)?;
        self.make_as(intent.kid.clone(), &id, intent.role)
    }

    fn objects(&self, label: &str, id: &[u8]) -> Result<Vec<ObjectHandle>, HsmError> {
        let template =
            [Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec()), Attribute::Id(id.to_vec())];
        inventory::find(self.session, &template, MAX_HALVES)
    }

    /// Destroys every object of this label and id, and looks again.
    fn clear_away(&mut self, label: &str, id: &[u8]) -> Result<(), CeremonyError> {
        let all = self.objects(label, id)?;
        if all.is_empty() {
            return Ok(());
        }
        for handle in all {
            self.session.destroy_object(handle).map_err(|error| HsmError::call("destroy an object", &error))?;
        }
        if !self.objects(label, id)?.is_empty() {
            return Err(CeremonyError::Request(format!("{label} is still in the HSM after it was destroyed")));
        }
        self.inventory = Inventory::read(self.session)?;
        Ok(())
    }

    fn adopt_once(
        &mut self,
        going: &mut Going<'_>,
        at: usize,
        tenant: &str,
        purpose: &str,
        cka_id: &str,
    ) -> Result<(), CeremonyError> {
        let (role, id) = (role_of(purpose), super::cka_id(cka_id)?);
        let state = going.run()?.steps.get(at);
        let begun = state.and_then(|state| state.intents.first()).map(|intent| intent.kid.clone());
        let taken = |kid: &String| self.pins.get(kid).is_some_and(|pin| pin.id() == id);
        if let Some(kid) = begun.filter(taken) {
            self.made.push(kid);
            return Ok(());
        }
        let kid = label(role, tenant, purpose, self.next_version(role, tenant, purpose))?;
        if let Some(state) = going.run()?.steps.get_mut(at) {
            state.intents = vec![Intent { kid, cka_id: hex::encode(&id), role }];
        }
        going.write()?;
        self.adopt(role, tenant, purpose, &id)
    }

    fn ring(&self) -> Ring {
        Ring::new(self.inventory.clone(), &self.pins, &self.device.serial)
    }

    /// The newest audit key that can be used, of the tenant that a step is about or else of any.
    pub(super) fn audit_key(&self, step: Option<&Step>) -> Option<String> {
        let tenant = match step {
            Some(Step::Init { tenant, .. } | Step::Rotate { tenant, .. } | Step::Adopt { tenant, .. }) => {
                Some(tenant.as_str())
            }
            Some(Step::RetireSeal { kid } | Step::Destroy { kid, .. } | Step::Compromise { kid }) => {
                Label::parse(kid).map(|own| own.tenant)
            }
            _ => None,
        };
        let ring = self.ring();
        let usable = ring.keys().iter().filter(|key| key.usable() && key.role == KeyRole::Audit);
        let of = |kid: &str| Label::parse(kid).map(|own| (Some(own.tenant) == tenant, own.version));
        usable.max_by_key(|key| of(&key.kid)).map(|key| key.kid.clone())
    }

    /// The pin of a key that is going to be out of service.
    fn pinned(&self, kid: &str) -> Result<&PinnedKey, CeremonyError> {
        self.pins.get(kid).ok_or_else(|| CeremonyError::Request(format!("there is no key {kid}")))
    }

    fn change_pin(&mut self, kid: &str, change: impl FnOnce(&mut PinnedKey)) -> Result<(), CeremonyError> {
        if let Some(pin) = self.pins.keys.iter_mut().find(|key| key.kid == kid) {
            change(pin);
        }
        self.write_pins()
    }

    /// Gives up the ledger that the signer has signed last.
    fn new_ledger(&self, records: u64, bounds: Option<&Bounds>) -> Result<String, CeremonyError> {
        let unbound =
            || CeremonyError::Request("without the signer's bounds (hsm.bounds) no checkpoint is signed".to_owned());
        let origin = origin(&bounds.ok_or_else(unbound)?.issuer);
        if !marks::give_up(&make_own_dir(self.state_dir)?, &origin, records)? {
            return Err(CeremonyError::Request(format!(
                "the last checkpoint is not of {records} records any more; nothing was given up: plan it again"
            )));
        }
        tracing::warn!(name: "ledger_given_up", records, "checkpoints go on with another ledger");
        Ok(format!("the ledger of {records} records was given up"))
    }

    /// Deletes a key. Whoever planned it says until when something verifies with it; what this process knows itself must not
    /// contradict that.
    fn destroy(&mut self, kid: &str, verifies_until: i64, bounds: Option<&Bounds>) -> Result<(), CeremonyError> {
        let now = Moment::now().unix();
        let pin = self.pinned(kid)?.clone();
        if pin.destroyed.is_none() {
            self.may_be_destroyed(&pin, verifies_until, bounds, now)
                .map_err(|why| CeremonyError::Request(format!("{kid} can't be destroyed: {why}")))?;
            // First the list: from here on no signer uses it, and a kill leaves a key that the next try destroys.
            self.change_pin(kid, |pin| pin.destroyed = Some(now))?;
        }
        self.clear_away(pin.label(), &pin.id())
    }

    fn may_be_destroyed(
        &self,
        pin: &PinnedKey,
        verifies_until: i64,
        bounds: Option<&Bounds>,
        now: i64,
    ) -> Result<(), String> {
        let own = Label::parse(&pin.kid).ok_or("its name is spoilt")?;
        if now <= verifies_until {
            return Err(format!("something may verify with it until {verifies_until}, and it is {now}"));
        }
        if pin.compromised.is_some() {
            return Ok(());
        }
        if own.role == KeyRole::Seal && pin.retired.is_none() {
            return Err("it is not retired: what it sealed could not be opened any more".to_owned());
        }
        let ring = self.ring();
        let newer = |key: &&PinnedKey| {
            let usable = ring.position(&key.kid).and_then(|at| ring.get(at)).is_some_and(RingKey::usable);
            let label = Label::parse(&key.kid);
            usable
                && label.is_some_and(|l| {
                    l.role == own.role && l.tenant == own.tenant && l.purpose == own.purpose && l.version > own.version
                })
        };
        let oldest = self.pins.keys.iter().filter(newer).map(|key| key.created).min();
        let Some(since) = oldest else { return Err("it is the newest of its kind that can be used".to_owned()) };
        let longest = bounds.and_then(|bounds| bounds.tenants.get(own.tenant)).map_or(0, |tenant| tenant.max_ttl_s);
        let last = since.saturating_add(longest);
        if own.role == KeyRole::Passport && now <= last {
            return Err(format!(
                "by the signer's own bounds something may verify with it until {last}, and it is {now}"
            ));
        }
        Ok(())
    }

    fn compromise(&mut self, kid: &str) -> Result<(), CeremonyError> {
        self.pinned(kid)?;
        self.change_pin(kid, |pin| {
            pin.compromised.get_or_insert(Moment::now().unix());
        })
    }

    /// Remembers keys whose HSM is lost. Those that are pinned are known already, and have to be the same.
    fn restore(&mut self, keys: &[LostKey]) -> Result<usize, CeremonyError> {
        let wrong = |kid: &str, why: &str| CeremonyError::Request(format!("{kid} can't be restored: {why}"));
        let mut count = 0;
        for LostKey { kid, public } in keys {
            let own = Label::parse(kid).ok_or_else(|| wrong(kid, "it is no kid"))?;
            if (own.role == KeyRole::Seal) == public.is_some() {
                return Err(wrong(kid, "a key that signs has a public key, and a seal key has none"));
            }
            match self.pins.get(kid) {
                Some(pin) if pin.public == *public => continue,
                Some(_) => return Err(wrong(kid, "another key has its name")),
                None => {}
            }
            // No object has this id: it only has to be one's own.
            let id: [u8; 32] = Sha256::digest(kid).into();
            self.pins.keys.push(PinnedKey {
                kid: kid.clone(),
                label: None,
                role: own.role,
                cka_id: hex::encode(&id),
                public: public.clone(),
                created: Moment::now().unix(),
                module: LOST.to_owned(),
                token_serial: LOST.to_owned(),
                mechanisms_bound: false,
                retired: None,
                compromised: None,
                destroyed: None,
            });
            count += 1;
        }
        self.write_pins()?;
        Ok(count)
    }

    /// What the HSM says of a key that was made, and its word for this plan.
    fn facts(&self, kid: &str, plan_hash: &[u8; 32]) -> Result<KeyFacts, CeremonyError> {
        let unfit = |problem: String| CeremonyError::Unfit { kid: kid.to_owned(), problem };
        let pin = self.pinned(kid)?;
        let found = self.found(pin.label(), &pin.id()).ok_or_else(|| unfit("it can't be found again".to_owned()))?;
        let handle = inventory::handle(self.session, pin.label(), &pin.id(), pin.role)?;
        let challenge = found.public.map(|public| self.sign(&public, handle, &challenge(plan_hash, kid)));
        let challenge = challenge.transpose().map_err(unfit)?.map(|made| hex::encode(&made));
        let mechanism = if pin.role == KeyRole::Seal { "CKM_SHA256_HMAC" } else { "CKM_EDDSA" }.to_owned();
        let (kid, cka_id, public) = (pin.kid.clone(), pin.cka_id.clone(), pin.public.clone());
        Ok(KeyFacts { kid, cka_id, public, mechanism, attributes: found.attributes, challenge })
    }
}
