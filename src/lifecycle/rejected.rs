//! Signatures that the HSM made and that do not verify. Each is an alarm, and a broken HSM makes them by the thousand: the
//! first is put on record at once, and then one a second stands for all that came in it. No peer's share of refusals counts
//! here, so that nobody can use up what would tell of it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Daemon;
use crate::audit::{Audit, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::issue::Noticed;

/// Between two records, and attempts at one.
const EVERY: Duration = Duration::from_secs(1);

/// What is not on record yet.
#[derive(Debug)]
pub(super) struct Rejected {
    waiting: Arc<Mutex<Waiting>>,
    every: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    /// A task sees to it.
    attended: bool,
    /// One of them, and how many more there are.
    next: Option<(Entry, u64)>,
}

impl Waiting {
    fn add(&mut self, entry: Entry, more: u64) {
        self.next = match self.next.take() {
            Some((first, others)) => Some((first, others.saturating_add(more).saturating_add(1))),
            None => Some((entry, more)),
        };
    }
}

impl Default for Rejected {
    fn default() -> Self {
        Self { waiting: Arc::default(), every: EVERY }
    }
}

impl Rejected {
    fn note(&self, entry: Entry, audit: &Audit) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.add(entry, 0);
        if !std::mem::replace(&mut waiting.attended, true) {
            tokio::spawn(attend(Arc::clone(&self.waiting), audit.clone(), self.every));
        }
    }
}

async fn attend(waiting: Arc<Mutex<Waiting>>, audit: Audit, every: Duration) {
    let mut told = false;
    while let Some((entry, more)) = next(&waiting) {
        let one = if more == 0 {
            entry.clone()
        } else {
            entry.clone().detail(&format!("and {more} more before this record"))
        };
        if let Err(error) = audit.record(one).await {
            if !std::mem::replace(&mut told, true) {
                tracing::error!(name: "refusal_not_recorded", %error, "a rejected signature is not on record yet");
            }
            waiting.lock().unwrap_or_else(PoisonError::into_inner).add(entry, more);
        }
        tokio::time::sleep(every).await;
    }
}

/// What is to be recorded; without it nobody attends any more.
fn next(waiting: &Mutex<Waiting>) -> Option<(Entry, u64)> {
    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let next = waiting.next.take();
    waiting.attended = next.is_some();
    next
}

impl Daemon {
    /// Puts on record that a signature was not released because it does not verify. `entry` is what would have been the
    /// record of its passport. Nobody waits for it: nothing is released that would need it.
    pub fn signature_rejected(&self, entry: Entry, noticed: Noticed) {
        let reason = match noticed {
            Noticed::BySigner => "noticed_by_signer",
            Noticed::ByFront => "noticed_by_front",
        };
        let entry = entry.revised(Event::SignatureRejected, Outcome::Failed, Moment::now()).reason(reason);
        self.rejected.note(entry, &self.audit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditConfig;
    use crate::log::{Pace, SegmentConfig};

    #[tokio::test]
    async fn the_first_is_on_record_at_once_and_those_that_follow_are_one_record_with_their_number() {
        let dir = tempfile::tempdir().unwrap();
        let (segment, pace) = (SegmentConfig::default(), Pace::default());
        let config = AuditConfig { segment, pace, journald: None, now: Moment::now, metrics: None };
        let (audit, _) = Audit::open(dir.path(), &config).unwrap();
        let rejected = Rejected { every: Duration::from_millis(200), ..Rejected::default() };
        let entry = |jti: &str| Entry::new(Event::SignatureRejected, Outcome::Failed, Moment::now()).jti(jti);
        let recorded = async |count| {
            while audit.head().0 < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        rejected.note(entry("first"), &audit);
        recorded(1).await;
        for _ in 0..1000 {
            rejected.note(entry("more"), &audit);
        }
        recorded(2).await;
        while rejected.waiting.lock().unwrap().attended {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        rejected.note(entry("later"), &audit);
        recorded(3).await;
        audit.close();
        let text = std::fs::read_to_string(dir.path().join("00000000000000000001.jsonl")).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        for (line, [says, more]) in lines.iter().zip([["first", ""], ["more", "and 999 more"], ["later", ""]]) {
            assert!(line.contains(&format!(r#""jti":"{says}""#)), "{line}");
            assert_eq!(line.contains("before this record"), !more.is_empty(), "{line}");
            assert!(line.contains(more), "{line}");
        }
    }

    #[tokio::test]
    async fn what_the_ledger_does_not_take_is_kept() {
        let mut waiting = Waiting::default();
        let entry = |jti: &str| Entry::new(Event::SignatureRejected, Outcome::Failed, Moment::now()).jti(jti);
        waiting.add(entry("new"), 0);
        waiting.add(entry("failed"), 2);
        assert_eq!(waiting.next.as_ref().map(|(_, more)| *more), Some(3));
        let waiting = Mutex::new(waiting);
        assert!(next(&waiting).is_some() && waiting.lock().unwrap().attended);
        assert!(next(&waiting).is_none() && !waiting.lock().unwrap().attended, "the next one finds nobody attending");
    }
}
