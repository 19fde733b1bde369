//! The problems that a healthy daemon answers with, in detail. What needs a daemon in trouble is in `trouble`; that no code
//! is left out, in `every_code`.

use std::time::Duration;

use passportd::wire::{AdminOp, Code, Greeting, IssueSpec, Problem, ServiceOk, ServiceOp, Verdict, Want};

use crate::support::house::FIRST_KEY;
use crate::support::passports::{demo, for_demo, on_wire};
use crate::support::raw::{Raw, request};
use crate::support::{House, Options, Roles, eventually, ledger};

/// What a rule for this user may leave out.
fn rule(more: &str) -> String {
    let template = crate::support::options::POLICY.split_once("[[template]]").unwrap().1;
    format!("[[peer]]\nname = \"tester\"\nuid = @UID@\n{more}\n[[template]]{template}")
}

const ALL: &str = "allow = [\"issue\", \"verify\", \"introspect\", \"keys\", \"health\", \"status\", \"reload\", \"stage\", \
                   \"activate\", \"pause_issue\", \"resume_issue\", \"drain\"]\ntemplates = [\"demo\"]\nverify_as = [\"demo\"]\n";

fn service(house: &House, op: ServiceOp<'_>) -> Problem {
    house.ask(op).expect_err("a problem")
}

fn admin(house: &House, op: AdminOp<'_>) -> Problem {
    house.admin_raw().admin(op).expect_err("a problem")
}

fn issue(house: &House, spec: IssueSpec<'_>) -> Problem {
    service(house, ServiceOp::Issue(spec))
}

#[test]
fn too_large_names_the_limit_and_its_value() {
    let house = House::start(Options::default().set("limits.max_batch", 3).set("limits.max_msg_bytes", 700));
    let passport = house.raw().issue(demo("x")).unwrap();
    let long = "s".repeat(256);
    let ctx = format!("{{\"a\":\"{}\"}}", "x".repeat(500));
    let items = vec![on_wire(&passport); 4];
    for (problem, text) in [
        (service(&house, ServiceOp::IssueBatch(vec![demo("x"); 4])), "limits.max_batch is 3"),
        (service(&house, ServiceOp::VerifyBatch { want: for_demo(), items }), "limits.max_batch is 3"),
        (issue(&house, IssueSpec { ctx: Some(&ctx), ..demo(&long) }), "limits.max_msg_bytes is 700"),
        (admin(&house, AdminOp::PauseIssue { reason: &"r".repeat(257) }), "the reason's length is 256"),
    ] {
        assert_eq!((problem.code, problem.message.as_str(), problem.retryable), (Code::TooLarge, text, false));
    }
    assert!(matches!(house.ask(ServiceOp::IssueBatch(vec![demo("x"); 3])), Ok(ServiceOk::IssuedBatch(_))));
}

#[test]
fn a_payload_may_have_max_msg_bytes_and_not_one_more() {
    let mut house = House::start(Options::default());
    // The least that may be configured is 256.
    let sub = "s".repeat(100);
    let passport = house.raw().issue(demo(&sub)).unwrap();
    let bytes = passport.msg.len();
    let mut with = |most: usize| {
        house.set("limits.max_msg_bytes", i64::try_from(most).unwrap());
        house.admin_raw().admin(AdminOp::Reload).unwrap();
        let mut raw = house.raw();
        // Another one by the same wish is as long.
        let issued =
            raw.issue(demo(&sub)).map(|again| again.msg.len()).map_err(|problem| (problem.code, problem.message));
        let all = [passport.clone(), passport.clone()];
        let mut verdicts = raw.verify_batch(for_demo(), &all).unwrap();
        verdicts.push(raw.verify(for_demo(), &passport).unwrap());
        (issued, verdicts)
    };
    let (issued, verdicts) = with(bytes);
    assert_eq!(issued, Ok(bytes));
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Accepted(_))), "{verdicts:?}");
    let (issued, verdicts) = with(bytes - 1);
    assert_eq!(issued, Err((Code::TooLarge, format!("limits.max_msg_bytes is {}", bytes - 1))));
    assert_eq!(verdicts, vec![Verdict::Refused(Code::TooLarge); 3]);
}

