//! A socket of its own for one service: what comes through it has its rights, and what comes by another way has none of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use passportd::wire::{AdminOp, Code, Identity, ServiceOk, ServiceOp};
use toml::{Table, Value};

use crate::support::passports::{claims, demo};
use crate::support::people::{ids, try_connect_as};
use crate::support::raw::Raw;
use crate::support::{House, Options, ledger, root_or_skip};

/// Users that every Debian has.
const SERVICE: &str = "games";
const OTHER: &str = "man";

const TEMPLATE: &str = "\n[[template]]\nname = \"demo\"\ntenant = \"t1\"\npurpose = \"auth\"\nsubjects = [\"*\"]\n\
                        audiences = [\"demo\"]\nmax_ttl_s = 3600\n";

/// The tester operates through the admins' socket, and issues through the listener of this name alone.
fn policy(listener: &str) -> String {
    format!(
        "[[peer]]\nname = \"operator\"\nuid = @UID@\nlistener = \"admin\"\nallow = [\"reload\", \"health\"]\n\
         [[peer]]\nname = \"web\"\nuid = @UID@\nlistener = \"{listener}\"\nallow = [\"issue\", \"keys\"]\n\
         templates = [\"demo\"]\n{TEMPLATE}"
    )
}

fn written(house: &House, listener: &str) {
    let text = policy(listener).replace("@UID@", &nix::unistd::geteuid().to_string());
    house.write_policy("10-test.toml", &text);
    house.admin_raw().admin(AdminOp::Reload).unwrap();
}

fn at(house: &House, name: &str) -> PathBuf {
    house.dir().join(format!("{name}.sock"))
}

