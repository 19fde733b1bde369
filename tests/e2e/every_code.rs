//! Every code that a problem can have is answered by some daemon: seen here, not listed.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use passportd::wire::ceremony::PlanKind;
use passportd::wire::problem::Use;
use passportd::wire::{AdminOp, Code, Greeting, IssueSpec, Problem, ServiceOp, Want, decode};

use crate::support::options::POLICY;
use crate::support::passports::{demo, on_wire};
use crate::support::raw::{Raw, frame};
use crate::support::{House, Options, Roles, Users, eventually, root_or_skip};
use crate::trouble::{SmallDisk, use_up};

type Seen = BTreeSet<&'static str>;

/// What the tester may do, with few passports a second, and a template for which there is no key.
fn policy() -> String {
    let (rule, template) = POLICY.split_once("[[template]]").unwrap();
    let keyless = template.replace("\"demo\"\ntenant", "\"keyless\"\ntenant").replace("\"auth\"", "\"other\"");
    let rule = rule.replace("templates = [\"demo\"]", "templates = [\"demo\", \"keyless\"]\nissue_rps = 20");
    format!("{rule}[[template]]{template}[[template]]{keyless}")
}

/// The first problem that asking again and again meets.
fn meets(what: &str, mut ask: impl FnMut() -> Option<Problem>) -> &'static str {
    (0..5000).find_map(|_| ask()).unwrap_or_else(|| panic!("{what}: never")).code.name()
}

/// What keeps passports from being issued is counted by the code that the peer was told.
fn assert_counted(house: &House, reasons: &[&str]) {
    for reason in reasons {
        let series = format!("passport_issuance_blocked_total{{reason=\"{reason}\"}}");
        assert!(house.metric(&series) >= 1.0, "{series}");
    }
}

fn healthy() -> Seen {
    let house = House::start(
        Options::default().policy(&policy()).set("limits.max_batch", 2).set("server.max_connections_per_uid", 8),
    );
    let (mut raw, mut admin) = (house.raw(), house.admin_raw());
    let passport = raw.issue(demo("x")).unwrap();
    let stranger = Want { aud: Some("stranger"), ..Want::default() };
    let mut seen = Seen::new();
    for op in [
        ServiceOp::Issue(IssueSpec { ctx: Some("[]"), ..demo("x") }),
        ServiceOp::Issue(IssueSpec { scopes: vec!["admin"], ..demo("x") }),
        ServiceOp::Issue(IssueSpec { template: "unknown", ..demo("x") }),
        ServiceOp::Issue(IssueSpec { template: "keyless", ..demo("x") }),
        ServiceOp::IssueBatch(vec![demo("x"); 3]),
        ServiceOp::Verify { want: stranger, passport: on_wire(&passport) },
    ] {
        seen.insert(raw.ask(op.clone()).expect_err(&format!("{op:?}")).code.name());
    }
    raw.send(&frame(&[9, 1])).unwrap();
    seen.insert(raw.reply().result.unwrap_err().code.name());
    seen.insert(admin.admin(AdminOp::Stage { kid: "ed25519/t1/auth/v99" }).unwrap_err().code.name());
    seen.insert(meets("a rate", || raw.issue(demo("x")).err()));

    // The rate may still be met before either.
    admin.admin(AdminOp::PauseIssue { reason: "" }).unwrap();
    seen.insert(meets("a pause", || raw.issue(demo("x")).err().filter(|one| one.code != Code::RateLimited)));
    admin.admin(AdminOp::ResumeIssue).unwrap();
    admin.admin(AdminOp::Drain).unwrap();
    seen.insert(meets("a drain", || raw.issue(demo("x")).err().filter(|one| one.code != Code::RateLimited)));
    admin.admin(AdminOp::Undrain).unwrap();
    assert_counted(&house, &["not_ready", "paused", "draining"]);

    let mut held = Vec::new();
    seen.insert(meets("its share of connections", || {
        let mut one = Raw::connect(&house.socket()).unwrap();
        // Who is refused is told so whatever it says; a hello may find the connection closed.
        drop(one.send(&crate::support::raw::hello()));
        let Greeting::Refused(problem) = decode(&one.body().unwrap().unwrap()).unwrap() else {
            held.push(one);
            return None;
        };
        Some(problem)
    }));
    house.write_policy("10-test.toml", "[[peer]]\nname = \"other\"\nuid = 4711\nallow = [\"health\"]\n");
    admin.admin(AdminOp::Reload).unwrap();
    seen.insert(raw.ask(ServiceOp::Ping).unwrap_err().code.name());
    seen
}

fn without_a_signer() -> Seen {
    let options = Options::default().roles(Roles::Apart).set("hsm.op_timeout_ms", 300);
    let mut house = House::start(options);
    let mut raw = house.raw();
    house.freeze("signer");
    let mut seen = Seen::from([raw.issue(demo("x")).unwrap_err().code.name()]);
    house.signal("signer", Signal::SIGCONT);
    house.kill("signer");
    seen.insert(eventually("the front notices", Duration::from_secs(5), || raw.issue(demo("x")).err()).code.name());
    assert_counted(&house, &["hsm_timeout", "hsm_unavailable"]);
    seen
}

fn with_a_clock_that_went_back() -> Seen {
    let mut house = House::start(Options::default().users(Users::Own));
    house.restart_with_a_key_of_later();
    Seen::from([house.raw().issue(demo("x")).unwrap_err().code.name()])
}

/// Needs root.
fn on_full_disks() -> Option<Seen> {
    let mut house = House::start(Options::default());
    house.ceremony(PlanKind::Generate, "t1", "auth");
    house.stop();
    let (state, records) = (SmallDisk::under_the_state(&house)?, SmallDisk::under(&house, "ledger", "256k")?);
    house.boot();
    house.wait_ready();
    state.fill();
    use_up(&house);
    let staged = house.admin_raw().admin(AdminOp::Stage { kid: "ed25519/t1/auth/v2" });
    let mut seen = Seen::from([staged.unwrap_err().code.name()]);
    state.relieve();
    records.fill();
    let mut raw = house.raw();
    seen.insert(meets("a full disk", || raw.issue(demo("x")).err()));
    assert_counted(&house, &["audit_unavailable"]);
    records.relieve();
    house.stop();
    Some(seen)
}

#[test]
fn every_problem_code_is_answered() {
    // Only approvals and defects of the daemon make these, and this release has neither.
    let mut expected = vec![Code::ApprovalRequired, Code::Internal];
    let mut seen = healthy();
    seen.extend(with_a_clock_that_went_back());
    seen.extend(without_a_signer());
    match root_or_skip("a full disk, among all codes").then(on_full_disks).flatten() {
        Some(more) => seen.extend(more),
        None => expected.extend([Code::AuditUnavailable, Code::StoreUnavailable]),
    }
    let possible = Code::ALL.into_iter().filter(|code| matches!(code.used_as(), Use::Problem | Use::Both));
    let missing: Seen = possible.map(Code::name).filter(|code| !seen.contains(code)).collect();
    assert_eq!(missing, expected.into_iter().map(Code::name).collect(), "codes that nothing here was answered with");
}
