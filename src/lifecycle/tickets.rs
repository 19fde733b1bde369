//! Tickets that are out, and how long they may live.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Author, Daemon};
use crate::audit::{AuditError, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::metrics::Tickets as Counted;
use crate::passport::MAX_TICKET_SKEW_S;

/// Tickets whose use or end is waited for; those beyond are not counted as active, and not as expired.
pub const MAX_ACTIVE: usize = 65_536;
/// For how long an admin may let tickets live longer, in seconds.
pub const MAX_TICKET_TTL_FOR_S: u32 = 4 * 3600;

/// What is known of tickets. Nothing is decided by those that are out: that a ticket is used once is the state's to say.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    out: Mutex<Out>,
    allowed: Mutex<Option<Allowed>>,
}

/// Those that are neither used nor expired.
#[derive(Debug, Default)]
struct Out {
    ends: HashMap<Uuid, i64>,
    by_end: BTreeSet<(i64, Uuid)>,
}

/// A lifetime that an admin allowed.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    seconds: u32,
    /// By a clock that nobody sets.
    until: Instant,
    /// The same for whoever reads it, in seconds since 1970.
    ends: i64,
}

impl Out {
    fn add(&mut self, id: Uuid, end: i64) {
        self.remove(id);
        if self.ends.len() < MAX_ACTIVE {
            self.ends.insert(id, end);
            self.by_end.insert((end, id));
        }
    }

    fn remove(&mut self, id: Uuid) {
        if let Some(end) = self.ends.remove(&id) {
            self.by_end.remove(&(end, id));
        }
    }

    /// Those that end before this second; how many they were.
    fn expire(&mut self, now: i64) -> u64 {
        let mut gone = 0;
        while let Some((end, id)) = self.by_end.first().copied().filter(|(end, _)| *end <= now) {
            self.by_end.remove(&(end, id));
            self.ends.remove(&id);
            gone += 1;
        }
        gone
    }
}

impl Tickets {
    fn change<T>(&self, counted: &Counted, change: impl FnOnce(&mut Out) -> T) -> T {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut out);
        counted.active.set(i64::try_from(out.ends.len()).unwrap_or(i64::MAX));
        changed
    }

    fn allowed(&self) -> Option<Allowed> {
        *self.allowed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_allowed(&self, allowed: Option<Allowed>) {
        *self.allowed.lock().unwrap_or_else(PoisonError::into_inner) = allowed;
    }
}

impl Daemon {
    /// The longest lifetime of a ticket now, in seconds.
    pub fn ticket_ttl_s(&self) -> u32 {
        let configured = self.live.load().loaded.config.passport.ticket_ttl_s;
        self.tickets.allowed().filter(|allowed| Instant::now() < allowed.until).map_or(configured, |one| one.seconds)
    }

    /// Lets tickets live for `seconds` at most, whatever is configured, until `for_s` seconds have gone by. Not kept over a restart.
    ///
    /// # Errors
    /// [`AuditError`]: it can't be put on record, so all is as it was.
    pub async fn allow_ticket_ttl(
        &self,
        (seconds, for_s): (u32, u32),
        reason: &str,
        author: &Author,
    ) -> Result<(), AuditError> {
        let _one_at_a_time = self.switches.lock().await;
        let ends = Moment::now().unix().saturating_add(for_s.into());
        let detail = format!("{seconds} s, for {for_s} s: {reason}");
        self.audit.record(author.entry(Event::TicketTtlAllowed, Outcome::Ok).exp(ends).detail(&detail)).await?;
        let until = Instant::now() + Duration::from_secs(for_s.into());
        self.tickets.set_allowed(Some(Allowed { seconds, until, ends }));
        Ok(())
    }

