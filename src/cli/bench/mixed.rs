//! `bench mixed`: issuing and verifying side by side at given rates, and what the machine has left meanwhile.

use std::rc::Rc;

use serde_json::json;
use tokio::task::LocalSet;

use super::drive::{Pace, Place, Tally, paced};
use super::report::{self, Numbers, micros, per};
use super::work::Issuing;
use super::{request, usage, verifying, within_limits};
use crate::cli::args::Bench;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::progress::Progress;

pub(super) async fn run(context: &mut Context<'_>, bench: &Bench, progress: Progress) -> Result<Exit, CliError> {
    if bench.load.batch != 1 {
        return Err(CliError::Usage("`bench mixed` asks for one passport a request; leave --batch at 1".to_owned()));
    }
    let client = context.client().await?;
    within_limits(&client, bench).await?;
    let issuing = Rc::new(Issuing { request: request(bench), batch: 1 });
    let checking = Rc::new(verifying(&client, bench).await?);
    let place = Place::Path(context.socket()?);
    let pace = |per_second| Pace { per_second, connections: bench.load.connections, seconds: bench.load.seconds };
    let admin = context.admin().await.ok();
    let (before, processors) = (usage(admin.as_ref()).await, Processors::now());
    let both = LocalSet::new();
    let (issued, verified) = both
        .run_until(async {
            tokio::try_join!(
                paced(&place, issuing, pace(bench.issues_per_second)),
                paced(&place, checking, pace(bench.verifies_per_second)),
            )
        })
        .await?;
    let idle = processors.zip(Processors::now()).and_then(|(before, after)| after.idle_percent_since(before));
    let after = usage(admin.as_ref()).await;
    let mut numbers = of_kind("issue", &issued);
    numbers.extend(of_kind("verify", &verified));
    numbers.push(("cpu_idle_percent".to_owned(), json!(idle)));
    for process in ["front", "signer"] {
        let member = |usage: &Option<serde_json::Value>| usage.as_ref()?.get(process)?.get("cpu_us")?.as_u64();
        let spent = member(&after).zip(member(&before)).and_then(|(after, before)| after.checked_sub(before));
        let percent = spent.map(|spent| per(spent, bench.load.seconds.as_secs_f64() * 10_000.0, 1));
        numbers.push((format!("{process}_cpu_percent"), json!(percent)));
    }
    drop(progress);
    report::show_all(context, bench, &[("issue", &issued), ("verify", &verified)], numbers)
}

fn of_kind(kind: &str, tally: &Tally) -> Numbers {
    let at = |quantile| micros(tally.latency.value_at_quantile(quantile));
    let named = [
        ("per_second", json!(per(tally.good, tally.elapsed.as_secs_f64(), 1))),
        ("p50_us", json!(at(0.50))),
        ("p95_us", json!(at(0.95))),
        ("p99_us", json!(at(0.99))),
        ("max_us", json!(micros(tally.latency.max()))),
        ("errors", json!(tally.bad)),
    ];
    named.into_iter().map(|(name, value)| (format!("{kind}_{name}"), value)).collect()
}

/// Time of all processors since the machine started, in ticks (proc_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processors {
    idle: u64,
    all: u64,
}

impl Processors {
    fn now() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/stat").ok()?)
    }

    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal; guest time is part of user time.
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
        let idle = ticks.get(3)? + ticks.get(4)?;
        Some(Self { idle, all: ticks.iter().sum() })
    }

    fn idle_percent_since(self, before: Self) -> Option<f64> {
        let all = u32::try_from(self.all.checked_sub(before.all)?).ok().filter(|all| *all > 0)?;
        Some(per(self.idle.checked_sub(before.idle)? * 100, f64::from(all), 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_processors_have_left_is_idle_and_waiting_for_disks() {
        let before = Processors::parse("cpu  100 0 100 700 100 0 0 0 5 5\ncpu0 1 1 1 1 1 1 1 1 0 0\n").unwrap();
        assert_eq!(before, Processors { idle: 800, all: 1000 });
        let after = Processors::parse("cpu  150 0 130 780 120 10 5 5 5 5\n").unwrap();
        assert_eq!(after.idle_percent_since(before), Some(50.0));
        assert_eq!(before.idle_percent_since(before), None);
        assert_eq!(Processors::parse("intr 1 2 3"), None);
    }
}
