//! Passport → verdict. Pure: keys, time, limits and state are arguments.
//!
//! The cheap comes before the dear: size, form, key, claims, revocation, and only then the signature. A batch is the same code
//! with more items, so that it can't answer differently.
//!
//! What was revoked while signatures were verified is refused all the same: an acceptance is given only if nothing that
//! could make it a refusal has come since (`Store::revision`); else revocation is looked at once more ([`revise_by`]).

use std::borrow::Cow;
use std::cell::Cell;
use std::ops::Deref;

mod opened;
#[cfg(feature = "daemon")]
mod stored;
#[cfg(feature = "daemon")]
mod taking;
#[cfg(feature = "daemon")]
pub use stored::{Checked, Means, Remembered, check, check_more, introspect, revise, settle};
#[cfg(feature = "daemon")]
pub use taking::{For, POP_SKEW_S, POP_WINDOW_S, Taking, claims_of, is_ticket, prove};

use crate::passport::{Envelope, Expect, Jws, KidRef, Presenter, Text, View};
use crate::state::{Kept, Named, NamedParent};
use crate::verify::{Item, Keyring, PreparedKey};
use crate::wire::{Accepted, Code, Passport, Verdict};
use opened::{Opened, open, open_any, open_jws, reread};

/// What passports are held against.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What the claims must say.
    pub expect: Expect<'a>,
    /// The largest `msg`, in bytes.
    pub max_msg_bytes: usize,
    /// Who presented them.
    pub presenter: Presenter,
}

/// A passport that is accepted if its signature is authentic.
#[derive(Debug)]
pub struct Candidate<'a, 'k> {
    key: &'k PreparedKey,
    message: &'a [u8],
    signature: Signature<'a>,
    accepted: Accepted,
    /// To accept it takes a use, a nonce or a proof.
    takes: bool,
    /// It is for whoever has a key.
    bound: bool,
}

/// A signature where it came, or, out of the base64url of a JWS, in memory of its own. The message of a JWS is its text, so
/// the signature is all that must be kept of what was decoded.
#[derive(Debug)]
enum Signature<'a> {
    Lent(&'a [u8; 64]),
    Decoded(Box<[u8; 64]>),
}

impl Deref for Signature<'_> {
    type Target = [u8; 64];

    fn deref(&self) -> &[u8; 64] {
        match self {
            Self::Lent(signature) => signature,
            Self::Decoded(signature) => signature,
        }
    }
}

impl Candidate<'_, '_> {
    /// Whether accepting it takes a use, a nonce or a proof.
    pub const fn takes(&self) -> bool {
        self.takes
    }

    /// The key that it is to be verified with.
    pub const fn key(&self) -> &PreparedKey {
        self.key
    }

    /// The same, which only the daemon may accept.
    #[must_use]
    pub const fn left_to_the_daemon(mut self) -> Self {
        self.takes = true;
        self
    }

    /// Whether it is for whoever has a key, which must be proven.
    pub const fn is_bound(&self) -> bool {
        self.bound
    }
}

/// What a passport may be revoked by.
#[derive(Debug)]
struct Names<'a> {
    kid: &'a str,
    tenant: &'a str,
    jti: Cow<'a, str>,
    sub: Cow<'a, str>,
    iat: i64,
    epoch: u64,
    par: Option<(&'a str, Cow<'a, str>, i64)>,
}

impl<'a> Names<'a> {
    fn of(view: &View<'a>, kid: KidRef<'a>) -> Self {
        let (jti, sub) = (view.jti.decode(), view.sub.decode());
        let par = view.par.map(|par| (par.kid, par.jti.decode(), par.iat));
        Self { kid: view.kid, tenant: kid.tenant(), jti, sub, iat: view.iat, epoch: view.epoch, par }
    }

    fn are_revoked(&self, kept: &Kept) -> bool {
        let Self { kid, tenant, jti, sub, iat, epoch, par } = self;
        let par = par.as_ref().map(|(kid, jti, iat)| NamedParent { kid, jti, iat: *iat });
        kept.is_revoked(&Named { kid, tenant, jti, sub, iat: *iat, epoch: *epoch, par })
    }
}

/// All that can be said of a passport without its signature.
pub type Judged<'a, 'k> = Result<Candidate<'a, 'k>, Code>;

thread_local! {
    // What the last batch of this thread was in, empty: a batch of the same size needs no memory of its own.
    static ITEMS: Cell<Vec<Item<'static>>> = const { Cell::new(Vec::new()) };
    static AUTHENTIC: Cell<Vec<bool>> = const { Cell::new(Vec::new()) };
}

/// The memory of `used`, empty, for values that live differently. Collecting from a vector's own iterator keeps its memory
/// where the types are of one size; that it does is asserted in `server::allocation_tests`.
pub fn recycled<T, U>(used: Vec<T>) -> Vec<U> {
    used.into_iter().filter_map(|_| None).collect()
}

