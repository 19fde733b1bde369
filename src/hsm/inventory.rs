//! Which keys are in the token, with which attributes. Reading only: what is wrong is named, never repaired.

use super::label::Label;
use super::{HsmError, ec};
use crate::passport::hex;
use crate::statement::transcript::Attributes;
use crate::wire::link::KeyRole;
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

/// Beyond this the token is not ours alone, and reading it would take the start of the signer.
pub const MAX_OBJECTS: usize = 4096;

/// A private or secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// `CKA_LABEL`: for signing keys of ours the kid.
    pub label: String,
    /// What the label says it is for. A foreign key is held to what its class can be: a private key to
    /// [`KeyRole::Passport`], which says the same of its attributes as [`KeyRole::Audit`], a secret one to [`KeyRole::Seal`].
    pub role: KeyRole,
    /// `CKA_ID`.
    pub id: Vec<u8>,
    /// From the public object of the same `CKA_ID`; a seal key has none.
    pub public: Option<[u8; 32]>,
    /// `CKA_ALLOWED_MECHANISMS` holds exactly the mechanism of the role. SoftHSM 2.6 stores none for Edwards keys.
    pub mechanisms_bound: bool,
    /// What the token does not say of its origin: `CKA_LOCAL` and others.
    pub unsaid: Vec<&'static str>,
    /// What it says, for transcripts.
    pub attributes: Attributes,
    /// Why it can't be trusted; empty if it can.
    pub problems: Vec<String>,
}

/// All that matters in a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Private and secret keys with labels of ours.
    pub keys: Vec<Found>,
    /// Private and secret keys with other labels: another program's, or one that a ceremony adopts.
    pub others: Vec<Found>,
    /// Every label of ours, orphans' included: no version among them is free.
    pub labels: Vec<String>,
    /// Objects that belong to no key: a public key without its private one, a label that is nearly ours.
    pub orphans: Vec<String>,
}

/// One object's attributes, those that the token answered.
#[derive(Default)]
struct Object {
    label: String,
    id: Vec<u8>,
    key_type: Option<KeyType>,
    params: Option<Vec<u8>>,
    point: Option<Vec<u8>>,
    allowed: Option<Vec<MechanismType>>,
    private: Option<bool>,
    sensitive: Option<bool>,
    extractable: Option<bool>,
    sign: Option<bool>,
    always_authenticate: bool,
    local: Option<bool>,
    always_sensitive: Option<bool>,
    never_extractable: Option<bool>,
    /// Other things that the key may do.
    may: Vec<&'static str>,
}

const ASKED: [AttributeType; 21] = [
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::KeyType,
    AttributeType::EcParams,
    AttributeType::EcPoint,
    AttributeType::AllowedMechanisms,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::Extractable,
    AttributeType::Sign,
    AttributeType::AlwaysAuthenticate,
    AttributeType::Local,
    AttributeType::AlwaysSensitive,
    AttributeType::NeverExtractable,
    AttributeType::SignRecover,
    AttributeType::Encrypt,
    AttributeType::Decrypt,
    AttributeType::Wrap,
    AttributeType::Unwrap,
    AttributeType::Derive,
    AttributeType::Verify,
];

impl Object {
    fn read(session: &Session, handle: ObjectHandle) -> Result<Self, HsmError> {
        let attributes = session
            .get_attributes(handle, &ASKED)
            .map_err(|error| HsmError::call("read a key's attributes", &error))?;
        let mut object = Self::default();
        for attribute in attributes {
            object.take(attribute);
        }
        Ok(object)
    }

    fn take(&mut self, attribute: Attribute) {
        let mut may = |granted: bool, name| {
            if granted {
                self.may.push(name);
            }
        };
        match attribute {
            // A label that is not text is nobody's of ours.
            Attribute::Label(bytes) => self.label = String::from_utf8(bytes).unwrap_or_default(),
            Attribute::Id(bytes) => self.id = bytes,
            Attribute::KeyType(key_type) => self.key_type = Some(key_type),
            Attribute::EcParams(bytes) => self.params = Some(bytes),
            Attribute::EcPoint(bytes) => self.point = Some(bytes),
            Attribute::AllowedMechanisms(list) => self.allowed = Some(list),
            Attribute::Private(set) => self.private = Some(set),
            Attribute::Sensitive(set) => self.sensitive = Some(set),
            Attribute::Extractable(set) => self.extractable = Some(set),
            Attribute::Sign(set) => self.sign = Some(set),
            Attribute::AlwaysAuthenticate(set) => self.always_authenticate = set,
            Attribute::Local(set) => self.local = Some(set),
            Attribute::AlwaysSensitive(set) => self.always_sensitive = Some(set),
            Attribute::NeverExtractable(set) => self.never_extractable = Some(set),
            Attribute::SignRecover(set) => may(set, "CKA_SIGN_RECOVER"),
            Attribute::Encrypt(set) => may(set, "CKA_ENCRYPT"),
            Attribute::Decrypt(set) => may(set, "CKA_DECRYPT"),
            Attribute::Wrap(set) => may(set, "CKA_WRAP"),
            Attribute::Unwrap(set) => may(set, "CKA_UNWRAP"),
            Attribute::Derive(set) => may(set, "CKA_DERIVE"),
            // Right for a public key, whose problems nobody asks for.
            Attribute::Verify(set) => may(set, "CKA_VERIFY"),
            _ => {}
        }
    }

