//! What the metrics say of issuing and of refusals, where several requests and items come together.

use passportd::wire::{Code, IssueSpec, ServiceOk, ServiceOp};

use crate::support::passports::demo;
use crate::support::raw::request;
use crate::support::{House, Options, Roles};

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
