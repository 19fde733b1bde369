//! What of a wish to revoke says more than what is revoked already. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry::{Occupied, Vacant};

use super::StateError;
use super::entry::{Entry, What};
use super::kept::{Kept, Room};

/// Those that say more than what is there, each id and subject once, up to the newest time and for the longest: the newest row of
/// one says all that the others do. And how many revoke something that was not revoked: the others only last longer.
pub(super) fn new_revocations(
    revoked: Vec<Entry>,
    kept: &Kept,
    room: &Room,
) -> Result<(Vec<Entry>, usize), StateError> {
    let mut wanted: BTreeMap<(u8, String, Vec<u8>), Entry> = BTreeMap::new();
    for entry in revoked {
        if !entry.fits() {
            return Err(StateError::TooLong);
        }
        match wanted.entry((entry.what.kind(), entry.tenant.clone(), entry.what.id())) {
            Vacant(place) => drop(place.insert(entry)),
            Occupied(mut place) => place.get_mut().extend(entry.until, entry.what.before()),
        }
    }
    let (mut new, mut count): (Vec<Entry>, usize) = (Vec::with_capacity(wanted.len()), 0);
    for mut entry in wanted.into_values() {
        let known = match &entry.what {
            What::RevokedSubject { sub, .. } => kept.subject(&entry.tenant, sub),
            What::RevokedId { jti } => kept.id_revoked(&entry.tenant, jti).map(|until| (i64::MIN, until)),
            // Nothing else is a revocation.
            _ => return Err(StateError::TooLong),
        };
        if let Some((before, until)) = known {
            if before >= entry.what.before() && until >= entry.until {
                continue;
            }
            count += usize::from(before < entry.what.before());
            entry.extend(until, before);
        } else {
            count += 1;
        }
        // Of several tenants each is looked at with all that came before it.
        kept.admits(room, entry.owner, &entry.tenant, new.len().saturating_add(1)).map_err(StateError::Full)?;
        new.push(entry);
    }
    Ok((new, count))
}
