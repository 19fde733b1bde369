//! Peers that take their time.

use std::time::{Duration, Instant};

use passportd::wire::{ServiceOp, WIRE_VERSION};

use super::support::raw::{Raw, frame, request};
use super::support::{House, Options};

/// `limits.read_timeout_ms` here.
const READ: Duration = Duration::from_millis(500);

fn house() -> House {
    House::start(Options::default().without_keys().set("limits.read_timeout_ms", 500))
}

/// Sends a byte every 20 ms until the connection is closed; how long that took. Another peer is served meanwhile.
fn drip(house: &House, raw: &mut Raw, bytes: &[u8]) -> Duration {
    let begun = Instant::now();
    let mut other = house.raw();
    raw.stream.set_nonblocking(true).unwrap();
    for byte in bytes {
        if raw.send(&[*byte]).is_err() {
            return begun.elapsed();
        }
        let asked = Instant::now();
        assert!(other.ask(ServiceOp::WhoAmI).is_ok());
        assert!(asked.elapsed() < READ / 2, "another peer waited for {:?}", asked.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} bytes, a byte at a time, were taken for {:?}", bytes.len(), begun.elapsed());
}

fn in_time(took: Duration) {
    assert!((READ..READ * 3).contains(&took), "cut off after {took:?}, and the time to read is {READ:?}");
}

#[test]
fn a_drip_is_cut_off_while_others_are_served() {
    let house = house();
    let mut raw = house.raw();
    let frame = request(1, ServiceOp::Keys { if_etag: Some([7; 32]) });
    in_time(drip(&house, &mut raw, &[frame.clone(), frame.clone(), frame].concat()));
}

#[test]
fn a_drip_of_large_frames_is_cut_off() {
    let house = house();
    let mut raw = house.raw();
    in_time(drip(&house, &mut raw, &[&[0, 15, 0, 0][..], &[0; 200]].concat()));
}

#[test]
fn a_drip_of_a_greeting_is_cut_off() {
    let house = house();
    let mut raw = Raw::connect(&house.socket()).unwrap();
    let long = [&[WIRE_VERSION, 1, 64][..], &[b'x'; 64]].concat();
    in_time(drip(&house, &mut raw, &frame(&long)));
}

#[test]
fn silence_before_the_greeting_is_cut_off() {
    let house = house();
    let begun = Instant::now();
    assert!(Raw::connect(&house.socket()).unwrap().closed());
    in_time(begun.elapsed());
    let begun = Instant::now();
    assert!(Raw::connect(&house.admin_socket()).unwrap().closed(), "admins too");
    in_time(begun.elapsed());
}

#[test]
fn silence_between_requests_is_cut_off_only_when_idle() {
    let options = Options::default().without_keys().set("limits.read_timeout_ms", 200).set("limits.idle_timeout_s", 1);
    let house = House::start(options);
    let mut raw = house.raw();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        assert!(raw.ask(ServiceOp::WhoAmI).is_ok(), "between requests a peer may take more than the time to read");
    }
    let begun = Instant::now();
    assert!(raw.closed());
    let took = begun.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "idle for {took:?}");
}
