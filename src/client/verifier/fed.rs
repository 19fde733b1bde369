//! What verdicts are given by: keys, and all that is revoked, as the daemon says it. Pure: keys, events, time and passports are
//! arguments, and the verdicts are those of `check`, in its order.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::FeedError;
use crate::check::{Judged, Terms, judge, revise_by};
use crate::client::ClientError;
use crate::clock::Moment;
use crate::passport::{Expect, Presenter, parse_jwks};
use crate::state::{Entry, Kept, Owner, What};
use crate::verify::Keyring;
use crate::wire::{self, Code, Event, KeySet, Passport, RevocationPage, Standing, TenantEpoch, Verdict};

/// Revocations, epochs and keys that have gone stay in memory until there are twice as many as of those that had not, or so many.
const SWEPT_FROM: usize = 4096;

/// What a passport must be good for, beside what the daemon says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// As whom the caller verifies.
    pub(super) aud: Option<&'a str>,
    /// Scopes that must all be there.
    pub(super) scopes: &'a [&'a str],
    /// The present.
    pub(super) now: Moment,
    /// By how many seconds the issuer's clock may differ.
    pub(super) skew_s: u32,
}

/// What the daemon said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct House {
    /// Whose passports they are.
    pub(super) issuer: String,
    /// The largest `msg`, in bytes.
    pub(super) max_msg_bytes: usize,
}

/// All that is revoked, as it is gathered page by page, and as it changes.
#[derive(Debug, Default)]
pub(super) struct Revoked {
    kept: Kept,
    /// The tenants of which this peer is told; none: of all.
    tenants: Option<BTreeSet<String>>,
    /// Rows that were left when it was swept last.
    swept: usize,
}

/// What came of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Something is refused from now on.
    Revoked,
    /// The keys have changed: they are to be asked for.
    Keys,
    /// Nothing that a verdict depends on.
    None,
}

impl Revoked {
    /// Takes a page of all that is in force; `most` are kept.
    pub(super) fn page(&mut self, page: RevocationPage, most: usize) -> Result<(), FeedError> {
        let RevocationPage { tenants, revoked, epochs, floor, compromised, next: _ } = page;
        self.tenants = tenants.map(|tenants| tenants.into_iter().collect());
        self.kept.raise_floor(floor);
        for TenantEpoch { tenant, epoch } in epochs {
            self.begin(&tenant, epoch, most)?;
        }
        for kid in compromised {
            self.compromise(&kid, most)?;
        }
        revoked.into_iter().try_for_each(|Standing { tenant, what }| match what {
            wire::What::RevokedId { jti, until } => self.revoke(tenant, What::RevokedId { jti }, until, most),
            wire::What::RevokedSubject { sub, before, until } => {
                self.revoke(tenant, What::RevokedSubject { sub, before }, until, most)
            }
            _ => Err(ClientError::WrongAnswer.into()),
        })
    }

    /// Takes what has happened.
    pub(super) fn apply(&mut self, event: Event, most: usize) -> Result<Effect, FeedError> {
        let Event { tenant, what, .. } = event;
        match (what, tenant) {
            (wire::What::RevokedId { jti, until }, Some(tenant)) => {
                self.revoke(tenant, What::RevokedId { jti }, until, most)?;
            }
            (wire::What::RevokedSubject { sub, before, until }, Some(tenant)) => {
                self.revoke(tenant, What::RevokedSubject { sub, before }, until, most)?;
            }
            // Whose passports those are nobody could tell.
            (wire::What::RevokedId { .. } | wire::What::RevokedSubject { .. }, None) => {
                return Err(ClientError::WrongAnswer.into());
            }
            (wire::What::RevokedKey { kid }, _) => self.compromise(&kid, most)?,
            (wire::What::Epoch { epoch }, Some(tenant)) => self.begin(&tenant, epoch, most)?,
            (wire::What::Epoch { epoch }, None) => self.kept.raise_floor(epoch),
            (wire::What::Key { .. }, _) => return Ok(Effect::Keys),
            (wire::What::Policy { .. } | wire::What::Draining { .. }, _) => return Ok(Effect::None),
        }
        Ok(Effect::Revoked)
    }

    fn revoke(&mut self, tenant: String, what: What, until: i64, most: usize) -> Result<(), FeedError> {
        self.room(most)?;
        // Whose share of the daemon's room it takes does not matter here.
        self.kept.put(&Entry { until, owner: Owner::Admin, tenant, what });
        Ok(())
    }

    /// An epoch never goes back, in whatever order one hears of it.
    fn begin(&mut self, tenant: &str, epoch: u64, most: usize) -> Result<(), FeedError> {
        self.room(most)?;
        self.kept.set_epoch(tenant, epoch.max(self.kept.epoch(tenant)));
        Ok(())
    }

    fn compromise(&mut self, kid: &str, most: usize) -> Result<(), FeedError> {
        self.room(most)?;
        self.kept.compromise(kid);
        Ok(())
    }

