//! A request that is repeated gets the same ticket, and takes nothing more: also one whose signature never came.

use std::sync::Barrier;
use std::thread;

use passportd::wire::{Code, IssueSpec, TicketSpec};

use crate::asked::{Got, ONCE, from, house, plain, policy, said};
use crate::support::house::House;
use crate::support::raw::Raw;
use crate::support::{Options, Roles, rounds};

const CONNECTIONS: usize = 16;

/// The same on as many connections.
fn at_once<T: Send>(house: &House, ask: impl Fn(&mut Raw) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(CONNECTIONS);
    thread::scope(|scope| {
        let one = || {
            scope.spawn(|| {
                let mut raw = house.raw();
                barrier.wait();
                ask(&mut raw)
            })
        };
        let all: Vec<_> = (0..CONNECTIONS).map(|_| one()).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

const KEY: Option<[u8; 16]> = Some([7; 16]);

#[test]
fn the_same_request_gives_the_same_ticket_and_one_use_of_it() {
    let house = house();
    let mut raw = house.raw();
    let passport = raw.issue(IssueSpec { limit: Some(3), ..from("few") }).unwrap();
    let first = raw.exchange_with(&passport, plain(), KEY, None);
    let again = house.raw().exchange_with(&passport, plain(), KEY, None);
    assert_eq!((first.left(), again.left()), (Some(2), Some(2)));
    assert!(
        matches!(again, Got::Ticket { repeated: true, .. }) && matches!(first, Got::Ticket { repeated: false, .. })
    );
    let (first, again) = (first.ticket(), again.ticket());
    assert_eq!((&said(&first)["jti"], &said(&first)["exp"]), (&said(&again)["jti"], &said(&again)["exp"]));
    assert_eq!(raw.word(&first), ONCE);
    assert_eq!(raw.word(&again), "limit_exceeded", "one of them");
    // Another request under the same key, and the same one under another.
    let other = TicketSpec { scopes: vec!["read"], ..plain() };
    assert_eq!(raw.exchange_with(&passport, other, KEY, None), Got::Problem(Code::Malformed));
    let brief = TicketSpec { ttl_s: Some(7), ..plain() };
    assert_eq!(raw.exchange_with(&passport, brief, KEY, None), Got::Problem(Code::Malformed));
    let new = raw.exchange_with(&passport, plain(), Some([8; 16]), None);
    assert_eq!(new.left(), Some(1));
    assert_ne!(said(&new.ticket())["jti"], said(&first)["jti"]);
}

/// Sixteen at one moment: one use is one ticket, and a ticket is accepted once.
#[test]
fn one_use_gives_one_ticket_and_one_ticket_one_acceptance_however_many_ask_at_once() {
    let house = house();
    let mut raw = house.raw();
    for round in 0..u8::try_from(rounds(3).min(200)).unwrap() {
        let passport = raw.issue(IssueSpec { limit: Some(1), ..from("few") }).unwrap();
        let got = at_once(&house, |raw| raw.exchange(&passport, plain()));
        let (tickets, refused): (Vec<_>, Vec<_>) = got.into_iter().partition(|one| matches!(one, Got::Ticket { .. }));
        assert_eq!((tickets.len(), refused.len()), (1, CONNECTIONS - 1));
        assert!(refused.iter().all(|one| *one == Got::Refused(Code::LimitExceeded)), "{refused:?}");
        let ticket = tickets.into_iter().next().unwrap().ticket();
        let words = at_once(&house, |raw| raw.word(&ticket));
        assert_eq!(words.iter().filter(|word| *word == ONCE).count(), 1, "{words:?}");
        assert!(words.iter().all(|word| word == ONCE || word == "limit_exceeded"), "{words:?}");
        // The same request by all of them: one ticket, in as many copies.
        let passport = raw.issue(IssueSpec { limit: Some(2), ..from("few") }).unwrap();
        let got = at_once(&house, |raw| raw.exchange_with(&passport, plain(), Some([round; 16]), None).ticket());
        let ids: std::collections::BTreeSet<_> =
            got.iter().map(|one| said(one)["jti"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let words = at_once(&house, |raw| raw.word(&got[0]));
        assert_eq!(words.iter().filter(|word| *word == ONCE).count(), 1, "{words:?}");
        assert_eq!(raw.word(&got[CONNECTIONS - 1]), "limit_exceeded");
        assert_eq!(raw.word(&passport), "left Some(0)", "they took one use");
    }
}

/// The use is taken before the signature, so that no crash gives two tickets for one use; with its key the request is repeated.
#[test]
fn a_use_that_was_taken_for_a_signature_that_never_came_is_not_lost() {
    let options = Options::default().roles(Roles::Apart).policy(&policy()).set("hsm.op_timeout_ms", 500);
    let mut house = House::start(options);
    let mut raw = house.raw();
    let passport = raw.issue(IssueSpec { limit: Some(2), ..from("few") }).unwrap();
    house.freeze("signer");
    let got = raw.exchange_with(&passport, plain(), KEY, None);
    assert!(matches!(got, Got::Problem(Code::HsmTimeout | Code::HsmUnavailable | Code::Busy)), "{got:?}");
    house.kill("signer");
    house.start_role("signer");
    house.wait_ready();
    let got = raw.exchange_with(&passport, plain(), KEY, None);
    assert!(matches!(got, Got::Ticket { left: Some(1), repeated: true, .. }), "{got:?}");
    assert_eq!(raw.word(&got.ticket()), ONCE);
    assert_eq!(raw.word(&passport), "left Some(0)", "one use went to the ticket");
}
