//! The core gives the daemon's verdicts, whatever the passports and whatever has happened.

use std::collections::BTreeSet;
use std::time::Instant;

use proptest::prelude::*;

use super::fed::{Asked, Effect, Fed, House, Keys, Revoked};
use super::samples::{KEYS, MAX_MSG, NOW, Twist, altered, claims, key_set, kid, passport, published, signed, signer};
use super::*;
use crate::check::{Means, Terms, check};
use crate::passport::{Cap, Claims, Expect, OwnedPassport};
use crate::state::{Change, Entry, NewKey, Owner, Role, Store, What};
use crate::verify::{Budget, Keyring, Verifier as Engine};
use crate::wire::{self, Code, Event, RevocationPage, Standing, TenantEpoch};

const MOST: usize = 1000;

/// What happens: to a tenant, as the daemon's store and as an event.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Id(u8, i64),
    Subject(u8, i64, i64),
    Epoch,
    Compromised(usize),
}

fn happens() -> impl Strategy<Value = (bool, Happens)> {
    let until = || prop_oneof![Just(NOW - 1), Just(NOW + 100)];
    let what = prop_oneof![
        (0..4_u8, until()).prop_map(|(jti, until)| Happens::Id(jti, until)),
        (0..3_u8, 0..3_i64, until()).prop_map(|(sub, late, until)| Happens::Subject(sub, NOW - 10 + late, until)),
        Just(Happens::Epoch),
        (0..KEYS.len()).prop_map(Happens::Compromised),
    ];
    (any::<bool>(), what)
}

/// The daemon's, with these keys.
fn store() -> Store {
    let store = Store::memory(Moment::from_unix(NOW)).unwrap();
    for (key, (tenant, version)) in KEYS.into_iter().enumerate() {
        let new = NewKey {
            kid: kid(key).to_string(),
            tenant: tenant.to_owned(),
            purpose: "auth".to_owned(),
            version: u32::try_from(version).unwrap(),
            role: Role::Passport,
            public: Some(signer(key).verifying_key().to_bytes()),
            created: NOW,
        };
        let staged = store.keys().stage(new, NOW).unwrap();
        store.commit_blocking(Change::keys(staged), 1).unwrap();
        let active = store.keys().activate(&kid(key).to_string(), NOW).unwrap();
        store.commit_blocking(Change::keys(active), 1).unwrap();
    }
    store
}

/// Does it to the store, and gives the event that a watcher hears of it.
fn done(store: &Store, (other, happens): (bool, Happens), seq: u64) -> Event {
    let tenant = if other { "t2" } else { "t1" }.to_owned();
    let entry = |what, until| Entry { until, owner: Owner::Admin, tenant: tenant.clone(), what };
    let commit = |change| store.commit_blocking(change, 100 + seq).unwrap();
    let what = match happens {
        Happens::Id(jti, until) => {
            let jti = format!("j{jti}");
            commit(Change::revoked(vec![entry(What::RevokedId { jti: jti.clone() }, until)]));
            wire::What::RevokedId { jti, until }
        }
        Happens::Subject(sub, before, until) => {
            let sub = format!("s{sub}");
            commit(Change::revoked(vec![entry(What::RevokedSubject { sub: sub.clone(), before }, until)]));
            wire::What::RevokedSubject { sub, before, until }
        }
        Happens::Epoch => wire::What::Epoch { epoch: commit(Change::bumped(&tenant, NOW)).epoch },
        Happens::Compromised(key) => {
            let kid = kid(key).to_string();
            if let Ok(records) = store.keys().compromise(&kid, NOW) {
                commit(Change::keys(records));
            }
            wire::What::RevokedKey { kid }
        }
    };
    Event { seq, at_ms: NOW * 1000, tenant: Some(tenant), what }
}

/// The same as it is found by whoever looks later.
fn page_of(events: &[Event]) -> RevocationPage {
    let mut page =
        RevocationPage { tenants: None, revoked: vec![], epochs: vec![], floor: 0, compromised: vec![], next: None };
    for Event { tenant, what, .. } in events.iter().cloned() {
        let tenant = tenant.unwrap();
        match what {
            wire::What::Epoch { epoch } => page.epochs.push(TenantEpoch { tenant, epoch }),
            wire::What::RevokedKey { kid } => page.compromised.push(kid),
            what => page.revoked.push(Standing { tenant, what }),
        }
    }
    page
}

