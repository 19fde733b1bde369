//! The life of keys.

use proptest::prelude::*;

use super::*;
use crate::clock::Moment;

pub(super) const NOW: i64 = 1_800_000_000;

pub(super) fn now() -> Moment {
    Moment::from_unix(NOW)
}

pub(super) fn key(tenant: &str, version: u32) -> NewKey {
    let mut public = [0; 32];
    public[..4].copy_from_slice(&version.to_be_bytes());
    public[4] = u8::try_from(tenant.len()).unwrap();
    NewKey {
        kid: format!("ed25519/{tenant}/passport/v{version}"),
        tenant: tenant.to_owned(),
        purpose: "passport".to_owned(),
        version,
        role: Role::Passport,
        public: Some(public),
        created: NOW,
    }
}

pub(super) fn kid(version: u32) -> String {
    key("t", version).kid
}

/// A table with these versions staged and activated in turn.
fn rotated(versions: u32) -> KeyTable {
    let mut table = KeyTable::default();
    for version in 1..=versions {
        table = table.apply(&table.stage(key("t", version), NOW).unwrap()).unwrap();
        table = table.apply(&table.activate(&kid(version), NOW + i64::from(version)).unwrap()).unwrap();
    }
    table
}

fn states(table: &KeyTable) -> Vec<KeyState> {
    table.of("t", "passport").map(|key| key.state).collect()
}

#[test]
fn activation_retires_the_predecessor_in_the_same_change() {
    let table = rotated(1);
    let table = table.apply(&table.stage(key("t", 2), NOW).unwrap()).unwrap();
    let change = table.activate(&kid(2), NOW + 9).unwrap();
    let moves: Vec<_> = change.iter().map(|key| (key.version, key.state)).collect();
    assert_eq!(moves, [(1, KeyState::Retired), (2, KeyState::Active)]);
    let table = table.apply(&change).unwrap();
    assert_eq!(table.active("t", "passport").unwrap().version, 2);
    assert_eq!(table.get(&kid(1)).unwrap().retired_at, Some(NOW + 9));
    assert_eq!(table.next_version("t", "passport"), Some(3));
    assert_eq!(table.published(NOW).count(), 2);
}

#[test]
fn what_is_published_verifies_and_the_other_way_round() {
    let table = rotated(3);
    let table = table.apply(&table.compromise(&kid(1), NOW + 9).unwrap()).unwrap();
    let table = table.apply(&table.stage(key("t", 4), NOW + 9).unwrap()).unwrap();
    let verify = [KeyState::Retired, KeyState::Active, KeyState::Staged];
    assert_eq!(table.published(NOW).map(|key| key.state).collect::<Vec<_>>(), verify);
    assert!(KeyState::ALL.iter().all(|state| state.verifies() == verify.contains(state)));
}

#[test]
fn rollback_takes_the_retired_predecessor_and_keeps_the_other_verifying() {
    let table = rotated(3);
    let table = table.apply(&table.rollback("t", "passport", NOW + 9).unwrap()).unwrap();
    assert_eq!(states(&table), [KeyState::Retired, KeyState::Active, KeyState::Retired]);
    assert_eq!(table.get(&kid(2)).unwrap().retired_at, None);
    let error = rotated(1).rollback("t", "passport", NOW).unwrap_err();
    assert!(matches!(error, KeyError::NoPredecessor { .. }), "{error}");
    let error = table.rollback("other", "passport", NOW).unwrap_err();
    assert!(matches!(error, KeyError::NoActive { .. }), "{error}");
}

#[test]
fn what_is_not_allowed_says_what_is() {
    let table = rotated(2);
    let error = table.activate(&kid(1), NOW).unwrap_err();
    assert_eq!(error, KeyError::NotStaged { kid: kid(1), state: KeyState::Retired });
    let error = table.destroy(&kid(2), NOW, 0).unwrap_err().to_string();
    assert!(
        error.contains("is active and cannot become destroyed") && error.contains("retired, compromised"),
        "{error}"
    );
    assert!(matches!(table.retire("x", NOW), Err(KeyError::Unknown { .. })));
    let until = NOW + 2 + 86_400;
    assert_eq!(table.destroy(&kid(1), until - 1, 86_400), Err(KeyError::StillVerifies { kid: kid(1), until }));
    let table = table.apply(&table.destroy(&kid(1), until, 86_400).unwrap()).unwrap();
    let error = table.compromise(&kid(1), until).unwrap_err().to_string();
    assert!(error.ends_with("it can become: nothing"), "{error}");
}

