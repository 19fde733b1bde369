//! What a service gets, what it is refused, and what the ledger says of it.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use passportd::wire::ceremony::PlanKind;
use passportd::wire::sealed::{MAX_PLAIN, MAX_SEALED, Sealed};
use passportd::wire::{Code, Plain, Problem, ServiceOk, ServiceOp};
use serde_json::Value;

use super::support::{House, Options, eventually, ledger};

const V1: &str = "hmac-sha256/t1/seal/v1";
const V2: &str = "hmac-sha256/t1/seal/v2";
const SECRET: &[u8] = b"correct horse battery staple";

fn seal(house: &House, namespace: &str, name: &str, plain: &[u8]) -> Result<Vec<u8>, Problem> {
    match house.ask(ServiceOp::Seal { namespace, name, plain: Plain(plain) })? {
        ServiceOk::Sealed { blob } => Ok(blob),
        other => panic!("{other:?}"),
    }
}

fn unseal(house: &House, namespace: &str, name: &str, blob: &[u8]) -> Result<Vec<u8>, Problem> {
    match house.ask(ServiceOp::Unseal { namespace, name, blob })? {
        ServiceOk::Unsealed { plain } => Ok(plain.0.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn records(house: &House, event: &str) -> Vec<Value> {
    let mut all = ledger::records(&house.dir().join("ledger"));
    all.retain(|record| record["event"] == event);
    all
}

fn kid(blob: &[u8]) -> String {
    Sealed::parse(blob).unwrap().kid.as_str().to_owned()
}

#[test]
fn a_secret_is_sealed_and_opened_and_both_are_on_record_without_it() {
    let house = House::start(Options::default());
    for plain in [b"".as_slice(), SECRET, &vec![0x5a; MAX_PLAIN]] {
        let blob = seal(&house, "t1/billing", "database", plain).unwrap();
        assert_eq!(kid(&blob), V1);
        assert_eq!(unseal(&house, "t1/billing", "database", &blob).unwrap(), plain);
    }
    for event in ["sealed", "unsealed"] {
        let found = records(&house, event);
        assert_eq!(found.len(), 3, "{event}");
        for record in found {
            assert_eq!((&record["sub"], &record["kid"]), (&Value::from("t1/billing/database"), &Value::from(V1)));
            assert_eq!(
                (&record["outcome"], &record["uid"]),
                (&Value::from("ok"), &Value::from(nix::unistd::geteuid().as_raw()))
            );
        }
    }
    let text = ledger::records(&house.dir().join("ledger")).iter().map(Value::to_string).collect::<String>();
    assert!(!text.contains("battery"), "{text}");
    for (op, count) in [("seal", 3.0), ("unseal", 3.0)] {
        let done = format!("passport_ops_total{{alg=\"XChaCha20-Poly1305\",op=\"{op}\",result=\"ok\"}}");
        assert!((house.metric(&done) - count).abs() < 0.1, "{op}");
    }
}

#[test]
fn what_does_not_open_says_so_in_one_way() {
    let house = House::start(Options::default());
    let blob = seal(&house, "t1/billing", "database", SECRET).unwrap();
    let mut turned = blob.clone();
    *turned.last_mut().unwrap() ^= 1;
    let other_key = [b"PSB1\x01\x16hmac-sha256/t1/seal/v7", &blob[6 + V1.len()..]].concat();
    let cases = [
        ("t1/billing", "mail", blob.as_slice()),
        ("t1/mail", "database", &blob),
        ("t1/billing", "database", &turned),
        ("t1/billing", "database", &other_key),
        ("t1/billing", "database", b"PSB1"),
        ("t1/billing", "database", b""),
    ];
    let refused: Vec<_> =
        cases.iter().map(|(space, name, blob)| unseal(&house, space, name, blob).unwrap_err()).collect();
    assert!(refused.iter().all(|problem| *problem == refused[0]), "{refused:?}");
    assert!(refused[0].code == Code::Malformed && !refused[0].retryable, "{refused:?}");
    eventually("the refusals are on record", Duration::from_secs(5), || {
        let found = records(&house, "unseal_refused");
        let right = |one: &Value| one["reason"] == "unopenable" && one["outcome"] == "refused";
        (found.len() == cases.len()).then(|| assert!(found.iter().all(right), "{found:?}"))
    });
    assert_eq!(records(&house, "unsealed").len(), 0);
    assert_eq!(unseal(&house, "t1/billing", "database", &blob).unwrap(), SECRET);
}

#[test]
fn policy_says_who_seals_where() {
    let policy = |allow: &str| {
        let rule = "[[peer]]\nname = \"tester\"\nuid = @UID@\nseal_namespaces = [\"t1/billing/*\", \"t2/*\"]\n";
        format!("{rule}allow = [\"reload\", \"health\", {allow}]\n")
    };
    let house = House::start(Options::default().policy(&policy("\"seal\"")));
    let blob = seal(&house, "t1/billing/eu", "database", SECRET).unwrap();
    for (namespace, name, code, reason) in [
        ("t1/billing", "database", Code::OpDenied, Some("op_denied")),
        ("t1/mail", "database", Code::OpDenied, Some("op_denied")),
        ("passportd/shared", "database", Code::OpDenied, Some("op_denied")),
        // The signer does not know this tenant: its bounds stand behind the policy.
        ("t2/billing", "database", Code::OpDenied, Some("tenant_denied")),
        ("t1", "database", Code::Malformed, None),
        ("t1/a/b/c", "database", Code::Malformed, None),
        ("t1/billing/eu", "", Code::Malformed, None),
        ("t1/billing/eu", "a\nb", Code::Malformed, None),
    ] {
        let before = records(&house, "seal_refused").len();
        let problem = seal(&house, namespace, name, SECRET).unwrap_err();
        assert_eq!(problem.code, code, "{namespace} {name:?}: {problem:?}");
        let Some(reason) = reason else { continue };
        eventually("the refusal is on record", Duration::from_secs(5), || {
            let found = records(&house, "seal_refused");
            let newest = found.get(before)?;
            assert_eq!((&newest["reason"], &newest["sub"]), (&reason.into(), &format!("{namespace}/{name}").into()));
            Some(())
        });
    }
    let problem = unseal(&house, "t1/billing/eu", "database", &blob).unwrap_err();
    assert_eq!(problem.code, Code::OpDenied, "to seal is not to open");
}

#[test]
fn the_largest_secret_and_one_byte_more() {
    let house = House::start(Options::default());
    let too_large = |problem: Problem| {
        assert!(problem.code == Code::TooLarge && !problem.retryable, "{problem:?}");
        problem.message
    };
    let refused = seal(&house, "t1/billing", "x", &vec![7; MAX_PLAIN + 1]).unwrap_err();
    assert_eq!(too_large(refused), "the largest secret, in bytes, is 65536");
    let refused = unseal(&house, "t1/billing", "x", &vec![7; MAX_SEALED + 1]).unwrap_err();
    assert_eq!(too_large(refused), format!("the largest sealed secret, in bytes, is {MAX_SEALED}"));
    assert_eq!(unseal(&house, "t1/billing", "x", &vec![7; MAX_SEALED]).unwrap_err().code, Code::Malformed);
}

/// `passportctl`, against this daemon.
fn tool(house: &House, stdin: &[u8], arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_passportctl"))
        .args(arguments)
        .env("PASSPORTCTL_SOCKET", house.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), stdin).unwrap();
    child.wait_with_output().unwrap()
}

fn done(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn a_new_key_seals_old_ones_open_and_reseal_moves_on() {
    let house = House::start(Options::default());
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (here, files) = (["--namespace", "t1/billing"], [path("a.sealed"), path("b.sealed")]);
    for (n, file) in files.iter().enumerate() {
        let name = ["a", "b"][n];
        done(tool(&house, SECRET, &[&["seal"], here.as_slice(), &["--name", name, "--out", file]].concat()));
    }
    let refused = tool(&house, SECRET, &[&["seal"], here.as_slice(), &["--name", "a", "--out", &files[0]]].concat());
    assert!(!refused.status.success(), "what is there is not overwritten");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&files[0]).unwrap());
    assert_eq!(mode & 0o7777, 0o600);

    house.ceremony(PlanKind::Generate, "t1", "seal");
    let fresh = eventually("the new key seals", Duration::from_secs(20), || {
        // The signer sees what the ceremony made when a key is staged, or asked for.
        drop(house.stage(V2));
        let blob = seal(&house, "t1/billing", "c", SECRET).unwrap();
        (kid(&blob) == V2).then_some(blob)
    });
    assert_eq!(unseal(&house, "t1/billing", "c", &fresh).unwrap(), SECRET);
    let old = std::fs::read(&files[0]).unwrap();
    assert_eq!((kid(&old), unseal(&house, "t1/billing", "a", &old).unwrap()), (V1.to_owned(), SECRET.to_vec()));
    std::fs::write(path("c.sealed"), &fresh).unwrap();

    let all = [files[0].as_str(), &files[1], &path("c.sealed")];
    let json = |more: &[&str]| -> Value {
        let arguments = [&["reseal", "--output", "json"], here.as_slice(), more, &all].concat();
        serde_json::from_slice(&done(tool(&house, b"", &arguments))).unwrap()
    };
    assert_eq!(json(&["--dry-run"]), serde_json::json!({"resealed": 0, "files": {(V1): 2, (V2): 1}}));
    assert_eq!(json(&[]), serde_json::json!({"resealed": 2, "files": {(V2): 3}}));
    assert_eq!(json(&[]), serde_json::json!({"resealed": 0, "files": {(V2): 3}}));
    for file in all {
        let opened = done(tool(&house, b"", &[&["unseal"], here.as_slice(), &["--in", file]].concat()));
        assert_eq!(opened, SECRET, "{file}");
    }
    let foreign = tool(&house, b"", &[&["unseal"], here.as_slice(), &["--in", &files[0], "--name", "z"]].concat());
    assert_eq!((foreign.status.code(), foreign.stdout.len()), (Some(4), 0));
}

#[test]
fn a_seal_key_is_retired_when_a_newer_one_seals_and_then_opens_nothing() {
    let house = House::start(Options::default());
    let config = house.dir().join("passportd.toml");
    let pin = house.hsm().pin_file();
    let retire = |more: &[&str]| {
        let arguments = ["hsm", "retire", "--kid", V1, "--pin-file", pin.to_str().unwrap()];
        tool(&house, b"", &[&["--config", config.to_str().unwrap()], &arguments[..], more].concat())
    };
    let old = seal(&house, "t1/billing", "database", SECRET).unwrap();
    let refused = retire(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("no newer seal key that can be used"), "{said}");

    house.ceremony(PlanKind::Generate, "t1", "seal");
    drop(house.stage(V2));
    done(retire(&["--dry-run"]));
    // As long as the signer takes to notice a retirement, and some.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(unseal(&house, "t1/billing", "database", &old).unwrap(), SECRET, "only tried");

    done(retire(&[]));
    let told = eventually("it opens nothing", Duration::from_secs(10), || {
        unseal(&house, "t1/billing", "database", &old).err().filter(|problem| !problem.retryable)
    });
    assert_eq!(told.code, Code::Malformed);
    let fresh = seal(&house, "t1/billing", "database", SECRET).unwrap();
    assert_eq!(
        (kid(&fresh), unseal(&house, "t1/billing", "database", &fresh).unwrap()),
        (V2.to_owned(), SECRET.to_vec())
    );
    house.wait_ready();
    assert_eq!(house.log().matches("a key was retired").count(), 1, "once: {}", house.log());
    assert!(!house.log().contains("the HSM does not sign"), "nobody else noticed");
    let doctor = ["--config", config.to_str().unwrap(), "hsm", "doctor", "--pin-file", pin.to_str().unwrap()];
    let found = String::from_utf8(tool(&house, b"", &doctor).stdout).unwrap();
    let of_it = found.lines().find(|line| line.contains(V1)).unwrap();
    assert!(of_it.starts_with("ok") && of_it.contains("retired"), "as it is meant to be: {found}");
}
