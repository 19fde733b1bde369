//! How soon a revocation has its effect in every verifier of the host, while the daemon has all that it can do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use passportd::client::{Propagation, Verifier, VerifierOptions};
use passportd::wire::{AdminOk, AdminOp, Revocation};

use super::bars::{Bar, group};
use super::ctl;
use super::support::{House, Options};

/// Services that verify for themselves.
const VERIFIERS: usize = 8;
/// Revocations, one after the other.
const REVOKED: usize = 200;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(40);
const NAME: &str = "revocation_to_effect_p99_ms";

pub(super) fn bars(options: &Options) -> Vec<Bar> {
    group(NAME, || vec![propagation(&House::start(options.clone()))])
}

/// From the daemon's acknowledgement, by its time stamps, to the effect in each verifier.
fn propagation(house: &House) -> Bar {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let start = || runtime.block_on(Verifier::start(VerifierOptions::service(house.socket()))).unwrap();
    let verifiers: Vec<_> = (0..VERIFIERS).map(|_| start()).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let ours =
                    ctl(house, &["bench", "verify", "--connections", "4", "--in-flight", "16", "--seconds", "3"]);
                assert_eq!(ours["errors"], 0, "{ours}");
                println!("beside it: {} verifications a second", ours["per_second"]);
            }
        });
        // The load is there before the first of them.
        thread::sleep(Duration::from_secs(1));
        let mut admins = house.admin_raw();
        for number in 0..REVOKED {
            let jti = format!("propagation-{number}");
            let what = vec![Revocation::Id { jti: &jti, exp: None }];
            let done = admins.admin(AdminOp::Revoke { tenant: "t1", what, reason: "bench" });
            assert_eq!(done, Ok(AdminOk::Revoked { new: 1 }));
            thread::sleep(PAUSE);
        }
        over.store(true, Ordering::Relaxed);
        load.join().unwrap();
    });
    let wanted = u64::try_from(REVOKED * VERIFIERS).unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let all = || verifiers.iter().map(Verifier::propagation).reduce(|sum, one| sum.plus(&one)).unwrap();
    while all().count() < wanted {
        assert!(Instant::now() < end, "not all of them had their effect: {:?}", all());
        thread::sleep(Duration::from_millis(5));
    }
    let all: Propagation = all();
    let at = |share| all.at_most_ms(share).map_or(f64::INFINITY, |ms| f64::from(u32::try_from(ms).unwrap()));
    println!(
        "{VERIFIERS} verifiers, {REVOKED} revocations: p50 <= {} ms, p99 <= {} ms, all <= {} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    let value = at(0.99);
    Bar::new(NAME, value, "ms", "<= 50", value <= 50.0)
}
