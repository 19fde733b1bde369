//! What an admin can do while something hangs.

use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

pub(crate) use super::manager::tests::Ear;
use super::reload::Reading;
use super::*;
use crate::audit::AuditConfig;
use crate::config::Config;
use crate::log::{Pace, SegmentConfig};
use crate::metrics::Words;
use crate::passport::parse_jwks;
use crate::sandbox::{Identity, Landlock, Level};
use crate::signer::LinkConfig;
use crate::state::{Change, KeyTable, NewKey, Role, STANDINGS};
use crate::verify::{Difference, Net, Way, Window};

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon without a signer, whose ledger and state are in memory.
pub(crate) fn daemon() -> Daemon {
    daemon_with(Verifier::reference())
}

pub(crate) fn daemon_with(verifier: Verifier) -> Daemon {
    let text = "[passport]\nissuer = \"test\"\n[hsm]\nuri = \"pkcs11:token=main\"\nmodule = \"/usr/lib/libp11.so\"\n";
    let sources = Sources::new(None, [("PASSPORT_CONFIG".into(), text.into())]);
    let loaded = Config::load(&sources).unwrap();
    let overflow = Overflow { uid: 65534, gid: 65534 };
    let policy = Policy::from_files(&PathBuf::from("none"), Vec::new(), &crate::policy::SystemNames, overflow).unwrap();
    let events: Vec<_> = Event::ALL.iter().map(|event| event.name()).collect();
    let words = Words { key_states: &STANDINGS, ledger_events: events.leak() };
    let metrics = Arc::new(Metrics::new(words).unwrap());
    let (segment, pace) = (SegmentConfig::default(), Pace::default());
    let audit = Audit::memory(&AuditConfig {
        segment,
        pace,
        journald: None,
        now: Moment::now,
        metrics: Some(Arc::clone(&metrics)),
    })
    .unwrap();
    let signer = Signer::start(LinkConfig {
        socket: "/nonexistent/signer.sock".into(),
        issuer: "test".to_owned(),
        amnesia: None,
        signer_uid: 0,
        op_timeout: Duration::from_secs(1),
        max_in_flight: 8,
        recycled: crate::metrics::Counter::new("recycled", "in a test").unwrap(),
        opened: crate::metrics::Counter::new("opened", "in a test").unwrap(),
    });
    let identity = Identity { uid: 0, gid: 0, groups: Vec::new(), switched: false };
    let applied = Applied {
        role: "front",
        identity,
        bounding_empty: true,
        no_new_privs: true,
        dumpable: false,
        landlock: Landlock { level: Level::None, abi: 0 },
        memory_locked: false,
        amnesia: false,
        notes: Vec::new(),
    };
    let live = Live { loaded, policy, generation: 1 };
    let store = Store::memory(Moment::now()).unwrap();
    let manager = Manager::none();
    let verdicts = verdicts(&live.loaded.config.verify, &metrics).unwrap();
    let events = Stream::start().unwrap();
    let parts =
        Parts { live, sources, overflow, verifier, verdicts, store, audit, signer, metrics, applied, manager, events };
    Daemon::new(parts).unwrap()
}

#[tokio::test]
async fn a_pause_waits_for_no_other_change() {
    let daemon = daemon();
    let _under_way = daemon.changes.lock().await;
    let switched = async {
        daemon.pause("incident", &Author::NOBODY).await.unwrap();
        daemon.set_drained(true, &Author::NOBODY).await.unwrap();
        assert!(daemon.paused().is_some() && daemon.draining());
        daemon.resume(&Author::NOBODY).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, switched).await.expect("it does not wait");
    assert_eq!(daemon.paused(), None);
}

#[tokio::test]
async fn a_pause_holds_before_its_record_and_is_undone_without_one() {
    let daemon = daemon();
    let mut pause = Box::pin(daemon.pause("incident", &Author::NOBODY));
    // Only begun: the record can't be known to be durable yet.
    std::future::poll_fn(|context| {
        drop(pause.as_mut().poll(context));
        std::task::Poll::Ready(())
    })
    .await;
    assert_eq!(daemon.paused().as_deref(), Some("incident"));
    drop(pause);
    daemon.pause("first", &Author::NOBODY).await.unwrap();
    daemon.audit.close();
    assert!(daemon.pause("second", &Author::NOBODY).await.is_err());
    assert_eq!(daemon.paused().as_deref(), Some("first"));
}

