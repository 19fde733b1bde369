//! The whole of a verification: the chain, and what checkpoints say of it.

use std::collections::BTreeMap;

use super::anchors::Anchor;
use super::chain::{Damage, Start, Trouble, Walked, walk};
use super::line::Record;
use super::source::{Lines, ReadError};
use crate::audit::tree::accounts;
use crate::audit::{Event, Outcome};
use crate::log::Head;
use crate::statement::{Checkpoint, Frontier, merkle};

/// How many break records a verdict lists.
pub const MAX_BREAKS: usize = 1_000;

/// How many keys are counted: more than any daemon has had.
const MAX_COUNTED: usize = 65_536;

/// Records between two words on how far it has come.
const EVERY: u64 = 4_096;

/// Where to begin, and what is known from elsewhere.
#[derive(Clone, Debug)]
pub struct Given<'a> {
    /// Where the chain must begin.
    pub start: Start,
    /// Checkpoints, sorted by size.
    pub anchors: &'a [Anchor],
    /// The tree over the records before the first one.
    pub frontier: Option<Frontier>,
    /// What the checkpoint counted at which it begins.
    pub counts: Option<&'a Checkpoint>,
}

/// What a verification has found to be so.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The chain.
    pub walked: Walked,
    /// How many records were checked.
    pub records: u64,
    /// The first [`MAX_BREAKS`] records that say that writing was interrupted.
    pub breaks: Vec<u64>,
    /// How many records are covered by the newest checkpoint that fits; 0 without one.
    pub covered: u64,
    /// The position of that checkpoint among those that were given.
    pub anchor: Option<usize>,
    /// Checkpoints whose head is that of the chain.
    pub heads: usize,
    /// Of these, those whose root was computed, too.
    pub roots: usize,
    /// Of these, those whose counts were compared with the records.
    pub counted: usize,
    /// Checkpoints that lie before the first record.
    pub older: usize,
    /// Signatures that are on record as unaccounted for.
    pub unaccounted: u64,
    /// Up to which record it is on record that records were removed; 0 where none is.
    pub pruned: u64,
}

/// What contradicts the records, though each follows the one before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// A record is not the one that was signed.
    #[error(
        "record {first}, or one of the next up to record {last}, was replaced: the history is not the one that the checkpoint \
         {anchor} ({source_name}) has signed"
    )]
    Rewritten {
        /// The first that may be replaced.
        first: u64,
        /// The last.
        last: u64,
        /// The checkpoint.
        anchor: String,
        /// Its file.
        source_name: String,
    },
    /// The end is gone.
    #[error(
        "record {first} is missing, and all up to record {last}: the checkpoint {anchor} ({source_name}) has signed them"
    )]
    Cut {
        /// The first that is missing.
        first: u64,
        /// The last that must be there.
        last: u64,
        /// The checkpoint.
        anchor: String,
        /// Its file.
        source_name: String,
    },
    /// The root is not that of these records.
    #[error("the checkpoint {anchor} ({source_name}) has another root than the records up to {last}")]
    Root {
        /// The checkpoint's size.
        last: u64,
        /// The checkpoint.
        anchor: String,
        /// Its file.
        source_name: String,
    },
    /// Somebody signed passports that are not on record.
    #[error(
        "{} signatures of {kid} have no record: the signer had counted {signed} when record {last} was written, and {recorded} \
         are on record (checkpoint {anchor})", signed - recorded
    )]
    Unrecorded {
        /// The key.
        kid: String,
        /// The signer's count.
        signed: u64,
        /// The records'.
        recorded: u64,
        /// The checkpoint's size.
        last: u64,
        /// The checkpoint.
        anchor: String,
    },
    /// The checkpoint counts other records than there are.
    #[error("the checkpoint {anchor} counts {recorded} records of {kid} up to record {last}, and there are {counted}")]
    Miscounted {
        /// The key.
        kid: String,
        /// The checkpoint's count.
        recorded: u64,
        /// How many there are.
        counted: u64,
        /// The checkpoint's size.
        last: u64,
        /// The checkpoint.
        anchor: String,
    },
}

impl Finding {
    /// The first record that is not as it must be.
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Rewritten { first, .. } | Self::Cut { first, .. } => *first,
            Self::Root { last, .. } | Self::Unrecorded { last, .. } | Self::Miscounted { last, .. } => *last,
        }
    }
}

