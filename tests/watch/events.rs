//! Each kind of event comes after its act; a cursor loses none; nobody hears of another tenant.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOp, Code, Revocation, ServiceOk, ServiceOp, Topic, Watched, What};

use super::{POLICY, admin, begin, during, ids, next, options, revoke_ids, told, watch};
use crate::support::house::FIRST_KEY;
use crate::support::passports::{claims, demo, on_wire};
use crate::support::{House, eventually};

/// The first key of the other tenant.
const THEIRS: &str = "ed25519/t2/auth/v1";

/// Milliseconds since 1970.
fn present() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn each_act_is_told_once_it_is_in_effect() {
    let mut house = House::start(options());
    let mut raw = house.raw();
    let passport = raw.issue(demo("alice")).unwrap();
    let jti = claims(&passport)["jti"].as_str().unwrap().to_owned();
    let before = present();

    let told = during(&house, &[Topic::Revocations], 1, || {
        assert_eq!(raw.ask(ServiceOp::Revoke { passport: on_wire(&passport) }), Ok(ServiceOk::Revoked { new: true }));
    });
    let event = told.first().unwrap();
    assert_eq!(event.tenant.as_deref(), Some("t1"));
    assert!(matches!(&event.what, What::RevokedId { jti: id, until } if *id == jti && *until > before / 1000));
    assert!((before..=present()).contains(&event.at_ms), "{event:?}");

    let told = during(&house, &[Topic::Revocations], 1, || {
        let what = vec![Revocation::Subject { sub: "alice", before: Some(before / 1000) }];
        admin(&house, AdminOp::Revoke { tenant: "t1", what, reason: "a test" });
    });
    let What::RevokedSubject { sub, before: by, .. } = &told.first().unwrap().what else { panic!("{told:?}") };
    assert_eq!((sub.as_str(), *by), ("alice", before / 1000));

    let told = during(&house, &[Topic::Epochs], 1, || {
        admin(&house, AdminOp::BumpEpoch { tenant: "t1", reason: "a test" });
    });
    assert_eq!((told[0].tenant.as_deref(), &told[0].what), (Some("t1"), &What::Epoch { epoch: 1 }));

    let told = during(&house, &[Topic::Drain], 2, || {
        admin(&house, AdminOp::Drain);
        admin(&house, AdminOp::Undrain);
    });
    let draining = [What::Draining { on: true }, What::Draining { on: false }];
    assert_eq!(told.iter().map(|event| &event.what).collect::<Vec<_>>(), draining.iter().collect::<Vec<_>>());
    assert!(told.iter().all(|event| event.tenant.is_none()));

    let told = during(&house, &[Topic::Policy], 1, || {
        house.write_policy("20-comment.toml", "# nothing\n");
        admin(&house, AdminOp::Reload);
    });
    let What::Policy { hash } = told[0].what else { panic!("{told:?}") };
    let text: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(house.metric(&format!("passport_policy_info{{hash=\"{text}\"}}")), 1.0);

    // The next key: staged, active, and the one before it retired; then that one is compromised.
    house.ceremony(PlanKind::Generate, "t1", "auth");
    let kid = "ed25519/t1/auth/v2";
    let key = |kid: &str, state: &str| What::Key { kid: kid.to_owned(), state: state.to_owned() };
    let told = during(&house, &[Topic::Keys], 3, || {
        house.stage(kid).unwrap();
        house.activate(kid).unwrap();
    });
    let mut whats: Vec<_> = told.into_iter().map(|event| event.what).collect();
    assert_eq!(whats.remove(0), key(kid, "staged"));
    assert!(whats.contains(&key(kid, "active")) && whats.contains(&key(FIRST_KEY, "retired")), "{whats:?}");
    let told = during(&house, &[Topic::Keys, Topic::Revocations], 2, || {
        admin(&house, AdminOp::Compromise { kid: FIRST_KEY, reason: "a test" });
    });
    let whats: Vec<_> = told.iter().map(|event| event.what.clone()).collect();
    assert_eq!(whats, [What::RevokedKey { kid: FIRST_KEY.to_owned() }, key(FIRST_KEY, "compromised")]);
    // Whoever asks for the keys upon that is given them without it.
    let Ok(ServiceOk::Keys(set)) = raw.ask(ServiceOp::Keys { if_etag: None }) else { panic!("no keys") };
    assert!(!String::from_utf8(set.jwks).unwrap().contains(FIRST_KEY));
    assert!(house.stop().success());
}