/// A daemon with these listeners, each with what its table says beside name and socket.
fn house(policy: &str, listeners: &[(&str, &[(&str, &str)])]) -> House {
    let mut house = House::start(Options::default().policy(policy));
    house.stop();
    let table = |(name, more): &(&str, &[(&str, &str)])| {
        let mut table = Table::new();
        table.insert("name".to_owned(), (*name).into());
        table.insert("socket".to_owned(), at(&house, name).to_str().unwrap().into());
        table.extend(more.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
        Value::Table(table)
    };
    let listeners = listeners.iter().map(table).collect();
    house.set("server.listener", Value::Array(listeners));
    house.boot();
    house.wait_ready();
    house
}

fn through(socket: &Path) -> Raw {
    Raw::connect(socket).unwrap().welcomed().0
}

fn who(raw: &mut Raw) -> Identity {
    match raw.ask(ServiceOp::WhoAmI) {
        Ok(ServiceOk::WhoAmI(identity)) => identity,
        other => panic!("{other:?}"),
    }
}

/// Whether the peer may issue: either all that the rule says, or nothing.
fn issues(raw: &mut Raw, name: &str) -> bool {
    let me = who(raw);
    assert_eq!((me.uid, me.listener.as_str()), (nix::unistd::geteuid().as_raw(), name));
    let keys = raw.ask(ServiceOp::Keys { if_etag: None }).map_err(|problem| problem.code);
    match raw.issue(demo("alice")) {
        Ok(_) => {
            assert_eq!((me.rules, me.templates), (vec!["web".to_owned()], vec!["demo".to_owned()]));
            assert!(keys.is_ok());
            true
        }
        Err(problem) => {
            assert_eq!((problem.code, keys), (Code::NoPeerPolicy, Err(Code::NoPeerPolicy)), "{name}");
            assert!(me.rules.is_empty() && me.operations == ["whoami"] && me.templates.is_empty(), "{me:?}");
            false
        }
    }
}

#[test]
fn the_same_user_has_rights_by_its_listener_and_none_by_any_other() {
    let open: &[(&str, &str)] = &[("mode", "0666")];
    let house = house(&policy("door"), &[("door", open), ("gate", open)]);
    let [mut door, mut gate] = ["door", "gate"].map(|name| through(&at(&house, name)));
    let mut main = through(&house.socket());
    let all = |door: &mut Raw, gate: &mut Raw, main: &mut Raw| {
        (issues(door, "door"), issues(gate, "gate"), issues(main, "main"))
    };
    assert_eq!(all(&mut door, &mut gate, &mut main), (true, false, false));
    // The record says by which way it came, for what was issued and for what was refused.
    let passport = door.issue(demo("bob")).unwrap();
    let records = ledger::records(&house.ledger());
    let issued = records.iter().find(|one| one["jti"] == claims(&passport)["jti"]).unwrap();
    assert_eq!((&issued["event"], &issued["listener"]), (&"passport_issued".into(), &"door".into()));
    for (name, refused) in [("door", false), ("gate", true), ("main", true)] {
        let found = records.iter().any(|one| one["listener"] == name && one["reason"] == "no_peer_policy");
        assert_eq!(found, refused, "{name}");
    }
    // A reload moves the rights to another way, for the connections that are there, too.
    written(&house, "gate");
    assert_eq!(all(&mut door, &mut gate, &mut main), (false, true, false));
    written(&house, "main");
    assert_eq!(all(&mut door, &mut gate, &mut main), (false, false, true));
    // One that nobody has.
    written(&house, "nowhere");
    assert_eq!(all(&mut door, &mut gate, &mut main), (false, false, false));
    // The admins' socket is none of services, whatever a rule says.
    written(&house, "door");
    assert!(issues(&mut through(&at(&house, "door")), "door"));
}

#[test]
fn owner_mode_and_group_are_as_configured_and_keep_others_out() {
    if !root_or_skip("owner_mode_and_group_are_as_configured_and_keep_others_out") {
        return;
    }
    let rules = policy("own");
    let own: &[(&str, &str)] = &[("user", SERVICE), ("mode", "0600")];
    let team: &[(&str, &str)] = &[("group", SERVICE), ("mode", "0660")];
    let mut house = house(&rules, &[("own", own), ("team", team), ("usual", &[])]);
    let ((uid, gid), (other, other_gid)) = (ids(SERVICE), ids(OTHER));
    for round in 0..2 {
        let found = |name: &str| {
            let meta = fs::metadata(at(&house, name)).unwrap();
            (meta.uid(), meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!((found("own").0, found("own").2), (uid, 0o600));
        assert_eq!((found("team").1, found("team").2), (gid, 0o660));
        assert_ne!(found("team").0, uid);
        assert_eq!(found("usual").2, 0o660, "the default lets the group in and nobody else");
        let may = |name: &str, (uid, gid): (u32, u32)| try_connect_as(&at(&house, name), uid, gid, &[]).is_ok();
        assert!(may("own", (uid, other_gid)) && !may("own", (other, gid)) && !may("own", (other, other_gid)));
        assert!(may("team", (other, gid)) && !may("team", (uid, other_gid)) && !may("team", (other, other_gid)));
        assert!(!may("usual", (other, other_gid)));
        if round == 0 {
            // What a kill leaves behind is replaced, whoever owns it.
            house.kill("front");
            house.wait_ready();
        }
    }
}

#[test]
fn a_listener_for_a_user_that_is_not_there_stops_the_start() {
    if !root_or_skip("a_listener_for_a_user_that_is_not_there_stops_the_start") {
        return;
    }
    let mut house = House::start(Options::default());
    house.stop();
    let mut table = Table::new();
    for (key, value) in
        [("name", "own"), ("socket", at(&house, "own").to_str().unwrap()), ("user", "no-such-user-here")]
    {
        table.insert(key.to_owned(), value.into());
    }
    house.set("server.listener", Value::Array(vec![Value::Table(table)]));
    assert_eq!(house.start_to_the_end("run").code(), Some(78));
    let said = house.log();
    assert!(said.contains("no-such-user-here") && said.contains("listener: user"), "{said}");
    assert!(!at(&house, "own").exists());
}
