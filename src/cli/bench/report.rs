//! Numbers of a measurement, for programs and for people.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::drive::Tally;
use crate::cli::args::Bench;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};

/// Width of the longest bar.
const BAR: u64 = 40;

/// The daemon's processes before and after: the `processes` of its status.
pub(super) struct Usage {
    pub(super) before: Value,
    pub(super) after: Value,
}

/// Numbers by name, in the order in which they are read.
pub(super) type Numbers = Vec<(String, Value)>;

/// A measurement.
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) usage: Option<Usage>,
}

/// Nanoseconds as microseconds with one decimal.
#[expect(clippy::cast_precision_loss, reason = "latencies are below 2^53 ns, which is 104 days")]
pub(super) fn micros(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10.0
}

/// A ratio with `digits` decimals; zero for a division by zero.
#[expect(clippy::cast_precision_loss, reason = "counts of one run are below 2^53")]
pub(super) fn per(amount: u64, divisor: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    if divisor > 0.0 { (amount as f64 / divisor * scale).round() / scale } else { 0.0 }
}

impl Outcome {
    /// The numbers by name; null where the daemon's processes are not known.
    pub(super) fn numbers(&self) -> Numbers {
        let Tally { latency, good, bad, elapsed, .. } = &self.tally;
        let at = |quantile| micros(latency.value_at_quantile(quantile));
        let mut numbers = Vec::new();
        let mut put = |name: &str, value: Value| numbers.push((name.to_owned(), value));
        put("per_second", json!(per(*good, elapsed.as_secs_f64(), 1)));
        put("p50_us", json!(at(0.50)));
        put("p95_us", json!(at(0.95)));
        put("p99_us", json!(at(0.99)));
        put("max_us", json!(micros(latency.max())));
        put("errors", json!(bad));
        for process in ["front", "signer"] {
            put(&format!("{process}_cpu_us_per_item"), json!(self.cpu_per_item(process)));
            put(&format!("{process}_rss_kib"), json!(self.after(process, "rss_kib")));
        }
        numbers
    }

    fn after(&self, process: &str, member: &str) -> Option<u64> {
        self.usage.as_ref()?.after.get(process)?.get(member)?.as_u64()
    }

    fn cpu_per_item(&self, process: &str) -> Option<f64> {
        let before = self.usage.as_ref()?.before.get(process)?.get("cpu_us")?.as_u64()?;
        let spent = self.after(process, "cpu_us")?.checked_sub(before)?;
        let items = Duration::from_secs(self.tally.good).as_secs_f64();
        (items > 0.0).then(|| per(spent, items, 2))
    }
}

/// Shows a measurement; `beside` are further numbers. Fails if nothing succeeded.
pub(super) fn show(
    context: &mut Context<'_>,
    bench: &Bench,
    outcome: &Outcome,
    beside: Numbers,
) -> Result<Exit, CliError> {
    let mut numbers = outcome.numbers();
    numbers.extend(beside);
    show_all(context, bench, &[("", &outcome.tally)], numbers)
}

/// Shows `numbers`, and how the latencies of each load are distributed. Fails if one of the loads had no success at all.
pub(super) fn show_all(
    context: &mut Context<'_>,
    bench: &Bench,
    loads: &[(&str, &Tally)],
    numbers: Numbers,
) -> Result<Exit, CliError> {
    let exit = if loads.iter().all(|(_, tally)| tally.good > 0) { Exit::Ok } else { Exit::Failed };
    for (_, tally) in loads {
        if let Some(why) = &tally.why {
            context.out.note(&format!("{} of the answers are errors; the first: {why}", tally.bad));
        }
    }
    if context.out.is_json() {
        let mut document = Map::new();
        document.insert("bench".to_owned(), format!("{:?}", bench.what).to_lowercase().into());
        document.insert("connections".to_owned(), bench.load.connections.into());
        document.insert("in_flight".to_owned(), bench.load.in_flight.into());
        document.insert("batch".to_owned(), bench.load.batch.into());
        document.insert("seconds".to_owned(), bench.load.seconds.as_secs_f64().into());
        document.extend(numbers);
        return context.out.json(&document).map(|()| exit);
    }
    context.out.pairs(numbers.into_iter().map(|(name, value)| (name, super::super::text::cell(&value))))?;
    for (load, tally) in loads {
        if !load.is_empty() {
            context.out.line(&format!("{load}:"))?;
        }
        for line in bars(&tally.latency) {
            context.out.line(&line)?;
        }
    }
    Ok(exit)
}

/// The distribution: a bar for each doubling of the latency.
fn bars(latency: &Histogram<u64>) -> Vec<String> {
    let steps: Vec<_> =
        latency.iter_log(1000, 2.0).map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect();
    let most = steps.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
    let first = steps.iter().position(|(_, count)| *count > 0).unwrap_or_default();
    let line = |(upto, count): &(u64, u64)| {
        let length = usize::try_from((count * BAR).div_ceil(most)).unwrap_or_default();
        format!("{:>10} us |{} {count}", upto.div_ceil(1000), "#".repeat(length)).trim_end().to_owned()
    };
    steps.iter().skip(first).map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(usage: Option<Usage>) -> Outcome {
        let mut tally = Tally::new().unwrap();
        for nanos in [10_000, 11_000, 12_000, 500_000] {
            tally.latency.record(nanos).unwrap();
        }
        (tally.good, tally.bad, tally.elapsed) = (4, 1, Duration::from_millis(500));
        Outcome { tally, usage }
    }

    #[test]
    fn the_numbers_are_these() {
        let usage = Usage {
            before: json!({"front": {"pid": 1, "rss_kib": 9, "cpu_us": 100}, "signer": null}),
            after: json!({"front": {"pid": 1, "rss_kib": 10, "cpu_us": 110}, "signer": null}),
        };
        let numbers = Value::Object(outcome(Some(usage)).numbers().into_iter().collect());
        assert_eq!(numbers["per_second"], json!(8.0));
        assert_eq!(numbers["errors"], json!(1));
        assert_eq!((&numbers["front_cpu_us_per_item"], &numbers["front_rss_kib"]), (&json!(2.5), &json!(10)));
        assert_eq!((&numbers["signer_cpu_us_per_item"], &numbers["signer_rss_kib"]), (&Value::Null, &Value::Null));
        assert!(numbers["p50_us"].as_f64().unwrap() >= 11.0 && numbers["max_us"].as_f64().unwrap() >= 500.0);
        assert!(outcome(None).numbers().contains(&("front_rss_kib".to_owned(), Value::Null)));
    }

    #[test]
    fn bars_double_and_hold_every_reply() {
        let bars = bars(&outcome(None).tally.latency);
        assert!(bars[0].starts_with("        16 us |####"), "{bars:?}");
        let sum: u64 = bars.iter().filter_map(|bar| bar.rsplit([' ', '|']).next()?.parse::<u64>().ok()).sum();
        assert_eq!(sum, 4);
    }
}
