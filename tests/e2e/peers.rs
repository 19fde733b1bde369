//! Several real users, as the kernel shows them. These tests need root, to be several users.

use passportd::wire::{AdminOk, AdminOp, Code, Identity, ServiceOk, ServiceOp, Verdict, Want};

use crate::support::passports::{claims, demo};
use crate::support::raw::Raw;
use crate::support::{House, Options, root_or_skip, skipped};

/// Ids of nobody's account.
const ISSUER: u32 = 61_001;
const VERIFIER: u32 = 61_002;
const STRANGER: u32 = 61_003;
const TEAM: u32 = 61_100;
const OTHER_TEAM: u32 = 61_101;

const POLICY: &str = r#"
[[peer]]
name = "tester"
uid = @UID@
allow = ["reload", "health"]

[[peer]]
name = "issuer"
uid = 61001
allow = ["issue"]
templates = ["demo"]

[[peer]]
name = "verifier"
uid = 61002
allow = ["verify", "introspect", "keys"]
verify_as = ["demo"]

[[peer]]
name = "team"
gid = 61100
allow = ["health", "keys"]

[[peer]]
name = "door"
uid = 61003
listener = "door"
allow = ["keys"]

[[template]]
name = "demo"
tenant = "t1"
purpose = "auth"
subjects = ["*"]
audiences = ["demo"]
max_ttl_s = 3600
"#;

fn who(raw: &mut Raw) -> Identity {
    match raw.ask(ServiceOp::WhoAmI) {
        Ok(ServiceOk::WhoAmI(identity)) => identity,
        other => panic!("{other:?}"),
    }
}

fn code<T: std::fmt::Debug>(answer: Result<T, passportd::wire::Problem>) -> Code {
    answer.expect_err("a problem").code
}

#[test]
fn three_users_get_three_answers() {
    if !root_or_skip("three_users_get_three_answers") {
        return;
    }
    let house = House::start(Options::default().policy(POLICY));
    let mut issuer = house.raw_as(ISSUER, ISSUER, &[]);
    let mut verifier = house.raw_as(VERIFIER, VERIFIER, &[]);
    let mut stranger = house.raw_as(STRANGER, STRANGER, &[]);
    let for_demo = || Want { aud: Some("demo"), ..Want::default() };

    let passport = issuer.issue(demo("alice")).unwrap();
    assert_eq!(code(verifier.issue(demo("alice"))), Code::OpDenied);
    assert_eq!(code(stranger.issue(demo("alice"))), Code::NoPeerPolicy);
    assert_eq!(code(issuer.verify(for_demo(), &passport)), Code::OpDenied);
    assert!(matches!(verifier.verify(for_demo(), &passport), Ok(Verdict::Accepted(_))));
    assert_eq!(code(stranger.verify(for_demo(), &passport)), Code::NoPeerPolicy);
    assert_eq!(verifier.ask(ServiceOp::Ping), Ok(ServiceOk::Pong));
    assert_eq!(code(stranger.ask(ServiceOp::Ping)), Code::NoPeerPolicy);

    for (raw, uid, rules) in [
        (&mut issuer, ISSUER, &["issuer"][..]),
        (&mut verifier, VERIFIER, &["verifier"]),
        (&mut stranger, STRANGER, &[]),
    ] {
        let me = who(raw);
        assert_eq!(
            (me.uid, me.gid, me.rules.iter().map(String::as_str).collect::<Vec<_>>()),
            (uid, uid, rules.to_vec())
        );
    }
    // The record names whom the kernel named.
    let records = crate::support::ledger::records(&house.ledger());
    let issued = records.iter().find(|one| one["jti"] == claims(&passport)["jti"]).unwrap();
    assert_eq!(
        (&issued["uid"], &issued["listener"], &issued["event"]),
        (&ISSUER.into(), &"main".into(), &"passport_issued".into())
    );
    house.assert_on_record([&passport.msg[..]]);
}

