//! What the metrics say of issuing and of refusals, where several requests and items come together.

use passportd::wire::{IssueSpec, ServiceOk, ServiceOp};

use crate::support::passports::demo;
use crate::support::{House, Options};

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
