//! Verifiers that were at it while a revocation was acknowledged: slow ones, ones that stand still, and peers that do not read.
//! A verdict counts as given when it is released, which is when it is counted, not when its reader gets to it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use passportd::passport::OwnedEnvelope;
use passportd::wire::{AdminOk, AdminOp, Code, Revocation, ServiceOk, ServiceOp, Verdict};

use crate::support::house::House;
use crate::support::passports::{claims, demo, for_demo, on_wire};
use crate::support::raw::{Raw, request};
use crate::support::stall::Stalled;
use crate::support::{Options, Roles, eventually, root_or_skip, rounds, skipped};

/// Items of a batch that takes a while: some hundred slices.
const LARGE: usize = 1_500;
const PATIENCE: Duration = Duration::from_secs(20);
const REVOKED: Verdict = Verdict::Refused(Code::Revoked);

fn house() -> House {
    House::start(Options::default().roles(Roles::Apart).set("limits.max_batch", 2_048))
}

fn revoke(admin: &mut Raw, passport: &OwnedEnvelope) {
    let claims = claims(passport);
    let what = vec![Revocation::Id { jti: claims["jti"].as_str().unwrap(), exp: None }];
    assert_eq!(admin.admin(AdminOp::Revoke { tenant: "t1", what, reason: "a test" }), Ok(AdminOk::Revoked { new: 1 }));
}

fn accepted(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Accepted(_) => true,
        refused => {
            assert_eq!(*refused, REVOKED);
            false
        }
    }
}

/// How many verdicts were released that accept, by the daemon's own count.
fn released(house: &House, op: &str) -> u64 {
    let count = house.metric(&format!("passport_ops_total{{alg=\"Ed25519\",op=\"{op}\",result=\"ok\"}}"));
    format!("{count}").parse().unwrap()
}

