//! Options of the commands for operators: keys, HSM, policy, configuration, smoke test and measurements.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::seconds;
use crate::wire::sealed::MAX_PLAIN;

/// `hsm …`.
#[derive(Debug, Subcommand)]
pub(crate) enum HsmCommand {
    /// Makes a tenant's first passport key and, if they are missing, the audit key and the seal key
    #[command(after_help = "\
The PIN is asked for on the terminal, or read from a file of mode 0400 or 0600; never from an argument or variable.

Examples:
  passportctl hsm init --tenant demo --purpose auth
  passportctl hsm init --tenant demo --purpose auth --pin-file /root/hsm.pin")]
    Init(HsmInit),
    /// Makes the next version of a passport key and publishes it
    #[command(after_help = "Examples:\n  passportctl hsm rotate --tenant demo --purpose auth --activate")]
    Rotate(HsmRotate),
    /// Takes a seal key out of service: what is still sealed with it can no longer be opened
    #[command(after_help = "\
`passportctl reseal` first moves what is sealed to the newest key; with --dry-run it counts what is left. The key stays in the
HSM and in `hsm list`, and its version is never given again. It is refused unless a newer seal key of the tenant can be used
(`passportctl hsm rotate --purpose seal` makes one). The signer stops using it within a second.

Examples:
  passportctl reseal --namespace demo/billing --dry-run *.sealed
  passportctl hsm retire --kid hmac-sha256/demo/seal/v1 --dry-run
  passportctl hsm retire --kid hmac-sha256/demo/seal/v1")]
    Retire(HsmRetire),
    /// The keys that the HSM holds
    #[command(after_help = "Examples:\n  passportctl hsm list --pin-file /root/hsm.pin")]
    List(Pin),
    /// Lets the signer try its PIN once more, after the HSM has refused it
    #[command(after_help = "\
A PIN that was refused is not tried again, however often the signer is started: each try brings the HSM nearer to locking
itself. With the right PIN in its file nothing needs to be said; this is for a PIN that was right all the same.

Examples:
  passportctl hsm retry-pin && systemctl start passportd-signer")]
    RetryPin {
        /// Even if the HSM says that it is the last try before it locks
        #[arg(long)]
        final_try: bool,
    },
    /// Finds what is set up wrong: one line each, with its remedy
    #[command(after_help = "Examples:\n  passportctl hsm doctor --pin-file /root/hsm.pin")]
    Doctor(Doctor),
}

/// Where the PIN comes from.
#[derive(Clone, Debug, Args)]
pub(crate) struct Pin {
    /// A file with the PIN, mode 0400 or 0600 [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pub(crate) pin_file: Option<PathBuf>,
}

/// `hsm doctor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) pin: Pin,
}

/// `hsm init`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HsmInit {
    /// The tenant: a-z, 0-9 and -, at most 32 characters
    #[arg(long)]
    pub(crate) tenant: String,
    /// The purpose of its passports: a-z, 0-9 and -, at most 32 characters; `rotate` and `adopt` take `audit` and `seal`, too
    #[arg(long)]
    pub(crate) purpose: String,
    #[command(flatten)]
    pub(crate) pin: Pin,
}

/// `hsm rotate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HsmRotate {
    #[command(flatten)]
    pub(crate) key: HsmInit,
    /// Let the new key sign as soon as verifiers have had the time to fetch it (cache.jwks_ttl_s), instead of by `key activate`
    #[arg(long)]
    pub(crate) activate: bool,
}

/// `hsm retire`.
#[derive(Clone, Debug, Args)]
pub(crate) struct HsmRetire {
    /// The seal key's id
    #[arg(long)]
    pub(crate) kid: String,
    /// Say whether it could be retired; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) pin: Pin,
}

/// `policy …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Reads the policy as the daemon would, and names what is wrong
    #[command(after_help = "Examples:\n  passportctl policy check ./policy")]
    Check {
        /// Directories or files [default: the configuration's policy.dir]
        #[arg(value_name = "DIR|FILE")]
        paths: Vec<PathBuf>,
    },
    /// What the policy says to a peer that asks for an operation, and by which rule
    #[command(after_help = "\
The groups of a user are those of a login; a service may have others (Group=, SupplementaryGroups=): name them.
Exits 0 if it is allowed, 4 if it is denied.

Examples:
  passportctl policy explain --uid 1000 --op issue --template demo
  passportctl policy explain --uid 1000 --gid 2000 --groups 2000,2001 --op verify")]
    Explain(Explain),
}

/// `policy explain`.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The peer's user id
    #[arg(long)]
    pub(crate) uid: u32,
    /// Its group id [default: that of the user; if there is none, the same number as its user id]
    #[arg(long)]
    pub(crate) gid: Option<u32>,
    /// Its supplementary groups, separated by commas [default: those of the user]
    #[arg(long, value_delimiter = ',')]
    pub(crate) groups: Option<Vec<u32>>,
    /// The listener it comes through
    #[arg(long, default_value = "main")]
    pub(crate) listener: String,
    /// The control group it is in, as /system.slice/web.service
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup: Option<String>,
    /// The operation
    #[arg(long)]
    pub(crate) op: String,
    /// The template, for operations that take one
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// Directory with the policy [default: the configuration's policy.dir]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Reads the configuration as the daemon would, and names everything that is wrong
    #[command(after_help = "Examples:\n  passportctl config check --config /etc/passportd/passportd.toml")]
    Check,
    /// Every setting, its value and where that comes from
    #[command(
        after_help = "Examples:\n  passportctl config print --output json | jq '.[] | select(.origin != \"default\")'"
    )]
    Print,
}

