//! The stream of bytes: pipelining, torn and broken frames, and what each of them costs the one who sent it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use passportd::wire::{
    Code, Greeting, HEADER, Hello, MAX_FRAME, Reply, ServiceOk, ServiceOp, Verdict, decode, encode_frame,
};

use crate::support::passports::{demo, for_demo, on_wire, owned};
use crate::support::raw::{Raw, frame, hello, request};
use crate::support::{House, Options, rounds};

/// The problem's code of a reply that must be one.
fn code(reply: &Reply) -> Code {
    reply.result.as_ref().expect_err("a problem").code
}

#[test]
fn the_stream_may_be_cut_at_every_byte() {
    let house = House::start(Options::default());
    let passport = house.raw().issue(demo("alice")).unwrap();
    let mut bytes = hello();
    bytes.extend(request(1, ServiceOp::Ping));
    bytes.extend(request(2, ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) }));
    bytes.extend(request(3, ServiceOp::Issue(demo("x"))));
    for cut in 0..=bytes.len() {
        let mut raw = Raw::connect(&house.socket()).unwrap();
        raw.send(&bytes[..cut]).unwrap();
        // Long enough for the daemon to read what is there, so that the rest comes in another read.
        std::thread::sleep(Duration::from_micros(300));
        raw.send(&bytes[cut..]).unwrap();
        assert!(matches!(decode(&raw.body().unwrap().unwrap()), Ok(Greeting::Welcome(_))), "cut at {cut}");
        let replies: BTreeMap<_, _> = (0..3).map(|_| raw.reply()).map(|reply| (reply.id, reply.result)).collect();
        assert_eq!(replies[&1], Ok(ServiceOk::Pong), "cut at {cut}");
        assert!(matches!(replies[&2], Ok(ServiceOk::Verdict(Verdict::Accepted(_)))), "cut at {cut}");
        assert!(matches!(replies[&3], Ok(ServiceOk::Issued(_))), "cut at {cut}");
    }
}

#[test]
fn a_byte_at_a_time() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    for byte in request(9, ServiceOp::Ping) {
        raw.send(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(raw.reply(), Reply { id: 9, result: Ok(ServiceOk::Pong) });
}

#[test]
fn pipelined_requests_are_answered_by_id_and_out_of_order() {
    let house = House::start(Options::default());
    let mut overtaken = 0;
    for round in 0..rounds(5) {
        let mut raw = house.raw();
        let ids: Vec<u64> = (0..100).map(|n| n * 7 + u64::from(round)).collect();
        let bytes: Vec<u8> = ids
            .iter()
            .flat_map(|id| request(*id, if id % 2 == 0 { ServiceOp::Issue(demo("a")) } else { ServiceOp::Ping }))
            .collect();
        raw.send(&bytes).unwrap();
        let replies: Vec<Reply> = ids.iter().map(|_| raw.reply()).collect();
        let order: Vec<u64> = replies.iter().map(|reply| reply.id).collect();
        assert_eq!(order.iter().collect::<BTreeSet<_>>(), ids.iter().collect(), "each id once");
        for reply in &replies {
            match &reply.result {
                Ok(ServiceOk::Pong) => assert_eq!(reply.id % 2, 1),
                Ok(ServiceOk::Issued(_)) => assert_eq!(reply.id % 2, 0),
                other => panic!("{}: {other:?}", reply.id),
            }
        }
        overtaken += u32::from(order != ids);
    }
    assert!(overtaken > 0, "a Ping behind an Issue does not wait for the HSM");
}

#[test]
fn equal_ids_are_the_clients_affair_and_the_largest_is_one_too() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    raw.send(&[request(5, ServiceOp::Ping), request(5, ServiceOp::Ping), request(u64::MAX, ServiceOp::Ping)].concat())
        .unwrap();
    let ids: Vec<_> = (0..3).map(|_| raw.reply().id).collect();
    assert_eq!(ids, [5, 5, u64::MAX]);
}

