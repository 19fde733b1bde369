//! The command line: every command, its options and its help. Nothing is decided here.

mod audit;
mod ceremony;
mod conformance;
mod exchange;
mod key;
mod operate;
mod revoke;
mod seal;
mod service;
mod state;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub(super) use audit::{
    AuditCommand, AuditKeys, Conditions, ExportAudit, Prove, Records, ReportAudit, ShowAudit, VerifyAudit,
};
pub(super) use ceremony::{
    Adopt, Approve, Approvers, CeremonyCommand, Destroy, Kept, Keygen, NewLedger, OneKey, PlanCommand, PlanInit,
    PlanRotate, Restore, Run, TranscriptVerify,
};
pub(super) use conformance::{Conformance, Via};
pub(super) use exchange::{Exchange, TicketTtl};
pub(super) use key::{Firm, KeyCommand};
pub(super) use operate::{
    Attest, Bench, BenchWhat, Completions, ConfigCommand, Doctor, Explain, HsmCommand, HsmInit, HsmRetire, HsmRotate,
    Pin, PolicyCommand, Smoke,
};
pub(super) use revoke::{EpochCommand, Revoke, Sure};
pub(super) use seal::{Ends, Place, Reseal, Seal, Unseal};
pub(super) use service::{Challenge, Dpop, Inspect, Issue, Keys, Verify, VerifyWith};
use service::{INTROSPECT, VERIFY};
pub(super) use state::{Certain, ClockReset, StateCommand};
pub(super) use watch::{At, Watch};

const AFTER: &str = "\
Exit codes:
  0  done; every passport that was asked about is valid
  1  failed: no connection, no answer, not ready, a finding, a failed step
  2  the arguments or the input are wrong
  3  not valid: a passport was refused, or a statement is contradicted or not signed, or a
     record was altered
  4  refused: the daemon says why it won't answer (op_denied, rate_limited, paused, ...)

A reader that leaves early, as in `passportctl keys | head -0`, is no error: the exit code stays the command's own.
Colours and progress bars are for terminals alone; a NO_COLOR in the environment that is not empty turns colours off.

Examples:
  passportctl issue --template demo --sub alice | passportctl verify --aud demo
  passportctl status";

const DOCTOR: &str = "\
Looks at configuration, policy, accounts, sockets, module, PIN, state, ledger, metrics, clock, versions and kernel, and
changes nothing. What this user may not look at is skipped; root sees everything. Exits 1 if a check fails.

Examples:
  passportctl doctor
  passportctl doctor --config /etc/passportd/passportd.toml
  passportctl doctor --output json | jq '.checks[] | select(.status != \"ok\")'";

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
    /// How to show the answer; `issue`, `keys` and `attest` print JSON on their own when stdout is no terminal
    #[arg(long, global = true, value_enum, env = "PASSPORTCTL_OUTPUT", hide_env_values = true)]
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
    /// The longest that one request may take [default: 10; `reload`: 75]
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        value_parser = seconds,
        env = "PASSPORTCTL_TIMEOUT",
        hide_env_values = true
    )]
    pub(super) timeout: Option<Duration>,
}

/// How long a request may take where nobody says.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a reload: longer than the daemon takes over its verdict (`lifecycle::reload`), so that nobody who gave up is
/// left with a change.
const RELOAD: Duration = Duration::from_secs(75);

