//! The services of `docs/SERVICES.md`, run as they stand: each gives every caller the verdict of passportd, and says
//! so when there is none. Their unit is one that systemd understands.
#![cfg(test)]

#[expect(dead_code, reason = "shared by several tests")]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use passportd::wire::{AdminOp, IssueSpec};
use support::fences;
use support::softhsm::skipped::skipped;
use support::{House, Options, eventually};

const POLICY: &str = r#"
[[peer]]
name = "tester"
uid = @UID@
allow = ["issue", "verify", "health", "drain"]
templates = ["order", "browse"]
verify_as = ["orders", "shop"]

[[template]]
name = "order"
tenant = "t1"
purpose = "auth"
subjects = ["customer-*"]
audiences = ["orders"]
scopes = ["orders:read", "orders:write"]
default_scopes = ["orders:write"]
max_ttl_s = 300

[[template]]
name = "browse"
tenant = "t1"
purpose = "auth"
subjects = ["customer-*"]
audiences = ["orders", "shop"]
scopes = ["orders:read", "orders:write"]
default_scopes = ["orders:read"]
max_ttl_s = 300
"#;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust service. Cargo builds examples with the tests, beside them, unless it is asked for one test alone.
fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_passportd")).with_file_name("examples").join("orders");
    assert!(program.exists(), "not built; run `cargo build --example orders` with the profile of this test");
    program
}

/// A service under test; it ends with this value.
struct Orders {
    child: Child,
    socket: PathBuf,
}

impl Orders {
    fn start(mut command: Command, house: &House, name: &str) -> Self {
        let socket = house.dir().join(name);
        let child = command.arg(&socket).arg(house.socket()).spawn().unwrap();
        let orders = Self { child, socket };
        let connects = || UnixStream::connect(&orders.socket).ok();
        eventually("the service listens", Duration::from_secs(20), connects);
        orders
    }