#[test]
fn root_without_a_rule_may_do_nothing() {
    if !root_or_skip("root_without_a_rule_may_do_nothing") {
        return;
    }
    let house = House::start(Options::default().policy(&POLICY.replace("uid = @UID@", "uid = 61009")));
    assert_eq!(code(house.ask(ServiceOp::Ping)), Code::NoPeerPolicy);
    for op in [AdminOp::Status, AdminOp::Reload, AdminOp::Drain, AdminOp::Stage { kid: "x" }] {
        assert_eq!(code(house.admin_raw().admin(op)), Code::NoPeerPolicy);
    }
    assert!(
        matches!(house.admin_raw().admin(AdminOp::WhoAmI), Ok(AdminOk::WhoAmI(me)) if me.uid == 0 && me.rules.is_empty())
    );
    assert!(house.admin_raw_as(61_009, 1, &[]).admin(AdminOp::Health).is_ok(), "and who has one, may");
}

#[test]
fn groups_count_be_they_primary_or_not_and_gid_means_the_primary() {
    if !root_or_skip("groups_count_be_they_primary_or_not_and_gid_means_the_primary") {
        return;
    }
    // A group that every Debian has, and nobody here is in.
    let group = nix::unistd::Group::from_name("games").unwrap().expect("the group games").gid.as_raw();
    let players = "\n[[peer]]\nname = \"players\"\ngroups = [\"games\"]\nallow = [\"keys\"]\n";
    let house = House::start(Options::default().policy(&format!("{POLICY}{players}")));
    let rules = |gid, groups: &[u32]| who(&mut house.raw_as(STRANGER, gid, groups)).rules;
    assert_eq!(rules(TEAM, &[]), ["team"]);
    assert_eq!(rules(OTHER_TEAM, &[TEAM]), [""; 0], "gid means the primary group");
    assert_eq!(rules(OTHER_TEAM, &[OTHER_TEAM, group]), ["players"]);
    assert_eq!(rules(group, &[]), ["players"]);
    assert_eq!(rules(TEAM, &[group]), ["team", "players"], "what the rules give adds up");
    let many: Vec<u32> = [group].into_iter().chain(70_000..74_000).collect();
    assert_eq!(rules(OTHER_TEAM, &many), ["players"], "also as one of very many");
    assert!(who(&mut house.raw_as(STRANGER, OTHER_TEAM, &[5, group])).groups.contains(&group));
}

#[test]
fn a_listener_of_its_own_says_which_service_it_is() {
    if !root_or_skip("a_listener_of_its_own_says_which_service_it_is") {
        return;
    }
    let mut house = House::start(Options::default().policy(POLICY));
    house.stop();
    let door = house.dir().join("door.sock");
    let listener = toml::toml! {
        name = "door"
        socket = "DOOR"
        mode = "0666"
    };
    let mut listener = listener;
    listener["socket"] = door.to_str().unwrap().into();
    house.set("server.listener", toml::Value::Array(vec![toml::Value::Table(listener)]));
    house.boot();
    let through = |socket: &std::path::Path| {
        let stream = crate::support::people::connect_as(socket, STRANGER, STRANGER, &[]);
        Raw::over(stream).unwrap().welcomed().0
    };
    let (mut by_door, mut by_main) = (through(&door), through(&house.socket()));
    assert_eq!(
        (who(&mut by_door).listener.as_str(), who(&mut by_door).rules.as_slice()),
        ("door", &["door".to_owned()][..])
    );
    assert!(by_door.ask(ServiceOp::Keys { if_etag: None }).is_ok());
    assert_eq!(code(by_main.ask(ServiceOp::Keys { if_etag: None })), Code::NoPeerPolicy);
}

