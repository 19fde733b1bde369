//! Options of `ceremony …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::ClockReset;
use super::operate::{HsmInit, Pin};
use crate::statement::approval::Approver;
use crate::statement::plan::MAX_LIFE_S;

const RUN: &str = "\
Shows each step, asks before what can't be undone, and has the ceremony process carry it out, which checks the approvals itself.
Then the daemon is told of the new keys, and the transcript is signed and written: FILE, FILE.sig and FILE.html. If anything stops
it, run it again with the same plan: it goes on where it was, and makes no key twice.

Examples:
  passportctl ceremony run rotation.plan --approval ann.approval --approval bob.approval
  passportctl ceremony run rotation.plan --activate --transcript rotation.json";

const APPROVE: &str = "\
Shows the plan first: what you sign is its hash, so read its steps. The approval is good until the plan expires.

Examples:
  passportctl ceremony approve rotation.plan --key ann.key --out ann.approval";

const KEYGEN: &str = "\
Prints the public key, for `ceremony plan approvers`. A passphrase is asked for on the terminal; without one the file is as good as the
key, and `openssl genpkey -algorithm ed25519` makes it as well.

Examples:
  passportctl ceremony keygen --out ann.key";

const VERIFY: &str = "\
Needs neither daemon nor HSM: signature, hash of the plan, approvals under the rule, each new key's signature over this plan's challenge,
and its attributes. Without --keys the signature is checked with the key that the transcript names itself. Exits 3 if anything is wrong.

Examples:
  passportctl ceremony verify rotation.json --keys audit.keys
  passportctl ceremony verify rotation.json --html rotation.html";

/// `ceremony …`.
#[derive(Debug, Subcommand)]
pub(crate) enum CeremonyCommand {
    /// Writes down what is to be done, for others to approve
    #[command(
        subcommand,
        after_help = "Examples:\n  passportctl ceremony plan rotate --tenant t1 --purpose auth --out rotation.plan"
    )]
    Plan(PlanCommand),
    /// Makes an approver's key
    #[command(after_help = KEYGEN)]
    Keygen(Keygen),
    /// Signs a plan
    #[command(after_help = APPROVE)]
    Approve(Approve),
    /// Carries out a plan, or goes on with it, and writes its transcript
    #[command(after_help = RUN)]
    Run(Run),
    /// Checks a transcript
    #[command(after_help = VERIFY)]
    Verify(TranscriptVerify),
    /// Takes the clock for right that the state does not believe, and revokes every passport
    ClockReset(ClockReset),
}

/// `ceremony plan …`.
#[derive(Debug, Subcommand)]
pub(crate) enum PlanCommand {
    /// To make a tenant's first passport key and, if they are missing, the audit key and the seal key
    #[command(after_help = "Examples:\n  passportctl ceremony plan init --tenant t1 --purpose auth --out t1.plan")]
    Init(PlanInit),
    /// To make the next version of one key, or of several
    #[command(after_help = "\
With --all or --older-than the passport keys of every tenant are meant, or those of --tenant or --purpose; one approval, one
transcript.

Examples:
  passportctl ceremony plan rotate --tenant t1 --purpose auth --out rotation.plan
  passportctl ceremony plan rotate --older-than 90d --out rotation.plan")]
    Rotate(PlanRotate),
    /// Takes over a key that another program made, as the next version of one, and publishes it; with --out only plans it
    #[command(after_help = "\
The key is held to all that a key of passportd's own is: it never left the HSM, may do nothing but sign, and signs once. It
is not changed, so it keeps its label. Where it lacks something, what it lacks is said, and nothing happens. Ids are shown by
`pkcs11-tool --module MODULE --token-label TOKEN --login --list-objects`.

Examples:
  passportctl ceremony plan adopt --tenant demo --purpose auth --cka-id 0a0b --dry-run
  passportctl ceremony plan adopt --tenant demo --purpose auth --cka-id 0a0b --out adoption.plan")]
    Adopt(Adopt),
    /// To take a seal key out of service
    #[command(
        after_help = "Examples:\n  passportctl ceremony plan retire-seal --kid hmac-sha256/t1/seal/v1 --out seal.plan"
    )]
    RetireSeal(OneKey),
    /// To delete a key from the HSM, once nothing verifies with it
    #[command(after_help = "\
