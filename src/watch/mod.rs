//! Events for those who want to know at once: keys, revocations, epochs, policy, draining. Whoever changes something publishes
//! it here once it is durable; watchers read from where they were, and wait.
//!
//! A tenant's events push out only its own (L6). A watcher that was too slow is told, and so is one that comes with a cursor of
//! another life of the daemon, or of other rights: it begins anew by looking at all that is in force, from a cursor that is
//! older than that look. So it misses nothing, and hears some twice.

mod event;
mod pages;
mod rings;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub use crate::wire::watch::{Cursor, Event, Topic, Watched, What};
pub use event::{Tenants, Wants, of_entry, of_state};
pub use pages::MAX_PLACE;
use pages::Places;
use rings::{Found, Rings};
pub use rings::{MAX_EVENT_BYTES, MAX_EVENTS, MAX_TENANTS};

/// Events of one answer: with the longest texts they take less than a fifth of a frame.
pub const MAX_BATCH: usize = 256;
/// The longest that one answer is waited for.
pub const MAX_WAIT: Duration = Duration::from_secs(60);

/// The events of this life of the daemon.
pub struct Stream {
    life: [u8; 16],
    places: Places,
    rings: Mutex<Rings>,
    head: watch::Sender<u64>,
}

impl Stream {
    /// Without events; for one life of the daemon.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn start() -> io::Result<Self> {
        let (mut life, mut key) = ([0; 16], [0; 32]);
        for bytes in [life.as_mut_slice(), &mut key] {
            getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()))?;
        }
        Ok(Self::new(life, &key))
    }

    fn new(life: [u8; 16], key: &[u8; 32]) -> Self {
        Self { life, places: Places::new(key), rings: Mutex::default(), head: watch::channel(0).0 }
    }

    fn rings(&self) -> MutexGuard<'_, Rings> {
        self.rings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These have happened, and are durable and in effect since `at_ms`. Nobody reads a part of them only because of when it
    /// came. Returns how many older ones went for them.
    pub fn publish(&self, at_ms: i64, events: impl IntoIterator<Item = (Option<String>, What)>) -> u64 {
        let mut rings = self.rings();
        let dropped = events.into_iter().map(|(tenant, what)| rings.push(at_ms, tenant, what)).sum();
        // Under the lock, so that the number never falls back.
        let head = rings.head();
        self.head.send_if_modified(|known| std::mem::replace(known, head) != head);
        dropped
    }

    /// What there is at once, [`MAX_BATCH`] events at most.
    pub fn read(&self, after: Option<&Cursor>, wants: &Wants) -> Watched {
        let rings = self.rings();
        let (life, tag, head) = (self.life, wants.tag(), rings.head());
        let cursor = |seq| Cursor { life, wants: tag, seq };
        let known = after.filter(|after| after.life == life && after.wants == tag && after.seq <= head);
        let Some(after) = known else { return Watched::Begin { cursor: cursor(head) } };
        match rings.read(after.seq, wants, MAX_BATCH) {
            Found::Events(events, to) => Watched::Events { events, cursor: cursor(to) },
            Found::Missed(missed) => Watched::Lagged { missed, cursor: cursor(head) },
        }
    }

    /// As [`Stream::read`], but waits for something to tell, for `within` or [`MAX_WAIT`], or until it is `over`. What the
    /// watcher may see is asked again whenever something has happened.
    ///
    /// # Errors
    /// What `wants` says: it may see nothing any more.
    pub async fn wait<E>(
        &self,
        after: Option<Cursor>,
        within: Duration,
        over: impl Future<Output = ()> + Send,
        mut wants: impl FnMut() -> Result<Arc<Wants>, E> + Send,
    ) -> Result<Watched, E> {
        let until = Instant::now() + within.min(MAX_WAIT);
        tokio::pin!(over);
        // Before the first look: what comes after that look wakes.
        let mut head = self.head.subscribe();
        let mut after = after;
        loop {
            let told = {
                let wants = wants()?;
                self.read(after.as_ref(), &wants)
            };
            match &told {
                Watched::Events { events, cursor } if events.is_empty() => after = Some(*cursor),
                _ => return Ok(told),
            }
            let woken = tokio::select! {
                woken = timeout_at(until, head.changed()) => woken,
                () = &mut over => return Ok(told),
            };
            // The sender lives as long as this.
            if !matches!(woken, Ok(Ok(()))) {
                return Ok(told);
            }
        }
    }

    /// Where a page of revocations ends, for its reader, who may see these tenants.
    pub fn seal_place(&self, place: &[u8], tenants: &Tenants) -> Option<Vec<u8>> {
        self.places.seal(place, &tenants.tag())
    }

    /// What [`Stream::seal_place`] made of it in this life of the daemon, for the same tenants.
    pub fn open_place(&self, sealed: &[u8], tenants: &Tenants) -> Option<Vec<u8>> {
        self.places.open(sealed, &tenants.tag())
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("rings", &self.rings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
