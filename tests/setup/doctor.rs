//! `passportctl doctor` over a daemon that is well, over one with a single thing broken, and over none.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use passportd::wire::AdminOp;
use serde_json::{Value, json};

use super::fake::{Fake, ISSUER};
use super::running::ctl;
use super::support::passports::demo;
use super::support::{House, Options, Roles, eventually, people, root_or_skip, skipped};
use super::table::mode;
use super::tool::{Ran, run};
use super::user::tool_for_all;

/// Every check of a daemon whose configuration can be read, in this order.
const NAMES: [&str; 31] = [
    "config",
    "policy",
    "bounds",
    "accounts",
    "readable",
    "module",
    "module config",
    "pin",
    "state",
    "ledger",
    "hsm state",
    "signer dir",
    "store",
    "key list",
    "state file",
    "state rows",
    "ledger chain",
    "clock",
    "socket",
    "admin socket",
    "signer socket",
    "ceremony",
    "version",
    "whoami",
    "whoami admin",
    "token",
    "metrics",
    "ready",
    "in force",
    "descriptors",
    "program",
];

fn checks(ran: &Ran) -> Vec<Value> {
    ran.json()["checks"].as_array().unwrap().clone()
}

/// Names of the checks that came out so.
fn named(ran: &Ran, status: &str) -> Vec<String> {
    let found = checks(ran).into_iter().filter(|check| check["status"] == status);
    found.map(|check| check["name"].as_str().unwrap().to_owned()).collect()
}

/// Detail and remedy of a check.
fn said(ran: &Ran, name: &str) -> String {
    let all = checks(ran);
    let check = all.iter().find(|check| check["name"] == name && check["status"] != "ok");
    let check = check.unwrap_or_else(|| panic!("{name}: {ran:?}"));
    format!("{}; {}", check["detail"].as_str().unwrap(), check["remedy"].as_str().unwrap())
}

fn doctor(house: &House) -> Ran {
    ctl(house, &["doctor", "--output", "json"])
}

/// Asserts that exactly these checks fail, and that the first says this.
#[track_caller]
fn assert_finds(house: &House, failed: &[&str], says: &[&str]) {
    let ran = doctor(house);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.json()["ok"], false);
    assert_eq!(named(&ran, "fail"), failed, "{ran:?}");
    let said = said(&ran, failed[0]);
    for says in says {
        assert!(said.contains(says), "{says}: {said}");
    }
    // The same for people: the line begins with the mark and the name.
    let table = ctl(house, &["doctor"]);
    assert_eq!(table.code, Some(1), "{table:?}");
    assert!(table.stdout.lines().any(|line| line.starts_with(&format!("FAIL {} ", failed[0]))), "{table:?}");
}

fn assert_well(house: &House) {
    let ran = doctor(house);
    assert_eq!((ran.code, named(&ran, "fail")), (Some(0), Vec::new()), "{ran:?}");
}

#[test]
fn a_healthy_daemon_is_well() {
    let house = House::start(Options::default());
    house.raw().issue(demo("alice")).unwrap();
    let ran = doctor(&house);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(ran.json()["ok"], true);
    // The only warning is of the house's open sockets.
    assert_eq!(
        named(&ran, "warn").iter().filter(|name| *name != "config" && *name != "accounts").count(),
        0,
        "{ran:?}"
    );
    let all: Vec<_> = checks(&ran).iter().map(|check| check["name"].as_str().unwrap().to_owned()).collect();
    let mut all: Vec<_> =
        all.iter().map(String::as_str).filter(|name| !["landlock", "pidfd", "systemd"].contains(name)).collect();
    all.dedup();
    assert_eq!(all, NAMES);
    let table = ctl(&house, &["doctor"]);
    if std::env::var_os("PASSPORTD_SHOW").is_some() {
        eprintln!("{}", table.stdout);
    }
    let lines = table.stdout.lines().count();
    assert_eq!(lines, checks(&ran).len() + 1, "one line for each check and one that counts: {table:?}");
    assert!(table.stdout.lines().last().unwrap().contains(" checks: failed 0, "), "{table:?}");
}

