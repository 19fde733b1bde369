//! What the metrics say of issuing and of refusals, where several requests and items come together.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use passportd::wire::{Code, IssueSpec, Reply, ServiceOk, ServiceOp, Verdict};

use crate::support::options::POLICY;
use crate::support::passports::{demo, for_demo, on_wire};
use crate::support::raw::{Raw, request};
use crate::support::{House, Options, Roles, root_or_skip, skipped};

const ISSUE_LATENCY: &str = "svc_passport_issue_latency_seconds_count";

#[test]
fn the_issue_latency_counts_requests_in_which_something_was_signed() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    raw.issue(IssueSpec { scopes: vec!["admin"], ..demo("x") }).unwrap_err();
    assert!(matches!(raw.ask(ServiceOp::IssueBatch(Vec::new())), Ok(ServiceOk::IssuedBatch(none)) if none.is_empty()));
    assert_eq!(house.metric(ISSUE_LATENCY), 0.0, "nothing was signed");
    raw.issue(demo("x")).unwrap();
    let mixed = vec![demo("a"), IssueSpec { scopes: vec!["admin"], ..demo("x") }, demo("b")];
    raw.ask(ServiceOp::IssueBatch(mixed)).unwrap();
    assert_eq!(house.metric(ISSUE_LATENCY), 2.0, "once for each request");
}

/// A batch takes one place among the requests under way, however many items it has.
#[test]
fn issue_concurrency_bounds_requests() {
    let house = House::start(Options::default().set("limits.issue_concurrency", 1));
    let Ok(ServiceOk::IssuedBatch(items)) = house.ask(ServiceOp::IssueBatch(vec![demo("x"); 20])) else { panic!() };
    assert!(items.iter().all(Result::is_ok), "{items:?}");
    let options = Options::default().set("limits.issue_concurrency", 1).set("hsm.op_timeout_ms", 300);
    let slow = House::start(options.roles(Roles::Apart));
    slow.freeze("signer");
    let mut raw = slow.raw();
    raw.send(&[request(1, ServiceOp::Issue(demo("x"))), request(2, ServiceOp::Issue(demo("y")))].concat()).unwrap();
    let answers = [raw.reply(), raw.reply()].map(|reply| (reply.id, reply.result.unwrap_err().code));
    assert_eq!(answers, [(2, Code::Busy), (1, Code::HsmTimeout)], "the second at once");
    slow.signal("signer", nix::sys::signal::Signal::SIGCONT);
}

/// Two uids have a half each, so that a third, which has nothing under way, finds all places taken.
#[test]
fn issue_concurrency_bounds_all_uids_together() {
    if !root_or_skip("several users") {
        return;
    }
    let policy = POLICY.replace("uid = @UID@", "uid = @UID@\nlistener = \"admin\"")
        + "\n[[peer]]\nname = \"all\"\ngid = 61200\nallow = [\"issue\"]\ntemplates = [\"demo\"]\n";
    let options = Options::default().policy(&policy).set("limits.issue_concurrency", 4).roles(Roles::Apart);
    let house = House::start(options);
    let [mut a, mut b, mut c] = [61_201, 61_202, 61_203].map(|uid| house.raw_as(uid, 61_200, &[]));
    house.freeze("signer");
    // With the answer to the Ping what came before it has its place.
    let takes = |raw: &mut Raw, issues: u64| {
        let mut frames: Vec<u8> = (1..=issues).flat_map(|id| request(id, ServiceOp::Issue(demo("x")))).collect();
        frames.extend(request(9, ServiceOp::Ping));
        raw.send(&frames).unwrap();
        assert_eq!(raw.reply(), Reply { id: 9, result: Ok(ServiceOk::Pong) });
    };
    let refused = |raw: &mut Raw| {
        raw.send(&request(7, ServiceOp::Issue(demo("y")))).unwrap();
        let reply = raw.reply();
        (reply.id, reply.result.unwrap_err().code)
    };
    takes(&mut a, 2);
    assert_eq!(refused(&mut a), (7, Code::Busy), "one uid has half of them");
    takes(&mut b, 1);
    takes(&mut c, 1);
    assert_eq!(refused(&mut b), (7, Code::Busy), "it has not half of them, and all are taken");
    assert_eq!(house.metric("busy_rejections_total{endpoint=\"issue\"}"), 2.0);
    house.signal("signer", nix::sys::signal::Signal::SIGCONT);
    for (raw, issued) in [(&mut a, 2), (&mut b, 1), (&mut c, 1)] {
        (0..issued).for_each(|_| assert!(matches!(raw.reply().result, Ok(ServiceOk::Issued(_)))));
    }
}

/// They run in place: on one connection there is never more than one, on two as many as there are processors.
#[test]
fn verify_concurrency_bounds_single_verifications() {
    let house = House::start(Options::default().set("limits.verify_concurrency", 1));
    let passport = house.raw().issue(demo("x")).unwrap();
    let verify = || ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) };
    let hundred: Vec<u8> = (1..=100).flat_map(|id| request(id, verify())).collect();
    let ask = |raw: &mut Raw| {
        raw.send(&hundred).unwrap();
        (0..100).filter(|_| raw.reply().result.is_err_and(|problem| problem.code == Code::Busy)).count()
    };
    let mut raw = house.raw();
    assert_eq!((0..5).map(|_| ask(&mut raw)).sum::<usize>(), 0, "one at a time is within the bound");
    if std::thread::available_parallelism().unwrap().get() == 1 {
        return skipped("two verifications at one time: there is one processor");
    }
    let busy = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let (mut raw, begun) = (house.raw(), Instant::now());
                while busy.load(Ordering::Relaxed) == 0 {
                    busy.fetch_add(u32::try_from(ask(&mut raw)).unwrap(), Ordering::Relaxed);
                    assert!(begun.elapsed() < Duration::from_secs(20), "two at one time were never over the bound");
                }
            });
        }
    });
    assert_eq!(house.metric("busy_rejections_total{endpoint=\"verify\"}"), f64::from(busy.into_inner()));
}