    /// What a private or secret key must and must not be (DESIGN §8).
    fn problems(&self, role: KeyRole) -> Vec<String> {
        let (wanted, name) = match role {
            KeyRole::Seal => (KeyType::GENERIC_SECRET, "CKK_GENERIC_SECRET"),
            KeyRole::Passport | KeyRole::Audit => (KeyType::EC_EDWARDS, "CKK_EC_EDWARDS"),
        };
        let mut problems = Vec::new();
        if self.key_type != Some(wanted) {
            problems.push(format!("its CKA_KEY_TYPE is not {name}"));
        }
        if self.private != Some(true) {
            problems.push("CKA_PRIVATE is not set".to_owned());
        }
        if self.sensitive != Some(true) {
            problems.push("CKA_SENSITIVE is not set".to_owned());
        }
        if self.extractable != Some(false) {
            problems.push("CKA_EXTRACTABLE is set".to_owned());
        }
        if self.sign != Some(true) {
            problems.push("CKA_SIGN is not set".to_owned());
        }
        if self.always_authenticate {
            problems.push("CKA_ALWAYS_AUTHENTICATE is set: it wants the PIN for each signature".to_owned());
        }
        // Set by the token alone, and never by a template (PKCS#11 3.0 §4.7, §4.9).
        problems
            .extend(self.origin().iter().filter(|(_, set, _)| *set == Some(false)).map(|(.., why)| (*why).to_owned()));
        if !self.may.is_empty() {
            problems.push(format!("it may do more than sign: {}", self.may.join(", ")));
        }
        if self.id.is_empty() {
            problems.push("it has no CKA_ID".to_owned());
        }
        if self.allowed.as_ref().is_some_and(|list| !list.is_empty() && !self.bound_to(role)) {
            problems.push("CKA_ALLOWED_MECHANISMS allows others than its own".to_owned());
        }
        problems
    }

    /// What the token says of where it comes from, and what it means if it says no.
    const fn origin(&self) -> [(&'static str, Option<bool>, &'static str); 3] {
        [
            ("CKA_LOCAL", self.local, "CKA_LOCAL is not set: it was brought into the token, and may exist outside"),
            ("CKA_ALWAYS_SENSITIVE", self.always_sensitive, "CKA_ALWAYS_SENSITIVE is not set: it could once be read"),
            ("CKA_NEVER_EXTRACTABLE", self.never_extractable, "CKA_NEVER_EXTRACTABLE is not set: it could once leave"),
        ]
    }

    fn attributes(&self, role: KeyRole) -> Attributes {
        Attributes {
            private: self.private,
            sensitive: self.sensitive,
            extractable: self.extractable,
            sign: self.sign,
            local: self.local,
            always_sensitive: self.always_sensitive,
            never_extractable: self.never_extractable,
            mechanisms_bound: self.bound_to(role),
        }
    }

    fn bound_to(&self, role: KeyRole) -> bool {
        let own = match role {
            KeyRole::Seal => MechanismType::SHA256_HMAC,
            KeyRole::Passport | KeyRole::Audit => MechanismType::EDDSA,
        };
        self.allowed.as_deref() == Some(&[own])
    }
}

impl Inventory {
    /// Reads every key of the token. The session must be logged in.
    ///
    /// # Errors
    /// [`HsmError::Call`] or [`HsmError::TooManyObjects`].
    pub fn read(session: &Session) -> Result<Self, HsmError> {
        Self::of(session, true)
    }

    /// The same of the keys that this process's sessions hold, and the token does not.
    ///
    /// # Errors
    /// As [`Inventory::read`].
    pub fn of_sessions(session: &Session) -> Result<Self, HsmError> {
        Self::of(session, false)
    }

    fn of(session: &Session, kept: bool) -> Result<Self, HsmError> {
        let private = objects(session, kept, ObjectClass::PRIVATE_KEY)?;
        let public = objects(session, kept, ObjectClass::PUBLIC_KEY)?;
        let secret = objects(session, kept, ObjectClass::SECRET_KEY)?;
        let mut made = Self::default();
        let all = private.iter().chain(&public).chain(&secret);
        made.labels = all.map(|object| object.label.clone()).filter(|label| Label::claims(label)).collect();
        for object in &private {
            made.add(object, &[KeyRole::Passport, KeyRole::Audit], &public);
        }
        for object in &secret {
            made.add(object, &[KeyRole::Seal], &[]);
        }
        for object in public.iter().filter(|object| Label::claims(&object.label)) {
            if !private.iter().any(|other| other.id == object.id && other.label == object.label) {
                made.orphans.push(format!(
                    "public key \"{}\" (CKA_ID {}) has no private key",
                    object.label,
                    hex::encode(&object.id)
                ));
            }
        }
        made.mark_duplicates();
        Ok(made)
    }

