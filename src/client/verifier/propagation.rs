//! How long revocations take from the daemon's acknowledgement to their effect here.

use std::sync::atomic::{AtomicU64, Ordering};

/// The name of the histogram, in `docs/METRICS.md`.
const NAME: &str = "revocation_propagation_seconds";
/// Upper ends of the buckets, in milliseconds. What took longer is counted beyond them.
const ENDS: [u64; 20] = [1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 75, 100, 150, 250, 500, 1000, 2500, 5000, 60_000];

/// Counts as they come.
#[derive(Debug, Default)]
pub(super) struct Counts {
    buckets: [AtomicU64; ENDS.len() + 1],
    sum_ms: AtomicU64,
}

impl Counts {
    /// One revocation took so many milliseconds. Clocks of one host are one clock; what seems to be before the acknowledgement
    /// was at once.
    pub(super) fn took(&self, ms: i64) {
        let ms = u64::try_from(ms).unwrap_or(0);
        let at = ENDS.iter().position(|end| ms <= *end).unwrap_or(ENDS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> Propagation {
        let buckets = self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed));
        Propagation { buckets, sum_ms: self.sum_ms.load(Ordering::Relaxed) }
    }
}

/// How long revocations took from the daemon's acknowledgement to their effect in one verifier: a histogram, to the millisecond
/// of the daemon's time stamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Propagation {
    buckets: [u64; ENDS.len() + 1],
    sum_ms: u64,
}

impl Propagation {
    /// How many revocations, epochs and compromised keys there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What so large a share of them took at most, in milliseconds: the upper end of a bucket. None if there was none, or if it
    /// was longer than a minute.
    pub fn at_most_ms(&self, share: f64) -> Option<u64> {
        let (count, mut seen) = (self.count(), 0);
        // Shares of counts that are of interest are exact in 52 bits.
        #[expect(clippy::cast_precision_loss, reason = "as it says")]
        let within = |seen: u64| seen as f64 >= share * count as f64;
        let reached = |(at, in_bucket): (usize, &u64)| {
            seen += in_bucket;
            within(seen).then_some(at)
        };
        let at = self.buckets.iter().enumerate().find_map(reached).filter(|_| count > 0)?;
        ENDS.get(at).copied()
    }

    /// The two of them together, for a process with several verifiers.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, more)| *own += more);
        self.sum_ms += other.sum_ms;
        self
    }

    /// The histogram as Prometheus reads it, for the service's own metrics page.
    pub fn text(&self) -> String {
        let ends = ENDS.iter().map(|end| seconds(*end)).chain(["+Inf".to_owned()]);
        let mut seen = 0;
        let buckets: String = ends
            .zip(&self.buckets)
            .map(|(end, count)| {
                seen += count;
                format!("{NAME}_bucket{{le=\"{end}\"}} {seen}\n")
            })
            .collect();
        let sum = seconds(self.sum_ms);
        format!(
            "# HELP {NAME} From the acknowledgement of a revocation to its effect in this process.\n\
             # TYPE {NAME} histogram\n{buckets}{NAME}_sum {sum}\n{NAME}_count {seen}\n"
        )
    }
}

fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1000, ms % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[i64]) -> Propagation {
        let counts = Counts::default();
        all.iter().for_each(|ms| counts.took(*ms));
        counts.snapshot()
    }

    #[test]
    fn shares_are_told_by_the_upper_end() {
        let none = of(&[]);
        assert_eq!((none.count(), none.at_most_ms(0.99)), (0, None));
        let some = of(&[-5, 0, 1, 2, 50]);
        assert_eq!(some.count(), 5);
        for (share, ms) in [(0.5, 1), (0.6, 1), (0.8, 2), (0.99, 50), (1.0, 50)] {
            assert_eq!(some.at_most_ms(share), Some(ms), "{share}");
        }
        assert_eq!(of(&[51]).at_most_ms(0.5), Some(75));
        assert_eq!(of(&[60_001]).at_most_ms(0.5), None, "longer than is told");
        assert_eq!(of(&[1, 2]).plus(&of(&[50, -5, 0])), some);
    }

    #[test]
    fn it_is_written_as_prometheus_reads_it() {
        let text = of(&[1, 7, 1500]).text();
        for line in [
            "# TYPE revocation_propagation_seconds histogram",
            "revocation_propagation_seconds_bucket{le=\"0.001\"} 1",
            "revocation_propagation_seconds_bucket{le=\"0.005\"} 1",
            "revocation_propagation_seconds_bucket{le=\"0.01\"} 2",
            "revocation_propagation_seconds_bucket{le=\"1\"} 2",
            "revocation_propagation_seconds_bucket{le=\"2.5\"} 3",
            "revocation_propagation_seconds_bucket{le=\"60\"} 3",
            "revocation_propagation_seconds_bucket{le=\"+Inf\"} 3",
            "revocation_propagation_seconds_sum 1.508",
            "revocation_propagation_seconds_count 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }
}
