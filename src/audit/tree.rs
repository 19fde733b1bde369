//! What a checkpoint says of the ledger: the Merkle tree over its records, its head, and of how many signatures it has a record.
//!
//! It grows with each record that has become durable ([`super::growth`]), and is kept in the file `frontier` beside the checkpoints, so
//! that a start reads only what came after. Where that file is missing or does not fit, the whole ledger is read, from its base on.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Chain, ChainError, Event, Outcome};
use crate::log::{Base, Hash, Head, durable, lines_after};
use crate::passport::hex;
use crate::statement::{Frontier, merkle};

/// The file's name beside the checkpoints.
pub(super) const FILE: &str = "frontier";

/// The largest that is kept or read: counts of some 30,000 keys, ever.
const MAX_FILE: usize = 8 << 20;

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
    pub(super) fn push(&mut self, leaf: Hash, at: &Head, accounts: Option<(&str, u64)>) {
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
        let bytes = serde_json::to_vec(&stored)?;
        if bytes.len() > MAX_FILE {
            // It could not be read again.
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                "too many keys have signed; the ledger is read at each start",
            ));
        }
        durable::replace(&dir.join(FILE), &bytes, MODE)
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

    /// Where reading may begin: what is kept in `dir`, and what is known of the records that are gone; the likelier first.
    ///
    /// # Errors
    /// [`ChainError`]: the ledger's base can't be read.
    pub(super) fn beginnings(ledger: &Path, dir: &Path) -> Result<Vec<Self>, ChainError> {
        Ok([Self::kept(dir), Self::behind(Base::read(ledger)?)].into_iter().flatten().collect())
    }

    /// Goes on to the record `head` of the ledger, which is durable. `step` is told how far it is, and may end it. Whether the
    /// records follow: none does that another history left.
    ///
    /// # Errors
    /// [`ChainError`]: the ledger can't be read.
    pub(super) fn read_on(
        &mut self,
        ledger: &Path,
        head: &Head,
        mut step: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<bool, ChainError> {
        if self.frontier.size() < head.seq {
            lines_after::<Chain>(ledger, self.frontier.size(), |link, line| {
                let follows = link.prev == self.head && link.head.seq == self.frontier.size() + 1;
                if !follows || link.head.seq > head.seq {
                    return ControlFlow::Break(());
                }
                let record: Option<Accounts<'_>> = serde_json::from_slice(line).ok();
                self.push(merkle::leaf(line), &link.head, record.as_ref().and_then(Accounts::of));
                if link.head.seq == head.seq { ControlFlow::Break(()) } else { step(link.head.seq) }
            })?;
        }
        Ok(self.frontier.size() == head.seq && self.head == head.hash)
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

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
