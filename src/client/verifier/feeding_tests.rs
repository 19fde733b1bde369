//! What a verifier does when the daemon speaks, falls silent, goes and comes back.

use std::time::Instant;

use ed25519_dalek::{Signer as _, SigningKey};

use super::fake::{Fake, Script};
use super::*;
use crate::passport::{Cap, Claims, Jwk, Kid, OwnedEnvelope, OwnedPassport, etag, jwks};
use crate::wire::{Code, KeySet, RevocationPage, Standing, TenantEpoch, What};

const PATIENCE: Duration = Duration::from_secs(20);

fn signer(version: u64) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(version).unwrap(); 32])
}

fn kid(version: u64) -> Kid {
    Kid::new("t1", "auth", version).unwrap()
}

fn key_set(versions: &[u64]) -> KeySet {
    let keys = versions.iter().map(|one| Jwk::new(kid(*one), signer(*one).verifying_key().to_bytes()));
    let jwks = jwks(&keys.collect::<Vec<_>>());
    KeySet { etag: etag(&jwks), max_age_s: 1, jwks }
}

fn passport(version: u64, jti: &str, epoch: u64) -> OwnedPassport {
    let now = Moment::now().unix();
    let claims = Claims {
        iss: "test".to_owned(),
        sub: format!("of {jti}"),
        aud: vec!["orders".to_owned()],
        iat: now,
        exp: now + 600,
        nbf: None,
        jti: jti.to_owned(),
        scopes: vec!["read".to_owned()],
        nonce: None,
        ctx: None,
        kid: kid(version),
        epoch,
        cap: Cap { template: "orders".to_owned(), action: None, limit: None },
        cnf_jkt: None,
        cnf_uid: None,
        par: None,
    };
    let msg = claims.canonical(4096).unwrap();
    let sig = signer(version).sign(&msg).to_bytes().to_vec();
    let kid = claims.kid.to_string();
    OwnedPassport::Envelope(OwnedEnvelope { alg: "Ed25519".to_owned(), kid, msg, sig })
}

fn revoked(jti: &str) -> What {
    What::RevokedId { jti: jti.to_owned(), until: Moment::now().unix() + 1800 }
}

fn page(jtis: &[&str]) -> RevocationPage {
    let standing = |jti: &&str| Standing { tenant: "t1".to_owned(), what: revoked(jti) };
    let revoked = jtis.iter().map(standing).collect();
    RevocationPage { tenants: None, revoked, epochs: vec![], floor: 0, compromised: vec![], next: None }
}

fn script() -> Script {
    Script { keys: Some(key_set(&[1])), pages: vec![page(&[])], ..Script::default() }
}

fn options(fake: &Fake) -> VerifierOptions {
    VerifierOptions {
        audience: Some("orders".to_owned()),
        stale_after: MIN_STALE,
        ..VerifierOptions::service(fake.socket())
    }
}

async fn started(fake: &Fake) -> Verifier {
    Verifier::start(options(fake)).await.unwrap()
}

