//! Verdicts in a service's own process are the daemon's, and follow all that happens there; without the daemon there are none.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::client::{FeedError, Unfed, Verifier, VerifierOptions, Want};
use passportd::passport::OwnedEnvelope;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Revocation, ServiceOk, ServiceOp, Verdict};
use support::house::FIRST_KEY;
use support::options::POLICY;
use support::passports::{claims, demo, for_demo, on_wire};
use support::{House, Options, Roles};

const PATIENCE: Duration = Duration::from_secs(20);
/// For how long these verifiers go by what they heard.
const BOUND: Duration = Duration::from_secs(2);

fn options(house: &House) -> VerifierOptions {
    let service = VerifierOptions::service(house.socket());
    VerifierOptions { audience: Some("demo".to_owned()), stale_after: BOUND, ..service }
}

async fn started(house: &House) -> Verifier {
    Verifier::start(options(house)).await.unwrap()
}

fn said(verifier: &Verifier, passport: &OwnedEnvelope) -> Result<Option<Code>, Unfed> {
    let want = Want { scopes: vec!["read".to_owned()], ..Want::default() };
    verifier.verify(passport, &want).map(|verdict| match verdict {
        Verdict::Accepted(_) => None,
        Verdict::Refused(code) => Some(code),
        other => panic!("{other:?}"),
    })
}

