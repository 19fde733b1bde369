//! What revocation costs: how long many take, and what a million of them take from verification. And how many acceptances that
//! take something the disk keeps up with.

use std::fmt::Write as _;
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use super::bars::{Bar, group, median};
use super::ctl;
use super::support::options::POLICY;
use super::support::{House, Options};

/// Rounds of the comparison; in each the houses take turns.
const ROUNDS: usize = 7;
/// Revocations from one file, and those that are there when verification is measured.
const MANY: usize = 100_000;
const MILLION: usize = 1_000_000;
/// Rounds of consumption, and seconds of each.
const SPENDING: usize = 3;
const SECONDS: &str = "5";
/// Acceptances that are under way: connections, and requests of each.
const SHAPES: [(&str, &str); 2] = [("4", "16"), ("1", "64")];
/// More than any round takes.
const OFTEN: &str = "[[template]]\nname = \"often\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
                     audiences = [\"demo\"]\nmax_ttl_s = 3600\nlimit = 4000000000\n";

pub(super) fn bars(options: &Options) -> Vec<Bar> {
    let revoked = House::start(options.clone());
    let mut bars = group("revoke_100000_from_a_file", || {
        let seconds = revoke(&revoked, 0..MANY);
        vec![Bar::new("revoke_100000_from_a_file", seconds, "s", "<= 10", seconds <= 10.0)]
    });
    bars.extend(group("verify_with_a_million_revoked", || {
        // Those of the first file once more, so that this can be measured by itself.
        for from in (0..MILLION).step_by(MANY) {
            revoke(&revoked, from..from + MANY);
        }
        with_a_million(&House::start(options.clone()), &revoked)
    }));
    drop(revoked);
    bars.extend(group("consumption_per_second", || vec![consumption(options)]));
    bars
}

/// Acceptances of passports with a limit, each durable in the state and in the ledger, with 64 under way: the lower of two shapes.
fn consumption(options: &Options) -> Bar {
    let policy = POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"often\"]");
    let house = House::start(options.clone().policy(&(policy + OFTEN)));
    let rates = SHAPES.map(|(connections, in_flight)| {
        let rounds = (0..SPENDING).map(|_| {
            // Before and after, so that what the disk does between is of the same minute.
            let before = fdatasync_p99(house.dir());
            let load = ["verify", "--template", "often", "--seconds", SECONDS];
            let shape = ["--connections", connections, "--in-flight", in_flight];
            let ours = ctl(&house, &[&["bench"], &load[..], &shape].concat());
            let after = fdatasync_p99(house.dir());
            assert_eq!(ours["errors"], 0, "{ours}");
            println!(
                "consumption, {connections} x {in_flight} under way: {} /s, p50 {} us, p99 {} us, front {} us each; the \
                 disk's own fdatasync: p99 {} us before, {} us after",
                ours["per_second"],
                ours["p50_us"],
                ours["p99_us"],
                ours["front_cpu_us_per_item"],
                before.as_micros(),
                after.as_micros()
            );
            ours["per_second"].as_f64().unwrap()
        });
        median(rounds.collect())
    });
    let value = rates.into_iter().fold(f64::INFINITY, f64::min);
    Bar::new("consumption_per_second", value, "/s", ">= 20000", value >= 20_000.0)
}

/// What one small write to a file in this directory takes to be durable, for 99 of a hundred.
fn fdatasync_p99(dir: &Path) -> Duration {
    const WRITES: usize = 300;
    let mut file = fs::File::create(dir.join("fdatasync")).unwrap();
    let mut took: Vec<_> = (0..WRITES)
        .map(|_| {
            let begun = Instant::now();
            file.rewind().unwrap();
            file.write_all(&[0x5a; 4096]).unwrap();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took[WRITES * 99 / 100]
}

/// Revokes so many ids by `passportctl`; how many seconds that took.
fn revoke(house: &House, numbers: std::ops::Range<usize>) -> f64 {
    let count = numbers.len();
    let mut ids = String::new();
    // As a service would have had them issued: UUIDs, and when they expire.
    numbers.for_each(|number| writeln!(ids, "{} 4102444800", uuid::Uuid::from_u128(hash(number))).unwrap());
    let file = house.dir().join("ids");
    fs::write(&file, ids).unwrap();
    let begun = Instant::now();
    let done = ctl(house, &["revoke", "--tenant", "t1", "--file", path(&file), "--reason", "bench", "--yes"]);
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(done["asked"], count, "{done}");
    println!("{count} revoked in {seconds:.1} s");
    seconds
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

/// Another number for each, spread over all bits.
fn hash(number: usize) -> u128 {
    let bytes = *blake3::hash(&number.to_be_bytes()).as_bytes();
    u128::from_be_bytes(bytes[..16].try_into().unwrap())
}

/// Verification in one house and in the other, in turns: what is left of it.
fn with_a_million(without: &House, with: &House) -> Vec<Bar> {
    let kept = ctl(with, &["status"])["state"]["revoked_ids"].as_u64();
    assert_eq!(kept, Some(u64::try_from(MILLION).unwrap()));
    let shapes =
        [("batches", ["--batch", "64", "--in-flight", "4"]), ("singles", ["--batch", "1", "--in-flight", "16"])];
    let bars = shapes.map(|(name, shape)| {
        let rate = |house: &House| {
            let arguments = [&["bench", "verify", "--seconds", "2", "--connections", "4"], &shape[..]].concat();
            let ours = ctl(house, &arguments);
            assert_eq!(ours["errors"], 0, "{ours}");
            ours["per_second"].as_f64().unwrap()
        };
        let ratios = (0..ROUNDS).map(|_| {
            let (none, million) = (rate(without), rate(with));
            println!("verify, {name}: {none:.0} /s, and {million:.0} /s with a million revoked");
            million / none
        });
        let value = median(ratios.collect());
        Bar::new(format!("verify_{name}_with_a_million_revoked"), value, "ratio", ">= 0.90", value >= 0.9)
    });
    bars.into()
}