/// What is said of it: none if it is accepted; no answer at all is the other error.
fn said(verifier: &Verifier, passport: &OwnedPassport) -> Result<Option<Code>, Unfed> {
    let want = Want { scopes: vec!["read".to_owned()], ..Want::default() };
    verifier.verify(passport, &want).map(|verdict| match verdict {
        Verdict::Accepted(_) => None,
        Verdict::Refused(code) => Some(code),
        other => panic!("{other:?}"),
    })
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn what_is_in_force_and_what_comes_has_its_effect() {
    let first = RevocationPage {
        epochs: vec![TenantEpoch { tenant: "t1".to_owned(), epoch: 1 }],
        compromised: vec![kid(7).to_string()],
        ..page(&["a"])
    };
    let keys = Some(key_set(&[1, 7]));
    let fake = Fake::start(Script { keys, pages: vec![first, page(&["b"]), page(&["c"])], ..script() });
    let verifier = started(&fake).await;
    assert_eq!(verifier.revocations(), 5);
    for (passport, code) in [
        (passport(1, "a", 1), Some(Code::Revoked)),
        (passport(1, "b", 1), Some(Code::Revoked)),
        (passport(1, "c", 1), Some(Code::Revoked)),
        (passport(1, "d", 1), None),
        (passport(1, "d", 0), Some(Code::Revoked)),
        (passport(7, "d", 1), Some(Code::Revoked)),
        (passport(2, "d", 1), Some(Code::UnknownKid)),
    ] {
        assert_eq!(said(&verifier, &passport), Ok(code), "{passport:?}");
    }
    let (good, next) = (passport(1, "d", 1), passport(2, "d", 1));
    fake.happens("t1", revoked("d"));
    until("its id", || said(&verifier, &good) == Ok(Some(Code::Revoked))).await;
    let good = passport(1, "e", 1);
    assert_eq!(said(&verifier, &good), Ok(None));
    let before = Moment::now().unix() + 5;
    fake.happens("t1", What::RevokedSubject { sub: "of e".to_owned(), before, until: before + 1800 });
    until("its subject", || said(&verifier, &good) == Ok(Some(Code::Revoked))).await;
    // A new key, and the end of the old one.
    fake.script().keys = Some(key_set(&[2]));
    fake.happens("t1", What::Key { kid: kid(2).to_string(), state: "active".to_owned() });
    until("its key", || said(&verifier, &passport(1, "f", 1)) == Ok(Some(Code::UnknownKid))).await;
    assert_eq!(said(&verifier, &next), Ok(Some(Code::Revoked)));
    let good = passport(2, "f", 1);
    assert_eq!(said(&verifier, &good), Ok(None));
    fake.happens("t1", What::Epoch { epoch: 2 });
    until("its epoch", || said(&verifier, &good) == Ok(Some(Code::Revoked))).await;
    assert_eq!(said(&verifier, &passport(2, "f", 2)), Ok(None));
    fake.happens("t1", What::RevokedKey { kid: kid(2).to_string() });
    until("its key's compromise", || said(&verifier, &passport(2, "f", 2)) == Ok(Some(Code::Revoked))).await;
    assert_eq!(verifier.propagation().count(), 4, "a new key revokes nothing");
    assert!(verifier.propagation().at_most_ms(1.0).is_some());
    assert_eq!(fake.script().looks, 1);
}

#[tokio::test]
async fn a_silent_daemon_is_gone_by_for_as_long_as_the_bound_and_no_longer() {
    let fake = Fake::start(script());
    let verifier = started(&fake).await;
    let passport = passport(1, "a", 0);
    // Longer than the bound, in which nothing happens and it is heard of all the time.
    for _ in 0..10 {
        tokio::time::sleep(MIN_STALE / 5).await;
        assert_eq!(said(&verifier, &passport), Ok(None));
    }
    fake.script().mute = true;
    let begun = Instant::now();
    until("no verdict any more", || said(&verifier, &passport).is_err()).await;
    assert!(begun.elapsed() >= MIN_STALE / 2, "a short silence is none: {:?}", begun.elapsed());
    let unfed = verifier.fed().unwrap_err().to_string();
    assert!(unfed.starts_with("passportd was not heard of for 500 ms"), "{unfed}");
    let mut verdicts = vec![Verdict::Refused(Code::Expired)];
    assert!(verifier.verify_many(&[(&passport).into()], &Want::default(), &mut verdicts).is_err());
    assert_eq!(verdicts.len(), 1, "and none is added");
    // What happened meanwhile has its effect before there are verdicts again.
    fake.happens("t1", revoked("a"));
    fake.script().mute = false;
    let heals = || said(&verifier, &passport).is_ok();
    until("verdicts", heals).await;
    assert_eq!(said(&verifier, &passport), Ok(Some(Code::Revoked)));
}

#[tokio::test]
async fn a_daemon_that_went_and_came_back_is_looked_at_anew() {
    let mut fake = Fake::start(script());
    let verifier = started(&fake).await;
    let (first, second) = (passport(1, "a", 0), passport(1, "b", 0));
    // The same life: read on from where it was.
    fake.stop().await;
    fake.happens("t1", revoked("a"));
    fake.start_again();
    until("what happened", || said(&verifier, &first) == Ok(Some(Code::Revoked))).await;
    assert_eq!(fake.script().looks, 1);
    fake.stop().await;
    until("no verdict any more", || said(&verifier, &second).is_err()).await;
    let why = verifier.fed().unwrap_err().to_string();
    assert!(why.contains("can't connect to"), "{why}");
    {
        let mut script = fake.script();
        (script.life, script.events, script.pages) = (1, vec![], vec![page(&["a", "b"])]);
    }
    fake.start_again();
    until("verdicts", || said(&verifier, &second).is_ok()).await;
    assert_eq!(said(&verifier, &second), Ok(Some(Code::Revoked)));
    assert_eq!(fake.script().looks, 2);
}

#[tokio::test]
async fn who_lagged_looks_at_everything_anew_and_gives_verdicts_meanwhile() {
    let fake = Fake::start(script());
    let verifier = started(&fake).await;
    let passport = passport(1, "a", 0);
    {
        let mut script = fake.script();
        script.pages = vec![page(&["a"])];
        script.lost = 9;
    }
    for _ in 0..10 {
        fake.happens("t1", revoked("else"));
    }
    until("what it missed", || said(&verifier, &passport).unwrap() == Some(Code::Revoked)).await;
    assert_eq!(fake.script().looks, 2);
}

#[tokio::test]
async fn more_than_may_be_revoked_is_no_verdict_at_all() {
    let fake = Fake::start(Script { pages: vec![page(&["a", "b"])], ..script() });
    let few = |max_revocations| VerifierOptions { max_revocations, ..options(&fake) };
    let error = Verifier::start(few(1)).await.unwrap_err();
    assert!(matches!(error, FeedError::TooMany(1)), "{error}");
    let verifier = Verifier::start(few(2)).await.unwrap();
    let passport = passport(1, "x", 0);
    assert_eq!(said(&verifier, &passport), Ok(None));
    fake.happens("t1", revoked("c"));
    until("no verdict any more", || said(&verifier, &passport).is_err()).await;
    let why = verifier.fed().unwrap_err().to_string();
    assert!(why.contains("more than 2 revocations are in force; raise `max_revocations`"), "{why}");
}

#[tokio::test]
async fn who_may_not_watch_is_told_so() {
    let fake = Fake::start(Script { denies: true, ..script() });
    let error = Verifier::start(options(&fake)).await.unwrap_err();
    assert!(matches!(&error, FeedError::Client(error) if error.code() == Some(Code::OpDenied)), "{error}");
    // Keys that no honest daemon has.
    let jwks = jwks(&[Jwk::new(kid(1), [0xff; 32])]);
    let keys = Some(KeySet { etag: etag(&jwks), max_age_s: 1, jwks });
    let fake = Fake::start(Script { keys, ..script() });
    let error = Verifier::start(options(&fake)).await.unwrap_err();
    assert!(matches!(&error, FeedError::Keys(why) if why.contains("ed25519/t1/auth/v1")), "{error}");
}

#[tokio::test]
async fn nothing_is_left_of_one_that_is_gone() {
    let fake = Fake::start(script());
    for _ in 0..3 {
        drop(started(&fake).await);
    }
    until("no connection", || fake.script().connections == 0).await;
}

#[test]
fn scopes_are_all_compared_however_many() {
    let scopes: Vec<String> = (0..FEW_SCOPES + 2).map(|n| n.to_string()).collect();
    for count in 0..=scopes.len() {
        with_scopes(&scopes[..count], |some| assert_eq!(some, &scopes[..count]));
    }
}
