//! Time, passed in: what decides takes a [`Moment`] as an argument. The clock is read at the edges alone: in `lifecycle`,
//! `service` and `boot`, and in the signer's and the ceremony's own entry points (`hsm::server`, `ceremony`).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A point in time by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    micros: i64,
}

impl Moment {
    /// The present, by `CLOCK_REALTIME`. A clock set before 1970 reads as 1970, where no passport is valid yet.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX) }
    }

    /// The moment `seconds` after 1970-01-01T00:00:00Z.
    pub const fn from_unix(seconds: i64) -> Self {
        Self { micros: seconds.saturating_mul(1_000_000) }
    }

    /// Whole seconds since 1970 (the `NumericDate` of RFC 7519 §2), rounded down.
    pub const fn unix(self) -> i64 {
        self.micros.div_euclid(1_000_000)
    }

    /// Microseconds since 1970: what audit records and journald carry.
    pub const fn micros(self) -> i64 {
        self.micros
    }

    /// This moment moved by a whole number of seconds.
    #[must_use]
    pub const fn plus(self, seconds: i64) -> Self {
        Self { micros: self.micros.saturating_add(seconds.saturating_mul(1_000_000)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_round_down_on_both_sides_of_the_epoch() {
        assert_eq!(Moment::from_unix(5).plus(-6).unix(), -1);
        assert_eq!(Moment { micros: -1 }.unix(), -1);
        assert_eq!(Moment { micros: 1_999_999 }.unix(), 1);
    }

    #[test]
    fn the_ends_of_the_range_do_not_wrap() {
        assert_eq!(Moment::from_unix(i64::MAX).plus(1).micros(), i64::MAX);
    }
}
