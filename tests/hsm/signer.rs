//! The signer, over its socket.

use passportd::passport::jws::{compact, signing_input};
use passportd::passport::{Jws, Kid, Room};

use super::*;

#[test]
fn what_is_signed_verifies_under_the_key_that_the_payload_names() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, welcome) = Link::open(&process);
    let name = if hsm.hsm() == Hsm::SoftHsm { "2.6" } else { "Kryoptic" };
    assert!(welcome.module.contains(name) && welcome.token.starts_with(LABEL) && welcome.sessions == 2, "{welcome:?}");
    let keys = link.keys();
    assert!(keys.iter().all(|key| key.usable), "{keys:?}");
    let bytes = payload(V1, |_| {});
    assert!(public(&keys, V1).verify(&bytes, &signature(link.sign(&bytes))));

    for kid in [V1, AUDIT] {
        match link.ask(LinkOp::Probe { kid }) {
            LinkResult::Probed { challenge, sig } => {
                assert!(public(&keys, kid).verify(&[PROBE_PREFIX, &challenge].concat(), &sig));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(link.ask(LinkOp::Probe { kid: SEAL }), LinkResult::Refused(LinkRefusal::PurposeDenied));
    assert_eq!(link.ask(LinkOp::Probe { kid: V2 }), LinkResult::Refused(LinkRefusal::UnknownKid));
    let stats = link.stats();
    assert!(stats.signatures == 3 && stats.refused == 2 && stats.rss_kib > 1000 && stats.cpu_us > 0, "{stats:?}");
}

#[test]
fn the_jws_input_of_a_payload_is_signed_and_makes_a_passport() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let key = public(&link.keys(), V1);
    let (bytes, kid) = (payload(V1, |_| {}), V1.parse::<Kid>().unwrap());
    let input = signing_input(kid.borrowed(), &bytes);
    let text = compact(input.clone(), &signature(link.sign(input.as_bytes())));
    let mut buffer = Vec::new();
    let opened = Jws::parse(&text).unwrap().open(&mut Room::new(&mut buffer, [&*text])).unwrap();
    assert_eq!((opened.payload, opened.kid), (&*bytes, kid.borrowed()));
    assert!(key.verify(opened.msg, opened.sig));
    // Neither form is good for the other.
    assert!(!key.verify(&bytes, opened.sig));
    assert!(!key.verify(opened.msg, &signature(link.sign(&bytes))));
    for other in [&text, &input.replacen("eyJ", "eyI", 1), &format!("{input}A")] {
        assert_eq!(link.sign(other.as_bytes()), LinkResult::Refused(LinkRefusal::Malformed), "{other}");
    }
}

#[test]
fn the_guard_refuses_over_the_link_too() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let now = Moment::now().unix();
    let spaced = {
        let mut bytes = payload(V1, |_| {});
        bytes.insert(1, b' ');
        bytes
    };
    for (bytes, wanted) in [
        (payload(V1, |claims| claims.iss = "https://other.test".to_owned()), LinkRefusal::ForeignIssuer),
        (payload("ed25519/t2/auth/v1", |_| {}), LinkRefusal::TenantDenied),
        (payload("ed25519/t1/mail/v1", |_| {}), LinkRefusal::PurposeDenied),
        (payload(AUDIT, |_| {}), LinkRefusal::PurposeDenied),
        (payload("ed25519/t1/seal/v1", |_| {}), LinkRefusal::PurposeDenied),
        (payload("ed25519/t1/auth/v7", |_| {}), LinkRefusal::UnknownKid),
        (payload(V1, |claims| claims.exp = claims.iat + 3601), LinkRefusal::LifetimeDenied),
        (
            payload(V1, |claims| {
                claims.iat = now + 300;
                claims.exp = now + 600;
            }),
            LinkRefusal::ClockDenied,
        ),
        (
            payload(V1, |claims| {
                claims.iat = now - 300;
                claims.exp = now + 600;
            }),
            LinkRefusal::ClockDenied,
        ),
        (spaced, LinkRefusal::NotCanonical),
        (b"{}".to_vec(), LinkRefusal::Malformed),
        ([PROBE_PREFIX, &[7; 32]].concat(), LinkRefusal::Malformed),
        (b"eyJhbGciOiJFZERTQSJ9.e30".to_vec(), LinkRefusal::Malformed),
    ] {
        assert_eq!(link.sign(&bytes), LinkResult::Refused(wanted), "{}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(link.stats().signatures, 0);
}

#[test]
fn answers_come_by_id_and_each_once() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let keys = link.keys();
    let key = public(&keys, V1);
    let mut sent = BTreeMap::new();
    for n in 0..150 {
        let bytes = payload(V1, |_| {});
        sent.insert(link.send(LinkOp::Sign { payload: &bytes }), Some(bytes));
        if n % 10 == 0 {
            sent.insert(link.send(LinkOp::Sign { payload: b"{" }), None);
        }
    }
    while !sent.is_empty() {
        let reply = link.reply().unwrap();
        match (sent.remove(&reply.id).expect("one answer an id"), reply.result) {
            (Some(bytes), LinkResult::Signed { sig }) => assert!(key.verify(&bytes, &sig)),
            (None, LinkResult::Refused(LinkRefusal::Malformed)) => {}
            (_, other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_flood_beyond_the_queue_is_answered_busy_and_loses_nothing() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let bytes = payload(V1, |_| {});
    let mut flood = Vec::new();
    for id in 0..900 {
        encode_frame(&LinkRequest { id, op: LinkOp::Sign { payload: &bytes } }, &mut flood).unwrap();
    }
    link.socket.write_all(&flood).unwrap();
    let mut seen = BTreeSet::new();
    let mut signed = 0;
    for _ in 0..900 {
        let reply = link.reply().unwrap();
        assert!(seen.insert(reply.id));
        match reply.result {
            LinkResult::Signed { .. } => signed += 1,
            LinkResult::Refused(LinkRefusal::Busy) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!((256..900).contains(&signed), "as many as the queue holds at least, and not all: {signed}");
}

#[test]
fn a_new_key_is_seen_after_reinitialisation_and_nothing_is_lost() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let report = done(&hsm, PlanKind::Generate, "auth");
    assert!(report.keys.iter().any(|key| key.kid == V2 && key.made_now));
    let second = payload(V2, |_| {});
    assert_eq!(link.sign(&second), LinkResult::Refused(LinkRefusal::UnknownKid));

    // Another connection signs all the while.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let (mut other, _) = Link::open(&process);
            let mut signed = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                signature(other.sign(&payload(V1, |_| {})));
                signed += 1;
            }
            signed
        });
        for _ in 0..3 {
            let keys = match link.ask(LinkOp::Reinitialise) {
                LinkResult::Reinitialised(keys) => keys,
                other => panic!("{other:?}"),
            };
            assert!(public(&keys, V2).verify(&second, &signature(link.sign(&second))));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(busy.join().unwrap() > 3);
    });
    let first = payload(V1, |_| {});
    assert!(public(&link.keys(), V1).verify(&first, &signature(link.sign(&first))));
}

#[test]
fn a_key_that_differs_from_its_pin_is_not_used() {
    let Some(hsm) = initialised() else { return };
    // Without another passport key the signer would not start at all: tests/hsm/pins.rs.
    done(&hsm, PlanKind::Generate, "auth");
    let pins = hsm.state_dir().join("keys.json");
    let mut value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&pins).unwrap()).unwrap();
    let other = value["keys"][1]["public"].clone();
    value["keys"][0]["public"] = other;
    std::fs::write(&pins, value.to_string()).unwrap();
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let keys = link.keys();
    assert!(!keys[0].usable && keys[0].problem.contains("public key is not the pinned one"), "{keys:?}");
    assert_eq!(link.sign(&payload(V1, |_| {})), LinkResult::Refused(LinkRefusal::UnknownKid));
}

