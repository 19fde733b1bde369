//! Options of the commands that revoke.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const REVOKE: &str = "\
A service takes back a passport that it presents (--in), if it may issue from the passport's template. Admins name a passport by
its id, a file of ids, all passports of a subject that were issued until now, or a key: then it signs no more, and nothing that
it signed is accepted. When the command is done, the revocation is durable and in effect on every connection.

A file has a passport's id on each line, and behind it, if it is known, its `exp`; it may be - for stdin.

Examples:
  passportctl revoke --in stolen.json
  passportctl revoke --tenant t1 --jti 01985b2c-8f0a-7c3e-9d51-0b6f6a1c2e44 --reason 'laptop lost'
  passportctl revoke --tenant t1 --sub svc/orders --reason 'incident 42' --dry-run
  passportctl revoke --tenant t1 --file ids.txt --reason 'incident 42' --yes
  passportctl revoke --kid ed25519/t1/auth/v1 --reason 'HSM stolen'";

/// `revoke`.
#[derive(Debug, Args)]
#[command(after_help = REVOKE)]
pub(crate) struct Revoke {
    #[command(flatten)]
    pub(crate) what: What,
    /// The tenant whose passports they are
    #[arg(long, required_unless_present_any = ["input", "kid"], conflicts_with_all = ["input", "kid"])]
    pub(crate) tenant: Option<String>,
    /// When the passport of --jti expires, in seconds since 1970: the revocation is kept no longer than that takes
    #[arg(long, requires = "jti")]
    pub(crate) exp: Option<i64>,
    /// Until when the passports of --sub were issued, in seconds since 1970 [default: now]
    #[arg(long, requires = "sub")]
    pub(crate) before: Option<i64>,
    #[command(flatten)]
    pub(crate) sure: Sure,
}

/// Exactly one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// A file with the passport, or - for stdin
    #[arg(long = "in", id = "input", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// The passport of this id
    #[arg(long)]
    pub(crate) jti: Option<String>,
    /// All passports of this subject
    #[arg(long)]
    pub(crate) sub: Option<String>,
    /// The passports whose ids are in this file
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Everything that this key signed
    #[arg(long)]
    pub(crate) kid: Option<String>,
}

/// Before something that can't be undone.
#[derive(Debug, Args)]
pub(crate) struct Sure {
    /// Why, for the audit record
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Say what would be revoked; revoke nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// `epoch …`.
#[derive(Debug, Subcommand)]
pub(crate) enum EpochCommand {
    /// The tenants whose epoch was ever ended, with the one that they are in
    #[command(after_help = "Examples:\n  passportctl epoch list")]
    List,
    /// Ends a tenant's epoch: every passport that was issued for it until now is revoked
    #[command(after_help = "\
The instrument for incidents: its services have to get new passports, all of them, at once.

Examples:
  passportctl epoch bump --tenant t1 --reason 'incident 42' --dry-run
  passportctl epoch bump --tenant t1 --reason 'incident 42' --yes")]
    Bump {
        /// The tenant
        #[arg(long)]
        tenant: String,
        #[command(flatten)]
        sure: Sure,
    },
}
