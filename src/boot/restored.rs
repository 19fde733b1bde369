//! What was done to the state while no daemon ran: put on record, and made harmless, before anybody is served.

use std::collections::BTreeMap;
use std::path::Path;

use tracing::warn;

use super::BootError;
use crate::audit::{Audit, AuditError, Entry, Event, Outcome, keys_since};
use crate::clock::Moment;
use crate::state::{Change, Done, KeyRecord, KeyTable, Pending, Store};

/// Ends every tenant's epoch if the state was restored, or its clock reset; and what the ledger says of keys since a backup is
/// done again, where it takes something away: a key that was compromised stays so.
///
/// # Errors
/// [`BootError`]: it can't be put on record, or be made durable.
pub(super) fn settle(audit: &Audit, store: &Store, ledger: &Path) -> Result<(), BootError> {
    let snapshot = store.snapshot();
    if snapshot.pending.is_empty() {
        return Ok(());
    }
    let mut changed: BTreeMap<String, KeyRecord> = BTreeMap::new();
    let mut newest = 0;
    for one in &snapshot.pending {
        let entry = match one.what {
            Done::Restored { audit_seq } => {
                let lost = lost(
                    &snapshot.keys,
                    &keys_since(ledger, audit_seq).map_err(AuditError::from)?,
                    one.at,
                    &mut changed,
                );
                let detail = format!("as of record {audit_seq}; {}{}", said(one), lost);
                Entry::new(Event::StateRestored, Outcome::Ok, Moment::now()).detail(&detail)
            }
            Done::ClockReset { from, to } => {
                let detail = format!("from {from} to {to}; {}", said(one));
                Entry::new(Event::ClockReset, Outcome::Ok, Moment::now()).detail(&detail)
            }
        };
        newest = audit.record_blocking(entry)?;
    }
    // An epoch is ended by a record of its own each time, so no tenant's can be beyond the newest record: this one is new to all.
    let change =
        Change { keys: changed.into_values().collect(), settled: Some(newest.saturating_add(1)), ..Change::default() };
    store.commit_blocking(change, newest)?;
    let (done, record) = (snapshot.pending.len(), newest);
    warn!(name: "epochs_ended", done, record, "the state was restored, or its clock reset: every passport is revoked");
    Ok(())
}

fn said(one: &Pending) -> String {
    format!("at {} by uid {}: {}", one.at, one.uid, one.reason)
}

/// What the backup does not know of keys, for the record. What takes something away is added to `changed`.
fn lost(table: &KeyTable, since: &[(Event, String)], at: i64, changed: &mut BTreeMap<String, KeyRecord>) -> String {
    let mut last: BTreeMap<&str, Event> = BTreeMap::new();
    for (event, kid) in since {
        let known = last.entry(kid).or_insert(*event);
        // Nothing is said of a key that was compromised that would make it good again.
        if *known != Event::KeyCompromised {
            *known = *event;
        }
    }
    let (mut again, mut unknown) = (Vec::new(), Vec::new());
    for (kid, event) in last {
        let moved = match event {
            Event::KeyCompromised => table.compromise(kid, at),
            Event::KeyRetired => table.retire(kid, at),
            _ => continue,
        };
        match moved {
            Ok(records) => {
                changed.extend(records.into_iter().map(|record| (record.kid.clone(), record)));
                again.push(format!("{} {kid}", event.name()));
            }
            Err(_) if table.get(kid).is_none() && event == Event::KeyCompromised => {
                warn!(name: "compromised_unknown", kid, "the backup does not know a compromised key; do not stage it again");
                unknown.push(kid);
            }
            Err(_) => {}
        }
    }
    let list = |what: &str, all: &[String]| {
        if all.is_empty() { String::new() } else { format!("; {what} {}", all.join(", ")) }
    };
    let unknown: Vec<_> = unknown.into_iter().map(str::to_owned).collect();
    list("done again:", &again) + &list("compromised, and not in the backup:", &unknown)
}
