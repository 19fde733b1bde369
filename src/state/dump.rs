//! Everything that a file holds, and the same as text: JSON, one row a line, for people and for other programs.
//!
//! ```text
//! {"state":{"format":2,"head":{…}}}                      first: what changes with each commit
//! {"key":{…}}  {"epoch":{…}}  {"entry":{"until":…,"uid":…,"tenant":…,"what":{…}}}
//! {"end":{"lines":…,"blake3":"…"}}                       last: how many lines precede, and the hash of their bytes
//! ```

use std::io::{self, BufRead, Read, Write};

use redb::{Database, ReadableDatabase, ReadableTable, TableError};
use serde::{Deserialize, Serialize};

use super::entry::{Answer, Entry, Owner, What};
use super::keys::{KeyRecord, MAX_KEYS};
use super::rows::{self, ENDLESS, ENTRIES, EPOCHS, EpochRecord, FORMAT, KEYS, Meta, RowError, Rows, SUM};
use super::table::KeyTable;
use crate::passport::hex;

/// The longest line that is read, in bytes: a key of the longest names has a fraction of it.
pub(super) const MAX_LINE: u64 = 16 << 10;
/// The most lines that are read: every row that a store may have, and as many again.
pub(super) const MAX_LINES: usize = 2 * super::ENTRIES + MAX_KEYS;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    State { format: u32, head: Meta },
    Key(KeyRecord),
    Epoch(EpochRecord),
    Entry { until: i64, uid: Option<u32>, tenant: String, what: Told },
    End { lines: usize, blake3: String },
}

/// [`What`], as text has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Told {
    RevokedId { jti: String },
    RevokedSubject { sub: String, before: i64 },
    Used { jti: String, count: u64 },
    Nonce { nonce: String },
    Answer { key: String, uid: u32, request: String, jti: String, left: Option<u64> },
    Proof { id: String, sub: String },
}

/// Every row, as one commit would write it. What is in the file was checked when it was opened.
pub(super) fn all(db: &Database) -> Result<(Meta, Rows), RowError> {
    let (meta, ..) = rows::load(db)?;
    let transaction = db.begin_read()?;
    let mut all = Rows::default();
    for (definition, named) in [(KEYS, &mut all.keys), (EPOCHS, &mut all.epochs)] {
        let table = match transaction.open_table(definition) {
            // One of the format before.
            Err(TableError::TableDoesNotExist(_)) => continue,
            table => table?,
        };
        for row in table.iter()? {
            let (name, row) = row?;
            named.push((name.value().to_owned(), row.value().get(SUM..).unwrap_or_default().to_vec()));
        }
    }
    match transaction.open_table(ENTRIES) {
        Err(TableError::TableDoesNotExist(_)) => {}
        table => {
            for row in table?.iter()? {
                let (key, value) = row?;
                all.put.push((key.value().to_vec(), value.value().to_vec()));
            }
        }
    }
    Ok((meta, all))
}

/// Writes everything, in the order of the rows.
pub(super) fn write(meta: &Meta, rows: &Rows, out: &mut dyn Write) -> io::Result<usize> {
    let (mut hasher, mut lines) = (blake3::Hasher::new(), 0);
    let mut put = |line: &Line| {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        hasher.update(&text);
        lines += 1;
        out.write_all(&text)
    };
    put(&Line::State { format: FORMAT, head: meta.clone() })?;
    for (_, json) in &rows.keys {
        put(&Line::Key(serde_json::from_slice(json)?))?;
    }
    for (_, json) in &rows.epochs {
        put(&Line::Epoch(serde_json::from_slice(json)?))?;
    }
    for (key, value) in &rows.put {
        put(&told(Entry::read(key, value).map_err(io::Error::other)?))?;
    }
    let end = Line::End { lines, blake3: hasher.finalize().to_hex().to_string() };
    serde_json::to_writer(&mut *out, &end)?;
    out.write_all(b"\n")?;
    Ok(lines)
}

