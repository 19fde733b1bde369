//! What was begun and what is spent: `ceremony-run.json` in the signer's own directory, written before each step and after
//! it. A run that was killed goes on where it was; a key is named here before it is made, so that none is made twice.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CeremonyError;
use crate::hsm::HsmError;
use crate::hsm::pins;
use crate::passport::hex;
use crate::statement::approval::{Counted, Rule};
use crate::statement::plan::{Opened, Plan};
use crate::statement::transcript::{Device, StepDone};
use crate::wire::link::KeyRole;

const FILE: &str = "ceremony-run.json";
const LAYOUT: u32 = 1;
/// The most plans that are under way at one time.
pub(super) const MAX_RUNS: usize = 8;
/// The most plans that are remembered as spent. Those that have expired go first: no one could carry them out again.
pub(super) const MAX_SPENT: usize = 256;
/// The largest file that is read, in bytes: eight runs with all that a transcript says.
const MAX_FILE: u64 = 8 << 20;

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    layout: u32,
    /// Begun, and without a transcript.
    pub(super) runs: Vec<Run>,
    /// Over.
    pub(super) spent: Vec<Spent>,
}

/// A plan that was admitted. That it stands here is what a run that goes on is admitted by: only this process writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    /// The plan's hash, hex.
    pub(super) hash: String,
    /// Its id.
    pub(super) id: String,
    pub(super) expires: i64,
    pub(super) rule: Option<Rule>,
    pub(super) approvals: Vec<Counted>,
    pub(super) operator_uid: u32,
    pub(super) begun: i64,
    /// The audit key that was the newest before anything was done.
    pub(super) audit_kid: Option<String>,
    pub(super) device: Option<Device>,
    /// One for each step of the plan.
    pub(super) steps: Vec<StepRun>,
    pub(super) finished: Option<i64>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepRun {
    /// Keys that it is going to make.
    pub(super) intents: Vec<Intent>,
    /// Once it is over.
    pub(super) done: Option<StepDone>,
}

/// A key that is going to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intent {
    pub(super) kid: String,
    /// Hex.
    pub(super) cka_id: String,
    pub(super) role: KeyRole,
}

/// A plan that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spent {
    pub(super) hash: String,
    pub(super) id: String,
    pub(super) expires: i64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { layout: LAYOUT, runs: Vec::new(), spent: Vec::new() }
    }
}

impl Journal {
    pub(super) fn read(state_dir: &Path) -> Result<Self, CeremonyError> {
        let path = state_dir.join(FILE);
        let Some(text) = pins::read_own(&path, MAX_FILE)? else { return Ok(Self::default()) };
        let read: Self =
            serde_json::from_str(&text).map_err(|error| HsmError::Pins(path.clone(), error.to_string()))?;
        if read.layout == LAYOUT { Ok(read) } else { Err(HsmError::PinsLayout(path, read.layout).into()) }
    }

    /// Durable when this returns.
    pub(super) fn write(&self, state_dir: &Path) -> Result<(), CeremonyError> {
        let path = state_dir.join(FILE);
        let text = serde_json::to_vec(self).map_err(|error| HsmError::Pins(path.clone(), error.to_string()))?;
        Ok(pins::replace(&path, &text)?)
    }

    pub(super) fn is_spent(&self, hash: &str, id: &str) -> bool {
        // Another plan of the same id is no other plan.
        let other = |run: &&Run| run.id == id && run.hash != hash;
        self.spent.iter().any(|spent| spent.id == id || spent.hash == hash) || self.runs.iter().find(other).is_some()
    }

    pub(super) fn position(&self, hash: &str) -> Option<usize> {
        self.runs.iter().position(|run| run.hash == hash)
    }

    /// Takes a plan in; what has expired makes room.
    pub(super) fn begin(&mut self, run: Run, now: i64) -> Result<usize, CeremonyError> {
        let over: Vec<Run> = self.runs.extract_if(.., |run| run.expires < now).collect();
        over.into_iter().try_for_each(|run| self.spend(run, now))?;
        if self.runs.len() >= MAX_RUNS {
            return Err(CeremonyError::TooMany(self.runs.len()));
        }
        self.runs.push(run);
        Ok(self.runs.len() - 1)
    }

