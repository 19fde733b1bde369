//! Bytes that no client sends.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use passportd::wire::{Code, IssueSpec, MAX_FRAME, Reply, ServiceOk, ServiceOp, WIRE_VERSION, decode, peek_id};

use super::proc;
use super::support::passports::{demo, for_demo, on_wire};
use super::support::raw::{Raw, frame, hello, request};
use super::support::{House, Options, eventually, people, process, rounds};

/// Numbers that look random and can be had again from their seed (xorshift64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..=self.next() % most).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

/// A body: wire version, id 5, no correlation id, and then `op`.
fn body(op: &[u8]) -> Vec<u8> {
    [&[WIRE_VERSION, 5][..], &[0; 16], op].concat()
}

/// Operations that are none, each with what is wrong with it.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let long = [253, 255, 255, 255, 255, 255, 255, 255, 127];
    let wide = [254, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    vec![
        ("an unknown operation", body(&[200])),
        ("an unknown operation with a long tag", body(&[252, 255, 255, 255, 255])),
        ("no operation", body(&[])),
        ("trailing bytes", body(&[0, 0])),
        ("an overlong tag", body(&[251, 0, 0])),
        ("a number wider than its type", body(&[&[4][..], &wide].concat())),
        ("a batch of 2^62 items to issue", body(&[&[5][..], &long].concat())),
        ("a batch of 2^62 items to verify", body(&[&[7, 0, 0][..], &long].concat())),
        ("a template's name of 2^62 bytes", body(&[&[4][..], &long].concat())),
        ("text that is not UTF-8", body(&[4, 1, 255, 0, 0, 0, 0, 0, 0, 0])),
        ("an option that is neither none nor some", body(&[9, 2])),
        ("an unknown form of passport", body(&[6, 0, 0, 9])),
        ("a million empty items to issue", body(&[&[5, 252, 0, 0, 15, 0][..], &vec![0; 1_040_000]].concat())),
        ("a million empty scopes", body(&[&[6, 0, 252, 0, 0, 15, 0][..], &vec![0; 1_040_000]].concat())),
    ]
}

#[test]
fn bombs_are_refused_with_their_id_and_the_connection_lives_on() {
    let house = House::start(Options::default().without_keys());
    let front = house.pid("front");
    let mut raw = house.raw();
    for (what, body) in bombs() {
        let begun = Instant::now();
        raw.send(&frame(&body)).unwrap();
        let reply = raw.reply();
        let code = reply.result.expect_err(what).code;
        assert_eq!((reply.id, code), (5, Code::Malformed), "{what}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{what} took {:?}", begun.elapsed());
        assert!(raw.ask(ServiceOp::WhoAmI).is_ok(), "after {what}");
    }
    let before = proc::rss_kib(front);
    for _ in 0..rounds(20) {
        for (_, body) in bombs() {
            raw.send(&frame(&body)).unwrap();
            assert!(raw.reply().result.is_err());
        }
    }
    let grown = proc::rss_kib(front) - before;
    assert!(grown < 8 << 10, "memory grew by {grown} KiB");
    assert_eq!(house.pid("front"), front, "it is still the same process");
}

#[test]
fn ids_that_can_not_be_read_are_answered_as_zero() {
    let house = House::start(Options::default().without_keys());
    let mut raw = house.raw();
    for id in [&[251, 1, 0][..], &[252, 1, 0, 0, 0], &[253, 1, 0, 0, 0, 0, 0, 0, 0], &[255]] {
        let body = [&[WIRE_VERSION][..], id, &[0; 16], &[0]].concat();
        raw.send(&frame(&body)).unwrap();
        let reply = raw.reply();
        assert_eq!(reply.id, peek_id(&body), "{id:?}");
        assert_eq!(reply.result.unwrap_err().code, Code::Malformed, "{id:?}");
    }
    assert!(raw.ask(ServiceOp::WhoAmI).is_ok());
}

#[test]
fn announced_lengths_cost_nothing() {
    let house = House::start(Options::default().without_keys());
    let front = house.pid("front");
    let before = proc::rss_kib(front);
    for announced in [u32::MAX, u32::try_from(MAX_FRAME).unwrap() + 1, 1 << 31] {
        let mut raw = house.raw();
        raw.send(&announced.to_be_bytes()).unwrap();
        assert!(raw.closed(), "{announced}: after it the stream can't be trusted");
    }
    let mut first = Raw::connect(&house.socket()).unwrap();
    first.send(&u32::MAX.to_be_bytes()).unwrap();
    assert!(first.closed(), "as the first frame too");
    // Announced, and never sent: memory that nobody touches is not resident.
    let held: Vec<Raw> = (0..8)
        .map(|_| {
            let mut raw = house.raw();
            raw.send(&u32::try_from(MAX_FRAME).unwrap().to_be_bytes()).unwrap();
            raw
        })
        .collect();
    assert!(house.raw().ask(ServiceOp::WhoAmI).is_ok());
    let grown = proc::rss_kib(front) - before;
    assert!(grown < 4 << 10, "memory grew by {grown} KiB");
    drop(held);
}