/// What a daemon has open is left to it: no lock is taken, and nothing is read that changes meanwhile.
#[test]
fn state_and_ledger_of_a_daemon_that_runs() {
    let house = House::start(Options::default());
    house.raw().issue(demo("alice")).unwrap();
    let ran = doctor(&house);
    for name in ["state rows", "ledger chain"] {
        assert!(said(&ran, name).starts_with("skipped: the daemon that runs has it open"), "{ran:?}");
    }
    // One that does not answer is known by its locks.
    house.freeze("front");
    let ran = ctl(&house, &["doctor", "--output", "json", "--timeout", "0.3"]);
    house.signal("front", nix::sys::signal::Signal::SIGCONT);
    for name in ["state rows", "ledger chain"] {
        let said = said(&ran, name);
        assert!(said.starts_with("skipped: pid ") && said.contains("looked at it when it started"), "{said}");
    }
}

#[test]
fn settings_that_are_broken() {
    let mut house = House::start(Options::default());
    house.write_policy("20-more.toml", "[[peer]]\nname = \"x\"\nuser = \"no-such-user\"\n");
    assert_finds(
        &house,
        &["policy"],
        &["/policy.d/20-more.toml:3:8: there is no user", "create it, or remove the rule"],
    );
    fs::remove_file(house.dir().join("policy.d/20-more.toml")).unwrap();

    let text = fs::read_to_string(house.dir().join("passportd.toml")).unwrap();
    house.set("server.admin_socket_group", "no-such-group");
    assert_finds(
        &house,
        &["accounts"],
        &["server.admin_socket_group: there is no group \"no-such-group\"", "create it"],
    );
    house.restore_config(&text);

    house.set("server.sokcet", "/x");
    assert_finds(&house, &["config"], &["unknown key `server.sokcet` (did you mean `socket`?)"]);
    house.restore_config(&text);

    let good = fs::read_to_string(house.dir().join("signer.toml")).unwrap();
    fs::write(house.dir().join("signer.toml"), good.replace("\"t1", "\"t2")).unwrap();
    let says = ["lets nobody sign for tenant t1, purpose auth, but template \"demo\"", "restart the signer"];
    // The template, and the namespaces that the rule grants.
    assert_finds(&house, &["bounds", "bounds"], &says);
    fs::write(house.dir().join("signer.toml"), good.replace("max_ttl_s = 86400", "max_ttl_s = 60")).unwrap();
    assert_finds(&house, &["bounds"], &["signs for at most 60 s for tenant t1", "to whoever asks for no lifetime"]);
    fs::write(house.dir().join("signer.toml"), good).unwrap();

    house.set("limits.rps", 77);
    house.write_policy("20-more.toml", "# another hash\n");
    let ran = doctor(&house);
    assert_eq!(ran.code, Some(0), "a warning: {ran:?}");
    let pending = said(&ran, "in force");
    assert!(pending.contains("configuration ") && pending.contains("policy "), "{pending}");
    assert!(pending.contains("passportctl reload"), "{pending}");
    house.admin_raw().admin(AdminOp::Reload).unwrap();
    assert_well(&house);
}