    /// Remembers that it is over.
    pub(super) fn spend(&mut self, run: Run, now: i64) -> Result<(), CeremonyError> {
        if self.spent.len() >= MAX_SPENT {
            self.spent.retain(|spent| spent.expires >= now);
        }
        if self.spent.len() >= MAX_SPENT {
            return Err(CeremonyError::TooMany(self.spent.len()));
        }
        self.spent.push(Spent { hash: run.hash, id: run.id, expires: run.expires });
        Ok(())
    }
}

impl Run {
    pub(super) fn new(opened: &Opened, rule: Option<Rule>, approvals: Vec<Counted>, uid: u32, now: i64) -> Self {
        let Plan { id, expires, steps, .. } = &opened.plan;
        Self {
            hash: hex::encode(&opened.hash),
            id: id.clone(),
            expires: *expires,
            rule,
            approvals,
            operator_uid: uid,
            begun: now,
            audit_kid: None,
            device: None,
            steps: vec![StepRun::default(); steps.len()],
            finished: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(n: usize, expires: i64) -> Run {
        Run {
            hash: format!("h{n}"),
            id: format!("i{n}"),
            expires,
            rule: None,
            approvals: vec![],
            operator_uid: 0,
            begun: 1,
            audit_kid: None,
            device: None,
            steps: vec![StepRun::default()],
            finished: None,
        }
    }

    #[test]
    fn what_was_begun_and_what_is_spent_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::read(dir.path()).unwrap();
        journal.begin(run(1, 100), 10).unwrap();
        journal.spend(run(2, 100), 10).unwrap();
        journal.write(dir.path()).unwrap();
        let read = Journal::read(dir.path()).unwrap();
        assert_eq!(read, journal);
        assert!(read.is_spent("h2", "i9") && read.is_spent("h9", "i2"), "by its hash and by its id");
        assert!(read.is_spent("h9", "i1"), "another plan of an id that is under way");
        assert!(!read.is_spent("h1", "i1") && read.position("h1") == Some(0));
        for bad in ["{", r#"{"layout":2,"runs":[],"spent":[]}"#, r#"{"layout":1,"runs":[],"spent":[],"x":1}"#] {
            pins::replace(&dir.path().join(FILE), bad.as_bytes()).unwrap();
            assert!(Journal::read(dir.path()).is_err(), "{bad}");
        }
        let text = serde_json::to_string(&journal).unwrap();
        let most = usize::try_from(MAX_FILE).unwrap();
        let padded = |length: usize| format!("{text}{}", " ".repeat(length - text.len()));
        pins::replace(&dir.path().join(FILE), padded(most).as_bytes()).unwrap();
        assert_eq!(Journal::read(dir.path()).unwrap(), journal);
        pins::replace(&dir.path().join(FILE), padded(most + 1).as_bytes()).unwrap();
        assert!(Journal::read(dir.path()).is_err());
    }

    /// Nobody's plan can be carried out again because others were carried out since.
    #[test]
    fn what_is_spent_is_forgotten_only_once_it_has_expired() {
        let mut journal = Journal::default();
        for n in 0..MAX_SPENT {
            journal.spend(run(n, 100), 10).unwrap();
        }
        assert!(matches!(journal.spend(run(999, 100), 100), Err(CeremonyError::TooMany(MAX_SPENT))));
        assert!(journal.is_spent("h0", ""));
        journal.spend(run(999, 200), 101).unwrap();
        assert_eq!(journal.spent.len(), 1);
    }

    #[test]
    fn so_many_are_under_way_until_one_expires() {
        let mut journal = Journal::default();
        for n in 0..MAX_RUNS {
            assert_eq!(journal.begin(run(n, 100 + i64::from(n == 0)), 10).unwrap(), n);
        }
        assert!(matches!(journal.begin(run(99, 300), 100), Err(CeremonyError::TooMany(MAX_RUNS))));
        assert_eq!(journal.begin(run(99, 300), 101).unwrap(), 1, "all but the first have expired");
        assert!(journal.is_spent("h1", "") && !journal.is_spent("h0", "i0"));
    }
}
