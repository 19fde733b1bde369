//! What each role has given up, by the kernel's word.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use passportd::wire::{AdminOk, AdminOp};

use super::proc::status;
use super::support::raw::frame;
use super::support::softhsm::PIN;
use super::support::{House, Options, eventually, people, root_or_skip};

/// The numbers of a line of `/proc/PID/status`.
fn ids(pid: i32, field: &str) -> Vec<u32> {
    status(pid, field).split_whitespace().map(|id| id.parse().unwrap()).collect()
}

#[test]
fn each_role_runs_as_its_user_and_can_gain_nothing() {
    if !root_or_skip("dropping privileges") {
        return;
    }
    let Some((front, hsm)) = people::unprivileged_users() else {
        crate::support::skipped("processes of several users: there are no two unprivileged users");
        return;
    };
    let house = House::start(Options::default());
    for (role, user) in [("front", front), ("signer", hsm)] {
        let (pid, (uid, gid)) = (house.pid(role), people::ids(&user));
        assert_eq!(ids(pid, "Uid"), [uid; 4], "{role}");
        assert_eq!(ids(pid, "Gid"), [gid; 4], "{role}");
        assert_eq!(ids(pid, "Groups"), [gid], "{role}");
        assert_ne!(uid, 0);
    }
}

#[test]
fn no_role_keeps_a_capability_or_can_be_looked_into() {
    let house = House::start(Options::default());
    for role in ["front", "signer"] {
        given_up(role, house.pid(role));
    }
}

/// Capabilities, ways to get them, and others' eyes.
fn given_up(role: &str, pid: i32) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set), "0000000000000000", "{role} {set}");
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(status(pid, "CapBnd"), "0000000000000000", "{role}: emptied, since it could be");
    }
    assert_eq!(status(pid, "NoNewPrivs"), "1", "{role}");
    // The files of a process that is not dumpable belong to root (proc(5)), but for the directory itself.
    assert_eq!(fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(), 0, "{role} is dumpable");
    assert_eq!(fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0, "{role} is dumpable");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let cores = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(cores.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"], "{role}");
}

#[test]
fn a_ceremony_has_given_up_as_much_before_it_hears_its_pin() {
    let house = House::start(Options::default().without_keys());
    let mut stream = UnixStream::connect(house.dir().join("ceremony.sock")).unwrap();
    let pin = frame(PIN.as_bytes());
    let (most, last) = pin.split_at(pin.len() - 1);
    stream.write_all(&[&frame(br#"{"plan":"list"}"#)[..], most].concat()).unwrap();
    let pid = house.pid("ceremony");
    // The sandbox refuses threads; the first one, the log's, starts right after its last step.
    eventually("the ceremony waits for the rest of its PIN", Duration::from_secs(20), || {
        (status(pid, "Threads") != "1").then_some(())
    });
    given_up("ceremony", pid);
    match house.hsm_user() {
        Some(user) => {
            let (uid, gid) = people::ids(&user);
            assert_eq!((ids(pid, "Uid"), ids(pid, "Gid"), ids(pid, "Groups")), (vec![uid; 4], vec![gid; 4], vec![gid]));
        }
        None => crate::support::skipped("the ceremony's user: there are no two unprivileged users to become"),
    }
    for file in ["environ", "cmdline"] {
        let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) else {
            crate::support::skipped(&format!("/proc/{pid}/{file} of a ceremony is root's to read"));
            continue;
        };
        assert!(!bytes.windows(PIN.len() - 1).any(|window| window == &PIN.as_bytes()[..PIN.len() - 1]), "{file}");
    }
    stream.write_all(last).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("\"done\""), "it was a ceremony, and held: {answer}");
}

#[test]
fn no_thread_has_escaped() {
    let house = House::start(Options::default());
    let ids = ["front", "signer"].map(|role| house.pid(role));
    for pid in ids {
        let first = status(pid, "Uid");
        for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = |field: &str| text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned();
            assert_eq!(line("NoNewPrivs:"), "1");
            assert_eq!(line("CapEff:"), "0000000000000000");
            assert_eq!(line("Uid:"), first);
        }
    }
}

#[test]
fn landlock_is_in_force_where_the_kernel_has_it() {
    let house = House::start(Options::default());
    let Ok(AdminOk::Status(text)) = house.admin_raw().admin(AdminOp::Status) else { panic!() };
    let kernel = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let log = house.log();
    if !kernel.contains("landlock") && !log.contains("landlock=Full") && !log.contains("landlock=Partial") {
        crate::support::skipped("what the sandbox lets through: this kernel has no Landlock");
        return;
    }
    for role in ["front", "signer"] {
        let line = log.lines().find(|line| line.contains("confined") && line.contains(role)).unwrap();
        assert!(line.contains("landlock=Full") || line.contains("landlock=Partial"), "{line}");
    }
    assert!(text.to_lowercase().contains("landlock"), "Status says so: {text}");
    // By effect: a policy directory outside of what was allowed at the start can't be read, whoever owns it.
    let elsewhere = tempfile::tempdir().unwrap();
    fs::set_permissions(elsewhere.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::copy(house.dir().join("policy.d/00-start.toml"), elsewhere.path().join("00-start.toml")).unwrap();
    let mut house = house;
    house.set("policy.dir", elsewhere.path().to_str().unwrap());
    let refused = house.admin_raw().admin(AdminOp::Reload).unwrap_err();
    assert!(refused.message.contains("ermission denied"), "{refused:?}");
}

#[test]
fn the_pin_is_in_nobodys_environment_or_arguments() {
    let house = House::start(Options::default());
    // While a ceremony runs that was given the PIN.
    house.ceremony(passportd::wire::ceremony::PlanKind::List, "t1", "auth");
    for role in ["run", "front", "signer"] {
        let pid = house.pid(role);
        for file in ["environ", "cmdline"] {
            let Ok(bytes) = fs::read(format!("/proc/{pid}/{file}")) else {
                crate::support::skipped(&format!("/proc/{pid}/{file} of {role} is root's to read"));
                continue;
            };
            assert!(!bytes.windows(PIN.len()).any(|window| window == PIN.as_bytes()), "{file} of {role}");
        }
    }
    assert!(!house.log().contains(PIN), "nor in the log");
    assert!(!house.get("/metrics").1.contains(PIN));
    for record in super::support::ledger::records(&house.ledger()) {
        assert!(!record.to_string().contains(PIN));
    }
}