#[test]
fn each_key_has_its_rate() {
    let Some(hsm) = Token::new(Hsm::chosen()) else { return };
    let process = start(&hsm, "ceremony", &[]).ready();
    let request = Request {
        plan: PlanKind::Init,
        tenant: Some("slow".to_owned()),
        purpose: Some("auth".to_owned()),
        ..Request::default()
    };
    let made = call(UnixStream::connect(&process.socket).unwrap(), &request, PIN.as_bytes()).unwrap();
    assert!(matches!(made, Response::Done(_)));
    let process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let outcomes: Vec<LinkResult> = (0..5).map(|_| link.sign(&payload("ed25519/slow/auth/v1", |_| {}))).collect();
    assert!(matches!(outcomes[..2], [LinkResult::Signed { .. }, LinkResult::Signed { .. }]), "{outcomes:?}");
    assert!(outcomes.contains(&LinkResult::Refused(LinkRefusal::RateLimited)), "{outcomes:?}");
}

#[test]
fn only_the_front_with_the_right_hello_is_served() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    assert!(
        matches!(Link::raw(&process).hello(WIRE_VERSION, "https://other.test"), LinkGreeting::Refused(text) if text.contains("same issuer"))
    );
    assert!(
        matches!(Link::raw(&process).hello(WIRE_VERSION + 1, ISSUER), LinkGreeting::Refused(text) if text.contains("same release"))
    );
    let closed = |bytes: &[u8]| {
        let mut link = Link::raw(&process);
        link.socket.write_all(bytes).unwrap();
        link.frame().is_none()
    };
    assert!(closed(&[0xff; 8]), "a frame of 4 GiB");
    assert!(closed(&[0, 1, 0, 0]), "a frame beyond any request");
    assert!(closed(&[0, 0, 0, 2, 1, 0xff]), "not a hello");
    let (mut link, _) = Link::open(&process);
    link.socket.write_all(&[0, 0, 0, 3, WIRE_VERSION, 1, 200]).unwrap();
    assert!(link.frame().is_none(), "an unknown operation");
    // Silence before the hello is not endured for ever, between frames it is.
    let mut silent = Link::raw(&process);
    let begun = Instant::now();
    assert!(silent.frame().is_none());
    assert!(begun.elapsed() < Duration::from_secs(10));

    let stranger = start(&hsm, "signer", &[("ALLOWED", "12345")]).ready();
    assert!(Link::raw(&stranger).frame().is_none());
}

