//! The second sink: journald, from a thread of its own that the commit thread never waits for. What is in a ledger is read
//! from there, and comes without gaps, however long journald was away ([`forward`]); what is in none (amnesia) is queued, and
//! dropped and counted when journald does not take it.

mod copy;
mod forward;
mod mark;
mod stats;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle, Thread};

use forward::Forwarder;
pub use stats::JournaldStats;
use stats::Shared;

use super::entry::Entry;
use crate::clock::Moment;
use crate::log::journal::Sender;
use crate::log::{Courier, Follower, Head, Seal};

/// Records that may wait for journald where there is no ledger; more are dropped.
const MAX_QUEUED: usize = 4096;

/// A ledger to read along in.
pub(super) struct Source<'a> {
    /// Where it is.
    pub(super) dir: &'a Path,
    /// [`crate::log::Segments::changes`].
    pub(super) changes: Arc<AtomicU64>,
    /// Its newest record.
    pub(super) head: u64,
    /// The time.
    pub(super) now: Moment,
}

/// The sending end. The thread ends when it is dropped and what is left was tried.
#[derive(Debug)]
pub(super) enum Journald {
    /// Records are handed over.
    Queue(SyncSender<(Entry, Head)>, Arc<JournaldStats>),
    /// The thread is told that there are more in the ledger.
    Follow(Arc<Shared>, Thread),
}

impl Journald {
    /// Starts the thread for records that are in no ledger; none if nothing is at `path`: the host has no journald.
    pub(super) fn start(path: &Path) -> io::Result<Option<(Self, JoinHandle<()>)>> {
        if !path.exists() {
            return Ok(None);
        }
        let sender = Sender::new(path)?;
        let (journald, inbox) = Self::queue();
        let counted = journald.stats();
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn(move || run(sender, &inbox, &counted))?;
        Ok(Some((journald, thread)))
    }

    fn queue() -> (Self, Receiver<(Entry, Head)>) {
        let (queue, inbox) = sync_channel(MAX_QUEUED);
        (Self::Queue(queue, Arc::default()), inbox)
    }

    /// Starts the thread that reads along in a ledger, for a journald that is at `path` now or later.
    pub(super) fn follow<S: Seal>(path: &Path, source: Source<'_>) -> io::Result<(Self, JoinHandle<()>)> {
        let shared = Arc::new(Shared::new(source.head));
        shared.stats.set_up(path.exists());
        let Source { dir, changes, now, .. } = source;
        let lines = |next| Follower::<S>::new(dir, changes, next);
        let forwarder = Forwarder::new(dir, lines, Courier::new(path), Arc::clone(&shared), now);
        let thread = thread::Builder::new().name(NAME.to_owned()).spawn(move || forwarder.run())?;
        Ok((Self::Follow(shared, thread.thread().clone()), thread))
    }

    pub(super) fn stats(&self) -> Arc<JournaldStats> {
        match self {
            Self::Queue(_, stats) => Arc::clone(stats),
            Self::Follow(shared, _) => Arc::clone(&shared.stats),
        }
    }

    /// A record is durable.
    pub(super) fn send(&self, entry: Entry, at: Head) {
        match self {
            Self::Queue(queue, stats) => {
                if queue.try_send((entry, at)).is_err() {
                    stats.count(false);
                }
            }
            Self::Follow(shared, thread) => {
                shared.durable(at.seq, entry.at);
                thread.unpark();
            }
        }
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        if let Self::Follow(shared, thread) = self {
            shared.end();
            thread.unpark();
        }
    }
}

const NAME: &str = "journald";

fn run(mut sender: Sender, inbox: &Receiver<(Entry, Head)>, stats: &JournaldStats) {
    while let Ok((entry, at)) = inbox.recv() {
        let sent = sender.send(&copy::of_entry(&entry, &at));
        stats.set_up(sent);
        stats.count(sent);
    }
}

#[cfg(test)]
mod tests;
