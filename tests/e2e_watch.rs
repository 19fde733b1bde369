//! Watching: what has happened is told at once, to those who may know, without a gap.
#![cfg(test)]

#[path = "watch/bounds.rs"]
mod bounds;
#[path = "watch/events.rs"]
mod events;
#[path = "watch/pages.rs"]
mod pages;
#[expect(dead_code, reason = "shared by several tests")]
mod support;
#[path = "watch/tool.rs"]
mod tool;

use std::time::Duration;

use passportd::wire::{
    AdminOk, AdminOp, Cursor, Event, Problem, Revocation, ServiceOk, ServiceOp, Topic, Watched, What,
};

use support::raw::Raw;
use support::{House, Options};

/// The longest that anything is waited for, in milliseconds.
const LONG_MS: u32 = 8_000;

/// The tests' own rule, which may also watch; and a second tenant whose templates it does not have.
const POLICY: &str = r#"
[[peer]]
name = "tester"
uid = @UID@
rps = 10000000
allow = ["issue", "verify", "introspect", "keys", "health", "status", "stage", "activate", "reload", "drain", "revoke",
         "revoke_any", "bump_epoch", "compromise", "watch"]
templates = ["demo"]
verify_as = ["demo"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read"]
default_scopes = ["read"]
max_ttl_s = 3600

[[template]]
name = "other"
tenant = "t2"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
max_ttl_s = 3600
"#;

fn options() -> Options {
    Options::default().policy(POLICY)
}

fn watch(raw: &mut Raw, topics: &[Topic], after: Option<Cursor>, wait_ms: u32) -> Result<Watched, Problem> {
    match raw.ask(ServiceOp::Watch { topics: topics.to_vec(), after, wait_ms })? {
        ServiceOk::Watched(told) => Ok(told),
        other => panic!("{other:?}"),
    }
}

fn begin(raw: &mut Raw, topics: &[Topic]) -> Cursor {
    match watch(raw, topics, None, LONG_MS).unwrap() {
        Watched::Begin { cursor } => cursor,
        other => panic!("{other:?}"),
    }
}

fn told(told: Result<Watched, Problem>) -> (Vec<Event>, Cursor) {
    match told.unwrap() {
        Watched::Events { events, cursor } => (events, cursor),
        other => panic!("{other:?}"),
    }
}

/// The next so many events, in their order.
fn next(raw: &mut Raw, topics: &[Topic], cursor: &mut Cursor, count: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < count {
        let (events, after) = told(watch(raw, topics, Some(*cursor), LONG_MS));
        assert!(!events.is_empty(), "after {all:?} nothing comes");
        all.extend(events);
        *cursor = after;
    }
    all
}

/// What follows an act, which is done while the watcher waits.
fn during(house: &House, topics: &[Topic], count: usize, act: impl FnOnce() + Send) -> Vec<Event> {
    let mut raw = house.raw();
    let mut cursor = begin(&mut raw, topics);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| next(&mut raw, topics, &mut cursor, count));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "nothing has happened yet");
        act();
        waiting.join().unwrap()
    })
}

fn admin(house: &House, op: AdminOp<'_>) -> AdminOk {
    house.admin_raw().admin(op).unwrap()
}

fn revoke_ids(raw: &mut Raw, tenant: &str, ids: &[String]) {
    let what = ids.iter().map(|jti| Revocation::Id { jti, exp: None }).collect();
    match raw.admin(AdminOp::Revoke { tenant, what, reason: "a test" }) {
        Ok(AdminOk::Revoked { .. }) => {}
        other => panic!("{other:?}"),
    }
}

fn ids(events: &[Event]) -> Vec<String> {
    let id = |event: &Event| match &event.what {
        What::RevokedId { jti, .. } => jti.clone(),
        other => panic!("{other:?}"),
    };
    events.iter().map(id).collect()
}
