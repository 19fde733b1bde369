//! Checkpoints of the ledger: at an interval, when an admin asks, and at the end. What is signed is what is durable by then.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Author, Daemon};
use crate::audit::{AuditError, Entry, Event, NoTree, Notes, Outcome, Tree};
use crate::log::remedy;
use crate::signer::{Counts, LedgerAt, SignerError};
use crate::state::{KeyRecord, KeyState, Role};
use crate::statement::{Checkpoint, CheckpointError, Note, VerifierKey, origin};
use crate::wire::link::LinkRefusal;

/// After one that failed.
const AGAIN: Duration = Duration::from_secs(10);
/// Between looks at whether what was signed has its record.
const LOOK: Duration = Duration::from_millis(20);
/// Beside two timeouts of the HSM: what was signed has its record by then, or never will.
const RECORDED_WITHIN: Duration = Duration::from_secs(5);
/// The longest that the end of the daemon waits for the last one.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// Why there is no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum NoCheckpoint {
    /// The operator's: no audit key is active, or not one of the configured tenant.
    #[error("no audit key is active{0}; `passportctl hsm init` makes one")]
    NoKey(String),
    /// The operator's: in amnesia mode there are no records to hold a checkpoint against.
    #[error("in amnesia mode no record is kept, so that there is nothing that a checkpoint could be held against")]
    Fleeting,
    /// Ours or the host's: what was kept of the ledger does not fit what is there, or all of it is still being read.
    #[error(transparent)]
    NoTree(#[from] NoTree),
    /// The operator's, or somebody has rewritten the ledger: the signer signs no second history.
    #[error(
        "the signer has signed a checkpoint of a longer ledger, or of another one of this length. If this one was restored \
         from a copy or begun anew, give the old one up: passportctl ceremony plan new-ledger. If not, it was rewritten: \
         hold it against a checkpoint kept elsewhere (passportctl audit verify)"
    )]
    OtherLedger,
    /// The signer gave none.
    #[error("{0}")]
    Signer(#[from] SignerError),
    /// What the signer gave is not what was asked for, or its signature does not fit: it, or the HSM, is faulty or hostile.
    #[error("the signer's checkpoint is not of this ledger, or its signature by {0} does not verify")]
    Unfit(String),
    /// The signer's text is none.
    #[error(transparent)]
    Text(#[from] CheckpointError),
    /// Host: the ledger does not take a record that belongs before it.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Host: it can't be kept.
    #[error("{}: {error}{}", .dir.display(), remedy(.error))]
    File {
        /// The directory.
        dir: PathBuf,
        /// The system's answer.
        error: std::io::Error,
    },
}

/// The newest checkpoint, and how it stands with the next.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    newest: Mutex<Option<Made>>,
    trouble: Mutex<Option<String>>,
    /// One is made at a time.
    making: tokio::sync::Mutex<()>,
}

/// A checkpoint as it was signed.
#[derive(Clone, Debug)]
struct Made {
    kid: String,
    checkpoint: Checkpoint,
    note: Note,
}

