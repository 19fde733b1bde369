//! Starting again: over what a killed daemon left, beside one that still runs, and many times in a row.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use passportd::wire::{AdminOp, Revocation, ServiceOk, ServiceOp, Verdict};

use super::support::ledger::{self, jti};
use super::support::passports::{demo, for_demo};
use super::support::{House, Options, Roles, eventually, process, rounds};

/// Starts `role` with the daemon's configuration, changed by `edit`, and waits for its end.
fn second(house: &House, role: &str, edit: impl FnOnce(&mut toml::Table)) -> Output {
    let mut config: toml::Table = fs::read_to_string(house.dir().join("passportd.toml")).unwrap().parse().unwrap();
    edit(&mut config);
    let path = house.dir().join("second.toml");
    fs::write(&path, config.to_string()).unwrap();
    let program = process::command(role, house.dir());
    let mut command = std::process::Command::new(program.get_program());
    command.env_clear().arg(role).arg("--config").arg(&path).stdin(Stdio::null()).output().unwrap()
}

fn refused(output: &Output, code: i32, says: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.contains(says), "{says:?} is not in: {text}");
}

#[test]
fn a_second_daemon_is_refused_and_the_first_is_not_disturbed() {
    let house = House::start(Options::default());
    let pids = ["run", "front", "signer"].map(|role| house.pid(role));
    let begun = Instant::now();
    refused(&second(&house, "run", |_| {}), 78, "ceremony.sock is served by another process");
    refused(&second(&house, "front", |_| {}), 78, "passportd.sock is served by another process");
    refused(&second(&house, "signer", |_| {}), 78, "signer.sock is served by another process");
    let elsewhere = |config: &mut toml::Table| {
        let dir = house.dir();
        let server = config["server"].as_table_mut().unwrap();
        server.insert("socket".into(), dir.join("a.sock").to_str().unwrap().into());
        server.insert("admin_socket".into(), dir.join("b.sock").to_str().unwrap().into());
        server.insert("metrics_addr".into(), "off".into());
    };
    let pid = house.pid("front");
    refused(&second(&house, "front", elsewhere), 1, &format!("is in use by pid {pid}; two daemons must not share it"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(["run", "front", "signer"].map(|role| house.pid(role)), pids);
    assert!(house.raw().issue(demo("alice")).is_ok());
}

#[test]
fn of_two_fronts_that_start_at_one_time_one_serves_and_is_reached() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    house.kill("front");
    for round in 0..(rounds(20) / 4).max(1) {
        // Over the sockets of the one before, or over none.
        if round % 2 == 1 {
            [house.socket(), house.admin_socket()].iter().for_each(|path| fs::remove_file(path).unwrap());
        }
        let mut fronts: Vec<_> = (0..2)
            .map(|_| {
                let mut command = process::command("front", house.dir());
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let loser = eventually("one of them ends", Duration::from_secs(10), || {
            fronts.iter_mut().position(|front| front.try_wait().unwrap().is_some())
        });
        refused(&fronts.remove(loser).wait_with_output().unwrap(), 78, "is served by another process");
        house.wait_ready();
        house.raw().issue(demo("alice")).unwrap();
        let winner = fronts.remove(0);
        process::signal(i32::try_from(winner.id()).unwrap(), Signal::SIGTERM);
        let ended = winner.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[test]
fn a_daemon_that_is_stopped_is_not_replaced() {
    let house = House::start(Options::default());
    house.signal("front", Signal::SIGSTOP);
    let begun = Instant::now();
    refused(&second(&house, "front", |_| {}), 78, "is served by another process");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    house.signal("front", Signal::SIGCONT);
    assert!(house.raw().issue(demo("alice")).is_ok());
}

#[test]
fn sockets_of_the_dead_are_replaced() {
    let mut house = House::start(Options::default());
    for role in ["front", "signer", "run"] {
        // All at once and without a word, `run` last of all, so that it starts nobody again.
        house.signal("run", Signal::SIGSTOP);
        house.signal(role, Signal::SIGKILL);
    }
    house.stop();
    assert!(house.socket().exists() && house.admin_socket().exists(), "they were left");
    house.boot();
    house.wait_ready();
    assert!(house.raw().issue(demo("alice")).is_ok());
    let leftovers: Vec<_> = fs::read_dir(house.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!leftovers.iter().any(|name| name.to_string_lossy().contains(".sock.")), "{leftovers:?}");
}

#[test]
fn twenty_restarts_keep_keys_and_repeat_nothing() {
    let mut house = House::start(Options::default());
    let first = house.raw().issue(demo("alice")).unwrap();
    let ServiceOk::Keys(keys) = house.ask(ServiceOp::Keys { if_etag: None }).unwrap() else { panic!() };
    let mut jtis = HashSet::from([jti(&first.msg)]);
    let mut report = house.ceremony(passportd::wire::ceremony::PlanKind::List, "t1", "auth").keys.len();
    for round in 0..rounds(20) {
        match round % 4 {
            0 => house.kill("front"),
            1 => house.kill("signer"),
            2 => {
                house.stop();
                house.boot();
            }
            _ => {
                house.kill("front");
                house.kill("signer");
            }
        }
        house.wait_ready();
        for _ in 0..5 {
            let passport = eventually("a passport", Duration::from_secs(10), || house.raw().issue(demo("alice")).ok());
            assert_eq!(passport.kid, first.kid);
            assert!(jtis.insert(jti(&passport.msg)), "an id twice");
        }
        assert!(matches!(house.raw().verify(for_demo(), &first), Ok(Verdict::Accepted(_))), "round {round}");
        assert!(matches!(
            house.ask(ServiceOp::Keys { if_etag: Some(keys.etag) }),
            Ok(ServiceOk::KeysNotModified { .. })
        ));
    }
    // A key made after all this has the next number, and the numbers before it are not given again.
    let made = house.ceremony(passportd::wire::ceremony::PlanKind::Generate, "t1", "auth");
    report += 1;
    assert!(made.keys.iter().any(|key| key.kid.ends_with("/v2")), "{made:?}");
    assert_eq!(house.ceremony(passportd::wire::ceremony::PlanKind::List, "t1", "auth").keys.len(), report);
    let records = ledger::issued(&house.ledger());
    assert!(jtis.iter().all(|jti| records.get(jti) == Some(&1)));
    ledger::assert_chain(&house.ledger());
}

#[test]
fn a_torn_end_of_the_ledger_is_kept_and_named() {
    let mut house = House::start(Options::default().roles(Roles::Run));
    let passport = house.raw().issue(demo("alice")).unwrap();
    house.stop();
    let mut segments: Vec<_> = fs::read_dir(house.ledger()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    segments.sort();
    let newest = segments.last().unwrap();
    let torn = b"{\"seq\":99999,\"time\":1,\"ev";
    fs::File::options().append(true).open(newest).unwrap().write_all(torn).unwrap();
    house.boot();
    house.wait_ready();
    let again = house.raw().issue(demo("alice")).unwrap();
    house.assert_on_record([passport.msg.as_slice(), again.msg.as_slice()]);
    // By segment, since the torn one has no last newline.
    let mut segments: Vec<_> = fs::read_dir(house.ledger()).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    let text: Vec<String> = segments.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let found =
        text.iter().flat_map(|text| text.lines()).find(|line| line.contains("ledger_break")).expect("a break record");
    assert!(found.contains(&torn.len().to_string()), "it says how many bytes: {found}");
    assert!(fs::read(newest).unwrap().ends_with(torn), "the evidence is left in place");
    assert!(house.log().contains("cut short"), "and the log says so");
}

/// A ledger without the record that the state was changed on the strength of is not made longer by the record of its own torn end.
#[test]
fn a_ledger_that_lost_what_the_state_has_is_refused_each_time() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    house.raw().issue(demo("alice")).unwrap();
    let what = vec![Revocation::Subject { sub: "alice", before: None }];
    house.admin_raw().admin(AdminOp::Revoke { tenant: "t1", what, reason: "a test" }).unwrap();
    house.kill("front");
    let segment = house.ledger().join("00000000000000000001.jsonl");
    let whole = fs::read(&segment).unwrap();
    assert!(whole.ends_with(b"}\n"));
    fs::write(&segment, whole.get(..whole.len() - 5).unwrap()).unwrap();
    for _ in 0..3 {
        refused(&second(&house, "front", |_| {}), 78, "the ledger was cut off or replaced");
    }
    assert_eq!(fs::read(&segment).unwrap().len(), whole.len() - 5, "nothing was written");
    fs::write(&segment, &whole).unwrap();
    house.start_role("front");
    house.wait_ready();
}