/// Three clients revoke without a pause; a watcher that comes and goes hears of each once, in the order of its numbers.
#[test]
fn a_cursor_loses_nothing_while_others_revoke() {
    const EACH: usize = 300;
    let house = House::start(options());
    let topics = [Topic::Revocations];
    let mut cursor = begin(&mut house.raw(), &topics);
    let name = |client: usize, number: usize| format!("j-{client}-{number}");
    let mut heard = Vec::new();
    std::thread::scope(|scope| {
        for client in 0..3 {
            let house = &house;
            scope.spawn(move || {
                let mut raw = house.admin_raw();
                for number in 0..EACH {
                    revoke_ids(&mut raw, "t1", &[name(client, number)]);
                }
            });
        }
        while heard.len() < 3 * EACH {
            // Each time on a new connection, as after a loss.
            heard.extend(next(&mut house.raw(), &topics, &mut cursor, 1));
        }
    });
    assert!(heard.is_sorted_by_key(|event| event.seq));
    let mut told = ids(&heard);
    told.sort();
    let mut all: Vec<_> = (0..3).flat_map(|client| (0..EACH).map(move |number| name(client, number))).collect();
    all.sort();
    assert_eq!(told, all);
    let (nothing, _) = told_now(&house, cursor);
    assert!(nothing.is_empty(), "{nothing:?}");
}

fn told_now(house: &House, cursor: passportd::wire::Cursor) -> (Vec<passportd::wire::Event>, passportd::wire::Cursor) {
    told(watch(&mut house.raw(), &[Topic::Revocations], Some(cursor), 0))
}

/// Of two tenants the peer has templates of one. What happens to the other it hears once its rule says so, from a look at all.
#[test]
fn rights_bound_what_is_heard_and_a_reload_decides_again_also_while_one_waits() {
    let tenant = |name: &str| format!("[[tenant]]\nname = \"{name}\"\npurposes = [\"auth\"]\nmax_ttl_s = 86400\n");
    let house = House::start(options().bounds(&(tenant("t1") + &tenant("t2"))));
    house.ceremony(PlanKind::Generate, "t2", "auth");
    house.stage(THEIRS).unwrap();
    let topics = [Topic::Revocations, Topic::Epochs, Topic::Keys];
    let mut raw = house.raw();
    let mut cursor = begin(&mut raw, &topics);
    let mut admins = house.admin_raw();
    revoke_ids(&mut admins, "t2", &["theirs".to_owned()]);
    admin(&house, AdminOp::BumpEpoch { tenant: "t2", reason: "a test" });
    house.activate(THEIRS).unwrap();
    let (nothing, after) = told(watch(&mut raw, &topics, Some(cursor), 200));
    assert!(nothing.is_empty(), "{nothing:?}");
    cursor = after;
    revoke_ids(&mut admins, "t1", &["mine".to_owned()]);
    assert_eq!(ids(&next(&mut raw, &topics, &mut cursor, 1)), ["mine"]);

    // Waiting for what it may see; then it may see more, then nothing at all.
    let began = Instant::now();
    let waits = ServiceOp::Watch { topics: topics.to_vec(), after: Some(cursor), wait_ms: 60_000 };
    raw.request(waits);
    let both = POLICY.replace("verify_as", "watch_tenants = [\"t2\"]\nverify_as");
    house.write_policy("10-test.toml", &both);
    admin(&house, AdminOp::Reload);
    let Ok(ServiceOk::Watched(Watched::Begin { mut cursor })) = raw.reply().result else {
        panic!("its rights changed")
    };
    revoke_ids(&mut admins, "t2", &["theirs too".to_owned()]);
    assert_eq!(ids(&next(&mut raw, &topics, &mut cursor, 1)), ["theirs too"]);
    raw.request(ServiceOp::Watch { topics: topics.to_vec(), after: Some(cursor), wait_ms: 60_000 });
    house.write_policy("10-test.toml", &both.replace(", \"watch\"]", "]"));
    admin(&house, AdminOp::Reload);
    assert_eq!(raw.reply().result.unwrap_err().code, Code::OpDenied);
    assert_eq!(watch(&mut raw, &topics, None, 0).unwrap_err().code, Code::OpDenied);
    let revocations = raw.ask(ServiceOp::Revocations { after: None });
    assert_eq!(revocations.unwrap_err().code, Code::OpDenied);
    assert!(began.elapsed().as_secs() < 30, "it waited for its time to be over");
    // Nobody waits for the record of a refusal.
    eventually("the refusal is on record", Duration::from_secs(10), || {
        let ledger = std::fs::read_to_string(house.ledger().join("00000000000000000001.jsonl")).unwrap();
        let refused = |line: &str| line.contains("request_refused") && line.contains("\"watch\"");
        ledger.lines().any(refused).then_some(())
    });
}
