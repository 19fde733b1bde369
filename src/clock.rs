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

/// How far the clock may stand from where it must, in seconds, before it is taken for a mistake.
pub const MAX_STEP_S: i64 = 300;

/// How far ahead of the newest time that is known a clock may stand at a start, in seconds: what was off for longer has no
/// passport left that is valid, and may ask somebody to look at the clock.
pub const MAX_AHEAD_S: i64 = 366 * 86_400;

/// Between two writings of the mark into the state, in seconds: as long before the end of a process that was killed the newest
/// mark may be.
pub const MARK_EVERY_S: i64 = 30;

/// Why the clock can't be right. Each by how many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It stands before a time that has been.
    Behind(i64),
    /// It stands, at a start, further ahead of the newest time that is known than [`MAX_AHEAD_S`].
    Ahead(i64),
    /// It was stepped forward while we ran.
    Forward(i64),
    /// It was stepped back while we ran.
    Back(i64),
}

/// What is known of the time beside the clock: a mark that it has passed for certain, and how far the clock stands from the time
/// since the machine was started (`CLOCK_BOOTTIME`). Both are slewed alike, and `CLOCK_BOOTTIME` goes on while the machine
/// sleeps, which leaves steps alone to tell them apart.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    mark: i64,
    /// The time since boot when the mark had passed.
    marked: i64,
    /// Unknown until the clock was once without doubt.
    offset: Option<i64>,
}

impl Course {
    /// At a start, by the mark that was kept. A clock that stands before it went back, and whoever kept the mark may have gone on
    /// for a while after the last writing.
    pub fn new(mark: i64, wall: Moment, since_boot: Duration) -> Self {
        let mark = if wall.unix() < mark { mark.saturating_add(MARK_EVERY_S) } else { mark };
        Self { mark, marked: seconds(since_boot), offset: None }
    }

    /// What is wrong with the clock; none while it may be right.
    pub fn doubt(&self, wall: Moment, since_boot: Duration) -> Option<Doubt> {
        let off = self.offset.map_or(0, |offset| offset_of(wall, since_boot).saturating_sub(offset));
        if off > MAX_STEP_S {
            return Some(Doubt::Forward(off));
        }
        if off < -MAX_STEP_S {
            return Some(Doubt::Back(off.saturating_neg()));
        }
        let ahead = wall.unix().saturating_sub(self.mark);
        if ahead < -MAX_STEP_S {
            return Some(Doubt::Behind(ahead.saturating_neg()));
        }
        (self.offset.is_none() && ahead > MAX_AHEAD_S).then_some(Doubt::Ahead(ahead))
    }

    /// The course after a look at the clock: one that is in doubt moves nothing.
    #[must_use]
    pub fn after(self, wall: Moment, since_boot: Duration) -> Self {
        if self.doubt(wall, since_boot).is_some() {
            return self;
        }
        let offset = Some(self.offset.unwrap_or_else(|| offset_of(wall, since_boot)));
        Self { mark: self.mark.max(wall.unix()), marked: seconds(since_boot), offset }
    }

    /// The time that has been for certain: by the clock, or by the mark and what has passed since where the clock is in doubt.
    pub fn reckoned(&self, wall: Moment, since_boot: Duration) -> Moment {
        let passed = match self.doubt(wall, since_boot) {
            None => return wall.max(Moment::from_unix(self.mark)),
            Some(_) => seconds(since_boot).saturating_sub(self.marked).max(0),
        };
        Moment::from_unix(self.mark.saturating_add(passed))
    }

    /// The present that verdicts go by: never before what has been, whatever the clock says.
    pub fn now(&self, wall: Moment, since_boot: Duration) -> Moment {
        if self.doubt(wall, since_boot).is_none() && wall.unix() >= self.mark {
            return wall;
        }
        wall.max(self.reckoned(wall, since_boot))
    }
}

fn seconds(since_boot: Duration) -> i64 {
    i64::try_from(since_boot.as_secs()).unwrap_or(i64::MAX)
}

