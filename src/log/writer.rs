//! The end of the log: seals groups into a buffer and puts the buffer on the disk, or leaves the log as it was.

use std::io;

use super::segments::{Current, Shelf};
use super::{Break, BreakCause, Head, MAX_LINE, MAX_TORN, Seal, Torn};

pub(super) struct Writer<S: Seal> {
    pub(super) seal: S,
    shelf: Box<dyn Shelf>,
    max_bytes: u64,
    current: Option<Current>,
    /// The newest durable line.
    pub(super) head: Head,
    /// The newest line in the buffer.
    next: Head,
    /// Lines that are not stored yet.
    pub(super) buffer: Vec<u8>,
    /// What the next commit must record before anything else.
    pub(super) gap: Option<Break>,
    /// Where the gap's line will stand.
    gap_at: Head,
    /// The gap's line could not be made: nothing may be stored without it.
    gap_error: Option<String>,
}

impl<S: Seal> Writer<S> {
    pub(super) fn new(
        seal: S,
        shelf: Box<dyn Shelf>,
        max_bytes: u64,
        current: Option<Current>,
        head: Head,
        gap: Option<Break>,
    ) -> Self {
        let (buffer, gap_error) = (Vec::new(), None);
        Self { seal, shelf, max_bytes, current, head, next: head, buffer, gap, gap_at: head, gap_error }
    }

    /// Begins a commit: drops what an earlier one could not store, and records the gap first if there is one.
    pub(super) fn begin(&mut self) {
        self.buffer.clear();
        self.next = self.head;
        self.gap_error = None;
        if let Some(gap) = &self.gap {
            match self.seal.seal_break(gap, &self.next, &mut self.buffer) {
                Ok(hash) => {
                    self.buffer.push(b'\n');
                    self.next = Head { seq: self.next.seq + 1, hash };
                    self.gap_at = self.next;
                }
                Err(why) => self.gap_error = Some(why),
            }
        }
    }

    /// Seals a group behind what is in the buffer; on error the buffer is as before.
    pub(super) fn seal_group(&mut self, entries: &[S::Entry]) -> Result<Vec<Head>, String> {
        let (mark, before) = (self.buffer.len(), self.next);
        let mut heads = Vec::with_capacity(entries.len());
        for entry in entries {
            let start = self.buffer.len();
            let sealed = self.seal.seal(entry, &self.next, &mut self.buffer);
            let fits = self.buffer.len() - start < MAX_LINE;
            match sealed {
                Ok(hash) if fits => self.next = Head { seq: self.next.seq + 1, hash },
                Ok(_) => return self.undo(mark, before, format!("a line is longer than {MAX_LINE} bytes")),
                Err(why) => return self.undo(mark, before, why),
            }
            self.buffer.push(b'\n');
            heads.push(self.next);
        }
        Ok(heads)
    }

    fn undo<T>(&mut self, mark: usize, before: Head, why: String) -> Result<T, String> {
        self.buffer.truncate(mark);
        self.next = before;
        Err(why)
    }

    /// Stores the buffer. Returns the gap that it closed. After an error nothing of the buffer is part of the log.
    pub(super) fn store(&mut self) -> io::Result<Option<Break>> {
        if let Some(why) = &self.gap_error {
            return Err(io::Error::other(why.clone()));
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        if self.gap.as_ref().is_some_and(|gap| gap.torn.len() > MAX_TORN) {
            return Err(io::Error::other("too many torn segments; move the log to a sound disk and restart"));
        }
        let mut current = match self.current.take().filter(|current| current.good < self.max_bytes) {
            Some(current) => current,
            None => {
                let (name, media) = self.shelf.create(self.head.seq + 1)?;
                Current { name, media, good: 0 }
            }
        };
        if let Err(error) = current.media.append(&self.buffer) {
            match current.media.truncate(current.good) {
                Ok(()) => self.current = Some(current),
                Err(_) => self.abandon(current),
            }
            return Err(error);
        }
        if let Err(error) = current.media.sync() {
            // After a failed fsync the kernel may have dropped the dirty pages and call the next one a success
            // ("fsyncgate"; fsync(2), EIO): nothing more can be learnt about this file.
            drop(current.media.truncate(current.good));
            self.abandon(current);
            return Err(error);
        }
        current.good += u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.current = Some(current);
        self.head = self.next;
        Ok(self.gap.take())
    }

    /// Gives a segment up. One that never held a durable line is removed, so that a disk that fails all night does not
    /// fill the directory with names.
    fn abandon(&mut self, current: Current) {
        let Current { name, media, good } = current;
        drop(media);
        if good == 0 && self.shelf.discard(&name).is_ok() {
            return;
        }
        let bytes = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.outage().torn.push(Torn { segment: name, offset: good, bytes });
    }

    fn outage(&mut self) -> &mut Break {
        let empty = || Break { cause: BreakCause::Outage, torn: Vec::new(), refused: 0, error: String::new() };
        self.gap.get_or_insert_with(empty)
    }

    /// Remembers a failed commit for the break record.
    pub(super) fn note_failure(&mut self, why: &str, entries: usize) {
        self.count_refused(entries);
        why.clone_into(&mut self.outage().error);
    }

    pub(super) fn count_refused(&mut self, entries: usize) {
        let gap = self.outage();
        gap.refused = gap.refused.saturating_add(u64::try_from(entries).unwrap_or(u64::MAX));
    }

    pub(super) fn announce_break(&mut self, closed: Option<&Break>) {
        if let Some(gap) = closed {
            self.seal.durable_break(gap, self.gap_at);
        }
    }
}
