//! Making one key, and believing it only after reading it back.

use super::CeremonyError;
use crate::hsm::inventory::{Found, Inventory};
use crate::hsm::label::{Label, label};
use crate::hsm::pins::{PinnedKey, Pins};
use crate::hsm::{HsmError, ec};
use crate::passport::hex;
use crate::statement::transcript::Device;
use crate::wire::link::{KeyRole, PROBE_PREFIX};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use std::path::Path;
use strict25519::PreparedKey;
use zeroize::Zeroize as _;

/// Bytes of a fresh `CKA_ID`: random, so that no two ceremonies choose the same.
const ID_BYTES: usize = 16;
/// Bytes of a seal key, which is an HMAC-SHA256 key (RFC 2104 §3: as long as the hash).
const SEAL_BYTES: Ulong = Ulong::new(32);

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
            KeyRole::Seal => generate_seal(self.session, &kid, id)?,
            KeyRole::Passport | KeyRole::Audit => generate_pair(self.session, &kid, id)?,
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

    /// Signs once. A signing key must verify under the public key that was read back; a seal key must repeat itself.
    pub(super) fn try_out(&self, found: &Found, handle: ObjectHandle) -> Result<(), String> {
        let mut message = [PROBE_PREFIX, &[0; 32]].concat();
        if let Some(challenge) = message.last_chunk_mut::<32>() {
            getrandom::fill(challenge).map_err(|error| error.to_string())?;
        }
        let sign = |mechanism: &Mechanism<'_>| {
            self.session.sign(mechanism, handle, &message).map_err(|error| format!("it does not sign: {error}"))
        };
        let Some(public) = found.public else {
            let (first, second) = (sign(&Mechanism::Sha256Hmac)?, sign(&Mechanism::Sha256Hmac)?);
            let good = first.len() == 32 && first == second;
            return if good { Ok(()) } else { Err("its HMAC is not 32 bytes, or not the same twice".to_owned()) };
        };
        self.sign(&public, handle, &message).map(drop)
    }

    /// Signs, and lets no signature out that does not verify: beside a good one it would give the key away.
    pub(super) fn sign(&self, public: &[u8; 32], handle: ObjectHandle, message: &[u8]) -> Result<[u8; 64], String> {
        let key = PreparedKey::new(public).map_err(|error| format!("its public key is unfit: {error}"))?;
        let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
        let signed = self.session.sign(&mechanism, handle, message);
        let mut made = signed.map_err(|error| format!("it does not sign: {error}"))?;
        let signature = <[u8; 64]>::try_from(made.as_slice()).ok().filter(|made| key.verify(message, made));
        made.zeroize();
        signature.ok_or_else(|| "its signature does not verify".to_owned())
    }
}

/// An id that no other key has.
pub(super) fn fresh_id() -> Result<Vec<u8>, CeremonyError> {
    let mut id = vec![0; ID_BYTES];
    getrandom::fill(&mut id)
        .map_err(|error| HsmError::Host("get random bytes", std::io::Error::other(error.to_string())))?;
    Ok(id)
}

/// Generates an Ed25519 pair. Modules differ in how they want the curve named and whether they take
/// `CKA_ALLOWED_MECHANISMS`; a refused template has made nothing, so the next is tried.
fn generate_pair(session: &Session, kid: &str, id: &[u8]) -> Result<ObjectHandle, HsmError> {
    let attempts =
        [(&ec::CURVE_NAME[..], true), (&ec::OID[..], true), (&ec::CURVE_NAME[..], false), (&ec::OID[..], false)];
    let mut refused = None;
    for (curve, bind) in attempts {
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Label(kid.as_bytes().to_vec()),
            Attribute::Id(id.to_vec()),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::EcParams(curve.to_vec()),
            Attribute::Verify(true),
            Attribute::Encrypt(false),
            Attribute::Wrap(false),
        ];
        let mut private = secret_template(kid, id, KeyType::EC_EDWARDS);
        private.push(Attribute::SignRecover(false));
        if bind {
            private.push(Attribute::AllowedMechanisms(vec![MechanismType::EDDSA]));
        }
        match session.generate_key_pair(&Mechanism::EccEdwardsKeyPairGen, &public, &private) {
            Ok((_, handle)) => return Ok(handle),
            Err(error) if is_template_matter(&error) => refused = Some(error),
            Err(error) => return Err(HsmError::call("generate a key pair", &error)),
        }
    }
    Err(refused.map_or(HsmError::KeyGone(kid.to_owned()), |error| HsmError::call("generate a key pair", &error)))
}

/// Generates an HMAC key.
fn generate_seal(session: &Session, kid: &str, id: &[u8]) -> Result<ObjectHandle, HsmError> {
    let mut template = secret_template(kid, id, KeyType::GENERIC_SECRET);
    template.push(Attribute::ValueLen(SEAL_BYTES));
    template.push(Attribute::Encrypt(false));
    template.push(Attribute::Wrap(false));
    template.push(Attribute::Verify(false));
    let mut bound = template.clone();
    bound.push(Attribute::AllowedMechanisms(vec![MechanismType::SHA256_HMAC]));
    match session.generate_key(&Mechanism::GenericSecretKeyGen, &bound) {
        Err(error) if is_template_matter(&error) => session.generate_key(&Mechanism::GenericSecretKeyGen, &template),
        other => other,
    }
    .map_err(|error| HsmError::call("generate a seal key", &error))
}

/// What every private and secret key gets: it stays inside, signs, and does nothing else. SoftHSM grants whatever is not
/// denied here.
fn secret_template(kid: &str, id: &[u8], key_type: KeyType) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(kid.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
        Attribute::KeyType(key_type),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]
}

const fn is_template_matter(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::AttributeTypeInvalid
                | RvError::AttributeValueInvalid
                | RvError::TemplateInconsistent
                | RvError::CurveNotSupported
                | RvError::DomainParamsInvalid,
            _
        )
    )
}
