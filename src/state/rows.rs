//! What is in the file: rows that check themselves, and what redb's errors mean.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::StateError;
use super::entry::Entry;
pub(super) use super::entry::SUM;
use super::epochs::Pending;
use super::kept::Kept;
use super::keys::{KeyRecord, KeyState};
use super::table::KeyTable;

/// The format of the file. A reader that does not know it must not touch the rest.
pub(super) const FORMAT: u32 = 3;
/// The one before, in which keys have neither an end nor a confirmation. It is read, and becomes the present one with the first
/// commit.
pub(super) const ENDLESS: u32 = 2;
/// The one before that, which has keys alone; likewise.
const KEYS_ALONE: u32 = 1;

/// What a passport may have lived that was issued while a state of that format was in use: no configuration allows more.
const LONGEST_S: u64 = 366 * 86_400;

pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const KEYS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("keys");
pub(super) const EPOCHS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("epochs");
pub(super) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");

/// The row that says what format the rest has: its number in ASCII, in every format.
const FORMAT_ROW: &str = "format";
/// The row that changes with each commit.
const HEAD_ROW: &str = "head";

/// What changes with each commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Meta {
    /// When the file was made, in seconds since 1970.
    pub(super) created: i64,
    /// The newest audit record on whose strength something was changed.
    pub(super) audit_seq: u64,
    /// How many commits there were.
    pub(super) generation: u64,
    /// The longest that a passport may live, in seconds, by any configuration that there was.
    #[serde(default)]
    pub(super) longest_s: u64,
    /// The newest time that the clock has shown while nothing spoke against it, in seconds since 1970.
    #[serde(default)]
    pub(super) mark: i64,
    /// The epoch that every tenant is in at least.
    #[serde(default)]
    pub(super) floor: u64,
    /// What was done while no daemon ran, and is not on record yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) pending: Vec<Pending>,
}

/// The epoch of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EpochRecord {
    pub(super) tenant: String,
    /// Passports of an earlier one are revoked.
    pub(super) epoch: u64,
    /// When it began, in seconds since 1970.
    pub(super) since: i64,
    /// Its audit record.
    pub(super) audit_seq: u64,
}

/// What one commit writes.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// By their kids, in JSON.
    pub(super) keys: Vec<(String, Vec<u8>)>,
    /// By their tenants, in JSON.
    pub(super) epochs: Vec<(String, Vec<u8>)>,
    /// Rows of [`Entry`]s.
    pub(super) put: Vec<(Vec<u8>, Vec<u8>)>,
    /// Keys of such rows.
    pub(super) gone: Vec<Vec<u8>>,
}

impl Rows {
    pub(super) fn append(&mut self, mut more: Self) {
        self.keys.append(&mut more.keys);
        self.epochs.append(&mut more.epochs);
        self.put.append(&mut more.put);
        self.gone.append(&mut more.gone);
    }

    pub(super) fn key(&mut self, record: &KeyRecord) -> Result<(), RowError> {
        self.keys.push((record.kid.clone(), json(record)?));
        Ok(())
    }

    pub(super) fn epoch(&mut self, record: &EpochRecord) -> Result<(), RowError> {
        self.epochs.push((record.tenant.clone(), json(record)?));
        Ok(())
    }
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, RowError> {
    serde_json::to_vec(value).map_err(|error| RowError::Row(error.to_string()))
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
    commit(db, &Rows::default(), meta)
}

/// Reads and checks everything.
pub(super) fn load(db: &Database) -> Result<(Meta, KeyTable, Kept), RowError> {
    let transaction = db.begin_read()?;
    let table = transaction.open_table(META)?;
    let missing = |name: &str| RowError::Row(format!("row {name:?} is missing"));
    let format = table.get(FORMAT_ROW)?.ok_or_else(|| missing(FORMAT_ROW))?;
    let known = |number: u32| format.value() == number.to_string().as_bytes();
    if !known(FORMAT) && !known(ENDLESS) && !known(KEYS_ALONE) {
        return Err(RowError::Format(format.value().escape_ascii().take(64).map(char::from).collect()));
    }
    let head = table.get(HEAD_ROW)?.ok_or_else(|| missing(HEAD_ROW))?;
    let mut meta: Meta = decode(HEAD_ROW, head.value()).map_err(RowError::Row)?;
    if known(KEYS_ALONE) {
        meta.longest_s = LONGEST_S;
    }
    let records = named(&transaction, KEYS, |record: &KeyRecord| &record.kid)?;
    // Of a format before, and what was told of no end: it is as if they had retired by the configurations that there were.
    let keys = KeyTable::load(records.into_iter().map(|key| key.with_end(meta.longest_s)).collect());
    let keys = keys.map_err(|e| RowError::Row(e.to_string()))?;
    // Of a file that was never written by one who keeps it.
    let newest = keys.iter().map(|key| key.staged_at).max().unwrap_or(meta.created);
    meta.mark = if meta.mark == 0 { newest } else { meta.mark };
    let mut kept = Kept::default();
    kept.raise_floor(meta.floor);
    keys.iter().filter(|key| key.state == KeyState::Compromised).for_each(|key| kept.compromise(&key.kid));
    if !known(KEYS_ALONE) {
        for record in named(&transaction, EPOCHS, |record: &EpochRecord| &record.tenant)? {
            kept.set_epoch(&record.tenant, record.epoch);
        }
        for row in transaction.open_table(ENTRIES)?.iter()? {
            let (key, value) = row?;
            kept.put(&Entry::read(key.value(), value.value()).map_err(RowError::Row)?);
        }
    }
    Ok((meta, keys, kept))
}

/// The rows of a table whose records hold their own name.
fn named<T: DeserializeOwned>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, &'static str, &'static [u8]>,
    name: impl Fn(&T) -> &str,
) -> Result<Vec<T>, RowError> {
    let mut records = Vec::new();
    for row in transaction.open_table(table)?.iter()? {
        let (stated, row) = row?;
        let record: T = decode(stated.value(), row.value()).map_err(RowError::Row)?;
        if name(&record) != stated.value() {
            return Err(RowError::Row(format!("row {:?} is that of another", stated.value())));
        }
        records.push(record);
    }
    Ok(records)
}