/// What the daemon says.
fn daemons(house: &House, passport: &OwnedEnvelope) -> Option<Code> {
    match house.raw().verify(for_demo(), passport).unwrap() {
        Verdict::Accepted(_) => None,
        Verdict::Refused(code) => Some(code),
        other => panic!("{other:?}"),
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_said(verifier: &Verifier, passport: &OwnedEnvelope, code: Code) {
    until(code.name(), || said(verifier, passport) == Ok(Some(code))).await;
}

fn admin(house: &House, op: AdminOp<'_>) -> AdminOk {
    house.admin_raw().admin(op).unwrap()
}

fn revoke_ids(house: &House, jtis: &[String]) {
    let mut raw = house.admin_raw();
    for part in jtis.chunks(250) {
        let what = part.iter().map(|jti| Revocation::Id { jti, exp: None }).collect();
        let done = raw.admin(AdminOp::Revoke { tenant: "t1", what, reason: "a test" });
        assert!(matches!(done, Ok(AdminOk::Revoked { .. })), "{done:?}");
    }
}

fn jti(passport: &OwnedEnvelope) -> String {
    claims(passport)["jti"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_happens_at_the_daemon_has_its_effect() {
    let house = House::start(Options::default());
    let verifier = started(&house).await;
    let mut raw = house.raw();
    let (by_id, by_subject, by_epoch) =
        (raw.issue(demo("alice")).unwrap(), raw.issue(demo("bob")).unwrap(), raw.issue(demo("carol")).unwrap());
    for passport in [&by_id, &by_subject, &by_epoch] {
        assert_eq!((said(&verifier, passport), daemons(&house, passport)), (Ok(None), None));
    }
    let elsewhere = Want { aud: Some("elsewhere".to_owned()), ..Want::default() };
    assert_eq!(verifier.verify(&by_id, &elsewhere).unwrap(), Verdict::Refused(Code::BadAud));

    let revoked = raw.ask(ServiceOp::Revoke { passport: on_wire(&by_id) });
    assert_eq!(revoked, Ok(ServiceOk::Revoked { new: true }));
    until_said(&verifier, &by_id, Code::Revoked).await;
    assert_eq!(said(&verifier, &by_subject), Ok(None));
    let what = vec![Revocation::Subject { sub: "bob", before: None }];
    admin(&house, AdminOp::Revoke { tenant: "t1", what, reason: "a test" });
    until_said(&verifier, &by_subject, Code::Revoked).await;
    assert_eq!(said(&verifier, &by_epoch), Ok(None));
    admin(&house, AdminOp::BumpEpoch { tenant: "t1", reason: "a test" });
    until_said(&verifier, &by_epoch, Code::Revoked).await;

    // A new key, by which what is issued is accepted; the old one goes on until it is compromised.
    let old = raw.issue(demo("dora")).unwrap();
    assert_eq!(said(&verifier, &old), Ok(None));
    let next = "ed25519/t1/auth/v2";
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stage(next).unwrap();
    house.activate(next).unwrap();
    let new = raw.issue(demo("dora")).unwrap();
    assert_eq!(new.kid, next);
    until("the new key", || said(&verifier, &new) == Ok(None)).await;
    assert_eq!(said(&verifier, &old), Ok(None));
    admin(&house, AdminOp::Compromise { kid: FIRST_KEY, reason: "a test" });
    until_said(&verifier, &old, Code::UnknownKid).await;
    assert_eq!((said(&verifier, &new), daemons(&house, &old)), (Ok(None), Some(Code::UnknownKid)));
    let propagation = verifier.propagation();
    assert!(propagation.count() >= 4, "{propagation:?}");
    assert!(propagation.text().contains("revocation_propagation_seconds_count"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_something_is_the_daemons_to_accept() {
    let few = "\n[[template]]\nname = \"few\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\naudiences = [\"demo\"]\n\
               scopes = [\"read\"]\ndefault_scopes = [\"read\"]\nmax_ttl_s = 3600\nlimit = 3\n";
    let policy = POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"few\"]") + few;
    let house = House::start(Options::default().policy(&policy));
    let (verifier, client) = (started(&house).await, house.client().await);
    let limited = house.raw().issue(IssueSpec { template: "few", ..demo("alice") }).unwrap();
    let want = Want { scopes: vec!["read".to_owned()], ..Want::default() };
    for left in [2, 1, 0] {
        assert_eq!(said(&verifier, &limited), Ok(Some(Code::NeedsDaemon)));
        let verdict = client.verify(&limited, &want).await.unwrap();
        assert!(matches!(&verdict, Verdict::Consumed(it) if it.left == Some(left)), "{verdict:?}");
    }
    assert_eq!(said(&verifier, &limited), Ok(Some(Code::NeedsDaemon)), "which knows that it is used up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_daemon_there_are_no_verdicts_until_it_is_back() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    let verifier = started(&house).await;
    let mut raw = house.raw();
    let (good, bad) = (raw.issue(demo("alice")).unwrap(), raw.issue(demo("bob")).unwrap());
    assert_eq!((said(&verifier, &good), said(&verifier, &bad)), (Ok(None), Ok(None)));
    // It hangs.
    house.freeze("front");
    until("no verdict", || said(&verifier, &good).is_err()).await;
    house.signal("front", Signal::SIGCONT);
    until("verdicts", || said(&verifier, &good) == Ok(None)).await;
    // It dies at once after a revocation.
    raw = house.raw();
    assert_eq!(raw.ask(ServiceOp::Revoke { passport: on_wire(&bad) }), Ok(ServiceOk::Revoked { new: true }));
    house.kill("front");
    until("no verdict", || said(&verifier, &good).is_err()).await;
    let why = verifier.fed().unwrap_err().to_string();
    assert!(why.starts_with("passportd was not heard of for 2000 ms"), "{why}");
    house.start_role("front");
    house.wait_ready();
    until("verdicts", || said(&verifier, &good) == Ok(None)).await;
    assert_eq!(said(&verifier, &bad), Ok(Some(Code::Revoked)));
}

/// More than one page, and then, while it does not listen, more than the daemon keeps for it. On one thread, so that what
/// blocks here keeps it from listening.
#[tokio::test]
async fn many_are_revoked_before_and_while_it_does_not_listen() {
    const BEFORE: usize = 20_000;
    const MEANWHILE: usize = 4_000;
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let (first, last, good) =
        (raw.issue(demo("a")).unwrap(), raw.issue(demo("b")).unwrap(), raw.issue(demo("c")).unwrap());
    let many = |of: &str, count: usize| (0..count).map(|n| format!("{of}-{n}")).collect::<Vec<_>>();
    let mut before = many("before", BEFORE - 1);
    before.insert(BEFORE / 2, jti(&first));
    revoke_ids(&house, &before);
    let verifier =
        Verifier::start(VerifierOptions { stale_after: Duration::from_secs(30), ..options(&house) }).await.unwrap();
    assert_eq!(verifier.revocations(), BEFORE);
    assert_eq!(said(&verifier, &first), Ok(Some(Code::Revoked)));
    assert_eq!((said(&verifier, &last), said(&verifier, &good)), (Ok(None), Ok(None)));
    let mut meanwhile = vec![jti(&last)];
    meanwhile.extend(many("meanwhile", MEANWHILE - 1));
    revoke_ids(&house, &meanwhile);
    until("all of them", || verifier.revocations() == BEFORE + MEANWHILE).await;
    assert!(house.metric("bus_lagged_total") >= 1.0, "it was told that it had missed some");
    assert_eq!(said(&verifier, &last), Ok(Some(Code::Revoked)));
    assert_eq!(said(&verifier, &good), Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_watch_has_no_verifier() {
    let house = House::start(Options::default().policy(&POLICY.replace("\"watch\"", "\"unseal\"")));
    match Verifier::start(options(&house)).await {
        Err(FeedError::Client(error)) => assert_eq!(error.code(), Some(Code::OpDenied), "{error}"),
        other => panic!("{other:?}"),
    }
}
