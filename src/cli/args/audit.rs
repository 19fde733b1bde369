//! Options of the commands on audit records. None of them needs privileges beyond reading the files.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::audit::when::{Span, When, range, when};

const VERIFY: &str = "\
Checks the hash of each record, that each follows the one before it, and what the checkpoints say: heads, Merkle roots, and that the
signer has not signed more than is on record. Names the first record that is altered, missing, repeated, out of order, or of another
ledger. What it could not prove with what it was given, it says; --strict makes that a failure. Without files it reads the ledger of
the configuration, which auditors may read through its group; from a journal it takes what `journalctl -o json --all` writes.

Exits 3 if something was altered.

Examples:
  passportctl audit verify
  passportctl audit verify --dir /mnt/copy --keys audit.vkeys --checkpoints /mnt/elsewhere
  passportctl audit verify export.jsonl.gz --keys audit.vkeys --checkpoints 2026-11-24.notes --strict";

const SHOW: &str = "\
The newest records that all conditions hold of, oldest first; a list takes any of its values. With --output json each record is a line,
as it stands in the ledger. Nothing is verified: that is `passportctl audit verify`.

Times are RFC 3339, a date (UTC), or how long ago: 90d, 24h, 15m, 30s.

Examples:
  passportctl audit show --since 24h --outcome refused
  passportctl audit show --event passport_revoked,subject_revoked --sub alice
  passportctl audit show --dir /mnt/copy --seq 100..200 --output json";

const EXPORT: &str = "\
Writes the records behind a number as they stand in the ledger, one a line, and to stderr the number to go on from. Stops at the first
that is damaged, and exits 3. A line that is just being written comes with the next call.

Examples:
  passportctl audit export --after 0 > all.jsonl
  passportctl audit export --after 1200 --limit 1000";

const REPORT: &str = "\
Verifies as `passportctl audit verify` does, all records, and sums up those of the period: counts by event and outcome, refusals by kind and
user, what became of keys, gaps and what else stands out, and how far checkpoints cover it. The page needs nothing beside it, and fetches
nothing; with --output json the same goes to standard output as well. Exits 3 if something was altered, and the page says so.

Examples:
  passportctl audit report --since 90d --out quarter.html
  passportctl audit report --keys audit.vkeys --checkpoints /mnt/elsewhere --since 2026-10-01 --until 2027-01-01 --out q4.html";

const PROVE: &str = "\
Writes a proof for somebody who does not have the ledger: with --seq, that this record is among those of the newest checkpoint, or of
the one over --to records; with --from and --to, that the checkpoint over --to records continues the one over --from. The records are
verified on the way. `passportctl audit verify-proof` and any tool for RFC 6962 can check it.

Examples:
  passportctl audit prove --seq 120 --checkpoints 2026-11-24.notes > proof.json
  passportctl audit prove --from 1000 --to 2000 --checkpoints /mnt/elsewhere";

const VERIFY_PROOF: &str = "\
Needs the proof and the public audit keys, and nothing else. Exits 3 if it proves nothing.

Examples:
  passportctl audit verify-proof proof.json --keys audit.vkeys";

const CHECKPOINT: &str = "\
The note goes to standard output, and into the daemon's directory of checkpoints, as do those that it makes by itself. What the ledger
was until then can't be rewritten unseen by whoever does not have this note, too: keep it off the host.

Examples:
  passportctl audit checkpoint > elsewhere/checkpoint.note";

const TEST_APPEND: &str = "\
The record is an `audit_test` and is durable when this returns. Where records are forwarded, see that it arrives: by its number, which is
shown. It changes nothing else.

Examples:
  passportctl audit test-append --reason \"drill 7\"";

const KEYS: &str = "\
One key a line, as `--keys` and every tool for signed notes reads them. The daemon tells its own to admins. Keep the lines of keys that
are no longer in use: older checkpoints want them.

Examples:
  passportctl audit keys > audit.vkeys
  passportctl audit keys --file /var/lib/passportd/checkpoints/keys";

