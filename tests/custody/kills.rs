//! A signer that is killed while it starts and logs in, hundreds of times: SoftHSM rewrites its token file at login, and a
//! kill in that window lost the token 106 times of 200 (DESIGN §8). The serving signer can't write to it. Who verifies
//! meanwhile notices nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::beside::Beside;
use super::support::passports::demo;
use super::support::{House, Options, Roles, eventually, root_or_skip, skipped};

/// Not scaled down: fewer would have missed what was measured.
const KILLS: u32 = 300;
/// After so many of them it is looked whether everything is there still.
const LOOK: u32 = 20;
/// From the start of a process to about its readiness.
const START: Duration = Duration::from_millis(120);
/// What a login takes.
const LOGIN: Duration = Duration::from_millis(3);
const PATIENCE: Duration = Duration::from_secs(10);

/// Every file of a directory and those in it, with what is in them.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let read =
        |path: PathBuf| if path.is_dir() { content(&path) } else { [(path.clone(), fs::read(path).unwrap())].into() };
    entries.flat_map(read).collect()
}

/// A delay of up to `most`, another for each number; the same numbers give the same delays.
fn delay(number: u32, most: Duration) -> Duration {
    // Knuth's multiplicative hash.
    let part = u64::from(number.wrapping_mul(2_654_435_761) >> 16);
    most * u32::try_from(part).unwrap() / 65_536
}

#[test]
fn three_hundred_kills_during_start_and_login_lose_nothing() {
    if root_or_skip("killing a signer at its login") {
        let house = three_hundred_kills();
        assert!(!house.log().contains("Landlock is not enforced"), "{}", house.log());
    }
}

/// A mount does what Landlock does elsewhere.
#[test]
fn nor_do_they_on_a_kernel_without_landlock() {
    if !root_or_skip("a kernel without Landlock") {
        return;
    }
    if let Err(error) = fault_module::without_landlock() {
        return skipped(&format!("a kernel without Landlock: {error}"));
    }
    let house = three_hundred_kills();
    assert!(house.log().contains("Landlock is not enforced"), "{}", house.log());
}

/// The house that has borne them.
fn three_hundred_kills() -> House {
    let mut house = House::start(Options::default().roles(Roles::Apart).fault());
    let beside = Beside::start(&house);
    house.kill("signer");
    let store = house.dir().join("store");
    let (before, keys) = (content(&store), fs::read(house.dir().join("state/keys.json")).unwrap());
    assert!(!before.is_empty());
    house.fault("C_Login log");
    let mut at_login = 0;
    for kill in 1..=KILLS {
        at_login += u32::from(kill_one(&mut house, kill));
        if kill % LOOK == 0 {
            house.start_role("signer");
            eventually("passports are issued", PATIENCE, || house.raw().issue(demo("alice")).ok());
            assert_eq!(house.end("signer", Signal::SIGTERM).code(), Some(0));
            assert!(content(&store) == before, "after {kill} kills the store is another");
        }
    }
    println!("{KILLS} kills, {at_login} of them at the login, {} verdicts", beside.end(&house));
    assert_eq!(fs::read(house.dir().join("state/keys.json")).unwrap(), keys);
    assert!(!house.log().contains("has refused this PIN"), "a killed login is no refusal");
    house
}

/// Starts a signer and kills it. Whether that was at its login.
fn kill_one(house: &mut House, number: u32) -> bool {
    let said = house.calls("C_Login");
    house.start_role("signer");
    let at_login = !number.is_multiple_of(3);
    if at_login {
        let begun = Instant::now();
        while house.calls("C_Login") == said {
            assert!(begun.elapsed() < PATIENCE, "no login: {}", house.log());
            std::thread::yield_now();
        }
        std::thread::sleep(delay(number, LOGIN));
    } else {
        std::thread::sleep(delay(number, START));
    }
    house.kill("signer");
    at_login
}
