//! Readers that leave, disks that are full, and variables.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::fake::Fake;
use crate::tool::{run, tool};

/// Commands of every kind of output, with the exit that they have of their own.
const ANSWERS: [(&[&str], i32); 10] = [
    (&["--help"], 0),
    (&["--version"], 0),
    (&["bench", "--help"], 0),
    (&["completions", "bash"], 0),
    (&["keys"], 0),
    (&["status"], 0),
    (&["attest", "--output", "table"], 0),
    (&["issue", "--template", "demo", "--sub", "a", "--count", "500"], 0),
    (&["whoami", "--output", "json"], 0),
    (&["health"], 1),
];

fn fake() -> Fake {
    let fake = Fake::start();
    fake.become_unready();
    fake
}

fn ended(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_reader_that_has_left_changes_nothing() {
    let fake = fake();
    for (arguments, code) in ANSWERS {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(ended(fake.tool(arguments).stdout(writer)), (Some(code), String::new()), "{arguments:?}");
    }
}

#[test]
fn what_can_not_be_written_is_an_error() {
    let fake = fake();
    for (arguments, _) in ANSWERS {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (code, said) = ended(fake.tool(arguments).stdout(full));
        assert_eq!(code, Some(1), "{arguments:?}");
        assert_eq!(
            said, "passportctl: can't write the answer: No space left on device (os error 28)\n",
            "{arguments:?}"
        );
    }
    // With nowhere to complain, the exit code is all that is left.
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let status = fake.tool(&["nonsense"]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(2));
}

#[test]
fn every_option_of_all_commands_may_come_from_the_environment() {
    let fake = Fake::start();
    let with =
        |variables: &[(&str, &str)], arguments: &[&str]| run(fake.tool(arguments).envs(variables.iter().copied()), "");
    assert!(with(&[("PASSPORTCTL_OUTPUT", "json")], &["version"]).json()["wire"].is_number());
    let typed = with(&[("PASSPORTCTL_OUTPUT", "json")], &["drain", "--output", "table"]);
    assert!(typed.stdout.starts_with("draining: "), "{typed:?}");
    let config = fake.path("none.toml");
    with(&[("PASSPORTCTL_CONFIG", config.to_str().unwrap())], &["config", "check"])
        .says(1, "none.toml: cannot be read");

    // The daemon waits; the client does not.
    let held = fake.hold();
    with(&[("PASSPORTCTL_TIMEOUT", "0.2")], &["ping"]).says(1, "no answer in time");
    drop(held);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    let fake = Fake::start();
    let mut command = fake.tool(&["drain"]);
    command.env("PASSPORTCTL_OUTPT", "json").env("PASSPORT_MAX_BATCH", "9");
    let ran = run(&mut command, "");
    assert_eq!(ran.code, Some(0));
    assert_eq!(
        ran.stderr,
        "passportctl: warning: PASSPORTCTL_OUTPT is in the environment and means nothing (did you mean \
         `PASSPORTCTL_OUTPUT`?)\n"
    );
    for (arguments, named) in
        [(&["ping"][..], true), (&["ping", "--timeout", "0"], false), (&["ping", "--timeout=0"], false)]
    {
        let ran = run(tool(arguments).env("PASSPORTCTL_TIMEOUT", "-1"), "");
        assert_eq!(ran.code, Some(2), "{ran:?}");
        let hint = "passportctl: the value comes from the environment: PASSPORTCTL_TIMEOUT\n";
        assert_eq!(ran.stderr.ends_with(hint), named, "{ran:?}");
    }
}
