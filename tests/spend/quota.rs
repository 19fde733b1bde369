//! One tenant fills its share of what is kept: the other goes on, and so do admins.

use passportd::passport::OwnedEnvelope;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::{AdminOk, AdminOp, Code, IssueSpec, Problem, Revocation, Verdict};

use crate::asked::{Seen, seen};
use crate::support::passports::{claims, for_demo};
use crate::support::raw::Raw;
use crate::support::{House, Options, Users, root_or_skip};

/// Rows in all.
const ENTRIES: u32 = 128;
/// The services of the first tenant, and of the second.
const FIRST: [u32; 4] = [41_301, 41_302, 41_303, 41_304];
const SECOND: u32 = 41_311;

fn options() -> Options {
    let tenant = |name: &str| format!("[[tenant]]\nname = {name:?}\npurposes = [\"auth\"]\nmax_ttl_s = 86400\n");
    let templates = ["t1", "t2"].map(|tenant| {
        ["free:", "few:limit = 3", "once:nonce = \"required\""]
            .map(|one| {
                let (kind, keys) = one.split_once(':').unwrap();
                format!(
                    "[[template]]\nname = \"{tenant}-{kind}\"\ntenant = {tenant:?}\npurpose = \"auth\"\n\
                     subjects = [\"*\"]\naudiences = [\"demo\"]\nmax_ttl_s = 3600\n{keys}\n"
                )
            })
            .concat()
    });
    let services = FIRST
        .into_iter()
        .chain([SECOND])
        .map(|uid| format!("[[peer]]\nname = \"{uid}\"\nuid = {uid}\nallow = [\"verify\"]\nverify_as = [\"demo\"]\n"));
    let tester = "[[peer]]\nname = \"tester\"\nuid = @UID@\nrps = 10000000\nallow = [\"issue\", \"verify\", \"health\", \
                  \"status\", \"stage\", \"activate\", \"revoke_any\", \"bump_epoch\"]\nverify_as = [\"demo\"]\n\
                  templates = [\"t1-free\", \"t1-few\", \"t1-once\", \"t2-free\", \"t2-few\", \"t2-once\"]\n";
    let policy = tester.to_owned() + &services.collect::<String>() + &templates.concat();
    Options::default()
        .users(Users::Own)
        .policy(&policy)
        .bounds(&(tenant("t1") + &tenant("t2")))
        .set("state.entries", ENTRIES)
}

fn issue(house: &House, template: &str, sub: &str, nonce: Option<&str>) -> OwnedEnvelope {
    house.raw().issue(IssueSpec { template, sub, nonce, ..IssueSpec::default() }).unwrap()
}

fn service(house: &House, uid: u32) -> Raw {
    house.raw_as(uid, uid, &[])
}

/// Accepts a passport with a new nonce of this tenant, or says why not.
fn once(house: &House, raw: &mut Raw, tenant: &str, nonce: &str) -> Result<(), Problem> {
    let passport = issue(house, &format!("{tenant}-once"), "alice", Some(nonce));
    raw.verify(for_demo(), &passport).map(|verdict| assert_eq!(seen(verdict), Seen::Left(None)))
}

fn assert_full(problem: &Problem) {
    assert_eq!((problem.code, problem.retryable), (Code::StoreUnavailable, true), "{problem:?}");
    assert!(problem.message.contains("as many revocations, uses and nonces as one"), "{problem:?}");
}

#[test]
fn a_tenant_that_fills_its_share_harms_no_other_and_no_admin() {
    if !root_or_skip("several users") {
        return;
    }
    let house = House::start(options());
    house.ceremony(PlanKind::Generate, "t2", "auth");
    house.stage("ed25519/t2/auth/v1").unwrap();
    house.activate("ed25519/t2/auth/v1").unwrap();
    let mut others = service(&house, SECOND);
    let [ours, theirs] = ["t1-few", "t2-few"].map(|template| issue(&house, template, "alice", None));
    let [free, other_free] = ["t1-free", "t2-free"].map(|template| issue(&house, template, "bob", None));
    let mut first = service(&house, FIRST[0]);
    assert_eq!((first.see(&ours), others.see(&theirs)), (Seen::Left(Some(2)), Seen::Left(Some(2))));

    // Each takes what it may, until none of them gets anything more.
    let mut taken = 1;
    for uid in FIRST {
        let mut raw = service(&house, uid);
        let refusal = (0..ENTRIES).find_map(|n| {
            let refused = once(&house, &mut raw, "t1", &format!("{uid}-{n}")).err();
            taken += u32::from(refused.is_none());
            refused
        });
        assert_full(&refusal.expect("nobody may have everything"));
    }
    println!("{taken} rows of {ENTRIES} are the first tenant's");
    assert!((ENTRIES / 3..=ENTRIES / 2).contains(&taken), "{taken} of {ENTRIES}");

    // Nothing of it is accepted, alone or beside others; what takes nothing is, and so is what has its row.
    let late = issue(&house, "t1-once", "alice", Some("late"));
    for _ in 0..3 {
        assert_full(&first.verify(for_demo(), &late).unwrap_err());
        assert_full(&first.verify_batch(for_demo(), &[free.clone(), late.clone()]).unwrap_err());
    }
    assert_eq!((first.see(&free), first.see(&ours)), (Seen::Free, Seen::Left(Some(1))));

    let others_go_on = |house: &House, round: &str| {
        let mut others = service(house, SECOND);
        for n in 0..3 {
            once(house, &mut others, "t2", &format!("{round}-{n}")).unwrap();
        }
    };
    others_go_on(&house, "full");
    assert_eq!((others.see(&theirs), others.see(&other_free)), (Seen::Left(Some(1)), Seen::Free));

    let mut admin = house.admin_raw();
    let revoked = Verdict::Refused(Code::Revoked);
    for (tenant, few, free) in [("t1", &ours, &free), ("t2", &theirs, &other_free)] {
        let claims = claims(few);
        for what in [
            Revocation::Id { jti: claims["jti"].as_str().unwrap(), exp: None },
            Revocation::Subject { sub: "carol", before: None },
        ] {
            let asked = admin.admin(AdminOp::Revoke { tenant, what: vec![what], reason: "a test" });
            assert_eq!(asked, Ok(AdminOk::Revoked { new: 1 }), "{tenant}");
        }
        assert_eq!(house.raw().verify(for_demo(), few), Ok(revoked.clone()));
        assert_eq!(house.raw().see(free), Seen::Free);
    }
    others_go_on(&house, "revoked");
    assert_eq!(
        admin.admin(AdminOp::BumpEpoch { tenant: "t1", reason: "a test" }),
        Ok(AdminOk::EpochBumped { epoch: 1 })
    );
    assert_eq!((house.raw().see(&free), house.raw().see(&other_free)), (Seen::Refused(Code::Revoked), Seen::Free));
    others_go_on(&house, "bumped");
    // A passport of the new epoch is another; the share is as full as before.
    assert_full(&once(&house, &mut first, "t1", "anew").unwrap_err());
    assert_eq!(first.see(&issue(&house, "t1-free", "bob", None)), Seen::Free);
}
