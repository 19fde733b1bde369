//! The bounded queue before the log's reader. When it is full, entries are dropped and counted, and an entry in their place
//! says how many.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::record::{Form, Record};
use super::sink::Sink;
use super::storm::Storm;

/// Entries that wait at the most.
pub(super) const MAX_ENTRIES: usize = 4096;
/// Bytes of them: an entry has a few hundred, seldom [`super::record::MAX_LINE`] and more.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Entries on their way to a sink.
#[derive(Debug)]
pub(super) struct Queue {
    form: Form,
    state: Mutex<State>,
    /// Tells the writer that there is an entry, or that one will be due.
    filled: Condvar,
    /// Tells [`Queue::flush`] that there is none left.
    emptied: Condvar,
}

#[derive(Debug)]
struct State {
    /// None: the writer has it. Until there is a writer, those who say something write it.
    sink: Option<Sink>,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries dropped since the newest that was queued.
    dropped: u64,
    /// Whether the writer holds an entry that is not written yet.
    writing: bool,
    storm: Storm,
}

#[derive(Debug, Default)]
struct Entry {
    /// How many were dropped before this one.
    dropped: u64,
    text: Vec<u8>,
}

impl State {
    fn put(&mut self, text: Vec<u8>) {
        if self.entries.len() >= MAX_ENTRIES || self.bytes.saturating_add(text.len()) > MAX_BYTES {
            self.dropped += 1;
            return;
        }
        self.bytes += text.len();
        let dropped = mem::take(&mut self.dropped);
        self.entries.push_back(Entry { dropped, text });
    }

    /// The oldest entry. Drops that no later entry followed come as an entry without text.
    fn take(&mut self) -> Option<Entry> {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes = self.bytes.saturating_sub(entry.text.len());
            return Some(entry);
        }
        let dropped = mem::take(&mut self.dropped);
        (dropped > 0).then(|| Entry { dropped, ..Entry::default() })
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.dropped == 0
    }
}

impl Queue {
    pub(super) fn new(form: Form, sink: Sink) -> Self {
        let state = State {
            sink: Some(sink),
            entries: VecDeque::new(),
            bytes: 0,
            dropped: 0,
            writing: false,
            storm: Storm::default(),
        };
        Self { form, state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before the lock goes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a record, or counts it. Waits for nobody.
    pub(super) fn say(&self, record: Record) {
        let mut records = Vec::new();
        let said = self.lock().storm.admit(record, Instant::now(), &mut records);
        records.extend(said);
        // Not under the lock: this is the dear part.
        let texts: Vec<_> = records.iter().map(|record| self.form.encode(record)).collect();
        let mut state = self.lock();
        texts.into_iter().for_each(|text| state.put(text));
        if state.sink.is_some() {
            self.pump(&mut state, Duration::ZERO);
        }
        drop(state);
        // Also when nothing was queued: the writer learns when the summary is due.
        self.filled.notify_one();
    }

    /// Writes what can be written within `patience`, where there is no writer.
    fn pump(&self, state: &mut State, patience: Duration) {
        let Some(mut sink) = state.sink.take() else { return };
        let (mut lost, end) = (0, Instant::now() + patience);
        while !state.is_empty() && sink.ready(end.saturating_duration_since(Instant::now())) {
            if let Some(entry) = state.take() {
                self.hand_over(&mut sink, &entry, &mut lost, false);
            }
        }
        state.sink = Some(sink);
        match state.entries.front_mut() {
            Some(entry) => entry.dropped += lost,
            None => state.dropped += lost,
        }
    }

    /// Writes one entry, and before it how many are missing.
    fn hand_over(&self, sink: &mut Sink, entry: &Entry, lost: &mut u64, may_pause: bool) {
        *lost += entry.dropped;
        if *lost > 0 && sink.write(&self.form.encode(&Record::gap(*lost)), may_pause) {
            *lost = 0;
        }
        if !entry.text.is_empty() && !sink.write(&entry.text, may_pause) {
            *lost += 1;
        }
    }

    /// The writer's life.
    pub(super) fn drain(&self) {
        let Some(mut sink) = self.lock().sink.take() else { return };
        let mut lost = 0;
        loop {
            let entry = self.next();
            self.hand_over(&mut sink, &entry, &mut lost, true);
        }
    }

    /// The next entry; waits for one.
    fn next(&self) -> Entry {
        let mut state = self.lock();
        state.writing = false;
        loop {
            let now = Instant::now();
            for summary in state.storm.due(now) {
                state.put(self.form.encode(&summary));
            }
            if let Some(entry) = state.take() {
                state.writing = true;
                return entry;
            }
            self.emptied.notify_all();
            let due = state.storm.next_due().map(|due| due.saturating_duration_since(now));
            state = match due {
                Some(pause) => self.filled.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0,
                None => self.filled.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits until everything is written, counts included, or `patience` is over.
    pub(super) fn flush(&self, patience: Duration) {
        let mut state = self.lock();
        for summary in state.storm.end() {
            state.put(self.form.encode(&summary));
        }
        if state.sink.is_some() {
            return self.pump(&mut state, patience);
        }
        self.filled.notify_one();
        let waits = |state: &mut State| state.writing || !state.is_empty();
        drop(self.emptied.wait_timeout_while(state, patience, waits));
    }
}

#[cfg(test)]
impl Queue {
    /// Whether the writer holds an entry.
    pub(super) fn is_writing(&self) -> bool {
        self.lock().writing
    }

    /// Entries that wait, and those dropped after them.
    pub(super) fn waiting(&self) -> (usize, u64) {
        let state = self.lock();
        (state.entries.len(), state.dropped)
    }
}
