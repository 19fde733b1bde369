//! The conformance suite against real daemons: by `passportctl`, with frames of its own and with the client library, and by
//! the Python client; and against daemons, and with cases, that are wrong.
#![cfg(test)]

#[path = "conformance_e2e/liar.rs"]
mod liar;
#[path = "conformance_e2e/relay.rs"]
mod relay;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value as Json;
use toml::{Table, Value};

use liar::Liar;
use support::process::signal;
use support::{House, Options, eventually, ledger, root_or_skip, skipped};

/// Everything for whoever comes through the main socket, and what `tests/conformance/README.md` says of the others. The
/// template `keyless` is for a purpose that has no key.
const POLICY: &str = r#"
[[peer]]
name = "service"
uid = @UID@
listener = "main"
rps = 10000000
allow = ["issue", "verify", "introspect", "keys", "health", "seal", "unseal", "revoke", "watch",
         "exchange"]
templates = ["demo", "keyless", "few", "bound"]
exchange_templates = ["demo", "few", "bound"]
verify_as = ["demo", "second"]

[[peer]]
name = "narrow"
uid = @UID@
listener = "narrow"
rps = 5
max_connections = 1
allow = ["verify"]
verify_as = ["demo"]

[[peer]]
name = "bystander"
uid = 61300
allow = ["verify"]

