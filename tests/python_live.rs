//! The Python client against a real daemon: `clients/python/test_live.py` asks, and this keeps the daemon.
#![cfg(test)]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use passportd::wire::ceremony::PlanKind;
use toml::{Table, Value};

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use support::fences;
use support::softhsm::skipped::skipped;
use support::{House, Options};

/// Rules by the socket that a peer came through, so that one user can be several peers.
const POLICY: &str = r#"
[[peer]]
name = "service"
uid = @UID@
listener = "main"
rps = 1000000
allow = ["issue", "verify", "introspect", "keys", "health"]
templates = ["demo"]
verify_as = ["demo"]

[[peer]]
name = "reader"
uid = @UID@
listener = "reader"
allow = ["verify"]
verify_as = ["demo"]

[[peer]]
name = "operator"
uid = @UID@
listener = "admin"
allow = ["health", "status", "attest", "stage", "activate", "pause_issue", "resume_issue", "reload", "drain"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read", "write"]
default_scopes = ["read"]
actions = ["open"]
max_ttl_s = 3600
"#;

/// The file that breaks the policy while it is there.
const BROKEN: &str = "policy.d/90-broken.toml";

#[test]
fn the_python_client_is_served_by_the_daemon() {
    let version = "import sys; sys.exit(0 if sys.version_info >= (3, 9) else 1)";
    match Command::new("python3").args(["-c", version]).status() {
        Ok(status) if status.success() => {}
        Ok(_) => return skipped("python3 is older than 3.9"),
        Err(error) => return skipped(&format!("there is no python3 ({error})")),
    }
    let mut house = furnished();
    let mut python = start(house.dir());
    let mut words = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut says = python.stderr.take().unwrap();
    let report = std::thread::spawn(move || {
        let mut text = String::new();
        says.read_to_string(&mut text).map(|_| text)
    });
    let mut answers = python.stdin.take().unwrap();
    while let Some(word) = words.next().transpose().unwrap() {
        let answer = keep(&mut house, &word);
        writeln!(answers, "{answer}").unwrap();
    }
    let status = python.wait().unwrap();
    let report = report.join().unwrap().unwrap();
    assert!(status.success(), "{report}");
    let ran = report.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|count| count >= 20) && !report.contains("skipped="), "{report}");
}

/// clients/python/README.md, but for where this daemon's socket is.
#[test]
fn the_example_of_the_readme_works_as_it_stands() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("there is no python3");
    }
    let page = "clients/python/README.md";
    let ours = |fence: &fences::Fence| fence.language == "python" && fence.page == page;
    let fences: Vec<_> = fences::all().into_iter().filter(ours).collect();
    let [example] = &fences[..] else { panic!("one example: {fences:?}") };
    let policy = POLICY.replace("audiences = [\"demo\"]", "audiences = [\"demo\", \"api\"]");
    let policy = policy.replace("verify_as = [\"demo\"]", "verify_as = [\"demo\", \"api\"]");
    let house = House::start(Options::default().policy(&policy));
    let socket = house.socket();
    let script = example.text.replace("/run/passportd/passportd.sock", socket.to_str().unwrap());
    assert_ne!(script, example.text, "{page} names the socket");
    let script = script + "\nassert len(verdicts) == 2000 and all(verdict.accepted for verdict in verdicts)\n";
    let mut command = Command::new("python3");
    command
        .args(["-B", "-W", "error", "-c", &script])
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python"));
    let output = command.output().unwrap();
    let (said, erred) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.starts_with("True {\"alg\""), "{said}{erred}");
}

/// A daemon with three doors for services.
fn furnished() -> House {
    let mut house = House::start(Options::default().policy(POLICY));
    house.stop();
    let door = |name: &str| {
        let mut listener = Table::new();
        listener.insert("name".to_owned(), name.into());
        listener.insert("socket".to_owned(), house.dir().join(format!("{name}.sock")).to_str().unwrap().into());
        listener.insert("mode".to_owned(), "0666".into());
        Value::Table(listener)
    };
    let doors = vec![door("reader"), door("stranger")];
    house.set("server.listener", Value::Array(doors));
    house.boot();
    house.wait_ready();
    house
}

fn start(folder: &Path) -> Child {
    // -B leaves no compiled files in the source tree; a warning, such as that of an unclosed socket, fails.
    let arguments = ["-B", "-W", "error", "-m", "unittest", "-v", "test_live"];
    Command::new("python3")
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python"))
        .env("PASSPORTD_LIVE", folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Does what no client can.
fn keep(house: &mut House, word: &str) -> String {
    match word {
        "generate" => {
            let report = house.ceremony(PlanKind::Generate, "t1", "auth");
            return report.keys.iter().find(|key| key.made_now).unwrap().kid.clone();
        }
        "stop" => {
            house.stop();
        }
        "start" => {
            house.boot();
            house.wait_ready();
        }
        "kill" => {
            house.kill("front");
            house.pid("front");
            house.wait_ready();
        }
        "smaller" => house.set("limits.max_batch", 100),
        "as it was" => house.set("limits.max_batch", 512),
        "break the policy" => house.write_policy("90-broken.toml", "[[peer]]\nname = \"nobody\"\n"),
        "mend the policy" => std::fs::remove_file(house.dir().join(BROKEN)).unwrap(),
        other => panic!("the keeper does not know {other:?}"),
    }
    "done".to_owned()
}
