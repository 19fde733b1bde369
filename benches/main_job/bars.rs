//! Bars, in groups that fail by themselves: what one group can't measure loses none of the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use serde_json::{Value, json};

/// One figure, and what is wanted of it.
pub(crate) struct Bar {
    pub(crate) name: String,
    /// Not a number: it could not be measured.
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) bar: &'static str,
    pub(crate) pass: bool,
}

impl Bar {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str, bar: &'static str, pass: bool) -> Self {
        Self { name: name.into(), value, unit, bar, pass }
    }

    /// What stands in the place of the bars that a group would have had.
    fn not_measured(group: &str) -> Self {
        Self::new(group, f64::NAN, "", "measured", false)
    }
}

/// What is to be measured, by a part of its group's name; everything without.
pub(crate) fn wanted() -> Option<String> {
    std::env::var("PASSPORTD_BENCH_ONLY").ok()
}

/// The bars of one group, if it is wanted. A group that panics is one failed bar that has its name; why, the panic has said.
pub(crate) fn group(name: &str, measure: impl FnOnce() -> Vec<Bar>) -> Vec<Bar> {
    if wanted().is_some_and(|wanted| !name.contains(&wanted)) { Vec::new() } else { groups(name, measure) }
}

/// The same of several groups.
pub(crate) fn groups(name: &str, measure: impl FnOnce() -> Vec<Bar>) -> Vec<Bar> {
    // What it borrows is daemons and files: a half-done measurement leaves nothing of theirs broken that the next one
    // would not notice, and fail by itself.
    catch_unwind(AssertUnwindSafe(measure)).unwrap_or_else(|_| vec![Bar::not_measured(name)])
}

/// Prints them as a table, and writes them.
pub(crate) fn report(bars: &[Bar], to: &Path) {
    println!("\n{:36} {:>10} {:6} {:>8}", "bar", "value", "unit", "wanted");
    for Bar { name, value, unit, bar, pass } in bars {
        println!("{name:36} {value:10.3} {unit:6} {bar:>8} {}", if *pass { "ok" } else { "NOT REACHED" });
    }
    if wanted().is_some() {
        return println!("a part only; {} is as it was", to.display());
    }
    // What is no number is null in JSON.
    let list: Vec<Value> = bars
        .iter()
        .map(|one| json!({ "name": one.name, "value": one.value, "unit": one.unit, "bar": one.bar, "pass": one.pass }))
        .collect();
    std::fs::write(to, serde_json::to_string_pretty(&list).unwrap() + "\n").unwrap();
    println!("written to {}", to.display());
}

/// Of an even number of values, the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