/// Between the slices of a batch other connections have their turn; single verifications run in place.
#[test]
fn verify_batch_concurrency_bounds_batches_and_nothing_else() {
    let options = Options::default().set("limits.verify_batch_concurrency", 1).set("verify.target_batch", 1);
    let house = House::start(options);
    let passport = house.raw().issue(demo("x")).unwrap();
    let batch = vec![passport.clone(); 512];
    let accepted = |one: &Verdict| matches!(one, Verdict::Accepted(_));
    let mut raw = house.raw();
    for _ in 0..3 {
        let verdicts = raw.verify_batch(for_demo(), &batch).expect("one batch at a time is within the bound");
        assert!(verdicts.len() == 512 && verdicts.iter().all(accepted));
    }
    let busy = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut raw = house.raw();
                for _ in 0..200 {
                    match raw.verify_batch(for_demo(), &batch) {
                        Ok(verdicts) => assert!(verdicts.iter().all(accepted)),
                        Err(problem) => {
                            assert_eq!((problem.code, problem.retryable), (Code::Busy, true));
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if busy.load(Ordering::Relaxed) > 0 {
                        break;
                    }
                    assert!(raw.verify(for_demo(), &passport).is_ok_and(|one| accepted(&one)), "one alone is no batch");
                }
            });
        }
    });
    let busy = busy.into_inner();
    assert!(busy > 0, "two batches at once were never over the bound");
    let at = |endpoint: &str| house.metric(&format!("busy_rejections_total{{endpoint=\"{endpoint}\"}}"));
    assert_eq!((at("verify_batch"), at("verify")), (busy.into(), 0.0));
}

#[test]
fn what_finds_no_place_in_front_of_the_hsm_is_counted_there_and_nowhere_else() {
    let options = Options::default().set("hsm.op_timeout_ms", 300).set("hsm.queue", 1).set("hsm.sessions", 1);
    let house = House::start(options.roles(Roles::Apart));
    let mut raw = house.raw();
    house.freeze("signer");
    let Ok(ServiceOk::IssuedBatch(items)) = raw.ask(ServiceOp::IssueBatch(vec![demo("x"); 8])) else { panic!() };
    house.signal("signer", nix::sys::signal::Signal::SIGCONT);
    let codes: Vec<_> = items.into_iter().map(|one| one.unwrap_err().code).collect();
    let busy = codes.iter().filter(|code| **code == Code::Busy).count();
    assert!((1..8).contains(&busy), "{codes:?}");
    let at = |endpoint: &str| house.metric(&format!("busy_rejections_total{{endpoint=\"{endpoint}\"}}"));
    assert_eq!((at("signer"), at("issue")), (f64::from(u32::try_from(busy).unwrap()), 0.0), "{codes:?}");
}

#[test]
fn the_names_of_the_older_systems_are_fed() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    raw.ask(ServiceOp::IssueBatch(vec![demo("a"), demo("b")])).unwrap();
    raw.issue(IssueSpec { template: "none", ..demo("x") }).unwrap_err();
    raw.verify_batch(for_demo(), &[passport.clone(), passport.clone()]).unwrap();
    raw.verify(for_demo(), &passport).unwrap();
    let elsewhere =
        passportd::wire::Want { aud: Some("demo"), scopes: vec!["none"], ..passportd::wire::Want::default() };
    raw.verify(elsewhere, &passport).unwrap();
    let bent = passportd::passport::OwnedEnvelope { sig: vec![0; 64], ..passport };
    raw.verify(for_demo(), &bent).unwrap();
    // Nobody looks for the key of what can't be read, nor for one of another algorithm.
    raw.verify(for_demo(), &passportd::passport::OwnedEnvelope { alg: "ES256".to_owned(), ..bent.clone() }).unwrap();
    raw.verify(for_demo(), &passportd::passport::OwnedEnvelope { msg: b"{".to_vec(), ..bent.clone() }).unwrap();
    let nobodys = String::from_utf8(bent.msg.clone()).unwrap().replace("ed25519/t1/auth/v1", "ed25519/t1/auth/v9");
    let (kid, msg) = ("ed25519/t1/auth/v9".to_owned(), nobodys.into_bytes());
    raw.verify(for_demo(), &passportd::passport::OwnedEnvelope { kid, msg, ..bent }).unwrap();
    let (_, text) = house.get("/metrics");
    for (series, value) in [
        ("ekey_issue_total{template=\"demo\"}", 3.0),
        ("ekey_issue_latency_seconds_count", 2.0),
        ("ekey_verify_success_total", 3.0),
        ("passport_vk_cache_hits_total", 5.0),
        ("passport_vk_cache_misses_total", 1.0),
    ] {
        assert_eq!(house.metric(series), value, "{series} in\n{text}");
    }
    assert!(!text.contains("template=\"none\""), "only a template that issued has a series");
}
