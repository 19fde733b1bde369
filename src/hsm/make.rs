//! Making one key, in the token or in a session, and trying it.

use super::inventory::Found;
use super::{HsmError, ec};
use crate::wire::link::PROBE_PREFIX;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::types::Ulong;
use strict25519::PreparedKey;
use zeroize::Zeroize as _;

/// Bytes of a fresh `CKA_ID`: random, so that no two ceremonies choose the same.
const ID_BYTES: usize = 16;
/// Bytes of a seal key, which is an HMAC-SHA256 key (RFC 2104 §3: as long as the hash).
const SEAL_BYTES: Ulong = Ulong::new(32);

/// A `CKA_ID` for a new key.
///
/// # Errors
/// [`HsmError::Host`].
pub(crate) fn fresh_id() -> Result<Vec<u8>, HsmError> {
    let mut id = vec![0; ID_BYTES];
    getrandom::fill(&mut id)
        .map_err(|error| HsmError::Host("get random bytes", std::io::Error::other(error.to_string())))?;
    Ok(id)
}

/// Signs once. A signing key must verify under the public key that was read back; a seal key must repeat itself.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn try_out(session: &Session, found: &Found, handle: ObjectHandle) -> Result<(), String> {
    let mut message = [PROBE_PREFIX, &[0; 32]].concat();
    if let Some(challenge) = message.last_chunk_mut::<32>() {
        getrandom::fill(challenge).map_err(|error| error.to_string())?;
    }
    let sign = |mechanism: &Mechanism<'_>| {
        session.sign(mechanism, handle, &message).map_err(|error| format!("it does not sign: {error}"))
    };
    let Some(public) = found.public else {
        let (first, second) = (sign(&Mechanism::Sha256Hmac)?, sign(&Mechanism::Sha256Hmac)?);
        let good = first.len() == 32 && first == second;
        return if good { Ok(()) } else { Err("its HMAC is not 32 bytes, or not the same twice".to_owned()) };
    };
    self::sign(session, &public, handle, &message).map(drop)
}

/// Signs, and lets no signature out that does not verify: beside a good one it would give the key away.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn sign(
    session: &Session,
    public: &[u8; 32],
    handle: ObjectHandle,
    message: &[u8],
) -> Result<[u8; 64], String> {
    let key = PreparedKey::new(public).map_err(|error| format!("its public key is unfit: {error}"))?;
    let mechanism = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Pure));
    let signed = session.sign(&mechanism, handle, message);
    let mut made = signed.map_err(|error| format!("it does not sign: {error}"))?;
    let signature = <[u8; 64]>::try_from(made.as_slice()).ok().filter(|made| key.verify(message, made));
    made.zeroize();
    signature.ok_or_else(|| "its signature does not verify".to_owned())
}

/// Generates an Ed25519 pair. Modules differ in how they want the curve named and whether they take
/// `CKA_ALLOWED_MECHANISMS`; a refused template has made nothing, so the next is tried. `kept`: in the token; else the pair
/// goes with the session.
///
/// # Errors
/// [`HsmError::Call`].
pub(crate) fn key_pair(session: &Session, kid: &str, id: &[u8], kept: bool) -> Result<ObjectHandle, HsmError> {
    let attempts =
        [(&ec::CURVE_NAME[..], true), (&ec::OID[..], true), (&ec::CURVE_NAME[..], false), (&ec::OID[..], false)];
    let mut refused = None;
    for (curve, bind) in attempts {
        let public = [
            Attribute::Token(kept),
            Attribute::Private(false),
            Attribute::Label(kid.as_bytes().to_vec()),
            Attribute::Id(id.to_vec()),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::EcParams(curve.to_vec()),
            Attribute::Verify(true),
            Attribute::Encrypt(false),
            Attribute::Wrap(false),
        ];
        let mut private = secret_template(kid, id, KeyType::EC_EDWARDS, kept);
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

/// Generates an HMAC key, as [`key_pair`].
///
/// # Errors
/// The same.
pub(crate) fn seal_key(session: &Session, kid: &str, id: &[u8], kept: bool) -> Result<ObjectHandle, HsmError> {
    let mut template = secret_template(kid, id, KeyType::GENERIC_SECRET, kept);
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
fn secret_template(kid: &str, id: &[u8], key_type: KeyType, kept: bool) -> Vec<Attribute> {
    vec![
        Attribute::Token(kept),
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