/// One passport after the other is revoked while large batches are verified that have each of them at their beginning and at their end.
/// Every verdict of a batch is of one moment: it never refuses what was revoked later and accepts what was revoked before.
#[test]
fn a_batch_that_was_under_way_accepts_nothing_that_was_revoked_before_its_end() {
    const BAD: usize = 24;
    let house = house();
    let good: Vec<_> = (0..8).map(|_| house.raw().issue(demo("good")).unwrap()).collect();
    let mut torn = 0;
    for round in 0..rounds(20).max(3) {
        let mut raw = house.raw();
        let bad: Vec<_> = (0..BAD).map(|_| raw.issue(demo("bad")).unwrap()).collect();
        // The one that is revoked last is looked at last, and first.
        let filler = good.iter().cycle().take(LARGE - 3 * BAD).cloned();
        let mut items: Vec<_> = bad.iter().cloned().chain(filler).collect();
        items.extend(bad.iter().rev().chain(&bad).cloned());
        let acknowledged = AtomicU64::new(0);
        thread::scope(|scope| {
            let verifiers: Vec<_> = (0..2)
                .map(|_| {
                    let (house, items, acknowledged) = (&house, &items, &acknowledged);
                    scope.spawn(move || {
                        let (mut raw, mut torn) = (house.raw(), 0);
                        loop {
                            let before = usize::try_from(acknowledged.load(Ordering::SeqCst)).unwrap();
                            let verdicts = raw.verify_batch(for_demo(), items).unwrap();
                            torn += judge(&verdicts, before, BAD);
                            if before == BAD {
                                return torn;
                            }
                        }
                    })
                })
                .collect();
            let mut admin = house.admin_raw();
            for passport in &bad {
                revoke(&mut admin, passport);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            torn += verifiers.into_iter().map(|one| one.join().unwrap()).sum::<usize>();
        });
        if round >= 2 && torn > 0 {
            break;
        }
    }
    assert!(torn > 0, "no batch was under way while something was revoked");
}

/// Holds a batch against the law: the first `before` were revoked before it was asked for. Whether more were meanwhile, but not all.
fn judge(verdicts: &[Verdict], before: usize, bad: usize) -> usize {
    let (first, rest) = verdicts.split_at(bad);
    let (filler, last) = rest.split_at(rest.len() - 2 * bad);
    assert!(filler.iter().all(accepted), "what is not revoked is accepted");
    let first: Vec<_> = first.iter().map(accepted).collect();
    let backwards: Vec<_> = last[..bad].iter().rev().map(accepted).collect();
    let forwards: Vec<_> = last[bad..].iter().map(accepted).collect();
    assert!(first == backwards && first == forwards, "one passport, one verdict: {first:?} {backwards:?} {forwards:?}");
    let revoked = first.iter().take_while(|accepted| !**accepted).count();
    assert!(first[revoked..].iter().all(|accepted| *accepted), "by the order of the revocations: {first:?}");
    assert!(revoked >= before, "{before} were revoked before it was asked for, and {revoked} are refused");
    usize::from(revoked > before && revoked < bad)
}

/// The threads that verify are stopped in the middle of it, a revocation is acknowledged, and they go on: none of what they had not
/// given until then accepts what is revoked.
#[test]
fn verifiers_that_stand_still_while_a_revocation_is_acknowledged_accept_nothing_after() {
    const CONNECTIONS: usize = 16;
    const SINGLES: usize = 200;
    /// A connection's work grows to so many times that.
    const MOST: usize = 32;
    /// Longer than an acknowledgement takes, if nobody who was stopped holds it up.
    const SOON: Duration = Duration::from_millis(300);
    if !root_or_skip("stopping single threads") {
        return;
    }
    let house = house();
    let front = house.pid("front");
    if Stalled::threads(front, "services").is_none() {
        return skipped("verifiers that stand still: stopping threads takes CAP_SYS_PTRACE");
    }
    let good = house.raw().issue(demo("good")).unwrap();
    let (mut batches, mut singles) = (0, 0);
    // A fast machine is through with little work before it is stopped: then there is more of it the next time.
    let mut times = [1, 1];
    for round in 0..60 {
        let bad = house.raw().issue(demo("bad")).unwrap();
        let large = round % 2 == 0;
        let unit = if large { LARGE / 4 } else { 1 };
        let mut items = vec![good.clone(); unit];
        items[0] = bad.clone();
        items[unit - 1] = bad.clone();
        let work = times[usize::from(large)];
        let before = released(&house, "verify");
        let (given, told) = thread::scope(|scope| {
            let asked: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    let (mut raw, items, bad) = (house.raw(), &items, &bad);
                    scope.spawn(move || {
                        if large {
                            (0..work).map(|_| ask_batch(&mut raw, items)).sum()
                        } else {
                            ask_singles(&mut raw, bad, SINGLES * work)
                        }
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(4 + round % 5 * 4));
            let stalled = Stalled::threads(front, "services").unwrap();
            let (tell, hear) = mpsc::channel();
            let (house, bad) = (&house, &bad);
            scope.spawn(move || {
                let _late = tell.send(released(house, "verify") - before);
                revoke(&mut house.admin_raw(), bad);
                let _late = tell.send(0);
            });
            // Whoever was stopped with the tables in hand keeps the revocation waiting: it is not acknowledged then, and says nothing.
            let told = hear.recv_timeout(SOON).and_then(|given| hear.recv_timeout(SOON).map(|_| given)).ok();
            drop(stalled);
            (asked.into_iter().map(|one| one.join().unwrap()).sum::<u64>(), told)
        });
        // From now on it is refused everywhere, whatever became of those.
        assert_eq!(house.raw().verify(for_demo(), &bad), Ok(REVOKED));
        let Some(told) = told else { continue };
        let given = given * u64::try_from(unit).unwrap();
        assert!(given <= told, "round {round}: {told} verdicts were given when it was revoked, and {given} accept");
        let all = CONNECTIONS * work * if large { unit } else { SINGLES };
        if told < u64::try_from(all).unwrap() {
            *(if large { &mut batches } else { &mut singles }) += 1;
        } else {
            times[usize::from(large)] = (2 * work).min(MOST);
        }
        if batches >= 2 && singles >= 2 {
            return;
        }
    }
    panic!("{batches} batches and {singles} single verdicts stood still while something was revoked");
}

/// Whether a batch whose first and last passport is the same accepts that.
fn ask_batch(raw: &mut Raw, items: &[OwnedEnvelope]) -> u64 {
    let verdicts = raw.verify_batch(for_demo(), items).unwrap();
    let (first, last) = (accepted(verdicts.first().unwrap()), accepted(verdicts.last().unwrap()));
    assert_eq!(first, last, "one passport, one verdict");
    u64::from(first)
}

/// How many of so many requests that are sent at once accept: once one is refused, all later ones are.
fn ask_singles(raw: &mut Raw, passport: &OwnedEnvelope, count: usize) -> u64 {
    let ask = || ServiceOp::Verify { want: for_demo(), passport: on_wire(passport) };
    raw.send(&(1..).take(count).flat_map(|id| request(id, ask())).collect::<Vec<_>>()).unwrap();
    let verdicts: Vec<_> = (0..count)
        .map(|_| match raw.reply().result {
            Ok(ServiceOk::Verdict(verdict)) => accepted(&verdict),
            other => panic!("{other:?}"),
        })
        .collect();
    let given = verdicts.iter().take_while(|accepted| **accepted).count();
    assert!(verdicts[given..].iter().all(|accepted| !accepted), "{verdicts:?}");
    u64::try_from(given).unwrap()
}

/// A peer that does not read finds what was released before the revocation, which it could have read then, and nothing else: what it
/// had asked and the daemon had not come to yet is refused.
#[test]
fn who_reads_late_finds_what_was_given_before_and_nothing_given_after() {
    // More replies than fit between daemon and peer.
    const ASKED: u64 = 3_000;
    let house = house();
    let passport = house.raw().issue(demo("slow")).unwrap();
    let mut slow = house.raw();
    let mut feeder = Raw::over(slow.stream.try_clone().unwrap()).unwrap();
    let all: Vec<_> = (1..=ASKED)
        .flat_map(|id| request(id, ServiceOp::Introspect { want: for_demo(), passport: on_wire(&passport) }))
        .collect();
    thread::scope(|scope| {
        // It waits until what it says is read.
        scope.spawn(move || feeder.send(&all).unwrap());
        let mut last = (0, Instant::now());
        let given = eventually("the daemon waits for its reader", PATIENCE, || {
            let now = released(&house, "introspect");
            if now != last.0 {
                last = (now, Instant::now());
            }
            (now > 0 && last.1.elapsed() >= Duration::from_millis(200)).then_some(now)
        });
        assert!(given < ASKED, "all of it fits between them");
        revoke(&mut house.admin_raw(), &passport);
        assert_eq!(house.raw().verify(for_demo(), &passport), Ok(REVOKED), "for everybody else at once");
        let mut active = 0;
        for id in 1..=ASKED {
            let reply = slow.reply();
            assert_eq!(reply.id, id);
            match reply.result {
                Ok(ServiceOk::Introspection(it)) if it.active => {
                    active += 1;
                    assert_eq!(active, id, "once it is revoked it stays so");
                }
                Ok(ServiceOk::Introspection(it)) => assert_eq!(it.reason, Some(Code::Revoked)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(active, given, "what was given before, and nothing else");
    });
    assert_eq!(slow.verify(for_demo(), &passport), Ok(REVOKED));
}
