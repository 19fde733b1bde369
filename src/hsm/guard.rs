//! What a passport key signs, decided from the payload alone and the signer's own bounds. Pure.
//!
//! The front may have been taken over; then this is all that stands between its bytes and the key. So the key is the one
//! that the payload names, the payload must be one that a passport verifier reads, and tenant, purpose, lifetime and
//! clock are checked against a file that the front can't write.

use super::label::{AUDIT_PURPOSE, SEAL_PURPOSE};
use super::ring::Ring;
use crate::clock::Moment;
use crate::passport::{Fault, KidRef, View, scan};
use crate::wire::link::{KeyRole, LinkRefusal};
use crate::wire::sealed::{Namespace, NamespacePattern, SealKid, is_name};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

/// The largest payload that is signed, in bytes.
pub const MAX_PAYLOAD: usize = 16 * 1024;

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

/// Decides whether `payload` may be signed, and by which key of the ring.
///
/// # Errors
/// The [`LinkRefusal`] that says why not.
pub fn judge(payload: &[u8], ring: &Ring, bounds: &Bounds, now: Moment) -> Result<usize, LinkRefusal> {
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
    Ok(position)
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
mod tests {
    use super::*;
    use crate::hsm::inventory::{Found, Inventory};
    use crate::hsm::label::Label;
    use crate::hsm::pins::{PinnedKey, Pins};
    use crate::passport::{Cap, Claims, hex};

    const NOW: i64 = 1_700_000_000;

    fn bounds() -> Bounds {
        let tenant = TenantBounds {
            purposes: BTreeSet::from(["auth".to_owned(), "audit".to_owned()]),
            max_ttl_s: 3600,
            rate_per_s: NonZeroU32::new(3),
            namespaces: vec![NamespacePattern::parse("t1/billing/*").unwrap()],
        };
        Bounds {
            issuer: "https://issuer.example".to_owned(),
            tenants: BTreeMap::from([("t1".to_owned(), tenant)]),
            max_iat_drift_s: 60,
        }
    }

    /// Usable: auth v1 and v2, audit v1. Unusable: auth v3.
    fn ring() -> Ring {
        let made = |kid: &str, n: u8, problems: Vec<String>| {
            let public = ed25519_dalek::SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
            let role = Label::parse(kid).unwrap().role;
            let found = Found {
                label: kid.to_owned(),
                role,
                id: vec![n],
                public: Some(public),
                mechanisms_bound: true,
                unsaid: vec![],
                problems,
            };
            let pin = PinnedKey {
                kid: kid.to_owned(),
                label: None,
                role,
                cka_id: hex::encode(&[n]),
                public: Some(hex::encode(&public)),
                created: 0,
                module: String::new(),
                token_serial: String::new(),
                mechanisms_bound: true,
                retired: None,
            };
            (found, pin)
        };
        let (keys, pinned) = [
            made("ed25519/t1/auth/v1", 1, vec![]),
            made("ed25519/t1/auth/v2", 2, vec![]),
            made("ed25519/t1/audit/v1", 3, vec![]),
            made("ed25519/t1/auth/v3", 4, vec!["CKA_EXTRACTABLE is set".to_owned()]),
        ]
        .into_iter()
        .unzip();
        Ring::new(Inventory { keys, ..Inventory::default() }, &Pins::of(pinned), "")
    }

    fn claims() -> Claims {
        Claims {
            iss: "https://issuer.example".to_owned(),
            sub: "alice".to_owned(),
            aud: vec!["api".to_owned()],
            iat: NOW,
            exp: NOW + 3600,
            nbf: None,
            jti: "0190-j".to_owned(),
            scopes: vec![],
            nonce: None,
            ctx: None,
            kid: "ed25519/t1/auth/v1".parse().unwrap(),
            epoch: 0,
            cap: Cap { template: "demo".to_owned(), action: None, limit: None },
            cnf_jkt: None,
            par: None,
        }
    }

    fn verdict(change: impl FnOnce(&mut Claims)) -> Result<usize, LinkRefusal> {
        let mut changed = claims();
        change(&mut changed);
        judge(&changed.canonical(4096).unwrap(), &ring(), &bounds(), Moment::from_unix(NOW))
    }

    #[test]
    fn the_key_is_the_one_that_the_payload_names() {
        assert_eq!(verdict(|_| {}), Ok(0));
        assert_eq!(verdict(|claims| claims.kid = "ed25519/t1/auth/v2".parse().unwrap()), Ok(1));
    }

    #[test]
    fn each_bound_has_its_refusal() {
        let kid = |kid: &'static str| verdict(move |claims| claims.kid = kid.parse().unwrap());
        assert_eq!(kid("ed25519/t1/auth/v3"), Err(LinkRefusal::UnknownKid));
        assert_eq!(kid("ed25519/t1/auth/v9"), Err(LinkRefusal::UnknownKid));
        assert_eq!(kid("ed25519/t2/auth/v1"), Err(LinkRefusal::TenantDenied));
        assert_eq!(kid("ed25519/t1.host7/auth/v1"), Err(LinkRefusal::TenantDenied));
        assert_eq!(kid("ed25519/t1/other/v1"), Err(LinkRefusal::PurposeDenied));
        // Even where the bounds name it by mistake.
        assert_eq!(kid("ed25519/t1/audit/v1"), Err(LinkRefusal::PurposeDenied));
        assert_eq!(kid("ed25519/t1/seal/v1"), Err(LinkRefusal::PurposeDenied));
        assert_eq!(verdict(|claims| claims.iss.push('/')), Err(LinkRefusal::ForeignIssuer));
    }

    #[test]
    fn lifetimes_and_clocks_at_their_edges() {
        let times = |iat: i64, exp: i64, nbf: Option<i64>| {
            verdict(move |claims| {
                claims.iat = NOW + iat;
                claims.exp = NOW + exp;
                claims.nbf = nbf.map(|nbf| NOW + nbf);
            })
        };
        let (lifetime, clock) = (Err(LinkRefusal::LifetimeDenied), Err(LinkRefusal::ClockDenied));
        for (iat, exp, nbf, wanted) in [
            (0, 1, None, Ok(0)),
            (0, 3600, None, Ok(0)),
            (0, 3601, None, lifetime),
            (60, 3660, None, Ok(0)),
            (61, 3600, None, clock),
            (-60, 3540, None, Ok(0)),
            (-61, 3500, None, clock),
            (0, 3600, Some(3599), Ok(0)),
            (0, 3600, Some(-60), Ok(0)),
            (0, 3600, Some(-61), clock),
        ] {
            assert_eq!(times(iat, exp, nbf), wanted, "{iat} {exp} {nbf:?}");
        }
    }

    /// What the writer would not write.
    #[test]
    fn payloads_that_end_before_they_begin_are_refused() {
        let good = String::from_utf8(claims().canonical(4096).unwrap()).unwrap();
        let with_exp = |exp: i64| good.replace(&format!("\"exp\":{}", NOW + 3600), &format!("\"exp\":{exp}"));
        let judged = |text: &str| judge(text.as_bytes(), &ring(), &bounds(), Moment::from_unix(NOW));
        assert_eq!(judged(&with_exp(NOW)), Err(LinkRefusal::LifetimeDenied));
        assert_eq!(judged(&with_exp(0)), Err(LinkRefusal::LifetimeDenied));
        let late = good.replace("\"scopes\"", &format!("\"nbf\":{},\"scopes\"", NOW + 3600));
        assert_eq!(judged(&late), Err(LinkRefusal::ClockDenied));
    }

    #[test]
    fn only_canonical_passports_are_signed() {
        let good = String::from_utf8(claims().canonical(4096).unwrap()).unwrap();
        let judged = |bytes: &[u8]| judge(bytes, &ring(), &bounds(), Moment::from_unix(NOW));
        assert_eq!(judged(good.as_bytes()), Ok(0));
        for (bytes, wanted) in [
            (good.replacen(':', ": ", 1).into_bytes(), LinkRefusal::NotCanonical),
            (
                good.replace("\"sub\":\"alice\"", "\"sub\":\"alice\",\"sub\":\"bob\"").into_bytes(),
                LinkRefusal::NotCanonical,
            ),
            (format!(" {good}").into_bytes(), LinkRefusal::Malformed),
            (format!("{good} ").into_bytes(), LinkRefusal::Malformed),
            (b"".to_vec(), LinkRefusal::Malformed),
            (b"{}".to_vec(), LinkRefusal::Malformed),
            (good.as_bytes()[..good.len() - 1].to_vec(), LinkRefusal::Malformed),
            // Another protocol's bytes: a JWS input, a probe, a TLS handshake.
            (b"eyJhbGciOiJFZERTQSJ9.e30".to_vec(), LinkRefusal::Malformed),
            (crate::wire::link::PROBE_PREFIX.to_vec(), LinkRefusal::Malformed),
            (vec![0x20; 64], LinkRefusal::Malformed),
            (format!("{{{}", "x".repeat(MAX_PAYLOAD)).into_bytes(), LinkRefusal::Malformed),
        ] {
            assert_eq!(judged(&bytes), Err(wanted), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn each_key_has_its_own_rate() {
        let (rates, bounds) = (Rates::default(), bounds());
        let spend = |kid: &str| rates.spend(kid, &bounds);
        for _ in 0..3 {
            assert_eq!(spend("ed25519/t1/auth/v1"), Ok(()));
        }
        assert_eq!(spend("ed25519/t1/auth/v1"), Err(LinkRefusal::RateLimited));
        assert_eq!(spend("ed25519/t1/auth/v2"), Ok(()));
    }
}
