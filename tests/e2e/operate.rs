//! What an operator sees: the metrics port, readiness, and how the daemon ends.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use passportd::wire::{IssueSpec, ServiceOp};

use crate::support::passports::{demo, for_demo};
use crate::support::raw::{frame, request};
use crate::support::{House, Options, Roles, eventually, ledger, skipped};

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics_of_a_daemon_in_use() {
    let house = House::start(Options::default());
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    raw.verify(for_demo(), &passport).unwrap();
    raw.verify_batch(for_demo(), &[passport.clone(), passport]).unwrap();
    raw.issue(IssueSpec { template: "none", ..demo("x") }).unwrap_err();
    raw.ask(ServiceOp::Keys { if_etag: None }).unwrap();
    raw.send(&frame(&[9])).unwrap();
    raw.reply();
    let (status, text) = house.get("/metrics");
    assert_eq!(status, 200);
    for (series, value) in [
        ("passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"ok\"}", 1.0),
        ("passport_ops_total{alg=\"Ed25519\",op=\"issue\",result=\"refused\"}", 1.0),
        ("passport_ops_total{alg=\"Ed25519\",op=\"verify\",result=\"ok\"}", 3.0),
        ("passport_requests_total{code=\"ok\",op=\"verify_batch\"}", 1.0),
        ("passport_failures_total{reason=\"unsupported_version\"}", 1.0),
        ("passport_failures_total{reason=\"op_denied\"}", 1.0),
        ("passport_batch_len_count", 1.0),
        ("passport_batch_len_sum", 2.0),
        ("passport_keys{state=\"active\"}", 1.0),
        ("passport_mode{mode=\"hsm\"}", 1.0),
        ("passport_connections{socket=\"service\"}", 1.0),
        ("svc_passport_dependency_up{dep=\"kms\"}", 1.0),
        ("svc_passport_dependency_up{dep=\"audit\"}", 1.0),
        ("svc_passport_dependency_up{dep=\"state\"}", 1.0),
        ("ledger_events_total{type=\"passport_issued\"}", 1.0),
    ] {
        assert_eq!(house.metric(series), value, "{series} in\n{text}");
    }
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        skipped("promtool check metrics: promtool is not installed (package prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn the_port_has_three_pages_and_shows_no_stranger_any_detail() {
    let house = House::start(Options::default());
    assert_eq!(house.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(house.get("/").0, 404);
    assert_eq!(house.get("/status").0, 404);
    let (status, body) = house.get("/readyz");
    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &report["issue_ready"], &report["verify_ready"]), (200, &true.into(), &true.into()));
    let names: Vec<_> =
        report["conditions"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["hsm", "policy", "audit", "state", "clock", "keys", "issuing", "serving"], "as WIRE.md says");
    let dir = house.dir().to_str().unwrap();
    assert!(!body.contains(dir) && !body.contains("detail"));
    assert_eq!(house.raw().ask(ServiceOp::Health).map(|_| ()), Ok(()));
}

#[test]
fn journald_is_a_condition_where_the_operator_wants_it() {
    let of = |journald: &str| {
        let house = House::start(Options::default().set("audit.journald", journald));
        let found = house.health().conditions.into_iter().find(|one| one.name == "journald");
        (found.map(|one| (one.ok, one.detail)), house.get("/readyz"))
    };
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let there = socket.connect("/run/systemd/journal/socket").is_ok();
    assert_eq!(of("auto").0, None, "there or not");
    let (condition, (status, body)) = of("on");
    let (ok, detail) = condition.expect("a condition");
    assert_eq!((ok, detail.contains("/run/systemd/journal/socket")), (there, !there), "{detail}");
    assert_eq!(status, 200, "the ledger is what must be durable");
    assert!(body.contains("\"journald\""), "readyz names it: {body}");
}

#[test]
fn readyz_waits_for_a_real_signature() {
    let house = House::start(Options::default().roles(Roles::Apart).set("hsm.op_timeout_ms", 300));
    assert_eq!(house.get("/readyz").0, 200);
    // A signer that is there, connected, and does not sign.
    house.freeze("signer");
    house.raw().issue(demo("x")).unwrap_err();
    eventually("readyz notices", Duration::from_secs(10), || (house.get("/readyz").0 == 503).then_some(()));
    house.signal("signer", nix::sys::signal::Signal::SIGCONT);
    house.wait_ready();
    house.raw().issue(demo("x")).unwrap();
    let events = ledger::records(&house.ledger());
    let at = |event: &str| events.iter().rposition(|one| one["event"] == event);
    assert!(at("signer_lost").unwrap() < at("signer_recovered").unwrap());
}

#[test]
fn sigterm_lets_what_is_under_way_finish_and_goes_on_record() {
    let mut house = House::start(Options::default());
    let mut raw = house.raw();
    let wishes: Vec<u8> = (1..=20).flat_map(|id| request(id, ServiceOp::Issue(demo("x")))).collect();
    raw.send(&wishes).unwrap();
    // The first answer shows that the frames, sent in one write, have been read.
    let first = raw.reply();
    let begun = Instant::now();
    assert!(house.stop().success());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let mut replies = vec![first];
    while let Some(body) = raw.body().unwrap() {
        replies.push(passportd::wire::decode(&body).unwrap());
    }
    assert_eq!(replies.len(), 20);
    let issued: Vec<_> = replies
        .into_iter()
        .filter_map(|reply| match reply.result {
            Ok(passportd::wire::ServiceOk::Issued(issued)) => Some(crate::support::passports::owned(issued)),
            Ok(other) => panic!("{other:?}"),
            Err(problem) => {
                assert!(problem.retryable, "{problem:?}");
                None
            }
        })
        .collect();
    assert!(!issued.is_empty());
    house.assert_on_record(issued.iter().map(|one| &one.msg[..]));
    let last = ledger::records(&house.ledger()).pop().unwrap();
    assert_eq!(last["event"], "daemon_stopping");
}

#[test]
fn a_second_daemon_over_the_same_files_is_refused() {
    let house = House::start(Options::default());
    let second = crate::support::process::command("front", house.dir()).output().unwrap();
    assert_eq!(second.status.code(), Some(78), "starting it again would not help");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("served by another process"), "{said}");
    house.raw().issue(demo("x")).unwrap();
}
