//! What the records of a period add up to, for a report. Memory does not grow with them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::filter::Filter;
use super::line::Record;
use crate::audit::Event;

/// The most names of events; a later version may have more than this one knows.
const MAX_EVENTS: usize = 256;
/// The most bars of a chart: two weeks of hours, then days, then months.
pub const MAX_BARS: usize = 400;
/// The most kinds of refusals.
const MAX_KINDS: usize = 4_096;
/// The most records of each list.
const MAX_TOLD: usize = 500;

/// Where a time is cut, from hours to years: as in `2026-11-24T08:15:00.000000Z`.
const WIDTHS: [usize; 5] = [13, 10, 7, 4, 0];

/// How many went well, were refused, failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Went well.
    pub ok: u64,
    /// Were refused.
    pub refused: u64,
    /// Failed.
    pub failed: u64,
}

impl Outcomes {
    fn add(&mut self, outcome: &str, more: u64) {
        let which = match outcome {
            "ok" => &mut self.ok,
            "refused" => &mut self.refused,
            _ => &mut self.failed,
        };
        *which = which.saturating_add(more);
    }

    fn take(&mut self, other: Self) {
        self.ok = self.ok.saturating_add(other.ok);
        self.refused = self.refused.saturating_add(other.refused);
        self.failed = self.failed.saturating_add(other.failed);
    }

    /// All of them.
    pub const fn all(self) -> u64 {
        self.ok.saturating_add(self.refused).saturating_add(self.failed)
    }
}

/// Records by their time: by the hour, and by something longer when that would be too many.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Times {
    /// The position in [`WIDTHS`].
    #[serde(skip)]
    level: usize,
    /// By the beginning of the time.
    pub bars: BTreeMap<String, Outcomes>,
}

fn cut(time: &str, level: usize) -> &str {
    let width = WIDTHS.get(level).copied().unwrap_or(0);
    time.get(..width).unwrap_or_default()
}

impl Times {
    fn add(&mut self, time: &str, outcome: &str) {
        let key = cut(time, self.level);
        match self.bars.get_mut(key) {
            Some(bar) => bar.add(outcome, 1),
            None => {
                let mut bar = Outcomes::default();
                bar.add(outcome, 1);
                self.bars.insert(key.to_owned(), bar);
            }
        }
        while self.bars.len() > MAX_BARS {
            self.level += 1;
            for (time, bar) in std::mem::take(&mut self.bars) {
                self.bars.entry(cut(&time, self.level).to_owned()).or_default().take(bar);
            }
        }
    }

    /// What one of them stands for.
    pub const fn unit(&self) -> &'static str {
        match self.level {
            0 => "hour",
            1 => "day",
            2 => "month",
            3 => "year",
            _ => "period",
        }
    }
}

/// A kind of refusal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kind {
    /// The event.
    pub event: String,
    /// Why.
    pub reason: String,
    /// Whose.
    pub uid: Option<u32>,
}

/// One record of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its number.
    pub seq: u64,
    /// Its time.
    pub time: String,
    /// Its event.
    pub event: String,
    /// What came of it.
    pub outcome: String,
    /// The key that it is about.
    pub kid: Option<String>,
    /// How many.
    pub count: Option<u64>,
    /// More about it.
    pub detail: Option<String>,
}

/// Records in their order: the first of them, and how many there are.
#[derive(Clone, Debug, Default, Serialize)]
pub struct List {
    /// The first.
    pub told: Vec<Told>,
    /// All of them.
    pub all: u64,
}

impl List {
    fn add(&mut self, record: &Record<'_>) {
        self.all += 1;
        if self.told.len() < MAX_TOLD {
            let text = |text: Option<&str>| text.map(str::to_owned);
            self.told.push(Told {
                seq: record.seq,
                time: record.time.to_string(),
                event: record.event.to_string(),
                outcome: record.outcome.to_string(),
                kid: text(record.kid.as_deref()),
                count: record.count,
                detail: text(record.detail.as_deref()),
            });
        }
    }
}

/// What they add up to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tally {
    /// Which records count: those of a period.
    #[serde(skip)]
    pub wanted: Filter,
    /// How many there are.
    pub records: u64,
    /// The number and time of the first.
    pub first: Option<(u64, String)>,
    /// The number and time of the last.
    pub last: Option<(u64, String)>,
    /// By event.
    pub events: BTreeMap<String, Outcomes>,
    /// By time.
    pub times: Times,
    /// Refusals and failures by kind.
    #[serde(serialize_with = "as_list")]
    pub kinds: BTreeMap<Kind, u64>,
    /// Those of kinds for which there was no room.
    pub other_kinds: u64,
    /// Refusals that were counted, and not put on record one by one.
    pub suppressed: u64,
    /// What became of keys.
    pub keys: List,
    /// What somebody should have looked at: gaps, and what nobody should have to see.
    pub notable: List,
    /// When the daemon started and ended.
    pub runs: List,
}

fn as_list<S: serde::Serializer>(kinds: &BTreeMap<Kind, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct One<'a> {
        #[serde(flatten)]
        kind: &'a Kind,
        count: u64,
    }
    serializer.collect_seq(kinds.iter().map(|(kind, count)| One { kind, count: *count }))
}

/// What of the ledger or of the daemon's own integrity stands out.
const NOTABLE: [Event; 9] = [
    Event::LedgerBreak,
    Event::LedgerPruned,
    Event::SignaturesUnaccounted,
    Event::SignatureRejected,
    Event::SelfTestFailed,
    Event::VerifyPathDistrusted,
    Event::StateRestored,
    Event::ClockReset,
    Event::SignerLost,
];

impl Tally {
    /// Of the records that `wanted` wants.
    pub fn of(wanted: Filter) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Counts a record.
    pub fn add(&mut self, record: &Record<'_>) {
        if !self.wanted.wants(record) {
            return;
        }
        self.records += 1;
        let at = || Some((record.seq, record.time.to_string()));
        if self.first.is_none() {
            self.first = at();
        }
        self.last = at();
        match self.events.get_mut(&*record.event) {
            Some(outcomes) => outcomes.add(&record.outcome, 1),
            None => {
                let name = if self.events.len() < MAX_EVENTS { &*record.event } else { "others" };
                self.events.entry(name.to_owned()).or_default().add(&record.outcome, 1);
            }
        }
        self.times.add(&record.time, &record.outcome);
        let is = |event: Event| *record.event == *event.name();
        if is(Event::RefusalsSuppressed) {
            self.suppressed = self.suppressed.saturating_add(record.count.unwrap_or(0));
        } else if &*record.outcome != "ok" {
            self.refusal(record);
        }
        if record.event.starts_with("key_") {
            self.keys.add(record);
        }
        if NOTABLE.into_iter().any(is) {
            self.notable.add(record);
        }
        if is(Event::DaemonStarted) || is(Event::DaemonStopping) {
            self.runs.add(record);
        }
    }

    fn refusal(&mut self, record: &Record<'_>) {
        let reason = record.reason.as_deref().unwrap_or_default().to_owned();
        let kind = Kind { event: record.event.to_string(), reason, uid: record.uid };
        if let Some(count) = self.kinds.get_mut(&kind) {
            *count += 1;
        } else if self.kinds.len() < MAX_KINDS {
            self.kinds.insert(kind, 1);
        } else {
            self.other_kinds += 1;
        }
    }

    /// The kinds of refusals, the most frequent first.
    pub fn most_refused(&self) -> Vec<(&Kind, u64)> {
        let mut all: Vec<_> = self.kinds.iter().map(|(kind, count)| (kind, *count)).collect();
        all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        all
    }
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
