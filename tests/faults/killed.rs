//! Processes that are killed, stopped, or told to end, while clients are at work.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::wire::ServiceOp;
use passportd::wire::ceremony::{PlanKind, Request, Response};

use super::load::{Load, on_record, only};
use super::support::passports::demo;
use super::support::softhsm::PIN;
use super::support::{House, Options, Roles, eventually, process, rounds};

#[test]
fn a_killed_signer_disturbs_no_verification_and_comes_back() {
    let mut house = House::start(Options::default());
    let load = Load::start(&house, 4, 2);
    let kills = (rounds(20) / 5).max(1);
    for _ in 0..kills {
        house.kill("signer");
        eventually("readyz follows", Duration::from_secs(5), || (house.get("/readyz").0 == 503).then_some(()));
        eventually("passports are issued again", Duration::from_secs(15), || house.raw().issue(demo("bob")).ok());
        house.wait_ready();
    }
    let (issued, verified) = load.end();
    println!("{} issued, {} accepted; {:?}", issued.jtis.len(), verified.accepted, issued.problems);
    only(&issued, &["hsm_unavailable"]);
    assert!(issued.problems.contains_key("hsm_unavailable"), "requests were under way");
    assert_eq!((verified.problems.len(), verified.refused, verified.broken), (0, 0, 0), "{:?}", verified.problems);
    assert_eq!(issued.broken, 0, "connections outlive the signer");
    on_record(&house, &issued);
    assert_eq!(house.metric("passport_signer_restarts_total"), f64::from(kills), "each kill is one restart");
}

#[test]
fn a_killed_front_has_released_nothing_without_its_record() {
    let mut house = House::start(Options::default());
    let mut told = Vec::new();
    for round in 0..(rounds(20) / 4).max(1) {
        let load = Load::start(&house, 4, 1);
        std::thread::sleep(Duration::from_millis(50 + u64::from(round % 7) * 37));
        house.kill("front");
        house.wait_ready();
        let (issued, verified) = load.end();
        only(&issued, &["hsm_unavailable", "not_ready"]);
        assert_eq!(verified.refused, 0);
        assert!(issued.broken > 0, "it died under them");
        told.push(issued);
    }
    for issued in &told {
        on_record(&house, issued);
    }
    let all: Vec<_> = told.iter().flat_map(|told| &told.jtis).collect();
    assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "no id twice");
    println!("{} passports over {} kills", all.len(), told.len());
}

fn ends_well_under_load(roles: Roles, signal: Signal) {
    let mut house = House::start(Options::default().roles(roles));
    let load = Load::start(&house, 4, 2);
    std::thread::sleep(Duration::from_millis(300));
    let role = if roles == Roles::Run { "run" } else { "front" };
    let begun = Instant::now();
    let pid = house.pid(role);
    process::signal(pid, signal);
    eventually("it ends", Duration::from_secs(10), || process::role_of(pid).is_none().then_some(()));
    let took = begun.elapsed();
    let status = house.stop();
    let (issued, verified) = load.end();
    println!("{role} ended {took:?} after {signal} with {status}; {} issued", issued.jtis.len());
    assert_eq!(status.code(), Some(0), "{signal}: {}", house.log());
    assert!(took < Duration::from_secs(5), "{took:?} and the graceful time is 3 s");
    assert!(!issued.jtis.is_empty() && verified.accepted > 0);
    assert_eq!(verified.refused, 0);
    only(&issued, &["draining", "hsm_unavailable"]);
    assert_eq!(on_record(&house, &issued) - 1, 0, "what was issued was delivered, but for the one to be verified");
}

#[test]
fn sigterm_under_load_loses_no_answer() {
    ends_well_under_load(Roles::Run, Signal::SIGTERM);
    ends_well_under_load(Roles::Apart, Signal::SIGTERM);
}

#[test]
fn sigint_under_load_loses_no_answer() {
    ends_well_under_load(Roles::Run, Signal::SIGINT);
    ends_well_under_load(Roles::Apart, Signal::SIGINT);
}

#[test]
fn a_stopped_signer_is_answered_for_in_time() {
    let house = House::start(Options::default().set("hsm.op_timeout_ms", 500));
    let load = Load::start(&house, 4, 2);
    std::thread::sleep(Duration::from_millis(200));
    house.signal("signer", Signal::SIGSTOP);
    let begun = Instant::now();
    // Half a second in the queue, half a second and a grace of another in the signer.
    let problem = house.raw().issue(demo("bob")).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert!(problem.retryable, "{problem:?}");
    eventually("readyz follows", Duration::from_secs(5), || (house.get("/readyz").0 == 503).then_some(()));
    let batch = Instant::now();
    let answer = house.ask(ServiceOp::IssueBatch(vec![demo("bob"); 512]));
    assert!(batch.elapsed() < Duration::from_secs(4), "a batch took {:?}", batch.elapsed());
    drop(answer);
    std::thread::sleep(Duration::from_millis(1_000));
    house.signal("signer", Signal::SIGCONT);
    eventually("passports are issued again", Duration::from_secs(10), || house.raw().issue(demo("bob")).ok());
    house.wait_ready();
    let (issued, verified) = load.end();
    println!("{:?}; the slowest answer took {:?}", issued.problems, issued.slowest);
    only(&issued, &["hsm_unavailable", "hsm_timeout", "busy"]);
    assert!(issued.slowest < Duration::from_secs(3), "{:?}", issued.slowest);
    assert_eq!((verified.problems.len(), verified.refused, verified.broken), (0, 0, 0));
    on_record(&house, &issued);
}

#[test]
fn a_ceremony_under_way_is_not_killed_by_the_end_of_run() {
    let mut house = House::start(Options::default());
    let run = house.pid("run");
    let response = std::thread::scope(|scope| {
        let request = Request {
            plan: PlanKind::Generate,
            tenant: Some("t1".to_owned()),
            purpose: Some("auth".to_owned()),
            ..Request::default()
        };
        let house = &house;
        let ceremony = scope.spawn(move || house.try_ceremony(&request, PIN));
        eventually("the ceremony is under way", Duration::from_secs(10), || {
            process::children(run).into_iter().find(|pid| process::role_of(*pid).as_deref() == Some("ceremony"))
        });
        process::signal(run, Signal::SIGTERM);
        ceremony.join().expect("an answer")
    });
    assert!(matches!(response, Response::Done(_)), "{response:?}");
    assert_eq!(house.stop().code(), Some(0));
    house.boot();
    house.wait_ready();
    assert!(house.stage("ed25519/t1/auth/v2").is_ok(), "the key that it made is there");
}
