//! Refusals on record: as many a second as the share of their uid allows. The rest is counted, and a summary says how many
//! more there were of which kind (decisions 0035 and 0068). Nobody waits for any of it, since nothing is released that would
//! need the record.

use std::iter::repeat_n;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::error;
use uuid::Uuid;

use super::services::{Service, Turn};
use super::shares::{Share, Shares};
use super::tally::Kind;
use super::{Client, outcome};
use crate::audit::{Audit, AuditError, Entry, Event, Outcome};
use crate::check::{Taking, authentic};
use crate::clock::Moment;
use crate::log::MAX_GROUP;
use crate::policy::{Denial, Operation};
use crate::verify::Keyring;
use crate::wire::{Passport, Verdict};

/// Between summaries.
const WINDOW: Duration = Duration::from_secs(10);
/// For how long the end waits for records that are on their way.
const AT_THE_END: Duration = Duration::from_secs(5);
/// Between looks at them.
const LOOK: Duration = Duration::from_millis(2);

/// Where the refusals of one uid go.
pub(super) struct Refusals {
    audit: Audit,
    share: Arc<Share>,
}

impl Refusals {
    pub(super) const fn new(audit: Audit, share: Arc<Share>) -> Self {
        Self { audit, share }
    }

    /// Puts one on record, if the share allows another.
    pub(super) fn put(&self, kind: Kind, entry: impl FnOnce() -> Entry) {
        if self.share.refusal_on_record(kind) {
            self.write(kind, 1, entry());
        }
    }

    /// Verdicts on passports that are gone, all of them authentic: one record of a kind. `record` says whose they are.
    pub(super) fn of_taken<'t>(&self, record: &Entry, given: impl Iterator<Item = (&'t Taking, &'t Verdict)> + Clone) {
        each_kind(given, |kind, count, taking, verdict| {
            if self.share.verdicts_on_record(kind, count) {
                let entry = record.clone().revised(Event::VerifyRefused, Outcome::Refused, Moment::now());
                let entry = of_many(said(entry, kind, verdict), count);
                self.write(kind, count, known(entry, taking));
            }
        });
    }

    /// What the ledger does not take is counted with the rest.
    fn write(&self, kind: Kind, count: u64, entry: Entry) {
        let (audit, share) = (self.audit.clone(), Arc::clone(&self.share));
        share.tally.begin();
        tokio::spawn(async move {
            if let Err(error) = audit.record(entry).await {
                error!(name: "refusal_not_recorded", %error, "a refusal is not on record");
                share.tally.add(kind, count);
            }
            share.tally.end();
        });
    }
}

