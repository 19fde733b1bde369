//! Who did not hear the answer asks again.

use std::sync::Barrier;
use std::thread;

use passportd::wire::{Code, Want};

use crate::asked::{CONNECTIONS, Seen, few, house, once, policy, records};
use crate::support::passports::{demo, for_demo};
use crate::support::{House, Options, root_or_skip};

#[test]
fn the_same_request_is_answered_as_before_and_takes_nothing_more() {
    let mut house = house();
    let mut raw = house.raw();
    let (passport, nonce) = (raw.issue(few(3)).unwrap(), raw.issue(once("n")).unwrap());
    let key = |n: u8| Some([n; 16]);
    assert_eq!(raw.with(for_demo(), &passport, key(1), None), Ok(Seen::Left(Some(2))));
    assert_eq!(raw.with(for_demo(), &nonce, key(2), None), Ok(Seen::Left(Some(99))));
    for _ in 0..3 {
        assert_eq!(house.raw().with(for_demo(), &passport, key(1), None), Ok(Seen::Again(Some(2))));
    }
    assert_eq!(raw.see(&passport), Seen::Left(Some(1)));
    assert_eq!(raw.with(for_demo(), &passport, key(1), None), Ok(Seen::Again(Some(2))), "as it was answered");
    let other = raw.with(for_demo(), &nonce, key(1), None).unwrap_err();
    assert!(other.code == Code::Malformed && other.message.contains("another request"), "{other:?}");
    let want = Want::default();
    let other = raw.with(want, &passport, key(1), None).unwrap_err();
    assert!(other.code == Code::Malformed && other.message.contains("another request"), "{other:?}");
    assert_eq!(raw.see(&nonce), Seen::Refused(Code::Replayed));
    house.kill("front");
    house.start_role("front");
    house.wait_ready();
    let mut raw = house.raw();
    assert_eq!(raw.with(for_demo(), &passport, key(1), None), Ok(Seen::Again(Some(2))), "after a crash");
    assert_eq!(raw.with(for_demo(), &nonce, key(2), None), Ok(Seen::Again(Some(99))));
    assert_eq!(raw.with(for_demo(), &passport, key(3), None), Ok(Seen::Left(Some(0))));
    let details: Vec<_> = records(&house, &passport).iter().map(|one| one["detail"].to_string()).collect();
    let once_more = details.iter().filter(|one| one.contains("once more")).count();
    assert_eq!((details.len(), once_more), (8, 5), "{details:?}");
    let free = raw.issue(demo("bob")).unwrap();
    assert_eq!(raw.with(for_demo(), &free, key(1), None), Ok(Seen::Free), "what takes nothing needs no key");
}

#[test]
fn of_the_same_request_that_comes_sixteen_times_at_once_one_takes() {
    let house = house();
    let passport = house.raw().issue(few(10)).unwrap();
    let barrier = Barrier::new(CONNECTIONS);
    let all: Vec<_> = thread::scope(|scope| {
        let ask = |_| {
            let (house, barrier, passport) = (&house, &barrier, &passport);
            scope.spawn(move || {
                let mut raw = house.raw();
                barrier.wait();
                raw.with(for_demo(), passport, Some([9; 16]), None).unwrap()
            })
        };
        let asked: Vec<_> = (0..CONNECTIONS).map(ask).collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let count = |wanted: &Seen| all.iter().filter(|one| *one == wanted).count();
    assert_eq!((count(&Seen::Left(Some(9))), count(&Seen::Again(Some(9)))), (1, CONNECTIONS - 1), "{all:?}");
    assert_eq!(house.raw().see(&passport), Seen::Left(Some(8)));
}

#[test]
fn a_key_is_good_for_the_uid_that_used_it_alone() {
    if !root_or_skip("several users") {
        return;
    }
    let [one, other] = [41_101, 41_102];
    let rule =
        |uid: u32| format!("[[peer]]\nname = \"{uid}\"\nuid = {uid}\nallow = [\"verify\"]\nverify_as = [\"demo\"]\n");
    let house = House::start(Options::default().policy(&(policy() + &rule(one) + &rule(other))));
    let passport = house.raw().issue(few(2)).unwrap();
    let ask = |uid| house.raw_as(uid, uid, &[]).with(for_demo(), &passport, Some([5; 16]), None);
    assert_eq!(ask(one), Ok(Seen::Left(Some(1))));
    assert_eq!(ask(other), Ok(Seen::Left(Some(0))), "whoever learns a key learns no answer by it");
    assert_eq!((ask(one), ask(other)), (Ok(Seen::Again(Some(1))), Ok(Seen::Again(Some(0)))));
}
