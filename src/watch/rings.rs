//! The newest events of each tenant: pure.

use std::collections::{BTreeMap, VecDeque};

use super::event::{Tenants, Wants, text_len};
use crate::wire::watch::{Event, Topic, What};

/// Events of one tenant that are kept, and as many that are everybody's. Beyond it the oldest go; who has not read them is told.
pub const MAX_EVENTS: usize = 2048;
/// Bytes of one tenant's events that are kept, by [`weight`].
pub const MAX_EVENT_BYTES: usize = 512 << 10;
/// Tenants whose events are kept. Beyond it those of the tenant go that has been silent longest.
pub const MAX_TENANTS: usize = 64;

/// What an event takes beside its text: itself, and what two allocations cost.
const OVERHEAD: usize = 160;

/// Memory that an event takes.
const fn weight(event: &Event) -> usize {
    let tenant = match &event.tenant {
        Some(tenant) => tenant.len(),
        None => 0,
    };
    OVERHEAD.saturating_add(tenant).saturating_add(text_len(&event.what))
}

/// Events of one topic that are no longer there.
#[derive(Clone, Copy, Debug, Default)]
struct Dropped {
    count: u64,
    /// The newest of them.
    to: u64,
}

impl Dropped {
    fn add(&mut self, seq: u64) {
        self.count = self.count.saturating_add(1);
        self.to = self.to.max(seq);
    }

    /// How many somebody has missed who has read up to `after`, at most.
    fn missed(&self, after: u64) -> u64 {
        self.count.min(self.to.saturating_sub(after))
    }
}

type Gone = BTreeMap<Topic, Dropped>;

fn missed(gone: &Gone, after: u64, wants: &Wants) -> u64 {
    gone.iter().filter(|(topic, _)| wants.topic(**topic)).map(|(_, dropped)| dropped.missed(after)).sum()
}

#[derive(Debug, Default)]
struct Ring {
    /// By their numbers.
    events: VecDeque<Event>,
    bytes: usize,
    gone: Gone,
    /// The number of the newest, also when it has gone.
    newest: u64,
}

impl Ring {
    fn pop(&mut self) -> Option<Event> {
        let oldest = self.events.pop_front()?;
        self.bytes = self.bytes.saturating_sub(weight(&oldest));
        Some(oldest)
    }

    fn push(&mut self, event: Event) -> u64 {
        self.newest = event.seq;
        self.bytes = self.bytes.saturating_add(weight(&event));
        let mut dropped = 0;
        // First, so that there is never room for one more than may stay: it would be room for twice as many.
        while self.events.len() >= MAX_EVENTS || self.bytes > MAX_EVENT_BYTES {
            let Some(oldest) = self.pop() else { break };
            self.gone.entry(oldest.what.topic()).or_default().add(oldest.seq);
            dropped += 1;
        }
        self.events.push_back(event);
        dropped
    }
}

/// What a watcher reads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// These, by their numbers, and how far they go.
    Events(Vec<Event>, u64),
    /// Some are no longer there: so many, at most.
    Missed(u64),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Rings {
    head: u64,
    /// By tenant; what is everybody's stands under none.
    rings: BTreeMap<Option<String>, Ring>,
    /// What went with the rings that are no longer there.
    gone: Gone,
}

impl Rings {
    /// The number of the newest event.
    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Takes an event in. Returns how many went for it.
    pub(super) fn push(&mut self, at_ms: i64, tenant: Option<String>, what: What) -> u64 {
        let mut dropped = 0;
        if !self.rings.contains_key(&tenant) {
            dropped = self.make_room();
            // Nobody knows whether it had one before.
            let ring = Ring { gone: self.gone.clone(), ..Ring::default() };
            self.rings.insert(tenant.clone(), ring);
        }
        self.head = self.head.saturating_add(1);
        let event = Event { seq: self.head, at_ms, tenant: tenant.clone(), what };
        dropped + self.rings.entry(tenant).or_default().push(event)
    }

    fn make_room(&mut self) -> u64 {
        let tenants = || self.rings.iter().filter(|(tenant, _)| tenant.is_some());
        if tenants().count() < MAX_TENANTS {
            return 0;
        }
        let silent = tenants().min_by_key(|(_, ring)| ring.newest).map(|(tenant, _)| tenant.clone());
        let Some(mut ring) = silent.and_then(|tenant| self.rings.remove(&tenant)) else { return 0 };
        let mut dropped = 0;
        while let Some(oldest) = ring.pop() {
            ring.gone.entry(oldest.what.topic()).or_default().add(oldest.seq);
            dropped += 1;
        }
        for (topic, more) in ring.gone {
            let all = self.gone.entry(topic).or_default();
            *all = Dropped { count: all.count.saturating_add(more.count), to: all.to.max(more.to) };
        }
        dropped
    }

    /// At most `most` of the events that are wanted and come after `after`.
    pub(super) fn read(&self, after: u64, wants: &Wants, most: usize) -> Found {
        let most = most.max(1);
        let wanted = || self.rings.iter().filter(|(tenant, _)| wants.tenant(tenant.as_deref()));
        let here: u64 = wanted().map(|(_, ring)| missed(&ring.gone, after, wants)).sum();
        let without_ring = match wants.tenants() {
            Tenants::All => true,
            Tenants::These(these) => these.iter().any(|name| !self.rings.contains_key(&Some(name.clone()))),
        };
        let elsewhere = if without_ring { missed(&self.gone, after, wants) } else { 0 };
        let missed = here.saturating_add(elsewhere).min(self.head.saturating_sub(after));
        if missed > 0 {
            return Found::Missed(missed);
        }
        let mut found: Vec<&Event> = Vec::new();
        for (_, ring) in wanted() {
            let from = ring.events.partition_point(|event| event.seq <= after);
            let newer = ring.events.range(from..).filter(|event| wants.topic(event.what.topic()));
            found.extend(newer.take(most));
        }
        found.sort_unstable_by_key(|event| event.seq);
        found.truncate(most);
        // With fewer there is nothing left that is wanted: what is not is passed over, so that its going is no loss.
        let to = if found.len() < most { None } else { found.last().map(|event| event.seq) };
        Found::Events(found.into_iter().cloned().collect(), to.unwrap_or(self.head))
    }
}
