//! Events for those who want to know at once: keys, revocations, epochs, policy, draining. Whoever changes something publishes
//! it here once it is durable; watchers read from where they were, and wait.
//!
//! A tenant's events push out only its own (L6). A watcher that was too slow is told, and so is one that comes with a cursor of
//! another life of the daemon, or of other rights: it begins anew by looking at all that is in force, from a cursor that is
//! older than that look. So it misses nothing, and hears some twice.

mod event;
mod rings;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub use event::{Cursor, Event, Tenants, Topic, Wants, What};
use rings::{Found, Rings};
pub use rings::{MAX_EVENT_BYTES, MAX_EVENTS, MAX_TENANTS};

/// Events of one answer: with the longest texts they take less than a fifth of a frame.
pub const MAX_BATCH: usize = 256;
/// The longest that one answer is waited for.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// These have happened, in this order; none: nothing has, in the time that it would wait.
    Events {
        /// The events.
        events: Vec<Event>,
        /// From where to read on.
        cursor: Cursor,
    },
    /// It was too slow: some are no longer there.
    Lagged {
        /// How many, at most.
        missed: u64,
        /// From where to read on, after a look at all that is in force.
        cursor: Cursor,
    },
    /// It has no cursor, or one of another life of the daemon or of other rights.
    Begin {
        /// From where to read on, after a look at all that is in force.
        cursor: Cursor,
    },
}

/// The events of this life of the daemon.
#[derive(Debug)]
pub struct Stream {
    life: [u8; 16],
    rings: Mutex<Rings>,
    head: watch::Sender<u64>,
}

impl Stream {
    /// Without events; `life` is drawn at random for each life of the daemon.
    pub fn new(life: [u8; 16]) -> Self {
        Self { life, rings: Mutex::default(), head: watch::channel(0).0 }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These have happened, and are durable. Nobody reads a part of them only because of when it came. Returns how many older
    /// ones went for them.
    pub fn publish(&self, events: impl IntoIterator<Item = (Option<String>, What)>) -> u64 {
        let mut rings = self.rings();
        let dropped = events.into_iter().map(|(tenant, what)| rings.push(tenant, what)).sum();
        // Under the lock, so that the number never falls back.
        let head = rings.head();
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        dropped
    }

    /// What there is at once, [`MAX_BATCH`] events at most.
    pub fn read(&self, after: Option<&Cursor>, wants: &Wants) -> Told {
        let rings = self.rings();
        let (life, tag, head) = (self.life, wants.tag(), rings.head());
        let cursor = |seq| Cursor { life, wants: tag, seq };
        let known = after.filter(|after| after.life == life && after.wants == tag && after.seq <= head);
        let Some(after) = known else { return Told::Begin { cursor: cursor(head) } };
        match rings.read(after.seq, wants, MAX_BATCH) {
            Found::Events(events, to) => Told::Events { events, cursor: cursor(to) },
            Found::Missed(missed) => Told::Lagged { missed, cursor: cursor(head) },
        }
    }

    /// As [`Stream::read`], but waits for something to tell, for `within` or [`MAX_WAIT`]. What the watcher may see is asked
    /// again whenever something has happened.
    pub async fn wait(&self, after: Option<Cursor>, within: Duration, wants: impl Fn() -> Wants + Send) -> Told {
        let until = Instant::now() + within.min(MAX_WAIT);
        // Before the first look: what comes after that look wakes.
        let mut head = self.head.subscribe();
        let mut after = after;
        loop {
            let told = self.read(after.as_ref(), &wants());
            match &told {
                Told::Events { events, cursor } if events.is_empty() => after = Some(*cursor),
                _ => return told,
            }
            // The sender lives as long as this.
            if !matches!(timeout_at(until, head.changed()).await, Ok(Ok(()))) {
                return told;
            }
        }
    }
}

#[cfg(test)]
mod tests;