/// What goes before `now`, the first of it, at most `most`.
pub(super) fn expired(db: &Database, now: i64, most: usize) -> Result<Vec<(Vec<u8>, Entry)>, RowError> {
    let transaction = db.begin_read()?;
    let table = match transaction.open_table(ENTRIES) {
        Ok(table) => table,
        // One of the format before, to which nothing was written yet.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let horizon = Entry::horizon(now);
    let mut expired = Vec::new();
    for row in table.range::<&[u8]>(..horizon.as_slice())?.take(most) {
        let (key, value) = row?;
        let entry = Entry::read(key.value(), value.value()).map_err(RowError::Row)?;
        expired.push((key.value().to_vec(), entry));
    }
    Ok(expired)
}

/// Writes rows and the new head, durably and in one piece.
///
/// redb keeps the newest commit and the one before, and where the newest does not check out it takes the other without a
/// word. In a file that was not closed one altered bit is enough for that, and a key that was rotated is back (L7; found
/// by the fuzz target `state`). So what is written is committed once more: then both of the two have it.
pub(super) fn commit(db: &Database, rows: &Rows, meta: &Meta) -> Result<(), RowError> {
    commit_json(db, rows, &json(meta)?)
}

/// The same with a head that is JSON already.
pub(super) fn commit_json(db: &Database, rows: &Rows, head: &[u8]) -> Result<(), RowError> {
    write(db, rows, head)?;
    write(db, &Rows::default(), head)
}

fn write(db: &Database, rows: &Rows, head: &[u8]) -> Result<(), RowError> {
    let transaction = db.begin_write()?;
    {
        for (definition, records) in [(KEYS, &rows.keys), (EPOCHS, &rows.epochs)] {
            let mut table = transaction.open_table(definition)?;
            for (name, json) in records {
                table.insert(name.as_str(), sealed(name, json).as_slice())?;
            }
        }
        let mut table = transaction.open_table(ENTRIES)?;
        for key in &rows.gone {
            table.remove(key.as_slice())?;
        }
        for (key, value) in &rows.put {
            table.insert(key.as_slice(), value.as_slice())?;
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

/// Makes of a file one as the format before has it: keys without an end and a confirmation.
#[cfg(test)]
pub(super) fn as_format_2(db: &Database) {
    set_format(db, ENDLESS.to_string().as_bytes());
    let transaction = db.begin_write().unwrap();
    {
        let mut table = transaction.open_table(KEYS).unwrap();
        let row = |row: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (kid, row) = row.unwrap();
            (kid.value().to_owned(), row.value()[SUM..].to_vec())
        };
        let rows: Vec<(String, Vec<u8>)> = table.iter().unwrap().map(row).collect();
        for (kid, json) in rows {
            let mut record: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let members = record.as_object_mut().unwrap();
            assert!(members.remove("confirmed_at").is_some() && members.remove("verifies_until").is_some());
            table.insert(kid.as_str(), sealed(&kid, &serde_json::to_vec(&record).unwrap()).as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

#[cfg(test)]
pub(super) fn format_of(db: &Database) -> Vec<u8> {
    let table = db.begin_read().unwrap().open_table(META).unwrap();
    table.get(FORMAT_ROW).unwrap().unwrap().value().to_vec()
}

/// Makes of an empty file one as the first format has it.
#[cfg(test)]
pub(super) fn as_format_1(db: &Database) {
    set_format(db, KEYS_ALONE.to_string().as_bytes());
    let transaction = db.begin_write().unwrap();
    assert!(transaction.delete_table(EPOCHS).unwrap() && transaction.delete_table(ENTRIES).unwrap());
    transaction.commit().unwrap();
}