#[test]
fn a_reply_that_no_frame_holds_is_too_large_and_the_connection_lives_on() {
    let options = Options::default().set("limits.max_msg_bytes", 16_000).set("limits.max_batch", 200);
    let house = House::start(options);
    let mut raw = house.raw();
    let ctx = format!("{{\"a\":\"{}\"}}", "x".repeat(10_000));
    // The request takes a few bytes less than a frame, and the reply a few more.
    let wishes = vec![IssueSpec { ctx: Some(&ctx), ..demo("x") }; 103];
    let problem = raw.ask(ServiceOp::IssueBatch(wishes)).unwrap_err();
    assert_eq!((problem.code, problem.message.as_str()), (Code::TooLarge, "max_frame is 1048576"));
    raw.issue(demo("y")).unwrap();
    let issued = ledger_count(&house);
    assert_eq!(issued, 1, "what can't be answered is not issued");
}

fn ledger_count(house: &House) -> usize {
    ledger::issued(&house.ledger()).len()
}

#[test]
fn malformed_wishes_say_what_is_wrong() {
    let house = House::start(Options::default());
    for (problem, text) in [
        (issue(&house, IssueSpec { ctx: Some("[]"), ..demo("x") }), "ctx must be one JSON object"),
        (issue(&house, demo("a\nb")), "`sub` must be 1 to 256 bytes long without control characters"),
        (issue(&house, demo(&"x".repeat(257))), "`sub` must be 1 to 256 bytes long without control characters"),
        (
            issue(&house, IssueSpec { ttl_s: Some(0), ..demo("x") }),
            "the lifetime must be at least 1 s and end after the start of validity",
        ),
    ] {
        assert_eq!((problem.code, problem.message.as_str()), (Code::Malformed, text));
    }
    assert_eq!(admin(&house, AdminOp::Stage { kid: "ed25519/t1/auth/v99" }).code, Code::UnknownKid);
    assert_eq!(admin(&house, AdminOp::Stage { kid: "nonsense" }).code, Code::UnknownKid);
    let unknown = admin(&house, AdminOp::Activate { kid: "ed25519/t1/auth/v99" });
    assert_eq!(unknown.code, Code::OpDenied, "{unknown:?}");
}

