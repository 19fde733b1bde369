//! The command line: every command, its options and its help. Nothing is decided here.

mod operate;
mod service;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub(super) use operate::{
    Bench, BenchWhat, Completions, ConfigCommand, Doctor, Explain, HsmCommand, HsmInit, HsmRotate, KeyCommand, Pin,
    PolicyCommand, Smoke,
};
pub(super) use service::{Issue, Keys, Verify};

const AFTER: &str = "\
Exit codes:
  0  done; every passport that was asked about is valid
  1  failed: no connection, no answer, not ready, a finding, a failed step
  2  the arguments or the input are wrong
  3  not valid: a passport was refused
  4  refused: the daemon says why it won't answer (op_denied, rate_limited, paused, ...)

Example:
  passportctl issue --template demo --sub alice | passportctl verify --aud demo";

/// Asks passportd for passports and verdicts, operates it, and looks after its keys.
#[derive(Debug, Parser)]
#[command(name = "passportctl", version, max_term_width = 100, after_help = AFTER, propagate_version = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How answers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

/// What goes with every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub(super) struct Global {
    /// How to show the answer; `issue` and `keys` print JSON on their own when stdout is no terminal
    #[arg(long, global = true, value_enum)]
    pub(super) output: Option<Format>,
    /// The services' socket [default: the configuration's, or /run/passportd/passportd.sock]
    #[arg(long, global = true, value_name = "PATH", env = "PASSPORTCTL_SOCKET", hide_env_values = true)]
    pub(super) socket: Option<PathBuf>,
    /// The admins' socket [default: the configuration's, or /run/passportd/admin.sock]
    #[arg(long, global = true, value_name = "PATH", env = "PASSPORTCTL_ADMIN_SOCKET", hide_env_values = true)]
    pub(super) admin_socket: Option<PathBuf>,
    /// The ceremony's socket [default: the configuration's, or /run/passportd-signer/ceremony.sock]
    #[arg(long, global = true, value_name = "PATH", env = "PASSPORTCTL_CEREMONY_SOCKET", hide_env_values = true)]
    pub(super) ceremony_socket: Option<PathBuf>,
    /// The daemon's configuration file, which names the sockets
    #[arg(long, global = true, value_name = "FILE", env = "PASSPORTCTL_CONFIG", hide_env_values = true)]
    pub(super) config: Option<PathBuf>,
    /// The longest that one request may take
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) timeout: Duration,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Is the daemon there?
    #[command(after_help = "Example:\n  passportctl ping")]
    Ping,
    /// What is running: the daemon's version, wire version and issuer
    #[command(after_help = "Example:\n  passportctl version --output json")]
    Version,
    /// Whom the daemon takes this process for, and what it may do
    #[command(after_help = "Example:\n  passportctl whoami --admin")]
    Whoami(Where),
    /// Which conditions hold; exits 1 unless passports can be issued and verified
    #[command(after_help = "Example:\n  passportctl health --admin || journalctl -u passportd -n 50")]
    Health(Where),
    /// Issues one passport, several alike, or a batch
    Issue(Issue),
    /// A verdict on one passport or a batch
    Verify(Verify),
    /// The claims of a passport and whether it would be accepted, without accepting it
    Introspect(Verify),
    /// The public keys as a JSON Web Key Set
    Keys(Keys),
    /// Everything an operator wants to see
    #[command(after_help = "Example:\n  passportctl status --output json | jq .health")]
    Status,
    /// A statement of version, build, configuration, policy and keys
    #[command(after_help = "Example:\n  passportctl attest --output json > attest.json")]
    Attest,
    /// Stages and activates keys that a ceremony made
    #[command(subcommand)]
    Key(KeyCommand),
    /// Stops issuing until `resume`; verification goes on
    #[command(after_help = "Example:\n  passportctl pause --reason 'incident 42'")]
    Pause {
        /// Why, for the audit record
        #[arg(long)]
        reason: String,
    },
    /// Ends `pause`
    #[command(after_help = "Example:\n  passportctl resume")]
    Resume,
    /// Reads configuration and policy again; a broken file changes nothing
    #[command(after_help = "Example:\n  passportctl policy check && passportctl reload")]
    Reload,
    /// Unready, and no new connections; what is under way is finished
    #[command(after_help = "Example:\n  passportctl drain")]
    Drain,
    /// Ends `drain`
    #[command(after_help = "Example:\n  passportctl undrain")]
    Undrain,
    /// Makes keys in the HSM, lists them, and finds what is set up wrong
    #[command(subcommand)]
    Hsm(HsmCommand),
    /// Checks and explains the policy files
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Checks and prints the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Tries a running daemon: issue, verify, keys, refusals, counters
    Smoke(Smoke),
    /// Measures a running daemon
    Bench(Bench),
    /// Prints a completion script for a shell
    Completions(Completions),
}

/// Which socket to ask.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Where {
    /// Ask on the admins' socket, which tells more
    #[arg(long)]
    pub(super) admin: bool,
}

/// The longest `--timeout` and `--seconds`.
const MAX_SECONDS: f64 = 3600.0;

/// Seconds, with a fraction if need be.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds, such as 2 or 0.5".to_owned())?;
    if !(seconds > 0.0 && seconds <= MAX_SECONDS) {
        return Err(format!("expected more than 0 and at most {MAX_SECONDS} seconds"));
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let leaf = command.get_subcommands().next().is_none();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || help.contains("Example"), "{path} shows no example");
            for one in command.get_subcommands() {
                check(one, &path);
            }
        }
        check(&Arguments::command(), "");
    }

    #[test]
    fn seconds_are_bounded_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "3601", "1s", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
