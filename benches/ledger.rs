//! How many records a second become durable, by the number of producers that wait for their own.
#![expect(clippy::expect_used, reason = "a benchmark that cannot set itself up has nothing to measure")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use passportd::audit::{Audit, AuditConfig, Entry, Event, Outcome, Peer};
use passportd::clock::Moment;
use passportd::log::{Pace, SegmentConfig};

/// Each producer records this many, one after the other.
const EACH: u64 = 50;

fn entry() -> Entry {
    let peer = Peer { uid: 1000, gid: 1000, pid: 4242, listener: "passportd".to_owned() };
    let entry = Entry::new(Event::PassportIssued, Outcome::Ok, Moment::from_unix(1_800_000_000)).peer(peer);
    let entry = entry.corr_id([7; 16]).subject("alice").jti("01890a5d-ac96-774b-bcce-b302099a8057").aud("demo");
    entry.kid("ed25519/default/passport/v1").template("demo").action("issue").exp(1_800_003_600)
}

async fn produce(audit: &Audit, producers: u64) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let audit = audit.clone();
            tokio::spawn(async move {
                for _ in 0..EACH {
                    black_box(audit.record(entry()).await.expect("the ledger takes it"));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no producer fails");
    }
    start.elapsed()
}

fn ledger(criterion: &mut Criterion) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_time().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let pace = Pace::default();
    let config =
        AuditConfig { segment: SegmentConfig::default(), pace, journald: None, now: Moment::now, metrics: None };
    let (audit, _) = Audit::open(dir.path(), &config).expect("a ledger");
    let mut group = criterion.benchmark_group("ledger");
    group.sample_size(10);
    for producers in [1, 8, 64, 512] {
        group.throughput(Throughput::Elements(producers * EACH));
        group.bench_with_input(BenchmarkId::new("producers", producers), &producers, |bencher, producers| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        total += produce(&audit, *producers).await;
                    }
                    total
                })
            });
        });
    }
    group.finish();
    audit.close();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