/// `audit …`.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Checks a ledger, an export or a journal, offline and without privileges
    #[command(after_help = VERIFY)]
    Verify(VerifyAudit),
    /// Shows records
    #[command(after_help = SHOW)]
    Show(ShowAudit),
    /// Writes records for another system, from a number on
    #[command(after_help = EXPORT)]
    Export(ExportAudit),
    /// Sums a period up on one page, with what was verified
    #[command(after_help = REPORT)]
    Report(ReportAudit),
    /// Proves that a record is in the ledger, or that a checkpoint continues another
    #[command(after_help = PROVE)]
    Prove(Prove),
    /// Checks such a proof, without the ledger
    #[command(after_help = VERIFY_PROOF)]
    VerifyProof {
        /// What `prove` has written, or - for stdin
        #[arg(value_name = "FILE")]
        proof: PathBuf,
        #[command(flatten)]
        believe: AuditKeys,
    },
    /// Has the daemon sign what its ledger holds now
    #[command(after_help = CHECKPOINT)]
    Checkpoint,
    /// Has the daemon write a record, to see that records are written and arrive
    #[command(after_help = TEST_APPEND)]
    TestAppend {
        /// What for; it is on the record, up to 256 bytes
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// The public audit keys, for `--keys`
    #[command(after_help = KEYS)]
    Keys {
        /// Those of this file, without a daemon
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// `audit prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    #[command(flatten)]
    pub(crate) records: Records,
    #[command(flatten)]
    pub(crate) believe: AuditKeys,
    /// Checkpoints: a file of notes, or a directory of them [default: those of the configuration]
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// The record to prove
    #[arg(long, required_unless_present = "from")]
    pub(crate) seq: Option<u64>,
    /// The older checkpoint, by how many records it is over
    #[arg(long, value_name = "SIZE", conflicts_with = "seq", requires = "to")]
    pub(crate) from: Option<u64>,
    /// The newer checkpoint, by how many records it is over [default: the newest]
    #[arg(long, value_name = "SIZE")]
    pub(crate) to: Option<u64>,
}

/// Where records are.
#[derive(Debug, Args)]
pub(crate) struct Records {
    /// Exports, files of a ledger or of a journal (plain or gzip), or - for stdin [default: audit.dir of the configuration]
    #[arg(value_name = "FILE", conflicts_with = "dir")]
    pub(crate) files: Vec<PathBuf>,
    /// A ledger's directory
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

/// Keys to believe.
#[derive(Debug, Args)]
pub(crate) struct AuditKeys {
    /// Public audit keys, one a line (`passportctl audit keys`), older ones included
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Vec<PathBuf>,
    /// One public audit key: name+id+base64
    #[arg(long, value_name = "VKEY")]
    pub(crate) key: Vec<String>,
}

/// `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyAudit {
    #[command(flatten)]
    pub(crate) records: Records,
    #[command(flatten)]
    pub(crate) believe: AuditKeys,
    /// Checkpoints: a file of notes, or a directory of them; older ones show more [default: those beside the configuration's ledger]
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// Begin behind this checkpoint; records up to it are passed over
    #[arg(long, value_name = "FILE")]
    pub(crate) begin_at: Option<PathBuf>,
    /// The tree over the records before the first one, as the daemon keeps it, to check roots without them
    #[arg(long, value_name = "FILE")]
    pub(crate) frontier: Option<PathBuf>,
    /// Exit 3 if anything remains unproven
    #[arg(long)]
    pub(crate) strict: bool,
}

/// `audit report`.
#[derive(Debug, Args)]
pub(crate) struct ReportAudit {
    #[command(flatten)]
    pub(crate) records: Records,
    #[command(flatten)]
    pub(crate) believe: AuditKeys,
    /// Checkpoints: a file of notes, or a directory of them [default: those beside the configuration's ledger]
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// From this time on [default: the first record]
    #[arg(long, value_parser = when, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Up to this time [default: the last record]
    #[arg(long, value_parser = when, value_name = "TIME")]
    pub(crate) until: Option<When>,
    /// Where the page goes; it replaces what is there
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// Which records.
#[derive(Debug, Default, Args)]
pub(crate) struct Conditions {
    /// Events, by their names
    #[arg(long, value_delimiter = ',', value_name = "EVENTS")]
    pub(crate) event: Vec<String>,
    /// Outcomes: ok, refused, failed
    #[arg(long, value_delimiter = ',', value_parser = ["ok", "refused", "failed"], value_name = "OUTCOMES")]
    pub(crate) outcome: Vec<String>,
    /// User ids of who asked
    #[arg(long, value_delimiter = ',', value_name = "UIDS")]
    pub(crate) uid: Vec<u32>,
    /// A subject
    #[arg(long)]
    pub(crate) sub: Option<String>,
    /// A passport's id
    #[arg(long)]
    pub(crate) jti: Option<String>,
    /// A key
    #[arg(long)]
    pub(crate) kid: Option<String>,
    /// Reasons of refusals and failures
    #[arg(long, value_delimiter = ',', value_name = "REASONS")]
    pub(crate) reason: Vec<String>,
    /// A request, by its correlation id
    #[arg(long, value_name = "ID")]
    pub(crate) corr_id: Option<String>,
    /// Numbers: A..B, A.., ..B or one
    #[arg(long, value_parser = range, value_name = "A..B")]
    pub(crate) seq: Option<Span>,
    /// From this time on
    #[arg(long, value_parser = when, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Up to this time
    #[arg(long, value_parser = when, value_name = "TIME")]
    pub(crate) until: Option<When>,
}

/// `audit show`.
#[derive(Debug, Args)]
pub(crate) struct ShowAudit {
    #[command(flatten)]
    pub(crate) records: Records,
    #[command(flatten)]
    pub(crate) conditions: Conditions,
    /// At most so many, the newest
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// `audit export`.
#[derive(Debug, Args)]
pub(crate) struct ExportAudit {
    /// The ledger's directory [default: audit.dir of the configuration]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Those behind this number
    #[arg(long, value_name = "SEQ")]
    pub(crate) after: u64,
    /// At most so many
    #[arg(long, value_name = "RECORDS")]
    pub(crate) limit: Option<u64>,
}
