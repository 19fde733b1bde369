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

/// A step of the wall clock that is taken for a mistake, in seconds.
pub const MAX_STEP_S: i64 = 300;

/// How far the wall clock was stepped since the first look. That both clocks are slewed alike (`CLOCK_BOOTTIME` goes on while
/// the machine sleeps) leaves steps alone to tell them apart.
#[derive(Clone, Copy, Debug, Default)]
pub struct Steps {
    first: Option<i64>,
}

impl Steps {
    /// Whether the wall clock stands, within [`MAX_STEP_S`], where the time since the first look would have it.
    pub fn are_small(&mut self, wall: Moment, since_boot: Duration) -> bool {
        let since_boot = i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX);
        let offset = wall.unix().saturating_sub(since_boot);
        let first = *self.first.get_or_insert(offset);
        offset.abs_diff(first) <= MAX_STEP_S.unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_seen_until_it_is_taken_back() {
        let mut steps = Steps::default();
        let day = 86_400;
        for (wall, since_boot, small) in [
            (1000, 10, true),
            (1000 + day, 10 + 86_400, true),
            (1300 + day, 10 + 86_400, true),
            (1301 + day, 10 + 86_400, false),
            (700 + day, 10 + 86_400, true),
            (699 + day, 10 + 86_400, false),
            (1000 + 11 * day, 10 + 86_400, false),
            (1000 + 2 * day, 10 + 2 * 86_400, true),
        ] {
            let seen = steps.are_small(Moment::from_unix(wall), Duration::from_secs(since_boot));
            assert_eq!(seen, small, "{wall} {since_boot}");
        }
    }

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
