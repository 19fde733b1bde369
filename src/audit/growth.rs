//! The tree over the ledger as it stands: shared between the thread that writes the ledger, whoever signs it, and whoever reads what was
//! there at the start.
//!
//! A start goes on from the file `frontier`, which is kept with each checkpoint, every minute, and at the end. Where more than
//! [`MAX_AT_START`] records have to be read, that is done beside the daemon's work: checkpoints begin once it is done.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use tracing::{info, warn};

use super::tree::{Tree, accounts};
use super::{ChainError, Entry, Outcome};
use crate::log::{Hash, Head};
use crate::statement::merkle;

/// So many records are read before the daemon serves, in about a second; more are read beside it.
pub(super) const MAX_AT_START: u64 = 400_000;

/// The newest records that are remembered while those before them are read, which is a hundred times faster than they come.
const MAX_RECENT: usize = 8_192;

/// How many records there are between two looks at whether to go on.
const STEP: u64 = 1_024;

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTree {
    /// Not yet.
    #[error(
        "the ledger is still being read, since nothing was kept to go on from: {read} of {records} records so far; \
         checkpoints are made once that is done"
    )]
    Reading {
        /// How far it is.
        read: u64,
        /// How far it was to the end when it began.
        records: u64,
    },
    /// Not until the next start.
    #[error("the tree over the ledger is not known; start the daemon again, and see its log")]
    Unknown,
}

/// What [`super::Audit::recover`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The tree is known.
    Known,
    /// So many records are being read for it.
    Reading(u64),
    /// Nothing that is there fits.
    Unknown,
}

/// A record that has become durable.
struct Recent {
    at: Head,
    leaf: Hash,
    accounts: Option<(String, u64)>,
}

impl Recent {
    fn onto(self, tree: &mut Tree) {
        tree.push(self.leaf, &self.at, self.accounts.as_ref().map(|(kid, count)| (kid.as_str(), *count)));
    }
}

enum Standing {
    Known(Tree),
    Reading { recent: VecDeque<Recent>, records: u64 },
    Unknown,
}

impl Standing {
    fn grow(&mut self, new: Option<Recent>) {
        match (&mut *self, new) {
            // What was read from the files already is told once more.
            (Self::Known(tree), Some(new)) if new.at.seq <= tree.frontier.size() => {}
            (Self::Known(tree), Some(new)) if new.at.seq == tree.frontier.size() + 1 => new.onto(tree),
            (Self::Reading { recent, .. }, Some(new)) => {
                if recent.len() == MAX_RECENT {
                    recent.pop_front();
                }
                recent.push_back(new);
            }
            _ => *self = Self::Unknown,
        }
    }

    /// Puts what has come since behind what was read, if nothing is missing in between. Whether it is known now.
    fn join(&mut self, read: &Tree) -> bool {
        if let Self::Reading { recent, .. } = self {
            let next = read.frontier.size() + 1;
            if recent.front().is_none_or(|first| first.at.seq <= next) {
                let (mut tree, recent) = (read.clone(), std::mem::take(recent));
                recent.into_iter().filter(|one| one.at.seq >= next).for_each(|one| one.onto(&mut tree));
                *self = Self::Known(tree);
            }
        }
        matches!(self, Self::Known(_))
    }
}

/// The tree, and where it is kept.
pub(super) struct Growth {
    standing: Mutex<Standing>,
    dir: OnceLock<PathBuf>,
    /// How many records the tree has that is kept.
    kept: Mutex<u64>,
    stop: AtomicBool,
    read: AtomicU64,
}

impl Growth {
    /// That of a ledger which ends with `head`: known if it is empty.
    pub(super) fn new(head: &Head) -> Self {
        let standing = match head.seq {
            0 => Standing::Known(Tree::default()),
            records => Standing::Reading { recent: VecDeque::new(), records },
        };
        Self {
            standing: Mutex::new(standing),
            dir: OnceLock::new(),
            kept: Mutex::new(0),
            stop: AtomicBool::new(false),
            read: AtomicU64::new(0),
        }
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn tree(&self) -> Result<Tree, NoTree> {
        match &*self.standing() {
            Standing::Known(tree) => Ok(tree.clone()),
            Standing::Reading { records, .. } => {
                Err(NoTree::Reading { read: self.read.load(Ordering::Relaxed), records: *records })
            }
            Standing::Unknown => Err(NoTree::Unknown),
        }
    }

    /// Keeps it as it is now, if it has grown since.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn keep(&self) -> io::Result<()> {
        let Some(dir) = self.dir.get() else { return Ok(()) };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(tree) = self.tree() else { return Ok(()) };
        if tree.frontier.size() > *kept {
            tree.keep(dir)?;
            *kept = tree.frontier.size();
        }
        Ok(())
    }

