//! The key set as a file for web servers (`[passport] jwks_file`): replaced when the keys change, and put right again.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use passportd::wire::ceremony::PlanKind;
use passportd::wire::{ServiceOk, ServiceOp};

use support::{House, Options, eventually, root_or_skip};

const SOON: Duration = Duration::from_secs(20);

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    // The front is another user.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    dir
}

fn house(file: &Path) -> House {
    House::start(Options::default().set("passport.jwks_file", file.to_str().unwrap()))
}

fn set(house: &House) -> Vec<u8> {
    match house.ask(ServiceOp::Keys { if_etag: None }).unwrap() {
        ServiceOk::Keys(set) => set.jwks,
        other => panic!("{other:?}"),
    }
}

fn is_published(house: &House, file: &Path) {
    let wanted = set(house);
    eventually("the file is the set", SOON, || (fs::read(file).ok().as_ref() == Some(&wanted)).then_some(()));
    let left: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [file.file_name().unwrap()], "no draft is left");
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o7777, 0o644);
}

fn condition(house: &House) -> Option<(bool, String)> {
    let found = house.health().conditions.into_iter().find(|one| one.name == "published")?;
    Some((found.ok, found.detail))
}

#[test]
fn every_change_of_the_keys_is_published() {
    let dir = directory();
    let file = dir.path().join("jwks.json");
    let mut house = house(&file);
    is_published(&house, &file);
    let first = set(&house);
    assert_eq!(condition(&house), Some((true, String::new())));

    house.ceremony(PlanKind::Generate, "t1", "auth");
    let next = "ed25519/t1/auth/v2";
    house.stage(next).unwrap();
    is_published(&house, &file);
    let staged = set(&house);
    assert_ne!(staged, first);
    house.activate(next).unwrap();
    is_published(&house, &file);
    assert_ne!(set(&house), staged, "it says which one is current");

    // What is right already keeps its time, by which web servers tell whether it changed.
    let before = fs::metadata(&file).unwrap();
    assert!(house.stop().success());
    house.boot();
    house.wait_ready();
    is_published(&house, &file);
    let after = fs::metadata(&file).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}

#[test]
fn what_is_in_the_way_is_a_condition_until_it_is_gone() {
    let dir = directory();
    let file = dir.path().join("jwks.json");
    // A directory can't be renamed over.
    fs::create_dir(&file).unwrap();
    let house = house(&file);
    eventually("it is said", SOON, || (!condition(&house)?.0).then_some(()));
    let ready = house.get("/readyz");
    assert_eq!(ready.0, 200, "it is in nobody's way: {ready:?}");
    assert!(ready.1.contains("published"), "{ready:?}");
    assert!(house.health().issue_ready);
    fs::remove_dir(&file).unwrap();
    is_published(&house, &file);
    eventually("it is said", SOON, || condition(&house)?.0.then_some(()));
}

#[test]
fn a_directory_that_is_not_there_is_named_at_the_start() {
    if !root_or_skip("a_directory_that_is_not_there_is_named_at_the_start") {
        return;
    }
    let dir = directory();
    let file = dir.path().join("jwks.json");
    let mut house = house(&file);
    is_published(&house, &file);
    house.set("passport.jwks_file", dir.path().join("none/jwks.json").to_str().unwrap());
    assert!(house.stop().success());
    house.start_role("signer");
    let ended = house.start_to_the_end("front");
    assert_eq!(ended.code(), Some(78), "{}", house.log());
    assert!(house.log().contains("[passport] jwks_file"), "{}", house.log());
}
