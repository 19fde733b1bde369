//! Reading segments: what is good, what is torn, what is damaged.
//!
//! A break line names the torn segments before it, with the offset at which each ends. It is part of the chain, so these
//! cuts are as trustworthy as every other line. They are collected first (a break after torn bytes is always the first
//! line of its segment), then the segments are read in order up to their cuts. A segment that was cut is never written to
//! again: what is behind the cut is evidence, and whatever came behind it would not be read.

use std::collections::HashMap;
use std::path::Path;

use super::base::Base;
use super::keep::twins;
use super::names::{Name, list};
use super::segment::{Piece, Segment};
use super::{Break, BreakCause, Fault, Head, Link, LogError, MAX_TORN, Seal, Torn};

/// How many break records a report lists.
pub(super) const MAX_REPORTED: usize = 1_000;

/// What a complete check of a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How many segment files were read.
    pub segments: usize,
    /// The sequence number of its oldest record: 1 unless older ones were removed.
    pub first: u64,
    /// How many records the chain has.
    pub records: u64,
    /// Its newest record.
    pub head: Head,
    /// The sequence numbers of the first 1,000 break records: places where the log says that writing failed.
    pub breaks: Vec<u64>,
}

/// Checks every record of the log in `dir`, without locking it. Streams: memory does not grow with the log.
///
/// # Errors
/// [`LogError::Damaged`] names the first record that is altered, missing, repeated or out of order. Records cut off at
/// the very end cannot be seen from the chain alone; compare [`Report::head`] with a checkpoint or with the state.
pub fn verify<S: Seal>(dir: &Path) -> Result<Report, LogError> {
    let (names, base) = Base::of(dir, &list(dir)?)?;
    twins(dir, &names)?;
    let (_, cuts) = survey::<S>(dir, &names)?;
    let (segments, first) = (names.len(), base.first);
    let mut report = Report { segments, first, records: 0, head: base.head(), breaks: Vec::new() };
    for name in &names {
        let mut segment = Segment::open(dir, name, &cuts)?;
        let tail = segment.walk::<S>(&mut report.head, false, |link| {
            if link.is_break && report.breaks.len() < MAX_REPORTED {
                report.breaks.push(link.head.seq);
            }
        })?;
        if tail.torn > 0 {
            return Err(segment.damaged(tail.lines + 1, report.head.seq + 1, Fault::Torn { bytes: tail.torn }));
        }
    }
    report.records = report.head.seq - (first - 1);
    Ok(report)
}

/// What is needed to go on with a log.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) mark: u64,
    pub(super) gap: Option<Break>,
    /// The segment to append to and its length, unless a new one must be begun.
    pub(super) append_to: Option<(String, u64)>,
}

/// Checks the newest segment line by line and the linkage of earlier ones, and finds where the log ends.
pub(super) fn recover<S: Seal>(dir: &Path, names: &[Name]) -> Result<Found, LogError> {
    let (names, base) = Base::of(dir, names)?;
    let (firsts, cuts) = survey::<S>(dir, &names)?;
    let newest = firsts.iter().rposition(Option::is_some).unwrap_or(0);
    let (mut head, mut mark) = (base.head(), base.mark);
    for (name, first) in names.iter().zip(&firsts).take(newest) {
        let last = Segment::open(dir, name, &cuts)?.leap::<S>(first.as_ref(), &mut head)?;
        mark = mark.max(last.map_or(0, |link| link.mark));
    }
    let mut torn = Vec::new();
    let mut append_to = None;
    for name in names.iter().skip(newest) {
        let mut segment = Segment::open(dir, name, &cuts)?;
        let tail = segment.walk::<S>(&mut head, true, |link| mark = mark.max(link.mark))?;
        segment.sync()?;
        append_to =
            (tail.torn == 0 && segment.cut.is_none() && !segment.packed).then(|| (segment.name.clone(), tail.good));
        if tail.torn > 0 {
            torn.push(Torn { segment: segment.name, offset: tail.good, bytes: tail.torn });
        }
    }
    // A torn segment may be followed by one that is still empty: the break goes there. Behind good lines it may not go.
    if !torn.is_empty() && append_to.as_ref().is_some_and(|(_, good)| *good > 0) {
        append_to = None;
    }
    if torn.len() > MAX_TORN {
        return Err(LogError::TooMany { path: dir.to_owned(), what: "too many torn segments", max: MAX_TORN });
    }
    let gap = (!torn.is_empty()).then(|| Break { cause: BreakCause::TornTail, torn, refused: 0, error: String::new() });
    Ok(Found { head, mark, gap, append_to })
}

/// What a break record says of a torn segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// The length of its good part.
    pub(super) good: u64,
    /// The most bytes that it ever had.
    pub(super) most: u64,
}

/// Segment name → where it is cut.
pub(super) type Cuts = HashMap<String, Cut>;

/// Reads the first line of each segment that has one, and from these the cuts.
pub(super) fn survey<S: Seal>(dir: &Path, names: &[Name]) -> Result<(Vec<Option<Link>>, Cuts), LogError> {
    let mut cuts = Cuts::new();
    let mut firsts = Vec::with_capacity(names.len());
    for name in names {
        let mut segment = Segment::open(dir, name, &Cuts::new())?;
        let mut line = Vec::new();
        let first = match segment.next(&mut line)? {
            Piece::Line => S::read(&line).ok(),
            Piece::Overlong | Piece::Torn | Piece::Broken(_) | Piece::End => None,
        };
        for torn in first.iter().flat_map(|link| &link.torn) {
            let cut = Cut { good: torn.offset, most: torn.offset.saturating_add(torn.bytes) };
            cuts.insert(torn.segment.clone(), cut);
        }
        firsts.push(first);
    }
    for (name, first) in names.iter().zip(&mut firsts) {
        // It may begin with a whole line, and be cut in front of it.
        if cuts.get(&name.to_string()).is_some_and(|cut| cut.good == 0) {
            *first = None;
        }
    }
    Ok((firsts, cuts))
}
