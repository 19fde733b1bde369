//! Options of the commands on the state's file, which need no daemon, or none that runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

const RESTORE: &str = "\
The daemon must be stopped, and this must run as its user. A copy of the backup takes the state's place; what was there is kept
beside it. Since nobody knows what was revoked or used up after the backup was made, the next start ends every tenant's epoch:
all passports that were issued until then are revoked. It also puts the restore on record, and has keys that the ledger calls
compromised or retired since stay so. Revocations of what is issued afterwards, and versions of keys, are not affected.

Examples:
  passportctl state restore --from /backup/state.redb --dry-run
  passportctl state restore --from /backup/state.redb --reason 'disk died' --yes";

const RESET: &str = "\
The state keeps the newest time that has been, and a clock that stands before it is not believed: nothing is issued. If the clock
is right now, and was wrong before, this says so. The daemon must be stopped, and this must run as its user. The next start puts it
on record and ends every tenant's epoch: passports that had expired by the old time must not be good again.

Examples:
  passportctl ceremony clock-reset --dry-run
  passportctl ceremony clock-reset --reason 'battery of the clock' --yes";

/// `state …`.
#[derive(Debug, Subcommand)]
pub(crate) enum StateCommand {
    /// Reads every page and row of a state or of a backup, and changes nothing; exits 1 with the first that is damaged
    #[command(after_help = "\
A daemon that runs has its state open, and checked it when it started: check a backup, or stop it.

Examples:
  passportctl state check
  passportctl state check /backup/state.redb && echo good")]
    Check {
        /// The file [default: state.path of the configuration]
        file: Option<PathBuf>,
    },
    /// Writes everything that a state holds as JSON, one row a line
    #[command(after_help = "\
The file that is made has mode 0600 and is there whole or not at all. It says who was revoked: keep it as you keep the state.

Examples:
  passportctl state export --out state.jsonl
  passportctl state export --from /backup/state.redb --out - | grep revoked_subject")]
    Export {
        /// The state [default: state.path of the configuration]
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// The file to make, which must not be there yet, or - for stdout
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Makes a new state of what `export` has written
    #[command(after_help = "\
What was exported must be whole and unaltered. A daemon takes the state only if it is that of its ledger: to go back to an older
one, use `passportctl state restore`.

Examples:
  passportctl state import --in state.jsonl --to /var/tmp/state.redb")]
    Import {
        /// What was exported, or - for stdin
        #[arg(long = "in", value_name = "FILE")]
        input: PathBuf,
        /// The file to make, in a directory of this user's own; it must not be there yet
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Puts a backup in the place of the state, and has every tenant's epoch end
    #[command(after_help = RESTORE)]
    Restore {
        /// The backup
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        #[command(flatten)]
        sure: Certain,
    },
}

/// `ceremony clock-reset`.
#[derive(Debug, Args)]
#[command(after_help = RESET)]
pub(crate) struct ClockReset {
    #[command(flatten)]
    pub(crate) sure: Certain,
}

/// Before something that revokes everything.
#[derive(Debug, Args)]
pub(crate) struct Certain {
    /// Why, for the audit record
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Say what would be done; change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}
