//! Each test confines a child: this test binary, started again for the one test named in `CHILD`. What it may do is
//! given in the environment; it prints what it found, one `name=value` a line.

use super::*;
use crate::skipped::skipped;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const CHILD: &str = "PASSPORTD_TEST_SANDBOX_CHILD";

/// Runs `child_confines_itself` with the given variables and returns what it printed.
fn confined(vars: &[(&str, &str)]) -> BTreeMap<String, String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::tests::child_confines_itself", "--nocapture", "--ignored", "--test-threads=1"])
        .env(CHILD, "1")
        .envs(vars.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn status_line(name: &str) -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("absent").trim().to_owned()
}

#[test]
#[ignore = "started by the other tests, in a process of its own"]
fn child_confines_itself() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let var = |name: &str| std::env::var(name).ok();
    if var("WITHOUT_LANDLOCK").is_some() {
        fault_module::without_landlock().unwrap();
    }
    if let Some(uid) = var("AS") {
        nix::unistd::setuid(uid.parse::<u32>().unwrap().into()).unwrap();
    }
    let outside = var("OUTSIDE").unwrap_or_else(|| "/nonexistent".to_owned());
    let paths = |name: &str| var(name).into_iter().map(PathBuf::from).collect::<Vec<_>>();
    let mut read_only = paths("READ");
    // A directory and a file.
    read_only.extend([PathBuf::from("/proc"), PathBuf::from("/dev/null")]);
    let plan = Plan {
        role: "signer",
        user: var("BECOME"),
        read_only,
        unwritten: paths("UNWRITTEN"),
        read_write: paths("WRITE"),
        devices: paths("DEVICE"),
        tcp: var("TCP").is_some(),
        parent: var("PARENT").map(|pid| pid.parse().unwrap()),
        ..Plan::default()
    };
    let applied = match steps(&plan) {
        Ok(applied) => applied,
        Err(error) => {
            println!("\nerror={error}");
            return;
        }
    };
    println!("\nlevel={:?}", applied.landlock.level);
    println!("abi={}", applied.landlock.abi);
    println!("uid={} {}", applied.identity.uid, status_line("Uid:"));
    println!("switched={}", applied.identity.switched);
    println!("groups={}", status_line("Groups:"));
    println!("bounding={} {}", applied.bounding_empty, status_line("CapBnd:"));
    println!("permitted={}", status_line("CapPrm:"));
    println!("no_new_privs={}", status_line("NoNewPrivs:"));
    println!("dumpable={:?}", nix::sys::prctl::get_dumpable());
    println!("notes={}", applied.notes.join("; "));
    let attempt =
        |result: std::io::Result<()>| result.map_or_else(|error| format!("{:?}", error.kind()), |()| "done".to_owned());
    println!("write_outside={}", attempt(std::fs::write(Path::new(&outside).join("new"), b"x")));
    println!("read_outside={}", attempt(std::fs::read(Path::new(&outside).join("old")).map(drop)));
    if let Some(inside) = var("WRITE") {
        println!("write_inside={}", attempt(std::fs::write(Path::new(&inside).join("new"), b"x")));
        let made = std::fs::metadata(Path::new(&inside).join("new")).map(|m| std::os::unix::fs::MetadataExt::mode(&m));
        println!("made_mode={:o}", made.unwrap_or(0));
    }
    if let Some(read) = var("READ") {
        println!("read_inside={}", attempt(std::fs::read(Path::new(&read).join("old")).map(drop)));
        println!("write_read_only={}", attempt(std::fs::write(Path::new(&read).join("new"), b"x")));
    }
    let device = |path: &str| attempt(std::fs::File::options().read(true).write(true).open(path).map(drop));
    println!("device={} other_device={}", device("/dev/zero"), device("/dev/full"));
    println!("exec={}", attempt(Command::new("/bin/true").status().map(drop)));
    println!("connect={}", attempt(std::net::TcpStream::connect("127.0.0.1:1").map(drop)));
}

fn open_dir(mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    std::fs::write(dir.path().join("old"), b"x").unwrap();
    dir
}

