//! The pool climbs the ladder, rung by rung.

use super::staged::{Bench, Outcome, PATIENCE, PATIENT_MS, Stage, bench, limits, with};
use super::*;
use crate::hsm::ladder::{Fault, GIVEN_UP, MODULE_PAUSE_MAX, Rung};
use proptest::prelude::*;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;

/// Login and module; sessions are opened for many reasons.
fn healed(bench: &Bench) -> (usize, usize) {
    (Stage::count(&bench.stage.logins), Stage::count(&bench.stage.restarts))
}

#[test]
fn whatever_fails_once_costs_no_request() {
    for (fault, logins, restarts) in [
        (Fault::Session, 0, 0),
        (Fault::Object, 0, 0),
        (Fault::Device, 0, 0),
        (Fault::Login, 1, 0),
        (Fault::Module, 0, 1),
    ] {
        let bench = bench(1, 8, 5000);
        assert!(bench.sign(b"opens the session").is_ok());
        bench.stage.fails(1, fault);
        assert!(bench.sign(b"a").is_ok(), "{fault:?}");
        assert_eq!(healed(&bench), (logins, restarts), "{fault:?}");
        let sessions = u64::from(logins + restarts == 0);
        let (logins, restarts) = (u64::try_from(logins).unwrap(), u64::try_from(restarts).unwrap());
        assert_eq!(bench.counts().ladder, [sessions, logins, restarts, 0], "{fault:?}");
    }
}

#[test]
fn on_a_fresh_session_it_is_the_modules_fault() {
    for fault in [Fault::Session, Fault::Object] {
        let bench = bench(1, 8, 5000);
        bench.stage.fails(1, fault);
        assert!(bench.sign(b"a").is_ok());
        assert_eq!(healed(&bench), (0, 1), "{fault:?}");
    }
}

#[test]
fn a_lost_login_is_made_again_and_what_waits_goes_on() {
    let bench = bench(4, 512, 5000);
    bench.stage.logged_out.store(true, Ordering::SeqCst);
    let told: Vec<_> = (0..300).map(|_| bench.submit(b"a")).collect();
    assert!(told.iter().all(|told| told.recv().unwrap().is_ok()));
    assert_eq!(healed(&bench), (1, 0));
}

#[test]
fn a_login_that_does_not_help_leads_to_the_module() {
    let bench = bench(2, 8, 5000);
    bench.stage.logged_out.store(true, Ordering::SeqCst);
    bench.stage.login_fails.store(true, Ordering::SeqCst);
    assert!(bench.sign(b"a").is_ok());
    assert_eq!(healed(&bench), (1, 1));
    // One that goes well and changes nothing: the probe sees that.
    bench.stage.login_fails.store(false, Ordering::SeqCst);
    bench.stage.gone.store(true, Ordering::SeqCst);
    std::thread::sleep(crate::hsm::ladder::OBJECT_PAUSE);
    bench.pool.shared.want(Rung::Login, &HsmError::Lost("staged".to_owned()));
    assert!(bench.sign(b"a").is_ok());
    assert_eq!(healed(&bench), (2, 2));
}