#[test]
fn an_empty_frame_is_answered() {
    let house = House::start(Options::default().without_keys());
    let mut raw = house.raw();
    raw.send(&[0; 4]).unwrap();
    assert_eq!(raw.reply().result.unwrap_err().code, Code::Malformed);
    assert!(raw.ask(ServiceOp::WhoAmI).is_ok());
}

#[test]
fn nesting_is_bounded_wherever_json_is_read() {
    let house = House::start(Options::default());
    let front = house.pid("front");
    let mut raw = house.raw();
    let deep = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
    let ctx = deep(300_000);
    let spec = IssueSpec { ctx: Some(&ctx), ..demo("alice") };
    assert_eq!(raw.ask(ServiceOp::Issue(spec)).unwrap_err().code, Code::Malformed);
    let mut passport = raw.issue(demo("alice")).unwrap();
    for n in [100, 2_000, 300_000] {
        passport.msg = deep(n).into_bytes();
        let verdict = raw.ask(ServiceOp::Verify { want: for_demo(), passport: on_wire(&passport) });
        assert!(!matches!(verdict, Ok(ServiceOk::Verdict(passportd::wire::Verdict::Accepted(_)))), "{n}: {verdict:?}");
        let looked = raw.ask(ServiceOp::Introspect { want: for_demo(), passport: on_wire(&passport) });
        assert!(!matches!(looked, Ok(ServiceOk::Introspection(found)) if found.active), "{n}");
    }
    assert_eq!(house.pid("front"), front);
}

/// Sends `bytes` and reads until the other side closes, or has nothing to say for a while.
fn poke(mut stream: UnixStream, bytes: &[u8], half_close: bool) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // It may be closed, or not read, before everything is written.
    drop(stream.write_all(bytes));
    if half_close {
        drop(stream.shutdown(Shutdown::Write));
    }
    drop(stream.read_to_end(&mut Vec::new()));
}

#[test]
fn random_bytes_harm_no_socket() {
    let house = House::start(Options::default());
    let pids = ["front", "signer", "run"].map(|role| house.pid(role));
    let signer = |path: &Path| match house.front_ids() {
        Some((uid, gid)) => people::connect_as(path, uid, gid, &[]),
        None => UnixStream::connect(path).unwrap(),
    };
    let link = house.dir().join("signer.sock");
    let seed = u64::from(std::process::id()) << 20 | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    for round in 0..rounds(20) {
        for _ in 0..4 {
            let (bytes, half) = (dice.bytes(3_000), dice.next().is_multiple_of(2));
            // Behind a greeting and a plausible header, bytes get further than by themselves.
            let framed = [hello(), frame(&bytes), frame(&body(&bytes))].concat();
            for bytes in [&bytes, &framed] {
                poke(UnixStream::connect(house.socket()).unwrap(), bytes, half);
                poke(UnixStream::connect(house.admin_socket()).unwrap(), bytes, half);
                poke(signer(&link), bytes, half);
            }
            let mut metrics = TcpStream::connect(proc::metrics_addr(house.dir())).unwrap();
            metrics.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            drop(metrics.write_all(&bytes));
            drop(metrics.read_to_end(&mut Vec::new()));
        }
        // Each of these starts a process.
        if round % 5 == 0 {
            poke(UnixStream::connect(house.dir().join("ceremony.sock")).unwrap(), &dice.bytes(3_000), true);
        }
    }
    assert_eq!(["front", "signer", "run"].map(|role| house.pid(role)), pids, "nobody was started again");
    eventually("ceremonies have ended", Duration::from_secs(15), || {
        (process::children(pids[2]).len() == 2).then_some(())
    });
    eventually("passports are issued", Duration::from_secs(10), || house.raw().issue(demo("alice")).ok());
    assert_eq!(house.get("/readyz").0, 200);
}

#[test]
fn requests_before_the_greeting_are_not_served() {
    let house = House::start(Options::default());
    let mut raw = Raw::connect(&house.socket()).unwrap();
    raw.send(&request(1, ServiceOp::Issue(demo("alice")))).unwrap();
    let first = raw.body().unwrap().expect("a refusal");
    assert!(decode::<Reply>(&first).is_err(), "what comes is a greeting, not a reply");
    assert!(raw.closed());
}
