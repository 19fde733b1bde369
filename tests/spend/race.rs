//! Who comes at one moment.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use passportd::wire::{Code, ServiceOk, ServiceOp, Verdict};

use crate::asked::{CONNECTIONS, Seen, accepted, few, house, once, policy, race, records, seen};
use crate::support::passports::{for_demo, on_wire};
use crate::support::raw::{Raw, request};
use crate::support::{House, Options, root_or_skip};

#[test]
fn of_sixteen_that_come_with_one_nonce_one_is_accepted() {
    let mut house = house();
    for round in 0..10 {
        let nonce = format!("n-{round}");
        // One passport, and as many passports as there are connections.
        let one = house.raw().issue(once(&nonce)).unwrap();
        let passports: Vec<_> = if round % 2 == 0 {
            vec![one; CONNECTIONS]
        } else {
            (0..CONNECTIONS).map(|_| house.raw().issue(once(&nonce)).unwrap()).collect()
        };
        let seen = race(&house, &passports);
        assert_eq!(accepted(&seen), 1, "{seen:?}");
        let replayed = seen.iter().filter(|one| **one == Seen::Refused(Code::Replayed)).count();
        assert_eq!(replayed, CONNECTIONS - 1, "{seen:?}");
        let on_record: usize = passports
            .iter()
            .take(if round % 2 == 0 { 1 } else { CONNECTIONS })
            .map(|one| records(&house, one).len())
            .sum();
        assert_eq!(on_record, 1);
    }
    let last = house.raw().issue(once("n-9")).unwrap();
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    assert_eq!(accepted(&race(&house, &vec![last; CONNECTIONS])), 0, "nor after a crash");
}

#[test]
fn a_limit_holds_whoever_comes_together() {
    let house = house();
    for limit in [1, 2, 10, 1, 2, 10] {
        let passport = house.raw().issue(few(limit)).unwrap();
        let seen = race(&house, &vec![passport.clone(); CONNECTIONS]);
        let mut left: Vec<_> =
            seen.iter().filter_map(|one| if let Seen::Left(left) = one { *left } else { None }).collect();
        left.sort_unstable();
        assert_eq!(left, (0..u64::from(limit)).collect::<Vec<_>>(), "{seen:?}");
        let used_up = seen.iter().filter(|one| **one == Seen::Refused(Code::LimitExceeded)).count();
        assert_eq!(used_up, CONNECTIONS - left.len());
        assert_eq!(records(&house, &passport).len(), left.len());
    }
}

/// The front dies while they come: what one was told before, and what others are told after, is one acceptance at most.
#[test]
fn across_a_crash_in_the_middle_nothing_is_accepted_twice() {
    let mut house = house();
    let mut told = 0;
    for round in 0..6 {
        let nonce = format!("crash-{round}");
        let passport = house.raw().issue(once(&nonce)).unwrap();
        let barrier = Barrier::new(CONNECTIONS + 1);
        let before: usize = thread::scope(|scope| {
            let asked: Vec<_> = (0..CONNECTIONS)
                .map(|_| {
                    let (barrier, passport, mut raw) = (&barrier, &passport, house.raw());
                    scope.spawn(move || {
                        barrier.wait();
                        let op = ServiceOp::Verify { want: for_demo(), passport: on_wire(passport) };
                        let answer = raw.send(&request(7, op)).and_then(|()| raw.body());
                        let Ok(Some(body)) = answer else { return 0 };
                        let reply: passportd::wire::Reply = passportd::wire::decode(&body).unwrap();
                        usize::from(matches!(reply.result, Ok(ServiceOk::Verdict(verdict)) if verdict.is_accepted()))
                    })
                })
                .collect();
            barrier.wait();
            thread::sleep(Duration::from_micros(400 * round));
            house.kill("front");
            asked.into_iter().map(|one| one.join().unwrap()).sum()
        });
        house.start_role("front");
        house.wait_ready();
        let after = accepted(&race(&house, &vec![passport.clone(); CONNECTIONS]));
        assert!(before + after <= 1, "round {round}: {before} before the crash, {after} after it");
        assert!(records(&house, &passport).len() >= before + after, "each acceptance is on record");
        told += before + after;
    }
    println!("{told} of 6 were accepted at all");
}

