//! Reading a log's lines in their order, as its own writer does when it goes on: what was checked at open is not checked again.

use std::ops::ControlFlow;
use std::path::Path;

use super::names::list;
use super::scan::survey;
use super::segment::{Piece, Segment};
use super::{Link, LogError, MAX_LINE, Seal};

/// Gives `each` the lines after the sequence number `after`, in order, until it breaks off; those that a break record has cut off are
/// none of them.
///
/// # Errors
/// [`LogError`]; what can't be read as a line is passed over: [`super::verify`] names it.
pub fn lines_after<S: Seal>(
    dir: &Path,
    after: u64,
    mut each: impl FnMut(&Link, &[u8]) -> ControlFlow<()>,
) -> Result<(), LogError> {
    let names = list(dir)?;
    let (_, cuts) = survey::<S>(dir, &names)?;
    // A segment is wholly before what is wanted if the next one begins no later.
    let skipped = names.iter().skip(1).take_while(|next| next.first <= after.saturating_add(1)).count();
    let mut line = Vec::with_capacity(MAX_LINE);
    for name in names.iter().skip(skipped) {
        let mut segment = Segment::open(dir, name, &cuts)?;
        while let piece @ (Piece::Line | Piece::Overlong) = segment.next(&mut line)? {
            if matches!(piece, Piece::Line)
                && let Ok(link) = S::read(&line)
                && link.head.seq > after
                && each(&link, &line).is_break()
            {
                return Ok(());
            }
        }
    }
    Ok(())
}
