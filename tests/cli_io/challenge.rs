//! A challenge waits for two: the daemon, and whoever makes the proof.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use crate::fake::Fake;
use crate::terminal::{WAITING, watched};

#[test]
fn a_challenge_waits_for_the_daemon_and_then_for_a_proof() {
    let fake = Fake::start();
    let one = fake.path("one");
    std::fs::write(&one, fake.run(&["issue", "--template", "demo", "--sub", "a"]).stdout).unwrap();
    let held = fake.hold();
    let mut tool = fake.tool(&["challenge", "--aud", "demo", one.to_str().unwrap()]);
    tool.stdin(Stdio::piped());
    let (mut child, terminal) = watched(tool);
    terminal.shows(WAITING);
    drop(held);
    let mut asked = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut asked).unwrap();
    assert_eq!(&asked, b"nonce", "it is told before a proof comes");
    child.stdin.take().unwrap().write_all(b"e30.e30.AA\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let answer = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(0) && answer.contains("\naccepted\n"), "{answer}");
}
