//! What comes by itself in the lives of keys: a retired one stops verifying once all that it can have signed is over, and one
//! that signs becomes due to be followed by another.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use super::{Author, Daemon};
use crate::audit::{Event, Outcome};
use crate::state::{KeyRecord, KeyState, KeyTable, Role};

/// Seconds of a day.
const DAY_S: i64 = 86_400;

/// How far that has come.
#[derive(Debug)]
pub(super) struct Ending {
    /// The time by which keys verify or don't. At the start the mark of the state, so that what ended while nothing ran is put
    /// on record like the rest; then the clock's, while nothing speaks against it.
    judged: AtomicI64,
    /// That it can't be put on record has been said.
    failing: AtomicBool,
    /// The key of which it was said that it is overdue.
    overdue: Mutex<Option<String>>,
}

impl Ending {
    pub(super) const fn new(mark: i64) -> Self {
        Self { judged: AtomicI64::new(mark), failing: AtomicBool::new(false), overdue: Mutex::new(None) }
    }

    pub(super) fn judged(&self) -> i64 {
        self.judged.load(Ordering::Acquire)
    }
}

/// The key that is to be followed by another first, and in how many seconds; negative: it should have been. Counted from when
/// it was staged, since a way back makes no key younger.
fn due(table: &KeyTable, period_days: u64, now: i64) -> Option<(&KeyRecord, i64)> {
    let left = table.iter().filter_map(|key| Some((key, rotate_by(key, period_days)?.saturating_sub(now))));
    left.min_by_key(|(_, left)| *left)
}

/// When a key that signs passports should be followed by another.
pub(super) fn rotate_by(key: &KeyRecord, period_days: u64) -> Option<i64> {
    let signs = key.state == KeyState::Active && key.role == Role::Passport && period_days > 0;
    signs.then(|| key.staged_at.saturating_add(period_s(period_days)))
}

fn period_s(days: u64) -> i64 {
    i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY_S)
}

impl Daemon {
    /// The time by which keys verify or don't.
    pub(super) fn judged(&self) -> i64 {
        self.ending.judged()
    }

    /// Ends what is over by `now`, a time against which nothing speaks, and says what is overdue.
    pub(super) async fn look_at_keys(&self, now: i64) {
        self.look_at_age(now);
        let over = |table: &KeyTable, before: i64| -> Vec<String> {
            let over = table.iter().filter(|key| !key.is_expired(before) && key.is_expired(now));
            over.map(|key| key.kid.clone()).collect()
        };
        if over(&self.store.keys(), self.judged()).is_empty() {
            self.ending.judged.fetch_max(now, Ordering::AcqRel);
            return;
        }
        let _one_at_a_time = self.changes.lock().await;
        let table = self.store.keys();
        let over = over(&table, self.judged());
        // Record, then effect: until it is on record, they verify.
        let records = over.iter().map(|kid| Author::NOBODY.entry(Event::KeyExpired, Outcome::Ok).kid(kid));
        let recorded = self.audit.record_many(records.collect()).await;
        if let Err(error) = &recorded
            && !self.ending.failing.load(Ordering::Relaxed)
        {
            tracing::error!(name: "key_end_not_recorded", %error, "a key that is over still verifies: its end is not on record");
        }
        self.ending.failing.store(recorded.is_err(), Ordering::Relaxed);
        if recorded.is_err() {
            return;
        }
        self.ending.judged.fetch_max(now, Ordering::AcqRel);
        match self.keyring_of(&table) {
            Ok(keyring) => self.publish(&table, keyring),
            Err(error) => {
                tracing::error!(name: "late_key_unfit", %error, "the keys that are left can't be verified with");
            }
        }
    }