/// The one record of an event that comes without being waited for: of this key, if one is named. What the house was refused
/// while it was set up is of another one.
fn on_record(house: &House, event: &str, kid: Option<&str>) -> serde_json::Value {
    let mut found = eventually("a record", Duration::from_secs(5), || {
        let mut all = ledger::records(&house.ledger());
        all.retain(|one| one["event"] == event && kid.is_none_or(|kid| one["kid"] == kid));
        (!all.is_empty()).then_some(all)
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_key_change_that_is_refused_is_on_record() {
    const KID: &str = "ed25519/t1/auth/v99";
    for (op, action, reason) in [
        (AdminOp::Stage { kid: KID }, "stage", "unknown_kid"),
        (AdminOp::Activate { kid: KID }, "activate", "op_denied"),
    ] {
        let house = House::start(Options::default());
        let problem = admin(&house, op);
        let record = on_record(&house, "request_refused", Some(KID));
        for (member, value) in [
            ("outcome", "refused"),
            ("action", action),
            ("reason", reason),
            ("kid", KID),
            ("listener", "admin"),
            ("detail", &problem.message),
        ] {
            assert_eq!(record[member], value, "{member} of {record}");
        }
        assert_eq!(record["uid"], nix::unistd::geteuid().as_raw());
    }
}

#[test]
fn a_key_change_that_the_signer_fails_is_on_record_as_failed() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    house.kill("signer");
    let kid = "ed25519/t1/auth/v2";
    let problem = admin(&house, AdminOp::Stage { kid });
    assert_eq!(problem.code, Code::HsmUnavailable);
    let record = on_record(&house, "request_refused", Some(kid));
    assert_eq!((&record["outcome"], &record["reason"]), (&"failed".into(), &"hsm_unavailable".into()), "{record}");
}

#[test]
fn what_policy_does_not_give_is_refused_by_what_is_missing_and_goes_on_record() {
    let house = House::start(Options::default().policy(&rule("allow = [\"issue\", \"verify\", \"reload\"]\n")));
    let passport = "templates and audiences are not granted";
    assert_eq!(issue(&house, demo(passport)).code, Code::OpDenied);
    assert_eq!(service(&house, ServiceOp::Keys { if_etag: None }).code, Code::OpDenied);
    assert_eq!(service(&house, ServiceOp::Health).code, Code::OpDenied);
    assert_eq!(admin(&house, AdminOp::Status).code, Code::OpDenied);
    let forged =
        passportd::passport::OwnedEnvelope { alg: "Ed25519".into(), kid: "k".into(), msg: vec![], sig: vec![] };
    let op = || ServiceOp::Verify { want: Want::default(), passport: on_wire(&forged) };
    assert_eq!(service(&house, op()).code, Code::BadAud);
    let problem = service(&house, ServiceOp::Verify { want: for_demo(), passport: on_wire(&forged) });
    assert_eq!((problem.code, problem.retryable), (Code::BadAud, false));
    assert!(!problem.message.contains("policy.d"), "the rule is for the operator: {}", problem.message);

    let refusals = eventually("six refusals on record", Duration::from_secs(5), || {
        let all = ledger::records(&house.ledger());
        let refused: Vec<_> = all.into_iter().filter(|one| one["outcome"] == "refused").collect();
        (refused.len() == 6).then_some(refused)
    });
    assert!(refusals.iter().all(|one| one["uid"] == nix::unistd::geteuid().as_raw()));
    let asked: Vec<_> = refusals.iter().filter(|one| one["event"] == "issue_refused").collect();
    assert!(matches!(asked[..], [one] if one["sub"] == passport && one["template"] == "demo"), "{asked:?}");
    let keys = refusals.iter().find(|one| one["action"] == "keys").unwrap()["detail"].as_str().unwrap();
    assert!(keys.contains("allows `keys`") && keys.contains("10-test.toml"), "it names rule and file: {keys}");
    house.assert_on_record([]);
}

#[test]
fn a_peer_without_a_rule_may_ask_who_it_is_and_nothing_else() {
    let house = House::start(Options::default());
    house.write_policy("00-start.toml", "[[peer]]\nname = \"other\"\nuid = 4711\nallow = [\"health\"]\n");
    let mut raw = house.raw();
    house.admin_raw().admin(AdminOp::Reload).unwrap();
    for op in [ServiceOp::Ping, ServiceOp::Version, ServiceOp::Health, ServiceOp::Issue(demo("x"))] {
        let problem = raw.ask(op).unwrap_err();
        assert_eq!((problem.code, problem.retryable), (Code::NoPeerPolicy, false));
    }
    assert_eq!(admin(&house, AdminOp::Status).code, Code::NoPeerPolicy);
    let Ok(ServiceOk::WhoAmI(me)) = raw.ask(ServiceOp::WhoAmI) else { panic!("nobody") };
    assert!(me.rules.is_empty() && me.operations == ["whoami"], "{me:?}");
}

#[test]
fn rates_are_kept_over_connections_and_say_when_to_come_back() {
    let house = House::start(Options::default().policy(&rule(&format!("{ALL}rps = 100\nissue_rps = 5\n"))));
    let begun = std::time::Instant::now();
    let mut answers: Vec<_> = (0..30).map(|_| house.raw().issue(demo("x"))).collect();
    let issued = answers.iter().filter(|one| one.is_ok()).count();
    // A burst of a second's worth, and what has grown back meanwhile.
    let most = 5 + usize::try_from(begun.elapsed().as_millis() / 200).unwrap();
    assert!((5..=most).contains(&issued), "issue_rps: {issued} of at most {most}");
    let problem = answers.pop().unwrap().unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::RateLimited, true));
    assert!(problem.retry_after_ms.is_some_and(|wait| (1..=1000).contains(&wait)));
    // The general rate is the larger, and a flood meets it.
    let mut raw = house.raw();
    for op in [
        ServiceOp::Ping,
        ServiceOp::WhoAmI,
        ServiceOp::VerifyBatch { want: for_demo(), items: Vec::new() },
        ServiceOp::IssueBatch(Vec::new()),
    ] {
        let refused = (0..5000).find_map(|_| raw.ask(op.clone()).err()).expect("a flood over the rate");
        assert_eq!(refused.code, Code::RateLimited, "nothing is free of the rate");
    }
    let oversize = ServiceOp::IssueBatch(vec![demo("x"); 513]);
    let limited = (0..1000).map(|_| raw.ask(oversize.clone()).unwrap_err().code).find(|code| *code != Code::TooLarge);
    assert_eq!(limited, Some(Code::RateLimited), "nor is a batch that is too large");
    std::thread::sleep(Duration::from_millis(1000));
    raw.issue(demo("later")).unwrap();
}

