//! Running `passportctl` and looking at what came of it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::fake::Fake;

/// What a run of the tool came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// One line on stderr that holds these words, and nothing on stdout.
    pub(crate) fn says(&self, code: i32, words: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("passportctl: ") && self.stderr.contains(words), "{self:?}");
    }
}

/// The tool with an empty environment.
pub(crate) fn tool(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passportctl"));
    command.env_clear().args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn run(command: &mut Command, input: &str) -> Ran {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // A tool that ends without reading its input closes the pipe.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Fake {
    pub(crate) fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = tool(arguments);
        command.env("PASSPORTCTL_SOCKET", self.path("s.sock")).env("PASSPORTCTL_ADMIN_SOCKET", self.path("a.sock"));
        command.env("PASSPORTCTL_CEREMONY_SOCKET", self.path("c.sock"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.tool(arguments), "")
    }

    pub(crate) fn fed(&self, arguments: &[&str], input: &str) -> Ran {
        run(&mut self.tool(arguments), input)
    }
}