impl Checkpoints {
    fn newest(&self) -> Option<Made> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Makes them at the configured interval, until the daemon stops.
pub async fn watch_checkpoints(daemon: Arc<Daemon>) {
    if daemon.forgets() {
        return;
    }
    let mut stopping = daemon.stopping();
    let mut failed = false;
    loop {
        let interval = Duration::from_secs(daemon.live.load().loaded.config.audit.checkpoint_interval_s);
        tokio::select! {
            () = tokio::time::sleep(if failed { AGAIN.min(interval) } else { interval }) => {}
            // The last one is made once the end is on record.
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        failed = daemon.checkpoint().await.is_err();
    }
}

impl Daemon {
    /// A checkpoint of what the ledger holds now: the newest one, if nothing was recorded since.
    ///
    /// # Errors
    /// [`NoCheckpoint`].
    pub async fn checkpoint(&self) -> Result<Note, NoCheckpoint> {
        let _one_at_a_time = self.checkpoints.making.lock().await;
        let made = self.make_checkpoint().await;
        self.say_checkpoint(made.as_ref().err());
        made
    }

    /// The last one, for the end of the daemon, within a bound.
    pub async fn last_checkpoint(&self) {
        if tokio::time::timeout(LAST_WITHIN, self.checkpoint()).await.is_err() {
            tracing::warn!(name: "checkpoint_failed", error = "no answer in time", "the end of the ledger has no checkpoint");
        }
    }

    /// A record that says nothing but that records are written: its number, once it is durable.
    ///
    /// # Errors
    /// [`AuditError`].
    pub async fn test_append(&self, reason: &str, author: &Author) -> Result<u64, AuditError> {
        self.audit.record(author.entry(Event::AuditTest, Outcome::Ok).detail(reason)).await
    }

    async fn make_checkpoint(&self) -> Result<Note, NoCheckpoint> {
        if self.forgets() {
            return Err(NoCheckpoint::Fleeting);
        }
        let before = self.checkpoints.newest();
        // All that was acknowledged by now.
        let tree = self.tree_at(self.audit.head().0).await?;
        if let Some(Made { checkpoint, note, .. }) = before
            && checkpoint.size == tree.frontier.size()
        {
            return Ok(note);
        }
        let key = self.audit_key()?;
        let counts = self.signer.counts().await?;
        let tree = self.accounted(&counts).await?;
        let at = LedgerAt {
            size: tree.frontier.size(),
            root: tree.frontier.root(),
            head: tree.head,
            recorded: tree.recorded.clone(),
        };
        let signed = self.signer.checkpoint(&key.name, &counts, &at).await;
        let (text, sig) = signed.map_err(|error| match error {
            SignerError::Refused(LinkRefusal::Stale) => NoCheckpoint::OtherLedger,
            other => other.into(),
        })?;
        let checkpoint = Checkpoint::parse(&text)?;
        let issuer = self.live.load().loaded.config.passport.issuer.clone();
        let ours = (checkpoint.origin == origin(&issuer))
            && (checkpoint.size, checkpoint.root, checkpoint.head) == (at.size, at.root, at.head);
        if !ours || !key.verifies(text.as_bytes(), &sig) {
            return Err(NoCheckpoint::Unfit(key.name));
        }
        let note = Note::signed(text, &key, &sig);
        self.keep(note.clone(), checkpoint.time).await?;
        self.audit.checkpointed(checkpoint.size, self.undoubted());
        self.metrics.ledger.checkpoint_records.set(i64::try_from(checkpoint.size).unwrap_or(i64::MAX));
        self.metrics.ledger.checkpoint_time.set(checkpoint.time);
        let made = Made { kid: key.name, checkpoint, note: note.clone() };
        *self.checkpoints.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Ok(note)
    }

    /// The key that signs for the ledger: that of the configured tenant, or of the first by name.
    pub(super) fn audit_key(&self) -> Result<VerifierKey, NoCheckpoint> {
        let wanted = self.live.load().loaded.config.audit.tenant.clone();
        let of = |key: &&KeyRecord| wanted.as_ref().is_none_or(|tenant| key.tenant == *tenant);
        let table = self.store.keys();
        let mut keys: Vec<&KeyRecord> =
            table.iter().filter(|key| key.role == Role::Audit && key.state == KeyState::Active).collect();
        keys.retain(of);
        let first = keys.into_iter().min_by(|a, b| a.tenant.cmp(&b.tenant));
        let key = first.and_then(|key| Some(VerifierKey { name: key.kid.clone(), public: key.public? }));
        key.ok_or_else(|| NoCheckpoint::NoKey(wanted.map(|tenant| format!(" for tenant {tenant}")).unwrap_or_default()))
    }

    /// Every audit key there was, for those who verify.
    pub fn audit_keys(&self) -> Vec<VerifierKey> {
        let table = self.store.keys();
        let keys = table.iter().filter(|key| key.role == Role::Audit);
        keys.filter_map(|key| Some(VerifierKey { name: key.kid.clone(), public: key.public? })).collect()
    }

    /// The ledger once it accounts for all that was signed: what has no record by the time that one may take gets one that says so.
    async fn accounted(&self, counts: &Counts) -> Result<Tree, NoCheckpoint> {
        let timeout = Duration::from_millis(self.live.load().loaded.config.hsm.op_timeout_ms);
        let asked = Instant::now();
        let until = asked + 2 * timeout + RECORDED_WITHIN;
        loop {
            let tree = self.audit.tree()?;
            let missing = missing(counts, &tree);
            if missing.is_empty() {
                return Ok(tree);
            }
            // A disk that is slow or stuck may hold back records that were handed in before: they are stored, or given up.
            if Instant::now() >= until && (self.audit.queued() == 0 || self.audit.lag() < asked.elapsed()) {
                let records = missing.into_iter().map(|(kid, count)| unaccounted(kid, count)).collect();
                let seq = self.audit.record_many(records).await?.last;
                return self.tree_at(seq).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The tree once it has this record, which is durable: it is in the tree a moment later.
    async fn tree_at(&self, seq: u64) -> Result<Tree, NoCheckpoint> {
        loop {
            let tree = self.audit.tree()?;
            if tree.frontier.size() >= seq {
                return Ok(tree);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn keep(&self, note: Note, time: i64) -> Result<(), NoCheckpoint> {
        let dir = self.live.load().loaded.config.audit.checkpoint_dir();
        let notes = Notes { dir: dir.clone(), keys: self.audit_keys() };
        let audit = self.audit.clone();
        // A disk that doesn't answer holds up nobody but this. The tree is kept every minute anyway, and what is wrong is said then.
        let kept =
            tokio::task::spawn_blocking(move || notes.keep(&note, time).inspect(|()| drop(audit.keep_tree()))).await;
        let kept = kept.unwrap_or_else(|stopped| Err(std::io::Error::other(stopped)));
        kept.map_err(|error| NoCheckpoint::File { dir, error })
    }

    /// One line for each change.
    fn say_checkpoint(&self, error: Option<&NoCheckpoint>) {
        let now = error.map(ToString::to_string);
        // Before the first set-up there is none, and nobody needs to be told; what is being read was said at the start.
        let silent = matches!(
            error,
            Some(NoCheckpoint::NoKey(_) | NoCheckpoint::Fleeting | NoCheckpoint::NoTree(NoTree::Reading { .. }))
        );
        let before = std::mem::replace(
            &mut *self.checkpoints.trouble.lock().unwrap_or_else(PoisonError::into_inner),
            now.clone(),
        );
        match (before, now) {
            (before, Some(error)) if before.as_ref() != Some(&error) && !silent => {
                tracing::warn!(name: "checkpoint_failed", error, "the ledger has no new checkpoint");
            }
            (Some(_), None) => tracing::info!(name: "checkpoint_made", "the ledger has a new checkpoint again"),
            _ => {}
        }
    }

    /// For `Status`.
    pub(super) fn checkpoint_status(&self) -> Value {
        let newest = self.checkpoints.newest();
        json!({
            "records": newest.as_ref().map(|made| made.checkpoint.size),
            "time": newest.as_ref().map(|made| made.checkpoint.time),
            "kid": newest.as_ref().map(|made| made.kid.as_str()),
            "trouble": *self.checkpoints.trouble.lock().unwrap_or_else(PoisonError::into_inner),
        })
    }
}

/// Of each key, how many signatures have no record.
fn missing<'a>(counts: &'a Counts, tree: &Tree) -> Vec<(&'a str, u64)> {
    let recorded = |kid: &str| tree.recorded.get(kid).copied().unwrap_or(0);
    let each = counts.signed.iter().map(|(kid, signed)| (kid.as_str(), signed.saturating_sub(recorded(kid))));
    each.filter(|(_, missing)| *missing > 0).collect()
}

fn unaccounted(kid: &str, count: u64) -> Entry {
    let detail = "the signer has counted more signatures by this key than there are records of passports and tickets";
    Author::NOBODY.entry(Event::SignaturesUnaccounted, Outcome::Failed).kid(kid).count(count).detail(detail)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_was_signed_and_has_no_record_is_missing() {
        let counts =
            |all: &[(&str, u64)]| all.iter().map(|(kid, n)| ((*kid).to_owned(), *n)).collect::<BTreeMap<_, _>>();
        let signed = Counts { snapshot: 1, signed: counts(&[("a", 3), ("b", 2), ("c", 1)]) };
        let tree = Tree { recorded: counts(&[("a", 3), ("b", 1), ("d", 9)]), ..Tree::default() };
        assert_eq!(missing(&signed, &tree), [("b", 1), ("c", 1)]);
    }
}