#[test]
fn a_store_that_vanished_is_refused_at_once_and_back_soon_after_it_is() {
    let bench = bench(2, 64, 5000);
    assert!(bench.sign(b"a").is_ok());
    bench.stage.gone.store(true, Ordering::SeqCst);
    bench.stage.restart_fails.store(true, Ordering::SeqCst);
    assert_eq!(bench.sign(b"b"), Err(LinkRefusal::HsmUnavailable));
    bench.wait(|health| health.down);
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(bench.sign(b"c"), Err(LinkRefusal::HsmUnavailable));
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(bench.pool.reinitialise().err(), Some(LinkRefusal::HsmUnavailable), "the healer is at it");
    bench.stage.restart_fails.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    bench.wait(|health| !health.down);
    assert!(begun.elapsed() < MODULE_PAUSE_MAX + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(bench.sign(b"d").is_ok());
    assert_eq!(Stage::count(&bench.stage.open_at_restart), 0);
    assert!(bench.pool.lost().is_none());
}

#[test]
fn requests_that_fail_one_after_the_other_want_the_module_afresh() {
    let bench = bench(1, 8, 5000);
    for n in 1..=GIVEN_UP {
        bench.stage.fails(usize::try_from(ATTEMPTS).unwrap(), Fault::Device);
        assert_eq!(bench.sign(b"a"), Err(LinkRefusal::HsmUnavailable), "{n}");
        assert_eq!(Stage::count(&bench.stage.fail), 0, "so many attempts and no more");
    }
    assert!(bench.sign(b"b").is_ok());
    assert_eq!(healed(&bench), (0, 1));
}

#[test]
fn a_module_that_signs_badly_does_not_serve() {
    let bench = bench(1, 8, 5000);
    bench.stage.bend.store(true, Ordering::SeqCst);
    assert!(bench.pool.reinitialise().is_err());
    assert_eq!(bench.counts().bad_signatures, u64::try_from(PROBES).unwrap(), "its own probes'");
    assert_eq!(bench.sign(b"a"), Err(LinkRefusal::HsmUnavailable));
    bench.stage.bend.store(false, Ordering::SeqCst);
    bench.wait(|health| !health.down);
    assert!(bench.sign(b"a").is_ok());
}

#[test]
fn so_many_keys_are_tried_before_nothing_is_said_to_work() {
    let bench = bench(1, 8, 5000);
    bench.stage.fails(PROBES - 1, Fault::Device);
    assert!(bench.pool.reinitialise().is_ok(), "some keys may be gone");
    bench.stage.fails(PROBES, Fault::Device);
    assert!(bench.pool.reinitialise().is_err());
    bench.wait(|health| !health.down);
}

#[test]
fn a_refused_pin_ends_the_process() {
    let bench = bench(1, 8, 5000);
    bench.stage.pin_refused.store(true, Ordering::SeqCst);
    bench.stage.fails(1, Fault::Module);
    assert_eq!(bench.sign(b"a"), Err(LinkRefusal::HsmUnavailable));
    assert!(bench.ended().refused_pin());
    assert_eq!(healed(&bench), (0, 1), "once");
    assert!(bench.pool.close());
}

#[test]
fn a_module_that_is_needed_afresh_under_a_stuck_thread_ends_the_process() {
    let bench = bench(1, 8, PATIENT_MS);
    bench.stage.hang.store(1, Ordering::SeqCst);
    assert_eq!(bench.sign(b"a"), Err(LinkRefusal::Timeout));
    bench.wait(|health| health.counts.stuck == 1);
    bench.stage.fails(1, Fault::Module);
    assert_eq!(bench.sign(b"b"), Err(LinkRefusal::HsmUnavailable));
    assert!(bench.ended().detail().contains("1 thread is stuck in the module"));
    assert_eq!((healed(&bench), bench.counts().ladder[3]), ((0, 0), 1));
    assert!(!bench.pool.close());
    bench.stage.release();
}

#[test]
fn a_healer_that_hangs_ends_the_process() {
    let bench = bench(1, 8, 50);
    bench.stage.hang_heal.store(1, Ordering::SeqCst);
    bench.stage.fails(1, Fault::Module);
    // Its own time is over first.
    assert_eq!(bench.sign(b"a"), Err(LinkRefusal::Timeout));
    assert!(bench.ended().detail().contains("does not start afresh within 0.35 s"));
    assert!(!bench.pool.close(), "it is inside the module still");
    bench.stage.release();
}

#[test]
fn sessions_that_the_token_does_not_give_are_not_missed() {
    for (limit, tells, workers, shared) in [(4, true, 3, 0), (4, false, 3, 0), (1, true, 1, 1), (1, false, 1, 1)] {
        let stage = Arc::new(Stage::default());
        stage.session_limit.store(limit, Ordering::SeqCst);
        stage.tells_limit.store(tells, Ordering::SeqCst);
        let bench = with(limits(8, 512, 5000), stage);
        let told: Vec<_> = (0..200).map(|_| bench.submit(b"a")).collect();
        assert!(told.iter().all(|told| told.recv().unwrap().is_ok()), "limit {limit}");
        assert!(Stage::count(&bench.stage.open_now) <= workers);
        assert!(Stage::count(&bench.stage.shared) <= shared);
        bench.wait(|health| usize::try_from(health.sessions).unwrap() >= workers.min(1));
        // A rung with a session that is lent.
        bench.stage.logged_out.store(true, Ordering::SeqCst);
        assert!(bench.sign(b"a").is_ok());
        assert_eq!(healed(&bench), (1, 0));
        assert_eq!(Stage::count(&bench.stage.open_at_restart), 0);
    }
}

#[test]
fn idle_sessions_are_looked_after_and_dead_ones_replaced_before_they_are_missed() {
    let keepalive = Duration::from_millis(20);
    let bench = with(Limits { keepalive: Some(keepalive), ..limits(1, 8, 5000) }, Arc::new(Stage::default()));
    assert!(bench.sign(b"a").is_ok());
    let wait = |counter: &AtomicUsize, least| {
        let end = Instant::now() + PATIENCE;
        while Stage::count(counter) < least {
            assert!(Instant::now() < end);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait(&bench.stage.asked, 2);
    wait(&bench.stage.kept, 2);
    assert_eq!(Stage::count(&bench.stage.opened), 1);
    bench.stage.idled_out.store(1, Ordering::SeqCst);
    let end = Instant::now() + PATIENCE;
    while Stage::count(&bench.stage.open_now) > 0 {
        assert!(Instant::now() < end);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(bench.sign(b"b").is_ok());
    assert_eq!(Stage::count(&bench.stage.opened), 2);
    assert_eq!(bench.counts().ladder, [0; 4], "no request has failed");
    // The login is looked after, too: nobody asks for anything, and it is made again.
    bench.stage.logged_out.store(true, Ordering::SeqCst);
    wait(&bench.stage.logins, 1);
    bench.wait(|health| health.rung == Some(Rung::Login));
    assert!(bench.pool.close());
}

#[test]
fn a_seal_key_derives_and_does_not_sign() {
    let bench = bench(1, 8, 5000);
    assert_eq!(*bench.derive(1, b"seven b").unwrap(), [7; 32]);
    assert_eq!(bench.derive(0, b"a").err(), Some(LinkRefusal::PurposeDenied));
    let (tell, told) = mpsc::channel();
    bench.pool.sign(bench.pool.ring(), 1, b"a".to_vec(), Box::new(move |outcome| tell.send(outcome).unwrap()));
    assert_eq!(told.recv().unwrap(), Err(LinkRefusal::PurposeDenied));
    bench.stage.fails(1, Fault::Module);
    assert!(bench.derive(1, b"b").is_ok(), "it waits for the healer as a signature does");
}

/// What happens while requests are under way.
#[derive(Clone, Debug)]
enum Event {
    Ask(u8),
    Fail(u8, Fault),
    LogOut,
    Vanish(bool),
    Hang,
    Reinitialise,
    Pause,
}

fn event() -> impl Strategy<Value = Event> {
    let fault = prop::sample::select(vec![Fault::Session, Fault::Login, Fault::Object, Fault::Module, Fault::Device]);
    prop_oneof![
        12 => (1..40_u8).prop_map(Event::Ask),
        4 => (1..8_u8, fault).prop_map(|(times, fault)| Event::Fail(times, fault)),
        1 => Just(Event::LogOut),
        2 => any::<bool>().prop_map(Event::Vanish),
        1 => Just(Event::Hang),
        1 => Just(Event::Reinitialise),
        2 => Just(Event::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Law L10: whatever happens, each request gets one answer, and what is released verifies.
    #[test]
    fn every_request_gets_exactly_one_answer(events in prop::collection::vec(event(), 1..40)) {
        let bench = bench(3, 64, 100);
        let answers: Arc<Vec<AtomicUsize>> = Arc::new((0..40 * 40).map(|_| AtomicUsize::new(0)).collect());
        let (tell, told) = mpsc::channel();
        let public = strict25519::PreparedKey::new(&bench.key.verifying_key().to_bytes()).unwrap();
        let mut asked = 0;
        for event in events {
            match event {
                Event::Ask(times) => for _ in 0..times {
                    let (number, answers, tell) = (asked, Arc::clone(&answers), tell.clone());
                    let answer = move |outcome| {
                        answers[number].fetch_add(1, Ordering::SeqCst);
                        tell.send((number, outcome)).unwrap();
                    };
                    let message = number.to_le_bytes().to_vec();
                    bench.pool.sign(bench.pool.ring(), 0, message, Box::new(answer));
                    asked += 1;
                },
                Event::Fail(times, fault) => bench.stage.fails(usize::from(times), fault),
                Event::LogOut => bench.stage.logged_out.store(true, Ordering::SeqCst),
                Event::Vanish(gone) => {
                    bench.stage.restart_fails.store(gone, Ordering::SeqCst);
                    bench.stage.gone.store(gone, Ordering::SeqCst);
                }
                Event::Hang => bench.stage.hang.store(1, Ordering::SeqCst),
                Event::Reinitialise => drop(bench.pool.reinitialise()),
                Event::Pause => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        for _ in 0..asked {
            let (number, outcome): (usize, Outcome) = told.recv_timeout(PATIENCE).unwrap();
            match outcome {
                Ok(signature) => prop_assert!(public.verify(&number.to_le_bytes(), &signature)),
                Err(refusal) => prop_assert!(
                    matches!(refusal, LinkRefusal::HsmUnavailable | LinkRefusal::Timeout | LinkRefusal::Busy),
                    "{refusal:?}"
                ),
            }
        }
        bench.stage.release();
        assert!(!bench.pool.close() || bench.pool.health().counts.stuck == 0);
        // Whoever was stuck has come back, and had nothing to say.
        bench.wait(|health| health.counts.stuck == 0);
        prop_assert!(answers.iter().take(asked).all(|count| count.load(Ordering::SeqCst) == 1));
    }
}