/// Bodies that can't be read, the code that says so, and the id that is still legible.
fn broken() -> Vec<(&'static str, Vec<u8>, Code, u64)> {
    let ping = request(77, ServiceOp::Ping)[HEADER..].to_vec();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut body = ping.clone();
        change(&mut body);
        body
    };
    vec![
        ("no body at all", Vec::new(), Code::Malformed, 0),
        ("another version", with(&|body| body[0] = 2), Code::UnsupportedVersion, 0),
        ("version zero", with(&|body| body[0] = 0), Code::UnsupportedVersion, 0),
        ("only a version", vec![1], Code::Malformed, 0),
        ("a torn body", with(&|body| body.truncate(9)), Code::Malformed, 77),
        ("a trailing byte", with(&|body| body.push(0)), Code::Malformed, 77),
        ("an unknown operation", with(&|body| *body.last_mut().unwrap() = 60), Code::Malformed, 77),
        ("an overlong id", [&[1, 0xfb, 77, 0][..], &ping[2..]].concat(), Code::Malformed, 77),
        ("an announced megabyte", [&ping[..18], &[4, 0xfd, 0, 0, 16, 0, 0, 0, 0, 0]].concat(), Code::Malformed, 77),
        ("an announced 2^63", [&ping[..18], &[5, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0x80]].concat(), Code::Malformed, 77),
        ("not UTF-8", [&ping[..18], &[4, 1, 0xff, 0, 0, 0, 0, 0, 0, 0]].concat(), Code::Malformed, 77),
    ]
}

#[test]
fn a_body_that_cant_be_read_is_answered_and_the_connection_lives_on() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    for (name, body, expected, id) in broken() {
        raw.send(&frame(&body)).unwrap();
        let reply = raw.reply();
        assert_eq!(code(&reply), expected, "{name}");
        if expected == Code::Malformed {
            assert_eq!(reply.id, id, "{name}");
        }
        assert!(!reply.result.unwrap_err().retryable, "{name}");
        assert_eq!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong), "after {name}");
    }
    // The same on the admin socket.
    let mut admin = house.admin_raw();
    admin.send(&frame(&[1, 7, 0])).unwrap();
    let reply: passportd::wire::AdminReply = decode(&admin.body().unwrap().unwrap()).unwrap();
    assert_eq!((reply.id, reply.result.unwrap_err().code), (7, Code::Malformed));
    admin.admin(passportd::wire::AdminOp::WhoAmI).unwrap();
}

#[test]
fn a_frame_over_the_limit_closes_the_connection_and_one_at_the_limit_does_not() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    raw.send(&frame(&vec![1; MAX_FRAME])).unwrap();
    assert_eq!(code(&raw.reply()), Code::Malformed);
    assert_eq!(raw.ask(ServiceOp::Ping), Ok(ServiceOk::Pong));
    for length in [u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
        let mut raw = house.raw();
        raw.send(&length.to_be_bytes()).unwrap();
        assert!(raw.closed(), "{length}");
    }
    assert_eq!(house.ask(ServiceOp::Ping), Ok(ServiceOk::Pong), "others notice nothing");
}

#[test]
fn a_peer_that_leaves_in_mid_frame_harms_nobody() {
    let house = House::start(Options::default());
    let issue = request(1, ServiceOp::Issue(demo("gone")));
    for round in 0..rounds(20) {
        let mut raw = house.raw();
        let cut = usize::try_from(round).unwrap() % issue.len();
        raw.send(&issue[..cut]).unwrap();
        drop(raw);
        // And one that does not wait for its answer.
        house.raw().send(&issue).unwrap();
    }
    // What they asked for is finished all the same, and until then there may be no place.
    let still = || house.raw().issue(demo("still")).ok();
    crate::support::eventually("what they left is done", Duration::from_secs(10), still);
    crate::support::eventually("all have left", Duration::from_secs(10), || {
        (house.metric("passport_connections{socket=\"service\"}") == 0.0).then_some(())
    });
    house.assert_on_record([]);
}

