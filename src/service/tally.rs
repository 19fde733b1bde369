//! What of refusals is not on record, by uid and kind: a summary says it once in a window (decisions 0035 and 0068).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

use super::shares::{STRANGERS, Share, Shares};
use crate::wire::{Code, Verdict};

/// What is refused, as far as each is somebody's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A passport that is revoked.
    Revoked,
    /// A nonce that was accepted before.
    Replayed,
    /// A passport without a use left.
    UsedUp,
    /// A proof that does not hold.
    Unproven,
    /// A signature that does not verify.
    Forged,
    /// Issuing.
    Issue,
    /// Any other request.
    Request,
    /// A connection.
    Peer,
    /// To seal a secret.
    Seal,
    /// To open one.
    Unseal,
}

impl Kind {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Revoked,
        Self::Replayed,
        Self::UsedUp,
        Self::Unproven,
        Self::Forged,
        Self::Issue,
        Self::Request,
        Self::Peer,
        Self::Seal,
        Self::Unseal,
    ];

    /// Those of verdicts.
    pub const VERDICTS: [Self; 5] = [Self::Revoked, Self::Replayed, Self::UsedUp, Self::Unproven, Self::Forged];

    /// What a verdict is on record as, if it is one of those that an auditor should know of.
    pub const fn of(verdict: &Verdict) -> Option<Self> {
        match verdict {
            Verdict::Refused(Code::Revoked) => Some(Self::Revoked),
            Verdict::Refused(Code::Replayed) => Some(Self::Replayed),
            Verdict::Refused(Code::LimitExceeded) => Some(Self::UsedUp),
            Verdict::Refused(Code::PopInvalid) | Verdict::Unproven { .. } => Some(Self::Unproven),
            Verdict::Refused(Code::VerifyFailed) => Some(Self::Forged),
            Verdict::Refused(_) | Verdict::Accepted(_) | Verdict::Consumed(_) => None,
        }
    }

    /// As in summaries: the reason of a verdict, else the event.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revoked => Code::Revoked.name(),
            Self::Replayed => Code::Replayed.name(),
            Self::UsedUp => Code::LimitExceeded.name(),
            Self::Unproven => Code::PopInvalid.name(),
            Self::Forged => Code::VerifyFailed.name(),
            Self::Issue => "issue_refused",
            Self::Request => "request_refused",
            Self::Peer => "peer_refused",
            Self::Seal => "seal_refused",
            Self::Unseal => "unseal_refused",
        }
    }
}

/// Refusals that are not on record.
#[derive(Debug, Default)]
pub struct Tally {
    counts: [AtomicU64; Kind::ALL.len()],
    /// Records that are on their way.
    under_way: AtomicUsize,
}

impl Tally {
    /// `count` more of a kind.
    pub fn add(&self, kind: Kind, count: u64) {
        for (_, counter) in Kind::ALL.iter().zip(&self.counts).filter(|(one, _)| **one == kind) {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes all of them out; none, if there are none.
    pub fn take(&self) -> Option<Counted> {
        let mut counted = Counted::default();
        for (into, counter) in counted.0.iter_mut().zip(&self.counts) {
            // A look costs less than to write, and mostly there is nothing.
            if counter.load(Ordering::Relaxed) > 0 {
                *into = counter.swap(0, Ordering::Relaxed);
            }
        }
        (counted.all() > 0).then_some(counted)
    }

    /// Puts back what could not be recorded.
    pub fn put_back(&self, counted: &Counted) {
        counted.each().for_each(|(kind, count)| self.add(kind, count));
    }

    /// Whether there is nothing that only this knows of.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|counter| counter.load(Ordering::Relaxed) == 0) && self.is_quiet()
    }

    /// A record is on its way.
    pub fn begin(&self) {
        self.under_way.fetch_add(1, Ordering::AcqRel);
    }

    /// It is durable, or counted.
    pub fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether no record is on its way.
    pub fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }
}

/// How many of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted([u64; Kind::ALL.len()]);