#[test]
fn equal_request_ids_of_several_connections_are_several_requests() {
    let house = house();
    let passport = house.raw().issue(few(2)).unwrap();
    let ask = |raw: &mut Raw| {
        let op = ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) };
        raw.send(&request(7, op)).unwrap();
    };
    let mut all: Vec<_> = (0..3).map(|_| house.raw()).collect();
    all.iter_mut().for_each(ask);
    let verdicts = all.iter_mut().map(|raw| {
        let reply = raw.reply();
        assert_eq!(reply.id, 7);
        match reply.result {
            Ok(ServiceOk::Verdict(verdict)) => verdict,
            other => panic!("{other:?}"),
        }
    });
    let (good, bad): (Vec<_>, Vec<_>) = verdicts.partition(Verdict::is_accepted);
    let mut good: Vec<_> = good.into_iter().map(seen).collect();
    good.sort_by_key(|one| format!("{one:?}"));
    assert_eq!(good, [Seen::Left(Some(0)), Seen::Left(Some(1))]);
    assert_eq!(bad, [Verdict::Refused(Code::LimitExceeded)]);
}

/// Whoever asks, and whatever it calls its request: the passport has so many uses.
#[test]
fn equal_request_ids_of_several_uids_are_several_requests() {
    if !root_or_skip("several users") {
        return;
    }
    let uids: Vec<u32> = (41_201..=41_204).collect();
    let rules = uids
        .iter()
        .map(|uid| format!("[[peer]]\nname = \"{uid}\"\nuid = {uid}\nallow = [\"verify\"]\nverify_as = [\"demo\"]\n"));
    let house = House::start(Options::default().policy(&(policy() + &rules.collect::<String>())));
    // Another passport is another request, so it has another retry key.
    for (key, passport, most) in [
        (7, house.raw().issue(once("by-several")).unwrap(), 1),
        (8, house.raw().issue(few(1)).unwrap(), 1),
        (9, house.raw().issue(few(2)).unwrap(), 2),
    ] {
        // Each uid has four connections; all ask under one id, alone or under one retry key.
        let barrier = Barrier::new(CONNECTIONS);
        let good: Vec<(u32, bool, Verdict)> = thread::scope(|scope| {
            let asked: Vec<_> = (0..CONNECTIONS)
                .map(|n| {
                    let uid = uids[n % uids.len()];
                    let (barrier, passport, mut raw) = (&barrier, &passport, house.raw_as(uid, uid, &[]));
                    scope.spawn(move || {
                        let (want, passport) = (for_demo(), on_wire(passport));
                        let retry = (n < CONNECTIONS / 2).then_some([key; 16]);
                        let op = ServiceOp::VerifyWith { want, passport, retry, proof: None };
                        barrier.wait();
                        raw.send(&request(7, op)).unwrap();
                        let reply = raw.reply();
                        assert_eq!(reply.id, 7);
                        match reply.result {
                            Ok(ServiceOk::Verdict(verdict)) => (uid, retry.is_some(), verdict),
                            other => panic!("{other:?}"),
                        }
                    })
                })
                .collect();
            let all = asked.into_iter().map(|one| one.join().unwrap());
            all.filter(|(.., verdict)| verdict.is_accepted()).collect()
        });
        let again = |verdict: &Verdict| matches!(verdict, Verdict::Consumed(it) if it.repeated);
        let taken = good.iter().filter(|(.., verdict)| !again(verdict)).count();
        assert_eq!(taken, most, "{good:?}");
        // Only the uid that took something under its key is told so once more.
        for (uid, keyed, _) in good.iter().filter(|(.., verdict)| again(verdict)) {
            let first = good.iter().any(|(who, keyed, verdict)| who == uid && *keyed && !again(verdict));
            assert!(*keyed && first, "{good:?}");
        }
    }
}
