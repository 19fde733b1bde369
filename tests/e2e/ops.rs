//! The happy path of every operation.

use passportd::client::{IssueRequest, Keys, Want};
use passportd::clock::Moment;
use passportd::passport::{Jwk, parse_jwks};
use passportd::wire::{AdminOk, AdminOp, KeySet, ServiceOk, ServiceOp, Verdict, WIRE_VERSION};
use serde_json::Value;

use crate::support::house::FIRST_KEY;
use crate::support::passports::{claims, demo, for_demo, on_wire};
use crate::support::raw::Raw;
use crate::support::{House, Options, ledger};

fn keys(raw: &mut Raw, if_etag: Option<[u8; 32]>) -> Option<KeySet> {
    match raw.ask(ServiceOp::Keys { if_etag }).unwrap() {
        ServiceOk::Keys(set) => Some(set),
        ServiceOk::KeysNotModified { max_age_s: 0 } => None,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_operation_of_the_service_socket() {
    let house = House::start(Options::default());
    let (mut raw, welcome) = Raw::connect(&house.socket()).unwrap().welcomed();
    assert_eq!((welcome.wire, welcome.issuer.as_str()), (WIRE_VERSION, "passportd.test"));
    assert_eq!(
        (welcome.limits.max_msg_bytes, welcome.limits.max_batch, welcome.limits.max_frame),
        (4096, 512, 1 << 20)
    );

    assert_eq!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong));
    let Ok(ServiceOk::Version(version)) = raw.ask(ServiceOp::Version) else { panic!("no version") };
    assert_eq!(version.server, concat!("passportd/", env!("CARGO_PKG_VERSION")));
    assert_eq!((version.wire, version.issuer.as_str()), (WIRE_VERSION, "passportd.test"));

    let Ok(ServiceOk::WhoAmI(me)) = raw.ask(ServiceOp::WhoAmI) else { panic!("nobody") };
    assert_eq!(me.uid, nix::unistd::geteuid().as_raw());
    assert_eq!(me.pid, i32::try_from(std::process::id()).unwrap());
    assert_eq!((me.listener.as_str(), me.rules.as_slice()), ("main", &["tester".to_owned()][..]));
    assert!(me.operations.contains(&"issue".to_owned()) && me.templates == ["demo"] && me.audiences == ["demo"]);

    let Ok(ServiceOk::Health(health)) = raw.ask(ServiceOp::Health) else { panic!("no health") };
    assert!(health.issue_ready && health.verify_ready);
    assert!(health.conditions.iter().all(|one| one.ok && one.detail.is_empty()), "{health:?}");

    let passport = raw.issue(demo("alice")).unwrap();
    house.assert_on_record([&passport.msg[..]]);
    let Ok(Verdict::Accepted(accepted)) = raw.verify(for_demo(), &passport) else { panic!("not accepted") };
    assert_eq!(claims(&passport)["exp"], accepted.exp);

    let op = ServiceOp::Introspect { want: for_demo(), passport: on_wire(&passport) };
    let Ok(ServiceOk::Introspection(seen)) = raw.ask(op) else { panic!("no introspection") };
    assert_eq!((seen.active, seen.reason, seen.claims.as_ref()), (true, None, Some(&passport.msg)));

    let ServiceOk::IssuedBatch(batch) = raw.ask(ServiceOp::IssueBatch(vec![demo("b"), demo("c")])).unwrap() else {
        panic!("no batch")
    };
    let batch: Vec<_> = batch.into_iter().map(|one| crate::support::passports::owned(one.unwrap())).collect();
    assert_eq!(batch.iter().map(|one| claims(one)["sub"].clone()).collect::<Vec<_>>(), ["b", "c"]);
    house.assert_on_record(batch.iter().map(|one| &one.msg[..]));
    let verdicts = raw.verify_batch(for_demo(), &batch).unwrap();
    assert!(verdicts.len() == 2 && verdicts.iter().all(|one| matches!(one, Verdict::Accepted(_))));
    assert_eq!(raw.verify_batch(for_demo(), &[]), Ok(Vec::new()));
}

