//! The clock, and what it is held to: the mark that the state keeps, and the time since the machine was started.

use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::Daemon;
use crate::clock::{Course, Doubt, MARK_EVERY_S, Moment};

/// The course that the clock has taken so far.
#[derive(Debug)]
pub(super) struct Clock(ArcSwap<Course>);

impl Clock {
    /// At the start, by the mark of the state.
    pub(super) fn new(mark: i64) -> Self {
        let (wall, boot) = read();
        Self(ArcSwap::from_pointee(Course::new(mark, wall, boot).after(wall, boot)))
    }
}

/// What was said of the clock, and when its mark was written.
#[derive(Debug, Default)]
pub(super) struct Watched {
    told: Option<Discriminant<Doubt>>,
    marked: i64,
}

impl Daemon {
    /// The present, for everything that is judged: never before a time that has been, even if the clock is set back.
    pub fn now(&self) -> Moment {
        let (wall, boot) = read();
        self.clock.0.load().now(wall, boot)
    }

    /// The time that has been for certain, for everything that is kept: a clock that ran ahead does not move it.
    pub fn reckoned(&self) -> Moment {
        let (wall, boot) = read();
        self.clock.0.load().reckoned(wall, boot)
    }

    /// The present, for what can't be undone: none while the clock may be wrong.
    pub(super) fn undoubted(&self) -> Option<Moment> {
        let ((wall, boot), course) = (read(), self.clock.0.load());
        course.doubt(wall, boot).is_none().then(|| course.reckoned(wall, boot))
    }

    /// Why the clock can't be right, if it can't: then nothing is issued.
    pub fn clock_doubt(&self) -> Option<Doubt> {
        let (wall, boot) = read();
        self.clock.0.load().doubt(wall, boot)
    }

    /// Looks at the clock, says what has changed, and has the state keep the mark. The present, if the clock may be right.
    pub(super) fn look_at_clock(&self, watched: &mut Watched) -> Option<Moment> {
        let (wall, boot) = read();
        let course = self.clock.0.load().after(wall, boot);
        let doubt = course.doubt(wall, boot);
        self.clock.0.store(course.into());
        let kind = doubt.as_ref().map(discriminant);
        if std::mem::replace(&mut watched.told, kind) != kind {
            match doubt {
                Some(doubt) => tracing::error!(
                    name: "clock_suspect",
                    reason = says(doubt),
                    "the clock can't be right; nothing is issued or forgotten"
                ),
                None => tracing::info!(name: "clock_right", "the clock may be right again"),
            }
            self.tell_manager();
        }
        if doubt.is_some() {
            return None;
        }
        let now = course.now(wall, boot);
        self.store.observe(now.unix());
        if now.unix().saturating_sub(watched.marked) >= MARK_EVERY_S && self.store.mark().is_ok() {
            watched.marked = now.unix();
        }
        Some(now)
    }
}

/// What is wrong with the clock, and what to do.
pub(super) fn says(doubt: Doubt) -> String {
    const RIGHT: &str = "set it right (timedatectl)";
    const RESET: &str = "if it is right now, stop the daemon and run `passportctl ceremony clock-reset`";
    match doubt {
        Doubt::Behind(by) => format!("the clock is {by} s behind a time that has been; {RIGHT}; {RESET}"),
        Doubt::Ahead(by) => {
            format!("the clock is {by} s ahead of the newest time that is known; {RIGHT}; {RESET}")
        }
        Doubt::Back(by) => format!("the clock was set back by {by} s while the daemon ran; {RIGHT}; {RESET}"),
        Doubt::Forward(by) => format!(
            "the clock was set forward by {by} s while the daemon ran; {RIGHT}; if it is right now, restart the daemon"
        ),
    }
}

/// The wall clock, and the time since the machine was started, with that in which it slept.
fn read() -> (Moment, Duration) {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot = Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0));
    (Moment::now(), boot)
}
