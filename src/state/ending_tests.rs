//! The end of keys, in the file.

use super::table_tests::{NOW, kid};
use super::tests::{open, place, stage_and_activate};
use super::*;

#[test]
fn a_key_ends_by_the_configuration_that_it_retired_under() {
    let (_dir, path) = place();
    let longest = |lifetime_s| Change { lifetime_s: Some(lifetime_s), ..Change::default() };
    let store = open(&path).unwrap();
    store.commit_blocking(longest(600), 0).unwrap();
    (1..=2).for_each(|version| stage_and_activate(&store, version, u64::from(version) * 2));
    let ended = Some(NOW + 600 + PAST_LAST_S);
    assert_eq!(store.keys().get(&kid(1)).unwrap().verifies_until, ended);
    store.commit_blocking(longest(6000), 0).unwrap();
    store.close();
    let store = open(&path).unwrap();
    assert_eq!(store.keys().get(&kid(1)).unwrap().verifies_until, ended, "and by no later one");
    stage_and_activate(&store, 3, 6);
    assert_eq!(store.keys().get(&kid(2)).unwrap().verifies_until, Some(NOW + 6000 + PAST_LAST_S));
}

#[test]
fn a_file_of_the_format_before_is_read_and_its_keys_have_an_end() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    store.commit_blocking(Change { lifetime_s: Some(600), ..Change::default() }, 0).unwrap();
    (1..=2).for_each(|version| stage_and_activate(&store, version, u64::from(version) * 2));
    store.close();
    let db = redb::Database::open(&path).unwrap();
    rows::as_format_2(&db);
    drop(db);
    let store = open(&path).unwrap();
    assert_eq!(store.keys().get(&kid(1)).unwrap().verifies_until, Some(NOW + 600 + PAST_LAST_S));
    assert_eq!(store.keys().get(&kid(2)).unwrap().verifies_until, None);
    stage_and_activate(&store, 3, 6);
    store.close();
    let db = redb::Database::open(&path).unwrap();
    assert_eq!(rows::format_of(&db), b"3");
}
