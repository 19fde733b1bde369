//! Times and ranges as they are typed.

use std::time::Duration;

use crate::clock::Moment;

/// A time as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Microseconds since 1970.
    At(i64),
    /// So long ago.
    Ago(Duration),
}

/// From a number to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u64,
    pub(crate) last: Option<u64>,
}

impl When {
    /// As in records: RFC 3339 in UTC with microseconds, which sorts as text.
    pub(crate) fn text(self, now: Moment) -> String {
        let micros = match self {
            Self::At(micros) => micros,
            Self::Ago(ago) => now.micros().saturating_sub(i64::try_from(ago.as_micros()).unwrap_or(i64::MAX)),
        };
        let time = jiff::Timestamp::from_microsecond(micros);
        format!("{:.6}", time.unwrap_or(if micros < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX }))
    }
}

/// Reads a time.
pub(crate) fn when(text: &str) -> Result<When, String> {
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(When::At(time.as_microsecond()));
    }
    if let Ok(time) = format!("{text}T00:00:00Z").parse::<jiff::Timestamp>() {
        return Ok(When::At(time.as_microsecond()));
    }
    ago(text).map(When::Ago).ok_or_else(|| {
        "expected a time such as 2026-11-24T08:00:00Z, a date such as 2026-11-24, or how long ago, such as 90d, 24h, 15m or 30s"
            .to_owned()
    })
}

fn ago(text: &str) -> Option<Duration> {
    let mut digits = text.chars();
    let unit = match digits.next_back()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number = digits.as_str();
    let number: u64 = number.parse().ok().filter(|_| number.bytes().all(|byte| byte.is_ascii_digit()))?;
    number.checked_mul(unit).map(Duration::from_secs)
}

/// Reads `A..B`, `A..`, `..B` or one number.
pub(crate) fn range(text: &str) -> Result<Span, String> {
    let wrong = || "expected numbers such as 100..200, 100.., ..200 or 100".to_owned();
    let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let Some((first, last)) = text.split_once("..") else {
        let one = number(text)?;
        return Ok(Span { first: one, last: Some(one) });
    };
    let first = if first.is_empty() { 0 } else { number(first)? };
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    if last.is_some_and(|last| last < first) { Err(wrong()) } else { Ok(Span { first, last }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_typed_in_three_ways() {
        let now = Moment::from_unix(1_800_000_000);
        let shown = |text: &str| when(text).unwrap().text(now);
        assert_eq!(shown("2026-11-24T08:00:00+01:00"), "2026-11-24T07:00:00.000000Z");
        assert_eq!(shown("2026-11-24"), "2026-11-24T00:00:00.000000Z");
        assert_eq!(shown("15m"), "2027-01-15T07:45:00.000000Z");
        assert_eq!(shown("90d"), "2026-10-17T08:00:00.000000Z");
        for bad in ["", "d", "-1h", "+1h", "1w", "yesterday", "99999999999999999999d"] {
            assert!(when(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_include_both_ends() {
        assert_eq!(range("3..5"), Ok(Span { first: 3, last: Some(5) }));
        assert_eq!(range("3.."), Ok(Span { first: 3, last: None }));
        assert_eq!(range("..5"), Ok(Span { first: 0, last: Some(5) }));
        assert_eq!(range("4"), Ok(Span { first: 4, last: Some(4) }));
        for bad in ["", "x", "5..3", "1-2", "1..2..3"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
