//! Revocation: record first, then state, then effect. What was acknowledged is durable, and every verdict that is given after it
//! has seen it.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Watched;
use super::{Author, Daemon};
use crate::audit::{self, AuditError, Event, Outcome};
use crate::clock::Moment;
use crate::metrics::Cache;
use crate::state::{Change, Committed, Entry, Owner, StateError, What};

/// For how long a revocation is kept past the `exp` of what it revokes, in seconds: twice the largest `passport.clock_skew_s`
/// that can be configured, so that no later configuration has a revoked passport accepted again.
const PAST_EXP_S: i64 = 2 * 600;

/// Between looks at what can no longer matter.
const LOOK: Duration = Duration::from_secs(1);

/// Has the state forget what can no longer matter, and know how long passports live, until the daemon stops.
pub async fn watch_kept(daemon: Arc<Daemon>) {
    let (mut stopping, mut watched) = (daemon.stopping(), Watched::default());
    while !*stopping.borrow_and_update() {
        // By a clock that may be wrong nothing is forgotten: a passport that was revoked could be good again.
        let now = daemon.look_at_clock(&mut watched);
        if let Some(now) = now {
            // A full queue, or a disk in trouble, which the conditions show: it is asked again.
            drop(daemon.remember_lifetime(daemon.live.load().loaded.config.passport.max_ttl_s).await);
            drop(daemon.store.evict(now.unix()));
            daemon.look_at_keys(now.unix()).await;
        }
        daemon.look_at_tickets(now).await;
        daemon.count_kept();
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopping.changed() => {}
        }
    }
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// It can't be put on record.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// It can't be made durable, or there is no room for it.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The passport of this id, with its `exp` if that is known.
    Id {
        /// Its `jti`.
        jti: String,
        /// Its `exp`.
        exp: Option<i64>,
    },
    /// All passports of a subject that were issued at a time or before.
    Subject {
        /// The subject.
        sub: String,
        /// The time, in seconds since 1970.
        before: i64,
    },
}

/// Whose wish it is, and why.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// For the record.
    pub author: &'a Author,
    /// Whose share of the room it takes.
    pub owner: Owner,
    /// The tenant whose passports they are.
    pub tenant: &'a str,
    /// Why.
    pub reason: &'a str,
}

impl Daemon {
    /// Until when what concerns a passport must be kept; of one whose `exp` nobody knows, as long as any may live.
    pub fn matters_until(&self, exp: Option<i64>, now: Moment) -> i64 {
        let configured = self.live.load().loaded.config.passport.max_ttl_s;
        let longest = i64::try_from(self.store.snapshot().longest_s.max(configured)).unwrap_or(i64::MAX);
        let latest = now.unix().saturating_add(longest);
        // Nothing expires later, whatever is said of it.
        exp.map_or(latest, |exp| exp.min(latest)).saturating_add(PAST_EXP_S)
    }

    /// Until when what an acceptance took must be kept: always the same for one passport, whatever the clock says.
    pub const fn spent_until(exp: i64) -> i64 {
        exp.saturating_add(PAST_EXP_S)
    }

    /// Revokes all of them, or none. Returns how many were not revoked before.
    ///
    /// # Errors
    /// [`RevokeError`]: nothing was revoked, or the disk has not said so in time.
    pub async fn revoke(&self, wish: Wish<'_>, what: &[Revoked]) -> Result<usize, RevokeError> {
        let now = self.reckoned();
        let Wish { author, owner, tenant, reason } = wish;
        let mut change = Change::default();
        let mut records = Vec::with_capacity(what.len());
        for one in what {
            let (until, kept, record) = match one {
                Revoked::Id { jti, exp } => {
                    let record = author.entry(Event::PassportRevoked, Outcome::Ok).jti(jti);
                    let record = if let Some(exp) = exp { record.exp(*exp) } else { record };
                    (self.matters_until(*exp, now), What::RevokedId { jti: jti.clone() }, record)
                }
                Revoked::Subject { sub, before } => {
                    let record = author.entry(Event::SubjectRevoked, Outcome::Ok).subject(sub);
                    let kept = What::RevokedSubject { sub: sub.clone(), before: *before };
                    (self.matters_until(None, now), kept, record)
                }
            };
            change.revoked.push(Entry { until, owner, tenant: tenant.to_owned(), what: kept });
            let issued =
                if let Revoked::Subject { before, .. } = one { format!(", issued by {before}") } else { String::new() };
            records.push(record.detail(&format!("tenant {tenant}{issued}: {reason}")));
        }
        let receipt = self.audit.record_many(records.clone()).await?;
        self.made_durable(change, receipt.last, records).await.map(|committed| committed.new)
    }

    /// Ends the tenant's epoch. Returns the one that has begun.
    ///
    /// # Errors
    /// As [`Daemon::revoke`].
    pub async fn bump_epoch(&self, tenant: &str, reason: &str, author: &Author) -> Result<u64, RevokeError> {
        let record = author.entry(Event::EpochBumped, Outcome::Ok).detail(&format!("tenant {tenant}: {reason}"));
        let seq = self.audit.record(record.clone()).await?;
        let change = Change::bumped(tenant, self.reckoned().unix());
        self.made_durable(change, seq, vec![record]).await.map(|committed| committed.epoch)
    }

    /// Has the state know for how long passports may live by the configuration that is about to be in force.
    ///
    /// # Errors
    /// [`StateError`].
    pub async fn remember_lifetime(&self, max_ttl_s: u64) -> Result<(), StateError> {
        if self.store.snapshot().longest_s >= max_ttl_s {
            return Ok(());
        }
        let change = Change { lifetime_s: Some(max_ttl_s), ..Change::default() };
        self.store.commit(change, 0).await.map(drop)
    }

    fn count_kept(&self) {
        let (ids, subjects, rows) = {
            let kept = self.store.kept();
            (kept.revoked_ids(), kept.revoked_subjects(), kept.len())
        };
        for (kind, count) in [(Cache::RevokedIds, ids), (Cache::RevokedSubjects, subjects), (Cache::Kept, rows)] {
            self.metrics.cache_items.at(kind).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// The state after the records. Should it fail, each is followed by one that says so.
    async fn made_durable(
        &self,
        change: Change,
        seq: u64,
        records: Vec<audit::Entry>,
    ) -> Result<Committed, RevokeError> {
        let before = self.store.snapshot();
        match self.store.commit(change.clone(), seq).await {
            Ok(committed) => {
                self.audit.state_is_at(seq);
                Ok(committed)
            }
            Err(error) => {
                let why = error.to_string();
                let failed =
                    |one: &audit::Entry| one.clone().failed(Moment::now()).reason("store_unavailable").detail(&why);
                self.audit.record_many(records.iter().map(failed).collect()).await?;
                self.unsettled.add(change, &before.epochs, seq, records);
                Err(error.into())
            }
        }
    }
}