fn offset_of(wall: Moment, since_boot: Duration) -> i64 {
    wall.unix().saturating_sub(seconds(since_boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const START: i64 = 1_700_000_000;

    /// The wall clock and the time since boot, so many seconds after the start; the clock is off by `off`.
    fn at(passed: i64, off: i64) -> (Moment, Duration) {
        (Moment::from_unix(START + passed + off), Duration::from_secs(u64::try_from(100 + passed).unwrap()))
    }

    fn started(mark: i64, off: i64) -> Course {
        let (wall, boot) = at(0, off);
        Course::new(mark, wall, boot).after(wall, boot)
    }

    #[test]
    fn a_step_is_seen_until_it_is_taken_back() {
        for (off, doubt) in [
            (0, None),
            (MAX_STEP_S, None),
            (-MAX_STEP_S, None),
            (MAX_STEP_S + 1, Some(Doubt::Forward(MAX_STEP_S + 1))),
            (-MAX_STEP_S - 1, Some(Doubt::Back(MAX_STEP_S + 1))),
            (10 * DAY, Some(Doubt::Forward(10 * DAY))),
            (-10 * DAY, Some(Doubt::Back(10 * DAY))),
            (3650 * DAY, Some(Doubt::Forward(3650 * DAY))),
        ] {
            let course = started(START, 0);
            let (wall, boot) = at(DAY, off);
            assert_eq!(course.doubt(wall, boot), doubt, "{off}");
            let after = course.after(wall, boot);
            let (wall, boot) = at(DAY + 5, 0);
            assert_eq!(after.doubt(wall, boot), None, "{off}: corrected");
            assert_eq!(
                after.after(wall, boot).now(wall, boot).unix(),
                START + DAY + 5.max(off * i64::from(doubt.is_none()))
            );
        }
    }

    #[test]
    fn over_a_restart_the_mark_is_what_the_clock_is_held_to() {
        for (off, doubt) in [
            (-MAX_STEP_S, None),
            (-10 * DAY, Some(Doubt::Behind(10 * DAY + MARK_EVERY_S))),
            (10 * DAY, None),
            (MAX_AHEAD_S, None),
            (3650 * DAY, Some(Doubt::Ahead(3650 * DAY))),
        ] {
            let (wall, boot) = at(0, off);
            // As far before the mark as what may have been after its writing is not held against the clock.
            let allowed = if off == -MAX_STEP_S { MARK_EVERY_S } else { 0 };
            let course = Course::new(START - allowed, wall, boot);
            assert_eq!(course.doubt(wall, boot), doubt, "{off}");
            if doubt.is_none() {
                continue;
            }
            let (wall, boot) = at(60, 0);
            let after = course.after(wall, boot);
            assert_eq!((after.doubt(wall, boot), after.now(wall, boot)), (None, wall), "{off}: corrected");
            let (wall, boot) = at(60, -10 * DAY);
            assert_eq!(after.doubt(wall, boot), Some(Doubt::Back(10 * DAY)), "steps count from there on");
        }
    }

    #[test]
    fn the_present_never_goes_back_and_time_goes_on_while_the_clock_is_wrong() {
        let course = started(START, 0);
        let (wall, boot) = at(1000, 0);
        let course = course.after(wall, boot);
        let now = |passed, off| {
            let (wall, boot) = at(passed, off);
            course.now(wall, boot).unix() - START
        };
        assert_eq!(now(1000, -200), 1000, "a small step back is waited out");
        assert_eq!(now(1500, -10 * DAY), 1500);
        assert_eq!(now(1500, 10 * DAY), 1500 + 10 * DAY, "what would be over by it is refused");
        let (wall, boot) = at(1500, 10 * DAY);
        assert_eq!(course.reckoned(wall, boot).unix() - START, 1500, "but what is kept does not go by it");
        let restarted = started(START, -10 * DAY);
        let (wall, boot) = at(500, -10 * DAY);
        assert_eq!(restarted.now(wall, boot).unix(), START + MARK_EVERY_S + 500);
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