fn fed(page: RevocationPage) -> Fed {
    let keys = Keys::read(&key_set(), 0, None).unwrap();
    let mut revoked = Revoked::default();
    revoked.page(page, MOST).unwrap();
    let house = House { issuer: "test".to_owned(), max_msg_bytes: MAX_MSG };
    Fed::new(house, Arc::new(keys), revoked)
}

fn asked() -> Asked<'static> {
    Asked { aud: Some("orders"), scopes: &["read"], now: Moment::from_unix(NOW), skew_s: 3 }
}

fn verdicts(fed: &Fed, passports: &[OwnedPassport]) -> Vec<Verdict> {
    let passports: Vec<Passport<'_>> = passports.iter().map(Into::into).collect();
    let judged: Vec<_> = passports.iter().map(|passport| fed.judge(passport, &fed.keys, &asked())).collect();
    let (engine, mut verdicts) = (Engine::reference(), Vec::new());
    let by = |items: &[Item<'_>], authentic: &mut Vec<bool>| engine.verify_many(items, authentic, || true);
    settle_by(judged.iter(), by, &mut verdicts);
    verdicts
}

/// The daemon's verdicts, as they are to be given here.
fn daemons(store: &Store, passports: &[OwnedPassport]) -> Vec<Verdict> {
    let passports: Vec<Passport<'_>> = passports.iter().map(Into::into).collect();
    let (keyring, verifier) = (Keyring::new(&published()).unwrap(), Engine::reference());
    let confirmations = Budget::default();
    let remembered: Option<(&crate::verify::Verdicts, Instant)> = None;
    let means =
        Means { keyring: &keyring, verifier: &verifier, confirmations: &confirmations, remembered, state: store };
    let expect = Expect {
        issuer: "test",
        now: asked().now,
        skew_s: asked().skew_s,
        audiences: &["orders"],
        require_aud: true,
        scopes: asked().scopes,
    };
    let said = check(&passports, means, &Terms { expect, max_msg_bytes: MAX_MSG }).verdicts;
    let here = |verdict| match verdict {
        Verdict::Refused(Code::PopRequired) => Verdict::Refused(Code::NeedsDaemon),
        verdict => verdict,
    };
    said.into_iter().map(here).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_are_the_daemons(
        passports in proptest::collection::vec(passport(), 1..12), happened in proptest::collection::vec(happens(), 0..6),
    ) {
        let store = store();
        let mut heard = fed(page_of(&[]));
        let mut events = Vec::new();
        for (seq, one) in happened.into_iter().enumerate() {
            let event = done(&store, one, u64::try_from(seq).unwrap());
            heard.apply(vec![event.clone()], MOST).unwrap();
            events.push(event);
        }
        let daemons = daemons(&store, &passports);
        prop_assert_eq!(&verdicts(&heard, &passports), &daemons, "as they came");
        prop_assert_eq!(&verdicts(&fed(page_of(&events)), &passports), &daemons, "by a look at all");
        heard.apply(events.into_iter().rev().collect(), MOST).unwrap();
        prop_assert_eq!(&verdicts(&heard, &passports), &daemons, "once more, in the other order");
    }
}

/// So that none of them is left to chance.
#[test]
fn each_code_is_given_where_the_daemon_gives_it() {
    use Twist::*;
    let (store, fed) = (store(), fed(page_of(&[])));
    let mut codes = BTreeSet::new();
    for as_jws in [false, true] {
        for twist in [None, Expired, Early, Aud, Scope, Issuer, Limit, Nonce, Bound, Large, Bit(4200), Alg, Kid, Cut] {
            let passports = [(0, 0), (0, 1), (3, 3)].map(|(key, by)| altered(claims(key), by, twist, as_jws));
            let said = verdicts(&fed, &passports);
            assert_eq!(said, daemons(&store, &passports), "{twist:?}");
            codes.extend(said.iter().map(|verdict| match verdict {
                Verdict::Refused(code) => code.name(),
                _ => "accepted",
            }));
        }
    }
    let all = [
        "accepted",
        "bad_alg",
        "bad_aud",
        "bad_kid",
        "expired",
        "malformed",
        "nbf",
        "needs_daemon",
        "scope_denied",
        "too_large",
        "unknown_kid",
        "verify_failed",
    ];
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), all, "and revoked is in the test above");
}

fn only(fed: &Fed, key: usize, claims: &Claims) -> Verdict {
    verdicts(fed, &[signed(key, claims, false)]).remove(0)
}

