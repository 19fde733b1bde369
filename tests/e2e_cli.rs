//! What `passportctl` checks by itself holds against the real daemon: its statements, its passports, its key set, its
//! status on a screen.
#![cfg(test)]

#[path = "cli_fake/mod.rs"]
#[expect(dead_code, reason = "shared by several tests")]
mod fake;
#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fake::Fake;
use serde_json::Value;
use support::passports::demo;
use support::{House, Options};

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

fn run(house: &House, arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().args(arguments).env("PASSPORTCTL_CONFIG", house.dir().join("passportd.toml"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// The checks of a statement that came out so.
fn checks(document: &Value, outcome: &str) -> Vec<String> {
    let checks = document["checks"].as_array().unwrap().iter().filter(|check| check["outcome"] == outcome);
    checks.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_daemons_own_statement_is_not_contradicted() {
    let house = House::start(Options::default());
    let statement = run(&house, &["attest"], "").stdout;
    let verify = ["attest", "--verify", "-", "--output", "json"];
    let ran = run(&house, &verify, &statement);
    assert_eq!(ran.code, Some(3), "{} {}", ran.stdout, ran.stderr);
    assert_eq!(run(&house, &[&verify[..], &["--allow-unsigned"]].concat(), &statement).code, Some(0));
    let held = ["form", "time", "keys", "key set", "issuer", "config", "policy"];
    assert_eq!(
        (checks(&ran.json(), "holds"), checks(&ran.json(), "not_checked")),
        (held.map(str::to_owned).into(), vec!["signature".into()])
    );

    // Another policy on the disk than the one in force.
    fs::write(house.dir().join("policy.d/99-more.toml"), "").unwrap();
    let ran = run(&house, &[&verify[..], &["--allow-unsigned"]].concat(), &statement);
    assert_eq!((ran.code, checks(&ran.json(), "contradicted")), (Some(3), vec!["policy".to_owned()]), "{}", ran.stdout);
    fs::remove_file(house.dir().join("policy.d/99-more.toml")).unwrap();

    // Another key set than the one that it speaks of.
    let other = house.dir().join("jwks.json");
    fs::write(&other, r#"{"keys":[]}"#).unwrap();
    let ran = run(&house, &[&verify[..], &["--jwks", other.to_str().unwrap()]].concat(), &statement);
    assert_eq!(
        (ran.code, checks(&ran.json(), "contradicted")),
        (Some(3), vec!["key set".to_owned()]),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_real_passport_has_nothing_wrong_and_is_not_verified() {
    let house = House::start(Options::default());
    let passport = run(&house, &["issue", "--template", "demo", "--sub", "alice", "--ttl", "60"], "").stdout;
    let looked = run(&house, &["inspect", "--output", "json"], &passport);
    let document = looked.json();
    assert_eq!(
        (looked.code, &document["verified"], &document["wrong"]),
        (Some(0), &false.into(), &Value::Array(vec![]))
    );
    assert_eq!(document["claims"]["sub"], "alice");
    // With a signature of zeros it still looks right, which is why looking proves nothing.
    let mut forged: Value = serde_json::from_str(&passport).unwrap();
    forged["sig_b64"] = "A".repeat(86).into();
    let looked = run(&house, &["inspect"], &forged.to_string());
    assert_eq!(looked.code, Some(0));
    assert!(looked.stdout.starts_with("NOT VERIFIED: "), "{}", looked.stdout);
    assert!(looked.stdout.ends_with("nothing looks wrong, which proves nothing: `passportctl verify` judges\n"));
    assert_eq!(run(&house, &["verify", "--aud", "demo"], &forged.to_string()).code, Some(3));
}

#[test]
fn the_published_file_is_the_daemons_set_and_the_status_fits_a_screen() {
    let house = House::start(Options::default());
    let file = house.dir().join("jwks.json");
    let publish =
        |file: &Path| run(&house, &["keys", "--publish", file.to_str().unwrap(), "--output", "json"], "").json();
    assert_eq!(publish(&file)["changed"], true);
    assert_eq!(publish(&file)["changed"], false);
    assert_eq!(fs::read_to_string(&file).unwrap(), run(&house, &["keys"], "").stdout);
    let status = run(&house, &["status"], "").stdout;
    assert!(status.starts_with("ready       issue yes, verify yes\nok   "), "{status}");
    assert!(status.lines().count() < 24 && status.lines().all(|line| line.chars().count() <= 80), "{status}");
}

/// Each path of a document, with the kind of its value; all items of a list are one. Null may stand for any kind.
fn shape(value: &Value, path: &str, found: &mut BTreeMap<String, &'static str>) {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(items) => {
            items.iter().for_each(|item| shape(item, &format!("{path}[]"), found));
            "list"
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| shape(value, &format!("{path}.{name}"), found));
            "object"
        }
    };
    let known = found.entry(path.to_owned()).or_insert(kind);
    if *known == "null" {
        *known = kind;
    }
}

/// The key of RFC 8410 §10.3.
const HOLDER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

/// One who may have tickets, and let them live longer.
const POLICY: &str = r#"
[[peer]]
name = "desk"
uid = @UID@
allow = ["issue", "verify", "exchange", "status", "ticket_ttl"]
templates = ["demo", "vault"]
exchange_templates = ["demo", "vault"]
verify_as = ["demo"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read", "write"]
default_scopes = ["read", "write"]
max_ttl_s = 3600
limit = 2

[[template]]
name = "vault"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
max_ttl_s = 3600
proof = "required"
"#;

#[test]
fn a_ticket_is_had_used_and_lives_longer_for_a_while() {
    let house = House::start(Options::default().policy(POLICY));
    let run = |arguments: &[&str], input: &str| run(&house, arguments, input);
    let passport = run(&["issue", "--template", "demo", "--sub", "alice"], "").stdout;
    let exchange = |more: &[&str]| run(&[&["exchange"], more].concat(), &passport);
    // The passport's only audience is the ticket's.
    let key = ["--retry-key", "4f1c90b6a6d24c0d9f1e55d0c1a7e2b3", "--scope", "read"];
    let (first, again) = (exchange(&key), exchange(&key));
    let claims = |ran: &Ran| run(&["inspect", "--output", "json"], &ran.stdout).json()["claims"].clone();
    assert_eq!(claims(&first)["jti"], claims(&again)["jti"], "{} {}", first.stderr, again.stderr);
    assert_eq!(claims(&first)["scopes"], serde_json::json!(["read"]));
    let verify = || run(&["verify", "--aud", "demo", "-"], &first.stdout);
    let (used, spent) = (verify(), verify());
    assert!(used.code == Some(0) && used.stdout.starts_with("accepted"), "{} {}", used.stdout, used.stderr);
    assert!(spent.code == Some(3) && spent.stdout.starts_with("refused: limit_exceeded"), "{}", spent.stdout);
    // A key of its own each time, so a use each; there were two.
    let (other, last) = (exchange(&[]), exchange(&[]));
    assert_eq!((other.code, last.code), (Some(0), Some(3)), "{} {}", other.stderr, last.stderr);
    assert!(last.stdout.starts_with("refused: limit_exceeded"), "{}", last.stdout);
    // With the key that a passport names.
    let pem = house.dir().join("holder.pem");
    fs::write(&pem, HOLDER).unwrap();
    fs::set_permissions(&pem, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let pem = pem.to_str().unwrap();
    let bound = run(&["issue", "--template", "vault", "--sub", "alice", "--pop-key", pem], "").stdout;
    let (bare, proven) = (run(&["exchange"], &bound), run(&["exchange", "--pop-key", pem], &bound));
    assert!(
        bare.code == Some(3) && bare.stdout.starts_with("refused: pop_required"),
        "{} {}",
        bare.stdout,
        bare.stderr
    );
    assert_eq!(proven.code, Some(0), "{} {}", proven.stdout, proven.stderr);
    let ticket = run(&["verify", "--aud", "demo", "--pop-key", pem], &proven.stdout);
    assert_eq!(ticket.code, Some(0), "{} {}", ticket.stdout, ticket.stderr);
    // For a while they live longer, which the status says.
    let lifetime = || {
        let claims = claims(&run(&["exchange"], &run(&["issue", "--template", "demo", "--sub", "bob"], "").stdout));
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
    };
    let status = || run(&["status"], "").stdout;
    assert_eq!((lifetime(), status().contains("\ntickets ")), (60, false));
    let allowed = run(&["ticket-ttl", "--seconds", "120", "--for", "1h", "--reason", "migration 7"], "");
    assert_eq!(allowed.code, Some(0), "{}", allowed.stderr);
    assert_eq!(lifetime(), 120);
    assert!(status().contains("\ntickets     live for at most 120 s until "), "{}", status());
    assert_eq!(run(&["ticket-ttl", "--end", "--reason", "migration 7 is over"], "").code, Some(0));
    assert_eq!((lifetime(), status().contains("\ntickets ")), (60, false));
}

/// The pages of tests/golden/cli are of the daemon of `tests/cli_fake`; so it has to say what the real one says.
#[test]
fn the_daemon_of_the_recorded_pages_says_what_the_real_one_says() {
    let house = House::start(Options::default());
    house.raw().issue(demo("alice")).unwrap();
    let fake = Fake::start();
    let of_fake = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
        command.env_clear().args(arguments).stdin(Stdio::null());
        command.env("PASSPORTCTL_SOCKET", fake.path("s.sock")).env("PASSPORTCTL_ADMIN_SOCKET", fake.path("a.sock"));
        serde_json::from_slice::<Value>(&command.output().unwrap().stdout).unwrap()
    };
    let names = |document: &Value| -> Vec<String> {
        let all = document.pointer("/health/conditions").or_else(|| document.get("conditions"));
        let all = all.and_then(Value::as_array).into_iter().flatten();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    // As it is, and paused and drained.
    for state in ["", "pause", "drain"] {
        let change: &[&str] = if state == "pause" { &["pause", "--reason", "x"] } else { &[state] };
        if !state.is_empty() {
            assert_eq!(run(&house, change, "").code, Some(0));
            of_fake(&[change, &["--output", "json"]].concat());
        }
        for what in [&["status"][..], &["attest"], &["health"], &["health", "--admin"], &["whoami"], &["version"]] {
            // A drained daemon takes no new connections of services; admins stay.
            if state == "drain" && !["status", "attest"].contains(&what[0]) && !what.contains(&"--admin") {
                continue;
            }
            let arguments = [what, &["--output", "json"]].concat();
            let (real, faked) = (run(&house, &arguments, "").json(), of_fake(&arguments));
            let mut shapes = [BTreeMap::new(), BTreeMap::new()];
            shape(&real, "", &mut shapes[0]);
            shape(&faked, "", &mut shapes[1]);
            let [mut real_shape, mut fake_shape] = shapes;
            // What is null in one may be anything in the other; what is in an empty list nobody knows.
            let both: Vec<_> = real_shape.keys().filter(|path| fake_shape.contains_key(*path)).cloned().collect();
            for path in both {
                if [real_shape[&path], fake_shape[&path]].contains(&"null") {
                    real_shape.remove(&path);
                    fake_shape.remove(&path);
                }
            }
            let items = |path: &String, _: &mut &str| {
                !["groups", "audiences", "notes", "warnings"].iter().any(|list| path.ends_with(&format!("{list}[]")))
            };
            real_shape.retain(items);
            fake_shape.retain(items);
            assert_eq!(fake_shape, real_shape, "{state} {what:?}: tests/cli_fake/documents.rs has drifted");
            assert_eq!(names(&faked), names(&real), "{state} {what:?}");
            for ready in ["/issue_ready", "/verify_ready", "/health/issue_ready", "/health/verify_ready", "/phase"] {
                assert_eq!(faked.pointer(ready), real.pointer(ready), "{state} {what:?} {ready}");
            }
        }
    }
}
