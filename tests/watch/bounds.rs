//! What bounds it: how much is kept, how many wait, and for how long.

use std::thread;
use std::time::{Duration, Instant};

use passportd::watch::MAX_EVENTS;
use passportd::wire::{AdminOp, Code, ServiceOk, ServiceOp, Topic, Watched, What};

use super::{admin, begin, ids, next, options, revoke_ids, told, watch};
use crate::support::raw::Raw;
use crate::support::{House, eventually};

const TOPICS: [Topic; 1] = [Topic::Revocations];
const PATIENCE: Duration = Duration::from_secs(20);

fn wait(raw: &mut Raw) {
    let cursor = begin(raw, &TOPICS);
    raw.request(ServiceOp::Watch { topics: TOPICS.to_vec(), after: Some(cursor), wait_ms: 60_000 });
}

fn waiting(house: &House, count: u32) {
    eventually("so many wait", PATIENCE, || (house.metric("passport_watchers") == f64::from(count)).then_some(()));
}

fn nothing(raw: &mut Raw) {
    match raw.reply().result {
        Ok(ServiceOk::Watched(Watched::Events { events, .. })) => assert!(events.is_empty(), "{events:?}"),
        other => panic!("{other:?}"),
    }
}

/// More is revoked than is kept: the watcher that did not read is told so, once, and goes on; one of another topic lost nothing.
#[test]
fn a_slow_watcher_is_told_what_it_has_missed() {
    let house = House::start(options());
    let (mut raw, mut other) = (house.raw(), house.raw());
    let (slow, epochs) = (begin(&mut raw, &TOPICS), begin(&mut other, &[Topic::Epochs]));
    let mut admins = house.admin_raw();
    let all: Vec<String> = (0..MAX_EVENTS + 500).map(|number| format!("j-{number}")).collect();
    all.chunks(250).for_each(|part| revoke_ids(&mut admins, "t1", part));
    let Watched::Lagged { missed, mut cursor } = watch(&mut raw, &TOPICS, Some(slow), 0).unwrap() else {
        panic!("it has missed some")
    };
    assert_eq!(missed, 500);
    // With those of the first keys.
    assert!(house.metric("bus_overflow_dropped_total") >= 500.0);
    assert_eq!(house.metric("bus_lagged_total"), 1.0);
    revoke_ids(&mut admins, "t1", &["later".to_owned()]);
    assert_eq!(ids(&next(&mut raw, &TOPICS, &mut cursor, 1)), ["later"]);
    assert!(told(watch(&mut other, &[Topic::Epochs], Some(epochs), 0)).0.is_empty());
    // Nothing new was revoked: nothing is told.
    revoke_ids(&mut admins, "t1", &["later".to_owned()]);
    assert!(told(watch(&mut raw, &TOPICS, Some(cursor), 0)).0.is_empty());
}

#[test]
fn so_many_wait_and_one_on_a_connection() {
    let house = House::start(options().set("limits.watchers", 4));
    let mut first = house.raw();
    wait(&mut first);
    waiting(&house, 1);
    // A second one on this connection, before the first is answered.
    let id = first.request(ServiceOp::Watch { topics: vec![], after: None, wait_ms: 0 });
    let reply = first.reply();
    assert_eq!((reply.id, reply.result.unwrap_err().code), (id, Code::Busy));
    let mut second = house.raw();
    wait(&mut second);
    waiting(&house, 2);
    // One uid has half of the places.
    assert_eq!(watch(&mut house.raw(), &TOPICS, None, 0).unwrap_err().code, Code::Busy);
    assert!(house.metric("busy_rejections_total{endpoint=\"watch\"}") >= 2.0);
    // A watcher that goes gives its place back at once, whether or not anything happens.
    drop(second);
    waiting(&house, 1);
    wait(&mut house.raw());
    revoke_ids(&mut house.admin_raw(), "t1", &["j".to_owned()]);
    assert!(
        matches!(first.reply().result, Ok(ServiceOk::Watched(Watched::Events { events, .. })) if ids(&events) == ["j"])
    );
    waiting(&house, 0);
}

#[test]
fn nothing_to_tell_is_said_when_the_wait_is_over() {
    let house = House::start(options());
    let mut raw = house.raw();
    let cursor = begin(&mut raw, &TOPICS);
    let began = Instant::now();
    let (events, after) = told(watch(&mut raw, &TOPICS, Some(cursor), 700));
    let took = began.elapsed();
    assert!(events.is_empty() && after.seq >= cursor.seq);
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
}

/// A drain is an event; the connection and its watcher go on. The end answers whoever waits, and waits for nobody.
#[test]
fn a_drain_is_told_and_the_end_is_not_held_up() {
    let mut house = House::start(options());
    let (mut raw, mut other) = (house.raw(), house.raw());
    let mut cursor = begin(&mut raw, &[Topic::Drain]);
    admin(&house, AdminOp::Drain);
    assert_eq!(next(&mut raw, &[Topic::Drain], &mut cursor, 1)[0].what, What::Draining { on: true });
    admin(&house, AdminOp::Undrain);
    assert_eq!(next(&mut raw, &[Topic::Drain], &mut cursor, 1)[0].what, What::Draining { on: false });
    wait(&mut other);
    raw.request(ServiceOp::Watch { topics: TOPICS.to_vec(), after: None, wait_ms: 60_000 });
    assert!(matches!(raw.reply().result, Ok(ServiceOk::Watched(Watched::Begin { .. }))));
    waiting(&house, 1);
    let began = Instant::now();
    let ended = thread::spawn(move || {
        nothing(&mut other);
        assert!(other.closed());
    });
    assert!(house.stop().success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    ended.join().unwrap();
}

#[test]
fn after_a_restart_a_watcher_begins_anew() {
    let mut house = House::start(options());
    let before = begin(&mut house.raw(), &TOPICS);
    revoke_ids(&mut house.admin_raw(), "t1", &["j".to_owned()]);
    assert!(house.stop().success());
    house.boot();
    house.wait_ready();
    match watch(&mut house.raw(), &TOPICS, Some(before), 60_000).unwrap() {
        Watched::Begin { cursor } => assert_ne!(cursor.life, before.life),
        other => panic!("{other:?}"),
    }
}
