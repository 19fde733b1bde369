//! From entries to lines, and what becomes of a line once it is durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::entry::Entry;
use super::event::Event;
use super::growth::Growing;
use super::journald::Journald;
use super::record::{self, Beside};
use super::tree;
use crate::clock::Moment;
use crate::log::{Break, Hash, Head, Link, Seal};
use crate::metrics::Metrics;

/// Makes records of entries, for the commit thread.
pub(super) struct Chain {
    pub(super) journald: Option<Journald>,
    pub(super) now: fn() -> Moment,
    pub(super) metrics: Option<Arc<Metrics>>,
    pub(super) state_seq: Arc<AtomicU64>,
    pub(super) growing: Growing,
    /// Amnesia mode.
    pub(super) forgets: bool,
}

impl Chain {
    /// What journald is given of a record.
    fn copy(&self, entry: Entry) -> Option<Entry> {
        if self.forgets { entry.of_life() } else { Some(entry) }
    }

    fn beside<'a>(&self, gap: Option<&'a Break>) -> Beside<'a> {
        Beside { gap, state_seq: self.state_seq.load(Ordering::Relaxed) }
    }

    /// Appends a line, and remembers its leaf until it is durable.
    fn made(&mut self, entry: &Entry, gap: Option<&Break>, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        let start = out.len();
        let hash = record::write(entry, self.beside(gap), prev, out)?;
        self.growing.sealed(prev, out.get(start..).unwrap_or_default());
        Ok(hash)
    }

    fn count(&self, event: Event) {
        if let Some(metrics) = &self.metrics {
            metrics.ledger_events.at(event.name()).inc();
        }
    }
}

impl Seal for Chain {
    type Entry = Entry;

    fn seal(&mut self, entry: &Entry, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        self.made(entry, None, prev, out)
    }

    fn seal_break(&mut self, gap: &Break, prev: &Head, out: &mut Vec<u8>) -> Result<Hash, String> {
        self.made(&Entry::for_break(gap, (self.now)()), Some(gap), prev, out)
    }

    fn durable(&mut self, entry: Entry, at: Head) {
        self.growing.durable(&entry, &at);
        self.count(entry.event);
        if let Some(journald) = &self.journald
            && let Some(entry) = self.copy(entry)
        {
            journald.send(entry, at);
        }
    }

    fn durable_break(&mut self, gap: &Break, at: Head) {
        let entry = Entry::for_break(gap, (self.now)());
        self.growing.durable(&entry, &at);
        self.count(Event::LedgerBreak);
        if let Some(journald) = &self.journald {
            journald.send(entry, at);
        }
    }

    fn written(line: &[u8]) -> Option<i64> {
        record::written(line)
    }

    fn accounts(line: &[u8]) -> Option<(String, u64)> {
        tree::accounted(line)
    }

    fn read(line: &[u8]) -> Result<Link, String> {
        record::read(line)
    }
}
