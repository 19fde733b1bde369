//! Disks that can't be written, or do not say what they took, under the state: nothing that takes something is accepted, the rest goes on.

use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::passport::OwnedEnvelope;
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Problem, Revocation, ServiceOk, ServiceOp, Verdict};

use super::support::disk::{Disk, Trouble};
use super::support::options::POLICY;
use super::support::passports::{claims, demo, for_demo, on_wire};
use super::support::{House, Options, eventually, ledger};

const PATIENCE: Duration = Duration::from_secs(20);
const REVOKED: Verdict = Verdict::Refused(Code::Revoked);

fn house(disk: &Disk) -> House {
    let templates = [("few", "limit = 3"), ("once", "nonce = \"required\"")].map(|(name, keys)| {
        format!(
            "[[template]]\nname = {name:?}\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
             audiences = [\"demo\"]\nmax_ttl_s = 3600\n{keys}\n"
        )
    });
    let policy = POLICY.replace("[\"demo\"]\nverify_as", "[\"demo\", \"few\", \"once\"]\nverify_as");
    House::start(disk.options(Options::default().policy(&(policy + &templates.concat()))))
}

fn issue(house: &House, template: &str, nonce: Option<&str>) -> OwnedEnvelope {
    house.raw().issue(IssueSpec { template, sub: "alice", nonce, ..IssueSpec::default() }).unwrap()
}

fn verify(house: &House, passport: &OwnedEnvelope, retry: Option<[u8; 16]>) -> Result<Verdict, Problem> {
    match house.ask(ServiceOp::VerifyWith { want: for_demo(), passport: on_wire(passport), retry, proof: None })? {
        ServiceOk::Verdict(verdict) => Ok(verdict),
        other => panic!("{other:?}"),
    }
}

/// Uses that are left after an acceptance, and whether it was one of before; or why there is none.
fn taken(house: &House, passport: &OwnedEnvelope, retry: Option<[u8; 16]>) -> Result<(Option<u64>, bool), Problem> {
    match verify(house, passport, retry)? {
        Verdict::Consumed(consumed) => Ok((consumed.left, consumed.repeated)),
        other => panic!("{other:?}"),
    }
}

fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, Problem>) {
    let problem = answer.expect_err("nothing is acknowledged that the disk has not taken");
    assert_eq!((problem.code, problem.retryable), (Code::StoreUnavailable, true), "{problem:?}");
}

fn revoke(house: &House, passport: &OwnedEnvelope) -> Result<AdminOk, Problem> {
    let claims = claims(passport);
    let what = vec![Revocation::Id { jti: claims["jti"].as_str().unwrap(), exp: None }];
    house.admin_raw().admin(AdminOp::Revoke { tenant: "t1", what, reason: "a test" })
}

fn state_is_well(house: &House) -> bool {
    house.health().conditions.iter().any(|one| one.name == "state" && one.ok)
}

/// Acceptances of a passport that are on record, without those that say an answer once more.
fn on_record(house: &House, passport: &OwnedEnvelope) -> usize {
    let jti = claims(passport)["jti"].clone();
    let all = ledger::records(&house.ledger());
    all.iter().filter(|one| one["event"] == "passport_accepted" && one["jti"] == jti).count()
}

#[test]
fn a_state_that_cant_be_written_or_synced_acknowledges_nothing_and_recovers_by_itself() {
    let disk = Disk::new();
    let mut house = house(&disk);
    let state = house.dir().join("front/state.redb");
    for (key, trouble) in [(1, Trouble::ReadOnly), (2, Trouble::Write), (3, Trouble::Sync)] {
        let [few, free, bad] = ["few", "demo", "demo"].map(|template| issue(&house, template, None));
        let name = format!("{trouble:?}");
        let (once, again) = (issue(&house, "once", Some(&name)), issue(&house, "once", Some(&name)));
        assert_eq!(taken(&house, &few, None), Ok((Some(2), false)));
        let front = house.pid("front");

        disk.fails(&state, trouble);
        for _ in 0..3 {
            assert_unavailable(verify(&house, &few, None));
            assert_unavailable(verify(&house, &once, Some([key; 16])));
            assert_unavailable(house.raw().verify(for_demo(), &few));
            assert_unavailable(house.raw().verify_batch(for_demo(), &[free.clone(), few.clone()]));
        }
        assert_unavailable(revoke(&house, &bad));
        assert!(!state_is_well(&house), "{trouble:?}: health says so");
        // Verification goes on, and what takes nothing is accepted; also while the file is tried again, and fails again.
        for _ in 0..4 {
            assert!(matches!(house.raw().verify(for_demo(), &free), Ok(Verdict::Accepted(_))), "{trouble:?}");
            assert!(house.raw().issue(demo("bob")).is_ok(), "{trouble:?}");
            std::thread::sleep(Duration::from_millis(400));
            assert_unavailable(verify(&house, &few, None));
        }

        disk.recovers();
        eventually("health says so", PATIENCE, || state_is_well(&house).then_some(()));
        assert_eq!(house.pid("front"), front, "by itself");
        // Nobody was told of an acceptance, so none is on record. Of what failed one may have come to the disk, where only the sync
        // failed: the first.
        assert_eq!(on_record(&house, &few), 1);
        let (left, _) = taken(&house, &few, None).unwrap();
        let late = trouble == Trouble::Sync;
        assert!(left == Some(1) || late && left == Some(0), "{trouble:?}: {left:?}");
        // Its nonce is good once: for whoever asks again as before, whether or not it came to the disk.
        let (none, repeated) = taken(&house, &once, Some([key; 16])).unwrap();
        assert!(none.is_none() && (late || !repeated), "{trouble:?}");
        for passport in [&once, &again] {
            assert_eq!(verify(&house, passport, None), Ok(Verdict::Refused(Code::Replayed)), "{trouble:?}");
        }
        assert_eq!((on_record(&house, &few), on_record(&house, &once), on_record(&house, &again)), (2, 1, 0));
        assert!(matches!(revoke(&house, &bad), Ok(AdminOk::Revoked { .. })));
        assert_eq!(house.raw().verify(for_demo(), &bad), Ok(REVOKED), "{trouble:?}");

        // What was said holds.
        house.end("front", Signal::SIGKILL);
        house.start_role("front");
        house.wait_ready();
        let rest = std::iter::from_fn(|| match verify(&house, &few, None).unwrap() {
            Verdict::Consumed(consumed) => consumed.left,
            Verdict::Refused(Code::LimitExceeded) => None,
            other => panic!("{other:?}"),
        });
        assert_eq!(rest.collect::<Vec<_>>(), (0..left.unwrap()).rev().collect::<Vec<_>>(), "{trouble:?}");
        assert_eq!(verify(&house, &again, None), Ok(Verdict::Refused(Code::Replayed)));
        assert_eq!(house.raw().verify(for_demo(), &bad), Ok(REVOKED));
    }
}
