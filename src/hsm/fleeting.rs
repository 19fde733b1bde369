//! Amnesia mode: keys that the signer makes for itself whenever its module starts. They are session objects, so they are gone
//! with the session, the module or the process, and were never anywhere else.
//!
//! The version in their kids is the time at which they were made, in seconds since 1970, since nothing remembers a count: it is
//! a second that begins after the start, so whoever starts after the end of this process makes later ones.
//!
//! They serve one front. A front that has started afresh has forgotten what it had revoked, and what was used up; it must not
//! know the keys of those passports either, so it is given new ones (decision 0067).

use super::guard::Bounds;
use super::inventory::Inventory;
use super::label::{AUDIT_PURPOSE, SEAL_PURPOSE, label};
use super::ladder::Fault;
use super::pins::{PinnedKey, Pins};
use super::{HsmError, make};
use crate::clock::Moment;
use crate::passport::hex;
use crate::wire::link::{KeyRole, LinkFront, LinkRefusal};
use cryptoki::session::Session;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a version lasts, and so the longest that is waited for the next one.
const SECOND: Duration = Duration::from_secs(1);
/// Between looks whether it has begun.
const LOOK: Duration = Duration::from_millis(5);

/// Which keys are made, and whose they are. Clones share both.
#[derive(Clone, Debug)]
pub struct Fleeting {
    wanted: Arc<[Wanted]>,
    /// The newest version that anybody is known to have used.
    newest: Arc<AtomicU64>,
    house: Arc<House>,
}

#[derive(Debug)]
struct Wanted {
    role: KeyRole,
    tenant: String,
    purpose: String,
}

/// Whose the keys are.
#[derive(Debug)]
struct House {
    /// The front that is served, by its id; else one of those below.
    front: AtomicU64,
    /// One front at a time asks to be it.
    door: Mutex<()>,
}

/// The keys are new, and nobody has seen them.
const NOBODY_YET: u64 = 0;
/// They may be another front's.
const NOBODY: u64 = 1;

/// Where keys are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) module: &'a str,
    pub(super) token_serial: &'a str,
    /// The token derives, so that secrets can be sealed.
    pub(super) seals: bool,
}

impl Fleeting {
    /// One passport key for each tenant and purpose of the bounds, and for each tenant an audit key, and a seal key where it
    /// has namespaces. `now`: the start, in seconds since 1970.
    pub fn of(bounds: &Bounds, now: u64) -> Self {
        let mut wanted = Vec::new();
        for (tenant, bounds) in &bounds.tenants {
            let mut want = |role, purpose: &str| {
                wanted.push(Wanted { role, tenant: tenant.clone(), purpose: purpose.to_owned() });
            };
            bounds.purposes.iter().for_each(|purpose| want(KeyRole::Passport, purpose));
            want(KeyRole::Audit, AUDIT_PURPOSE);
            if !bounds.namespaces.is_empty() {
                want(KeyRole::Seal, SEAL_PURPOSE);
            }
        }
        wanted.sort_by(|a, b| (&a.tenant, &a.purpose).cmp(&(&b.tenant, &b.purpose)));
        let house = House { front: AtomicU64::new(NOBODY_YET), door: Mutex::new(()) };
        Self { wanted: wanted.into(), newest: Arc::new(AtomicU64::new(now)), house: Arc::new(house) }
    }

    /// A version that is newer than all that are known, and than all of an earlier process where the clock went on. Waits for
    /// the next second to begin.
    fn version(&self) -> u64 {
        let newest = self.newest.load(Ordering::Acquire);
        let begun = Instant::now();
        // A clock that has gone back is not waited for: it counts on.
        while now() <= newest && begun.elapsed() < SECOND {
            std::thread::sleep(LOOK);
        }
        let version = now().max(newest.saturating_add(1));
        self.newest.store(version, Ordering::Release);
        version
    }

    /// Makes all of them in `session`, tries each, and reads them back. With what ought to be there, as `keys.json` says it of
    /// others.
    pub(super) fn make(&self, session: &Session, place: Place<'_>) -> Result<(Inventory, Pins), HsmError> {
        let version = self.version();
        let mut made = Vec::with_capacity(self.wanted.len());
        for Wanted { role, tenant, purpose } in
            self.wanted.iter().filter(|one| place.seals || one.role != KeyRole::Seal)
        {
            let kid = label(*role, tenant, purpose, version).map_err(|error| unfit(tenant, &error.to_string()))?;
            let id = make::fresh_id()?;
            let handle = match role {
                KeyRole::Seal => make::seal_key(session, &kid, &id, false)?,
                KeyRole::Passport | KeyRole::Audit => make::key_pair(session, &kid, &id, false)?,
            };
            made.push((kid, *role, id, handle));
        }
        let inventory = Inventory::of_sessions(session)?;
        let mut pinned = Vec::with_capacity(made.len());
        for (kid, role, id, handle) in made {
            let found = inventory.keys.iter().find(|key| key.label == kid && key.id == id);
            let found = found.ok_or_else(|| unfit(&kid, "it can't be found again"))?;
            if !found.problems.is_empty() {
                return Err(unfit(&kid, &found.problems.join("; ")));
            }
            make::try_out(session, found, handle).map_err(|problem| unfit(&kid, &problem))?;
            pinned.push(PinnedKey {
                kid,
                label: None,
                role,
                cka_id: hex::encode(&id),
                public: found.public.map(|public| hex::encode(&public)),
                created: Moment::now().unix(),
                module: place.module.to_owned(),
                token_serial: place.token_serial.to_owned(),
                mechanisms_bound: found.mechanisms_bound,
                retired: None,
                compromised: None,
                destroyed: None,
            });
        }
        Ok((inventory, Pins::of(pinned)))
    }