#[tokio::test]
async fn reading_ends_in_time_and_loses_one_thread_at_most() {
    let reading = Reading::default();
    let (release, go_on) = mpsc::channel::<()>();
    let hangs = move || {
        go_on.recv().unwrap_or_default();
        Ok(())
    };
    assert!(matches!(reading.run(Duration::from_millis(20), hangs).await, Err(ReloadError::Slow)));
    let never = || -> Result<(), ReloadError> { panic!("not beside the one that hangs") };
    assert!(matches!(reading.run(PATIENCE, never).await, Err(ReloadError::Slow)));
    drop(release);
    let again = async {
        while reading.run(PATIENCE, || Ok(())).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("it reads again");
}

#[tokio::test(start_paused = true)]
async fn a_reload_waits_for_its_turn_and_not_for_ever() {
    let daemon = daemon();
    let under_way = daemon.changes.lock().await;
    let refused = daemon.reload(&Author::NOBODY).await.unwrap_err();
    assert!(matches!(refused, ReloadError::Turn), "{refused}");
    drop(under_way);
    assert!(!matches!(daemon.reload(&Author::NOBODY).await, Err(ReloadError::Turn)));
}

pub(super) fn key(version: u32) -> NewKey {
    let seed = [u8::try_from(version).unwrap(); 32];
    NewKey {
        kid: format!("ed25519/t1/auth/v{version}"),
        tenant: "t1".to_owned(),
        purpose: "auth".to_owned(),
        version,
        role: Role::Passport,
        public: Some(ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes()),
        created: 0,
    }
}

#[tokio::test]
async fn a_change_that_came_late_is_on_record_and_in_force() {
    let daemon = Arc::new(daemon());
    let watching = tokio::spawn(watch_state(Arc::clone(&daemon)));
    let staged = || daemon.metrics.ledger_events.at(Event::KeyStaged.name()).get();
    for (version, records) in [(1, 1), (2, 2)] {
        // As by a commit whose caller has gone.
        let change = Change::keys(daemon.store.keys().stage(key(version), 1).unwrap());
        daemon.store.commit(change, version.into()).await.unwrap();
        let kid = key(version).kid;
        let recorded = async {
            while staged() < records || daemon.keyring.load().get(&kid).is_none() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, recorded).await.expect("it is on record, and verifies");
    }
    daemon.account().await.unwrap();
    assert_eq!(staged(), 2, "each once");
    assert_eq!(daemon.audit.state_seq(), 2, "and later records know the state with them");
    // One that was reported as done is not late, whatever else came in between.
    let turn = daemon.changes.lock().await;
    let table = daemon.store.keys();
    let change = table.activate(&key(1).kid, 1).unwrap();
    let record = Author::NOBODY.entry(Event::KeyActivated, Outcome::Ok).kid(&key(1).kid);
    daemon.commit(&table, change, vec![record]).await.unwrap();
    assert_eq!(daemon.audit.state_seq(), daemon.store.snapshot().audit_seq);
    drop(turn);
    daemon.account().await.unwrap();
    assert_eq!(daemon.metrics.ledger_events.at(Event::KeyActivated.name()).get(), 1);
    daemon.stop();
    tokio::time::timeout(PATIENCE, watching).await.unwrap().unwrap();
}

#[tokio::test]
async fn each_net_counts_for_itself() {
    let daemon = daemon();
    for (net, times) in Net::ALL.into_iter().zip(1..) {
        let difference = Difference { way: Way::Portable, net, about: "a test".to_owned() };
        (0..times).for_each(|_| daemon.tell(&difference));
    }
    let exported = String::from_utf8(daemon.metrics.render().unwrap()).unwrap();
    for (net, count) in [("self_test", 1), ("sample", 2), ("refusal", 3)] {
        let line = format!("passport_verify_differences_total{{net=\"{net}\"}} {count}\n");
        assert!(exported.contains(&line), "{line}{exported}");
    }
}

#[tokio::test]
async fn a_way_that_differs_is_put_on_record_counted_and_told() {
    let daemon = Arc::new(daemon_with(Verifier::failed(Way::Portable)));
    let watcher = tokio::spawn(watch_verifier(Arc::clone(&daemon)));
    let exported = || String::from_utf8(daemon.metrics.render().unwrap()).unwrap();
    while !exported().contains("ledger_events_total{type=\"verify_path_distrusted\"} 1") {
        tokio::task::yield_now().await;
    }
    for (net, count) in [("self_test", 1), ("sample", 0), ("refusal", 0)] {
        let line = format!("passport_verify_differences_total{{net=\"{net}\"}} {count}");
        assert!(exported().contains(&line), "{line}");
    }
    assert_eq!(daemon.verifier.way(), Way::Dalek);
    let text = String::from_utf8(daemon.metrics.render().unwrap()).unwrap();
    assert!(
        text.contains("passport_verify_path{path=\"dalek\"} 1")
            && text.contains("passport_verify_path{path=\"portable\"} 0")
    );
    assert!(text.contains("ledger_events_total{type=\"verify_path_distrusted\"} 1"), "{text}");
    watcher.abort();
}

#[test]
fn where_memory_is_short_the_key_that_signs_has_its_table_first() {
    let mut table = KeyTable::default();
    for version in 1..=3 {
        table = table.apply(&table.stage(key(version), 1).unwrap()).unwrap();
    }
    table = table.apply(&table.activate(&key(2).kid, 2).unwrap()).unwrap();
    for (room, with) in [(1, vec![2]), (2, vec![1, 2]), (3, vec![1, 2, 3])] {
        let keyring = keys::keyring(&table, 1, room * Window::NARROWEST.table_bytes(), None).unwrap();
        let has = |version: &u32| keyring.get(&key(*version).kid).unwrap().window().is_some();
        assert_eq!((1..=3).filter(has).collect::<Vec<_>>(), with, "room for {room}");
    }
}

#[test]
fn the_key_set_says_which_key_signs_now_and_since_when_each_is_known() {
    let mut table = KeyTable::default();
    for version in 1..=3 {
        let made = NewKey { created: 1_700_000_000 + i64::from(version), ..key(version) };
        table = table.apply(&table.stage(made, 1_800_000_000).unwrap()).unwrap();
    }
    for active in [2, 3] {
        table = table.apply(&table.activate(&key(active).kid, 1_900_000_000).unwrap()).unwrap();
        let published = parse_jwks(keys::keyring(&table, 1, 0, None).unwrap().jwks()).unwrap();
        let said: Vec<_> = published.iter().map(|key| (key.kid.version(), key.current, key.created)).collect();
        let wanted = [1, 2, 3].map(|n| (n, Some(n == u64::from(active)), Some(1_700_000_000 + n.cast_signed())));
        assert_eq!(said, wanted);
    }
}
