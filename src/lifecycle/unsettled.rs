//! Revocations that were reported as failed, and may have come all the same: the disk answered too late, or kept what it said
//! it could not. They only refuse more, so they are left in force; but the ledger's newest word was "failed", and must not stay
//! so.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::Daemon;
use crate::audit::{self, AuditError};
use crate::clock::Moment;
use crate::state::{Change, Entry, Epochs, StateError, What};

/// Records of changes of which nobody knows yet, some hundred bytes each. With more the oldest are given up: a disk has failed
/// for long, and of each the ledger says that it did.
const MAX_UNSETTLED: usize = 16_384;

/// A change that was reported as failed.
#[derive(Debug)]
struct Doubtful {
    revoked: Vec<Entry>,
    /// Tenants, and the epochs that they were in before.
    bumped: Vec<(u64, String)>,
    /// What announced it.
    seq: u64,
    records: Vec<audit::Entry>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    changes: Mutex<Vec<Doubtful>>,
    pub(super) more: Notify,
}

/// Why it is not known yet what became of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSettled {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Unsettled {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Doubtful>) -> T) -> T {
        act(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A change that was announced by the records up to `seq` has failed, as it seems.
    pub(super) fn add(&self, change: Change, before: &Epochs, seq: u64, records: Vec<audit::Entry>) {
        let epoch = |tenant: String| (before.of(&tenant), tenant);
        let bumped = change.bumped.into_iter().map(|(tenant, _)| epoch(tenant)).collect();
        let one = Doubtful { revoked: change.revoked, bumped, seq, records };
        self.with(|all| {
            all.push(one);
            while all.iter().map(|one| one.records.len()).sum::<usize>() > MAX_UNSETTLED {
                drop(all.remove(0));
            }
        });
        self.more.notify_one();
    }
}

impl Daemon {
    /// Puts on record what came although it was reported as failed.
    pub(super) async fn settle_revocations(&self) -> Result<(), NotSettled> {
        if self.unsettled.with(|all| all.is_empty()) {
            return Ok(());
        }
        let known = self.unsettled.with(|all| all.len());
        // Whatever was asked for before this is decided when it is answered, and what shows then is durable.
        self.store.settle().await?;
        let late: Vec<_> = self.unsettled.with(|all| {
            let (kept, epochs) = (self.store.kept(), self.store.snapshot());
            let has = |one: &Entry| match &one.what {
                What::RevokedId { jti } => kept.id_revoked_until(&one.tenant, jti, one.until),
                What::RevokedSubject { sub, before } => {
                    kept.subject_revoked(&one.tenant, sub).is_some_and(|known| known >= *before)
                }
                _ => false,
            };
            let bumped = |(before, tenant): &(u64, String)| epochs.epochs.of(tenant) > *before;
            let came = |one: &&Doubtful| one.revoked.iter().any(has) || one.bumped.iter().any(bumped);
            let late = all.iter().take(known).filter(came);
            late.flat_map(|one| one.records.iter().map(|record| after_all(record, one.seq))).collect()
        });
        for group in late.chunks(crate::log::MAX_GROUP) {
            self.audit.record_many(group.to_vec()).await?;
        }
        self.unsettled.with(|all| drop(all.drain(..known.min(all.len()))));
        Ok(())
    }
}

fn after_all(record: &audit::Entry, seq: u64) -> audit::Entry {
    let told = format!("record {seq} announced it; it was reported as failed, and is in force all the same");
    record.clone().came(Moment::now()).reason("late").detail(&told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Event, Outcome};
    use crate::lifecycle::tests::daemon;
    use crate::state::Owner;

    fn revoked(jti: &str) -> Change {
        let what = What::RevokedId { jti: jti.to_owned() };
        let until = Moment::now().unix() + 1_000;
        Change::revoked(vec![Entry { until, owner: Owner::Admin, tenant: "t1".to_owned(), what }])
    }

    fn records(event: Event, count: usize) -> Vec<audit::Entry> {
        vec![audit::Entry::new(event, Outcome::Ok, Moment::now()); count]
    }

    #[tokio::test]
    async fn what_came_late_is_on_record_and_what_did_not_is_not() {
        let daemon = daemon();
        let count = |event: Event| daemon.metrics.ledger_events.at(event.name()).get();
        let before = daemon.store.snapshot();
        for change in [revoked("came"), Change::bumped("t1", 1)] {
            // As by a commit whose caller has gone.
            daemon.store.commit(change.clone(), 1).await.unwrap();
            let event = if change.bumped.is_empty() { Event::PassportRevoked } else { Event::EpochBumped };
            daemon.unsettled.add(change, &before.epochs, 1, records(event, 1));
        }
        daemon.unsettled.add(revoked("lost"), &before.epochs, 2, records(Event::PassportRevoked, 1));
        daemon.unsettled.add(Change::bumped("t2", 1), &before.epochs, 2, records(Event::EpochBumped, 1));
        for _twice in 0..2 {
            daemon.settle_revocations().await.unwrap();
            // What is durable is counted right after it was answered.
            assert!(daemon.audit.turn().await);
            assert_eq!((count(Event::PassportRevoked), count(Event::EpochBumped)), (1, 1));
        }
    }

    #[test]
    fn so_many_are_remembered_and_then_the_oldest_goes() {
        let (unsettled, epochs) = (Unsettled::default(), Epochs::default());
        let add = |seq, count| unsettled.add(revoked("j"), &epochs, seq, records(Event::PassportRevoked, count));
        add(1, MAX_UNSETTLED - 1);
        add(2, 1);
        assert_eq!(unsettled.with(|all| all.len()), 2);
        add(3, 1);
        assert_eq!(unsettled.with(|all| all.iter().map(|one| one.seq).collect::<Vec<_>>()), [2, 3]);
    }
}
