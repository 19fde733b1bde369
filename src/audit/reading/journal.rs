//! Records as journald has them: `journalctl -o json --all`. Entries may come twice and somewhat out of order, since what
//! journald may have lost is sent to it again; so they are put in order within a window.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use sha2::{Digest as _, Sha256};

use super::source::{Input, Lines, Piece, Place, ReadError, length};
use crate::log::{Hash, MAX_LINE};

/// How many records wait for one that comes before them.
const WINDOW: usize = 8192;
/// The same in bytes.
const WINDOW_BYTES: usize = 32 << 20;
/// So many records that were passed on are remembered, to tell one that comes again from another in its place.
const REMEMBERED: usize = 1 << 17;
/// The longest entry: a record twice, as fields and whole, with all that journald adds, each byte as a number.
const MAX_ENTRY: usize = 16 * MAX_LINE;

/// A field: a text, or its bytes where it is none. One that is too long is null (systemd.journal-fields(7)); one that is there
/// twice is a list.
#[derive(Debug, Default)]
enum Field<'a> {
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    #[default]
    Other,
}

impl Field<'_> {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Text(text) => Some(text.as_bytes()),
            Self::Bytes(bytes) => Some(bytes),
            Self::Other => None,
        }
    }

    fn number(&self) -> Option<u64> {
        std::str::from_utf8(self.bytes()?).ok()?.parse().ok()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Field<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field of a journal's entry")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Field<'de>, E> {
                Ok(Field::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Field<'de>, E> {
                Ok(Field::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Field<'de>, A::Error> {
                let (mut bytes, mut whole) = (Vec::new(), true);
                while let Some(item) = items.next_element::<serde_json::Value>()? {
                    match item.as_u64().and_then(|byte| u8::try_from(byte).ok()) {
                        Some(byte) => bytes.push(byte),
                        None => whole = false,
                    }
                }
                Ok(if whole { Field::Bytes(bytes) } else { Field::Other })
            }
        }
        deserializer.deserialize_any(Reader)
    }
}

/// What an entry says that is a record's copy.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, rename = "PASSPORT_SEQ")]
    seq: Option<Field<'a>>,
    #[serde(borrow, rename = "PASSPORT_RECORD")]
    record: Option<Field<'a>>,
    #[serde(borrow, rename = "_UID")]
    uid: Option<Field<'a>>,
    #[serde(borrow, rename = "_PID")]
    pid: Option<Field<'a>>,
}

/// A record that waits for those before it.
struct Waiting {
    record: Vec<u8>,
    entry: u64,
}

/// The records of a journal's entries, in their own order.
pub struct Journal<'a> {
    input: Input<'a>,
    entry: u64,
    ended: bool,
    waiting: BTreeMap<u64, Waiting>,
    waiting_bytes: usize,
    /// The newest record that was passed on.
    newest: Option<u64>,
    /// The digests of the records up to that one.
    passed: VecDeque<Hash>,
    place: Place,
    bytes: u64,
    repeated: u64,
    forgotten: u64,
}

impl<'a> Journal<'a> {
    /// The records of the entries in `input`.
    pub fn new(input: Input<'a>) -> Self {
        let place = Place { source: input.name.clone(), line: 0 };
        Self {
            input,
            entry: 0,
            ended: false,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            newest: None,
            passed: VecDeque::new(),
            place,
            bytes: 0,
            repeated: 0,
            forgotten: 0,
        }
    }

    /// Reads on until the next record in order is there, or as many wait as may.
    fn fill(&mut self, line: &mut Vec<u8>) -> Result<Option<Piece>, ReadError> {
        while !self.ended {
            let full = self.waiting.len() >= WINDOW || self.waiting_bytes >= WINDOW_BYTES;
            let next = self.newest.and_then(|newest| newest.checked_add(1));
            let first = self.waiting.first_key_value().map(|(seq, _)| *seq);
            if full || first.is_some() && first == next {
                return Ok(None);
            }
            match self.input.piece(line, MAX_ENTRY)? {
                Piece::End => self.ended = true,
                Piece::Line => {
                    self.entry += 1;
                    if let Some(forged) = self.take(line) {
                        self.place.line = self.entry;
                        return Ok(Some(forged));
                    }
                }
                // One that is too long can't hold a record; the last one may be cut.
                Piece::Torn(_) => {
                    let (from, what) = (self.input.name.clone(), "the last entry has no end".to_owned());
                    return Err(ReadError::Format { from, what });
                }
                _ => self.entry += 1,
            }
        }
        Ok(None)
    }

    /// Takes an entry; what is no record's copy is passed over.
    fn take(&mut self, line: &[u8]) -> Option<Piece> {
        let entry: Entry<'_> = match serde_json::from_slice(line) {
            Ok(entry) => entry,
            Err(error) => {
                return Some(Piece::Forged { seq: 0, why: format!("the journal's entry can't be read: {error}") });
            }
        };
        let seq = entry.seq.as_ref()?;
        let by = |field: &Option<Field<'_>>| {
            field.as_ref().and_then(Field::number).map_or("?".to_owned(), |n| n.to_string())
        };
        let sender = format!("the entry is of uid {}, pid {}", by(&entry.uid), by(&entry.pid));
        let Some(seq) = seq.number() else {
            return Some(Piece::Forged { seq: 0, why: format!("its PASSPORT_SEQ is no number; {sender}") });
        };
        let Some(record) = entry.record.as_ref().and_then(Field::bytes) else {
            let why = format!("the entry has no PASSPORT_RECORD (journalctl must be given --all); {sender}");
            return Some(Piece::Forged { seq, why });
        };
        let other = || Some(Piece::Forged { seq, why: format!("it is there twice, and not twice the same; {sender}") });
        if let Some(earlier) = self.waiting.get(&seq) {
            self.repeated += 1;
            return if earlier.record == record { None } else { other() };
        }
        if let Some(behind) = self.newest.and_then(|newest| newest.checked_sub(seq)) {
            self.repeated += 1;
            let known = usize::try_from(behind).ok().and_then(|behind| self.passed.get(behind));
            return match known {
                Some(digest) if *digest == Hash::from(Sha256::digest(record)) => None,
                Some(_) => other(),
                None => {
                    self.forgotten += 1;
                    None
                }
            };
        }
        self.waiting_bytes += record.len();
        self.waiting.insert(seq, Waiting { record: record.to_vec(), entry: self.entry });
        None
    }

    /// Entries that were copies of one that had come, and how many of them were not compared, because that was too long ago.
    pub const fn repeated(&self) -> (u64, u64) {
        (self.repeated, self.forgotten)
    }
}

impl Lines for Journal<'_> {
    fn next(&mut self, line: &mut Vec<u8>) -> Result<Piece, ReadError> {
        if let Some(forged) = self.fill(line)? {
            return Ok(forged);
        }
        let Some((seq, Waiting { record, entry })) = self.waiting.pop_first() else { return Ok(Piece::End) };
        self.waiting_bytes = self.waiting_bytes.saturating_sub(record.len());
        (self.newest, self.place.line) = (Some(seq), entry);
        self.passed.push_front(Sha256::digest(&record).into());
        self.passed.truncate(REMEMBERED);
        self.bytes += length(record.len()) + 1;
        // The record itself says its number, too.
        let own = super::line::Record::look(&record).map(|own| own.seq);
        *line = record;
        match own {
            Ok(own) if own != seq => {
                Ok(Piece::Forged { seq, why: format!("its entry holds record {own} under this number") })
            }
            _ => Ok(Piece::Line),
        }
    }

    fn place(&self) -> Place {
        self.place.clone()
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