#[test]
fn the_key_set_its_etag_and_another_implementation() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let set = keys(&mut raw, None).unwrap();
    assert_eq!(set.etag, *blake3::hash(&set.jwks).as_bytes());
    assert_eq!(keys(&mut raw, Some(set.etag)), None);
    assert_eq!(keys(&mut raw, Some([7; 32])), Some(set.clone()), "another etag gets the set");
    assert_eq!(house.metric("passport_jwks_cache_hits_total"), 1.0);

    let parsed = parse_jwks(&set.jwks).unwrap();
    let [Jwk { kid, public, current: Some(true), created: Some(created) }] = &parsed[..] else { panic!("{parsed:?}") };
    assert_eq!(kid.to_string(), FIRST_KEY);
    assert!((0..600).contains(&(Moment::now().unix() - created)), "made {created}");
    let theirs: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&set.jwks).unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(theirs.find(FIRST_KEY).unwrap()).unwrap();
    assert_eq!(key.as_bytes(), public, "jsonwebtoken reads the same 32 bytes");
    let json: Value = serde_json::from_slice(&set.jwks).unwrap();
    assert!(json["keys"][0].get("alg").is_none() && json["keys"][0]["use"] == "sig");

    // What the daemon issues verifies with nothing but the set.
    let passport = raw.issue(demo("alice")).unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(public).unwrap();
    let sig = ed25519_dalek::Signature::from_slice(&passport.sig).unwrap();
    key.verify_strict(&passport.msg, &sig).unwrap();
}

#[test]
fn every_operation_of_the_admin_socket() {
    let house = House::start(Options::default());
    let mut admin = house.admin_raw();
    let Ok(AdminOk::WhoAmI(me)) = admin.admin(AdminOp::WhoAmI) else { panic!("nobody") };
    assert_eq!(me.listener, "admin");
    let Ok(AdminOk::Health(health)) = admin.admin(AdminOp::Health) else { panic!("no health") };
    assert!(health.issue_ready);

    let next = "ed25519/t1/auth/v2";
    assert!(
        house
            .ceremony(passportd::wire::ceremony::PlanKind::Generate, "t1", "auth")
            .keys
            .iter()
            .any(|key| key.kid == next)
    );
    let Ok(AdminOk::Staged { kid, public }) = admin.admin(AdminOp::Stage { kid: next }) else { panic!("not staged") };
    assert_eq!(kid, next);
    let mut raw = house.raw();
    let both = parse_jwks(&keys(&mut raw, None).unwrap().jwks).unwrap();
    assert_eq!(both.len(), 2, "the key set has the staged key too, before it signs");
    assert!(both.iter().any(|key| key.kid.to_string() == next && key.public == public));
    let current = |raw: &mut Raw| {
        let keys = parse_jwks(&keys(raw, None).unwrap().jwks).unwrap();
        keys.iter().filter(|key| key.signs()).map(|key| key.kid.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(current(&mut raw), [FIRST_KEY]);
    let old = raw.issue(demo("before")).unwrap();
    assert_eq!(old.kid, FIRST_KEY, "a staged key does not sign");
    let activated = admin.admin(AdminOp::Activate { kid: next });
    assert_eq!(activated, Ok(AdminOk::Activated { kid: next.to_owned(), retired: Some(FIRST_KEY.to_owned()) }));
    assert_eq!(current(&mut raw), [next], "the set says which key signs now");
    let new = raw.issue(demo("after")).unwrap();
    assert_eq!(new.kid, next);
    for passport in [&old, &new] {
        assert!(matches!(raw.verify(for_demo(), passport), Ok(Verdict::Accepted(_))), "{}", passport.kid);
    }

    assert_eq!(admin.admin(AdminOp::PauseIssue { reason: "a test" }), Ok(AdminOk::Done));
    assert_eq!(admin.admin(AdminOp::ResumeIssue), Ok(AdminOk::Done));
    assert_eq!(admin.admin(AdminOp::Drain), Ok(AdminOk::Done));
    assert_eq!(admin.admin(AdminOp::Undrain), Ok(AdminOk::Done));
    let Ok(AdminOk::Reloaded { old_policy, new_policy, changed, needs_restart }) = admin.admin(AdminOp::Reload) else {
        panic!("not reloaded")
    };
    assert_eq!((old_policy, changed.len(), needs_restart.len()), (new_policy, 0, 0));

    let events: Vec<_> = ledger::records(&house.ledger()).iter().map(|one| one["event"].clone()).collect();
    let after = |first: &str, then: &str| {
        let first = events.iter().rposition(|event| event == first).expect(first);
        assert!(events[first..].iter().any(|event| event == then), "{then} after {first}: {events:?}");
    };
    after("key_staged", "key_activated");
    after("key_activated", "key_retired");
    after("issue_paused", "issue_resumed");
    after("drained", "undrained");
    after("undrained", "policy_reloaded");
    house.assert_on_record([&old.msg[..], &new.msg[..]]);
}

#[test]
fn status_and_attest_have_their_fields() {
    let house = House::start(Options::default());
    let mut admin = house.admin_raw();
    let Ok(AdminOk::Status(text)) = admin.admin(AdminOp::Status) else { panic!("no status") };
    let status: Value = serde_json::from_str(&text).unwrap();
    for (pointer, value) in [
        ("/issuer", Value::from("passportd.test")),
        ("/mode", "hsm".into()),
        ("/phase", "serving".into()),
        ("/issue_paused", Value::Null),
        ("/health/issue_ready", true.into()),
        ("/signer/up", true.into()),
        ("/signer/sessions", 2.into()),
        ("/signer/stuck", 0.into()),
        ("/audit/healthy", true.into()),
        ("/audit/journald", false.into()),
        ("/policy/templates", 1.into()),
        ("/keys/0/kid", FIRST_KEY.into()),
        ("/keys/0/state", "active".into()),
        ("/processes/front/pid", house.pid("front").into()),
        ("/sandbox/no_new_privs", true.into()),
        ("/sandbox/dumpable", false.into()),
    ] {
        assert_eq!(status.pointer(pointer), Some(&value), "{pointer} in {text}");
    }
    assert!(status.pointer("/signer/signatures").is_some_and(|count| count.as_u64() > Some(0)), "{text}");
    assert!(status.pointer("/processes/signer/rss_kib").is_some_and(|size| size.as_u64() > Some(0)), "{text}");

    let Ok(AdminOk::Attest(text)) = admin.admin(AdminOp::Attest) else { panic!("no statement") };
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&said["type"], &said["signed"]), (&"passportd/attestation/v1".into(), &false.into()));
    for (ours, theirs) in [("/policy_hash", "/policy/hash"), ("/config_hash", "/config/hash"), ("/keys", "/keys")] {
        assert_eq!(said.pointer(ours).unwrap(), status.pointer(theirs).unwrap(), "{ours}");
    }
    let etag = keys(&mut house.raw(), None).unwrap().etag;
    assert_eq!(said["jwks_etag"], blake3::Hash::from_bytes(etag).to_hex().as_str());
    let head = ledger::records(&house.ledger()).pop().unwrap();
    assert_eq!((&said["audit_head"]["seq"], &said["audit_head"]["hash"]), (&head["seq"], &head["hash"]));
    assert_eq!(head["event"], "attested", "who was given the statement is on record before it is given");
}

