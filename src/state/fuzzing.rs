//! What the fuzz target `state` needs of this room: files in memory, and rows of any content.

use std::path::Path;

use super::look::{self, Bytes};
use super::{Snapshot, StateError, file, rows};

/// How errors name the file.
pub const PATH: &str = "state.redb";

/// A commit: the JSON of the head, and key ids with the JSON of their records.
pub type Commit = (Vec<u8>, Vec<(String, Vec<u8>)>);

/// The file after these commits: as a process leaves it that is killed, and as one leaves it that closes it. Every row has
/// the checksum that belongs to it.
///
/// # Errors
/// If the store can't be written.
pub fn images(commits: &[Commit]) -> Result<[Vec<u8>; 2], StateError> {
    let bytes = Bytes::of(Vec::new());
    let written = file::builder().create_with_backend(bytes.clone()).map_err(rows::RowError::from).and_then(|db| {
        commits.iter().try_for_each(|(head, keys)| {
            let rows = rows::Rows { keys: keys.clone(), ..rows::Rows::default() };
            rows::commit_json(&db, &rows, head)
        })?;
        Ok(bytes.lock().clone())
    });
    let killed = written.map_err(|error| error.at(Path::new(PATH)))?;
    let closed = std::mem::take(&mut *bytes.lock());
    Ok([killed, closed])
}

/// Opens a file as [`super::Store::open`] does, without its directory, lock and thread.
///
/// # Errors
/// As [`super::Store::open`].
pub fn open(image: Vec<u8>) -> Result<Snapshot, StateError> {
    look::open(Path::new(PATH), Bytes::of(image))
}
