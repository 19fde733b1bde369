//! What only people see: colours on a terminal's stdout, progress on its stderr.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use crate::fake::{Fake, NEWEST, OLDER, ceremony, sealed};
use crate::leaves::leaves;

/// How long a bar may take to appear on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of 80 columns, and all that was written to it so far.
pub(super) struct Terminal {
    keyboard: File,
    shown: Arc<(Mutex<String>, Condvar)>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// The terminal, and the end that programs write to.
    pub(super) fn open() -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let theirs = ioctl_tiocgptpeer(&master, flags).unwrap();
        tcsetwinsize(&theirs, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let shown = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let written = Arc::clone(&shown);
        let keyboard = File::from(master.try_clone().unwrap());
        let reader = std::thread::spawn(move || {
            let (mut master, mut chunk) = (File::from(master), [0; 4096]);
            // EIO, once the last writer is gone.
            while let Ok(read @ 1..) = master.read(&mut chunk) {
                written.0.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..read]));
                written.1.notify_all();
            }
        });
        (Self { keyboard, shown, reader }, theirs)
    }

    /// Waits until this is on the screen.
    pub(super) fn shows(&self, words: &str) {
        let (shown, changed) = &*self.shown;
        let guard = shown.lock().unwrap();
        let (guard, late) = changed.wait_timeout_while(guard, PATIENCE, |shown| !shown.contains(words)).unwrap();
        assert!(!late.timed_out(), "{words:?} never came: {guard:?}");
    }

    /// Waits until it no longer shows what is typed: that comes a moment after the prompt. Both ends have the same settings.
    pub(super) fn stops_echoing(&self) {
        let begun = Instant::now();
        while tcgetattr(&self.keyboard).unwrap().local_modes.contains(LocalModes::ECHO) {
            assert!(begun.elapsed() < PATIENCE, "what is typed is shown: {:?}", self.shown);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything, after the last writer has gone.
    pub(super) fn all(self) -> String {
        self.reader.join().unwrap();
        self.shown.0.lock().unwrap().clone()
    }
}

fn health(variables: &[(&str, &str)]) -> String {
    let fake = Fake::start();
    let (terminal, theirs) = Terminal::open();
    let mut command = fake.tool(&["health"]);
    command.env("TERM", "xterm").envs(variables.iter().copied()).stdout(theirs).status().unwrap();
    drop(command);
    terminal.all()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let coloured = "\u{1b}[32mok\u{1b}[0m   issue";
    assert!(health(&[]).starts_with(coloured), "{:?}", health(&[]));
    // no-color.org: an empty value counts as none.
    assert!(health(&[("NO_COLOR", "")]).starts_with(coloured));
    for plain in [("NO_COLOR", "1"), ("NO_COLOR", "0"), ("TERM", "dumb")] {
        assert!(health(&[plain]).starts_with("ok   issue\r\n"), "{plain:?}");
    }
    let fake = Fake::start();
    assert!(!fake.run(&["health"]).stdout.contains('\u{1b}'));
}

#[test]
fn people_get_tables_and_json_that_can_be_read() {
    let fake = Fake::start();
    let on_terminal = |arguments: &[&str]| {
        let (terminal, theirs) = Terminal::open();
        let mut command = fake.tool(arguments);
        assert!(command.stdout(theirs).status().unwrap().success());
        drop(command);
        terminal.all()
    };
    assert!(on_terminal(&["keys", "--output", "json"]).ends_with("]}\r\n"));
    assert!(on_terminal(&["version", "--output", "json"]).starts_with("{\r\n  \"client\""));
    let issued = on_terminal(&["issue", "--template", "demo", "--sub", "alice"]);
    assert!(issued.contains("\r\nsub           alice\r\n"), "{issued}");
    let status = on_terminal(&["status"]);
    assert!(status.lines().count() < 24 && status.lines().all(|line| line.chars().count() <= 80), "{status}");
}

/// Starts a command with stderr on a terminal and stdout in a pipe.
pub(super) fn watched(mut command: Command) -> (Child, Terminal) {
    let (terminal, theirs) = Terminal::open();
    let child = command.env("TERM", "xterm").stdout(Stdio::piped()).stderr(theirs).spawn().unwrap();
    // The command holds the terminal open, too.
    drop(command);
    (child, terminal)
}

/// What each command shows while the daemon does not answer, and how it ends once it does. Without a configuration the doctor finds
/// something to say; an echo asks itself, so it has to take over a second.
const ANNOUNCED: [(&str, &[&str], &str, i32); 47] = [
    ("ping", &[], WAITING, 0),
    ("version", &[], WAITING, 0),
    ("whoami", &[], WAITING, 0),
    ("whoami", &["--admin"], WAITING, 0),
    ("health", &[], WAITING, 0),
    ("issue", &["--template", "demo", "--sub", "a"], WAITING, 0),
    ("issue", &["--template", "demo", "--sub", "a", "--count", "2000"], "issuing [", 0),
    ("verify", &["--aud", "demo", "@one"], WAITING, 0),
    ("verify", &["--aud", "demo", "@batch"], "verifying [", 0),
    ("exchange", &["@one"], WAITING, 0),
    ("introspect", &["--aud", "demo", "@batch"], "introspecting [", 0),
    ("seal", &["--namespace", "t1/billing", "--name", "database", "--in", "@statement"], WAITING, 0),
    ("unseal", &["--namespace", "t1/billing", "--name", "database", "--in", "@sealed"], WAITING, 0),
    ("reseal", &["--namespace", "t1/billing", "@database.sealed"], "resealing [", 0),
    ("revoke", &["--in", "@one"], WAITING, 0),
    ("revoke", &["--tenant", "t1", "--file", "@ids", "--yes"], "revoking [", 0),
    ("epoch bump", &["--tenant", "t1", "--yes"], WAITING, 0),
    ("epoch list", &[], WAITING, 0),
    ("watch", &["--once"], WAITING, 0),
    ("keys", &[], WAITING, 0),
    ("keys", &["--publish", "@jwks"], WAITING, 0),
    ("status", &[], WAITING, 0),
    ("audit keys", &[], WAITING, 0),
    ("audit checkpoint", &[], WAITING, 0),
    ("audit test-append", &[], WAITING, 0),
    ("attest", &[], WAITING, 0),
    ("attest", &["--verify", "@statement", "--allow-unsigned"], WAITING, 0),
    ("key stage", &["ed25519/t1/auth/v2"], WAITING, 0),
    ("key activate", &["ed25519/t1/auth/v2"], WAITING, 0),
    ("key list", &[], WAITING, 0),
    ("key rollback", &["--tenant", "t1", "--purpose", "auth", "--reason", "incident 42", "--yes"], WAITING, 0),
    ("key confirm", &["ed25519/t1/auth/v1"], WAITING, 0),
    ("key destroyed", &["ed25519/t1/auth/v0", "--yes"], WAITING, 0),
    ("pause", &["--reason", "incident 42"], WAITING, 0),
    ("resume", &[], WAITING, 0),
    ("ticket-ttl", &["--end", "--reason", "incident 42"], WAITING, 0),
    ("reload", &[], WAITING, 0),
    ("drain", &[], WAITING, 0),
    ("undrain", &[], WAITING, 0),
    ("smoke", &["--metrics", "@metrics"], "trying the daemon", 0),
    ("conformance", &["--only", "ping"], "trying cases [", 0),
    ("doctor", &["--config", "@none"], "looking", 1),
    ("bench", &["issue", "--seconds", "0.2"], "measuring [", 0),
    ("bench", &["verify", "--seconds", "0.2"], "measuring [", 0),
    ("bench", &["verify", "--compare", "--seconds", "0.2"], "comparing [", 0),
    ("bench", &["echo", "--seconds", "1.5"], "measuring [", 0),
    ("bench", &["mixed", "--seconds", "0.2"], "measuring [", 0),
];
pub(super) const WAITING: &str = "waiting for the daemon";
/// Those that hold a ceremony; what they show is [`a_ceremony_is_announced_once_the_pin_is_known`]'s.
const CEREMONIES: [(&str, &[&str]); 15] = [
    ("ceremony plan init", &["--tenant", "t1", "--purpose", "auth", "--out", "@plan"]),
    ("ceremony plan rotate", &["--tenant", "t1", "--purpose", "auth", "--out", "@plan"]),
    ("ceremony plan retire-seal", &["--kid", "hmac-sha256/t1/seal/v1", "--out", "@plan"]),
    ("ceremony plan destroy", &["--kid", "ed25519/t1/auth/v1", "--verifies-until", "1", "--out", "@plan"]),
    ("ceremony plan compromise", &["--kid", "ed25519/t1/auth/v1", "--out", "@plan"]),
    ("ceremony plan approvers", &["--threshold", "1", "--approver", "ann=uid:7", "--out", "@plan"]),
    ("ceremony plan restore", &["--from", "@keys", "--out", "@plan"]),
    ("ceremony plan new-ledger", &["--out", "@plan"]),
    ("hsm list", &[]),
    ("hsm retire", &["--kid", "hmac-sha256/t1/seal/v1"]),
    ("hsm retry-pin", &[]),
    ("hsm doctor", &[]),
    ("hsm init", &["--tenant", "t1", "--purpose", "auth"]),
    ("hsm rotate", &["--tenant", "t1", "--purpose", "auth"]),
    ("ceremony plan adopt", &["--tenant", "t1", "--purpose", "auth", "--cka-id", "0a0b"]),
];
/// Those that ask nobody. What they read is files, and a policy of every file and list that there may be is read in
/// less than a second; `policy check` may be given a pipe, see `slowly.rs`.
/// A state is as long as it is: what takes over a second is announced like a doctor's look.
/// A ledger is like a state; `audit verify` counts how far it has come, see there, too.
const ALONE: [&str; 20] = [
    "audit export",
    "audit prove",
    "audit report",
    "audit show",
    "audit verify",
    "audit verify-proof",
    "ceremony approve",
    "ceremony keygen",
    "ceremony verify",
    "inspect",
    "policy check",
    "policy explain",
    "config check",
    "config print",
    "completions",
    "state check",
    "state export",
    "state import",
    "state restore",
    "ceremony clock-reset",
];

#[test]
fn what_each_command_announces_is_known() {
    let known = ANNOUNCED.iter().map(|(leaf, ..)| *leaf).chain(CEREMONIES.iter().map(|(leaf, _)| *leaf)).chain(ALONE);
    // `challenge` has somebody else to wait for, too: see `challenge.rs`; and `ceremony run` asks first: see `typing.rs`.
    let known: BTreeSet<_> = known.chain(["challenge", "ceremony run"]).map(str::to_owned).collect();
    assert_eq!(known, leaves().into_iter().collect());
}

#[test]
fn what_takes_over_a_second_is_announced_to_whoever_watches() {
    std::thread::scope(|scope| {
        for (leaf, arguments, words, code) in ANNOUNCED {
            scope.spawn(move || announced(leaf, arguments, words, code));
        }
    });
}

/// Asserts that a command shows these words while it waits, and that nothing is left of them.
fn announced(leaf: &str, arguments: &[&str], words: &str, code: i32) {
    let fake = Fake::start();
    let given = |name: &str, issue: &[&str]| std::fs::write(fake.path(name), fake.run(issue).stdout).unwrap();
    given("one", &["issue", "--template", "demo", "--sub", "a"]);
    std::fs::write(fake.path("ids"), "01985b2c-1\n01985b2c-2 1700000000\n").unwrap();
    given("batch", &["issue", "--template", "demo", "--sub", "a", "--count", "3"]);
    given("statement", &["attest"]);
    std::fs::write(fake.path("sealed"), sealed(NEWEST, b"a secret\n")).unwrap();
    std::fs::write(fake.path("database.sealed"), sealed(OLDER, b"a secret\n")).unwrap();
    let typed = arguments.iter().map(|word| match word.strip_prefix('@') {
        Some("metrics") => fake.metrics.to_string(),
        Some(name) => fake.path(name).to_str().unwrap().to_owned(),
        None => (*word).to_owned(),
    });
    let typed: Vec<_> = leaf.split(' ').map(str::to_owned).chain(typed).collect();
    let typed: Vec<_> = typed.iter().map(String::as_str).collect();
    let held = fake.hold();
    let (child, terminal) = watched(fake.tool(&typed));
    terminal.shows(words);
    drop(held);
    let output = child.wait_with_output().unwrap();
    let (answer, shown) = (String::from_utf8(output.stdout).unwrap(), terminal.all());
    assert!(output.status.code() == Some(code) && !answer.is_empty(), "{typed:?}: {answer} {shown:?}");
    assert!(!answer.contains(words) && !answer.contains('\u{1b}'), "{typed:?}: {answer}");
    // It is erased at the end: nothing visible follows the last erasure of a line.
    let last = shown.rsplit("\u{1b}[2K").next().unwrap();
    assert!(last.trim().is_empty() && !shown.contains("[3"), "{typed:?}: {shown:?}");
}

#[test]
fn keys_that_are_put_to_use_are_announced() {
    use std::os::unix::fs::PermissionsExt;
    let fake = Fake::start();
    let pin = fake.path("pin");
    std::fs::write(&pin, "1234").unwrap();
    std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o400)).unwrap();
    let key = json!({"kid": "ed25519/t1/auth/v2", "role": "passport", "public": "11".repeat(32), "cka_id": "0a0b",
                     "made_now": true, "usable": true, "problem": "", "mechanisms_bound": true});
    let report = json!({"done": {"keys": [key], "orphans": [], "findings": [], "backup": null, "module": "m", "token": "t",
                                 "warnings": []}});
    let ceremony = ceremony(&fake.path("c.sock"), report.to_string());
    let held = fake.hold();
    let typed = ["hsm", "rotate", "--tenant", "t1", "--purpose", "auth", "--pin-file", pin.to_str().unwrap()];
    let (child, terminal) = watched(fake.tool(&typed));
    terminal.shows("putting the keys to use");
    drop(held);
    let output = child.wait_with_output().unwrap();
    ceremony.join().unwrap();
    let (answer, shown) = (String::from_utf8(output.stdout).unwrap(), terminal.all());
    assert!(output.status.success() && answer.contains("ed25519/t1/auth/v2"), "{answer} {shown:?}");
    assert!(shown.rsplit("\u{1b}[2K").next().unwrap().trim().is_empty(), "{shown:?}");
}