#[test]
fn nothing_that_was_used_comes_back() {
    let table = rotated(2);
    let stage = |change: &dyn Fn(&mut NewKey)| {
        let mut new = key("t", 3);
        change(&mut new);
        table.stage(new, NOW).unwrap_err()
    };
    assert!(matches!(stage(&|new| *new = key("t", 2)), KeyError::KidReused { .. }));
    assert!(matches!(stage(&|new| new.public = key("t", 1).public), KeyError::PublicReused { .. }));
    assert!(matches!(stage(&|new| new.version = 4), KeyError::Malformed { .. }));
    assert!(matches!(stage(&|new| new.public = None), KeyError::Malformed { .. }));
    assert!(matches!(stage(&|new| new.role = Role::Seal), KeyError::Malformed { .. }));
    // Another algorithm's kid of the same version.
    let twin = |new: &mut NewKey| {
        *new = NewKey { kid: "ml-dsa/t/passport/v2".to_owned(), public: Some([9; 32]), ..key("t", 2) };
    };
    assert!(matches!(stage(&twin), KeyError::OldVersion { version: 2, newest: 2, .. }));
    let mut altered = table.get(&kid(2)).unwrap().clone();
    (altered.public, altered.state) = (Some([7; 32]), KeyState::Retired);
    assert!(matches!(table.apply(&[altered]), Err(KeyError::KidReused { .. })));
}

#[test]
fn audit_and_seal_keys_are_not_published() {
    let mut table = rotated(1);
    let audit =
        NewKey { kid: "ed25519/t/audit/v1".to_owned(), purpose: "audit".to_owned(), role: Role::Audit, ..key("tt", 1) };
    let audit = NewKey { tenant: "t".to_owned(), ..audit };
    let seal = NewKey {
        kid: "hmac-sha256/t/seal/v1".to_owned(),
        purpose: "seal".to_owned(),
        role: Role::Seal,
        public: None,
        ..key("t", 1)
    };
    for new in [audit, seal] {
        table = table.apply(&table.stage(new, NOW).unwrap()).unwrap();
    }
    assert_eq!(table.len(), 3);
    assert_eq!(table.published(NOW).map(|key| key.kid.as_str()).collect::<Vec<_>>(), [kid(1)]);
}

#[test]
fn the_table_is_bounded() {
    let most = u32::try_from(MAX_KEYS).unwrap();
    let records = (1..=most).map(|version| KeyTable::default().stage(key("t", version), NOW).unwrap().remove(0));
    let full = KeyTable::load(records.collect()).unwrap();
    assert_eq!(full.stage(key("t", most + 1), NOW), Err(KeyError::TooMany));
}

#[test]
fn a_way_back_is_one_step_and_ends_with_a_confirmation() {
    let table = rotated(3);
    let back = table.apply(&table.rollback("t", "passport", NOW + 9).unwrap()).unwrap();
    // Who asks twice does not go two steps back.
    assert_eq!(back.rollback("t", "passport", NOW + 10), Err(KeyError::Confirmed { kid: kid(2), at: NOW + 9 }));
    let error = back.activate(&kid(3), NOW + 10).unwrap_err();
    assert_eq!(error, KeyError::NotStaged { kid: kid(3), state: KeyState::Retired }, "it never signs again");
    let confirmed = table.apply(&table.confirm(&kid(3), NOW + 9).unwrap()).unwrap();
    assert_eq!(confirmed.rollback("t", "passport", NOW + 10), Err(KeyError::Confirmed { kid: kid(3), at: NOW + 9 }));
    assert_eq!(confirmed.confirm(&kid(3), NOW + 99), Ok(vec![]), "once is enough");
    let error = table.confirm(&kid(2), NOW).unwrap_err();
    assert_eq!(error, KeyError::NotActive { kid: kid(2), state: KeyState::Retired });
    // A confirmation that was worked out before the key retired does not bring it back.
    let late = table.confirm(&kid(3), NOW + 9).unwrap();
    assert!(matches!(back.apply(&late), Err(KeyError::TwoActive { .. })));
    // One that verifiers have forgotten can't sign.
    let over = rotated(2).get(&kid(1)).unwrap().clone().with_end(60);
    let until = over.verifies_until.unwrap();
    let mut records: Vec<_> = rotated(2).iter().cloned().collect();
    records[0] = over;
    let table = KeyTable::load(records).unwrap();
    assert!(table.rollback("t", "passport", until - 1).is_ok());
    assert!(matches!(table.rollback("t", "passport", until), Err(KeyError::NoPredecessor { .. })));
}

#[test]
fn a_retired_key_ends_once_and_may_be_destroyed_from_then_on() {
    let retired = rotated(2).get(&kid(1)).unwrap().clone();
    let ended = retired.clone().with_end(60);
    let until = NOW + 2 + 60 + PAST_LAST_S;
    assert_eq!((ended.verifies_until, retired.verifies_until), (Some(until), None));
    assert_eq!(ended.clone().with_end(86_400), ended, "no later configuration has it verify again");
    assert!(retired.verifies(i64::MAX) && ended.verifies(until - 1) && !ended.verifies(until));
    assert_eq!((ended.standing(until - 1), ended.standing(until)), ("retired", EXPIRED));
    let active = rotated(1).get(&kid(1)).unwrap().clone();
    assert_eq!(active.clone().with_end(60), active);
    let mut records: Vec<_> = rotated(2).iter().cloned().collect();
    records[0] = ended;
    let table = KeyTable::load(records).unwrap();
    assert_eq!((table.published(until - 1).count(), table.published(until).count()), (2, 1));
    assert_eq!(table.destroy(&kid(1), until - 1, 0), Err(KeyError::StillVerifies { kid: kid(1), until }));
    let table = table.apply(&table.destroy(&kid(1), until, i64::MAX).unwrap()).unwrap();
    assert_eq!(table.get(&kid(1)).unwrap().destroyed_at, Some(until));
    assert_eq!(table.next_version("t", "passport"), Some(3), "versions stay used");
}