fn told(entry: Entry) -> Line {
    let Entry { until, owner, tenant, what } = entry;
    let uid = if let Owner::Peer(uid) = owner { Some(uid) } else { None };
    let what = match what {
        What::RevokedId { jti } => Told::RevokedId { jti },
        What::RevokedSubject { sub, before } => Told::RevokedSubject { sub, before },
        What::Used { jti, count } => Told::Used { jti, count },
        What::Nonce { nonce } => Told::Nonce { nonce },
        What::Answer(Answer { key, uid, request, jti, left }) => {
            Told::Answer { key: hex::encode(&key), uid, request: hex::encode(&request), jti, left }
        }
        What::Proof { id, sub } => Told::Proof { id: hex::encode(&id), sub },
    };
    Line::Entry { until, uid, tenant, what }
}

fn entry(until: i64, uid: Option<u32>, tenant: String, what: Told) -> Option<Entry> {
    let what = match what {
        Told::RevokedId { jti } => What::RevokedId { jti },
        Told::RevokedSubject { sub, before } => What::RevokedSubject { sub, before },
        Told::Used { jti, count } => What::Used { jti, count },
        Told::Nonce { nonce } => What::Nonce { nonce },
        Told::Answer { key, uid, request, jti, left } => {
            What::Answer(Answer { key: bytes(&key)?, uid, request: bytes(&request)?, jti, left })
        }
        Told::Proof { id, sub } => What::Proof { id: bytes(&id)?, sub },
    };
    let entry = Entry { until, owner: uid.map_or(Owner::Admin, Owner::Peer), tenant, what };
    entry.fits().then_some(entry)
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    hex::decode_exactly(text)
}

/// Reads what [`write()`] has written. Every line must be as it was.
pub(super) fn read(input: &mut dyn BufRead) -> Result<(Meta, Rows), String> {
    let (mut hasher, mut lines, mut head) = (blake3::Hasher::new(), 0_usize, None);
    let (mut rows, mut keys) = (Rows::default(), Vec::new());
    loop {
        let at = lines + 1;
        let mut text = Vec::new();
        Read::take(&mut *input, MAX_LINE).read_until(b'\n', &mut text).map_err(|error| error.to_string())?;
        if text.is_empty() {
            return Err(format!("it ends after line {lines}, without the last one: it was cut off"));
        }
        if text.last() != Some(&b'\n') {
            return Err(format!("line {at} is cut off, or longer than {MAX_LINE} bytes"));
        }
        let line: Line = serde_json::from_slice(&text).map_err(|error| format!("line {at}: {error}"))?;
        match line {
            Line::State { format, head: meta } if at == 1 && matches!(format, FORMAT | ENDLESS) => head = Some(meta),
            Line::State { format, .. } if at == 1 => {
                return Err(format!("it has format {format}, this passportctl knows {FORMAT}"));
            }
            Line::End { lines: stated, blake3 } => {
                let meta = head.ok_or("line 1 is not the first of a state")?;
                if stated != lines || blake3 != hasher.finalize().to_hex().as_str() {
                    return Err("it is not what was exported: lines were altered, added or taken away".to_owned());
                }
                if !input.fill_buf().map_err(|error| error.to_string())?.is_empty() {
                    return Err(format!("something follows line {at}, which must be the last"));
                }
                KeyTable::load(keys).map_err(|error| error.to_string())?;
                return Ok((meta, rows));
            }
            _ if head.is_none() || lines >= MAX_LINES => return Err(format!("line {at} has no place there")),
            Line::State { .. } => return Err(format!("line {at} has no place there")),
            Line::Key(record) => {
                rows.key(&record).map_err(|_| format!("line {at} can't be kept"))?;
                keys.push(record);
            }
            Line::Epoch(record) => rows.epoch(&record).map_err(|_| format!("line {at} can't be kept"))?,
            Line::Entry { until, uid, tenant, what } => {
                let entry = entry(until, uid, tenant, what).ok_or_else(|| format!("line {at} can't be kept"))?;
                rows.put.push(entry.row());
            }
        }
        hasher.update(&text);
        lines += 1;
    }
}