#[test]
fn the_shipped_policy_gives_admins_status_health_reload_drain_and_nothing_else() {
    if !root_or_skip("the_shipped_policy_gives_admins_status_health_reload_drain_and_nothing_else") {
        return;
    }
    let shipped = include_str!("../../policy/00-admin.toml");
    // The group need not exist on this machine: the rule is tested with another's name in its place.
    let group = nix::unistd::Group::from_name("games").unwrap().expect("the group games").gid.as_raw();
    let shipped = shipped.replace("groups = [\"passportd-admin\"]", "groups = [\"games\"]");
    let house = House::start(Options::default().policy_file("00-admin.toml", &shipped));
    let mut admin = house.admin_raw_as(STRANGER, STRANGER, &[group]);
    let Ok(AdminOk::WhoAmI(me)) = admin.admin(AdminOp::WhoAmI) else { panic!("nobody") };
    assert_eq!(me.rules, ["admin"]);
    assert_eq!(me.operations, ["ping", "version", "whoami", "health", "status", "reload", "drain"]);
    for op in [AdminOp::Status, AdminOp::Health, AdminOp::Reload, AdminOp::Drain, AdminOp::Undrain] {
        let name = format!("{op:?}");
        assert!(admin.admin(op).is_ok(), "{name}");
    }
    let kid = "ed25519/t1/auth/v1";
    for op in [
        AdminOp::Attest,
        AdminOp::Stage { kid },
        AdminOp::Activate { kid },
        AdminOp::PauseIssue { reason: "x" },
        AdminOp::ResumeIssue,
    ] {
        let name = format!("{op:?}");
        assert_eq!(code(admin.admin(op)), Code::OpDenied, "{name}");
    }
    let mut service = house.raw_as(STRANGER, STRANGER, &[group]);
    assert_eq!(code(service.issue(demo("x"))), Code::OpDenied);
    assert_eq!(code(house.admin_raw().admin(AdminOp::Status)), Code::NoPeerPolicy, "root is not special");
}

#[test]
fn who_may_introspect_need_not_be_allowed_to_verify() {
    let policy = crate::support::options::POLICY.replace("\"verify\", ", "");
    let house = House::start(Options::default().policy(&policy));
    let mut raw = house.raw();
    let passport = raw.issue(demo("x")).unwrap();
    let want = || crate::support::passports::for_demo();
    assert_eq!(code(raw.verify(want(), &passport)), Code::OpDenied);
    let op = ServiceOp::Introspect { want: want(), passport: crate::support::passports::on_wire(&passport) };
    assert!(matches!(raw.ask(op), Ok(ServiceOk::Introspection(seen)) if seen.active));
}

#[test]
fn only_the_front_reaches_the_signer() {
    if !root_or_skip("only_the_front_reaches_the_signer") {
        return;
    }
    let house = House::start(Options::default());
    let Some((uid, gid)) = house.front_ids() else {
        skipped("only_the_front_reaches_the_signer: there are no two unprivileged users here");
        return;
    };
    let socket = house.dir().join("signer.sock");
    let hello = {
        let mut frame = Vec::new();
        let hello = passportd::wire::link::LinkHello { wire: 1, issuer: "passportd.test" };
        passportd::wire::encode_frame(&hello, &mut frame).unwrap();
        frame
    };
    // Root reaches the socket, since files do not stop root; the signer looks at who it is.
    let mut root = Raw::connect(&socket).unwrap();
    drop(root.send(&hello));
    assert_eq!(root.body().unwrap(), None, "root is turned away without a word");
    let mut front = Raw::over(crate::support::people::connect_as(&socket, uid, gid, &[])).unwrap();
    front.send(&hello).unwrap();
    assert!(front.body().unwrap().is_some());
    for (role, expected) in [("front", uid), ("signer", crate::support::people::ids(&house.hsm_user().unwrap()).0)] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", house.pid(role))).unwrap();
        let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(line("Uid:"), [expected.to_string().as_str(); 4].join("\t"), "{role}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(line(set), "0".repeat(16), "{role} {set}");
        }
        assert_eq!(line("NoNewPrivs:"), "1", "{role}");
    }
}