/// How many there are of each kind, and the first of them.
fn each_kind<'v, P>(
    given: impl Iterator<Item = (P, &'v Verdict)> + Clone,
    mut found: impl FnMut(Kind, u64, P, &'v Verdict),
) {
    if given.clone().all(|(_, verdict)| Kind::of(verdict).is_none()) {
        return;
    }
    let passes = repeat_n(given, Kind::VERDICTS.len());
    for (kind, given) in Kind::VERDICTS.into_iter().zip(passes) {
        let mut of_kind = given.filter(|(_, verdict)| Kind::of(verdict) == Some(kind));
        if let Some((passport, verdict)) = of_kind.next() {
            let others = u64::try_from(of_kind.count()).unwrap_or(u64::MAX);
            found(kind, others.saturating_add(1), passport, verdict);
        }
    }
}

fn said(entry: Entry, kind: Kind, verdict: &Verdict) -> Entry {
    let entry = entry.reason(kind.name());
    match verdict {
        Verdict::Unproven { why } => entry.detail(why),
        _ => entry,
    }
}

/// What else is in it is of the first of them.
fn of_many(entry: Entry, count: u64) -> Entry {
    if count > 1 { entry.count(count) } else { entry }
}

fn known(entry: Entry, Taking { kid, jti, sub, template, exp, .. }: &Taking) -> Entry {
    entry.kid(kid).jti(jti).subject(sub).template(template).exp(*exp)
}

/// What a passport that is not authentic claims, as far as it is no stranger's text: a key that is ours, and an id that could be
/// one of ours.
fn claimed(keyring: &Keyring, passport: &Passport<'_>) -> String {
    let kid = outcome::kid(keyring, std::slice::from_ref(passport)).map(|kid| format!("kid {kid}"));
    let jti = Taking::of(passport).and_then(|taking| Uuid::try_parse(&taking.jti).ok()).map(|jti| format!("jti {jti}"));
    let all: Vec<String> = kid.into_iter().chain(jti).collect();
    match all.as_slice() {
        [] => "not authentic".to_owned(),
        some => format!("not authentic; it claims {}", some.join(", ")),
    }
}

impl Service {
    /// Puts on record what was refused that an auditor should know of: one record of a kind. Behind the cap, so that a flood
    /// costs no more than the counting.
    pub(super) fn refused<'p, 'a: 'p>(
        &self,
        turn: &Turn,
        keyring: &Keyring,
        operation: Operation,
        given: impl Iterator<Item = (&'p Passport<'a>, &'p Verdict)> + Clone,
    ) {
        each_kind(given, |kind, count, passport, verdict| {
            if !self.client.place.share().verdicts_on_record(kind, count) {
                return;
            }
            let entry = Entry::new(Event::VerifyRefused, Outcome::Refused, Moment::now());
            let entry = entry.corr_id(turn.corr_id).peer(self.client.on_record()).action(operation.name());
            let entry = of_many(said(entry, kind, verdict), count);
            let config = &turn.live.loaded.config;
            // Claims are looked at before the signature, so what is refused for them need not be authentic.
            let own = || authentic(passport, keyring, &config.passport.issuer, config.limits.max_msg_bytes).is_ok();
            let taking = (kind != Kind::Forged && own()).then(|| Taking::of(passport)).flatten();
            let entry = match taking {
                Some(taking) => known(entry, &taking),
                None => entry.detail(&claimed(keyring, passport)),
            };
            self.client.refusals().write(kind, count, entry);
        });
    }
}

impl Client {
    pub(super) fn refusals(&self) -> Refusals {
        Refusals::new(self.daemon.audit.clone(), Arc::clone(self.place.share()))
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
        let (kind, event) = match operation {
            Operation::Issue => (Kind::Issue, Event::IssueRefused),
            _ => (Kind::Request, Event::RequestRefused),
        };
        self.refusals().put(kind, || {
            let entry = Entry::new(event, outcome, Moment::now()).corr_id(corr_id).peer(self.on_record());
            also(entry.action(&operation.to_string()))
        });
    }
}

/// Writes summaries of what is not on record by itself, until `stopping`. [`summarise_the_end`] has the last ones.
pub async fn summarise(shares: Arc<Shares>, audit: Audit, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(WINDOW) => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        if let Err(error) = write_summaries(&shares, &audit).await {
            error!(name: "refusal_not_recorded", %error, "how many were refused is not on record yet");
        }
    }
}

/// The last summaries, once nobody is served any more: with those that a record was on its way for.
pub async fn summarise_the_end(shares: &Shares, audit: &Audit) {
    let begun = Instant::now();
    while !shares.are_quiet() && begun.elapsed() < AT_THE_END {
        tokio::time::sleep(LOOK).await;
    }
    if let Err(error) = write_summaries(shares, audit).await {
        error!(name: "refusal_not_recorded", %error, "how many were refused is not on record");
    }
}

/// One record for each uid that more was refused to. What is not durable is counted on.
async fn write_summaries(shares: &Shares, audit: &Audit) -> Result<(), AuditError> {
    let taken = shares.take_tallies();
    let mut failed = Ok(());
    for some in taken.chunks(MAX_GROUP) {
        let entries = some.iter().map(|(uid, counted, _)| {
            let entry = Entry::new(Event::RefusalsSuppressed, Outcome::Refused, Moment::now()).count(counted.all());
            match uid {
                Some(uid) => entry.uid(*uid).detail(&counted.text()),
                None => entry.detail(&format!("peers without a share of their own: {}", counted.text())),
            }
        });
        if let Err(error) = audit.record_many(entries.collect()).await {
            some.iter().for_each(|(_, counted, share)| shares.put_back(share.as_ref(), counted));
            failed = Err(error);
        }
    }
    failed
}

#[cfg(test)]
#[path = "refusals_tests.rs"]
mod tests;
