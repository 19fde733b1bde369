//! When a module that leaks is left behind: pure.

use nix::sys::resource::{UsageWho, getrusage};
use std::time::{Duration, Instant};

/// How often to look.
pub const LOOK: Duration = Duration::from_secs(5);
/// A signer serves at least this long before it is started afresh for its size: a bound on how often that is.
pub const RECYCLE_AGE: Duration = Duration::from_secs(10);

/// What the process weighed when it was ready, and may weigh.
#[derive(Clone, Copy, Debug)]
pub struct Recycle {
    base_kib: u64,
    growth_kib: Option<u64>,
    since: Instant,
}

impl Recycle {
    /// From now on it may grow by this; none: by any amount.
    pub const fn new(base_kib: u64, growth_kib: Option<u64>, now: Instant) -> Self {
        Self { base_kib, growth_kib, since: now }
    }

    /// What it weighed when it was ready, in KiB.
    pub const fn base_kib(&self) -> u64 {
        self.base_kib
    }

    /// The weight beyond which it is started afresh, in KiB; 0: never.
    pub fn at_kib(&self) -> u64 {
        self.growth_kib.map_or(0, |growth| self.base_kib.saturating_add(growth))
    }

    /// Whether it is time.
    pub fn due(&self, resident_kib: u64, now: Instant) -> bool {
        self.growth_kib.is_some()
            && resident_kib > self.at_kib()
            && now.saturating_duration_since(self.since) >= RECYCLE_AGE
    }
}

/// `VmRSS` (proc_pid_status(5)); where the sandbox hides /proc, the peak, which the kernel tells without it.
pub fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let now =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    now.or_else(|| u64::try_from(getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss()).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_time_beyond_the_bound_and_not_at_it_nor_too_soon() {
        let now = Instant::now();
        let recycle = Recycle::new(1000, Some(500), now);
        let old = now + RECYCLE_AGE;
        assert_eq!(recycle.at_kib(), 1500);
        assert!(!recycle.due(1500, old) && recycle.due(1501, old));
        assert!(!recycle.due(1501, old - Duration::from_millis(1)));
        let never = Recycle::new(1000, None, now);
        assert!(!never.due(u64::MAX, old) && never.at_kib() == 0);
    }

    #[test]
    fn this_process_weighs_something() {
        assert!(resident_kib() > 1000);
    }
}