    /// How long the keys that sign may go on, and whether one has done so for too long.
    fn look_at_age(&self, now: i64) {
        let days = self.live.load().loaded.config.passport.rotation_period_days;
        let table = self.store.keys();
        let due = due(&table, days, now);
        self.metrics.rotation_due.set(due.map_or(period_s(days), |(_, left)| left));
        let overdue = due.filter(|(_, left)| *left < 0).map(|(key, _)| key.kid.clone());
        let mut told = self.ending.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        if *told == overdue {
            return;
        }
        if let Some(kid) = &overdue {
            tracing::warn!(name: "rotation_overdue", kid, days, "a key has signed for longer than it should");
        }
        *told = overdue;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::tests::{daemon, key};
    use crate::state::{Change, EXPIRED, PAST_LAST_S};

    const NOW: i64 = 1_800_000_000;

    /// Version 1 has retired at [`NOW`], version 2 signs.
    async fn rotated() -> Daemon {
        let daemon = daemon();
        let longest = Change { lifetime_s: Some(60), ..Change::default() };
        daemon.store.commit(longest, 0).await.unwrap();
        for version in 1..=2 {
            let staged = daemon.store.keys().stage(key(version), NOW - 10).unwrap();
            daemon.store.commit(Change::keys(staged), 1).await.unwrap();
            let active = daemon.store.keys().activate(&key(version).kid, NOW).unwrap();
            daemon.store.commit(Change::keys(active), 2).await.unwrap();
        }
        daemon.ending.judged.store(NOW, Ordering::Release);
        let table = daemon.store.keys();
        daemon.publish(&table, daemon.keyring_of(&table).unwrap());
        daemon
    }

    #[tokio::test]
    async fn a_retired_key_leaves_once_it_is_on_record() {
        let daemon = rotated().await;
        let verifies = || daemon.keyring.load().get(&key(1).kid).is_some();
        let recorded = || daemon.metrics.ledger_events.at(Event::KeyExpired.name()).get();
        let until = NOW + 60 + PAST_LAST_S;
        let before = *daemon.keyring.load().etag();
        daemon.look_at_keys(until - 1).await;
        assert!(verifies() && recorded() == 0);
        assert_eq!(daemon.metrics.keys.at(EXPIRED).get(), 0);
        daemon.look_at_keys(until).await;
        assert!(!verifies() && recorded() == 1);
        assert_ne!(*daemon.keyring.load().etag(), before);
        assert_eq!((daemon.metrics.keys.at(EXPIRED).get(), daemon.metrics.keys.at("retired").get()), (1, 0));
        let listed = daemon.status().await;
        assert_eq!(listed.pointer("/keys/0/state"), Some(&EXPIRED.into()));
        assert_eq!(listed.pointer("/keys/1/rollback_to"), Some(&serde_json::Value::Null), "there is no way back to it");
        // Once, and whatever the clock says later.
        daemon.look_at_keys(until + 1).await;
        daemon.look_at_keys(NOW).await;
        assert!(!verifies() && recorded() == 1);
    }

    #[tokio::test]
    async fn what_can_t_be_recorded_goes_on() {
        let daemon = rotated().await;
        daemon.audit.close();
        daemon.look_at_keys(NOW + 60 + PAST_LAST_S).await;
        assert!(daemon.keyring.load().get(&key(1).kid).is_some());
        assert!(daemon.ending.failing.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn the_key_that_is_due_first_is_told() {
        let daemon = rotated().await;
        let days = 30 * DAY_S;
        for (now, left, overdue) in [
            (NOW, days - 10, None),
            (NOW - 10 + days, 0, None),
            (NOW - 10 + days + 1, -1, Some(key(2).kid)),
            (NOW, days - 10, None),
        ] {
            daemon.look_at_keys(now).await;
            assert_eq!(daemon.metrics.rotation_due.get(), left);
            assert_eq!(*daemon.ending.overdue.lock().unwrap(), overdue);
        }
    }

    #[test]
    fn a_period_of_none_is_never_over() {
        let table = KeyTable::default();
        let table = table.apply(&table.stage(key(1), NOW).unwrap()).unwrap();
        assert_eq!(due(&table, 30, NOW), None, "it does not sign");
        let table = table.apply(&table.activate(&key(1).kid, NOW + 5).unwrap()).unwrap();
        assert_eq!(due(&table, 0, i64::MAX), None);
        assert_eq!(due(&table, 1, NOW).map(|(_, left)| left), Some(DAY_S), "counted from its staging");
    }
}
