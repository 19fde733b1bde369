//! What holds as long as both processes live, and what is left when one of them ends.

use std::collections::BTreeSet;

use passportd::wire::link::{LinkAmnesia, LinkFront, LinkGreeting, LinkHello, LinkOp, LinkRequest};
use passportd::wire::{
    AdminOp, Code, Cursor, Plain, ServiceOk, ServiceOp, Topic, Verdict, WIRE_VERSION, Watched, What, decode,
    encode_frame,
};

use super::{PATIENCE, few, house, issue_again, options, published, refusal, revoke, status, version};
use crate::support::ledger::jti;
use crate::support::passports::{demo, for_demo};
use crate::support::raw::Raw;
use crate::support::{eventually, people};

/// What became of keys since `begin`: kid and state.
fn keys_told(raw: &mut Raw, after: Cursor) -> BTreeSet<(String, String)> {
    match raw.ask(ServiceOp::Watch { topics: vec![Topic::Keys], after: Some(after), wait_ms: 5_000 }).unwrap() {
        ServiceOk::Watched(Watched::Events { events, .. }) => events
            .into_iter()
            .map(|event| match event.what {
                What::Key { kid, state, .. } => (kid, state),
                other => panic!("{other:?}"),
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn unseal(raw: &mut Raw, blob: &[u8]) -> Result<Vec<u8>, Code> {
    match raw.ask(ServiceOp::Unseal { namespace: "t1/app", name: "db", blob }) {
        Ok(ServiceOk::Unsealed { plain }) => Ok(plain.0.to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(problem) => Err(problem.code),
    }
}

fn seal(raw: &mut Raw, plain: &[u8]) -> Vec<u8> {
    match raw.ask(ServiceOp::Seal { namespace: "t1/app", name: "db", plain: Plain(plain) }).unwrap() {
        ServiceOk::Sealed { blob } => blob,
        other => panic!("{other:?}"),
    }
}

/// The laws of use, revocation and epochs, from memory.
#[test]
fn the_laws_hold_from_memory_and_the_status_says_so() {
    let house = house(options());
    let said = status(&house);
    assert_eq!(
        (said["mode"].as_str(), said["durable"].as_str()),
        (Some("amnesia"), Some("for the life of the processes"))
    );
    assert_eq!(said["sandbox"]["amnesia"], true);
    assert_eq!(house.metric("passport_mode{mode=\"amnesia\"}"), 1.0);
    assert_eq!(house.metric("passport_mode{mode=\"hsm\"}"), 0.0);
    let mut raw = house.raw();
    let [kept, revoked, spent] = [demo("alice"), demo("alice"), few("alice", 2)].map(|spec| raw.issue(spec).unwrap());
    let age = said["started"].as_u64().unwrap().abs_diff(version(&kept.kid));
    assert!(age < 60, "the version is the time: {}", kept.kid);
    assert_eq!(refusal(&mut raw, &kept), None);
    assert_eq!(refusal(&mut raw, &revoked), None);
    revoke(&house, &jti(&revoked.msg));
    assert_eq!(refusal(&mut raw, &revoked), Some(Code::Revoked));
    let uses: Vec<_> = (0..3).map(|_| refusal(&mut raw, &spent)).collect();
    assert_eq!(uses[..2], [None, None]);
    assert!(uses[2].is_some(), "a third use");
    let blob = seal(&mut raw, b"secret");
    assert_eq!(unseal(&mut raw, &blob).as_deref(), Ok(&b"secret"[..]));
    house.admin_raw().admin(AdminOp::BumpEpoch { tenant: "t1", reason: "test" }).unwrap();
    assert_eq!(refusal(&mut raw, &kept), Some(Code::Revoked));
    // There is no key to stage.
    let refused = house.admin_raw().admin(AdminOp::Stage { kid: "ed25519/t1/auth/v1" }).unwrap_err();
    assert!(refused.code == Code::OpDenied && refused.message.contains("amnesia"), "{refused:?}");
    assert_eq!(std::fs::read_dir(house.ledger()).unwrap().count(), 0, "there is no ledger");
    assert_eq!(std::fs::read_dir(house.dir().join("front")).unwrap().count(), 0, "there is no state");
}

/// The signer's end is a change of keys: the new one signs, everybody is told, and what the old one signed stays as good, or as
/// bad, as it was.
#[test]
fn another_signer_has_other_keys_and_the_front_forgets_nothing() {
    let mut house = house(options());
    let mut raw = house.raw();
    let [kept, revoked, spent] = [demo("alice"), demo("alice"), few("alice", 2)].map(|spec| raw.issue(spec).unwrap());
    revoke(&house, &jti(&revoked.msg));
    assert_eq!(refusal(&mut raw, &spent), None);
    let blob = seal(&mut raw, b"secret");
    let before = published(&mut raw);
    assert_eq!(before.len(), 2, "one for each purpose: {before:?}");
    let Ok(ServiceOk::Watched(Watched::Begin { cursor })) =
        raw.ask(ServiceOp::Watch { topics: vec![Topic::Keys], after: None, wait_ms: 0 })
    else {
        panic!("no beginning")
    };

    house.kill("signer");
    let fresh = issue_again(&house, "bob");
    assert!(version(&fresh.kid) > version(&kept.kid), "{} after {}", fresh.kid, kept.kid);
    assert_eq!(refusal(&mut raw, &fresh), None);
    let told = keys_told(&mut raw, cursor);
    assert!(told.contains(&(fresh.kid.clone(), "active".to_owned())), "{told:?}");
    assert!(told.contains(&(kept.kid.clone(), "retired".to_owned())), "{told:?}");
    let after = published(&mut raw);
    assert!(after.is_superset(&before) && after.len() == 4, "{after:?}");
    assert_eq!(refusal(&mut raw, &kept), None, "the old key verifies");
    assert_eq!(refusal(&mut raw, &revoked), Some(Code::Revoked));
    assert_eq!(refusal(&mut raw, &spent), None, "the second of its two uses");
    assert!(refusal(&mut raw, &spent).is_some());
    assert!(unseal(&mut raw, &blob).is_err(), "its key is gone");
    let blob = seal(&mut raw, b"another");
    assert_eq!(unseal(&mut raw, &blob).as_deref(), Ok(&b"another"[..]));
    house.wait_ready();
    assert!(house.log().contains("has made new keys"));
}

/// A front that starts afresh has forgotten what was revoked and used up, so it accepts nothing of before.
#[test]
fn another_front_accepts_nothing_of_before() {
    let mut house = house(options());
    let mut raw = house.raw();
    let [kept, revoked, spent] = [demo("alice"), demo("alice"), few("alice", 1)].map(|spec| raw.issue(spec).unwrap());
    revoke(&house, &jti(&revoked.msg));
    assert_eq!(refusal(&mut raw, &spent), None);
    let signer = house.pid("signer");

    house.kill("front");
    let fresh = eventually("another front issues", PATIENCE, || {
        Raw::connect(&house.socket()).ok()?.welcomed().0.issue(demo("bob")).ok()
    });
    assert_eq!(house.pid("signer"), signer, "the signer lives on, and has made other keys");
    assert!(version(&fresh.kid) > version(&kept.kid));
    let mut raw = house.raw();
    for (old, what) in [(&kept, "good"), (&revoked, "revoked"), (&spent, "used up")] {
        assert_eq!(refusal(&mut raw, old), Some(Code::UnknownKid), "one that was {what}");
    }
    assert_eq!(refusal(&mut raw, &fresh), None);
    let kids = published(&mut raw);
    assert!(kids.contains(&fresh.kid) && !kids.contains(&kept.kid), "{kids:?}");
    assert!(house.log().contains("another front has come"));
}

/// Two fronts never have the same keys, and neither is left without.
#[test]
fn a_front_whose_place_was_taken_gets_new_keys() {
    let house = house(options());
    let first = house.raw().issue(demo("alice")).unwrap();
    let mut other = match house.front_ids() {
        Some((uid, gid)) => Raw::over(people::connect_as(&house.dir().join("signer.sock"), uid, gid, &[])),
        None => Raw::connect(&house.dir().join("signer.sock")),
    }
    .unwrap();
    let (mut hello, mut ask) = (Vec::new(), Vec::new());
    let usual = LinkHello { wire: WIRE_VERSION, issuer: "passportd.test" };
    let front = LinkFront { id: 77, newest: 0 };
    encode_frame(&LinkAmnesia { hello: usual, front }, &mut hello).unwrap();
    encode_frame(&LinkRequest { id: 1, op: LinkOp::Keys }, &mut ask).unwrap();
    other.send(&hello).unwrap();
    let greeting = other.body().unwrap().unwrap();
    assert!(matches!(decode(&greeting).unwrap(), LinkGreeting::Welcome(_)));
    // A request of the first one's now finds the door closed; it comes again, and is another front for the signer.
    let fresh = eventually("the new key signs", PATIENCE, || {
        house.raw().issue(demo("bob")).ok().filter(|fresh| version(&fresh.kid) > version(&first.kid))
    });
    assert!(version(&fresh.kid) >= version(&first.kid) + 2, "the other's keys came between: {}", fresh.kid);
    assert!(matches!(house.raw().verify(for_demo(), &first).unwrap(), Verdict::Accepted(_)));
    other.send(&ask).unwrap();
    assert!(other.closed(), "it is not told of keys that are not its own");
}
