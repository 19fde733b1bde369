//! The pool against a staged device: real keys and signatures, staged hangs and faults.

use super::staged::{LONGEST, PATIENCE, PATIENT_MS, Stage, bench, limits, verified_by};
use super::*;
use crate::hsm::ladder::{DOWN_LIMIT, Fault, GIVEN_UP};
use crate::verify::{Net, Way};
use ed25519_dalek::Signer as _;
use std::sync::mpsc;

#[test]
fn what_is_signed_verifies_and_sessions_are_kept() {
    let bench = bench(2, 64, 5000);
    let public = strict25519::PreparedKey::new(&bench.key.verifying_key().to_bytes()).unwrap();
    let told: Vec<_> = (0..50_u8).map(|n| (n, bench.submit(&[n; 20]))).collect();
    for (n, told) in told {
        assert!(public.verify(&[n; 20], &told.recv_timeout(PATIENCE).unwrap().unwrap()));
    }
    assert_eq!(bench.counts().signatures, 50);
    assert!(bench.stage.opened.load(Ordering::SeqCst) <= 2);
    assert!(bench.pool.close());
    assert_eq!(bench.sign(b"late"), Err(LinkRefusal::HsmUnavailable));
}

#[test]
fn an_error_costs_the_session_and_not_the_request() {
    let bench = bench(1, 8, 5000);
    assert!(bench.sign(b"a").is_ok());
    bench.stage.fails(1, Fault::Device);
    assert!(bench.sign(b"b").is_ok());
    assert_eq!(bench.stage.opened.load(Ordering::SeqCst), 2);
    assert_eq!(bench.counts().ladder[0], 1);
    bench.stage.fails(ATTEMPTS as usize, Fault::Device);
    assert_eq!(bench.sign(b"c"), Err(LinkRefusal::HsmUnavailable));
    assert!(bench.sign(b"d").is_ok());
}

#[test]
fn a_signature_that_does_not_verify_is_never_released() {
    let bench = bench(1, 8, 5000);
    bench.stage.bend.store(true, Ordering::SeqCst);
    assert_eq!(bench.sign(b"a"), Err(LinkRefusal::BadSignature));
    bench.stage.bend.store(false, Ordering::SeqCst);
    assert!(bench.sign(b"a").is_ok());
    let counts = bench.counts();
    assert_eq!((counts.signatures, counts.bad_signatures), (1, 1));
}

#[test]
fn a_hanging_call_is_answered_once_and_its_worker_replaced() {
    let bench = bench(1, 8, PATIENT_MS);
    bench.stage.hang.store(1, Ordering::SeqCst);
    let begun = Instant::now();
    let told = bench.submit(b"a");
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), Err(LinkRefusal::Timeout));
    assert!(begun.elapsed() >= Duration::from_millis(PATIENT_MS));
    bench.wait(|health| health.counts.stuck == 1);
    assert!(bench.sign(b"b").is_ok());
    // A module can't be finalised under a thread that is inside it.
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable));
    assert_eq!(bench.stage.restarts.load(Ordering::SeqCst), 0);
    bench.stage.release();
    bench.wait(|health| health.counts.stuck == 0);
    // The late signature went nowhere.
    assert!(matches!(told.try_recv(), Err(mpsc::TryRecvError::Disconnected)));
    assert_eq!(bench.counts().signatures, 1);
    assert!(bench.pool.reinitialise().is_ok());
    assert!(bench.sign(b"c").is_ok());
}

#[test]
fn too_many_stuck_workers_end_the_process() {
    let bench = bench(1, 8, 30);
    bench.stage.hang.store(100, Ordering::SeqCst);
    for n in 0..=bench.pool.health().max_stuck {
        assert_eq!(bench.sign(b"a"), Err(LinkRefusal::Timeout), "{n}");
    }
    bench.lost.lock().unwrap().recv_timeout(PATIENCE).unwrap();
    assert!(bench.pool.lost().unwrap().detail().contains("5 threads are stuck"));
    assert!(!bench.pool.close());
    bench.stage.release();
}