const ATTEST: &str = "\
With --verify a statement is checked, not fetched: its form, its keys against its own jwks_etag and against the running
daemon's key set or --jwks, and, where --config names the daemon's configuration, the hashes of configuration and policy.
With --keys its signature is checked as well, and the exit code is 0 if it fits and nothing contradicts the statement. Else who wrote it
is not proven: the exit code is 3 unless --allow-unsigned is given.

Examples:
  passportctl attest > statement.json
  passportctl attest --verify statement.json --keys audit.vkeys
  passportctl attest --verify statement.json --jwks jwks.json --config /etc/passportd/passportd.toml --allow-unsigned
  passportctl attest | passportctl attest --verify - --allow-unsigned";

/// `attest`.
#[derive(Debug, Args)]
#[command(after_help = ATTEST)]
pub(crate) struct Attest {
    /// Check this statement (`-`: stdin) instead of fetching one
    #[arg(long, value_name = "FILE")]
    pub(crate) verify: Option<PathBuf>,
    /// The key set to check it against [default: the running daemon's]
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) jwks: Option<PathBuf>,
    /// The public audit keys by which it may be signed (`passportctl audit keys`)
    #[arg(long, value_name = "FILE", requires = "verify")]
    pub(crate) keys: Option<PathBuf>,
    /// Exit 0 if nothing contradicts it, although nobody's signature was checked
    #[arg(long, requires = "verify")]
    pub(crate) allow_unsigned: bool,
}

const SMOKE: &str = "\
Exits 1 if any step fails.

Examples:
  passportctl smoke
  passportctl smoke --template demo --metrics 127.0.0.1:9909";

/// `smoke`.
#[derive(Debug, Args)]
#[command(after_help = SMOKE)]
pub(crate) struct Smoke {
    /// The template to issue by
    #[arg(long, default_value = "demo")]
    pub(crate) template: String,
    /// The subject of the passports
    #[arg(long, default_value = "smoke")]
    pub(crate) sub: String,
    /// The audience [default: the template's only one]
    #[arg(long)]
    pub(crate) aud: Option<String>,
    /// The metrics port [default: the configuration's, or 127.0.0.1:9909]
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
}

const BENCH: &str = "\
per_second counts passports; latencies are of requests. CPU and memory of the daemon's processes come from the admins'
socket and are null where it can't be reached. `mixed` asks one passport a request, at its rates, and counts latencies
from when a request was due; cpu_idle_percent is what the whole machine, this client included, had left.

Examples:
  passportctl bench issue --connections 8 --in-flight 16 --seconds 10
  passportctl bench verify --connections 2 --in-flight 4 --batch 256 --output json
  passportctl bench verify --in-flight 1 --compare
  passportctl bench echo --in-flight 1
  passportctl bench mixed --connections 4 --issues-per-second 500 --verifies-per-second 5000";

/// `bench`.
#[derive(Debug, Args)]
#[command(after_help = BENCH)]
pub(crate) struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub(crate) what: BenchWhat,
    #[command(flatten)]
    pub(crate) load: Load,
    /// The template to issue by
    #[arg(long, default_value = "demo")]
    pub(crate) template: String,
    /// With `seal` and `unseal`: the secret's namespace
    #[arg(long, default_value = "t1/bench")]
    pub(crate) namespace: String,
    /// With `seal` and `unseal`: the secret's length
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = size)]
    pub(crate) size: usize,
    /// The subject of the passports
    #[arg(long, default_value = "bench")]
    pub(crate) sub: String,
    /// The audience [default: the template's only one]
    #[arg(long)]
    pub(crate) aud: Option<String>,
    /// With `verify`: rounds of echo and verify in turn, and how the two compare
    #[arg(long)]
    pub(crate) compare: bool,
    /// With `mixed`: passports issued in a second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) issues_per_second: u32,
    /// With `mixed`: passports verified in a second
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) verifies_per_second: u32,
}

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchWhat {
    /// Issuing passports.
    Issue,
    /// Verifying passports.
    Verify,
    /// Sealing a secret.
    Seal,
    /// Unsealing a secret.
    Unseal,
    /// A server of this program that only echoes: what the socket and this client cost.
    Echo,
    /// Issuing and verifying at given rates, as on a working day.
    Mixed,
}

/// Bytes of a secret.
fn size(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| *bytes <= MAX_PLAIN);
    bytes.ok_or_else(|| format!("expected at most {MAX_PLAIN} bytes"))
}

/// How much load.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Load {
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,
    /// Requests that each connection keeps under way
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) in_flight: u16,
    /// Passports in one request
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=8192))]
    pub(crate) batch: u16,
    /// How long to measure
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    pub(crate) seconds: Duration,
}

const COMPLETIONS: &str = "\
Examples:
  passportctl completions bash > /etc/bash_completion.d/passportctl
  passportctl completions zsh > /usr/local/share/zsh/site-functions/_passportctl
  passportctl completions fish > /etc/fish/completions/passportctl.fish";

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}
