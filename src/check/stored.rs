//! Verdicts by what the daemon holds: its store, its engine and what it remembers.

use std::cell::Cell;
use std::time::Instant;

use super::opened::open_any;
use super::{Judged, Names, Terms, judge, recycled, revise_by, settle_by};
use crate::passport::{Text, View};
use crate::state::{Kept, Store};
use crate::verify::{Budget, Item, Keyring, Verdicts, Verifier};
use crate::wire::{Code, Introspection, Passport, Verdict};

/// What signatures are verified with.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "as Store")]
pub struct Means<'a> {
    /// The keys that verify.
    pub keyring: &'a Keyring,
    /// How they do.
    pub verifier: &'a Verifier,
    /// How many refusals may be confirmed for this peer.
    pub confirmations: &'a Budget,
    /// What was found authentic a moment ago, and the present.
    pub remembered: Remembered<'a>,
    /// What is revoked.
    pub state: &'a Store,
}

/// None, if nothing is remembered.
pub type Remembered<'a> = Option<(&'a Verdicts, Instant)>;

/// What became of several passports.
#[derive(Debug)]
pub struct Checked {
    /// One per passport, in order.
    pub verdicts: Vec<Verdict>,
    /// How many signatures were remembered as authentic.
    pub hits: usize,
}

thread_local! {
    // What the last batch of this thread was in, empty: a batch of the same size needs no memory of its own.
    static JUDGED: Cell<Vec<Judged<'static, 'static>>> = const { Cell::new(Vec::new()) };
}

/// [`settle_by`] the engine. `may_confirm` is that of [`Verifier::verify_many`]. Returns how many signatures were remembered.
pub fn settle<'j, 'a: 'j, 'k: 'j>(
    judged: impl Iterator<Item = &'j Judged<'a, 'k>> + Clone,
    verifier: &Verifier,
    remembered: Remembered<'_>,
    may_confirm: impl FnMut() -> bool,
    verdicts: &mut Vec<Verdict>,
) -> usize {
    let mut hits = 0;
    let verify = |items: &[Item<'_>], authentic: &mut Vec<bool>| match remembered {
        Some((known, now)) => hits = known.verify_many(verifier, now, items, authentic, may_confirm),
        None => verifier.verify_many(items, authentic, may_confirm),
    };
    settle_by(judged, verify, verdicts);
    hits
}

/// Refuses what has been revoked since the state was at `revision`: to be called when all else is done, and before a verdict
/// leaves. Costs one comparison if nothing has.
pub fn revise<'p, 'a: 'p>(
    passports: impl Iterator<Item = &'p Passport<'a>>,
    verdicts: &mut [Verdict],
    state: &Store,
    revision: u64,
) {
    if state.revision() == revision {
        return;
    }
    // Held until the verdicts are as they are now, so that whoever revokes after this comes after them.
    let kept = state.kept();
    revise_by(passports, verdicts, &kept);
}

/// One verdict per passport, in order, each as if it were alone. Costs one strict verification for each whose claims
/// hold and whose signature is not remembered.
pub fn check(passports: &[Passport<'_>], means: Means<'_>, terms: &Terms<'_>) -> Checked {
    let mut verdicts = Vec::with_capacity(passports.len());
    let hits = check_more(passports, means, terms, &mut verdicts);
    Checked { verdicts, hits }
}

/// [`check`] for a part of a batch, whose other verdicts are in `verdicts` already. Returns how many signatures of this
/// part were remembered.
pub fn check_more(
    passports: &[Passport<'_>],
    means: Means<'_>,
    terms: &Terms<'_>,
    verdicts: &mut Vec<Verdict>,
) -> usize {
    let Means { keyring, verifier, confirmations, remembered, state } = means;
    let mut judged = recycled(JUDGED.take());
    {
        let kept = state.kept();
        judged.extend(passports.iter().map(|passport| judge(passport, keyring, terms, &kept)));
    }
    let hits = settle(judged.iter(), verifier, remembered, || confirmations.take(), verdicts);
    JUDGED.set(recycled(judged));
    hits
}

/// Why a passport would not be accepted without a proof, by what was accepted before.
fn spent(view: &View<'_>, tenant: &str, kept: &Kept) -> Option<Code> {
    let replayed = |nonce: Text<'_>| kept.nonce_is_spent(tenant, &nonce.decode());
    let used_up = |limit: u64| kept.used(tenant, &view.jti.decode()) >= limit;
    match view {
        View { nonce: Some(nonce), .. } if replayed(*nonce) => Some(Code::Replayed),
        View { limit: Some(limit), .. } if used_up(*limit) => Some(Code::LimitExceeded),
        View { cnf_jkt: Some(_), .. } => Some(Code::PopRequired),
        _ => None,
    }
}

/// What [`check`] would say, by the reference, with the claims, which are shown only if the signature is authentic.
pub fn introspect(passport: &Passport<'_>, keyring: &Keyring, terms: &Terms<'_>, state: &Store) -> Introspection {
    let refused = |reason, claims| Introspection { active: false, reason: Some(reason), claims };
    let told = open_any(passport, keyring, terms.max_msg_bytes, |opened| {
        if !opened.key.verify(opened.message, opened.signature) {
            return Err(Code::VerifyFailed);
        }
        let claims = Some(opened.payload.to_vec());
        let kept = state.kept();
        Ok(match opened.judge(terms) {
            Ok(_) if Names::of(&opened.view, opened.kid).are_revoked(&kept) => refused(Code::Revoked, claims),
            Ok(_) if let Err(refusal) = opened.view.judge_presenter(terms.presenter) => refused(refusal.into(), claims),
            Ok(_) if let Some(code) = spent(&opened.view, opened.kid.tenant(), &kept) => refused(code, claims),
            Ok(_) => Introspection { active: true, reason: None, claims },
            Err(code) => refused(code, claims),
        })
    });
    told.unwrap_or_else(|code| refused(code, None))
}