#[test]
fn a_key_that_follows_another_waits_until_verifiers_have_it() {
    let table = rotated(1);
    assert_eq!(table.ready_at(table.get(&kid(1)).unwrap(), 60), NOW, "the first follows none");
    let table = table.apply(&table.stage(key("t", 2), NOW + 100).unwrap()).unwrap();
    let too_soon = KeyError::TooSoon { kid: kid(2), at: NOW + 160, wait_s: 1 };
    assert_eq!(table.activate_warned(&kid(2), NOW + 159, 60), Err(too_soon));
    assert_eq!(table.activate_warned(&kid(2), NOW + 160, 60), table.activate(&kid(2), NOW + 160));
    assert!(table.activate_warned(&kid(2), NOW + 100, 0).is_ok());
    // The one before may be compromised: verifiers hold their set all the same.
    let table = table.apply(&table.compromise(&kid(1), NOW + 101).unwrap()).unwrap();
    assert!(matches!(table.activate_warned(&kid(2), NOW + 159, 60), Err(KeyError::TooSoon { .. })));
}

/// What somebody may ask for, in any order.
#[derive(Clone, Debug)]
enum Wish {
    Confirm(u8, u32),
    Stage(u8),
    Activate(u8, u32),
    Retire(u8, u32),
    Rollback(u8),
    Compromise(u8, u32),
    Destroy(u8, u32),
}

fn wish() -> impl Strategy<Value = Wish> {
    let (tenant, version) = (0..2_u8, 1..6_u32);
    prop_oneof![
        tenant.clone().prop_map(Wish::Stage),
        (tenant.clone(), version.clone()).prop_map(|(t, v)| Wish::Activate(t, v)),
        (tenant.clone(), version.clone()).prop_map(|(t, v)| Wish::Retire(t, v)),
        (tenant.clone(), version.clone()).prop_map(|(t, v)| Wish::Confirm(t, v)),
        tenant.clone().prop_map(Wish::Rollback),
        (tenant.clone(), version.clone()).prop_map(|(t, v)| Wish::Compromise(t, v)),
        (tenant, version).prop_map(|(t, v)| Wish::Destroy(t, v)),
    ]
}

fn grant(table: &KeyTable, wish: &Wish, at: i64) -> Result<Vec<KeyRecord>, KeyError> {
    let tenant = |t: &u8| "t".repeat(usize::from(*t) + 1);
    let kid = |t: &u8, v: &u32| key(&tenant(t), *v).kid;
    match wish {
        Wish::Stage(t) => table.stage(key(&tenant(t), table.next_version(&tenant(t), "passport").unwrap()), at),
        Wish::Activate(t, v) => table.activate(&kid(t, v), at),
        Wish::Confirm(t, v) => table.confirm(&kid(t, v), at),
        Wish::Retire(t, v) => table.retire(&kid(t, v), at),
        Wish::Rollback(t) => table.rollback(&tenant(t), "passport", at),
        Wish::Compromise(t, v) => table.compromise(&kid(t, v), at),
        Wish::Destroy(t, v) => table.destroy(&kid(t, v), at, 3),
    }
}

proptest! {
    #[test]
    fn no_sequence_breaks_the_rules(wishes in prop::collection::vec(wish(), 0..60)) {
        let mut table = KeyTable::default();
        for (at, wish) in wishes.iter().enumerate() {
            let before = table.clone();
            if let Ok(change) = grant(&table, wish, NOW + i64::try_from(at).unwrap()) {
                table = table.apply(&change).unwrap();
            }
            for tenant in ["t", "tt"] {
                prop_assert!(table.of(tenant, "passport").filter(|key| key.state == KeyState::Active).count() <= 1);
            }
            for old in before.iter() {
                let new = table.get(&old.kid).expect("never forgotten");
                prop_assert_eq!((new.public, new.version), (old.public, old.version));
                prop_assert!(new.state == old.state || old.state.next().contains(&new.state));
            }
        }
        prop_assert_eq!(KeyTable::load(table.iter().cloned().collect()).unwrap(), table);
    }

    /// Two changes that were worked out against the same table: the second is applied or refused, never half right.
    #[test]
    fn stale_changes_cannot_break_the_rules(wishes in prop::collection::vec(wish(), 0..30), a in wish(), b in wish()) {
        let mut table = KeyTable::default();
        for wish in &wishes {
            if let Ok(change) = grant(&table, wish, NOW) {
                table = table.apply(&change).unwrap();
            }
        }
        if let (Ok(first), Ok(second)) = (grant(&table, &a, NOW), grant(&table, &b, NOW))
            && let Ok(after) = table.apply(&first).unwrap().apply(&second)
        {
            prop_assert_eq!(KeyTable::load(after.iter().cloned().collect()).unwrap(), after);
        }
    }
}
