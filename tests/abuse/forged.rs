//! A peer that sends nothing but forgeries, beside one that asks politely.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, Reply, ServiceOk, ServiceOp, Verdict, decode};

use super::support::options::POLICY;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::{Raw, request};
use super::support::{House, Options, eventually, root_or_skip};

/// Whoever floods.
const FLOODER: u32 = 41_021;
/// Connections that it has.
const CONNECTIONS: usize = 3;
/// Batches that each of them sends at least. Four refusals of each batch would be confirmed if nothing bounded it.
const BATCHES: u64 = 800;
/// What the polite one asks, one after the other.
const POLITE: usize = 300;

/// Looks a second: samples of what was accepted (one every 10 ms), and the refusals of two uids (50 for each).
const LOOKS: f64 = 100.0 + 2.0 * 50.0;

fn bent(passport: &OwnedEnvelope, at: usize) -> OwnedEnvelope {
    let mut bent = passport.clone();
    bent.sig[at % 64] ^= 1 << (at % 8);
    bent
}

/// Sends forgeries, single ones and batches, until `done`, and as many as the bound needs; how many were refused.
fn flood(mut raw: Raw, forged: &[OwnedEnvelope], done: &AtomicBool) -> usize {
    let mut frames = Vec::new();
    for (id, one) in (1..).zip(forged) {
        frames.extend(request(id, ServiceOp::Verify { want: for_demo(), passport: on_wire(one) }));
    }
    let batch = ServiceOp::VerifyBatch { want: for_demo(), items: forged.iter().map(on_wire).collect() };
    frames.extend(request(0, batch));
    let (mut refused, mut rounds) = (0, 0);
    let forgery = Verdict::Refused(Code::VerifyFailed);
    while rounds < BATCHES || !done.load(Ordering::Relaxed) {
        raw.send(&frames).unwrap();
        for _ in 0..=forged.len() {
            let Reply { result, .. } = decode(&raw.body().unwrap().expect("the flooder is answered")).unwrap();
            let verdicts = match result.unwrap() {
                ServiceOk::Verdict(verdict) => vec![verdict],
                ServiceOk::Verdicts(verdicts) => verdicts,
                other => panic!("{other:?}"),
            };
            assert!(verdicts.iter().all(|verdict| *verdict == forgery), "{verdicts:?}");
            refused += verdicts.len();
        }
        rounds += 1;
    }
    refused
}

#[test]
fn who_floods_with_forgeries_changes_no_verdict_and_buys_no_looks() {
    if !root_or_skip("a flood of forgeries by another user") {
        return;
    }
    let flooder = format!(
        "[[peer]]\nname = \"flooder\"\nuid = {FLOODER}\nrps = 10000000\nallow = [\"verify\"]\nverify_as = [\"demo\"]\n"
    );
    let policy = format!("{flooder}{POLICY}");
    let house = House::start(Options::default().policy(&policy).set("verify.engine", "auto"));
    let mut polite = house.raw();
    let good: Vec<_> = (0..32).map(|n| polite.issue(demo(&format!("user-{n}"))).unwrap()).collect();
    let forged: Vec<_> = good.iter().cycle().take(64).enumerate().map(|(at, one)| bent(one, at * 7)).collect();
    let (done, begun) = (AtomicBool::new(false), Instant::now());
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| house.raw_as(FLOODER, FLOODER, &[])).collect();
    let refused: usize = std::thread::scope(|scope| {
        let floods: Vec<_> = connections.into_iter().map(|raw| scope.spawn(|| flood(raw, &forged, &done))).collect();
        for at in 0..POLITE {
            let one = &good[at % good.len()];
            let verdict = polite.verify(for_demo(), one).unwrap();
            assert!(matches!(verdict, Verdict::Accepted(_)), "{at}: {verdict:?}");
            let mates = [bent(one, at), one.clone()];
            let verdicts = polite.verify_batch(for_demo(), &mates).unwrap();
            assert!(
                matches!(verdicts[..], [Verdict::Refused(Code::VerifyFailed), Verdict::Accepted(_)]),
                "{at}: {verdicts:?}"
            );
        }
        done.store(true, Ordering::Relaxed);
        floods.into_iter().map(|flood| flood.join().unwrap()).sum()
    });
    let looked = || house.metric("passport_verify_rechecked_total");
    let last =
        eventually("the looks are counted", std::time::Duration::from_secs(20), || Some(looked()).filter(|n| *n > 0.0));
    // Windows that have begun count whole.
    let most = (begun.elapsed().as_secs_f64() + 2.0) * LOOKS;
    println!("{refused} forgeries refused in {:?}, {last} looks (at most {most:.0})", begun.elapsed());
    assert!(last <= most, "{last} looks, where {most} are allowed");
    for net in ["self_test", "sample", "refusal"] {
        assert!(house.metric(&format!("passport_verify_differences_total{{net=\"{net}\"}}")) < 0.5, "{net}");
    }
    let path = strict25519::Way::fastest().name();
    assert!(house.metric(&format!("passport_verify_path{{path=\"{path}\"}}")) > 0.5, "the fast way is still used");
    assert!(refused >= usize::try_from(BATCHES).unwrap() * 128 * CONNECTIONS);
}