#[test]
fn files_that_are_broken() {
    let house = House::start(Options::default());
    for (path, bits, name, says) in [
        (
            "passportd.sock",
            0o600,
            "socket",
            &["has mode 0600, but server.socket_mode is 0666", "start the daemon again"][..],
        ),
        ("pin", 0o644, "pin", &["/pin has mode 0644, so others may use it; chmod 0400 "]),
        ("front", 0o777, "state", &["/front has mode 0777: others may replace what is in it; chmod 0700 "]),
        ("front/state.redb", 0o644, "state file", &["has mode 0644, must be at most 0600; chmod 0600 "]),
        ("ledger", 0o777, "ledger", &["/ledger has mode 0777: others may replace what is in it; chmod 0700 "]),
        ("signer.sock", 0o666, "signer socket", &["has mode 0666: everybody may connect"]),
    ] {
        let path = house.dir().join(path);
        let before = fs::metadata(&path).unwrap().permissions();
        mode(&path, bits);
        assert_finds(&house, &[name], says);
        fs::set_permissions(&path, before).unwrap();
    }
    assert_well(&house);
    fs::rename(house.dir().join("pin"), house.dir().join("pin.away")).unwrap();
    assert_finds(&house, &["pin"], &["/pin is not there", "install -m 0400"]);
    fs::rename(house.dir().join("pin.away"), house.dir().join("pin")).unwrap();
    fs::rename(house.dir().join("store"), house.dir().join("store.away")).unwrap();
    assert_finds(&house, &["store"], &["/store (hsm.store) is not there", "mkdir -p "]);
    fs::rename(house.dir().join("store.away"), house.dir().join("store")).unwrap();
    assert_well(&house);
}

#[test]
fn a_module_that_others_may_change() {
    let mut house = House::start(Options::default());
    let module = house.dir().join("module.so");
    fs::copy(super::support::softhsm::module().unwrap(), &module).unwrap();
    mode(&module, 0o777);
    house.set("hsm.module", module.to_str().unwrap());
    assert_finds(&house, &["module"], &["/module.so belongs to uid ", "others than root may change it", "chown root"]);
    house.set("hsm.module", "/usr/lib/no-such.so");
    assert_finds(&house, &["module"], &["/usr/lib/no-such.so: No such file", "correct hsm.module"]);
}

#[test]
fn a_daemon_that_is_not_ready() {
    let mut house = House::start(Options::default().roles(Roles::Apart));
    house.admin_raw().admin(AdminOp::PauseIssue { reason: "incident 42" }).unwrap();
    assert_finds(&house, &["ready"], &["issue NO, verify yes: issuing: paused: incident 42", "passportctl resume"]);
    house.admin_raw().admin(AdminOp::ResumeIssue).unwrap();

    let text = fs::read_to_string(house.dir().join("passportd.toml")).unwrap();
    house.set("server.metrics_addr", "127.0.0.1:9");
    assert_finds(
        &house,
        &["metrics"],
        &["127.0.0.1:9 does not answer", "compare server.metrics_addr with what `ss -tlnp` shows"],
    );
    house.restore_config(&text);

    house.kill("signer");
    eventually("the front has seen it", Duration::from_secs(10), || {
        house.health().conditions.iter().any(|one| one.name == "hsm" && !one.ok).then_some(())
    });
    assert_finds(&house, &["token", "ready"], &["the signer can't use the HSM: ", "passportctl hsm doctor"]);
}

#[test]
fn a_daemon_that_stands_still() {
    let house = House::start(Options::default());
    house.freeze("front");
    let ran = ctl(&house, &["doctor", "--output", "json", "--timeout", "0.3"]);
    house.signal("front", nix::sys::signal::Signal::SIGCONT);
    assert_eq!((ran.code, named(&ran, "fail")), (Some(1), vec!["version".to_owned()]), "{ran:?}");
    let said = said(&ran, "version");
    assert!(said.contains("takes connections and gives no answer") && said.contains("is it stopped"), "{said}");
}

#[test]
fn without_the_daemon() {
    let mut house = House::start(Options::default());
    house.raw().issue(demo("alice")).unwrap();
    house.stop();
    let ran = doctor(&house);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for name in ["socket", "admin socket"] {
        let said = said(&ran, name);
        assert!(said.contains("nobody listens at ") && said.contains("systemctl start passportd.target"), "{said}");
    }
    let failed = named(&ran, "fail");
    assert!(failed.iter().all(|name| name.ends_with("socket") || name == "ceremony"), "only what is down: {ran:?}");
    let skipped = named(&ran, "skipped");
    for name in ["version", "whoami", "token", "metrics", "ready", "in force", "descriptors", "program"] {
        assert!(skipped.contains(&name.to_owned()), "{name}: {ran:?}");
    }
    assert!(said(&ran, "token").contains("passportctl hsm doctor looks for itself, without the daemon"));
    // What can be looked at without it is.
    for name in
        ["config", "policy", "module", "pin", "key list", "state", "state rows", "ledger", "ledger chain", "clock"]
    {
        assert!(named(&ran, "ok").contains(&name.to_owned()), "{name}: {ran:?}");
    }
}