/// Why a ledger does not verify.
#[derive(Debug, thiserror::Error)]
pub enum Bad {
    /// Host or operator: it can't be read.
    #[error(transparent)]
    Read(ReadError),
    /// A record is not as it must be.
    #[error(transparent)]
    Damage(Damage),
    /// Records contradict a checkpoint.
    #[error(transparent)]
    Finding(#[from] Finding),
}

impl From<Trouble> for Bad {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Read(error) => Self::Read(error),
            Trouble::Damage(damage) => Self::Damage(damage),
        }
    }
}

/// What is carried from record to record.
struct Check<'a> {
    given: &'a Given<'a>,
    /// The next checkpoint.
    next: usize,
    tree: Option<Frontier>,
    counts: Option<BTreeMap<String, u64>>,
    /// They begin at a checkpoint: a key that it does not list may have signed since its counts were frozen.
    begun: bool,
    verified: Verified,
    /// Where the chain was last known to be as it was signed.
    sound: u64,
}

/// Checks every record of `lines`. Memory does not grow with them. `tick` is told of bytes that were read.
///
/// # Errors
/// [`Bad`] names the first record that is not as it must be.
pub fn verify(lines: &mut dyn Lines, given: &Given<'_>, tick: &mut dyn FnMut(u64)) -> Result<Verified, Bad> {
    verify_each(lines, given, tick, &mut |_| {})
}