impl Global {
    /// The longest that one request may take.
    pub(super) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(PATIENCE)
    }

    /// The longest that a reload may take.
    pub(super) fn reload_patience(&self) -> Duration {
        self.timeout.unwrap_or(RELOAD)
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Is the daemon there?
    #[command(after_help = "Examples:\n  passportctl ping")]
    Ping,
    /// What is running: the daemon's version, wire version and issuer
    #[command(after_help = "Examples:\n  passportctl version --output json")]
    Version,
    /// Whom the daemon takes this process for, and what it may do
    #[command(after_help = "Examples:\n  passportctl whoami --admin")]
    Whoami(Where),
    /// Which conditions hold; exits 1 unless passports can be issued and verified
    #[command(after_help = "Examples:\n  passportctl health --admin || journalctl -u passportd -n 50")]
    Health(Where),
    /// Issues one passport, several alike, or a batch
    Issue(Issue),
    /// A verdict on one passport or a batch
    #[command(after_help = VERIFY)]
    Verify(VerifyWith),
    /// Asks for a proof of possession, and verifies a passport with it
    Challenge(Challenge),
    /// A ticket for a passport: accepted once, within a minute
    Exchange(Exchange),
    /// The claims of a passport and whether it would be accepted, without accepting it
    #[command(after_help = INTROSPECT)]
    Introspect(Verify),
    /// What a passport says and what looks wrong with it, without trust: offline, nothing is verified
    Inspect(Inspect),
    /// The public keys as a JSON Web Key Set
    Keys(Keys),
    /// Has nobody accept a passport any more, or a subject's, or what a key signed
    Revoke(Revoke),
    /// Revokes all passports of a tenant at once
    #[command(subcommand, after_help = "Examples:\n  passportctl epoch bump --tenant t1 --reason 'incident 42'")]
    Epoch(EpochCommand),
    /// What changes: keys, revocations, epochs, policy, draining
    Watch(Watch),
    /// Encrypts a small secret
    Seal(Seal),
    /// Decrypts one
    Unseal(Unseal),
    /// Seals files afresh that an older key has sealed
    Reseal(Reseal),
    /// Everything an operator wants to see
    #[command(after_help = "Examples:\n  passportctl status --output json | jq .health")]
    Status,
    /// A statement of version, build, configuration, policy and keys
    Attest(Attest),
    /// Stages and activates keys that a ceremony made
    #[command(subcommand, after_help = "Examples:\n  passportctl key stage ed25519/demo/auth/v2")]
    Key(KeyCommand),
    /// Stops issuing until `resume`; verification goes on
    #[command(after_help = "Examples:\n  passportctl pause --reason 'incident 42'")]
    Pause {
        /// Why, for the audit record
        #[arg(long)]
        reason: String,
    },
    /// Ends `pause`
    #[command(after_help = "Examples:\n  passportctl resume")]
    Resume,
    /// Lets tickets live longer, or shorter, for a while
    TicketTtl(TicketTtl),
    /// Reads configuration and policy again; a broken file changes nothing
    #[command(after_help = "Examples:\n  passportctl policy check && passportctl reload")]
    Reload,
    /// Unready: no new connections, and nothing is issued; those that are there go on verifying
    #[command(after_help = "Examples:\n  passportctl drain")]
    Drain,
    /// Ends `drain`
    #[command(after_help = "Examples:\n  passportctl undrain")]
    Undrain,
    /// Makes keys in the HSM, lists them, and finds what is set up wrong
    #[command(subcommand, after_help = "Examples:\n  passportctl hsm doctor --pin-file /root/hsm.pin")]
    Hsm(HsmCommand),
    /// Has one planned thing done in the HSM
    #[command(
        subcommand,
        after_help = "Examples:\n  passportctl ceremony plan adopt --tenant t1 --purpose auth --cka-id 0a0b"
    )]
    Ceremony(CeremonyCommand),
    /// Checks and explains the policy files
    #[command(subcommand, after_help = "Examples:\n  passportctl policy check && passportctl reload")]
    Policy(PolicyCommand),
    /// Checks and prints the configuration
    #[command(subcommand, after_help = "Examples:\n  passportctl config check")]
    Config(ConfigCommand),
    /// Checks, exports, imports and restores the state's file
    #[command(subcommand, after_help = "Examples:\n  passportctl state check /backup/state.redb")]
    State(StateCommand),
    /// Verifies, shows and exports audit records; needs no running daemon
    #[command(
        subcommand,
        after_help = "Examples:\n  passportctl audit verify --keys audit.vkeys --checkpoints /mnt/elsewhere"
    )]
    Audit(AuditCommand),
    /// Finds what is set up wrong: one line each, with its remedy; needs no running daemon
    #[command(after_help = DOCTOR)]
    Doctor,
    /// Tries a running daemon: issue, verify, keys, refusals, counters
    Smoke(Smoke),
    /// Holds a running daemon against docs/WIRE.md, case by case
    Conformance(Conformance),
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

    /// The commands of a line of shell: words by command, without quotes and redirections.
    fn spelt(line: &str) -> Vec<Vec<String>> {
        let (mut commands, mut word, mut quote) = (vec![Vec::new()], None::<String>, None);
        for c in line.chars().chain([' ']) {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => (quote, word) = (Some(c), Some(word.unwrap_or_default())),
                (None, ' ') => commands.last_mut().unwrap().extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        let words = commands.remove(0);
        let is_end = |word: &String| ["|", "||", "&&"].contains(&word.as_str());
        let command = |words: &[String]| words.iter().take_while(|word| *word != ">").cloned().collect();
        words.split(is_end).map(command).collect()
    }

    /// Every command and every group of them, by its path.
    fn commands<'c>(command: &'c clap::Command, path: &str, found: &mut Vec<(String, &'c clap::Command)>) {
        found.push((path.to_owned(), command));
        for one in command.get_subcommands() {
            commands(one, format!("{path} {}", one.get_name()).trim_start(), found);
        }
    }

    #[test]
    fn help_ends_with_examples_that_work() {
        let root = Arguments::command();
        let mut found = Vec::new();
        commands(&root, "", &mut found);
        assert!(found.len() > 30, "{}", found.len());
        for (path, command) in found {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let (_, examples) = help.split_once("Examples:\n").unwrap_or_else(|| panic!("`{path}` has no examples"));
            let mut own = 0;
            for line in examples.lines() {
                assert!(line.starts_with("  passportctl "), "`{path}` ends with more than examples: {line}");
                for words in spelt(line.trim()).into_iter().filter(|words| words[0] == "passportctl") {
                    // What the shell would put there is an ETag.
                    let typed = words
                        .iter()
                        .map(|word| if word.starts_with("$(b3sum") { "0".repeat(64) } else { word.clone() });
                    let matches = root.clone().try_get_matches_from(typed);
                    let mut matches = &matches.unwrap_or_else(|error| panic!("{line}: {error}"));
                    let mut taken = Vec::new();
                    while let Some((name, below)) = matches.subcommand() {
                        taken.push(name);
                        matches = below;
                    }
                    let words: Vec<_> = path.split_whitespace().collect();
                    own += usize::from(taken.starts_with(&words));
                }
            }
            assert!(own > 0, "`{path}` shows only other commands");
        }
    }

    #[test]
    fn lines_of_shell_are_split_as_a_shell_does() {
        let words = spelt(r#"passportctl issue --ctx '{"a":"b c"}' --sub "x y" > f | passportctl verify - && echo"#);
        let expected: [&[&str]; 3] = [
            &["passportctl", "issue", "--ctx", r#"{"a":"b c"}"#, "--sub", "x y"],
            &["passportctl", "verify", "-"],
            &["echo"],
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn seconds_are_bounded_and_finite() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["0", "-1", "nan", "inf", "3601", "1s", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
