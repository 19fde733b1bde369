//! Ten thousand idle connections: what they cost, and what a request costs beside them.

use std::time::{Duration, Instant};

use passportd::wire::{Greeting, ServiceOp};
use serde_json::Value;

use super::bars::Bar;
use super::ctl;
use super::support::raw::Raw;
use super::support::{House, Options, eventually};

const CONNECTIONS: usize = 10_000;
const PINGS: usize = 2_000;

/// Prints memory and p99 with and without them, and what they leave behind. The bar is that all of them are there.
pub(super) fn ten_thousand() -> Bar {
    let bar = |opened: usize| {
        let value = f64::from(u32::try_from(opened).unwrap());
        Bar::new("idle_connections", value, "", "= 10,000", opened == CONNECTIONS)
    };
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = u64::try_from(CONNECTIONS).unwrap() + 200;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if hard < wanted || setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).is_err() {
        println!("10,000 idle connections: not measured, the limit of open files is {hard}");
        return bar(0);
    }
    let options = Options::default()
        .set("server.max_connections", 12_000)
        .set("server.max_connections_per_uid", 12_000)
        .set("limits.idle_timeout_s", 3600);
    let house = House::start(options);
    let (memory, alone) = (rss_kib(&house), p99(&house));
    let begun = Instant::now();
    let idle: Vec<Raw> = (0..CONNECTIONS).map_while(|_| welcomed(&house)).collect();
    let (opened, took) = (idle.len(), begun.elapsed());
    let (grown, beside) = (rss_kib(&house) - memory, p99(&house));
    drop(idle);
    eventually("they are gone", Duration::from_secs(30), || {
        (house.metric("passport_connections{socket=\"service\"}") <= 1.0).then_some(())
    });
    println!(
        "{opened} idle connections, opened in {took:.1?}: {:.1} MiB, {:.2} KiB each; a ping's p99 {beside:?}, alone \
         {alone:?}; after they left {:.1} MiB more than before",
        grown / 1024.0,
        grown / f64::from(u32::try_from(opened).unwrap()),
        (rss_kib(&house) - memory) / 1024.0,
    );
    bar(opened)
}

fn welcomed(house: &House) -> Option<Raw> {
    let mut raw = Raw::connect(&house.socket()).ok()?;
    matches!(raw.greet(), Ok(Greeting::Welcome(_))).then_some(raw)
}

fn rss_kib(house: &House) -> f64 {
    let status: Value = ctl(house, &["status"]);
    status["processes"]["front"]["rss_kib"].as_f64().unwrap()
}

fn p99(house: &House) -> Duration {
    let mut raw = house.raw();
    let mut times: Vec<_> = (0..PINGS)
        .map(|_| {
            let asked = Instant::now();
            raw.ask(ServiceOp::Ping).unwrap();
            asked.elapsed()
        })
        .collect();
    times.sort();
    times[PINGS * 99 / 100]
}