    /// Ends what reads.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Finds the tree of the ledger in `ledger`, whose newest durable record is what `head` says, by what is kept in `dir`.
    ///
    /// # Errors
    /// [`ChainError`]: the ledger can't be read.
    pub(super) fn recover(
        self: &Arc<Self>,
        ledger: &Path,
        dir: &Path,
        head: impl Fn() -> Head + Send + 'static,
        at_start: u64,
    ) -> Result<Recovery, ChainError> {
        // Of two callers the first one says where.
        drop(self.dir.set(dir.to_owned()));
        let mut beginnings = Tree::beginnings(ledger, dir)?.into_iter();
        while let Some(tree) = beginnings.next() {
            let records = head().seq.saturating_sub(tree.frontier.size());
            if records > at_start {
                let (growth, ledger) = (Arc::clone(self), ledger.to_owned());
                let all = [tree].into_iter().chain(beginnings);
                let beside = move || growth.read_all(&ledger, all, head);
                thread::Builder::new().name("tree".to_owned()).spawn(beside).map_err(ChainError::Thread)?;
                return Ok(Recovery::Reading(records));
            }
            if self.read(ledger, tree, &head)? {
                return Ok(Recovery::Known);
            }
        }
        *self.standing() = Standing::Unknown;
        Ok(Recovery::Unknown)
    }

    /// Beside the daemon's work.
    fn read_all(&self, ledger: &Path, beginnings: impl Iterator<Item = Tree>, head: impl Fn() -> Head) {
        let mut error = "it does not read as one chain".to_owned();
        for tree in beginnings {
            match self.read(ledger, tree, &head) {
                Ok(true) => {
                    return info!(name: "tree_read", records = head().seq, "the ledger is read; checkpoints are made");
                }
                Ok(false) => {}
                Err(why) => error = why.to_string(),
            }
        }
        if !self.stop.load(Ordering::Relaxed) {
            *self.standing() = Standing::Unknown;
            warn!(name: "tree_unknown", error, "no checkpoint is made of the ledger");
        }
    }

    /// From `tree` to the end, which moves.
    fn read(&self, ledger: &Path, mut tree: Tree, head: &impl Fn() -> Head) -> Result<bool, ChainError> {
        let step = |seq: u64| {
            if seq.is_multiple_of(STEP) {
                self.read.store(seq, Ordering::Relaxed);
                if self.stop.load(Ordering::Relaxed) {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        loop {
            let end = head();
            if !tree.read_on(ledger, &end, step)? {
                return Ok(false);
            }
            if self.standing().join(&tree) {
                return Ok(true);
            }
        }
    }
}

/// The writing thread's side of it.
pub(super) struct Growing {
    growth: Arc<Growth>,
    /// Leaves of records that are not durable yet.
    sealed: VecDeque<(u64, Hash)>,
}

impl Growing {
    pub(super) fn new(growth: Arc<Growth>) -> Self {
        Self { growth, sealed: VecDeque::new() }
    }

    /// A line was made as the successor of `prev`. Whatever was made there before was given up.
    pub(super) fn sealed(&mut self, prev: &Head, line: &[u8]) {
        while self.sealed.pop_back_if(|(seq, _)| *seq > prev.seq).is_some() {}
        self.sealed.push_back((prev.seq + 1, merkle::leaf(line)));
    }

    /// It is durable.
    pub(super) fn durable(&mut self, entry: &Entry, at: &Head) {
        while self.sealed.pop_front_if(|(seq, _)| *seq < at.seq).is_some() {}
        let new = self.sealed.pop_front_if(|(seq, _)| *seq == at.seq).map(|(_, leaf)| {
            let ok = entry.outcome == Outcome::Ok;
            let accounts = accounts(entry.event, ok, entry.texts.kid.as_deref(), entry.count);
            Recent { at: *at, leaf, accounts: accounts.map(|(kid, count)| (kid.to_owned(), count)) }
        });
        self.growth.standing().grow(new);
    }
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;
