//! Peers that ask and never read.

use std::io::{ErrorKind, Write as _};
use std::time::{Duration, Instant};

use passportd::wire::{IssueSpec, ServiceOp};

use super::proc;
use super::support::passports::demo;
use super::support::raw::{Raw, request};
use super::support::{House, Options, eventually, root_or_skip};

const CONNECTIONS: usize = 64;
/// Somebody else than the tester, who may ask what he is.
const OTHER: u32 = 41_001;

/// Writes frames until the daemon takes no more for a while; how many bytes it took.
fn stuff(raw: &mut Raw, frames: &[u8]) -> usize {
    raw.stream.set_nonblocking(true).unwrap();
    let (mut taken, mut blocked) = (0, 0);
    while blocked < 20 && taken < 64 << 20 {
        let at = taken % frames.len();
        match raw.stream.write(&frames[at..]) {
            Ok(n) => (taken, blocked) = (taken + n, 0),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => break,
        }
    }
    taken
}

fn served(house: &House, uid: u32, gid: u32) {
    let asked = Instant::now();
    let answer = match uid {
        OTHER => house.raw_as(uid, gid, &[]).ask(ServiceOp::WhoAmI),
        _ => house.ask(ServiceOp::WhoAmI),
    };
    assert!(answer.is_ok());
    assert!(asked.elapsed() < Duration::from_secs(1), "uid {uid} waited for {:?}", asked.elapsed());
}

#[test]
fn who_never_reads_is_stopped_and_cut_off() {
    let house = House::start(Options::default().set("limits.read_timeout_ms", 2_000));
    let front = house.pid("front");
    let before = proc::rss_kib(front);
    let frames = request(1, ServiceOp::Keys { if_etag: None }).repeat(500);
    let mut flood: Vec<Raw> = (0..CONNECTIONS).map(|_| house.raw()).collect();
    let taken: usize = flood.iter_mut().map(|raw| stuff(raw, &frames)).sum();
    let grown = proc::rss_kib(front) - before;
    println!("{CONNECTIONS} connections that never read: {} KiB taken, memory grew by {grown} KiB", taken >> 10);
    assert!(taken < CONNECTIONS << 20, "nothing is read from a peer that does not read");
    assert!(grown < 12 << 10, "memory grew by {grown} KiB");
    served(&house, 0, 0);
    if root_or_skip("the same for another user") {
        served(&house, OTHER, OTHER);
    }
    let cut = "passport_connections{socket=\"service\"}";
    eventually("they are cut off", Duration::from_secs(10), || (house.metric(cut) == 0.0).then_some(()));
    assert!(flood.iter_mut().all(|raw| raw.stream.set_nonblocking(false).is_ok() && raw.closed()));
}

#[test]
fn replies_that_nobody_reads_count_against_the_share() {
    // Fifteen times what the user may hold, if each batch were let go once it is signed.
    const SHARE: i64 = 4 << 20;
    let house = House::start(
        Options::default()
            .set("limits.max_bytes_per_uid", SHARE)
            .set("limits.read_timeout_ms", 20_000)
            .set("server.graceful_shutdown_timeout_s", 0),
    );
    let front = house.pid("front");
    let ctx = format!("{{\"fill\":\"{}\"}}", "x".repeat(3_400));
    let specs = vec![IssueSpec { ctx: Some(&ctx), ..demo("alice") }; 64];
    let batch = request(1, ServiceOp::IssueBatch(specs));
    let mut flood: Vec<Raw> = (0..16).map(|_| house.raw()).collect();
    let before = proc::rss_kib(front);
    for round in 0..8 {
        for raw in &mut flood {
            stuff(raw, &batch);
        }
        let grown = proc::rss_kib(front) - before;
        println!("round {round}: memory grew by {grown} KiB");
        // The share, as much again in requests being decoded, slack of the allocator, and what 16 connections have beside it.
        assert!(grown < 4 * (SHARE >> 10), "memory grew by {grown} KiB");
    }
    served(&house, 0, 0);
}

#[test]
fn a_peer_that_reads_again_gets_every_answer() {
    let house = House::start(Options::default().without_keys());
    let mut raw = house.raw();
    let mut sent = 0;
    raw.stream.set_nonblocking(true).unwrap();
    let mut rest: Vec<u8> = Vec::new();
    let mut blocked = 0;
    while blocked < 50 {
        if rest.is_empty() {
            sent += 1;
            rest = request(sent, ServiceOp::WhoAmI);
        }
        match raw.stream.write(&rest) {
            Ok(n) => {
                rest.drain(..n);
            }
            Err(_) => {
                blocked += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    raw.stream.set_nonblocking(false).unwrap();
    // The last frame may have been written in part, so its rest goes while answers are read.
    let writer = {
        let mut stream = raw.stream.try_clone().unwrap();
        std::thread::spawn(move || stream.write_all(&rest).unwrap())
    };
    for id in 1..=sent {
        assert_eq!(raw.reply().id, id);
    }
    writer.join().unwrap();
    println!("{sent} answers");
}

/// A peer that goes on asking over its rate is answered twenty times a second on a connection, and not as often as it asks.
#[test]
fn who_is_over_its_rate_is_left_unread() {
    let house = House::start(Options::default().policy(&super::support::options::POLICY.replace("10000000", "10")));
    let mut raw = house.raw();
    let asked = Instant::now();
    raw.send(&request(1, ServiceOp::Ping).repeat(100)).unwrap();
    let mut refused = 0_u32;
    for _ in 0..30 {
        refused += u32::from(raw.reply().result.is_err());
    }
    assert!(refused > 0, "thirty of a hundred requests in the first second are over a rate of ten");
    // Each refusal is followed by a pause, at a rate of ten by one of 100 ms.
    let paused = Duration::from_millis(100) * (refused - 1);
    assert!(asked.elapsed() >= paused, "{refused} refusals within {:?}", asked.elapsed());
    if root_or_skip("another user is served meanwhile") {
        served(&house, OTHER, OTHER);
    }
}