/// Reading what somebody types is no wait for the daemon.
#[test]
fn nothing_is_announced_before_the_daemon_is_asked() {
    let fake = Fake::start();
    let passport = fake.run(&["issue", "--template", "demo", "--sub", "a"]).stdout;
    let (terminal, theirs) = Terminal::open();
    let mut command = fake.tool(&["verify", "--aud", "demo"]);
    command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(theirs);
    let mut child = command.spawn().unwrap();
    drop(command);
    // Longer than what is announced.
    std::thread::sleep(Duration::from_millis(1500));
    child.stdin.take().unwrap().write_all(passport.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), terminal.all().as_str()), (Some(0), ""));
}

#[test]
fn a_ceremony_is_announced_once_the_pin_is_known() {
    use std::os::unix::fs::PermissionsExt;
    std::thread::scope(|scope| {
        for (leaf, more) in CEREMONIES {
            scope.spawn(move || {
                let fake = Fake::start();
                let pin = fake.path("pin");
                std::fs::write(&pin, "1234").unwrap();
                std::fs::set_permissions(&pin, PermissionsExt::from_mode(0o400)).unwrap();
                let pin = ["--pin-file", pin.to_str().unwrap()];
                // The signer has its PIN, and a plan needs none.
                let without = leaf == "hsm retry-pin" || more.contains(&"@plan");
                let pin = pin.iter().copied().filter(|_| !without);
                std::fs::write(fake.path("keys"), r#"{"keys":[{"kid":"hmac-sha256/t1/seal/v1"}]}"#).unwrap();
                let files = ["@plan", "@keys"]
                    .map(|name| (name, fake.path(name.trim_start_matches('@')).display().to_string()));
                let file = |word| files.iter().find(|(name, _)| *name == word).map_or(word, |(_, path)| path.as_str());
                let typed: Vec<_> = leaf.split(' ').chain(more.iter().copied().map(file)).chain(pin).collect();
                let (child, terminal) = {
                    // Nobody accepts yet, so the answer is late.
                    let listener = std::os::unix::net::UnixListener::bind(fake.path("c.sock")).unwrap();
                    let watched = watched(fake.tool(&typed));
                    watched.1.shows("holding the ceremony");
                    drop(listener);
                    watched
                };
                let output = child.wait_with_output().unwrap();
                assert_eq!(output.status.code(), Some(1), "{leaf}");
                // An error stands on a line of its own; what the doctor found is an answer.
                let shown = terminal.all();
                assert!(leaf == "hsm doctor" || shown.contains("passportctl: "), "{leaf}: {shown:?}");
                std::fs::remove_file(fake.path("c.sock")).unwrap();
                let report = json!({"done": {"keys": [], "orphans": [], "findings": [], "backup": null, "module": "m",
                                             "token": "t", "warnings": [], "standing": {"issuer": "x", "ledger": 7}}});
                let held = ceremony(&fake.path("c.sock"), report.to_string());
                let ran = fake.run(&typed);
                held.join().unwrap();
                assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{leaf}");
            });
        }
    });
}

#[test]
fn programs_never_see_a_bar() {
    let fake = Fake::start();
    let bench = ["bench", "echo", "--seconds", "1.5"];
    let json = [&bench[..], &["--output", "json"]].concat();
    let (piped, (child, terminal)) = (fake.tool(&bench), watched(fake.tool(&json)));
    let piped = { piped }.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((piped.status.code(), piped.stderr.as_slice()), (Some(0), &b""[..]));
    assert!(!String::from_utf8(piped.stdout).unwrap().contains("measuring"));
    let output = child.wait_with_output().unwrap();
    assert!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["per_second"].is_number());
    assert_eq!(terminal.all(), "", "JSON was asked for, so the terminal stays clean");

    // One that waits for the daemon is as quiet, for longer than it takes to be announced.
    let held = fake.hold();
    let (child, terminal) = watched(fake.tool(&["status", "--output", "json"]));
    std::thread::sleep(Duration::from_millis(1500));
    drop(held);
    assert!(serde_json::from_slice::<serde_json::Value>(&child.wait_with_output().unwrap().stdout).is_ok());
    assert_eq!(terminal.all(), "");
}