/// The same; `each` is given every record that is as it must be, in order.
///
/// # Errors
/// As [`verify`].
pub fn verify_each(
    lines: &mut dyn Lines,
    given: &Given<'_>,
    tick: &mut dyn FnMut(u64),
    each: &mut dyn FnMut(&Record<'_>),
) -> Result<Verified, Bad> {
    let nothing = Walked { before: Head::GENESIS, head: Head::GENESIS, skipped: 0 };
    let verified = Verified {
        walked: nothing,
        records: 0,
        breaks: Vec::new(),
        covered: 0,
        anchor: None,
        heads: 0,
        roots: 0,
        counted: 0,
        older: 0,
        unaccounted: 0,
        pruned: 0,
    };
    let mut check = Check { given, next: 0, tree: None, counts: None, begun: false, verified, sound: 0 };
    let mut finding = None;
    let mut bytes = 0;
    let walked = walk(lines, given.start, &mut |record, line| {
        bytes += u64::try_from(line.len()).unwrap_or(0) + 1;
        if record.seq.is_multiple_of(EVERY) {
            tick(std::mem::take(&mut bytes));
        }
        finding = check.record(record, line).err();
        if finding.is_none() {
            each(record);
        }
        finding.is_none()
    })?;
    if let Some(finding) = finding {
        return Err(finding.into());
    }
    if check.verified.records == 0 {
        check.begin(walked.before)?;
    }
    check.end(walked.head.seq)?;
    let mut verified = check.verified;
    verified.walked = walked;
    Ok(verified)
}

impl Check<'_> {
    /// Before the first record.
    fn begin(&mut self, before: Head) -> Result<(), Finding> {
        let Given { anchors, frontier, counts, .. } = self.given;
        self.tree = if before.seq == 0 {
            Some(Frontier::empty())
        } else {
            frontier.clone().filter(|tree| tree.size() == before.seq)
        };
        if let Some(counts) = counts {
            self.begin_counts(counts);
        } else if before.seq == 0 {
            self.counts = Some(BTreeMap::new());
        }
        self.next = anchors.iter().take_while(|anchor| anchor.checkpoint.size < before.seq).count();
        (self.verified.older, self.sound) = (self.next, before.seq);
        self.compare(before)
    }

    fn record(&mut self, record: &Record<'_>, line: &[u8]) -> Result<(), Finding> {
        if self.verified.records == 0 {
            self.begin(Head { seq: record.seq.saturating_sub(1), hash: record.prev.0 })?;
        }
        self.verified.records += 1;
        if &*record.event == Event::LedgerBreak.name() && self.verified.breaks.len() < MAX_BREAKS {
            self.verified.breaks.push(record.seq);
        }
        if &*record.event == Event::SignaturesUnaccounted.name() {
            self.verified.unaccounted = self.verified.unaccounted.saturating_add(record.count.unwrap_or(0));
        }
        if &*record.event == Event::LedgerPruned.name() {
            let last = record.detail.as_deref().and_then(removed_to).unwrap_or(0);
            self.verified.pruned = self.verified.pruned.max(last);
        }
        // Without a checkpoint to come there is nothing to compare a root or a count with.
        if self.next < self.given.anchors.len() {
            if let Some(tree) = &mut self.tree {
                tree.push(merkle::leaf(line));
            }
            if let (Some(counts), Some((kid, more))) = (&mut self.counts, signatures(record)) {
                if let Some(count) = counts.get_mut(kid) {
                    *count = count.saturating_add(more);
                } else if !self.begun && counts.len() < MAX_COUNTED {
                    counts.insert(kid.to_owned(), more);
                }
            }
        }
        self.compare(Head { seq: record.seq, hash: record.hash.0 })
    }

    /// Compares the chain, where it stands, with the checkpoints of that size.
    fn compare(&mut self, head: Head) -> Result<(), Finding> {
        while let Some(anchor) = self.given.anchors.get(self.next).filter(|one| one.checkpoint.size == head.seq) {
            let (checkpoint, name) = (&anchor.checkpoint, anchor.to_string());
            let source_name = anchor.source.clone();
            if checkpoint.head != head.hash {
                let first = self.sound.saturating_add(1).min(head.seq);
                return Err(Finding::Rewritten { first, last: head.seq, anchor: name, source_name });
            }
            if let Some(tree) = &self.tree {
                if tree.root() != checkpoint.root {
                    return Err(Finding::Root { last: head.seq, anchor: name, source_name });
                }
                self.verified.roots += 1;
            }
            self.count(checkpoint, &name)?;
            (self.verified.covered, self.sound) = (head.seq, head.seq);
            (self.verified.anchor, self.verified.heads) = (Some(self.next), self.verified.heads + 1);
            self.next += 1;
        }
        Ok(())
    }

    fn begin_counts(&mut self, checkpoint: &Checkpoint) {
        self.begun = true;
        self.counts = Some(checkpoint.counts.iter().map(|one| (one.kid.clone(), one.recorded)).collect());
    }

    fn count(&mut self, checkpoint: &Checkpoint, name: &str) -> Result<(), Finding> {
        let last = checkpoint.size;
        for one in &checkpoint.counts {
            let (kid, signed, recorded, anchor) = (one.kid.clone(), one.signed, one.recorded, name.to_owned());
            if signed > recorded {
                return Err(Finding::Unrecorded { kid, signed, recorded, last, anchor });
            }
            if let Some(counts) = &mut self.counts {
                // One that the first checkpoint does not list.
                if self.begun && !counts.contains_key(&kid) {
                    counts.insert(kid, recorded);
                    continue;
                }
                let counted = counts.get(&kid).copied().unwrap_or(0);
                if counted != recorded {
                    return Err(Finding::Miscounted { kid, recorded, counted, last, anchor });
                }
            }
        }
        match &mut self.counts {
            Some(_) => self.verified.counted += 1,
            // What comes between this one and the next can be counted.
            None => self.begin_counts(checkpoint),
        }
        Ok(())
    }

    /// Behind the last record.
    fn end(&self, last: u64) -> Result<(), Finding> {
        let Some(newest) = self.given.anchors.last().filter(|anchor| anchor.checkpoint.size > last) else {
            return Ok(());
        };
        Err(Finding::Cut {
            first: last.saturating_add(1),
            last: newest.checkpoint.size,
            anchor: newest.to_string(),
            source_name: newest.source.clone(),
        })
    }
}

/// The last record that a `ledger_pruned` says is removed: `records 1 to 9, covered by …`.
fn removed_to(detail: &str) -> Option<u64> {
    detail.strip_prefix("records ")?.split_once(" to ")?.1.split_once(',')?.0.parse().ok()
}

/// How many signatures of which key a record accounts for.
fn signatures<'r>(record: &'r Record<'_>) -> Option<(&'r str, u64)> {
    let event = [Event::PassportIssued, Event::TicketIssued, Event::SignaturesUnaccounted]
        .into_iter()
        .find(|event| *event.name() == *record.event)?;
    accounts(event, *record.outcome == *Outcome::Ok.name(), record.kid.as_deref(), record.count)
}