The ceremony process refuses while the time that is given here is not over, while its own list of keys and bounds say that something may
still verify, and for the newest key of its kind. Without --verifies-until the daemon is asked; a key that it does not know, or an audit key, needs
it.

Examples:
  passportctl ceremony plan destroy --kid ed25519/t1/auth/v1 --out end.plan
  passportctl ceremony plan destroy --kid ed25519/t1/auth/v1 --verifies-until 2026-01-31T00:00:00Z --out end.plan")]
    Destroy(Destroy),
    /// To take a key for compromised: it signs nothing any more
    #[command(after_help = "\
This takes the time of an approval. What can't wait is done at once by `passportctl revoke --kid`: it revokes all that the key has signed
and pauses nothing else.

Examples:
  passportctl ceremony plan compromise --kid ed25519/t1/auth/v1 --out incident.plan")]
    Compromise(OneKey),
    /// To fix who approves plans from now on; the rule that holds now has to approve it
    #[command(after_help = "\
NAME=KEY is a public key as `ceremony keygen` prints it. NAME=uid:N takes holding the ceremony as that user for an approval: a convenience,
and the transcript calls it that. A name may have both; it counts once.

Examples:
  passportctl ceremony plan approvers --threshold 2 --approver ann=0a1b... --approver bob=2c3d... --out rule.plan")]
    Approvers(Approvers),
    /// To remember the public keys of an HSM that is lost
    #[command(after_help = "\
FILE is a transcript, the signer's keys.json from a backup, or `passportctl status --output json`. The keys verify, sign nothing, and their
versions are never given again; docs/CEREMONIES.md says what else is to be done.

Examples:
  passportctl ceremony plan restore --from first.json --from rotation.json --out restore.plan")]
    Restore(Restore),
    /// To have checkpoints signed of another ledger than before: one that was restored from a copy, or begun anew
    #[command(after_help = "\
The signer signs checkpoints of one ledger, as it grows. Where that one is lost, and a copy of it or a new one has taken its place, it signs
none until this was carried out. What checkpoints prove of the old one they go on proving: keep them, and what is left of it.

Examples:
  passportctl ceremony plan new-ledger --out ledger.plan")]
    NewLedger(NewLedger),
}

/// Where a plan goes, and how long it is good.
#[derive(Clone, Debug, Args)]
pub(crate) struct Kept {
    /// Where to write the plan; it replaces nothing
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// How long it may be approved and carried out, up to 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = life)]
    pub(crate) valid: Duration,
}

/// `ceremony plan init`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanInit {
    /// The tenant
    #[arg(long)]
    pub(crate) tenant: String,
    /// The purpose of its passports
    #[arg(long)]
    pub(crate) purpose: String,
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony plan rotate`.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanRotate {
    /// The tenant
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// The purpose; `audit` and `seal` mean those keys
    #[arg(long)]
    pub(crate) purpose: Option<String>,
    /// Every passport key's
    #[arg(long, conflicts_with = "older_than")]
    pub(crate) all: bool,
    /// Those whose newest version is older
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub(crate) older_than: Option<Duration>,
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony plan adopt`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) key: HsmInit,
    /// The key's CKA_ID, in hex
    #[arg(long, value_name = "HEX")]
    pub(crate) cka_id: String,
    /// Look at the key and try it; take nothing over
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write a plan instead, to be approved
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "pin_file"])]
    pub(crate) out: Option<PathBuf>,
    /// How long the plan may be approved and carried out, up to 30d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = life)]
    pub(crate) valid: Duration,
}

