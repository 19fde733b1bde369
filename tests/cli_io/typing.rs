//! What is typed: PINs, and ceremonies on a terminal: what is shown, what has to be typed, and what is never shown.

use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use passportd::clock::Moment;
use passportd::statement::plan::{Opened, Plan, Planner, Step};
use serde_json::{Value, json};

use crate::fake::{Fake, ceremony};
use crate::terminal::{Terminal, watched};

const KID: &str = "ed25519/t1/auth/v1";

/// Starts a command in a session of its own, which has this terminal; its standard input is the terminal, or elsewhere.
fn on_its_own_terminal(fake: &Fake, arguments: &[&str], theirs: OwnedFd, stdin: bool) -> Child {
    let tool = fake.tool(arguments);
    let mut command = Command::new("setsid");
    let exec = if stdin { "exec \"$0\" \"$@\"" } else { "exec \"$0\" \"$@\" < /dev/null" };
    command.args(["--ctty", "--wait", "sh", "-c", exec]);
    command.arg(tool.get_program()).args(tool.get_args()).env_clear();
    command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(dir) = tool.get_current_dir() {
        command.current_dir(dir);
    }
    command.env("TERM", "xterm").env("PATH", "/usr/bin:/bin");
    command.stdin(theirs.try_clone().unwrap()).stdout(Stdio::piped()).stderr(theirs).spawn().unwrap()
}

/// It is asked of the terminal, whatever stdin and stdout are.
#[test]
fn a_pin_that_is_typed_arrives_and_is_not_shown() {
    const PIN: &str = "4711-typed";
    let fake = Fake::start();
    let report = json!({"done": {"keys": [], "orphans": [], "findings": [], "backup": null, "module": "m",
                                 "token": "t", "warnings": []}});
    let held = ceremony(&fake.path("c.sock"), report.to_string());
    let (mut terminal, theirs) = Terminal::open();
    let child = on_its_own_terminal(&fake, &["hsm", "list", "--output", "json"], theirs, false);
    terminal.shows("User PIN of the HSM: ");
    terminal.stops_echoing();
    terminal.types(&format!("{PIN}\n"));
    let (_, pin) = held.join().unwrap();
    assert_eq!(pin, PIN, "what was typed, without the end of the line");
    let output = child.wait_with_output().unwrap();
    let (answer, shown) = (String::from_utf8(output.stdout).unwrap(), terminal.all());
    assert_eq!(output.status.code(), Some(0), "{shown:?}");
    assert!(!shown.contains(PIN) && !answer.contains(PIN), "{shown:?} {answer:?}");
}

fn plan(fake: &Fake) -> (String, Opened) {
    let destroy = Step::Destroy { kid: KID.to_owned(), verifies_until: 1, purge_backups: false };
    let steps = vec![destroy, Step::Compromise { kid: "ed25519/t1/auth/v0".to_owned() }];
    let planner = Planner { uid: 0, name: "root".to_owned(), host: "h".to_owned() };
    let made =
        Plan::new(&[7; 16], "x".to_owned(), planner, None, steps).made(Moment::now().unix(), 60).close().unwrap();
    let path = fake.path("end.plan");
    std::fs::write(&path, &made.text).unwrap();
    (path.display().to_string(), made)
}

#[test]
fn each_thing_that_can_not_be_undone_is_typed_and_then_the_pin() {
    const PIN: &str = "4711-typed";
    let fake = Fake::start();
    let (path, opened) = plan(&fake);
    let refused = json!({"failed": {"code": "approval", "message": "0 of 2 approvals are there"}});
    let held = ceremony(&fake.path("c.sock"), refused.to_string());
    let (mut terminal, theirs) = Terminal::open();
    let child = on_its_own_terminal(&fake, &["ceremony", "run", &path], theirs, true);
    terminal.shows("1. DESTROY");
    terminal.shows(&format!("type {KID} to go on: "));
    // Both answers at once: what follows the first line is for the second question.
    terminal.types(&format!("{KID}\ned25519/t1/auth/v0\n"));
    terminal.shows("type ed25519/t1/auth/v0 to go on: ");
    terminal.shows("User PIN of the HSM: ");
    terminal.stops_echoing();
    terminal.types(&format!("{PIN}\n"));
    let (asked, pin) = held.join().unwrap();
    let asked: Value = serde_json::from_str(&asked).unwrap();
    assert_eq!((asked["plan"].as_str(), asked["document"].as_str()), (Some("run"), Some(opened.text.as_str())));
    assert_eq!(pin, PIN);
    let output = child.wait_with_output().unwrap();
    let shown = terminal.all();
    assert!(output.status.code() == Some(1) && shown.contains("0 of 2 approvals"), "{shown:?}");
    assert!(!shown.contains(PIN), "{shown:?}");
}

