//! Transcripts, signed by an audit key in this process: the one that was the newest before the ceremony, so that whoever trusts
//! that one can follow.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::journal::{Journal, Run};
use super::keys::Bench;
use super::{Access, CeremonyError, CeremonyPlan, lock, run, with_token};
use crate::clock::Moment;
use crate::hsm::pins::PinnedKey;
use crate::hsm::{HsmError, inventory, pins};
use crate::passport::hex;
use crate::secret::Pin;
use crate::statement::document::{Signed, TRANSCRIPT_PREFIX, message};
use crate::statement::plan::Opened;
use crate::statement::transcript::{Daemon, MAX_DAEMON_STEPS, SignerKey, Transcript};
use crate::wire::ceremony::{Report, Request, SealedTranscript};

/// Where they are kept, in the signer's own directory.
const DIRECTORY: &str = "transcripts";
/// The largest file that is read: a transcript as a JSON string, and its signature.
const MAX_FILE: u64 = 1 << 20;

/// Signs what was done, once; after that it says again what it signed.
pub(super) fn seal(plan: &CeremonyPlan, request: &Request, pin: Option<&Pin>) -> Result<Report, CeremonyError> {
    let opened = run::opened(request)?;
    let dir = plan.module.state_dir.as_path();
    let _held = lock(dir)?;
    let mut journal = Journal::read(dir)?;
    let (hash, path) = (hex::encode(&opened.hash), file(dir, &opened.plan.id));
    if journal.is_spent(&hash, &opened.plan.id) {
        let text = pins::read_own(&path, MAX_FILE)?.ok_or(CeremonyError::Spent)?;
        let kept: SealedTranscript = serde_json::from_str(&text).map_err(|error| broken(&path, &error))?;
        return Ok(Report { transcript: Some(Box::new(kept)), ..Report::default() });
    }
    let not_yet = || CeremonyError::Request("the plan is not carried out yet".to_owned());
    let at = journal.position(&hash).ok_or_else(not_yet)?;
    let done = journal.runs.get(at).filter(|run| run.finished.is_some()).ok_or_else(not_yet)?.clone();
    if request.daemon.as_ref().is_some_and(|daemon| daemon.did.len() > MAX_DAEMON_STEPS) {
        return Err(CeremonyError::Request(format!("the daemon did more than {MAX_DAEMON_STEPS} things")));
    }
    let access = Access { writing: false, dry_run: true, final_try: request.final_try };
    let mut made = None;
    let mut report = with_token(&plan.module, pin, &access, |bench| {
        made = Some(bench.transcript(&done, &opened, request.daemon.clone())?);
        Ok(())
    })?;
    if let Some(made) = &made {
        let text = serde_json::to_vec(made).map_err(|error| broken(&path, &error))?;
        make_private(dir)?;
        // The commit point: this is what was done, and nothing else will be said of it.
        pins::replace(&path, &text)?;
        journal.runs.remove(at);
        journal.spend(done, Moment::now().unix())?;
        journal.write(dir)?;
        prune(dir, &journal);
    }
    report.transcript = made.map(Box::new);
    Ok(report)
}

fn broken(path: &Path, error: &serde_json::Error) -> CeremonyError {
    HsmError::Pins(path.to_owned(), error.to_string()).into()
}

fn file(dir: &Path, id: &str) -> PathBuf {
    dir.join(DIRECTORY).join(format!("{id}.json"))
}

fn make_private(dir: &Path) -> Result<(), CeremonyError> {
    let path = dir.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(HsmError::File { what: "create", path, source }.into())
        }
        _ => Ok(()),
    }
}

/// Removes transcripts of plans that are not remembered any more: their admins have them. One that can't be removed is no reason
/// to fail.
fn prune(dir: &Path, journal: &Journal) {
    let Ok(entries) = std::fs::read_dir(dir.join(DIRECTORY)) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let kept = |id: &str| journal.spent.iter().any(|spent| spent.id == id);
        if path.file_stem().and_then(|id| id.to_str()).is_none_or(|id| !kept(id)) {
            drop(std::fs::remove_file(path));
        }
    }
}

impl Bench<'_> {
    fn transcript(
        &self,
        run: &Run,
        opened: &Opened,
        daemon: Option<Daemon>,
    ) -> Result<SealedTranscript, CeremonyError> {
        let none =
            || CeremonyError::Request("there is no audit key to sign with: hold `ceremony plan init` first".to_owned());
        let newest = || self.audit_key(opened.plan.steps.first());
        let fit = |kid: &String| self.found(kid, &self.pins.get(kid).map(PinnedKey::id).unwrap_or_default()).is_some();
        let kid = run.audit_kid.clone().filter(fit).or_else(newest).ok_or_else(none)?;
        let pin = self.pins.get(&kid).ok_or_else(none)?;
        let public = pin.public_key().ok_or_else(none)?;
        let mut made = Transcript::of(opened.plan.clone(), &opened.hash);
        made.rule.clone_from(&run.rule);
        made.approvals.clone_from(&run.approvals);
        made.operator_uid = run.operator_uid;
        (made.begun, made.finished) = (run.begun, run.finished.unwrap_or_default());
        made.device = run.device.clone().unwrap_or_default();
        made.steps = run.steps.iter().filter_map(|step| step.done.clone()).collect();
        made.daemon = daemon;
        made.signer = SignerKey { kid: kid.clone(), public: hex::encode(&public) };
        let document = made.text().map_err(CeremonyError::Request)?;
        let handle = inventory::handle(self.session, pin.label(), &pin.id(), pin.role)?;
        let signature = self.sign(&public, handle, &message(TRANSCRIPT_PREFIX, document.as_bytes()));
        let signature = signature.map_err(|problem| CeremonyError::Unfit { kid: kid.clone(), problem })?;
        Ok(SealedTranscript { document, signed: Signed::new(&kid, &signature) })
    }
}
