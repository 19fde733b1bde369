//! One request at a time, over the socket of a real daemon with a real SoftHSM: what a caller waits.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of benches")]
#![expect(clippy::indexing_slicing, clippy::print_stderr, reason = "as above; the harness it borrows is a test's")]

#[expect(dead_code, reason = "shared by several tests")]
#[path = "../tests/support/mod.rs"]
mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use passportd::wire::{ServiceOk, ServiceOp, Verdict};
use support::passports::{demo, for_demo};
use support::softhsm::module;
use support::{House, Options};

fn one_at_a_time(criterion: &mut Criterion) {
    if module().is_none() {
        return;
    }
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("bench")).unwrap();
    let mut group = criterion.benchmark_group("socket");
    group.sample_size(50);
    group.bench_function("ping", |bencher| {
        bencher.iter(|| assert!(matches!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong))));
    });
    group.bench_function("issue_single", |bencher| bencher.iter(|| raw.issue(demo("bench")).unwrap()));
    group.bench_function("verify_single", |bencher| {
        bencher.iter(|| assert!(matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_)))));
    });
    let batch = vec![passport.clone(); 64];
    group.bench_function("verify_batch_64", |bencher| {
        bencher.iter(|| assert_eq!(raw.verify_batch(for_demo(), &batch).unwrap().len(), 64));
    });
    group.finish();
}

criterion_group!(benches, one_at_a_time);
criterion_main!(benches);