#[test]
fn a_full_queue_refuses_at_once_and_what_waits_times_out() {
    let bench = bench(1, 2, 150);
    bench.stage.hang.store(1, Ordering::SeqCst);
    let first = bench.submit(b"a");
    bench.wait(|health| health.counts.queued == 0);
    let waiting = [bench.submit(b"b"), bench.submit(b"c")];
    let begun = Instant::now();
    assert_eq!(bench.sign(b"d"), Err(LinkRefusal::Busy));
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(first.recv_timeout(PATIENCE).unwrap(), Err(LinkRefusal::Timeout));
    for told in waiting {
        // Late, or served by the replacement just before.
        assert!(matches!(told.recv_timeout(PATIENCE).unwrap(), Ok(_) | Err(LinkRefusal::Timeout)));
    }
    bench.stage.release();
}

/// Without a fast way everything goes on, and whoever asks is told why.
#[test]
fn a_way_that_fails_its_self_test_is_told_and_the_reference_releases() {
    let bench = verified_by(Verifier::failed(Way::Portable), limits(1, 8, 5000), Arc::new(Stage::default()));
    let signature = bench.sign(b"a").unwrap();
    assert_eq!(signature, bench.key.sign(b"a").to_bytes());
    let [told] = &bench.pool.take_differences()[..] else { panic!("one difference") };
    assert_eq!((told.way, told.net), (Way::Portable, Net::SelfTest));
    assert!(bench.pool.take_differences().is_empty());
}

#[test]
fn messages_that_are_too_long_end_nothing() {
    let bench = bench(1, 8, 5000);
    for _ in 0..=GIVEN_UP {
        assert_eq!(bench.sign(&[b'a'; LONGEST + 1]), Err(LinkRefusal::TooLong));
    }
    assert!(bench.pool.lost().is_none());
    assert!(bench.sign(b"a").is_ok());
    assert_eq!(bench.counts().ladder[0], 0, "none was tried again");
}

#[test]
fn the_module_is_started_afresh_with_no_session_open_and_no_request_lost() {
    let bench = bench(2, 4096, 5000);
    std::thread::scope(|scope| {
        let signing = scope.spawn(|| (0..400).all(|_| bench.sign(b"under way").is_ok()));
        for _ in 0..20 {
            assert!(bench.pool.reinitialise().is_ok());
        }
        assert!(signing.join().unwrap());
    });
    assert_eq!(bench.stage.restarts.load(Ordering::SeqCst), 20);
    assert_eq!(bench.stage.open_at_restart.load(Ordering::SeqCst), 0);
}

#[test]
fn a_module_that_does_not_come_back_is_tried_again_and_ends_nothing_for_a_minute() {
    let bench = bench(1, 8, 5000);
    bench.stage.restart_fails.store(true, Ordering::SeqCst);
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable));
    bench.wait(|health| health.counts.ladder[2] >= 3);
    assert!(bench.pool.health().down && bench.pool.lost().is_none());
    // As if it had gone on for so long.
    let since = Instant::now().checked_sub(DOWN_LIMIT).unwrap();
    bench.pool.shared.lock().ladder.tried(Rung::Module, true, since);
    bench.pool.shared.lock().ladder.tried(Rung::Module, false, since);
    assert!(matches!(bench.ended(), HsmError::Lost(_)));
    assert_eq!(bench.counts().ladder[3], 1);
}

#[test]
fn a_session_that_does_not_close_delays_nobody_for_ever() {
    let bench = bench(1, 8, PATIENT_MS);
    assert!(bench.sign(b"a").is_ok());
    bench.stage.hang_close.store(1, Ordering::SeqCst);
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable));
    assert_eq!(bench.stage.restarts.load(Ordering::SeqCst), 0);
    assert!(bench.sign(b"b").is_ok());
    bench.stage.release();
    bench.wait(|health| health.counts.stuck == 0);
    assert!(bench.pool.reinitialise().is_ok());
}

#[test]
fn an_answer_that_nobody_gives_in_time_shows() {
    let bench = bench(1, 64, 60_000);
    let in_time = |after: Duration| bench.pool.in_time(Instant::now() + after);
    let twice = Duration::from_secs(121);
    assert!(in_time(twice), "nothing is asked, so nothing is late");
    bench.stage.hang.store(1, Ordering::SeqCst);
    let told = [bench.submit(b"in the module"), bench.submit(b"in the queue")];
    bench.wait(|health| health.counts.queued == 1);
    // A minute to answer, and as long for the watch to answer instead, which it would have done by then.
    assert!(in_time(Duration::from_secs(110)));
    assert!(!in_time(twice));
    bench.stage.release();
    assert!(told.iter().all(|told| told.recv_timeout(PATIENCE).unwrap().is_ok()));
    bench.wait(|health| health.counts.queued == 0);
    assert!(in_time(twice));
}
