//! What the daemon says, and what its process shows.

use serde_json::{Value, json};

use super::healthy::{healthy, report_of};
use super::*;
use crate::client::ClientError;
use crate::wire::{Code, Problem};

fn status(facts: &mut Facts) -> &mut Value {
    facts.daemon.status.as_mut().unwrap()
}

fn refused() -> ClientError {
    ClientError::Problem(Problem::new(Code::UnsupportedVersion))
}

fn absent() -> ClientError {
    ClientError::Connect { socket: "/s".to_owned(), why: "none".to_owned() }
}

#[test]
fn bad_answers() {
    judged(&[
        (
            "version",
            |facts| facts.daemon.service.as_mut().unwrap().welcome.server = "passportd/9.9.9".into(),
            Status::Warn,
            &["the daemon is passportd/9.9.9", "install both of one version"],
        ),
        (
            "version",
            |facts| (facts.daemon.service, facts.daemon.admin) = (Err(refused()), Err(refused())),
            Status::Fail,
            &["does not speak with this passportctl: unsupported_version", "of one version"],
        ),
        (
            "version",
            |facts| (facts.daemon.service, facts.daemon.admin) = (Err(ClientError::Timeout), Err(ClientError::Timeout)),
            Status::Fail,
            &["takes connections and gives no answer", "is it stopped or overloaded?"],
        ),
        (
            "version",
            |facts| {
                let busy = || Err(ClientError::Problem(Problem::new(Code::Busy)));
                (facts.daemon.service, facts.daemon.admin) = (busy(), busy());
            },
            Status::Warn,
            &["the daemon refuses: busy: "],
        ),
        (
            "whoami",
            |facts| facts.daemon.service.as_mut().unwrap().identity.rules.clear(),
            Status::Warn,
            &["policy names uid 33, gid 33, by listener main nowhere", "write a [[peer]] for it"],
        ),
        ("whoami admin", |facts| facts.daemon.admin = Err(absent()), Status::Skipped, &["the daemon can't be asked"]),
        (
            "token",
            |facts| facts.daemon.status = Err(refused()),
            Status::Skipped,
            &["unsupported_version", "passportctl hsm doctor"],
        ),
        (
            "token",
            |facts| status(facts)["signer"] = json!({"up": false, "why": "it is gone"}),
            Status::Fail,
            &["the signer can't use the HSM: it is gone", "passportctl hsm doctor --pin-file FILE"],
        ),
        (
            "metrics",
            |facts| {
                facts.daemon.port = Port::Asked { address: "127.0.0.1:1".parse().unwrap(), answer: Err("no".into()) }
            },
            Status::Fail,
            &["127.0.0.1:1 does not answer: no", "ss -tlnp"],
        ),
        (
            "metrics",
            |facts| {
                let answer = Ok((404, "<html>".to_owned()));
                facts.daemon.port = Port::Asked { address: "127.0.0.1:1".parse().unwrap(), answer };
            },
            Status::Fail,
            &["something else answers at 127.0.0.1:1: /readyz gives 404", "set server.metrics_addr"],
        ),
        (
            "metrics",
            |facts| facts.daemon.port = Port::Elsewhere { address: "203.0.113.7:1".parse().unwrap() },
            Status::Fail,
            &["203.0.113.7:1 can't be listened on: this host does not have it", "or to \"off\""],
        ),
        ("metrics", |facts| facts.daemon.port = Port::Off, Status::Ok, &["server.metrics_addr is off"]),
        (
            "in force",
            |facts| status(facts)["policy"] = json!({"hash": "00"}),
            Status::Warn,
            &["on disk, but not in force: policy ", "passportctl reload"],
        ),
        (
            "descriptors",
            |facts| facts.daemon.process.as_mut().unwrap().descriptors = Some(1024),
            Status::Warn,
            &["1024 open files have room for 928 connections", "LimitNOFILE=1120"],
        ),
        (
            "program",
            |facts| facts.daemon.process.as_mut().unwrap().program = Ok("/usr/bin/passportd (deleted)".into()),
            Status::Warn,
            &["pid 42 still runs the /usr/bin/passportd of before an upgrade", "systemctl restart"],
        ),
        (
            "program",
            |facts| facts.daemon.process.as_mut().unwrap().program = Err("denied".into()),
            Status::Skipped,
            &["/proc/42/exe: denied", "as root"],
        ),
    ]);
}

#[test]
fn each_condition_has_its_remedy() {
    for (name, remedy) in [
        ("hsm", "hsm doctor"),
        ("keys", "hsm init"),
        ("audit", "room for audit.dir"),
        ("state", "room for state.path"),
        ("clock", "set the clock right"),
        ("issuing", "passportctl resume"),
        ("serving", "passportctl undrain"),
        ("something new", "passportctl status shows the whole"),
    ] {
        let mut facts = healthy();
        let health = report_of(&json!([{"name": name, "ok": false, "detail": "why"}, {"name": "policy", "ok": true}]));
        status(&mut facts)["health"] = health.clone();
        let ready = |facts: &Facts| judge(facts).into_iter().find(|check| check.name == "ready").unwrap();
        let with_reasons = ready(&facts);
        assert_eq!(with_reasons.status, Status::Fail);
        assert_eq!(with_reasons.detail, format!("issue NO, verify yes: {name}: why"));
        assert!(with_reasons.remedy.contains(remedy), "{with_reasons:?}");
        // Without Status the port still gives the names.
        facts.daemon.status = Err(refused());
        let bare = report_of(&json!([{"name": name, "ok": false}])).to_string();
        facts.daemon.port = Port::Asked { address: "127.0.0.1:1".parse().unwrap(), answer: Ok((503, bare)) };
        let by_name = ready(&facts);
        assert_eq!(by_name.detail, format!("issue NO, verify yes: {name}"));
        assert_eq!(by_name.remedy, with_reasons.remedy);
    }
}

#[test]
fn a_condition_that_is_in_nobody_s_way_is_a_warning() {
    let mut facts = healthy();
    let mut health = report_of(&json!([{"name": "state", "ok": false, "detail": "why"}]));
    health["issue_ready"] = true.into();
    status(&mut facts)["health"] = health;
    let ready = judge(&facts).into_iter().find(|check| check.name == "ready").unwrap();
    assert_eq!((ready.status, ready.detail.as_str()), (Status::Warn, "issue yes, verify yes: state: why"));
    assert!(ready.remedy.contains("room for state.path"), "{ready:?}");
}

#[test]
fn without_a_daemon_nothing_but_its_sockets_fails() {
    let mut facts = healthy();
    for socket in &mut facts.sockets {
        socket.found = Found::Missing;
    }
    facts.daemon = Daemon {
        service: Err(absent()),
        admin: Err(absent()),
        status: Err(absent()),
        port: Port::Asked { address: "127.0.0.1:1".parse().unwrap(), answer: Err("refused".into()) },
        process: None,
    };
    let checks = judge(&facts);
    let failed: Vec<_> = checks.iter().filter(|check| check.status == Status::Fail).map(|check| &*check.name).collect();
    assert_eq!(failed, ["socket", "admin socket", "signer socket"]);
    let skipped: Vec<_> = checks.iter().filter(|one| one.status == Status::Skipped).map(|check| &*check.name).collect();
    let asked =
        ["version", "whoami", "whoami admin", "token", "metrics", "ready", "in force", "descriptors", "program"];
    assert_eq!(skipped, asked);
}