    /// Ends it before its time. Nothing is done where nothing is in force.
    ///
    /// # Errors
    /// As [`Daemon::allow_ticket_ttl`], but it has ended.
    pub async fn end_ticket_ttl(&self, reason: &str, author: &Author) -> Result<(), AuditError> {
        let _one_at_a_time = self.switches.lock().await;
        let Some(allowed) = self.tickets.allowed() else { return Ok(()) };
        // Shorter lives are the safe side, so it ends first. What can't be recorded now is, when its time has come.
        self.tickets.set_allowed(Some(Allowed { until: Instant::now(), ..allowed }));
        self.audit.record(ended(author.entry(Event::TicketTtlEnded, Outcome::Ok), allowed.seconds, reason)).await?;
        self.tickets.set_allowed(None);
        Ok(())
    }

    /// Puts its end on record once it has come, and forgets tickets that have expired by `now`, where that is known.
    pub(super) async fn look_at_tickets(&self, now: Option<Moment>) {
        if let Some(now) = now {
            let past = now.unix().saturating_sub(MAX_TICKET_SKEW_S.into());
            let gone = self.tickets.change(&self.metrics.tickets, |out| out.expire(past));
            self.metrics.tickets.expired.inc_by(gone);
        }
        if self.tickets.allowed().is_none_or(|allowed| Instant::now() < allowed.until) {
            return;
        }
        let _one_at_a_time = self.switches.lock().await;
        let Some(allowed) = self.tickets.allowed().filter(|allowed| Instant::now() >= allowed.until) else { return };
        let entry =
            ended(Author::NOBODY.entry(Event::TicketTtlEnded, Outcome::Ok), allowed.seconds, "its time is over");
        // A ledger in trouble takes it later.
        if self.audit.record(entry).await.is_ok() {
            self.tickets.set_allowed(None);
        }
    }

    /// The record of what ends with the daemon, if anything does.
    pub fn ticket_ttl_ends(&self) -> Option<Entry> {
        let allowed = self.tickets.allowed()?;
        Some(ended(Author::NOBODY.entry(Event::TicketTtlEnded, Outcome::Ok), allowed.seconds, "the daemon stops"))
    }

    /// A ticket leaves the daemon.
    pub fn ticket_issued(&self, jti: &str, exp: i64) {
        self.metrics.tickets.issued.inc();
        if let Ok(id) = Uuid::parse_str(jti) {
            self.tickets.change(&self.metrics.tickets, |out| out.add(id, exp));
        }
    }

    /// A ticket was accepted, or is revoked.
    pub fn ticket_used(&self, jti: &str) {
        if let Ok(id) = Uuid::parse_str(jti) {
            self.tickets.change(&self.metrics.tickets, |out| out.remove(id));
        }
    }

    /// How long tickets live, for `Status`.
    pub(super) fn ticket_status(&self) -> Value {
        let allowed = self.tickets.allowed().filter(|allowed| Instant::now() < allowed.until);
        json!({
            "ttl_s": self.ticket_ttl_s(),
            "until": allowed.map(|allowed| allowed.ends),
            "active": self.metrics.tickets.active.get(),
        })
    }
}

fn ended(entry: Entry, seconds: u32, why: &str) -> Entry {
    entry.detail(&format!("{seconds} s: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_go_when_they_are_used_or_when_their_time_is_over() {
        let (mut out, ids) = (Out::default(), [1, 2, 3].map(Uuid::from_u128));
        for (id, end) in ids.into_iter().zip([10, 20, 20]) {
            out.add(id, end);
        }
        assert_eq!(out.expire(9), 0);
        out.remove(ids[1]);
        assert_eq!((out.expire(10), out.expire(10), out.ends.len()), (1, 0, 1));
        // The same one again, which ends earlier.
        out.add(ids[2], 15);
        assert_eq!((out.ends.len(), out.by_end.len()), (1, 1));
        assert_eq!((out.expire(15), out.ends.len(), out.by_end.len()), (1, 0, 0));
    }

    #[test]
    fn so_many_are_waited_for_and_no_more() {
        let mut out = Out::default();
        (0..=MAX_ACTIVE).for_each(|n| out.add(Uuid::from_u128(u128::try_from(n).unwrap()), 10));
        assert_eq!((out.ends.len(), out.by_end.len()), (MAX_ACTIVE, MAX_ACTIVE));
        assert_eq!(out.expire(10), u64::try_from(MAX_ACTIVE).unwrap());
    }
}
