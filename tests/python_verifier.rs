//! The verifier of the Python client against a real daemon: `clients/python/test_verifier_live.py` asks, and this keeps the daemon.
#![cfg(test)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use passportd::wire::ceremony::PlanKind;

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use support::fences;
use support::options::POLICY;
use support::softhsm::skipped::skipped;
use support::{House, Options, Roles};

/// Beside the template `demo`: passports that only the daemon may accept.
const MORE: &str = r#"
[[template]]
name = "few"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read"]
default_scopes = ["read"]
max_ttl_s = 3600
limit = 2

[[template]]
name = "either"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read"]
default_scopes = ["read"]
max_ttl_s = 3600
nonce = "optional"
proof = "optional"

[[template]]
name = "bound"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
scopes = ["read"]
default_scopes = ["read"]
max_ttl_s = 3600
bind = "peer"
"#;

/// Whether there is a Python that the client is for.
fn has_python() -> bool {
    let version = "import sys; sys.exit(0 if sys.version_info >= (3, 9) else 1)";
    match Command::new("python3").args(["-c", version]).status() {
        Ok(status) if status.success() => return true,
        Ok(_) => skipped("python3 is older than 3.9"),
        Err(error) => skipped(&format!("there is no python3 ({error})")),
    }
    false
}

#[test]
fn the_verifier_says_what_the_daemon_says() {
    if !has_python() {
        return;
    }
    let policy =
        POLICY.replace("templates = [\"demo\"]", "templates = [\"demo\", \"few\", \"either\", \"bound\"]") + MORE;
    let policy = policy.replacen("max_ttl_s = 3600\n", "max_ttl_s = 3600\nforms = [\"envelope\", \"jws\"]\n", 1);
    let mut house = House::start(Options::default().policy(&policy).roles(Roles::Apart));
    // -B leaves no compiled files in the source tree; a warning, such as that of an unclosed socket, fails.
    let mut python = Command::new("python3")
        .args(["-B", "-W", "error", "-m", "unittest", "-v", "test_verifier_live"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python"))
        .env("PASSPORTD_LIVE", house.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let words = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut says = python.stderr.take().unwrap();
    let report = std::thread::spawn(move || {
        let mut text = String::new();
        says.read_to_string(&mut text).map(|_| text)
    });
    let mut answers = python.stdin.take().unwrap();
    for word in words {
        let answer = keep(&mut house, &word.unwrap());
        writeln!(answers, "{answer}").unwrap();
    }
    let status = python.wait().unwrap();
    let report = report.join().unwrap().unwrap();
    assert!(status.success(), "{report}");
    let ran = report.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(ran.is_some_and(|count| count >= 6) && !report.contains("skipped="), "{report}");
}

/// The example of docs/VERIFIER.md, but for where this daemon's socket is.
#[test]
fn the_example_of_the_page_works_as_it_stands() {
    if !has_python() {
        return;
    }
    let ours = |fence: &fences::Fence| fence.language == "python" && fence.page == "docs/VERIFIER.md";
    let fences: Vec<_> = fences::all().into_iter().filter(ours).collect();
    let [example] = &fences[..] else { panic!("one example: {fences:?}") };
    let policy =
        POLICY.replace("\"demo\"]\nscopes = [\"read\"", "\"demo\", \"orders\"]\nscopes = [\"read\", \"orders:write\"");
    let policy = policy.replace("verify_as = [\"demo\"]", "verify_as = [\"demo\", \"orders\"]");
    let house = House::start(Options::default().policy(&policy));
    let script = example.text.replace("/run/passportd/passportd.sock", house.socket().to_str().unwrap());
    assert_ne!(script, example.text, "it names the socket");
    let script = script
        + "\ngood = client.issue('demo', 'alice', ['orders'], ['orders:write'], 60)\
           \nless = client.issue('demo', 'alice', ['orders'], ['read'], 60)\
           \nassert may_write(good) and not may_write(less)\
           \nverifier.close(); assert may_write(good), 'the daemon is asked'\
           \nclient.close()\n";
    let output = Command::new("python3")
        .args(["-B", "-W", "error", "-c", &script])
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Does what no client can.
fn keep(house: &mut House, word: &str) -> String {
    match word {
        "generate" => {
            let report = house.ceremony(PlanKind::Generate, "t1", "auth");
            return report.keys.iter().find(|key| key.made_now).unwrap().kid.clone();
        }
        "kill" => house.kill("front"),
        "start" => {
            house.start_role("front");
            house.wait_ready();
        }
        other => panic!("the keeper does not know {other:?}"),
    }
    "done".to_owned()
}
