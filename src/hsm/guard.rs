//! What a passport key signs, decided from the payload alone and the signer's own bounds. Pure.
//!
//! The front may have been taken over; then this is all that stands between its bytes and the key. So the key is the one
//! that the payload names, the payload must be one that a passport verifier reads, and tenant, purpose, lifetime and
//! clock are checked against a file that the front can't write.
//!
//! What is signed is a payload, which begins with `{`, or the JWS input of one, which begins with `eyJ`. So no bytes are
//! both, and the signature of one is never the signature of the other.

use super::label::{AUDIT_PURPOSE, SEAL_PURPOSE};
use super::ring::Ring;
use crate::clock::Moment;
pub use crate::passport::bounds::MAX_PAYLOAD;
use crate::passport::{Fault, KidRef, MAX_TICKET_TTL_S, View, jws, scan};
use crate::wire::link::{KeyRole, LinkRefusal};
use crate::wire::sealed::{Namespace, NamespacePattern, SealKid, is_name};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

/// The signer's own bounds, from its own file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The only `iss`.
    pub issuer: String,
    /// Tenants by name, with their instance part if they have one. A tenant that is not here gets nothing.
    pub tenants: BTreeMap<String, TenantBounds>,
    /// How far `iat` may be from the signer's clock, in seconds, either way.
    pub max_iat_drift_s: i64,
}

/// Bounds of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantBounds {
    /// Purposes for which its keys may sign.
    pub purposes: BTreeSet<String>,
    /// The longest lifetime, `exp` − `iat`, in seconds.
    pub max_ttl_s: i64,
    /// Signatures a second for each of its keys, with a burst of as many; `None` is without limit. For seal keys: secrets
    /// sealed or opened.
    pub rate_per_s: Option<NonZeroU32>,
    /// In which of its namespaces secrets are sealed and opened.
    pub namespaces: Vec<NamespacePattern>,
}

/// Decides whether `message`, a payload or the JWS input of one, may be signed, and by which key of the ring.
///
/// # Errors
/// The [`LinkRefusal`] that says why not.
pub fn judge(message: &[u8], ring: &Ring, bounds: &Bounds, now: Moment) -> Result<usize, LinkRefusal> {
    if !message.starts_with(jws::OPENING.as_bytes()) {
        return judge_payload(message, ring, bounds, now).map(|(position, _)| position);
    }
    let payload = jws::payload_of(message).ok_or(LinkRefusal::Malformed)?;
    let (position, kid) = judge_payload(&payload, ring, bounds, now)?;
    // The header is written, not read. What is signed is what this code would have written for a payload that it would have
    // signed, whatever else a header might say.
    let ours = jws::signing_input(kid, &payload);
    if ours.as_bytes() == message { Ok(position) } else { Err(LinkRefusal::Malformed) }
}

fn judge_payload<'p>(
    payload: &'p [u8],
    ring: &Ring,
    bounds: &Bounds,
    now: Moment,
) -> Result<(usize, KidRef<'p>), LinkRefusal> {
    if payload.len() > MAX_PAYLOAD || payload.first() != Some(&b'{') {
        return Err(LinkRefusal::Malformed);
    }
    let view = scan(payload).map_err(|refused| unreadable(refused.fault))?;
    if view.iss != *bounds.issuer {
        return Err(LinkRefusal::ForeignIssuer);
    }
    let kid = KidRef::parse(view.kid).map_err(|_| LinkRefusal::Malformed)?;
    let tenant = bounds.tenants.get(kid.tenant()).ok_or(LinkRefusal::TenantDenied)?;
    if matches!(kid.purpose(), AUDIT_PURPOSE | SEAL_PURPOSE) || !tenant.purposes.contains(kid.purpose()) {
        return Err(LinkRefusal::PurposeDenied);
    }
    let position = ring.position(view.kid).ok_or(LinkRefusal::UnknownKid)?;
    let key = ring.get(position).filter(|key| key.usable()).ok_or(LinkRefusal::UnknownKid)?;
    if key.role != KeyRole::Passport {
        return Err(LinkRefusal::PurposeDenied);
    }
    times(&view, tenant.max_ttl_s, bounds.max_iat_drift_s, now.unix())?;
    ticket(&view, kid)?;
    Ok((position, kid))
}

/// Decides whether secrets may be sealed or opened in this namespace under this name.
///
/// # Errors
/// The [`LinkRefusal`] that says why not.
pub fn judge_place<'a>(namespace: &'a str, name: &str, bounds: &Bounds) -> Result<Namespace<'a>, LinkRefusal> {
    let namespace = Namespace::parse(namespace).filter(|_| is_name(name)).ok_or(LinkRefusal::Malformed)?;
    let tenant = bounds.tenants.get(namespace.tenant()).ok_or(LinkRefusal::TenantDenied)?;
    match tenant.namespaces.iter().any(|pattern| pattern.covers(namespace)) {
        true => Ok(namespace),
        false => Err(LinkRefusal::NamespaceDenied),
    }
}

