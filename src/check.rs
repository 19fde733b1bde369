//! Passport → verdict. Pure: keys, time and limits are arguments.
//!
//! The cheap comes before the dear: size, form, key, claims, and only then the signature. A batch is the same code with
//! more items, so that it can't answer differently.

use crate::passport::{Envelope, Expect, View};
use crate::verify::{Budget, Item, Keyring, PreparedKey, Verifier};
use crate::wire::{Accepted, Code, Introspection, Passport, Verdict};

/// What passports are held against.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The keys that verify.
    pub keyring: &'a Keyring,
    /// How signatures are verified.
    pub verifier: &'a Verifier,
    /// How many refusals may be confirmed for this peer.
    pub confirmations: &'a Budget,
    /// What the claims must say.
    pub expect: Expect<'a>,
    /// The largest `msg`, in bytes.
    pub max_msg_bytes: usize,
}

/// A passport whose form and key are known good; nothing is said of its signature yet.
struct Opened<'a, 'k> {
    view: View<'a>,
    key: &'k PreparedKey,
    message: &'a [u8],
    signature: [u8; 64],
}

impl Opened<'_, '_> {
    fn item(&self) -> Item<'_> {
        Item { key: self.key, message: self.message, signature: &self.signature }
    }

    fn judge(&self, terms: &Terms<'_>) -> Result<Accepted, Code> {
        self.view.judge(&terms.expect)?;
        if self.view.needs_daemon() {
            // Limits, nonces and proofs must be consumed to be accepted, and this release keeps no such state.
            return Err(Code::NeedsDaemon);
        }
        Ok(Accepted { exp: self.view.exp })
    }
}

fn open<'a, 'k>(passport: &Passport<'a>, terms: &Terms<'k>) -> Result<Opened<'a, 'k>, Code> {
    let Passport::Envelope { alg, kid, msg, sig } = *passport;
    if msg.len() > terms.max_msg_bytes {
        return Err(Code::TooLarge);
    }
    let opened = Envelope { alg, kid, msg, sig }.open()?;
    let key = terms.keyring.get(kid).ok_or(Code::UnknownKid)?;
    Ok(Opened { view: opened.view, key, message: msg, signature: *opened.sig })
}

/// One verdict per passport, in order, each as if it were alone. Costs one strict verification for each whose claims
/// hold.
pub fn check(passports: &[Passport<'_>], terms: &Terms<'_>) -> Vec<Verdict> {
    let judged: Vec<_> = passports
        .iter()
        .map(|passport| {
            let opened = open(passport, terms)?;
            let accepted = opened.judge(terms)?;
            Ok((opened, accepted))
        })
        .collect();
    let items: Vec<_> =
        judged.iter().filter_map(|one: &Result<_, Code>| one.as_ref().ok()).map(|(o, _)| o.item()).collect();
    let mut authentic = Vec::with_capacity(items.len());
    let now = terms.expect.now.unix();
    terms.verifier.verify_many(&items, &mut authentic, || terms.confirmations.take(now));
    let mut authentic = authentic.into_iter();
    judged
        .iter()
        .map(|one| match one {
            Err(code) => Verdict::Refused(*code),
            // One answer per item that was asked about; a missing one would be no acceptance either.
            Ok((_, accepted)) if authentic.next() == Some(true) => Verdict::Accepted(accepted.clone()),
            Ok(_) => Verdict::Refused(Code::VerifyFailed),
        })
        .collect()
}

/// What [`check`] would say, with the claims, which are shown only if the signature is authentic.
pub fn introspect(passport: &Passport<'_>, terms: &Terms<'_>) -> Introspection {
    let refused = |reason, claims| Introspection { active: false, reason: Some(reason), claims };
    let opened = match open(passport, terms) {
        Ok(opened) => opened,
        Err(code) => return refused(code, None),
    };
    if !opened.key.verify(opened.message, &opened.signature) {
        return refused(Code::VerifyFailed, None);
    }
    let claims = Some(opened.message.to_vec());
    match opened.judge(terms) {
        Ok(_) => Introspection { active: true, reason: None, claims },
        Err(code) => refused(code, claims),
    }
}