#[test]
fn a_greeting_comes_first_and_has_its_limits() {
    let house = House::start(Options::default());
    let greet = |wire: u8, client: &str| {
        let mut hello = Vec::new();
        encode_frame(&Hello { wire, client }, &mut hello).unwrap();
        let mut raw = Raw::connect(&house.socket()).unwrap();
        raw.send(&hello).unwrap();
        let greeting: Greeting = decode(&raw.body().unwrap().unwrap()).unwrap();
        (greeting, raw)
    };
    // A client that speaks more than we do is told what we speak.
    assert!(matches!(greet(9, "new").0, Greeting::Welcome(welcome) if welcome.wire == 1));
    for (wire, client, expected) in [(0, "old", Code::UnsupportedVersion), (1, &*"x".repeat(65), Code::Malformed)] {
        let (greeting, mut raw) = greet(wire, client);
        assert!(matches!(greeting, Greeting::Refused(problem) if problem.code == expected));
        assert!(raw.closed());
    }
    let mut rude = Raw::connect(&house.socket()).unwrap();
    rude.send(&request(1, ServiceOp::Ping)).unwrap();
    let greeting: Greeting = decode(&rude.body().unwrap().unwrap()).unwrap();
    assert!(matches!(greeting, Greeting::Refused(problem) if problem.code == Code::Malformed));
    assert!(rude.closed());
}

#[test]
fn who_does_not_finish_a_frame_in_time_is_cut_off_and_so_is_who_says_nothing() {
    let options = Options::default().set("limits.read_timeout_ms", 300).set("limits.idle_timeout_s", 1);
    let house = House::start(options);
    let timed = |mut raw: Raw| {
        let begun = Instant::now();
        assert!(raw.closed());
        begun.elapsed()
    };
    let silent = timed(Raw::connect(&house.socket()).unwrap());
    assert!(silent < Duration::from_millis(900), "no greeting: {silent:?}");
    let mut torn = house.raw();
    torn.send(&request(1, ServiceOp::Ping)[..10]).unwrap();
    let torn = timed(torn);
    assert!(torn < Duration::from_millis(900), "a torn frame: {torn:?}");
    let idle = timed(house.raw());
    assert!(idle > Duration::from_millis(900), "idle: {idle:?}");
    // A drip of bytes does not stretch the time.
    let mut drip = house.raw();
    let begun = Instant::now();
    let dripped = request(1, ServiceOp::Issue(demo(&"d".repeat(200)))).into_iter().take_while(|byte| {
        std::thread::sleep(Duration::from_millis(20));
        drip.send(&[*byte]).is_ok()
    });
    assert!(dripped.count() < 100 && begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_batch_answers_as_its_items_do_alone() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let good = raw.issue(demo("good")).unwrap();
    let mut items = Vec::new();
    for n in 0..40_usize {
        let mut one = good.clone();
        match n % 8 {
            0 => one.sig[n] ^= 1,
            1 => one.msg[n] ^= 1,
            2 => one.alg = "none".to_owned(),
            3 => one.kid = "ed25519/t1/auth/v9".to_owned(),
            4 => one.sig.truncate(63),
            5 => one.msg.push(b' '),
            _ => {}
        }
        items.push(one);
    }
    let alone: Vec<_> = items.iter().map(|one| raw.verify(for_demo(), one).unwrap()).collect();
    let kinds: BTreeSet<_> = alone.iter().map(|verdict| format!("{verdict:?}")).collect();
    assert!(kinds.len() >= 6, "good and bad for many reasons: {kinds:?}");
    for round in 0..rounds(5) {
        let shift = usize::try_from(round).unwrap() * 3 % 40;
        let rotated = |list: &[_]| [&list[shift..], &list[..shift]].concat();
        assert_eq!(raw.verify_batch(for_demo(), &rotated(&items)).unwrap(), {
            let mut alone = alone.clone();
            alone.rotate_left(shift);
            alone
        });
    }
    // Issuing: each its own answer, whatever its neighbours ask for.
    let wishes = vec![demo("a"), passportd::wire::IssueSpec { template: "none", ..demo("b") }, demo(""), demo("d")];
    let ServiceOk::IssuedBatch(answers) = raw.ask(ServiceOp::IssueBatch(wishes.clone())).unwrap() else { panic!() };
    for (wish, answer) in wishes.into_iter().zip(answers) {
        match (raw.issue(wish), answer) {
            (Ok(one), Ok(of_batch)) => assert_eq!(one.kid, owned(of_batch).kid),
            (one, of_batch) => assert_eq!(one.unwrap_err(), of_batch.unwrap_err()),
        }
    }
}
