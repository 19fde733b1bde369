//! `bind = "peer"`: who presents a passport is who the verifying service says, and no other.

use passportd::passport::OwnedEnvelope;
use passportd::wire::{Code, IssueSpec, Issued, Passport, PassportForm, ServiceOk, ServiceOp, Verdict, Want};

use crate::support::options::POLICY;
use crate::support::passports::{claims, demo, for_demo, on_wire, owned};
use crate::support::raw::Raw;
use crate::support::{House, Options, ledger, root_or_skip};

/// The uid that the kernel shows for whoever has none here.
const OVERFLOW: u32 = 65_534;
const OTHER: u32 = 61_201;

/// [`POLICY`] with templates that bind: alone, with a limit, and as JWS.
fn policy() -> String {
    let template = |name: &str, more: &str| {
        format!(
            "\n[[template]]\nname = \"{name}\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\naudiences = [\"demo\"]\n\
             max_ttl_s = 3600\nbind = \"peer\"\n{more}"
        )
    };
    POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"desk\", \"few\", \"web\"]")
        + &template("desk", "")
        + &template("few", "limit = 2\n")
        + &template("web", "forms = [\"jws\"]\noffline_risk = true\n")
}

fn house() -> House {
    House::start(Options::default().policy(&policy()))
}

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn by(uid: u32) -> Want<'static> {
    Want { peer_uid: Some(uid), ..for_demo() }
}

fn desk(uid: Option<u32>) -> IssueSpec<'static> {
    IssueSpec { template: "desk", sub: "alice", uid, ..IssueSpec::default() }
}

/// The verdict in one word.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted(_) => "accepted",
        Verdict::Consumed(_) => "consumed",
        Verdict::Refused(code) => code.name(),
        Verdict::Unproven { .. } => "unproven",
    }
}

/// What each way of asking says. The first three must say the same; Introspect says it in its own words.
fn asked(raw: &mut Raw, want: &Want<'static>, passport: Passport<'_>) -> &'static str {
    let verify = ServiceOp::Verify { want: want.clone(), passport: passport.clone() };
    let with = ServiceOp::VerifyWith { want: want.clone(), passport: passport.clone(), retry: None, proof: None };
    let batch = ServiceOp::VerifyBatch { want: want.clone(), items: vec![passport.clone(), passport.clone()] };
    let one = |answer| match answer {
        Ok(ServiceOk::Verdict(verdict)) => word(&verdict),
        other => panic!("{other:?}"),
    };
    let said = one(raw.ask(verify));
    assert_eq!(one(raw.ask(with)), said);
    match raw.ask(batch) {
        Ok(ServiceOk::Verdicts(all)) => assert_eq!(all.iter().map(word).collect::<Vec<_>>(), [said; 2]),
        other => panic!("{other:?}"),
    }
    match raw.ask(ServiceOp::Introspect { want: want.clone(), passport }) {
        Ok(ServiceOk::Introspection(seen)) => {
            assert_eq!((seen.active, seen.reason.map_or("accepted", Code::name)), (said == "accepted", said));
        }
        other => panic!("{other:?}"),
    }
    said
}

#[test]
fn a_passport_is_good_from_its_user_and_from_nobody_else_however_one_asks() {
    let house = house();
    let mut raw = house.raw();
    for (passport, uid) in [
        (raw.issue(desk(None)).unwrap(), me()),
        (raw.issue(desk(Some(OTHER))).unwrap(), OTHER),
        (raw.issue(desk(Some(0))).unwrap(), 0),
    ] {
        assert_eq!(claims(&passport)["cnf"], serde_json::json!({"uid": uid}));
        let mut say = |want| asked(&mut raw, &want, on_wire(&passport));
        for _ in 0..2 {
            assert_eq!(say(by(uid)), "accepted", "it takes nothing");
        }
        assert_eq!(say(for_demo()), "pop_required");
        for other in [uid + 1, u32::MAX, OVERFLOW, if uid == 0 { 1 } else { 0 }] {
            assert_eq!(say(by(other)), "pop_invalid", "{other}");
        }
        // What is wrong beside the presenter is said first.
        assert_eq!(say(Want { scopes: vec!["write"], ..for_demo() }), "scope_denied");
        assert!(house.verdict_counted("pop_invalid") && house.verdict_counted("pop_required"));
    }
    let free = raw.issue(demo("bob")).unwrap();
    for want in [for_demo(), by(0), by(OVERFLOW)] {
        assert_eq!(asked(&mut raw, &want, on_wire(&free)), "accepted");
    }
}

impl House {
    fn verdict_counted(&self, code: &str) -> bool {
        self.metric(&format!("passport_failures_total{{reason=\"{code}\"}}")) > 0.0
    }
}

#[test]
fn a_jws_is_bound_as_an_envelope_is() {
    let house = house();
    let mut raw = house.raw();
    let spec = IssueSpec { template: "web", form: PassportForm::Jws, ..desk(Some(OTHER)) };
    let Ok(ServiceOk::Issued(Issued::Jws { text })) = raw.ask(ServiceOp::Issue(spec)) else { panic!("no JWS") };
    let jws = Passport::Jws { text: &text };
    assert_eq!(asked(&mut raw, &by(OTHER), jws.clone()), "accepted");
    assert_eq!(asked(&mut raw, &by(me()), jws.clone()), "pop_invalid");
    assert_eq!(asked(&mut raw, &for_demo(), jws), "pop_required");
}

