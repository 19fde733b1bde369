//! Options of the commands for secrets.

use std::path::PathBuf;

use clap::Args;

const SEAL: &str = "\
Reads a secret of 64 KiB at most and writes it encrypted; only this daemon opens it again, and only under the same
namespace and name. The answer may lie in a repository, an image or a backup. A file that --out names is made with mode
0600 and must not be there yet.

Examples:
  passportctl seal --namespace t1/billing --in password --out database.sealed
  passportctl seal --namespace t1/billing --name database > database.sealed
  passportctl seal --namespace t1/billing --name database --output json";

const UNSEAL: &str = "\
Examples:
  passportctl unseal --namespace t1/billing --in database.sealed
  passportctl unseal --namespace t1/billing --in database.sealed --out password";

const RESEAL: &str = "\
Opens each file and seals it with the newest key, in memory; files that are sealed with it already stay as they are. Then
the older key can be retired (`passportctl hsm retire`). --dry-run asks nobody: it counts the files by their keys.

Examples:
  passportctl reseal --namespace t1/billing database.sealed mail.sealed
  passportctl reseal --namespace t1/billing --dry-run database.sealed mail.sealed";

/// Where a secret belongs.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The namespace.
    #[arg(long, help = "Where secrets of this kind live: <tenant>/<part> or <tenant>/<part>/<part>, as policy grants")]
    pub(crate) namespace: String,
    /// The secret's name there [default: the sealed file's name without `.sealed`]
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// From where and to where.
#[derive(Debug, Args)]
pub(crate) struct Ends {
    /// The file to read
    #[arg(long = "in", value_name = "FILE", default_value = "-")]
    pub(crate) input: PathBuf,
    /// The file to make [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// `seal`.
#[derive(Debug, Args)]
#[command(after_help = SEAL)]
pub(crate) struct Seal {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) ends: Ends,
}

/// `unseal`.
#[derive(Debug, Args)]
#[command(after_help = UNSEAL)]
pub(crate) struct Unseal {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) ends: Ends,
}

/// `reseal`.
#[derive(Debug, Args)]
#[command(after_help = RESEAL)]
pub(crate) struct Reseal {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only count the files by the key that they are sealed with
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// The sealed files
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
}
