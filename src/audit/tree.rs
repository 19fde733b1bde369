//! What a checkpoint says of the ledger: the Merkle tree over its records, its head, and of how many signatures it has a record.
//!
//! It grows with each record that has become durable, and is kept in the file `frontier` beside the checkpoints, so that a start
//! reads only what came after the newest. Where that file is missing or does not fit, the whole ledger is read, from its base on.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Chain, ChainError, Entry, Event, Outcome};
use crate::log::{Base, Hash, Head, durable, lines_after};
use crate::passport::hex;
use crate::statement::{Frontier, merkle};

/// The file's name beside the checkpoints.
const FILE: &str = "frontier";

/// The largest that is read: a count for every key there can be.
const MAX_FILE: usize = 1 << 20;

const MODE: u32 = 0o640;

/// The ledger as a checkpoint sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The tree over the records.
    pub frontier: Frontier,
    /// The hash of the newest.
    pub head: Hash,
    /// Of each key, how many signatures have a record: passports and tickets that were issued, and those that are on record as
    /// unaccounted for.
    pub recorded: BTreeMap<String, u64>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { frontier: Frontier::empty(), head: Head::GENESIS.hash, recorded: BTreeMap::new() }
    }
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    size: u64,
    head: String,
    nodes: Vec<String>,
    recorded: BTreeMap<String, u64>,
}

impl Tree {
    fn push(&mut self, leaf: Hash, at: &Head, accounts: Option<(&str, u64)>) {
        self.frontier.push(leaf);
        self.head = at.hash;
        if let Some((kid, count)) = accounts {
            match self.recorded.get_mut(kid) {
                Some(recorded) => *recorded = recorded.saturating_add(count),
                None => drop(self.recorded.insert(kid.to_owned(), count)),
            }
        }
    }

    /// Keeps it in `dir`.
    ///
    /// # Errors
    /// Of the system.
    pub fn keep(&self, dir: &Path) -> io::Result<()> {
        let stored = Stored {
            size: self.frontier.size(),
            head: hex::encode(&self.head),
            nodes: self.frontier.nodes().iter().map(|node| hex::encode(node)).collect(),
            recorded: self.recorded.clone(),
        };
        durable::replace(&dir.join(FILE), &serde_json::to_vec(&stored)?, MODE)
    }

    fn kept(dir: &Path) -> Option<Self> {
        let bytes = durable::current(&dir.join(FILE), MAX_FILE).ok()??;
        let stored: Stored = serde_json::from_slice(&bytes).ok()?;
        let nodes = stored.nodes.iter().map(|node| hex::decode_exactly(node)).collect::<Option<Vec<_>>>()?;
        let frontier = Frontier::restored(stored.size, nodes)?;
        Some(Self { frontier, head: hex::decode_exactly(&stored.head)?, recorded: stored.recorded })
    }

    /// That of the records that are gone; none if their counts were not kept.
    fn behind(base: Base) -> Option<Self> {
        Some(Self { frontier: base.tree, head: base.prev, recorded: base.recorded? })
    }

    /// That of the ledger in `ledger`, whose newest record is `head`, from what is kept in `dir` and the records after it.
    ///
    /// # Errors
    /// [`ChainError`]: the ledger can't be read.
    pub(super) fn recover(ledger: &Path, dir: &Path, head: &Head) -> Result<Option<Self>, ChainError> {
        for begin in [Self::kept(dir), Self::behind(Base::read(ledger)?)].into_iter().flatten() {
            if begin.frontier.size() > head.seq {
                continue;
            }
            let mut tree = begin;
            let mut follows = true;
            lines_after::<Chain>(ledger, tree.frontier.size(), |link, line| {
                follows &= link.prev == tree.head && link.head.seq == tree.frontier.size() + 1;
                if !follows {
                    return;
                }
                let record: Option<Accounts<'_>> = serde_json::from_slice(line).ok();
                tree.push(merkle::leaf(line), &link.head, record.as_ref().and_then(Accounts::of));
            })?;
            if follows && tree.frontier.size() == head.seq && tree.head == head.hash {
                return Ok(Some(tree));
            }
        }
        Ok(None)
    }
}

/// What of a record says for how many signatures it stands.
#[derive(Deserialize)]
struct Accounts<'a> {
    event: &'a str,
    outcome: &'a str,
    kid: Option<&'a str>,
    count: Option<u64>,
}

impl Accounts<'_> {
    fn of(&self) -> Option<(&str, u64)> {
        let event = Event::ALL.iter().find(|event| event.name() == self.event)?;
        accounts(*event, self.outcome == Outcome::Ok.name(), self.kid, self.count)
    }
}

/// For how many signatures of which key a stored record stands.
pub(super) fn accounted(line: &[u8]) -> Option<(String, u64)> {
    let record: Accounts<'_> = serde_json::from_slice(line).ok()?;
    record.of().map(|(kid, count)| (kid.to_owned(), count))
}

/// For how many signatures of which key a record stands.
pub(super) fn accounts(event: Event, ok: bool, kid: Option<&str>, count: Option<u64>) -> Option<(&str, u64)> {
    match event {
        Event::PassportIssued | Event::TicketIssued if ok => Some((kid?, 1)),
        Event::SignaturesUnaccounted => Some((kid?, count?)),
        _ => None,
    }
}

/// Where the tree is shared between the thread that writes the ledger and those who sign it. None once it is not known: then no
/// checkpoint is made until the next start.
pub(super) type Shared = Arc<Mutex<Option<Tree>>>;

/// The writing thread's side of it.
pub(super) struct Growing {
    pub(super) tree: Shared,
    /// Leaves of records that are not durable yet.
    sealed: VecDeque<(u64, Hash)>,
}

impl Growing {
    pub(super) fn new(tree: Shared) -> Self {
        Self { tree, sealed: VecDeque::new() }
    }

    /// A line was made as the successor of `prev`. Whatever was made there before was given up.
    pub(super) fn sealed(&mut self, prev: &Head, line: &[u8]) {
        while self.sealed.pop_back_if(|(seq, _)| *seq > prev.seq).is_some() {}
        self.sealed.push_back((prev.seq + 1, merkle::leaf(line)));
    }

    /// It is durable.
    pub(super) fn durable(&mut self, entry: &Entry, at: &Head) {
        while self.sealed.pop_front_if(|(seq, _)| *seq < at.seq).is_some() {}
        let leaf = self.sealed.pop_front_if(|(seq, _)| *seq == at.seq);
        let mut shared = self.tree.lock().unwrap_or_else(PoisonError::into_inner);
        match (shared.as_mut(), leaf) {
            (Some(tree), Some((_, leaf))) if tree.frontier.size() + 1 == at.seq => {
                let ok = entry.outcome == Outcome::Ok;
                tree.push(leaf, at, accounts(entry.event, ok, entry.texts.kid.as_deref(), entry.count));
            }
            _ => *shared = None,
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