    /// `roles`: what a key of this class can be; the first is what a foreign one is held to.
    fn add(&mut self, object: &Object, roles: &[KeyRole], public: &[Object]) {
        let label = Label::parse(&object.label).filter(|label| roles.contains(&label.role));
        let (Some(role), ours) = (label.map(|label| label.role).or(roles.first().copied()), label.is_some()) else {
            return;
        };
        if !ours && Label::claims(&object.label) {
            self.orphans.push(format!("the label \"{}\" is not one that passportd makes", object.label));
            return;
        }
        let mut problems = object.problems(role);
        let mut key = None;
        if role != KeyRole::Seal {
            match public_of(object, public) {
                Ok((found, label)) => {
                    key = Some(found);
                    if ours && label != object.label {
                        problems.push(format!("its public key has another label, \"{label}\""));
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        let unsaid = object.origin().iter().filter(|(_, set, _)| set.is_none()).map(|(name, ..)| *name).collect();
        let list = if ours { &mut self.keys } else { &mut self.others };
        list.push(Found {
            label: object.label.clone(),
            role,
            id: object.id.clone(),
            public: key,
            mechanisms_bound: object.bound_to(role),
            unsaid,
            attributes: object.attributes(role),
            problems,
        });
    }

    /// Two keys of one label or one id: neither can be told from the other, so neither is used.
    fn mark_duplicates(&mut self) {
        let all = || self.keys.iter().chain(&self.others);
        let names: Vec<(String, Vec<u8>)> = all().map(|key| (key.label.clone(), key.id.clone())).collect();
        for key in self.keys.iter_mut().chain(&mut self.others) {
            // Foreign keys may share a label: nothing is found by it alone.
            if Label::claims(&key.label) && names.iter().filter(|(label, _)| *label == key.label).count() > 1 {
                key.problems.push("another key has the same CKA_LABEL".to_owned());
            }
            if names.iter().filter(|(_, id)| *id == key.id).count() > 1 {
                key.problems.push("another key has the same CKA_ID".to_owned());
            }
        }
    }
}

/// The public key of a private one, by `CKA_ID`, with its label.
fn public_of<'a>(private: &Object, public: &'a [Object]) -> Result<([u8; 32], &'a str), String> {
    let fits: Vec<&Object> = public.iter().filter(|object| object.id == private.id).collect();
    let object = match fits.as_slice() {
        [one] => one,
        [] => return Err("it has no public key with the same CKA_ID".to_owned()),
        _ => return Err("several public keys have its CKA_ID".to_owned()),
    };
    if !object.params.as_deref().is_some_and(ec::is_ed25519) {
        return Err("its CKA_EC_PARAMS are not edwards25519".to_owned());
    }
    let point = object.point.as_deref().and_then(ec::public_key);
    point.map(|point| (point, object.label.as_str())).ok_or_else(|| "its CKA_EC_POINT is not 32 bytes".to_owned())
}

fn objects(session: &Session, kept: bool, class: ObjectClass) -> Result<Vec<Object>, HsmError> {
    let handles = find(session, &[Attribute::Token(kept), Attribute::Class(class)], MAX_OBJECTS)?;
    handles.into_iter().map(|handle| Object::read(session, handle)).collect()
}

/// At most `limit` objects that fit; more are an error.
///
/// # Errors
/// [`HsmError::Call`] or [`HsmError::TooManyObjects`].
pub(crate) fn find(session: &Session, template: &[Attribute], limit: usize) -> Result<Vec<ObjectHandle>, HsmError> {
    let fails = |error: cryptoki::error::Error| HsmError::call("find objects", &error);
    let all = session.iter_objects(template).map_err(fails)?;
    at_most(limit, all.map(|handle| handle.map_err(fails)))
}

fn at_most<T>(limit: usize, all: impl Iterator<Item = Result<T, HsmError>>) -> Result<Vec<T>, HsmError> {
    let mut found = Vec::new();
    for one in all {
        if found.len() == limit {
            return Err(HsmError::TooManyObjects(limit));
        }
        found.push(one?);
    }
    Ok(found)
}

/// The handle of the one private (or secret) key with this label and id, in this session.
///
/// # Errors
/// [`HsmError::Call`], or [`HsmError::KeyGone`] when it is not there exactly once.
pub(crate) fn handle(session: &Session, label: &str, id: &[u8], role: KeyRole) -> Result<ObjectHandle, HsmError> {
    handle_of(session, true, (label, id), role)
}

/// The same of a key that the token holds, or (not `kept`) a session of this process.
///
/// # Errors
/// As [`handle`].
pub(crate) fn handle_of(
    session: &Session,
    kept: bool,
    (label, id): (&str, &[u8]),
    role: KeyRole,
) -> Result<ObjectHandle, HsmError> {
    let class = match role {
        KeyRole::Seal => ObjectClass::SECRET_KEY,
        KeyRole::Passport | KeyRole::Audit => ObjectClass::PRIVATE_KEY,
    };
    let template = [
        Attribute::Token(kept),
        Attribute::Class(class),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
    ];
    match find(session, &template, 2)?.as_slice() {
        [one] => Ok(*one),
        _ => Err(HsmError::KeyGone(label.to_owned())),
    }
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
