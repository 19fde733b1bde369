//! The table of `make bench` outlives what can't be measured.
#![cfg(test)]

#[path = "../benches/main_job/bars.rs"]
mod bars;

use bars::{Bar, group, median, report};
use serde_json::{Value, json};

#[test]
fn a_group_that_panics_is_one_failed_bar_and_the_others_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.json");
    let mut bars = group("first", || vec![Bar::new("first_rate", 2.0, "/s", ">= 1", true)]);
    bars.extend(group("second", || panic!("the daemon went away")));
    bars.extend(group("third", || vec![Bar::new("third_rate", 0.5, "/s", ">= 1", false)]));
    report(&bars, &file);
    let written: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let expected = json!([
        { "name": "first_rate", "value": 2.0, "unit": "/s", "bar": ">= 1", "pass": true },
        { "name": "second", "value": null, "unit": "", "bar": "measured", "pass": false },
        { "name": "third_rate", "value": 0.5, "unit": "/s", "bar": ">= 1", "pass": false },
    ]);
    assert_eq!(written, expected);
}

#[test]
fn a_median_is_in_the_middle() {
    assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    assert!((median(vec![4.0, 1.0]) - 2.5).abs() < f64::EPSILON);
}
