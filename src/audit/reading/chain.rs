//! The chain, record after record: each has its own hash, the number after that of the one before, and names its hash.

use super::line::Record;
use super::source::{Lines, Piece, Place, ReadError};
use crate::log::{Fault, Hash, Head};

/// How far a missing record is looked for further down, to tell a changed order from a gap.
const LOOK_AHEAD: usize = 100_000;

/// The first record that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: record {seq} {fault}")]
pub struct Damage {
    /// Where it shows.
    pub place: Place,
    /// Its number.
    pub seq: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// Why a chain could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Host or operator: it can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Someone or something changed what was stored.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// Where a chain must begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With this record: 1, or the one behind what was removed by the rules, whose hash is known.
    Behind(Head),
    /// The same; records up to that one are passed over unread.
    SkipTo(Head),
    /// With any record.
    Anywhere,
}

/// What a walk along the chain has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// What stands before the first record, by that one's word; the beginning of all where there is no record.
    pub before: Head,
    /// The newest record.
    pub head: Head,
    /// Records that were passed over.
    pub skipped: u64,
}

/// Goes along the chain in `lines`, and shows `each` record with its line once it is known to follow the one before. `each`
/// says whether to go on.
///
/// # Errors
/// [`Trouble::Damage`] names the first record that is altered, missing, repeated, out of order, or torn.
pub fn walk(
    lines: &mut dyn Lines,
    start: Start,
    each: &mut dyn FnMut(&Record<'_>, &[u8]) -> bool,
) -> Result<Walked, Trouble> {
    let mut chain = Chain::new(start);
    let mut line = Vec::new();
    loop {
        let piece = lines.next(&mut line)?;
        let fault = match piece {
            Piece::End => match chain.close() {
                Some(fault) => fault,
                None => match chain.ended() {
                    Some((seq, fault)) => return Err(Damage { place: lines.place(), seq, fault }.into()),
                    None => break,
                },
            },
            Piece::Begins(first) => match chain.begins(first) {
                Some(fault) => fault,
                None => continue,
            },
            Piece::Overlong => Fault::Altered("its line is too long".to_owned()),
            Piece::Torn(bytes) | Piece::Beyond(bytes) => Fault::Torn { bytes },
            Piece::Corrupt(why) => Fault::Altered(why),
            Piece::Forged { seq, why } => {
                return Err(Damage { place: lines.place(), seq, fault: Fault::Altered(why) }.into());
            }
            Piece::Line if chain.skips(&line) => continue,
            Piece::Line => match Record::read(&line) {
                Ok(record) => match chain.follow(&record) {
                    Ok(()) if each(&record, &line) => continue,
                    Ok(()) => break,
                    Err(fault) => fault,
                },
                Err(why) => Fault::Altered(why),
            },
        };
        let (place, seq) = (lines.place(), chain.next());
        let fault = match fault {
            Fault::Missing { found } if occurs(lines, seq)? => Fault::OutOfOrder { found },
            other => other,
        };
        return Err(Damage { place, seq, fault }.into());
    }
    let before = chain.before.or(chain.head).unwrap_or(Head::GENESIS);
    Ok(Walked { before, head: chain.head.unwrap_or(before), skipped: chain.skipped })
}

/// Whether a record of this number comes soon.
fn occurs(lines: &mut dyn Lines, seq: u64) -> Result<bool, ReadError> {
    let mut line = Vec::new();
    for _ in 0..LOOK_AHEAD {
        match lines.next(&mut line)? {
            Piece::End => break,
            Piece::Line if Record::look(&line).is_ok_and(|record| record.seq == seq) => return Ok(true),
            _ => {}
        }
    }
    Ok(false)
}

struct Chain {
    head: Option<Head>,
    before: Option<Head>,
    /// Records up to this one are passed over, as long as none came behind it.
    skip_to: Option<Head>,
    skipped: u64,
    /// The hash of that one, once it was passed over.
    seen: Option<Hash>,
    /// What the name of a segment says of its first record, until that comes.
    promised: Option<u64>,
}

impl Chain {
    fn new(start: Start) -> Self {
        let (head, skip_to) = match start {
            Start::Behind(head) => (Some(head), None),
            Start::SkipTo(head) => (Some(head), Some(head)),
            Start::Anywhere => (None, None),
        };
        Self { head, before: head, skip_to, skipped: 0, seen: None, promised: None }
    }

    /// The number of the record that must come.
    fn next(&self) -> u64 {
        self.head.map_or_else(|| self.promised.unwrap_or(1), |head| head.seq.saturating_add(1))
    }

    fn skips(&mut self, line: &[u8]) -> bool {
        let Some(to) = self.skip_to else { return false };
        let found = Record::look(line).ok().filter(|record| record.seq <= to.seq);
        let skips = found.is_some();
        if let Some(record) = found {
            self.seen = (record.seq == to.seq).then_some(record.hash.0);
            (self.skipped, self.promised) = (self.skipped.saturating_add(1), None);
        } else {
            self.skip_to = None;
        }
        skips
    }

    /// Where all that came was passed over: the one to begin behind must have been there, and be that one.
    fn ended(&self) -> Option<(u64, Fault)> {
        let to = self.skip_to.filter(|_| self.skipped > 0)?;
        match self.seen {
            Some(hash) if hash == to.hash => None,
            Some(_) => Some((to.seq, Fault::Altered("it is not the one that was signed".to_owned()))),
            None => Some((to.seq, Fault::Gone)),
        }
    }

    /// A segment begins; the one before it may have had no record.
    fn begins(&mut self, first: u64) -> Option<Fault> {
        let fault = self.close();
        self.promised = Some(first);
        fault
    }

    /// Whether a segment without records was begun for the one that must come. Its name bears witness that those before it
    /// were there.
    fn close(&mut self) -> Option<Fault> {
        let found = self.promised.take()?;
        let head = self.head?;
        let next = head.seq.saturating_add(1);
        if found > next {
            return Some(Fault::Missing { found });
        }
        (found < next && self.skip_to.is_none()).then_some(Fault::Misnamed)
    }

    fn follow(&mut self, record: &Record<'_>) -> Result<(), Fault> {
        let link = Head { seq: record.seq, hash: record.hash.0 };
        let promised = self.promised.take();
        if let Some(head) = self.head {
            let (expected, found) = (head.seq.saturating_add(1), record.seq);
            if found < expected {
                return Err(Fault::Repeated { found });
            }
            if found > expected {
                return Err(Fault::Missing { found });
            }
            if record.prev.0 != head.hash {
                return Err(Fault::Unlinked);
            }
        } else {
            let Some(before) = record.seq.checked_sub(1) else {
                return Err(Fault::Altered("its number is 0".to_owned()));
            };
            let before = Head { seq: before, hash: record.prev.0 };
            if before.seq == 0 && before != Head::GENESIS {
                return Err(Fault::Altered("it is the first, and names one before it".to_owned()));
            }
            self.before = Some(before);
        }
        if promised.is_some_and(|first| first != record.seq) {
            return Err(Fault::Misnamed);
        }
        self.head = Some(link);
        Ok(())
    }
}
