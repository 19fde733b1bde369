//! Who may revoke what, and what is no revocation.

use passportd::wire::{AdminOk, AdminOp, Code, Problem, Revocation, ServiceOk, ServiceOp, Verdict};

use crate::effect::subject;
use crate::support::house::{FIRST_KEY, House};
use crate::support::options::POLICY;
use crate::support::passports::{demo, for_demo, on_wire};
use crate::support::{Options, root_or_skip};

fn code<T: std::fmt::Debug>(result: Result<T, Problem>) -> Code {
    result.unwrap_err().code
}

#[test]
fn who_may_not_issue_from_its_template_can_t_revoke_a_passport() {
    if !root_or_skip("several users") {
        return;
    }
    let [issuer, reader, none] = [41_001, 41_002, 41_003];
    let rule = |name: &str, uid: u32, allow: &str, templates: &str| {
        format!(
            "[[peer]]\nname = {name:?}\nuid = {uid}\nallow = [{allow}]\ntemplates = [{templates}]\nverify_as = [\"demo\"]\n"
        )
    };
    let policy = POLICY.to_owned()
        + &rule("issuer", issuer, "\"revoke\"", "\"demo\"")
        + &rule("reader", reader, "\"revoke\", \"verify\"", "")
        + &rule("none", none, "\"verify\"", "\"demo\"");
    let house = House::start(Options::default().policy(&policy));
    let passport = house.raw().issue(demo("alice")).unwrap();
    let revoke = |uid: u32| house.raw_as(uid, uid, &[]).ask(ServiceOp::Revoke { passport: on_wire(&passport) });
    assert_eq!((code(revoke(reader)), code(revoke(none))), (Code::OpDenied, Code::OpDenied));
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    assert_eq!(revoke(issuer), Ok(ServiceOk::Revoked { new: true }));
    assert_eq!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Refused(Code::Revoked)));
    // Services have no admin's words, and admins need the right one.
    let admin = |op| house.admin_raw_as(issuer, issuer, &[]).admin(op);
    assert_eq!(code(admin(subject("alice"))), Code::OpDenied, "its own passports, and nobody's subject");
    assert_eq!(code(admin(AdminOp::BumpEpoch { tenant: "t1", reason: "" })), Code::OpDenied);
    assert_eq!(code(admin(AdminOp::Compromise { kid: FIRST_KEY, reason: "" })), Code::OpDenied);
}

#[test]
fn what_is_not_authentic_revokes_nothing() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("alice")).unwrap();
    let mut ask =
        |passport: &passportd::passport::OwnedEnvelope| raw.ask(ServiceOp::Revoke { passport: on_wire(passport) });
    let forged = passportd::passport::OwnedEnvelope { sig: vec![0; 64], ..passport.clone() };
    let mut refused = |passport: &passportd::passport::OwnedEnvelope, why: &str| {
        let problem = ask(passport).unwrap_err();
        assert!(problem.code == Code::Malformed && problem.message.contains(why), "{problem:?}");
    };
    refused(&forged, "verify_failed");
    let bent = passportd::passport::OwnedEnvelope { msg: b"{}".to_vec(), ..passport.clone() };
    refused(&bent, "malformed");
    let foreign = String::from_utf8(passport.msg.clone()).unwrap().replace("/auth/v1", "/auth/v9");
    let kid = "ed25519/t1/auth/v9".to_owned();
    let foreign = passportd::passport::OwnedEnvelope { kid, msg: foreign.into_bytes(), ..passport.clone() };
    refused(&foreign, "unknown_kid");
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
}

#[test]
fn slips_of_an_admin_are_named_and_change_nothing() {
    let house = House::start(Options::default());
    let passport = house.raw().issue(demo("alice")).unwrap();
    let mut admin = house.admin_raw();
    let mut refused = |op: AdminOp<'_>| {
        let problem = admin.admin(op).unwrap_err();
        (problem.code, problem.message)
    };
    let revoke = |tenant: &'static str, what: Vec<Revocation<'static>>, reason: &'static str| AdminOp::Revoke {
        tenant,
        what,
        reason,
    };
    let id = |jti| Revocation::Id { jti, exp: None };
    let long: &str = Box::leak("x".repeat(257).into_boxed_str());
    let most: &str = Box::leak("y".repeat(256).into_boxed_str());
    let (code, why) = refused(revoke("t2", vec![id("j")], ""));
    assert!(code == Code::Malformed && why.contains("no tenant of that name"), "{why}");
    let future = Revocation::Subject { sub: "alice", before: Some(i64::MAX) };
    let (code, why) = refused(revoke("t1", vec![id("j"), future], ""));
    assert!(code == Code::Malformed && why.contains("not in the future"), "{why}");
    assert_eq!(refused(revoke("t1", vec![id("")], "")).0, Code::Malformed);
    assert_eq!(refused(revoke("t1", vec![id(long)], "")).0, Code::Malformed);
    assert_eq!(refused(revoke("t1", vec![id("j")], long)).0, Code::TooLarge);
    assert_eq!(refused(revoke("t1", vec![id("j"); 257], "")).0, Code::TooLarge);
    assert_eq!(refused(AdminOp::BumpEpoch { tenant: "t2", reason: "" }).0, Code::Malformed);
    assert_eq!(refused(AdminOp::BumpEpoch { tenant: "t1", reason: long }).0, Code::TooLarge);
    assert_eq!(refused(AdminOp::Compromise { kid: "ed25519/t1/auth/v9", reason: "" }).0, Code::OpDenied);
    assert!(matches!(house.raw().verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    // At the bounds.
    let ids: Vec<&str> = (0..256).map(|n| &*Box::leak(format!("{n}").into_boxed_str())).collect();
    let all = ids.iter().map(|jti| id(jti)).collect();
    assert_eq!(house.admin_raw().admin(revoke("t1", all, most)), Ok(AdminOk::Revoked { new: 256 }));
    assert_eq!(house.admin_raw().admin(revoke("t1", vec![id(most)], "")), Ok(AdminOk::Revoked { new: 1 }));
    assert_eq!(house.admin_raw().admin(revoke("t1", vec![], "")), Ok(AdminOk::Revoked { new: 0 }));
}
