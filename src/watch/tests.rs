use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::*;

const LIFE: [u8; 16] = [7; 16];
/// When everything happens.
const AT: i64 = 1_700_000_000_000;
const LONG: Duration = Duration::from_secs(30);

fn wants(topics: &[Topic], tenants: &[&str]) -> Wants {
    let tenants = match tenants {
        ["*"] => Tenants::All,
        these => Tenants::These(these.iter().map(|&name| name.to_owned()).collect()),
    };
    Wants::new(topics.iter().copied().collect::<BTreeSet<_>>(), tenants)
}

fn revoked(tenant: &str, jti: &str) -> (Option<String>, What) {
    (Some(tenant.to_owned()), What::RevokedId { jti: jti.to_owned(), until: 9 })
}

fn many(tenant: &str, count: usize) -> impl Iterator<Item = (Option<String>, What)> {
    (0..count).map(move |n| revoked(tenant, &n.to_string()))
}

fn epoch(tenant: &str, epoch: u64) -> (Option<String>, What) {
    (Some(tenant.to_owned()), What::Epoch { epoch })
}

fn begin(stream: &Stream, wants: &Wants) -> Cursor {
    let Watched::Begin { cursor } = stream.read(None, wants) else { panic!("a watcher without a cursor begins") };
    cursor
}

fn events(told: Watched) -> (Vec<Event>, Cursor) {
    let Watched::Events { events, cursor } = told else { panic!("{told:?}") };
    (events, cursor)
}

fn ids(events: &[Event]) -> Vec<String> {
    let id = |event: &Event| match &event.what {
        What::RevokedId { jti, .. } => jti.clone(),
        other => format!("{other:?}"),
    };
    events.iter().map(id).collect()
}