#[test]
fn another_word_than_the_one_that_is_asked_for_does_nothing() {
    let fake = Fake::start();
    let (path, _) = plan(&fake);
    let (mut terminal, theirs) = Terminal::open();
    // Nobody serves the ceremony's socket: to be asked would be another error.
    let child = on_its_own_terminal(&fake, &["ceremony", "run", &path], theirs, true);
    terminal.shows("to go on: ");
    terminal.types("yes\n");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
    let shown = terminal.all();
    assert!(shown.contains("nothing was done") && !shown.contains("User PIN"), "{shown:?}");
}

#[test]
fn a_key_with_a_passphrase_approves_for_who_knows_it() {
    const PHRASE: &str = "correct horse";
    let fake = Fake::start();
    let (path, _) = plan(&fake);
    let key = fake.path("ann.key").display().to_string();
    let typed = |arguments: &[&str], answers: &[(&str, &str)]| {
        let (mut terminal, theirs) = Terminal::open();
        let child = on_its_own_terminal(&fake, arguments, theirs, false);
        for (question, answer) in answers {
            terminal.shows(question);
            terminal.stops_echoing();
            terminal.types(&format!("{answer}\n"));
        }
        let output = child.wait_with_output().unwrap();
        let shown = terminal.all();
        assert!(!shown.contains(PHRASE), "{shown:?}");
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &shown)
    };
    let keygen = ["ceremony", "keygen", "--out", &key];
    let (code, said) = typed(&keygen, &[("new key", PHRASE), ("Once more", "another")]);
    assert!(code == Some(1) && said.contains("not the same") && !fake.path("ann.key").exists(), "{said}");
    assert_eq!(typed(&keygen, &[("new key", PHRASE), ("Once more", PHRASE)]).0, Some(0));
    let text = std::fs::read_to_string(fake.path("ann.key")).unwrap();
    assert!(text.contains("APPROVER KEY") && !text.contains("PRIVATE KEY"), "{text}");
    let out = fake.path("ann.ok").display().to_string();
    let approve = ["ceremony", "approve", &path, "--key", &key, "--out", &out];
    let (code, said) = typed(&approve, &[("Passphrase of", "wrong horse")]);
    assert!(code == Some(1) && said.contains("not its passphrase"), "{said}");
    let (code, said) = typed(&approve, &[("Passphrase of", PHRASE)]);
    assert!(code == Some(0) && said.contains("DESTROY") && said.contains("approved by"), "{said}");
}

#[test]
fn a_run_is_announced_while_the_ceremony_is_held() {
    use std::os::unix::fs::PermissionsExt;
    let fake = Fake::start();
    let (path, _) = plan(&fake);
    std::fs::write(fake.path("pin"), "1234").unwrap();
    std::fs::set_permissions(fake.path("pin"), PermissionsExt::from_mode(0o400)).unwrap();
    let pin = fake.path("pin").display().to_string();
    let listener = std::os::unix::net::UnixListener::bind(fake.path("c.sock")).unwrap();
    let (child, terminal) = watched({
        let mut tool = fake.tool(&["ceremony", "run", &path, "--yes", "--pin-file", &pin]);
        tool.stdin(Stdio::null());
        tool
    });
    terminal.shows("holding the ceremony");
    drop(listener);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(1));
}