[[peer]]
name = "operator"
uid = @UID@
listener = "admin"
allow = ["health", "status", "attest", "stage", "activate", "pause_issue", "resume_issue", "reload", "drain", "revoke_any",
         "bump_epoch", "compromise", "ticket_ttl", "checkpoint", "rollback", "confirm", "destroy", "test_append"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read", "write"]
default_scopes = ["read"]
max_ttl_s = 3600
forms = ["envelope", "jws"]

[[template]]
name = "few"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
max_ttl_s = 3600
limit = 2

[[template]]
name = "bound"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
max_ttl_s = 3600
bind = "peer"

[[template]]
name = "keyless"
tenant = "t1"
purpose = "other"
subjects = ["*"]
audiences = ["demo"]
scopes = []
max_ttl_s = 3600
"#;

/// Who comes through the door `admin-narrow`, where this process may be somebody else.
const BYSTANDER: u32 = 61_300;

/// Further sockets of the daemon's.
const DOORS: [&str; 2] = ["stranger", "narrow"];

fn furnished() -> House {
    let mut house = House::start(Options::default().audited().policy(POLICY).set("passport.clock_skew_s", 0));
    house.stop();
    let door = |name: &&str| {
        let mut listener = Table::new();
        listener.insert("name".to_owned(), (*name).into());
        listener.insert("socket".to_owned(), path(&house, &format!("{name}.sock")).into());
        listener.insert("mode".to_owned(), "0666".into());
        Value::Table(listener)
    };
    let doors = DOORS.iter().map(door).collect();
    house.set("server.listener", Value::Array(doors));
    house.boot();
    house.wait_ready();
    if root_or_skip("the door `admin-narrow`") {
        relay::to(&house.admin_socket(), &house.dir().join("admin-narrow.sock"), BYSTANDER);
    }
    house
}

fn path(house: &House, name: &str) -> String {
    house.dir().join(name).to_str().unwrap().to_owned()
}

/// The program with what both take: sockets, doors, and the skew of [`furnished`].
fn told(mut command: Command, house: &House, socket: &Path) -> Command {
    command.args(["--socket", socket.to_str().unwrap(), "--admin-socket", &path(house, "admin.sock")]);
    let narrow = house.dir().join("admin-narrow.sock").exists().then_some("admin-narrow");
    for name in DOORS.into_iter().chain(narrow) {
        command.arg("--door").arg(format!("{name}={}", path(house, &format!("{name}.sock"))));
    }
    command.args(["--clock-skew", "0"]);
    command
}

fn passportctl(house: &House, arguments: &[&str]) -> Output {
    passportctl_at(house, &house.socket(), arguments)
}

fn passportctl_at(house: &House, socket: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().arg("conformance");
    told(command, house, socket).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that every case of the suite ran and held.
fn assert_all_held(what: &str, output: &Output) {
    let said = text(&output.stdout);
    let not: Vec<_> = said.lines().filter(|line| !line.starts_with("ok ") && !closed(line)).collect();
    let left_out = said.lines().filter(|line| closed(line)).count();
    let end = format!(" ok, 0 failed, {left_out} skipped");
    let (count, _) = not.last().and_then(|line| line.split_once(&end)).unwrap_or_default();
    assert!(
        output.status.success() && output.stderr.is_empty() && not.len() == 1,
        "{what}: {not:#?}\n{}",
        text(&output.stderr)
    );
    assert_eq!(count.parse(), Ok(cases_there_are() - left_out), "{what}");
}

/// Whether a case was left out since this process can't be somebody else.
fn closed(line: &str) -> bool {
    !nix::unistd::geteuid().is_root() && line.ends_with("give --door admin-narrow=PATH")
}

/// How many cases there are.
fn cases_there_are() -> usize {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let count = |path| {
        let file: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        file["cases"].as_array().unwrap().len()
    };
    files.map(count).sum()
}

#[test]
fn a_daemon_that_allows_everything_passes_every_case_by_every_client() {
    let house = furnished();
    assert_all_held("passportctl", &passportctl(&house, &["--disruptive"]));
    assert_all_held("the client library", &passportctl(&house, &["--disruptive", "--via", "client"]));
    let Some(python) = python() else { return };
    let mut python = told(python, &house, &house.socket());
    assert_all_held("the Python client", &python.arg("--disruptive").output().unwrap());
}

/// `conformance.py`, where there is a Python for it.
fn python() -> Option<Command> {
    let version = "import sys; sys.exit(0 if sys.version_info >= (3, 9) else 1)";
    let found = Command::new("python3").args(["-c", version]).status();
    if !found.is_ok_and(|status| status.success()) {
        skipped("the Python client's conformance: there is no python3 of 3.9 or later");
        return None;
    }
    let mut command = Command::new("python3");
    // -B leaves no compiled files in the source tree; a warning, such as that of an unclosed socket, fails.
    command.args(["-B", "-W", "error", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/conformance.py")]);
    Some(command)
}

/// What a run that disturbs nobody leaves in the ledger: no change of anything, but that passports of its own are revoked. That
/// keys have shown that they sign may be written only now.
const RECORDED: [&str; 13] = [
    "passport_issued",
    "ticket_issued",
    "passport_accepted",
    "issue_refused",
    "verify_refused",
    "refusals_suppressed",
    "request_refused",
    "peer_refused",
    "attested",
    "seal_refused",
    "passport_revoked",
    "self_test_passed",
    "audit_test",
];

#[test]
fn without_being_told_to_it_disturbs_nobody_and_says_what_it_left_out() {
    let house = furnished();
    let before = ledger::records(&house.ledger()).len();
    let output = passportctl(&house, &["--output", "json"]);
    let report: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &report["failed"]), (Some(0), &0.into()), "{report}");
    let cases = report["cases"].as_array().unwrap();
    let left_out: Vec<_> = cases.iter().filter(|case| case["outcome"] == "skipped").collect();
    assert!(left_out.len() >= 5 && report["skipped"] == left_out.len(), "{left_out:?}");
    for case in left_out.into_iter().filter(|case| !closed(case["detail"].as_str().unwrap())) {
        assert_eq!(case["detail"], "it disturbs others; run it with --disruptive", "{case}");
    }
    let events = ledger::records(&house.ledger());
    for event in events[before..].iter().map(|one| one["event"].as_str().unwrap()) {
        assert!(RECORDED.contains(&event), "{event}");
    }
}

#[test]
fn what_the_policy_does_not_give_is_skipped_with_the_reason() {
    let template = support::options::POLICY.split_once("[[template]]").unwrap().1;
    let rule = "[[peer]]\nname = \"tester\"\nuid = @UID@\nlistener = \"main\"\nallow = [\"health\"]\n";
    let house = House::start(Options::default().policy(&format!("{rule}[[template]]{template}")));
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().arg("conformance").arg("--socket").arg(house.socket());
    let output = command.arg("--admin-socket").arg(house.dir().join("none.sock")).arg("--disruptive").output().unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for line in [
        "ok   health",
        "skip keys: the policy does not allow this user `keys` there",
        "skip verify: the policy grants this user no template",
        "skip stranger-whoami: there is no such socket; give --door stranger=PATH",
    ] {
        assert!(said.lines().any(|one| one == line), "{line}\n{said}");
    }
    assert!(said.contains("skip admin-status: the admin socket: can't connect to "), "{said}");
}

#[test]
fn a_daemon_that_lies_is_found_out_by_name() {
    let house = furnished();
    let liar = Liar::before(&house.socket(), &house.dir().join("liar.sock"));
    let output = passportctl_at(&house, liar.socket(), &[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    // It says bad_kid for bad_alg, tells twice that keys are not modified, and calls a batch that is too long retryable.
    let alg = "step 2: ok.Verdict.Refused: expected \"bad_alg\", came \"bad_kid\"";
    let long = "step 1: problem.retryable: expected false, came true";
    let expected = [
        ("keys-not-modified", "at the end, on service: a reply that nobody asked for: {\"id\":2,"),
        ("issue-batch-too-long", long),
        ("verify-alg-none", alg),
        ("verify-alg-es256", alg),
        ("verify-alg-lower-case", alg),
        ("verify-alg-empty", alg),
        ("verify-batch-too-long", long),
        ("jws-that-is-none", "step 3: ok.Verdict.Refused: expected \"bad_alg\", came \"bad_kid\""),
    ];
    let failed: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("FAIL ")?.split_once(": ")).collect();
    assert_eq!(failed.len(), expected.len(), "{failed:#?}");
    for ((name, why), (expected, reason)) in failed.iter().zip(expected) {
        assert!(*name == expected && why.starts_with(reason), "{name}: {why}\nexpected of {expected}: {reason}");
    }
    let Some(python) = python() else { return };
    let output = told(python, &house, liar.socket()).output().unwrap();
    let said = text(&output.stdout);
    let failed: BTreeSet<_> = said.lines().filter_map(|line| line.strip_prefix("FAIL ")?.split(':').next()).collect();
    // A client passes over a reply that nobody waits for.
    let expected = expected.into_iter().map(|(name, _)| name).filter(|name| *name != "keys-not-modified");
    assert_eq!((output.status.code(), failed), (Some(1), expected.collect()), "{said}");
}

#[test]
fn an_interrupted_suite_leaves_the_daemon_as_it_was() {
    let house = furnished();
    let dir = tempfile::tempdir().unwrap();
    let case = r#"{"about": "", "cases": [{"name": "long", "shows": "", "disruptive": true,
        "steps": [{"on": "admin", "send": {"op": {"PauseIssue": {"reason": "long"}}}, "expect": {"ok": {"Done": {}}}},
                  {"wait_s": 60, "send": {"op": {"Ping": {}}}, "expect": {"ok": {"Pong": {}}}}],
        "finally": [{"on": "admin", "send": {"op": {"ResumeIssue": {}}}, "expect": {"ok": {"Done": {}}}}]}]}"#;
    std::fs::write(dir.path().join("long.json"), case).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().arg("conformance");
    let command = &mut told(command, &house, &house.socket());
    command.args(["--disruptive", "--max-wait", "60", "--cases"]).arg(dir.path());
    let tool = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("issuing is paused", Duration::from_secs(10), || (!house.health().issue_ready).then_some(()));
    signal(i32::try_from(tool.id()).unwrap(), Signal::SIGINT);
    let output = tool.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), "passportctl: long: interrupted\n"));
    assert!(house.health().issue_ready);
}