#[tokio::test]
async fn the_library_client_does_all_of_it() {
    let house = House::start(Options::default());
    let client = house.client().await;
    client.ping().await.unwrap();
    assert_eq!(client.version().await.unwrap().issuer, "passportd.test");
    assert_eq!(client.whoami().await.unwrap().rules, ["tester"]);
    assert!(client.health().await.unwrap().issue_ready);
    let wish = |sub: &str| IssueRequest { template: "demo".into(), sub: sub.into(), ..IssueRequest::default() };
    let want = Want { aud: Some("demo".into()), scopes: vec!["read".into()], ..Want::default() };
    let passport = client.issue(&wish("alice")).await.unwrap().into_envelope().unwrap();
    assert!(matches!(client.verify(&passport, &want).await.unwrap(), Verdict::Accepted(_)));
    assert!(client.introspect(&passport, &want).await.unwrap().active);
    let Keys::Set(set) = client.keys(None).await.unwrap() else { panic!("no set") };
    assert_eq!(client.keys(Some(set.etag)).await.unwrap(), Keys::NotModified { max_age_s: 0 });
    // More than one frame holds: the client splits by items.
    let wishes: Vec<_> = (0..600).map(|n| wish(&format!("u{n}"))).collect();
    let issued = client.issue_batch(&wishes).await.unwrap().into_iter().map(Result::unwrap);
    let batch: Vec<_> = issued.map(|one| one.into_envelope().unwrap()).collect();
    let verdicts = client.verify_batch(&batch, &want).await.unwrap();
    assert!(verdicts.len() == 600 && verdicts.iter().all(|one| matches!(one, Verdict::Accepted(_))));
    house.assert_on_record(batch.iter().chain([&passport]).map(|one| &one.msg[..]));
    // And by bytes: neither the requests nor the replies of these fit one frame.
    let ctx = serde_json::Map::from_iter([("fill".to_owned(), "x".repeat(3600).into())]);
    let wishes = vec![IssueRequest { ctx: Some(ctx), ..wish("large") }; 300];
    let large: Vec<_> = client.issue_batch(&wishes).await.unwrap().into_iter().map(Result::unwrap).collect();
    assert!(large.len() == 300 && large.iter().map(|one| one.payload().len()).sum::<usize>() > 1 << 20);
    let verdicts = client.verify_batch(&large, &want).await.unwrap();
    assert!(verdicts.len() == 300 && verdicts.iter().all(|one| matches!(one, Verdict::Accepted(_))));
    assert!(matches!(house.admin().await.ask(AdminOp::Health).await, Ok(AdminOk::Health(_))));
}
