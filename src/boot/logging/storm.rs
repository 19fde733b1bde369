//! A storm is summarised: of events of one kind some are written each second, the rest are counted, and the count is
//! written when the second is over. Kinds are counted apart, so that none hides another.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::record::Record;

/// Events of one kind that are written in a second.
pub(super) const BURST: u32 = 20;
/// The second.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Kinds that are counted at one time: four times as many as there are events. The one that has been counted longest gives
/// way to a new one, with its summary.
pub(super) const MAX_KINDS: usize = 256;

/// What makes events the same: the name, and the values that tell kinds apart. Two kinds whose hashes are equal would
/// share a count, which nothing but chance brings about: no stranger chooses these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Kind(&'static str, u64);

impl Kind {
    fn of(record: &Record) -> Self {
        let mut hash = DefaultHasher::new();
        record.kind().for_each(|field| field.hash(&mut hash));
        Self(record.name, hash.finish())
    }
}

#[derive(Debug)]
struct Count {
    since: Instant,
    written: u32,
    held_back: u64,
    /// The first that was held back.
    sample: Option<Record>,
}

impl Count {
    fn summary(self) -> Option<Record> {
        self.sample.map(|sample| sample.summary(self.held_back))
    }
}

/// What was said lately.
#[derive(Debug, Default)]
pub(super) struct Storm {
    kinds: HashMap<Kind, Count>,
}

impl Storm {
    /// The record, if it is to be written now; none if it was counted. Summaries that are due go to `summaries`.
    pub(super) fn admit(&mut self, record: Record, now: Instant, summaries: &mut Vec<Record>) -> Option<Record> {
        summaries.extend(self.due(now));
        let kind = Kind::of(&record);
        if self.kinds.len() >= MAX_KINDS && !self.kinds.contains_key(&kind) {
            summaries.extend(self.forget_oldest());
        }
        let fresh = || Count { since: now, written: 0, held_back: 0, sample: None };
        let count = self.kinds.entry(kind).or_insert_with(fresh);
        if count.written < BURST {
            count.written += 1;
            return Some(record);
        }
        count.held_back += 1;
        count.sample.get_or_insert(record);
        None
    }

    /// The summaries of seconds that are over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Record> {
        let over = self.kinds.extract_if(|_, count| now.saturating_duration_since(count.since) >= WINDOW);
        over.filter_map(|(_, count)| count.summary()).collect()
    }

    /// When the next summary is due, if one is.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.kinds.values().filter(|count| count.sample.is_some()).map(|count| count.since + WINDOW).min()
    }

    /// Every summary, due or not: at the end.
    pub(super) fn end(&mut self) -> Vec<Record> {
        self.kinds.drain().filter_map(|(_, count)| count.summary()).collect()
    }

    fn forget_oldest(&mut self) -> Option<Record> {
        let oldest = self.kinds.iter().min_by_key(|(_, count)| count.since).map(|(kind, _)| *kind)?;
        self.kinds.remove(&oldest)?.summary()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::super::record::Value;
    use super::*;

    fn record(name: &'static str, reason: &str, corr_id: u64) -> Record {
        let fields = vec![("reason", Value::Text(reason.to_owned())), ("corr_id", Value::Other(corr_id.to_string()))];
        Record { name, level: Level::INFO, message: "m".to_owned(), fields }
    }

    /// Says `n` of a kind at a time; how many were written, and the summaries as (of, count, reason).
    fn say(storm: &mut Storm, name: &'static str, reason: &str, n: u32, now: Instant) -> (usize, Vec<String>) {
        let mut summaries = Vec::new();
        let written = (0..n).filter_map(|at| storm.admit(record(name, reason, at.into()), now, &mut summaries)).count();
        (written, summaries.iter().map(text).collect())
    }

    fn text(summary: &Record) -> String {
        let values: Vec<_> = summary.fields.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        assert_eq!(summary.name, "log_storm");
        values.join(" ").replace("Text(\"", "").replace("Other(\"", "").replace("\")", "")
    }

    #[test]
    fn a_storm_is_written_in_part_and_counted_once_a_second() {
        let (mut storm, start) = (Storm::default(), Instant::now());
        assert_eq!(say(&mut storm, "a", "x", 1020, start), (20, vec![]));
        assert_eq!(storm.next_due(), Some(start + WINDOW));
        let almost = start + WINDOW - Duration::from_nanos(1);
        assert_eq!(say(&mut storm, "a", "x", 5, almost), (0, vec![]));
        assert!(storm.due(almost).is_empty());
        let summaries = storm.due(start + WINDOW);
        assert_eq!(summaries.iter().map(text).collect::<Vec<_>>(), ["of=a count=1005 reason=x"]);
        assert!(storm.due(start + 9 * WINDOW).is_empty(), "once");
        assert_eq!(storm.next_due(), None);
        // The next second counts anew.
        assert_eq!(say(&mut storm, "a", "x", 21, start + WINDOW), (20, vec![]));
        // And the next event says what is due, where nobody looks in between.
        let (written, summaries) = say(&mut storm, "b", "y", 1, start + 2 * WINDOW);
        assert_eq!((written, summaries), (1, vec!["of=a count=1 reason=x".to_owned()]));
    }

    #[test]
    fn one_kind_never_hides_another() {
        let (mut storm, now) = (Storm::default(), Instant::now());
        assert_eq!(say(&mut storm, "a", "x", 1000, now).0, 20);
        assert_eq!(say(&mut storm, "a", "y", 1, now).0, 1, "another reason at the same place");
        assert_eq!(say(&mut storm, "b", "x", 1, now).0, 1, "another place");
        assert_eq!(say(&mut storm, "a", "x", 1, now).0, 0);
    }

    #[test]
    fn few_events_are_never_touched() {
        let (mut storm, start) = (Storm::default(), Instant::now());
        for second in 0..100 {
            assert_eq!(say(&mut storm, "a", "x", 20, start + second * WINDOW), (20, vec![]));
        }
        assert_eq!(storm.next_due(), None);
        assert!(storm.end().is_empty());
    }

    #[test]
    fn kinds_are_bounded_and_a_new_one_is_always_heard() {
        let (mut storm, start) = (Storm::default(), Instant::now());
        assert_eq!(say(&mut storm, "a", "first", 30, start).0, 20);
        let mut told = Vec::new();
        for n in 0..2 * MAX_KINDS as u64 {
            let now = start + Duration::from_micros(n + 1);
            let (written, summaries) = say(&mut storm, "a", &n.to_string(), 1, now);
            assert_eq!(written, 1);
            told.extend(summaries);
            assert!(storm.kinds.len() <= MAX_KINDS);
        }
        assert_eq!(storm.kinds.len(), MAX_KINDS);
        assert_eq!(told, ["of=a count=10 reason=first"], "what gives way is summarised first");
    }

    #[test]
    fn the_end_leaves_nothing_uncounted() {
        let (mut storm, now) = (Storm::default(), Instant::now());
        say(&mut storm, "a", "x", 22, now);
        say(&mut storm, "b", "x", 23, now);
        let mut told: Vec<_> = storm.end().iter().map(text).collect();
        told.sort();
        assert_eq!(told, ["of=a count=2 reason=x", "of=b count=3 reason=x"]);
        assert!(storm.end().is_empty());
    }
}