#[test]
fn a_case_that_is_wrong_fails_and_so_does_a_file_that_is_none() {
    let house = furnished();
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("own.json"), text).unwrap();
    let cases = dir.path().to_str().unwrap();
    write(
        r#"{"about": "", "cases": [
        {"name": "right", "shows": "", "steps": [{"send": {"op": {"Ping": {}}}, "expect": {"ok": {"Pong": {}}}}]},
        {"name": "wrong", "shows": "", "steps": [{"send": {"op": {"Ping": {}}}, "expect": {"problem": {"code": "busy"}}}]},
        {"name": "slip", "shows": "", "steps": [{"send": {"op": {"Pong": {}}}, "expect": {}}]},
        {"name": "unbound", "shows": "", "steps": [{"send": {"op": {"Issue": "$none"}}, "expect": {}}]},
        {"name": "need", "shows": "", "needs": ["wings"], "steps": []}]}"#,
    );
    let output = passportctl(&house, &["--cases", cases]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "ok   right");
    assert!(lines[1].starts_with("FAIL wrong: step 1: problem: expected {\"code\":\"busy\"}, came "), "{said}");
    assert!(lines[2].starts_with("FAIL slip: step 1: {\"Pong\":{}} is no operation of this socket: "), "{said}");
    assert_eq!(lines[3], "FAIL unbound: step 1: nothing is bound to $none");
    assert_eq!(lines[4..], ["FAIL need: the case is wrong: there is no need \"wings\"", "1 ok, 4 failed, 0 skipped"]);
    if let Some(python) = python() {
        let output =
            told(python, &house, &house.socket()).args(["--cases", cases, "--only", "wrong"]).output().unwrap();
        let said = text(&output.stdout);
        assert!(
            output.status.code() == Some(1) && said.starts_with("FAIL wrong: step 1: problem: expected "),
            "{said}"
        );
    }

    let one = passportctl(&house, &["--cases", cases, "--only", "right"]);
    assert_eq!((one.status.code(), text(&one.stdout).lines().count()), (Some(0), 2));
    let unknown = passportctl(&house, &["--only", "no-such-case"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("there is no case \"no-such-case\""));
    write("{\"about\": \"\", \"cases\": [{\"name\": \"x\"}]}");
    let broken = passportctl(&house, &["--cases", cases]);
    assert_eq!(broken.status.code(), Some(2));
    assert!(text(&broken.stderr).contains("own.json: missing field `shows` at line 1"), "{broken:?}");
}