/// `ceremony plan retire-seal` and `compromise`.
#[derive(Clone, Debug, Args)]
pub(crate) struct OneKey {
    /// The key's id
    #[arg(long)]
    pub(crate) kid: String,
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony plan destroy`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Destroy {
    /// The key's id
    #[arg(long)]
    pub(crate) kid: String,
    /// When the last passport that it signed has expired, with the skew that verifiers allow [default: as the daemon says]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) verifies_until: Option<i64>,
    /// Remove the ceremony's copies of the store, too: they hold the key
    #[arg(long)]
    pub(crate) purge_backups: bool,
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony plan approvers`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Approvers {
    /// How many of them have to approve
    #[arg(long, value_name = "K")]
    pub(crate) threshold: u32,
    /// One of them
    #[arg(long = "approver", value_name = "NAME=KEY|NAME=uid:N", required = true, value_parser = approver)]
    pub(crate) approvers: Vec<Approver>,
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony plan restore`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Restore {
    /// What has the keys
    #[arg(long = "from", value_name = "FILE", required = true)]
    pub(crate) from: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony plan new-ledger`.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewLedger {
    #[command(flatten)]
    pub(crate) kept: Kept,
}

/// `ceremony keygen`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Keygen {
    /// Where to write the key; it replaces nothing
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `ceremony approve`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Approve {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,
    /// Your key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// Where to write the approval; it replaces nothing
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

/// `ceremony run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Run {
    /// The plan
    #[arg(value_name = "PLAN")]
    pub(crate) plan: PathBuf,
    /// An approval of it
    #[arg(long = "approval", value_name = "FILE")]
    pub(crate) approvals: Vec<PathBuf>,
    /// Let new keys sign at once, instead of by `key activate` after verifiers have fetched them; those of `init` always do
    #[arg(long)]
    pub(crate) activate: bool,
    /// Tell the daemon nothing: it is not there, or not yet
    #[arg(long, conflicts_with = "activate")]
    pub(crate) offline: bool,
    /// Where the transcript goes [default: the plan's id, and .json]
    #[arg(long, value_name = "FILE")]
    pub(crate) transcript: Option<PathBuf>,
    /// Do what can't be undone without asking
    #[arg(long)]
    pub(crate) yes: bool,
    /// The HSM takes the PIN on a pad of its own
    #[arg(long, conflicts_with = "pin_file")]
    pub(crate) own_pad: bool,
    #[command(flatten)]
    pub(crate) pin: Pin,
}

/// `ceremony verify`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TranscriptVerify {
    /// The transcript; its signature is beside it, as FILE.sig
    #[arg(value_name = "FILE")]
    pub(crate) transcript: PathBuf,
    /// The audit keys that you trust, one vkey a line
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// Write it as a page, too
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// `90d`, `24h`, `30m`, `45s`.
fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number and d, h, m or s, such as 90d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        'd' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// `2026-01-31T00:00:00Z`, or seconds since 1970.
fn moment(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds >= 0);
    let read = || text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second);
    seconds
        .or_else(read)
        .ok_or_else(|| "expected a time such as 2026-01-31T00:00:00Z, or seconds since 1970".to_owned())
}

fn life(text: &str) -> Result<Duration, String> {
    let most = Duration::from_secs(MAX_LIFE_S.unsigned_abs());
    age(text).ok().filter(|life| !life.is_zero() && *life <= most).ok_or_else(|| "expected 1s to 30d".to_owned())
}

fn approver(text: &str) -> Result<Approver, String> {
    let (name, means) = text.split_once('=').ok_or("expected NAME=KEY or NAME=uid:N")?;
    let name = name.to_owned();
    match means.strip_prefix("uid:") {
        Some(uid) => {
            let uid = uid.parse().map_err(|_| "expected a number after uid:".to_owned())?;
            Ok(Approver { name, public: None, uid: Some(uid) })
        }
        None => Ok(Approver { name, public: Some(means.to_owned()), uid: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_people_are_read() {
        assert_eq!(age("90d"), Ok(Duration::from_secs(90 * 86_400)));
        assert_eq!(life("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "d", "5", "5w", "-1d", "31d", "0s", "5 d", "99999999999999999d"] {
            assert!(life(bad).is_err(), "{bad}");
        }
        assert_eq!((moment("1970-01-02T00:00:00Z"), moment("7")), (Ok(86_400), Ok(7)));
        assert!(moment("-7").is_err() && moment("soon").is_err());
        let ann = approver("ann=00ff").unwrap();
        assert_eq!((ann.name.as_str(), ann.public.as_deref(), ann.uid), ("ann", Some("00ff"), None));
        assert_eq!(approver("bob=uid:7").unwrap().uid, Some(7));
        assert!(approver("bob").is_err() && approver("bob=uid:x").is_err());
    }
}