const NEEDS_DAEMON: Verdict = Verdict::Refused(Code::NeedsDaemon);

#[test]
fn what_takes_something_is_left_to_the_daemon_and_forgeries_are_not() {
    let fed = fed(page_of(&[]));
    assert_eq!(only(&fed, 0, &claims(0)), Verdict::Accepted(wire::Accepted { exp: NOW + 60 }));
    let limited = Claims { cap: Cap { limit: Some(3), ..claims(0).cap }, ..claims(0) };
    let once = Claims { nonce: Some("n".to_owned()), ..claims(0) };
    let bound = Claims { cnf_jkt: Some("A".repeat(43)), ..claims(0) };
    for claims in [&limited, &once, &bound] {
        assert_eq!(only(&fed, 0, claims), NEEDS_DAEMON);
    }
    assert_eq!(only(&fed, 1, &limited), Verdict::Refused(Code::VerifyFailed));
}

#[test]
fn of_tenants_of_which_nothing_is_heard_nothing_is_accepted() {
    let page = |tenants: &[&str]| {
        let tenants = Some(tenants.iter().map(|tenant| (*tenant).to_owned()).collect());
        RevocationPage { tenants, ..page_of(&[]) }
    };
    let accepted = Verdict::Accepted(wire::Accepted { exp: NOW + 60 });
    for (tenants, first, second) in [
        (&["t1", "t2"][..], &accepted, &accepted),
        (&["t1"], &accepted, &NEEDS_DAEMON),
        (&["t2"], &NEEDS_DAEMON, &accepted),
        (&[], &NEEDS_DAEMON, &NEEDS_DAEMON),
    ] {
        let mut fed = fed(page(tenants));
        for _ in 0..2 {
            assert_eq!((&only(&fed, 0, &claims(0)), &only(&fed, 2, &claims(2))), (first, second), "{tenants:?}");
            // Other keys change nothing of it.
            fed.turn_to(Arc::new(Keys::read(&key_set(), 0, None).unwrap()));
        }
    }
}

#[test]
fn more_than_may_be_is_not_forgotten_but_said() {
    let id = |n: usize| Event {
        seq: 0,
        at_ms: 0,
        tenant: Some("t1".to_owned()),
        what: wire::What::RevokedId { jti: n.to_string(), until: NOW + 1 },
    };
    let mut revoked = Revoked::default();
    for n in 0..3 {
        assert_eq!(revoked.apply(id(n), 3).unwrap(), Effect::Revoked);
    }
    assert!(matches!(revoked.apply(id(4), 3), Err(FeedError::TooMany(3))));
    let swept = |now| revoked.swept(Moment::from_unix(now), 3).map(|left| left.len());
    assert_eq!((swept(NOW), swept(NOW + 1)), (Some(3), Some(0)), "once it can't matter any more there is room");
    assert!(revoked.swept(Moment::from_unix(NOW + 1), 4).is_none(), "not each time");
    let nobodys = Event { tenant: None, ..id(5) };
    assert!(matches!(revoked.apply(nobodys, MOST), Err(FeedError::Client(ClientError::WrongAnswer))));
    // Of all tenants.
    let floor = Event { tenant: None, what: wire::What::Epoch { epoch: 2 }, ..id(0) };
    let mut fed = fed(page_of(&[]));
    assert!(!fed.apply(vec![floor], MOST).unwrap());
    assert_eq!(only(&fed, 0, &Claims { epoch: 1, ..claims(0) }), Verdict::Refused(Code::Revoked));
    assert!(only(&fed, 2, &Claims { epoch: 2, ..claims(2) }).is_accepted());
}

#[test]
fn what_was_revoked_while_signatures_were_verified_is_refused() {
    let mut fed = fed(page_of(&[]));
    let passport = signed(0, &claims(0), true);
    let before = fed.revision;
    let mut given = verdicts(&fed, std::slice::from_ref(&passport));
    assert!(given[0].is_accepted());
    fed.revise(&[(&passport).into()], &mut given, before);
    assert!(given[0].is_accepted(), "nothing has come");
    let what = wire::What::RevokedId { jti: "j0".to_owned(), until: NOW + 1 };
    fed.apply(vec![Event { seq: 1, at_ms: 0, tenant: Some("t1".to_owned()), what }], MOST).unwrap();
    fed.revise(&[(&passport).into()], &mut given, before);
    assert_eq!(given[0], Verdict::Refused(Code::Revoked));
}