#[test]
fn what_happens_is_read_once_in_its_order_and_in_batches() {
    let stream = Stream::new(LIFE, &[9; 32]);
    let all = wants(&[Topic::Revocations], &["*"]);
    stream.publish(AT, [revoked("t1", "before")]);
    let mut cursor = begin(&stream, &all);
    let count = 2 * MAX_BATCH + 3;
    // Two tenants in turns, in two pieces.
    let turns = |from: usize, to: usize| {
        (from..to).map(|n| revoked(if n % 2 == 0 { "t1" } else { "t2" }, &n.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(stream.publish(AT, turns(0, 5)) + stream.publish(AT, turns(5, count)), 0);
    let (mut read, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let (batch, next) = events(stream.read(Some(&cursor), &all));
        if batch.is_empty() {
            assert_eq!(next, cursor);
            break;
        }
        sizes.push(batch.len());
        read.extend(ids(&batch));
        cursor = next;
    }
    assert_eq!(sizes, [MAX_BATCH, MAX_BATCH, 3]);
    assert_eq!(read, (0..count).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_watcher_sees_its_topics_and_tenants_and_what_is_everybodys() {
    let stream = Stream::new(LIFE, &[9; 32]);
    let mine = wants(&[Topic::Epochs, Topic::Policy, Topic::Keys], &["t1"]);
    let cursor = begin(&stream, &mine);
    let key =
        |tenant: &str| (Some(tenant.to_owned()), What::Key { kid: tenant.to_owned(), state: "staged".to_owned() });
    let policy = What::Policy { hash: [1; 32] };
    stream.publish(AT, [revoked("t1", "a"), epoch("t2", 4), key("t2"), epoch("t1", 3), key("t1")]);
    stream.publish(AT, [(None, policy.clone()), (None, What::Draining { on: true })]);
    let (seen, next) = events(stream.read(Some(&cursor), &mine));
    let what: Vec<&What> = seen.iter().map(|event| &event.what).collect();
    let mine_key = What::Key { kid: "t1".to_owned(), state: "staged".to_owned() };
    assert_eq!(what, [&What::Epoch { epoch: 3 }, &mine_key, &policy]);
    assert_eq!((next.seq, seen.first().and_then(|event| event.tenant.as_deref())), (7, Some("t1")));
}

#[test]
fn one_tenants_flood_pushes_out_only_its_own() {
    let stream = Stream::new(LIFE, &[9; 32]);
    let (flooded, other) = (wants(&[Topic::Revocations], &["t1"]), wants(&[Topic::Revocations], &["t2"]));
    let keys = wants(&[Topic::Keys], &["t1"]);
    let (slow, quiet, of_keys) = (begin(&stream, &flooded), begin(&stream, &other), begin(&stream, &keys));
    stream.publish(AT, [revoked("t2", "kept")]);
    assert_eq!(stream.publish(AT, many("t1", MAX_EVENTS)), 0);
    assert!(matches!(stream.read(Some(&slow), &flooded), Watched::Events { .. }), "the bound itself loses nothing");
    assert_eq!(stream.publish(AT, many("t1", 5 * MAX_EVENTS)), 5 * u64::try_from(MAX_EVENTS).unwrap());
    let Watched::Lagged { missed, cursor } = stream.read(Some(&slow), &flooded) else { panic!("it has missed some") };
    // Its own, and the other tenant's that came between at most.
    let lost = 5 * u64::try_from(MAX_EVENTS).unwrap();
    assert!((lost..=lost + 1).contains(&missed), "{missed}");
    // Who was told goes on from there.
    stream.publish(AT, [revoked("t1", "later")]);
    assert_eq!(ids(&events(stream.read(Some(&cursor), &flooded)).0), ["later"]);
    assert_eq!(ids(&events(stream.read(Some(&quiet), &other)).0), ["kept"]);
    // Nor does it cost those anything who asked about something else.
    assert!(events(stream.read(Some(&of_keys), &keys)).0.is_empty());
}

#[test]
fn long_names_are_bounded_by_their_bytes() {
    let stream = Stream::new(LIFE, &[9; 32]);
    let all = wants(&[Topic::Revocations], &["*"]);
    let cursor = begin(&stream, &all);
    assert!(size_of::<Event>() + 2 * 16 <= 160, "what is counted for an event covers it");
    let long = "j".repeat(1024);
    let fit = MAX_EVENT_BYTES / (1024 + 2 + 160);
    assert!(fit < MAX_EVENTS);
    let one = || revoked("t1", &long);
    assert_eq!(stream.publish(AT, (0..fit).map(|_| one())), 0);
    assert!(matches!(stream.read(Some(&cursor), &all), Watched::Events { .. }));
    assert_eq!(stream.publish(AT, [one()]), 1);
    assert!(matches!(stream.read(Some(&cursor), &all), Watched::Lagged { missed: 1, .. }));
}

#[test]
fn beyond_so_many_tenants_the_most_silent_ones_events_go_and_its_watcher_is_told() {
    let stream = Stream::new(LIFE, &[9; 32]);
    let of = |name: &str| wants(&[Topic::Epochs], &[name]);
    let everybody = wants(&[Topic::Epochs], &["*"]);
    let (silent, lively, all) = (begin(&stream, &of("t0")), begin(&stream, &of("t1")), begin(&stream, &everybody));
    stream.publish(AT, [(None, What::Draining { on: true })]);
    for n in 0..MAX_TENANTS {
        assert_eq!(stream.publish(AT, [epoch(&format!("t{n}"), 1)]), 0);
    }
    assert_eq!(events(stream.read(Some(&silent), &of("t0"))).0.len(), 1);
    assert_eq!(stream.publish(AT, [epoch("one more", 1)]), 1);
    assert!(matches!(stream.read(Some(&silent), &of("t0")), Watched::Lagged { missed: 1, .. }));
    assert!(matches!(stream.read(Some(&all), &everybody), Watched::Lagged { .. }));
    assert_eq!(events(stream.read(Some(&lively), &of("t1"))).0.len(), 1);
    // It comes back, in place of another: what it lost before is still lost for who has not heard it.
    stream.publish(AT, [epoch("t0", 2)]);
    assert!(matches!(stream.read(Some(&silent), &of("t0")), Watched::Lagged { .. }));
    let drain = wants(&[Topic::Drain], &[]);
    let start = Cursor { seq: 0, ..begin(&stream, &drain) };
    let what = What::Draining { on: true };
    assert_eq!(events(stream.read(Some(&start), &drain)).0, [Event { seq: 1, at_ms: AT, tenant: None, what }]);
}

#[test]
fn a_cursor_of_another_life_or_of_other_rights_begins_anew() {
    let (old, new) = (Stream::new([1; 16], &[9; 32]), Stream::new(LIFE, &[9; 32]));
    let mine = wants(&[Topic::Revocations], &["t1"]);
    old.publish(AT, many("t1", 3));
    new.publish(AT, many("t1", 5));
    let before = begin(&old, &mine);
    assert_eq!(new.read(Some(&before), &mine), Watched::Begin { cursor: begin(&new, &mine) });
    let known = begin(&new, &mine);
    assert!(matches!(new.read(Some(&known), &mine), Watched::Events { .. }));
    for other in
        [wants(&[Topic::Revocations], &["t1", "t2"]), wants(&[Topic::Revocations], &["*"]), wants(&[], &["t1"])]
    {
        assert_eq!(new.read(Some(&known), &other), Watched::Begin { cursor: begin(&new, &other) });
    }
    // From the future there is none.
    let ahead = Cursor { seq: known.seq + 1, ..known };
    assert_eq!(new.read(Some(&ahead), &mine), Watched::Begin { cursor: known });
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_woken_by_what_it_wants_and_else_told_nothing_in_time() {
    let stream = Arc::new(Stream::new(LIFE, &[9; 32]));
    let mine = wants(&[Topic::Revocations], &["t1"]);
    let cursor = begin(&stream, &mine);
    let (theirs, other) = (Arc::clone(&stream), Arc::new(mine.clone()));
    let wants = Arc::clone(&other);
    let wanted = move || Ok::<_, Infallible>(Arc::clone(&wants));
    let waiting = tokio::spawn(async move { theirs.wait(Some(cursor), LONG, pending(), wanted).await.unwrap() });
    tokio::time::sleep(Duration::from_secs(1)).await;
    stream.publish(AT, [revoked("t2", "another's")]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    stream.publish(AT, [revoked("t1", "mine")]);
    let (seen, next) = events(waiting.await.unwrap());
    assert_eq!(ids(&seen), ["mine"]);
    let began = Instant::now();
    let wanted = || Ok::<_, Infallible>(Arc::clone(&other));
    let (none, _) = events(stream.wait(Some(next), 100 * MAX_WAIT, pending(), wanted).await.unwrap());
    assert!(none.is_empty() && began.elapsed() >= MAX_WAIT && began.elapsed() < 2 * MAX_WAIT);
}

#[tokio::test(start_paused = true)]
async fn who_loses_a_right_while_it_waits_sees_nothing_of_it_any_more() {
    for (rights, gone) in [(1, false), (2, true)] {
        let stream = Arc::new(Stream::new(LIFE, &[9; 32]));
        let before = Arc::new(wants(&[Topic::Revocations, Topic::Policy], &["t1"]));
        let after = Arc::new(wants(&[Topic::Revocations, Topic::Policy], &[]));
        let cursor = begin(&stream, &before);
        let reloaded = Arc::new(AtomicU8::new(0));
        let (theirs, turned) = (Arc::clone(&stream), Arc::clone(&reloaded));
        let waiting = tokio::spawn(async move {
            let now = || match turned.load(Ordering::Relaxed) {
                0 => Ok(Arc::clone(&before)),
                1 => Ok(Arc::clone(&after)),
                _ => Err("none at all"),
            };
            theirs.wait(Some(cursor), LONG, pending(), now).await
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        reloaded.store(rights, Ordering::Relaxed);
        stream.publish(AT, [revoked("t1", "no longer mine")]);
        match waiting.await.unwrap() {
            Ok(Watched::Begin { .. }) => assert!(!gone),
            Err("none at all") => assert!(gone),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_answered_at_once() {
    let stream = Stream::new(LIFE, &[9; 32]);
    let mine = Arc::new(wants(&[Topic::Revocations], &["t1"]));
    let cursor = begin(&stream, &mine);
    let wanted = || Ok::<_, Infallible>(Arc::clone(&mine));
    let began = Instant::now();
    let (none, next) = events(stream.wait(Some(cursor), LONG, ready(()), wanted).await.unwrap());
    assert!(none.is_empty() && next == cursor && began.elapsed() < Duration::from_secs(1));
}
