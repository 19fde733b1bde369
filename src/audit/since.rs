//! What the ledger says of keys that an older state does not know.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

use serde::Deserialize;

use super::{ChainError, Event};
use crate::log::readers;

/// The longest line that is looked at, in bytes: no record is as long.
const MAX_LINE: u64 = 64 << 10;

/// The members that are looked for.
#[derive(Deserialize)]
struct Record {
    seq: u64,
    event: String,
    kid: Option<String>,
}

/// The keys that were declared compromised, retired, activated or rolled back to after the record `seq`, in the order of the records; those of which the
/// ledger says afterwards that it failed as well. The chain was checked before: what can't be read is passed over.
///
/// # Errors
/// [`ChainError::Io`].
pub fn keys_since(dir: &Path, seq: u64) -> Result<Vec<(Event, String)>, ChainError> {
    let failed = |source: io::Error| ChainError::Io { path: dir.to_owned(), doing: "read", source };
    let mut found = Vec::new();
    for segment in readers(dir)? {
        let mut lines = BufReader::new(segment.map_err(failed)?);
        let mut line = Vec::new();
        while lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(failed)? > 0 {
            if let Ok(Record { seq: own, event, kid: Some(kid) }) = serde_json::from_slice(&line)
                && own > seq
            {
                // What was destroyed was retired, or compromised, before.
                let told = [Event::KeyCompromised, Event::KeyRetired, Event::KeyActivated, Event::KeyRolledBack]
                    .into_iter()
                    .find(|one| one.name() == event);
                found.extend(told.map(|event| (event, kid)));
            }
            line.clear();
        }
    }
    Ok(found)
}
