//! What is in the file: rows that check themselves, and what redb's errors mean.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, StorageError, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::StateError;
use super::keys::KeyRecord;
use super::table::KeyTable;

/// The format of the file. A reader that does not know it must not touch the rest.
pub(super) const FORMAT: u32 = 1;

/// Bytes of BLAKE3 in front of a row.
const SUM: usize = 16;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");

/// The row that says what format the rest has: its number in ASCII, in every format.
const FORMAT_ROW: &str = "format";
/// The row that changes with each commit.
const HEAD_ROW: &str = "head";

/// What changes with each commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    /// When the file was made, in seconds since 1970.
    pub(super) created: i64,
    /// The newest audit record on whose strength something was changed.
    pub(super) audit_seq: u64,
    /// How many commits there were.
    pub(super) generation: u64,
}

/// `BLAKE3(name ‖ 0 ‖ JSON)[..16] ‖ JSON`: a row that was altered, or put under another name, is noticed by itself.
fn sealed(name: &str, json: &[u8]) -> Vec<u8> {
    [&sum(name, json)[..], json].concat()
}

fn decode<T: DeserializeOwned>(name: &str, row: &[u8]) -> Result<T, String> {
    let (stated, json) = row.split_at_checked(SUM).ok_or_else(|| format!("row {name:?} is cut short"))?;
    if stated != sum(name, json) {
        return Err(format!("row {name:?} does not match its checksum"));
    }
    serde_json::from_slice(json).map_err(|e| format!("row {name:?}: {e}"))
}

fn sum(name: &str, json: &[u8]) -> [u8; SUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&[0]).update(json);
    let mut sum = [0; SUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// Errors of this room's transactions.
pub(super) enum RowError {
    /// redb's.
    Store(redb::Error),
    /// A format that we do not know.
    Format(String),
    /// A row that is missing or altered.
    Row(String),
}

impl<E: Into<redb::Error>> From<E> for RowError {
    fn from(error: E) -> Self {
        Self::Store(error.into())
    }
}

impl RowError {
    pub(super) fn at(self, path: &Path) -> StateError {
        let path = path.to_owned();
        match self {
            Self::Format(found) => StateError::Format { path, found, known: FORMAT },
            Self::Row(what) => StateError::Corrupt { path, what },
            Self::Store(error) => match error {
                // An unexpected end is a file that was cut off, not a failing disk.
                redb::Error::Io(e)
                    if matches!(e.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData) =>
                {
                    StateError::Corrupt { path, what: e.to_string() }
                }
                redb::Error::Io(e) => StateError::of_host(&path, &e),
                redb::Error::DatabaseAlreadyOpen => {
                    StateError::Io { path, what: "another process has it open".to_owned() }
                }
                redb::Error::UpgradeRequired(format) => {
                    StateError::Format { path, found: format!("redb {format}"), known: FORMAT }
                }
                other => StateError::Corrupt { path, what: other.to_string() },
            },
        }
    }
}

/// Runs what reads a file that may be damaged. redb asserts, in builds with debug assertions, what other builds report as
/// corrupt; this makes the two agree, for the tests. A release has neither those assertions nor this: it aborts on a panic
/// (`panic = "abort"`), which loses nothing that was acknowledged. (Of 20,000 files with one bit turned redb 4.5 without
/// assertions refused or read each, and panicked at none.)
pub(super) fn guarded<T>(act: impl FnOnce() -> Result<T, RowError>) -> Result<T, RowError> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| {
        Err(RowError::Store(StorageError::Corrupted("an assertion of the store failed".to_owned()).into()))
    })
}

/// Writes the rows of a new file.
pub(super) fn create(db: &Database, meta: &Meta) -> Result<(), RowError> {
    commit(db, &[], meta)
}

/// Reads and checks everything.
pub(super) fn load(db: &Database) -> Result<(Meta, KeyTable), RowError> {
    let transaction = db.begin_read()?;
    let table = transaction.open_table(META)?;
    let missing = |name: &str| RowError::Row(format!("row {name:?} is missing"));
    let format = table.get(FORMAT_ROW)?.ok_or_else(|| missing(FORMAT_ROW))?;
    if format.value() != FORMAT.to_string().as_bytes() {
        return Err(RowError::Format(format.value().escape_ascii().take(64).map(char::from).collect()));
    }
    let head = table.get(HEAD_ROW)?.ok_or_else(|| missing(HEAD_ROW))?;
    let meta = decode(HEAD_ROW, head.value()).map_err(RowError::Row)?;
    let mut records = Vec::new();
    for row in transaction.open_table(KEYS)?.iter()? {
        let (kid, row) = row?;
        let record: KeyRecord = decode(kid.value(), row.value()).map_err(RowError::Row)?;
        if record.kid != kid.value() {
            return Err(RowError::Row(format!("row {:?} is that of another key", kid.value())));
        }
        records.push(record);
    }
    let keys = KeyTable::load(records).map_err(|e| RowError::Row(e.to_string()))?;
    Ok((meta, keys))
}

/// Writes changed keys and the new head, durably and in one piece.
pub(super) fn commit(db: &Database, keys: &[KeyRecord], meta: &Meta) -> Result<(), RowError> {
    let json = |value: &KeyRecord| serde_json::to_vec(value).map_err(|e| RowError::Row(e.to_string()));
    let keys = keys.iter().map(|key| Ok((key.kid.clone(), json(key)?))).collect::<Result<Vec<_>, RowError>>()?;
    let head = serde_json::to_vec(meta).map_err(|e| RowError::Row(e.to_string()))?;
    commit_json(db, &head, &keys)
}

/// The same for rows that are JSON already.
///
/// redb keeps the newest commit and the one before, and where the newest does not check out it takes the other without a
/// word. In a file that was not closed one altered bit is enough for that, and a key that was rotated is back (L7; found
/// by the fuzz target `state`). So what is written is committed once more: then both of the two have it.
pub(super) fn commit_json(db: &Database, head: &[u8], keys: &[(String, Vec<u8>)]) -> Result<(), RowError> {
    write(db, head, keys)?;
    write(db, head, &[])
}

fn write(db: &Database, head: &[u8], keys: &[(String, Vec<u8>)]) -> Result<(), RowError> {
    let transaction = db.begin_write()?;
    {
        let mut table = transaction.open_table(KEYS)?;
        for (kid, json) in keys {
            table.insert(kid.as_str(), sealed(kid, json).as_slice())?;
        }
        let mut table = transaction.open_table(META)?;
        table.insert(FORMAT_ROW, FORMAT.to_string().as_bytes())?;
        table.insert(HEAD_ROW, sealed(HEAD_ROW, head).as_slice())?;
    }
    // redb's default durability: returns after fsync.
    Ok(transaction.commit()?)
}

#[cfg(test)]
pub(super) fn set_format(db: &Database, format: &[u8]) {
    let transaction = db.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert(FORMAT_ROW, format).unwrap();
    transaction.commit().unwrap();
}
