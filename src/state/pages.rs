//! The revocations in force, page by page, as the file has them. The tables in memory know tags alone.

use std::ops::Bound;
use std::path::Path;

use redb::{Database, ReadableDatabase, TableError};

use super::StateError;
use super::entry::Entry;
use super::rows::{self, ENTRIES, RowError};
use super::store::Store;

/// Rows that are looked at for one page, whatever they are of.
pub const MAX_SCANNED: usize = 1 << 14;

/// Some of the revocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// These.
    pub revoked: Vec<Entry>,
    /// Where the next page begins; none: there is nothing more. It may name what is not among these: not for strangers.
    pub next: Option<Vec<u8>>,
}

impl Store {
    /// The revocations behind `after`, in the order of their going, for which `size` gives a size, until these sizes fill `room`;
    /// all of them are durable. What is revoked meanwhile may be on a later page or on none. Blocks for some
    /// milliseconds; no writer waits for it.
    ///
    /// # Errors
    /// [`StateError::Unavailable`] while the file is closed after a failure; that it can't be read.
    pub fn page(
        &self,
        after: Option<&[u8]>,
        room: usize,
        size: impl Fn(&Entry) -> Option<usize>,
    ) -> Result<Page, StateError> {
        let db = self.shared.db();
        let db = db.as_ref().ok_or_else(|| StateError::Unavailable("it is being opened again".to_owned()))?;
        rows::guarded(|| page(db, after, room, &size)).map_err(|error| error.at(Path::new("state")))
    }
}

fn page(
    db: &Database,
    after: Option<&[u8]>,
    room: usize,
    size: &dyn Fn(&Entry) -> Option<usize>,
) -> Result<Page, RowError> {
    let transaction = db.begin_read()?;
    let table = match transaction.open_table(ENTRIES) {
        Ok(table) => table,
        // One of the format before, to which nothing was written yet.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Page::default()),
        Err(error) => return Err(error.into()),
    };
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut page, mut left, mut last) = (Page::default(), room, None);
    for (scanned, row) in table.range::<&[u8]>((from, Bound::Unbounded))?.enumerate() {
        if scanned >= MAX_SCANNED {
            page.next = last;
            break;
        }
        let (key, value) = row?;
        if Entry::is_of_revocation(key.value()) {
            let entry = Entry::read(key.value(), value.value()).map_err(RowError::Row)?;
            if let Some(size) = size(&entry) {
                if size > left && !page.revoked.is_empty() {
                    page.next = last;
                    break;
                }
                left = left.saturating_sub(size);
                page.revoked.push(entry);
            }
        }
        last = Some(key.value().to_vec());
    }
    Ok(page)
}