/// For a peer whose rule names no rate.
#[test]
fn the_rate_of_the_configuration_holds_where_no_rule_names_one() {
    let house = House::start(Options::default().set("limits.rps", 5).policy(&rule(ALL)));
    let six: Vec<u8> = (1..=6).flat_map(|id| request(id, ServiceOp::Ping)).collect();
    let answers = eventually("six in the time of one", Duration::from_secs(60), || {
        let (mut raw, begun) = (house.raw(), std::time::Instant::now());
        raw.send(&six).unwrap();
        let answers: Vec<_> = (0..6).map(|_| raw.reply().result).collect();
        // On a machine that stood still one may have grown back; then it is tried with a whole second's worth again.
        let in_time = begun.elapsed() < Duration::from_millis(200);
        (!in_time).then(|| std::thread::sleep(Duration::from_secs(1)));
        in_time.then_some(answers)
    });
    assert_eq!(answers[..5], vec![Ok(ServiceOk::Pong); 5]);
    let problem = answers[5].as_ref().unwrap_err();
    assert_eq!((problem.code, problem.retry_after_ms), (Code::RateLimited, Some(200)));
}

#[test]
fn without_a_key_nothing_is_issued_and_readyz_says_so() {
    let house = House::start(Options::default().without_keys());
    let problem = issue(&house, demo("x"));
    assert_eq!((problem.code, problem.retryable), (Code::NotReady, true));
    let (status, body) = house.get("/readyz");
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &report["issue_ready"]), (503, &false.into()));
    let keys = report["conditions"].as_array().unwrap().iter().find(|one| one["name"] == "keys").unwrap();
    assert_eq!(keys["ok"], false);
    assert!(house.health().conditions.iter().any(|one| one.name == "keys" && one.detail.contains("hsm init")));

    let report = house.init();
    assert_eq!(report.keys.len(), 3, "a passport key, an audit key, a seal key: {report:?}");
    assert_eq!(house.get("/readyz").0, 200);
    house.raw().issue(demo("x")).unwrap();
    assert!(house.metric("passport_issuance_blocked_total{reason=\"not_ready\"}") >= 1.0);
}

#[test]
fn pause_and_drain_are_seen_everywhere_and_end() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    let mut admin = house.admin_raw();
    let condition = |name: &str| house.health().conditions.into_iter().find(|one| one.name == name).unwrap();

    admin.admin(AdminOp::PauseIssue { reason: "key review" }).unwrap();
    let problem = raw.issue(demo("x")).unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::Paused, false));
    assert!(matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))), "verification goes on");
    assert_eq!(house.get("/readyz").0, 503);
    assert_eq!((condition("issuing").ok, condition("issuing").detail.as_str()), (false, "paused: key review"));
    let health = house.health();
    assert!(!health.issue_ready && health.verify_ready);
    admin.admin(AdminOp::ResumeIssue).unwrap();
    raw.issue(demo("x")).unwrap();
    assert_eq!(house.get("/readyz").0, 200);

    admin.admin(AdminOp::Drain).unwrap();
    let problem = raw.issue(demo("x")).unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::Draining, true));
    assert!(matches!(raw.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))), "verification goes on");
    let greeting = Raw::connect(&house.socket()).unwrap().greet().unwrap();
    assert!(matches!(greeting, Greeting::Refused(problem) if problem.code == Code::Draining), "no new connections");
    assert_eq!((house.get("/readyz").0, house.get("/healthz").0), (503, 200), "alive, but not ready");
    house.admin_raw().admin(AdminOp::Undrain).unwrap();
    house.raw().issue(demo("x")).unwrap();
    assert_eq!(house.get("/readyz").0, 200);
}