#[test]
fn a_front_that_does_not_read_is_cut_off_and_harms_nobody() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (stuck, _) = Link::open(&process);
    let mut flood = Vec::new();
    for id in 0..200 {
        encode_frame(&LinkRequest { id, op: LinkOp::Keys }, &mut flood).unwrap();
    }
    let begun = Instant::now();
    stuck.socket.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut writing = &stuck.socket;
    while writing.write_all(&flood).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the signer buffers without end");
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "it had so long to read, and had {:?}", begun.elapsed());
    let (mut link, _) = Link::open(&process);
    signature(link.sign(&payload(V1, |_| {})));
}

#[test]
fn a_killed_signer_starts_again_with_the_same_keys() {
    let Some(hsm) = initialised() else { return };
    let process = signer(&hsm);
    let (mut link, before) = Link::open(&process);
    let keys = link.keys();
    process.signal("-KILL");
    assert!(link.reply().is_none());
    let process = signer(&hsm);
    let (mut link, after) = Link::open(&process);
    assert_ne!(before.boot_id, after.boot_id);
    assert_eq!(link.keys(), keys);
    signature(link.sign(&payload(V1, |_| {})));
}

#[test]
fn sigterm_ends_it_in_order_under_load() {
    let Some(hsm) = initialised() else { return };
    block_termination();
    let mut process = signer(&hsm);
    let (mut link, _) = Link::open(&process);
    let bytes = payload(V1, |_| {});
    for _ in 0..200 {
        link.send(LinkOp::Sign { payload: &bytes });
    }
    process.signal("-TERM");
    assert_eq!(process.heard().as_deref(), Some("ended Asked"));
    assert!(process.child.wait().unwrap().success());
}

#[test]
fn a_store_that_can_only_be_read_still_signs() {
    let Some(hsm) = initialised() else { return };
    let user = if uid() == 0 {
        // Root may write anything, so another user runs the signer.
        let user = (65534, 65534);
        own(hsm.dir(), user);
        Some(user)
    } else {
        None
    };
    read_only(&hsm.store());
    let before = snapshot(&hsm.store());
    {
        let process = start_as(&hsm, "signer", &[], user).ready();
        let (mut link, _) = Link::open(&process);
        let bytes = payload(V1, |_| {});
        assert!(public(&link.keys(), V1).verify(&bytes, &signature(link.sign(&bytes))));
        assert!(matches!(link.ask(LinkOp::Reinitialise), LinkResult::Reinitialised(_)));
        signature(link.sign(&bytes));
    }
    assert_eq!(snapshot(&hsm.store()), before);
    if user.is_none() {
        // So that the directory can be removed.
        for dir in std::fs::read_dir(hsm.store()).unwrap() {
            std::fs::set_permissions(dir.unwrap().path(), PermissionsExt::from_mode(0o700)).unwrap();
        }
        std::fs::set_permissions(hsm.store(), PermissionsExt::from_mode(0o700)).unwrap();
    }
}

fn own(path: &Path, user: (u32, u32)) {
    std::os::unix::fs::chown(path, Some(user.0), Some(user.1)).unwrap();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), user);
        }
    }
}

fn read_only(path: &Path) {
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            read_only(&entry.unwrap().path());
        }
    }
    let mode = if path.is_dir() { 0o500 } else { 0o400 };
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

pub(crate) fn snapshot(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}