impl Counted {
    /// Of all kinds.
    pub fn all(&self) -> u64 {
        self.0.iter().copied().fold(0, u64::saturating_add)
    }

    /// Those that there are any of.
    pub fn each(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }

    /// In words: `revoked 3, verify_failed 1000`.
    pub fn text(&self) -> String {
        let each: Vec<String> = self.each().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
        each.join(", ")
    }
}

/// What was refused to a uid, or to peers without one of their own, and where that was counted.
pub type OfOne = (Option<u32>, Counted, Option<Arc<Share>>);

impl Share {
    /// Whether another refusal of this uid goes on record; else it is counted.
    pub fn refusal_on_record(&self, kind: Kind) -> bool {
        self.counted_unless(self.refusals.check().is_ok(), kind, 1)
    }

    /// The same of `count` verdicts, in one record.
    pub fn verdicts_on_record(&self, kind: Kind, count: u64) -> bool {
        self.counted_unless(self.verdicts.check().is_ok(), kind, count)
    }

    fn counted_unless(&self, on_record: bool, kind: Kind, count: u64) -> bool {
        if !on_record {
            self.tally.add(kind, count);
        }
        on_record
    }
}

impl Shares {
    /// Whether another refusal of a peer that has no place goes on record; else it is counted.
    pub fn refusal_on_record(&self, uid: u32) -> bool {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(share) = uids.get(&uid) else {
            let on_record = self.strangers.check().is_ok();
            if !on_record {
                self.strangers_tally.add(Kind::Peer, 1);
            }
            return on_record;
        };
        share.refusal_on_record(Kind::Peer)
    }

    /// What was refused since the last time and is not on record.
    pub fn take_tallies(&self) -> Vec<OfOne> {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        let of_uids = uids.iter().filter_map(|(uid, share)| {
            let counted = share.tally.take()?;
            Some(((*uid != STRANGERS).then_some(*uid), counted, Some(Arc::clone(share))))
        });
        of_uids.chain(self.strangers_tally.take().map(|counted| (None, counted, None))).collect()
    }

    /// What could not be put on record is counted on.
    pub fn put_back(&self, share: Option<&Arc<Share>>, counted: &Counted) {
        share.map_or(&self.strangers_tally, |share| &share.tally).put_back(counted);
    }

    /// Whether no refusal is on its way to the ledger.
    pub fn are_quiet(&self) -> bool {
        let uids = self.uids.lock().unwrap_or_else(PoisonError::into_inner);
        uids.values().all(|share| share.tally.is_quiet())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_out_once_and_what_is_put_back_comes_again() {
        let tally = Tally::default();
        assert_eq!((tally.take(), tally.is_empty()), (None, true));
        for (n, kind) in (1..).zip(Kind::ALL) {
            tally.add(kind, n);
        }
        tally.add(Kind::Forged, 1000);
        let counted = tally.take().unwrap();
        assert_eq!(counted.all(), (1..=10).sum::<u64>() + 1000);
        assert!(
            counted.text().starts_with("revoked 1, replayed 2, limit_exceeded 3, pop_invalid 4, verify_failed 1005, ")
        );
        assert_eq!(tally.take(), None);
        tally.add(Kind::Revoked, 1);
        tally.put_back(&counted);
        assert!(!tally.is_empty());
        assert_eq!(tally.take().unwrap().all(), counted.all() + 1);
    }

    #[test]
    fn only_what_is_worth_an_auditors_time_has_a_kind() {
        let kinds = Code::ALL.iter().filter_map(|code| Kind::of(&Verdict::Refused(*code)).map(|kind| (*code, kind)));
        let kinds: Vec<_> = kinds.collect();
        assert_eq!(kinds.len(), Kind::VERDICTS.len());
        assert!(kinds.iter().all(|(code, kind)| code.name() == kind.name() && Kind::VERDICTS.contains(kind)));
        assert_eq!(Kind::of(&Verdict::Unproven { why: String::new() }), Some(Kind::Unproven));
    }
}