#[test]
fn who_has_all_its_connections_is_turned_away_busy() {
    let house = House::start(Options::default().set("server.max_connections_per_uid", 3));
    let mut held: Vec<_> = (0..3).map(|_| house.raw()).collect();
    let refused = || Raw::connect(&house.socket()).unwrap().body().unwrap();
    let Greeting::Refused(problem) = passportd::wire::decode(&refused().unwrap()).unwrap() else { panic!("welcomed") };
    assert_eq!((problem.code, problem.retryable), (Code::Busy, true));
    assert_eq!(problem.message, "this user has all the connections that it may have");
    assert_eq!(house.metric("busy_rejections_total{endpoint=\"connect\"}"), 1.0);
    house.admin_raw().admin(AdminOp::WhoAmI).unwrap();
    assert_eq!(held.pop().unwrap().ask(ServiceOp::Ping), Ok(ServiceOk::Pong));
    eventually("its place is free again", Duration::from_secs(5), || {
        matches!(Raw::connect(&house.socket()).unwrap().greet(), Ok(Greeting::Welcome(_))).then_some(())
    });
}

#[test]
fn a_rule_bounds_the_connections_and_bytes_of_its_peers() {
    let house =
        House::start(Options::default().policy(&rule(&format!("{ALL}max_connections = 2\nmax_bytes = 100000\n"))));
    let mut raw = house.raw();
    let ctx = format!("{{\"a\":\"{}\"}}", "x".repeat(2000));
    let mut batch = |items| raw.ask(ServiceOp::IssueBatch(vec![IssueSpec { ctx: Some(&ctx), ..demo("x") }; items]));
    let problem = batch(100).unwrap_err();
    assert_eq!((problem.code, problem.retryable), (Code::Busy, true), "200 kB are more than it may hold");
    assert!(matches!(batch(20), Ok(ServiceOk::IssuedBatch(_))), "40 kB are not");
    let _second = house.raw();
    let third = Raw::connect(&house.socket()).unwrap().body().unwrap().unwrap();
    assert!(matches!(passportd::wire::decode(&third), Ok(Greeting::Refused(problem)) if problem.code == Code::Busy));
}

#[test]
fn the_signers_own_bounds_hold_whatever_the_front_asks_for() {
    use passportd::wire::link::{LinkOp, LinkRefusal, LinkResult};
    let house =
        House::start(Options::default().bounds("[[tenant]]\nname = \"t1\"\npurposes = [\"auth\"]\nmax_ttl_s = 60\n"));
    let problem = issue(&house, IssueSpec { ttl_s: Some(61), ..demo("x") });
    assert_eq!((problem.code, problem.retryable), (Code::OpDenied, false));
    let refused = on_record(&house, "issue_refused", None);
    for (member, value) in [
        ("outcome", "refused"),
        ("action", "issue"),
        ("reason", "op_denied"),
        ("sub", "x"),
        ("template", "demo"),
        ("kid", FIRST_KEY),
        ("detail", "the signer refused: LifetimeDenied"),
    ] {
        assert_eq!(refused[member], value, "{member} of {refused}");
    }
    let good = house.raw().issue(IssueSpec { ttl_s: Some(60), ..demo("x") }).unwrap();
    let text = String::from_utf8(good.msg).unwrap();
    let ask = |payload: &str| match house.ask_signer(LinkOp::Sign { payload: payload.as_bytes() }) {
        LinkResult::Refused(refusal) => refusal,
        other => panic!("{payload}: {other:?}"),
    };
    for (from, to, refusal) in [
        ("passportd.test", "passportd.evil", LinkRefusal::ForeignIssuer),
        ("/t1/", "/t2/", LinkRefusal::TenantDenied),
        ("/auth/", "/seal/", LinkRefusal::PurposeDenied),
        ("/auth/", "/audit/", LinkRefusal::PurposeDenied),
        ("/v1\"", "/v2\"", LinkRefusal::UnknownKid),
        ("\"exp\":1", "\"exp\":2", LinkRefusal::LifetimeDenied),
        ("\"iat\"", " \"iat\"", LinkRefusal::NotCanonical),
    ] {
        assert_eq!(ask(&text.replacen(from, to, 1)), refusal, "{from} → {to}");
    }
    assert_eq!(ask("passportd/probe/v1\0"), LinkRefusal::Malformed);
}
