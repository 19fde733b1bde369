//! Acceptances that take a use, durably and on record, one request each.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::bars::{Bar, group, median};
use super::ctl;
use super::support::options::POLICY;
use super::support::{House, Options};

const NAME: &str = "consumption_per_second";
const ROUNDS: usize = 5;
/// Writes with which the disk is asked how long it takes by itself.
const WRITES: usize = 500;
/// Its passports may be accepted so often that none of them is used up.
const MANY: &str = "
[[template]]
name = \"many\"
tenant = \"t1\"
purpose = \"auth\"
subjects = [\"*\"]
audiences = [\"demo\"]
max_ttl_s = 3600
limit = 1000000000
";

pub(super) fn bars() -> Vec<Bar> {
    group(NAME, || {
        let policy = POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"many\"]") + MANY;
        vec![consumption(&House::start(Options::default().policy(&policy)))]
    })
}

/// 64 in flight, by eight connections, of 64 different passports.
fn consumption(house: &House) -> Bar {
    let mut rates = Vec::new();
    println!("round  the disk's p50 and p99 us  consumed/s  p50 us  p99 us  front us");
    for round in 1..=ROUNDS {
        let [half, most] = disk(&house.ledger());
        let load = ["verify", "--template", "many", "--connections", "8", "--in-flight", "8", "--seconds", "3"];
        let ours = ctl(house, &[&["bench"][..], &load].concat());
        assert_eq!(ours["errors"], 0, "{ours}");
        let number = |name: &str| ours[name].as_f64().unwrap();
        let (rate, p50, p99) = (number("per_second"), number("p50_us"), number("p99_us"));
        let front = number("front_cpu_us_per_item");
        println!("{round:5}  {half:10.0}  {most:15.0}  {rate:10.0}  {p50:6.0}  {p99:6.0}  {front:8.1}");
        rates.push(rate);
    }
    let taken = house.metric("ledger_events_total{type=\"passport_accepted\"}");
    assert!(taken > 0.0, "nothing was taken, so nothing was measured");
    let value = median(rates);
    Bar::new(NAME, value, "/s", ">= 20000", value >= 20_000.0)
}

/// What a small write and `fdatasync` take where the ledger is, half of them and 99 of 100 at most; in microseconds.
fn disk(dir: &Path) -> [f64; 2] {
    let path = dir.parent().unwrap().join("disk");
    let mut file = File::create(&path).unwrap();
    let mut took: Vec<f64> = (0..WRITES)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[7; 512]).unwrap();
            file.sync_data().unwrap();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    std::fs::remove_file(&path).unwrap();
    [took[WRITES / 2], took[WRITES * 99 / 100]]
}