    /// Has the keys be this front's from now on, and nobody else's: those that are there if nobody has seen them and they are
    /// newer than all that it knows, else new ones, which `anew` makes.
    ///
    /// # Errors
    /// Those of `anew`; nobody is served then.
    pub(super) fn admit(
        &self,
        front: LinkFront,
        anew: impl FnOnce() -> Result<(), LinkRefusal>,
    ) -> Result<(), LinkRefusal> {
        let id = front.id.max(NOBODY + 1);
        let _one_at_a_time = self.house.door.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.house.front.load(Ordering::Acquire);
        if before == id {
            return Ok(());
        }
        let newer = self.newest.load(Ordering::Acquire) > front.newest;
        if before != NOBODY_YET || !newer {
            // First: while they are made, the front before it must not see them.
            self.house.front.store(NOBODY, Ordering::Release);
            self.newest.fetch_max(front.newest, Ordering::AcqRel);
            anew()?;
        }
        self.house.front.store(id, Ordering::Release);
        Ok(())
    }

    /// Whether the keys are this front's.
    pub(super) fn serves(&self, front: u64) -> bool {
        self.house.front.load(Ordering::Acquire) == front.max(NOBODY + 1)
    }
}

fn now() -> u64 {
    u64::try_from(Moment::now().unix()).unwrap_or(0)
}

fn unfit(kid: &str, problem: &str) -> HsmError {
    HsmError::Call { what: "make a session key", reason: format!("{kid}: {problem}"), fault: Fault::Device }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleeting(now: u64) -> Fleeting {
        Fleeting::of(&Bounds { issuer: String::new(), tenants: std::iter::empty().collect(), max_iat_drift_s: 1 }, now)
    }

    /// Whether the front got in, and whether that took new keys.
    fn admit(to: &Fleeting, id: u64, newest: u64) -> (bool, bool) {
        let mut made = false;
        let entered = to.admit(LinkFront { id, newest }, || {
            made = true;
            to.version();
            Ok(())
        });
        (entered.is_ok(), made)
    }

    #[test]
    fn each_front_gets_keys_of_its_own_and_keeps_them() {
        let keys = fleeting(100);
        assert!(!keys.serves(7), "nobody is served before a front has come");
        assert_eq!(admit(&keys, 7, 0), (true, false), "nobody has seen those that are there");
        assert!(keys.serves(7) && !keys.serves(8));
        assert_eq!(admit(&keys, 7, 100), (true, false), "over another connection");
        assert_eq!(admit(&keys, 8, 0), (true, true));
        assert!(keys.serves(8) && !keys.serves(7));
        assert_eq!(admit(&keys, 7, 100), (true, true), "nor does the first get its old ones back");
    }

    #[test]
    fn keys_that_are_not_newer_than_all_that_the_front_knows_are_made_anew() {
        let keys = fleeting(100);
        let later = now() + 1000;
        assert_eq!(admit(&keys, 7, later), (true, true), "as after a start with a clock that has gone back");
        assert_eq!(keys.newest.load(Ordering::Relaxed), later + 1);
    }

    #[test]
    fn while_keys_are_made_and_if_that_fails_nobody_is_served() {
        let keys = fleeting(100);
        admit(&keys, 7, 0);
        let refused = keys.admit(LinkFront { id: 8, newest: 0 }, || {
            assert!(!keys.serves(7) && !keys.serves(8));
            Err(LinkRefusal::HsmUnavailable)
        });
        assert_eq!(refused, Err(LinkRefusal::HsmUnavailable));
        assert!(!keys.serves(7) && !keys.serves(8));
        assert_eq!(admit(&keys, 8, 0), (true, true), "those that are there have been the first one's");
    }

    #[test]
    fn a_version_is_a_second_after_the_start_and_never_comes_twice() {
        let start = now();
        let keys = fleeting(start);
        let first = keys.version();
        assert!(first > start && now() >= first, "{first} after {start}");
        let second = keys.version();
        assert!(second > first);
        keys.newest.store(second + 1000, Ordering::Relaxed);
        let begun = Instant::now();
        assert_eq!(keys.version(), second + 1001, "a clock that has gone back");
        assert!(begun.elapsed() < SECOND * 5);
    }
}
