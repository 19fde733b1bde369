//! One event, and what it looks like to a person and to journald.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::events;
use crate::log::journal::Datagram;

/// Bytes of one value; a longer one is cut.
const MAX_VALUE: usize = 1024;
/// Bytes of one line, and of `MESSAGE`; a longer one is cut. A pipe of which poll(2) says that it can be written takes
/// as many without blocking (PIPE_BUF, pipe(7)).
pub(super) const MAX_LINE: usize = 4096;
/// Bytes of a datagram up to which another field is added.
pub(super) const MAX_FIELDS: usize = 3 * MAX_LINE;
/// What stands at the end of what was cut.
const CUT: &str = " [cut]";
/// Fields whose values tell one kind of event from another that was said at the same place.
const KIND: [&str; 3] = ["op", "reason", "service"];

/// One event, its values written out.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// A field's value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Text, which a line shows in quotes.
    Text(String),
    /// Anything else, as it wrote itself.
    Other(String),
}

impl Value {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Other(text) => text,
        }
    }
}

/// Fields that say who it was, or join it with somebody's own records.
const WHO: [&str; 6] = ["peer_uid", "peer_gid", "peer_pid", "corr_id", "client", "jti"];

impl Record {
    /// Without them.
    pub(super) fn of_nobody(mut self) -> Self {
        self.fields.retain(|(name, _)| !WHO.contains(name));
        self
    }

    pub(super) fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut record =
            Self { name: metadata.name(), level: *metadata.level(), message: String::new(), fields: Vec::new() };
        event.record(&mut record);
        record
    }

    /// The fields that tell its kind.
    pub(super) fn kind(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.fields.iter().filter(|(name, _)| KIND.contains(name)).map(|(name, value)| (*name, value.as_str()))
    }

    /// What stands for `count` events like this one.
    pub(super) fn summary(&self, count: u64) -> Self {
        let mut fields = vec![("of", Value::Text(self.name.to_owned())), ("count", Value::Other(count.to_string()))];
        fields.extend(self.fields.iter().filter(|(name, _)| KIND.contains(name)).cloned());
        let message = "more of the same within a second, not written one by one".to_owned();
        Self { name: events::STORM, level: self.level, message, fields }
    }

    /// What stands where `dropped` entries are missing.
    pub(super) fn gap(dropped: u64) -> Self {
        let message = "the reader of the log was too slow: lines were dropped here".to_owned();
        let fields = vec![("dropped", Value::Other(dropped.to_string()))];
        Self { name: events::DROPPED, level: Level::WARN, message, fields }
    }

    /// The message and the fields, without control characters: they are shown on terminals. A message may have several
    /// lines, of which those after the first are indented, so that none looks like an event.
    fn line(&self) -> String {
        let lines: Vec<_> = self.message.lines().map(tame).collect();
        let mut line = lines.join("\n    ");
        for (name, value) in &self.fields {
            // Writing to a string does not fail.
            let _ = match value {
                Value::Text(text) => write!(line, " {name}={text:?}"),
                Value::Other(text) => write!(line, " {name}={}", tame(text)),
            };
        }
        line
    }
}

fn tame(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// `text`, cut to `most` bytes with a sign of it.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most.saturating_sub(CUT.len())));
        text.push_str(CUT);
    }
    text
}

/// Takes as much of a value as is kept, and lets the rest go by.
struct Bounded {
    text: String,
    most: usize,
}

impl Bounded {
    const fn new(most: usize) -> Self {
        Self { text: String::new(), most }
    }

    fn end(self) -> String {
        cut(self.text, self.most)
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One character more than the bound, so that it is seen to be cut.
        let room = (self.most + 4).saturating_sub(self.text.len());
        self.text.extend(text.get(..text.floor_char_boundary(room)));
        Ok(())
    }
}

impl Record {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.push((field.name(), value));
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let is_message = field.name() == "message";
        let mut out = Bounded::new(if is_message { MAX_LINE } else { MAX_VALUE });
        // A value that can't write itself is left at what it wrote.
        let _ = write!(out, "{value:?}");
        if is_message {
            self.message = out.end();
        } else {
            self.put(field, Value::Other(out.end()));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut out = Bounded::new(MAX_VALUE);
        let _ = out.write_str(value);
        self.put(field, Value::Text(out.end()));
    }
}

/// What entries are written as.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// A line for a person; in colours on a terminal.
    Line { role: &'static str, ansi: bool },
    /// A datagram for journald.
    Datagram { role: &'static str },
}

impl Form {
    pub(super) fn encode(self, record: &Record) -> Vec<u8> {
        match self {
            Self::Line { role, ansi } => {
                let (on, off) = if ansi { (colour(record.level), "\x1b[0m") } else { ("", "") };
                let (now, level, line) = (Timestamp::now(), record.level, record.line());
                let line = format!("{now:.6} {on}{level:>5}{off} {role}: {line}");
                (cut(line, MAX_LINE - 1) + "\n").into_bytes()
            }
            Self::Datagram { role } => datagram(role, record),
        }
    }
}

const fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[2m",
    }
}

/// `PRIORITY` in the severities of syslog (RFC 5424 §6.2.1).
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

fn datagram(role: &str, record: &Record) -> Vec<u8> {
    let mut out = Datagram::default();
    out.field("MESSAGE", &cut(record.line(), MAX_LINE));
    out.field("PRIORITY", priority(record.level));
    out.field("SYSLOG_IDENTIFIER", "passportd");
    if let Some(id) = events::message_id(record.name) {
        out.field("MESSAGE_ID", id);
    }
    out.field("PASSPORT_EVENT", record.name);
    out.field("PASSPORT_ROLE", role);
    let mut size = 0;
    for (name, value) in &record.fields {
        size += name.len() + value.as_str().len();
        if size <= MAX_FIELDS {
            out.field(&format!("PASSPORT_{}", name.to_ascii_uppercase()), value.as_str());
        }
    }
    out.into_bytes()
}
