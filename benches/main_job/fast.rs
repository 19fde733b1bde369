//! The bars of verification over the socket, with `[verify] engine = "auto"`: client and daemon share the processors.

use std::process::Command;

use super::bars::{Bar, group, median};
use super::support::{House, Options};
use super::{ctl, fair};

/// Rounds of each figure; its value is the median.
const ROUNDS: usize = 3;
/// Rounds of the comparison with an echo.
const ECHO_ROUNDS: usize = 9;
/// Connections that do nothing beside the load.
const IDLE: usize = 1000;

pub(super) fn bars(options: Options) -> Vec<Bar> {
    let options = options.set("verify.engine", "auto").set("server.max_connections", 4096);
    let house = House::start(options.set("server.max_connections_per_uid", 4096));
    let batches = |connections| load(&house, &["--batch", "64", "--in-flight", "4", "--connections", connections]);
    let mut bars = group("verify_batch_64_four_connections", || {
        let (four, cpu) = batches("4");
        vec![
            at_least("verify_batch_64_four_connections", four, 500_000.0, ">= 500000", "/s"),
            at_most("verify_batch_64_front_cpu", cpu, 3.0, "<= 3", "us"),
        ]
    });
    bars.extend(group("verify_batch_64_one_connection", || {
        let (one, _) = batches("1");
        vec![at_least("verify_batch_64_one_connection", one, 300_000.0, ">= 300000", "/s")]
    }));
    bars.extend(group("verify_singles_64_in_flight", || {
        let (singles, cpu) = load(&house, &["--in-flight", "16", "--connections", "4"]);
        vec![
            at_least("verify_singles_64_in_flight", singles, 300_000.0, ">= 300000", "/s"),
            at_most("verify_singles_front_cpu", cpu, 4.5, "<= 4.5", "us"),
        ]
    }));
    bars.extend(group("verify_beside_1000_idle", || vec![beside_idle_ones(&house)]));
    bars.extend(group("verify_p50_of_echo_pinned", || vec![one_at_a_time(&house)]));
    bars.extend(fair::with_engine_auto(&house));
    bars
}

fn at_least(name: &'static str, value: f64, least: f64, bar: &'static str, unit: &'static str) -> Bar {
    Bar::new(name, value, unit, bar, value >= least)
}

fn at_most(name: &'static str, value: f64, most: f64, bar: &'static str, unit: &'static str) -> Bar {
    Bar::new(name, value, unit, bar, value <= most)
}

/// Verdicts a second, and microseconds of the front's processor for each.
fn load(house: &House, arguments: &[&str]) -> (f64, f64) {
    let rounds = (0..ROUNDS).map(|_| {
        let ours = ctl(house, &[&["bench", "verify", "--seconds", "3"], arguments].concat());
        assert_eq!(ours["errors"], 0, "{ours}");
        let number = |name: &str| ours[name].as_f64().unwrap();
        println!(
            "bench verify {}: {} /s, front {} us, p99 {} us",
            arguments.join(" "),
            ours["per_second"],
            ours["front_cpu_us_per_item"],
            ours["p99_us"]
        );
        (number("per_second"), number("front_cpu_us_per_item"))
    });
    let (rates, costs) = rounds.unzip();
    (median(rates), median(costs))
}

/// The same load alone and beside idle connections, in turns.
fn beside_idle_ones(house: &House) -> Bar {
    let arguments = ["--batch", "64", "--in-flight", "4", "--connections", "4"];
    let ratios = (0..ROUNDS).map(|_| {
        let (alone, _) = load_once(house, &arguments);
        let idle: Vec<_> = (0..IDLE).map(|_| house.raw()).collect();
        let (beside, _) = load_once(house, &arguments);
        drop(idle);
        beside / alone
    });
    let value = median(ratios.collect());
    at_least("verify_beside_1000_idle", value, 0.95, ">= 0.95", "ratio")
}

fn load_once(house: &House, arguments: &[&str]) -> (f64, f64) {
    let ours = ctl(house, &[&["bench", "verify", "--seconds", "3"], arguments].concat());
    (ours["per_second"].as_f64().unwrap(), ours["front_cpu_us_per_item"].as_f64().unwrap())
}

/// One verification at a time against the bare echo of the same sizes, all on one processor.
fn one_at_a_time(house: &House) -> Bar {
    // What this process starts is where it is itself.
    let _pinned = Pinned::to_the_first([house.pid("front"), i32::try_from(std::process::id()).unwrap()]);
    let rounds: Vec<_> = (0..ECHO_ROUNDS)
        .map(|_| {
            let ours = ctl(
                house,
                &["bench", "verify", "--compare", "--seconds", "1", "--connections", "1", "--in-flight", "1"],
            );
            let number = |name: &str| ours[name].as_f64().unwrap();
            (number("p50_us") / number("echo_p50_us"), number("p50_us"), number("p99_us"))
        })
        .collect();
    let of = |pick: fn(&(f64, f64, f64)) -> f64| median(rounds.iter().map(pick).collect());
    println!("one at a time on one processor: p50 {} us, p99 {} us", of(|one| one.1), of(|one| one.2));
    at_most("verify_p50_of_echo_pinned", of(|one| one.0), 3.0, "<= 3", "ratio")
}

/// Processes on the first processor; on all again on drop, even where a measurement is given up.
struct Pinned {
    pids: [i32; 2],
    /// In the words of taskset(1). Asked before: afterwards there is one.
    all: String,
}

impl Pinned {
    fn to_the_first(pids: [i32; 2]) -> Self {
        let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let pinned = Self { pids, all: format!("0-{last}") };
        for pid in pids {
            let output = Command::new("taskset").args(["-acp", "0", &pid.to_string()]).output().unwrap();
            assert!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
        }
        pinned
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        for pid in self.pids {
            drop(Command::new("taskset").args(["-acp", &self.all, &pid.to_string()]).output());
        }
    }
}
