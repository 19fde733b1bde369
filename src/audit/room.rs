//! For how long the disk has room for the ledger, as it has grown of late.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::log::Usage;

/// How far back growth is looked at: a day has busy and idle hours.
const BACK: Duration = Duration::from_secs(86_400);

/// Between two samples.
const EVERY: Duration = Duration::from_secs(600);

/// What is said where the ledger does not grow, or too little is known: a hundred years.
const MAX_DAYS: u32 = 36_500;

/// Fewer days than this are too few: time to order a disk, or to think about retention.
const FEW_DAYS: u32 = 7;

/// Less than this is too little, however slowly the ledger grows: two segments of the usual size, in bytes.
const LITTLE: u64 = 128 << 20;

/// What is known of a ledger's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What it takes, and what is left.
    pub usage: Usage,
    /// For how many days what is left lasts; 36,500 if no end is in sight.
    pub days_left: u32,
}

impl Room {
    /// Whether somebody should see to it.
    pub(super) const fn is_low(&self) -> bool {
        self.days_left < FEW_DAYS || self.usage.free < LITTLE
    }
}

/// Its size now and then, as it is on the disk: compressed, and without what was removed.
#[derive(Debug, Default)]
pub(super) struct Growth {
    samples: VecDeque<(Instant, u64)>,
}

impl Growth {
    /// Takes what there is now into account.
    pub(super) fn at(&mut self, now: Instant, usage: Usage) -> Room {
        if self.samples.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= EVERY) {
            self.samples.push_back((now, usage.bytes));
        }
        while self.samples.len() > 1
            && self.samples.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > BACK)
        {
            self.samples.pop_front();
        }
        let grown = self.samples.front().and_then(|(at, bytes)| {
            let since = now.saturating_duration_since(*at);
            Some((usage.bytes.checked_sub(*bytes)?, since)).filter(|_| since >= EVERY)
        });
        let days_left = grown.map_or(MAX_DAYS, |(grown, since)| days(usage.free, grown, since));
        Room { usage, days_left }
    }
}

/// How long `free` lasts if it goes on like this.
fn days(free: u64, grown: u64, since: Duration) -> u32 {
    let seconds = u128::from(free) * u128::from(since.as_secs());
    let left = seconds.checked_div(u128::from(grown)).map(|seconds| seconds / 86_400);
    left.and_then(|days| u32::try_from(days).ok()).unwrap_or(MAX_DAYS).min(MAX_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn usage(bytes: u64, free: u64) -> Usage {
        Usage { segments: 1, bytes, free }
    }

    #[test]
    fn the_days_that_are_left_are_those_at_the_pace_of_the_last_day() {
        let (start, mut growth) = (Instant::now(), Growth::default());
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        assert_eq!(growth.at(at(0), usage(GIB, 30 * GIB)).days_left, MAX_DAYS, "nothing is known yet");
        assert_eq!(growth.at(at(9), usage(9 * GIB, 30 * GIB)).days_left, MAX_DAYS);
        // A GiB an hour.
        assert_eq!(growth.at(at(60), usage(2 * GIB, 48 * GIB)).days_left, 2);
        for hour in 2..=30 {
            growth.at(at(60 * hour), usage((1 + hour) * GIB, 100 * GIB));
        }
        assert_eq!(growth.at(at(60 * 30), usage(31 * GIB, 240 * GIB)).days_left, 10);
        assert!(growth.samples.len() <= 200);
        // An idle day later, and what is removed by then, there is no end in sight.
        assert_eq!(growth.at(at(60 * 60), usage(31 * GIB, 240 * GIB)).days_left, MAX_DAYS);
        for hour in 61..=90 {
            growth.at(at(60 * hour), usage(31 * GIB, 240 * GIB));
        }
        assert_eq!(growth.at(at(60 * 90), usage(30 * GIB, 241 * GIB)).days_left, MAX_DAYS);
    }

    #[test]
    fn what_is_low_is_little_room_or_few_days() {
        let room = |free, days_left| Room { usage: usage(1, free), days_left };
        assert!(room(GIB, 6).is_low() && room(LITTLE - 1, MAX_DAYS).is_low());
        assert!(!room(LITTLE, 7).is_low());
        assert_eq!(days(0, 1, EVERY), 0);
        assert_eq!(days(u64::MAX, 1, BACK), MAX_DAYS);
        assert_eq!(days(1, 0, BACK), MAX_DAYS);
    }
}
