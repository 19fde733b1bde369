//! A whole session under strace(1): nothing is opened to be written, and nothing is written but to pipes and sockets. And then
//! every file is looked through for what must be in none.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use passportd::wire::{AdminOp, Plain, ServiceOk, ServiceOp};

use super::{PATIENCE, few, house, issue_again, options, refusal, revoke};
use crate::support::ledger::jti;
use crate::support::passports::demo;
use crate::support::process::{PIPED, TRACED};
use crate::support::{Roles, eventually, skipped};

/// A subject, a secret's name, and a secret.
const CANARY: &str = "canary-6b1d";

/// Why processes can't be traced here, if they can't.
fn untraceable() -> Option<&'static str> {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    let Ok(traced) = traced else { return Some("strace is not installed") };
    // CAP_SYS_PTRACE is the nineteenth (capabilities(7)).
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
    let may = u64::from_str_radix(&rights, 16).unwrap() & (1 << 19) != 0;
    (!traced.success() || !may).then_some("that takes CAP_SYS_PTRACE")
}

/// What a line of strace says was done to a file: none of what failed, only read, or went to a pipe, a socket or a device.
fn writes(line: &str) -> bool {
    let Some((_, call)) = line.split_once(' ') else { return false };
    let Some((name, rest)) = call.trim_start().split_once('(') else { return false };
    let failed = rest.rsplit_once(" = ").is_none_or(|(_, result)| result.starts_with('-') || result.starts_with('?'));
    if failed && !rest.contains("<unfinished ...>") {
        return false;
    }
    let device = rest.contains("\"/dev/") || rest.contains("</dev/");
    match name {
        "open" | "openat" | "openat2" => {
            ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"].iter().any(|flag| rest.contains(flag)) && !device
        }
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "sendfile" | "copy_file_range" | "splice" => {
            let to = rest.split_once('<').and_then(|(_, to)| to.split_once('>')).map_or("", |(to, _)| to);
            to.starts_with('/') && !device
        }
        "landlock_restrict_self" => false,
        _ => true,
    }
}

/// The lines after the kernel has confined the role.
fn confined(trace: &str) -> Vec<&str> {
    let mut lines = trace.lines();
    assert!(
        lines.any(|line| line.contains("landlock_restrict_self(") && line.ends_with("= 0")),
        "it was never confined"
    );
    lines.collect()
}

/// Every file below `dir` that holds the canary.
fn holding(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found.extend(holding(&path));
        } else if kind.is_file() && fs::read(&path).unwrap().windows(CANARY.len()).any(|text| text == CANARY.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn lines_of_strace_are_told_apart() {
    for (line, told) in [
        ("7 openat(AT_FDCWD</>, \"/etc/passwd\", O_RDONLY|O_CLOEXEC) = 3</etc/passwd>", false),
        ("7 openat(AT_FDCWD</>, \"/tmp/x\", O_RDWR|O_CREAT, 0600) = -1 EACCES (Permission denied)", false),
        ("7 openat(AT_FDCWD</>, \"/tmp/x\", O_RDWR|O_CREAT, 0600) = 3</tmp/x>", true),
        ("7 openat(AT_FDCWD</>, \"/dev/null\", O_RDWR) = 3</dev/null>", false),
        ("7 openat(AT_FDCWD</>, \"/tmp/x\", O_WRONLY <unfinished ...>", true),
        ("7 write(2<pipe:[7]>, \"\"..., 9) = 9", false),
        ("7 write(5<socket:[7]>, \"\"..., 9) = 9", false),
        ("7 write(5</tmp/x>, \"\"..., 9) = 9", true),
        ("7 pwrite64(5</tmp/x>, \"\"..., 9, 0) = -1 EFBIG (File too large)", false),
        ("7 rename(\"/tmp/x\", \"/tmp/y\") = 0", true),
        ("7 memfd_create(\"x\", MFD_CLOEXEC) = 5", true),
        ("7 +++ exited with 0 +++", false),
    ] {
        assert_eq!(writes(line), told, "{line}");
    }
}

#[test]
fn a_whole_session_writes_to_no_file_and_leaves_no_trace() {
    if let Some(why) = untraceable() {
        return skipped(&format!("a session under strace(1): {why}"));
    }
    let traces = tempfile::tempdir().unwrap();
    let file = |role: &str| traces.path().join(role).to_str().unwrap().to_owned();
    let traced = options().roles(Roles::Apart);
    let traced = traced.environment("front", TRACED, &file("front")).environment("signer", TRACED, &file("signer"));
    let mut house = house(traced);
    let mut raw = house.raw();
    let [kept, revoked, spent] = [demo(CANARY), demo(CANARY), few(CANARY, 1)].map(|spec| raw.issue(spec).unwrap());
    revoke(&house, &jti(&revoked.msg));
    assert!(refusal(&mut raw, &revoked).is_some());
    assert_eq!(refusal(&mut raw, &spent), None);
    let plain = Plain(CANARY.as_bytes());
    let Ok(ServiceOk::Sealed { blob }) = raw.ask(ServiceOp::Seal { namespace: "t1/app", name: CANARY, plain }) else {
        panic!("not sealed")
    };
    raw.ask(ServiceOp::Unseal { namespace: "t1/app", name: CANARY, blob: &blob }).unwrap();
    for op in [AdminOp::Reload, AdminOp::PauseIssue { reason: CANARY }, AdminOp::ResumeIssue, AdminOp::Status] {
        house.admin_raw().admin(op).unwrap();
    }
    assert_eq!(house.get("/metrics").0, 200);
    // Another signer, traced as well, and a change of keys.
    house.signal("signer", Signal::SIGTERM);
    house.ended_role("signer");
    let first = fs::read_to_string(file("signer")).unwrap();
    house.start_role("signer");
    issue_again(&house, CANARY);
    assert_eq!(refusal(&mut raw, &kept), None);
    drop(raw);
    for role in ["front", "signer"] {
        house.signal(role, Signal::SIGTERM);
        house.ended_role(role);
    }
    eventually("the pipe has run dry", PATIENCE, || house.log().contains("drained").then_some(()));
    let [front, second] = ["front", "signer"].map(|role| fs::read_to_string(file(role)).unwrap());
    for (role, trace) in [("front", &front), ("signer", &first), ("signer", &second)] {
        let lines = confined(trace);
        assert!(lines.len() > 10, "{role}: {lines:?}");
        let written: Vec<_> = lines.iter().filter(|line| writes(line)).collect();
        assert!(written.is_empty(), "{role}: {written:#?}");
    }
    assert_eq!(holding(house.dir()), Vec::<String>::new());
    assert!(!house.dir().join(PIPED).exists());
}