    fn says(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        // A line that is too long is answered before it is read to its end.
        drop(stream.write_all(format!("{line}\n").as_bytes()));
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

impl Drop for Orders {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What either service says to every kind of caller.
fn judges_like_passportd(orders: &Orders, house: &House) {
    let mut raw = house.raw();
    let mut issue = |template, aud: Vec<_>| {
        raw.issue(IssueSpec { template, sub: "customer-7", aud, ..IssueSpec::default() }).unwrap().to_json()
    };
    let good = issue("order", vec![]);
    assert_eq!(orders.says(&good), "ok");
    assert_eq!(orders.says(&good), "ok", "the connection to passportd is kept");
    assert_eq!(orders.says(&issue("browse", vec!["orders"])), "refused: scope_denied");
    assert_eq!(orders.says(&issue("browse", vec!["shop"])), "refused: bad_aud");
    assert_eq!(orders.says("hello"), "refused: that is no passport");
    assert_eq!(orders.says(&"x".repeat(100_000)), "refused: that is no passport");
    let mut bent = passportd::passport::OwnedEnvelope::from_json(good.as_bytes()).unwrap();
    bent.sig[5] ^= 1;
    assert_eq!(orders.says(&bent.to_json()), "refused: verify_failed");
}

/// Verifies that being unable to judge is not said to be a verdict, and passes.
fn says_so_when_passportd_is_away(orders: &Orders, house: &mut House) {
    let good = house.raw().issue(IssueSpec { template: "order", sub: "customer-7", ..IssueSpec::default() }).unwrap();
    house.stop();
    assert_eq!(orders.says(&good.to_json()), "try again: passportd can't be reached");
    house.boot();
    house.wait_ready();
    eventually("it has connected again", Duration::from_secs(10), || {
        (orders.says(&good.to_json()) == "ok").then_some(())
    });
}

#[test]
fn the_rust_service_does_what_the_guide_says() {
    let mut house = House::start(Options::default().policy(POLICY));
    let orders = Orders::start(Command::new(program()), &house, "orders.sock");
    judges_like_passportd(&orders, &house);
    says_so_when_passportd_is_away(&orders, &mut house);
}

#[test]
fn the_python_service_does_what_the_guide_says() {
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("python3 is not installed");
    }
    let mut house = House::start(Options::default().policy(POLICY));
    let mut command = Command::new("python3");
    command.arg(repository().join("clients/python/orders.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let orders = Orders::start(command, &house, "orders.sock");
    judges_like_passportd(&orders, &house);
    says_so_when_passportd_is_away(&orders, &mut house);
}

#[test]
fn the_policy_of_the_guide_is_one() {
    let guide = std::fs::read_to_string(repository().join("docs/SERVICES.md")).unwrap();
    let policy = guide.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
    let dir = tempfile::tempdir().unwrap();
    // The users of the guide are not this machine's.
    let policy = policy.replace("user = \"orders\"", "uid = 4001").replace("user = \"shop\"", "uid = 4002");
    std::fs::write(dir.path().join("10-orders.toml"), policy).unwrap();
    let explain = |uid: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
        command.args(["policy", "explain", "--uid", uid, "--dir"]).arg(dir.path()).args(more);
        command.output().unwrap().status.code()
    };
    assert_eq!(explain("4001", &["--op", "verify"]), Some(0));
    assert_eq!(explain("4001", &["--op", "issue", "--template", "order"]), Some(4));
    assert_eq!(explain("4002", &["--op", "issue", "--template", "order"]), Some(0));
    assert_eq!(explain("4003", &["--op", "verify"]), Some(4));
}

/// What stands under `Trying it`, as it stands: the passport of the `sh` block, and then the `console` block, but that what
/// cargo would build is built already.
#[test]
fn what_the_guide_types_shows_what_it_says() {
    const GUIDE: &str = "docs/SERVICES.md";
    const STARTS: &str = "cargo run --release --example orders -- ";
    let fences: Vec<_> = fences::all().into_iter().filter(|fence| fence.page == GUIDE).collect();
    let block = |language: &str| fences.iter().find(|fence| fence.language == language).unwrap();
    let (typed, shown) = (block("console").typed(), block("console").shown());
    let [start, ask] = typed[..] else { panic!("two commands: {typed:?}") };
    let places = start.strip_prefix(STARTS).and_then(|rest| rest.strip_suffix(" &")).unwrap();
    let (socket, daemon) = places.split_once(' ').unwrap();
    if !ask.starts_with("socat ") || Command::new("socat").arg("-V").output().is_err() {
        return skipped("socat is not installed");
    }
    let house = House::start(Options::default());
    let work = house.dir().join("work");
    std::fs::create_dir_all(work.join("target")).unwrap();
    std::os::unix::fs::symlink(house.dir(), work.join("target/dev")).unwrap();
    let bash = |script: &str| {
        let tools = Path::new(env!("CARGO_BIN_EXE_passportctl")).parent().unwrap();
        let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(&work).env("PATH", path);
        command.env("PASSPORTCTL_CONFIG", house.dir().join("passportd.toml")).output().unwrap()
    };
    let first = bash(&block("sh").text);
    assert!(first.status.success(), "{first:?}");
    let mut command = Command::new(program());
    let child = command.args([socket, daemon]).current_dir(&work).spawn().unwrap();
    let orders = Orders { child, socket: work.join(socket) };
    eventually("the service listens", Duration::from_secs(20), || UnixStream::connect(&orders.socket).ok());
    let answer = bash(ask);
    let said = String::from_utf8(answer.stdout).unwrap();
    assert_eq!((answer.status.success(), said.lines().collect::<Vec<_>>()), (true, shown), "{:?}", answer.stderr);
}

/// The settings of a unit that are for passportd.
const FOR_PASSPORTD: [(&str, &str); 4] = [
    ("Unit", "Wants=passportd.socket"),
    ("Unit", "After=passportd.socket"),
    ("Service", "User=orders"),
    ("Service", "SupplementaryGroups=passportd-clients"),
];

/// Section and setting of each line that is one.
fn settings(unit: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name,
            None => found.push((section, line)),
        }
    }
    found
}

#[test]
fn the_unit_has_what_the_guide_says_that_it_needs() {
    let unit = std::fs::read_to_string(repository().join("examples/orders.service")).unwrap();
    let unit = settings(&unit);
    let fences: Vec<_> = fences::all().into_iter().filter(|fence| fence.language == "ini").collect();
    let [excerpt] = &fences[..] else { panic!("one excerpt: {fences:?}") };
    assert_eq!(excerpt.page, "docs/SERVICES.md");
    assert_eq!(settings(&excerpt.text), FOR_PASSPORTD, "the guide's excerpt");
    // Both are names of passportd's own files.
    let groups = std::fs::read_to_string(repository().join("systemd/sysusers.d/passportd.conf")).unwrap();
    assert!(groups.lines().any(|line| line.split_whitespace().nth(1) == Some("passportd-clients")), "{groups}");
    assert!(repository().join("systemd/passportd.socket").exists());
    for needed in FOR_PASSPORTD {
        assert!(unit.contains(&needed), "examples/orders.service lacks {needed:?}");
    }
    assert!(
        !unit.iter().any(|(_, line)| line.starts_with("Requires=passportd")),
        "stopping passportd must not stop it"
    );
}

#[test]
fn systemd_understands_the_unit_of_the_service() {
    let root = tempfile::tempdir().unwrap();
    let (units, programs) = (root.path().join("etc/systemd/system"), root.path().join("usr/local/bin"));
    std::fs::create_dir_all(&units).unwrap();
    std::fs::create_dir_all(&programs).unwrap();
    std::fs::copy(repository().join("examples/orders.service"), units.join("orders.service")).unwrap();
    std::fs::copy("/bin/true", programs.join("orders")).unwrap();
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no", "--recursive-errors=no", "--root"])
        .arg(root.path())
        .arg(units.join("orders.service"))
        .output();
    let Ok(verify) = verify else { return skipped("systemd-analyze is not installed") };
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success() && !said.contains("orders.service:"), "{said}");
}

#[test]
fn what_policy_does_not_let_it_ask_is_no_verdict() {
    let house = House::start(Options::default());
    let passport = house.raw().issue(support::passports::demo("customer-7")).unwrap().to_json();
    let rust = Orders::start(Command::new(program()), &house, "rust.sock");
    assert_eq!(rust.says(&passport), "can't judge: bad_aud");
    if Command::new("python3").arg("--version").output().is_err() {
        return skipped("python3 is not installed");
    }
    let mut command = Command::new("python3");
    command.arg(repository().join("clients/python/orders.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    let python = Orders::start(command, &house, "python.sock");
    assert_eq!(python.says(&passport), "can't judge: bad_aud");
}

#[test]
fn a_service_that_is_not_let_in_says_so_at_its_start() {
    let house = House::start(Options::default());
    house.admin_raw().admin(AdminOp::Drain).unwrap();
    let output = Command::new(program()).arg(house.dir().join("o.sock")).arg(house.socket()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("draining"), "{said}");
}