#[test]
fn without_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let (config, socket) = (dir.path().join("none.toml"), dir.path().join("none.sock"));
    let (config, socket) = (config.to_str().unwrap(), socket.to_str().unwrap());
    let arguments = ["doctor", "--output", "json", "--config", config, "--socket", socket, "--admin-socket", socket];
    let ran = run(&mut super::tool::tool(&arguments), "");
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
    assert_eq!(named(&ran, "fail"), ["config", "socket", "admin socket"]);
    assert!(said(&ran, "config").contains("/none.toml: cannot be read: No such file"), "{ran:?}");
    assert!(said(&ran, "socket").contains("/none.sock (server.socket) is not there"), "{ran:?}");
}

#[test]
fn as_an_ordinary_user() {
    if !root_or_skip("another user") {
        return;
    }
    let Some((_, stranger)) = people::unprivileged_users() else {
        return skipped("another user: there are no two unprivileged users");
    };
    let (uid, gid) = people::ids(&stranger);
    let house = House::start(Options::default());
    house.raw().issue(demo("alice")).unwrap();
    let mut command = Command::new(tool_for_all(house.dir()));
    command.args(["doctor", "--output", "json", "--config"]).arg(house.dir().join("passportd.toml"));
    command.env_clear().env("PATH", "/usr/bin:/bin").uid(uid).gid(gid);
    let ran = run(&mut command, "");
    assert_eq!((ran.code, named(&ran, "fail")), (Some(0), Vec::new()), "{ran:?}");
    let names = format!("policy names uid {uid}, gid {gid}, by listener main nowhere");
    assert!(said(&ran, "whoami").contains(&names), "{ran:?}");
    for (name, why) in [("clock", "may not look at"), ("token", "no_peer_policy"), ("program", "Permission denied")] {
        let said = said(&ran, name);
        assert!(said.starts_with("skipped: ") && said.contains(why), "{name}: {said}");
    }
}

#[test]
fn a_daemon_of_another_version() {
    let (fake, dir) = (Fake::start(), tempfile::tempdir().unwrap());
    fs::create_dir(dir.path().join("policy.d")).unwrap();
    let config = dir.path().join("passportd.toml");
    let text = format!(
        "[server]\nmetrics_addr = \"{}\"\n[passport]\nissuer = \"{ISSUER}\"\n[hsm]\nuri = \"pkcs11:token=x\"\nmodule = \
         \"/bin/true\"\n[policy]\ndir = \"{}\"\n",
        fake.metrics,
        dir.path().join("policy.d").display()
    );
    fs::write(&config, text).unwrap();
    mode(&config, 0o600);
    let ran = run(fake.tool(&["doctor", "--output", "json", "--config"]).arg(&config), "");
    let version = said(&ran, "version");
    let ours = concat!("this tool is of passportd/", env!("CARGO_PKG_VERSION"));
    assert!(version.contains("the daemon is fake/0") && version.contains(ours), "{version}");
    assert!(version.contains("install both of one version"), "{version}");
    assert!(said(&ran, "metrics").contains("something else answers at "), "the fake port knows no readiness: {ran:?}");
    assert!(said(&ran, "policy").contains("has no rule, so nobody may do anything"), "{ran:?}");
    assert_eq!(checks(&ran).iter().find(|check| check["name"] == "version").unwrap()["status"], json!("warn"));
}