impl<'k> Opened<'_, 'k> {
    fn candidate<'a>(
        &self,
        terms: &Terms<'_>,
        kept: &Kept,
        message: &'a [u8],
        signature: Signature<'a>,
    ) -> Judged<'a, 'k> {
        let accepted = self.judge(terms)?;
        let Self { view, kid, key, .. } = self;
        if Names::of(view, *kid).are_revoked(kept) {
            return Err(Code::Revoked);
        }
        view.judge_presenter(terms.presenter)?;
        let (takes, bound) = (view.takes(), view.cnf_jkt.is_some());
        Ok(Candidate { key, message, signature, accepted, takes, bound })
    }

    fn judge(&self, terms: &Terms<'_>) -> Result<Accepted, Code> {
        self.view.judge(&terms.expect)?;
        Ok(Accepted { exp: self.view.exp })
    }
}

/// The cheap part of a verdict on a passport that comes without a proof: size, form, key, claims and revocation.
pub fn judge<'a, 'k>(passport: &Passport<'a>, keyring: &'k Keyring, terms: &Terms<'_>, kept: &Kept) -> Judged<'a, 'k> {
    let candidate = judge_unproven(passport, keyring, terms, kept)?;
    if candidate.bound { Err(Code::PopRequired) } else { Ok(candidate) }
}

/// The same, where a proof is looked at later.
pub fn judge_unproven<'a, 'k>(
    passport: &Passport<'a>,
    keyring: &'k Keyring,
    terms: &Terms<'_>,
    kept: &Kept,
) -> Judged<'a, 'k> {
    let max = terms.max_msg_bytes;
    match *passport {
        Passport::Envelope { alg, kid, msg, sig } => {
            let opened = open(&Envelope { alg, kid, msg, sig }, keyring, max)?;
            opened.candidate(terms, kept, msg, Signature::Lent(opened.signature))
        }
        Passport::Jws { text } => {
            // Of the text itself, which stays where it is; all else is decoded for as long as it is judged.
            let message = Jws::parse(text).map_or(text, |jws| jws.input()).as_bytes();
            open_jws(text, keyring, max, |opened| {
                opened.candidate(terms, kept, message, Signature::Decoded(Box::new(*opened.signature)))
            })
        }
    }
}

/// The dear part: the signatures of all that were not refused, together, by whatever `verify` does, which fills in one answer
/// per item. `verdicts` gets one entry more per passport, in order, each as if it were alone. An authentic one that takes
/// something is [`Code::NeedsDaemon`] until that is taken.
pub fn settle_by<'j, 'a: 'j, 'k: 'j>(
    judged: impl Iterator<Item = &'j Judged<'a, 'k>> + Clone,
    verify: impl FnOnce(&[Item<'_>], &mut Vec<bool>),
    verdicts: &mut Vec<Verdict>,
) {
    let mut items: Vec<Item<'j>> = recycled(ITEMS.take());
    let asked = judged.clone().filter_map(|one| one.as_ref().ok());
    items.extend(asked.map(|Candidate { key, message, signature, .. }| Item { key, message, signature }));
    let mut authentic = AUTHENTIC.take();
    verify(&items, &mut authentic);
    let mut answers = authentic.iter();
    verdicts.extend(judged.map(|one| match one {
        Err(code) => Verdict::Refused(*code),
        // One answer per item that was asked about; a missing one would be no acceptance either. What takes something is
        // accepted only once that is taken: by whoever asked.
        Ok(candidate) => match answers.next() {
            Some(true) if candidate.takes => Verdict::Refused(Code::NeedsDaemon),
            Some(true) => Verdict::Accepted(candidate.accepted.clone()),
            _ => Verdict::Refused(Code::VerifyFailed),
        },
    }));
    ITEMS.set(recycled(items));
    AUTHENTIC.set(authentic);
}

/// Refuses what is revoked by now.
pub fn revise_by<'p, 'a: 'p>(passports: impl Iterator<Item = &'p Passport<'a>>, verdicts: &mut [Verdict], kept: &Kept) {
    for (passport, verdict) in passports.zip(verdicts) {
        let revoked = || reread(passport, |view, kid| Names::of(view, kid).are_revoked(kept)).unwrap_or(true);
        if verdict.is_accepted() && revoked() {
            *verdict = Verdict::Refused(Code::Revoked);
        }
    }
}

/// What an authentic passport says of itself, whether or not it would be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub jti: String,
    /// Its subject.
    pub sub: String,
    /// The template that it was issued from.
    pub template: String,
    /// When it expires.
    pub exp: i64,
}

/// Reads a passport of this issuer, if its signature verifies by the reference.
///
/// # Errors
/// The code of what is wrong with it.
pub fn authentic(
    passport: &Passport<'_>,
    keyring: &Keyring,
    issuer: &str,
    max_msg_bytes: usize,
) -> Result<Claimed, Code> {
    open_any(passport, keyring, max_msg_bytes, |opened| {
        let View { jti, sub, template, exp, iss, .. } = opened.view;
        if iss != *issuer {
            return Err(Code::UnknownKid);
        }
        if !opened.key.verify(opened.message, opened.signature) {
            return Err(Code::VerifyFailed);
        }
        let text = |text: Text<'_>| text.decode().into_owned();
        let tenant = opened.kid.tenant().to_owned();
        Ok(Claimed { tenant, jti: text(jti), sub: text(sub), template: text(template), exp })
    })
}

#[cfg(feature = "daemon")]
#[cfg(test)]
mod claims_tests;
#[cfg(feature = "daemon")]
#[cfg(test)]
mod tests;