    /// Says so when there are more than may be: what can't be kept could not be refused.
    fn room(&self, most: usize) -> Result<(), FeedError> {
        if self.len() < most { Ok(()) } else { Err(FeedError::TooMany(most)) }
    }

    /// How many revocations, tenants and keys are kept.
    pub(super) fn len(&self) -> usize {
        let Self { kept, .. } = self;
        kept.revoked_ids() + kept.revoked_subjects() + kept.compromised_keys() + kept.tenants_in_epochs()
    }

    /// What is left of it at `now`, if it is time to look.
    pub(super) fn swept(&self, now: Moment, most: usize) -> Option<Self> {
        if self.kept.len() < (2 * self.swept).max(SWEPT_FROM) && self.len() < most {
            return None;
        }
        let kept = self.kept.revocations(now.unix());
        Some(Self { swept: kept.len(), kept, tenants: self.tenants.clone() })
    }

    fn hears_of(&self, tenant: &str) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
    }
}

/// The keys of the daemon's set.
#[derive(Debug)]
pub(super) struct Keys {
    keyring: Keyring,
    /// Of the set as the daemon sent it.
    pub(super) etag: [u8; 32],
    /// Each with its tenant.
    tenants: Vec<([u8; 32], String)>,
}

impl Keys {
    /// Prepares the keys of a set, each of which must be fit to verify with; what `before` has prepared already is taken over.
    pub(super) fn read(set: &KeySet, table_bytes: usize, before: Option<&Self>) -> Result<Self, FeedError> {
        let keys = parse_jwks(&set.jwks).map_err(|error| FeedError::Keys(error.to_string()))?;
        let keyring = Keyring::with_tables(&keys, table_bytes, before.map(|before| &before.keyring))
            .map_err(|error| FeedError::Keys(error.to_string()))?;
        let tenants = keys.iter().map(|key| (key.public, key.kid.tenant().to_owned())).collect();
        Ok(Self { keyring, etag: set.etag, tenants })
    }
}

/// All that a verdict depends on, at one time.
#[derive(Debug)]
pub(super) struct Fed {
    pub(super) house: House,
    pub(super) keys: Arc<Keys>,
    pub(super) revoked: Revoked,
    /// Public keys of tenants whose revocations this peer is not told.
    unheard: HashSet<[u8; 32]>,
    /// Grows with everything that can turn an acceptance into a refusal.
    pub(super) revision: u64,
}

impl Fed {
    pub(super) fn new(house: House, keys: Arc<Keys>, revoked: Revoked) -> Self {
        let unheard = unheard(&keys, &revoked);
        Self { house, keys, revoked, unheard, revision: 0 }
    }

    /// Takes what has happened: whether something is refused since, and whether the keys are to be asked for.
    pub(super) fn apply(&mut self, events: Vec<Event>, most: usize) -> Result<bool, FeedError> {
        self.revision = self.revision.wrapping_add(1);
        let mut keys = false;
        for event in events {
            keys |= self.revoked.apply(event, most)? == Effect::Keys;
        }
        Ok(keys)
    }

    /// From now on these are the keys.
    pub(super) fn turn_to(&mut self, keys: Arc<Keys>) {
        self.unheard = unheard(&keys, &self.revoked);
        self.keys = keys;
    }

    /// All of a verdict but the signature.
    pub(super) fn judge<'a, 'k>(&self, passport: &Passport<'a>, keys: &'k Keys, asked: &Asked<'_>) -> Judged<'a, 'k> {
        let Self { house: House { issuer, max_msg_bytes }, revoked, unheard, .. } = self;
        let Asked { aud, scopes, now, skew_s } = *asked;
        let expect = Expect { issuer, now, skew_s, audiences: aud.as_slice(), require_aud: true, scopes };
        let terms = Terms { expect, max_msg_bytes: *max_msg_bytes, presenter: Presenter::Unsaid };
        match judge(passport, &keys.keyring, &terms, &revoked.kept) {
            // The proof is for the daemon to look at, which remembers what was proven.
            Err(Code::PopRequired) => Err(Code::NeedsDaemon),
            // It may be revoked.
            Ok(candidate) if unheard.contains(candidate.key().as_bytes()) => Ok(candidate.left_to_the_daemon()),
            judged => judged,
        }
    }

    /// Refuses what has been revoked since `revision`.
    pub(super) fn revise(&self, passports: &[Passport<'_>], verdicts: &mut [Verdict], revision: u64) {
        if self.revision != revision {
            revise_by(passports.iter(), verdicts, &self.revoked.kept);
        }
    }
}

fn unheard(keys: &Keys, revoked: &Revoked) -> HashSet<[u8; 32]> {
    let of_others = keys.tenants.iter().filter(|(_, tenant)| !revoked.hears_of(tenant));
    of_others.map(|(public, _)| *public).collect()
}
