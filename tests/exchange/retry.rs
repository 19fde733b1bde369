//! A request that is repeated gets the same ticket, and takes nothing more: also one whose signature never came.

use passportd::wire::{Code, IssueSpec, TicketSpec};

use crate::asked::{Got, ONCE, from, house, plain, policy, said};
use crate::support::house::House;
use crate::support::{Options, Roles};

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