#[test]
fn only_the_listed_paths_are_left() {
    let (outside, read, write) = (open_dir(0o777), open_dir(0o777), open_dir(0o777));
    let path = |dir: &tempfile::TempDir| dir.path().to_str().unwrap().to_owned();
    let found = confined(&[("OUTSIDE", &path(&outside)), ("READ", &path(&read)), ("WRITE", &path(&write))]);
    assert_eq!(found["no_new_privs"], "1");
    assert_eq!(found["dumpable"], "Ok(false)");
    assert_eq!(found["permitted"], "0000000000000000");
    assert_eq!(found["write_inside"], "done");
    assert_eq!(found["made_mode"], "100600");
    assert_eq!(found["read_inside"], "done");
    if found["level"] == "None" {
        skipped("in part, what files can be reached: this kernel has no Landlock");
        return;
    }
    for denied in ["write_outside", "read_outside", "write_read_only", "exec"] {
        assert_eq!(found[denied], "PermissionDenied", "{denied}: {found:?}");
    }
    if found["abi"].parse::<i32>().unwrap() >= 6 {
        assert_eq!(found["level"], "Full");
        assert_eq!(found["connect"], "PermissionDenied");
    }
}

#[test]
fn a_module_may_have_its_device_and_its_network() {
    let found = confined(&[("DEVICE", "/dev/zero"), ("TCP", "1")]);
    if found["level"] == "None" {
        skipped("a_module_may_have_its_device_and_its_network: this kernel has no Landlock");
        return;
    }
    assert_eq!(found["device"], "done other_device=PermissionDenied");
    assert_eq!(found["connect"], "ConnectionRefused", "nobody listens at port 1");
    assert_eq!(confined(&[])["device"], "PermissionDenied other_device=PermissionDenied");
}

#[test]
fn what_must_not_be_written_is_not_where_there_is_no_landlock_either() {
    if !nix::unistd::geteuid().is_root() {
        skipped("what_must_not_be_written_is_not_where_there_is_no_landlock_either needs root");
        return;
    }
    let dir = open_dir(0o777);
    let path = dir.path().to_str().unwrap();
    let vars = [("WITHOUT_LANDLOCK", "1"), ("READ", path), ("UNWRITTEN", path)];
    let found = confined(&vars);
    assert_eq!(
        (found["level"].as_str(), found["read_inside"].as_str(), found["write_read_only"].as_str()),
        ("None", "done", "ReadOnlyFilesystem")
    );
    assert!(!found["notes"].contains("nothing keeps"), "{found:?}");
    // The mount is that process's own; and nobody but root can make one.
    std::fs::write(dir.path().join("new"), b"x").unwrap();
    std::fs::remove_file(dir.path().join("new")).unwrap();
    let found = confined(&[&vars[..], &[("AS", "65534")]].concat());
    assert_eq!(found["write_read_only"], "done");
    assert!(found["notes"].contains(&format!("nothing keeps this process from writing to {path}")), "{found:?}");
}

#[test]
fn root_becomes_the_user_and_keeps_nothing() {
    if !nix::unistd::geteuid().is_root() {
        skipped("root_becomes_the_user_and_keeps_nothing needs root");
        return;
    }
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    let found = confined(&[("BECOME", "nobody")]);
    let uid = nobody.uid.to_string();
    assert_eq!(found["uid"].split_whitespace().collect::<Vec<_>>(), vec![uid.as_str(); 5], "{found:?}");
    assert_eq!(found["switched"], "true");
    assert_eq!(found["groups"], nobody.gid.to_string());
    assert_eq!(found["bounding"], "true 0000000000000000");
    assert_eq!(found["permitted"], "0000000000000000");
    assert_eq!(found["notes"], "");
}

#[test]
fn an_ordinary_user_is_confined_all_the_same() {
    let found = confined(&[]);
    assert_eq!(found["switched"], "false");
    assert_eq!(found["no_new_privs"], "1");
    if nix::unistd::geteuid().is_root() {
        assert!(found["notes"].contains("runs as root, without capabilities"), "{found:?}");
        assert_eq!(found["bounding"], "true 0000000000000000");
    }
}

#[test]
fn mistakes_of_the_operator_are_named() {
    let missing = confined(&[("READ", "/nonexistent/policy")]);
    assert!(
        missing["error"].starts_with("/nonexistent/policy: ") && missing["error"].contains("signer"),
        "{missing:?}"
    );
    let user = confined(&[("BECOME", "no-such-user")]);
    assert!(user["error"].starts_with("there is no user \"no-such-user\""), "{user:?}");
    if nix::unistd::geteuid().is_root() {
        assert!(confined(&[("BECOME", "root")])["error"].contains("uid 0"));
    }
}

#[test]
fn a_parent_that_is_gone_is_noticed() {
    assert_eq!(confined(&[("PARENT", "1")])["error"], "the parent process 1 is gone");
    assert_eq!(confined(&[("PARENT", &std::process::id().to_string())])["no_new_privs"], "1");
}

#[test]
fn a_second_thread_is_refused() {
    // The harness runs this test in a thread beside its main one.
    assert!(matches!(enter(&Plan::default()), Err(SandboxError::Threads(2..))));
}