#[test]
fn only_a_template_that_binds_takes_a_uid_and_nobody_is_bound_to_nobody() {
    let house = house();
    let mut raw = house.raw();
    let mut refused = |spec| {
        let problem = raw.issue(spec).unwrap_err();
        assert!(!problem.retryable);
        (problem.code, problem.message)
    };
    let (code, message) = refused(IssueSpec { uid: Some(me()), ..demo("alice") });
    assert!(code == Code::ScopeDenied && message.contains("uid"), "{message}");
    assert_eq!(refused(desk(Some(OVERFLOW))).0, Code::ScopeDenied);
    let (code, message) = refused(desk(Some(u32::MAX)));
    assert!(code == Code::Malformed && message.contains("cnf.uid"), "{message}");
    // The operator is told which template it was.
    let records = ledger::records(&house.ledger());
    let told = |text: &str| records.iter().any(|one| one.to_string().contains(text));
    assert!(told("is not \\\\\\\"peer\\\\\\\"") || told("is not \\\"peer\\\""), "{records:?}");
    // A batch has an answer for each.
    let specs = vec![desk(None), IssueSpec { uid: Some(1), ..demo("bob") }, desk(Some(1))];
    let Ok(ServiceOk::IssuedBatch(all)) = raw.ask(ServiceOp::IssueBatch(specs)) else { panic!("no batch") };
    let uids: Vec<_> = all
        .into_iter()
        .map(|one| one.map(|one| claims(&owned(one))["cnf"]["uid"].clone()).map_err(|p| p.code))
        .collect();
    assert_eq!(uids, [Ok(me().into()), Err(Code::ScopeDenied), Ok(1.into())]);
}

#[test]
fn another_user_takes_no_use_and_learns_no_answer() {
    let house = house();
    let mut raw = house.raw();
    let few: OwnedEnvelope = raw.issue(IssueSpec { template: "few", ..desk(Some(OTHER)) }).unwrap();
    let mut ask = |want: Want<'static>, retry| {
        let with = ServiceOp::VerifyWith { want, passport: on_wire(&few), retry, proof: None };
        match raw.ask(with) {
            Ok(ServiceOk::Verdict(Verdict::Consumed(it))) => Ok((it.left, it.repeated)),
            Ok(ServiceOk::Verdict(verdict)) => Err(word(&verdict)),
            other => Err(other.unwrap_err().code.name()),
        }
    };
    for _ in 0..3 {
        assert_eq!(ask(by(me() + 1), None), Err("pop_invalid"));
        assert_eq!(ask(for_demo(), Some([7; 16])), Err("pop_required"));
    }
    assert_eq!(ask(by(OTHER), Some([7; 16])), Ok((Some(1), false)));
    assert_eq!(ask(by(OTHER), Some([7; 16])), Ok((Some(1), true)));
    // By the same key with another presenter: it is not the question that was answered.
    assert_eq!(ask(by(OTHER + 1), Some([7; 16])), Err("pop_invalid"));
    assert_eq!(ask(by(OTHER), None), Ok((Some(0), false)));
    assert_eq!(ask(by(OTHER), None), Err("limit_exceeded"));
    assert_eq!(ask(by(me() + 1), None), Err("pop_invalid"));
}

/// What is bound stays bound when the template no longer binds; what was free stays free when it begins to.
#[test]
fn a_reload_unbinds_nothing() {
    let house = house();
    let mut raw = house.raw();
    let (bound, free) = (raw.issue(desk(Some(OTHER))).unwrap(), raw.issue(demo("bob")).unwrap());
    house.write_policy("10-test.toml", &policy().replacen("bind = \"peer\"\n", "", 1));
    house.admin_raw().admin(passportd::wire::AdminOp::Reload).unwrap();
    assert_eq!(asked(&mut raw, &for_demo(), on_wire(&bound)), "pop_required");
    assert_eq!(asked(&mut raw, &by(OTHER), on_wire(&bound)), "accepted");
    assert_eq!(raw.issue(desk(Some(OTHER))).unwrap_err().code, Code::ScopeDenied);
    assert!(claims(&raw.issue(desk(None)).unwrap()).get("cnf").is_none());
    house
        .write_policy("10-test.toml", &policy().replacen("name = \"demo\"\n", "name = \"demo\"\nbind = \"peer\"\n", 1));
    house.admin_raw().admin(passportd::wire::AdminOp::Reload).unwrap();
    assert_eq!(asked(&mut raw, &for_demo(), on_wire(&free)), "accepted");
    let now = raw.issue(demo("bob")).unwrap();
    assert_eq!(asked(&mut raw, &for_demo(), on_wire(&now)), "pop_required");
    assert_eq!(asked(&mut raw, &by(me()), on_wire(&now)), "accepted");
}

/// A service that issues for itself: each peer's passports are its own.
#[test]
fn by_default_it_is_bound_to_the_user_who_asks_as_the_kernel_knows_it() {
    if !root_or_skip("by_default_it_is_bound_to_the_user_who_asks_as_the_kernel_knows_it") {
        return;
    }
    let rule = format!("\n[[peer]]\nname = \"other\"\nuid = {OTHER}\nallow = [\"issue\"]\ntemplates = [\"desk\"]\n");
    let house = House::start(Options::default().policy(&(policy() + &rule)));
    let passport = house.raw_as(OTHER, OTHER, &[]).issue(desk(None)).unwrap();
    assert_eq!(claims(&passport)["cnf"]["uid"], OTHER);
    let mut raw = house.raw();
    assert_eq!(asked(&mut raw, &by(OTHER), on_wire(&passport)), "accepted");
    assert_eq!(asked(&mut raw, &by(me()), on_wire(&passport)), "pop_invalid");
}
