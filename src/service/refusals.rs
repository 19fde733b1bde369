//! Refusals on record: as many a second as the share of their uid allows, the rest is counted (decision 0035). Nobody waits
//! for them, since nothing is released that would need the record.

use std::sync::Arc;

use tracing::error;

use super::Client;
use super::shares::Share;
use crate::audit::{Audit, Entry, Event, Outcome};
use crate::clock::Moment;
use crate::policy::{Denial, Operation};

/// Where the refusals of one uid go.
pub(super) struct Refusals {
    audit: Audit,
    share: Arc<Share>,
}

impl Refusals {
    /// Puts one on record, if the share allows another.
    pub(super) fn put(&self, entry: impl FnOnce() -> Entry) {
        if !self.share.refusal_on_record() {
            return;
        }
        let (audit, entry) = (self.audit.clone(), entry());
        tokio::spawn(async move {
            if let Err(error) = audit.record(entry).await {
                error!(name: "refusal_not_recorded", %error, "a refusal is not on record");
            }
        });
    }
}

impl Client {
    pub(super) fn refusals(&self) -> Refusals {
        Refusals { audit: self.daemon.audit.clone(), share: Arc::clone(self.place.share()) }
    }

    /// What policy refuses; `also` adds what was asked for.
    pub(super) fn denied(
        &self,
        corr_id: [u8; 16],
        operation: Operation,
        denial: &Denial,
        also: impl FnOnce(Entry) -> Entry,
    ) {
        self.not_done(corr_id, operation, Outcome::Refused, |entry| {
            also(entry.reason(denial.code.code()).detail(&denial.rule))
        });
    }

    /// An operation that was refused, or that failed; `also` adds why.
    pub(super) fn not_done(
        &self,
        corr_id: [u8; 16],
        operation: Operation,
        outcome: Outcome,
        also: impl FnOnce(Entry) -> Entry,
    ) {
        let event = if operation == Operation::Issue { Event::IssueRefused } else { Event::RequestRefused };
        self.refusals().put(|| {
            let entry = Entry::new(event, outcome, Moment::now()).corr_id(corr_id).peer(self.on_record());
            also(entry.action(&operation.to_string()))
        });
    }
}