/// The key that seals in a namespace: the newest of its tenant's that is usable.
pub fn newest_seal_key<'a>(ring: &'a Ring, namespace: Namespace<'_>) -> Option<(usize, SealKid<'a>)> {
    let keys = ring.keys().iter().filter(|key| key.role == KeyRole::Seal && key.usable());
    let own = keys.filter_map(|key| SealKid::parse(&key.kid)).filter(|kid| kid.tenant() == namespace.tenant());
    let newest = own.max_by_key(|kid| kid.version())?;
    Some((ring.position(newest.as_str())?, newest))
}

/// The key that a sealed secret names, if secrets of this namespace can have been sealed with it.
///
/// # Errors
/// [`LinkRefusal::Unopenable`], whatever the blob is, for a retired key, too; [`LinkRefusal::UnknownKid`] where the key is known
/// and can't be used now.
pub fn seal_key_of(ring: &Ring, namespace: Namespace<'_>, kid: SealKid<'_>) -> Result<usize, LinkRefusal> {
    let own = ring.position(kid.as_str()).filter(|_| kid.tenant() == namespace.tenant());
    let position = own.ok_or(LinkRefusal::Unopenable)?;
    match ring.get(position).filter(|key| key.role == KeyRole::Seal) {
        Some(key) if key.usable() => Ok(position),
        Some(key) if key.retired => Err(LinkRefusal::Unopenable),
        Some(_) => Err(LinkRefusal::UnknownKid),
        None => Err(LinkRefusal::Unopenable),
    }
}

/// Faults of spelling, apart from those of content, so that an operator sees which side is wrong.
const fn unreadable(fault: Fault) -> LinkRefusal {
    match fault {
        Fault::Escape | Fault::Number | Fault::MemberOrder | Fault::DuplicateMember | Fault::Unexpected => {
            LinkRefusal::NotCanonical
        }
        _ => LinkRefusal::Malformed,
    }
}

fn times(view: &View<'_>, max_ttl_s: i64, max_drift_s: i64, now: i64) -> Result<(), LinkRefusal> {
    // Saturating: a payload's integers are within 2^53, but nothing here depends on it.
    let lifetime = view.exp.saturating_sub(view.iat);
    if lifetime < 1 || lifetime > max_ttl_s {
        return Err(LinkRefusal::LifetimeDenied);
    }
    if view.iat.saturating_sub(now).saturating_abs() > max_drift_s {
        return Err(LinkRefusal::ClockDenied);
    }
    match view.nbf {
        // A later start is fine while something of the lifetime is left; an earlier one than `iat` claims a past in which
        // nobody had asked.
        Some(nbf) if nbf >= view.exp || nbf < view.iat.saturating_sub(max_drift_s) => Err(LinkRefusal::ClockDenied),
        _ => Ok(()),
    }
}

/// A ticket is accepted once, soon, by one, and is of its passport's tenant; whoever has the front could have its passport as well.
fn ticket(view: &View<'_>, kid: KidRef<'_>) -> Result<(), LinkRefusal> {
    let Some(par) = view.par else { return Ok(()) };
    if view.exp.saturating_sub(view.iat) > i64::from(MAX_TICKET_TTL_S) {
        return Err(LinkRefusal::LifetimeDenied);
    }
    if par.iat > view.iat {
        return Err(LinkRefusal::ClockDenied);
    }
    if KidRef::parse(par.kid).is_ok_and(|parent| parent.tenant() != kid.tenant()) {
        return Err(LinkRefusal::TenantDenied);
    }
    if view.limit == Some(1) && view.aud.iter().count() == 1 { Ok(()) } else { Err(LinkRefusal::Malformed) }
}

/// The rate of each key. Kept over reinitialisations, so that asking for one does not refill it.
#[derive(Debug, Default)]
pub struct Rates {
    by_kid: Mutex<HashMap<String, DefaultDirectRateLimiter>>,
}

impl Rates {
    /// Counts one signature by `kid`, a key that [`judge`] chose: so there are no more entries than keys.
    ///
    /// # Errors
    /// [`LinkRefusal::RateLimited`].
    pub fn spend(&self, kid: &str, bounds: &Bounds) -> Result<(), LinkRefusal> {
        let seal = || SealKid::parse(kid).map(SealKid::tenant);
        let tenant =
            KidRef::parse(kid).ok().map(KidRef::tenant).or_else(seal).and_then(|name| bounds.tenants.get(name));
        let Some(rate) = tenant.and_then(|tenant| tenant.rate_per_s) else { return Ok(()) };
        let mut by_kid = self.by_kid.lock().unwrap_or_else(PoisonError::into_inner);
        if !by_kid.contains_key(kid) {
            by_kid.insert(kid.to_owned(), RateLimiter::direct(Quota::per_second(rate)));
        }
        match by_kid.get(kid).map(RateLimiter::check) {
            Some(Err(_)) => Err(LinkRefusal::RateLimited),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
