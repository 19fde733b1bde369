//! Files that come slowly: commands that ask nobody announce that they read.

use std::io::Write as _;

use crate::fake::Fake;
use crate::terminal::watched;

#[test]
fn a_policy_that_comes_slowly_is_announced() {
    let fake = Fake::start();
    let pipe = fake.path("policy.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (child, terminal) = watched(fake.tool(&["policy", "check", pipe.to_str().unwrap()]));
    terminal.shows("reading the policy");
    std::fs::write(&pipe, "[[peer]]\nname = \"web\"\nuid = 33\nallow = [\"keys\"]\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (answer, shown) = (String::from_utf8(output.stdout).unwrap(), terminal.all());
    assert!(output.status.success() && answer.contains("good; 1 rules, 0 templates"), "{answer} {shown:?}");
    assert!(shown.rsplit("\u{1b}[2K").next().unwrap().trim().is_empty(), "{shown:?}");
}

#[test]
fn a_ledger_that_takes_its_time_is_announced() {
    let fake = Fake::start();
    let pipe = fake.path("export.jsonl");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let (child, terminal) = watched(fake.tool(&["audit", "verify", pipe.to_str().unwrap()]));
    // A reader is there, and nothing comes.
    let mut writer = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
    writer.write_all(b"{").unwrap();
    terminal.shows("checking records");
    writer.write_all(b"}\n").unwrap();
    drop(writer);
    let output = child.wait_with_output().unwrap();
    let (answer, shown) = (String::from_utf8(output.stdout).unwrap(), terminal.all());
    assert!(output.status.code() == Some(3) && answer.contains("record 1 was altered"), "{answer} {shown:?}");
    assert!(shown.rsplit("\u{1b}[2K").next().unwrap().trim().is_empty(), "{shown:?}");
}
