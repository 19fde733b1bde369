//! Options of `key …`.

use clap::{Args, Subcommand};

/// `key …`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Publishes a key that a ceremony made; it does not sign yet
    #[command(after_help = "Examples:\n  passportctl key stage ed25519/demo/auth/v2")]
    Stage {
        /// The key's id
        kid: String,
    },
    /// Lets a staged key sign; the one before it retires
    #[command(after_help = "\
A key that follows another may sign once verifiers have had the time to fetch the key set with it in it (cache.jwks_ttl_s). With
--now it signs at once, and those who hold an older set refuse what it signs until they fetch the next: for a key before it that
was compromised.

Examples:
  passportctl key activate ed25519/demo/auth/v2
  passportctl key activate --wait ed25519/demo/auth/v2
  passportctl key activate --now --reason 'v1 is compromised' ed25519/demo/auth/v2")]
    Activate {
        /// The key's id
        kid: String,
        /// If it is too early, wait until it is not
        #[arg(long, conflicts_with = "now")]
        wait: bool,
        /// At once, although verifiers may not know it yet
        #[arg(long, requires = "reason")]
        now: bool,
        /// With --now: why, for the audit record
        #[arg(long, requires = "now")]
        reason: Option<String>,
    },
    /// The keys, where each is in its life, and what comes next
    #[command(after_help = "\
Examples:
  passportctl key list
  passportctl key list --output json | jq '.[] | select(.state == \"expired\") | .kid'")]
    List,
    /// Has the key before sign again; the one that signs retires, and still verifies
    #[command(after_help = "\
Possible once after each activation, until `key confirm`, and until the key before stops verifying. The key that retires never
signs again: to go on, make a new one.

Examples:
  passportctl key rollback --tenant demo --purpose auth --reason 'verifiers refuse v2' --dry-run
  passportctl key rollback --tenant demo --purpose auth --reason 'verifiers refuse v2' --yes")]
    Rollback {
        /// The tenant
        #[arg(long)]
        tenant: String,
        /// The purpose
        #[arg(long)]
        purpose: String,
        #[command(flatten)]
        sure: Firm,
    },
    /// Says of the key that signs that it is to stay: there is no way back to the one before
    #[command(after_help = "Examples:\n  passportctl key confirm ed25519/demo/auth/v2")]
    Confirm {
        /// The key's id
        kid: String,
    },
    /// Puts on record that a ceremony has destroyed a key, if the signer doesn't see it any more
    #[command(after_help = "\
Refused while passports that the key signed may be valid. Its id and public key stay on record, and are never used again.

Examples:
  passportctl key destroyed ed25519/demo/auth/v1 --yes")]
    Destroyed {
        /// The key's id
        kid: String,
        /// Say what would be done; do nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Before something that can't be undone.
#[derive(Debug, Args)]
pub(crate) struct Firm {
    /// Why, for the audit record
    #[arg(long)]
    pub(crate) reason: String,
    /// Say what would be done; do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
