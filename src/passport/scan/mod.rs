//! The one-pass reader of payloads: from bytes to borrowed claims, without a tree and without allocation.
//!
//! It admits exactly the RFC 8785 canonical documents among those that hold integers within ±(2^53 − 1) and are nested
//! at most [`MAX_DEPTH`](super::bounds::MAX_DEPTH) levels deep. Whether bytes are their own canonical form is decided
//! while they are read, so there is never a second form to compare with, and a member can't stand twice.
//!
//! The members of a payload are a closed set: an unknown member, in the payload, in `cap` or in `cnf`, is refused. An
//! old verifier would otherwise overlook a restriction that a newer issuer put there. What services want to add
//! belongs into `ctx`. `aud` and `scopes` may be empty arrays; what an empty `aud` means is for
//! [`judge`](super::judge) to say.

mod cursor;
mod found;
mod text;

use std::fmt;

pub use text::{Text, Texts};

use super::{
    claims::{Cap, Claims},
    kid::{KidError, KidRef},
    parent::ParentView,
};
use cursor::{Cursor, Members};

/// Why bytes are not a payload, and where. The one who wrote the bytes is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}, at byte {at}")]
pub struct Refused {
    /// What is wrong.
    pub fault: Fault,
    /// The byte, counted from 0, at which it was noticed. 32 bits keep results in a register, and payloads are smaller.
    pub at: u32,
}

impl Refused {
    /// The refusal for what stands at a byte.
    fn new(fault: Fault, at: usize) -> Self {
        Self { fault, at: u32::try_from(at).unwrap_or(u32::MAX) }
    }
}

/// What is wrong with a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The bytes end too early.
    #[error("the document ends too early")]
    Truncated,
    /// Something follows the document.
    #[error("something follows the document")]
    Trailing,
    /// Not JSON, or white space.
    #[error("neither JSON nor free of white space")]
    Unexpected,
    /// A control character that is not escaped.
    #[error("a control character is not escaped")]
    ControlCharacter,
    /// An escape that is not the canonical one.
    #[error("an escape that canonical JSON does not use")]
    Escape,
    /// A number with a leading zero, or −0.
    #[error("a number that is not written canonically")]
    Number,
    /// A number with a fraction or an exponent.
    #[error("a number that is not an integer")]
    Float,
    /// An integer beyond ±(2^53 − 1).
    #[error("an integer beyond 9007199254740991")]
    NumberRange,
    /// Nested too deeply.
    #[error("nested deeper than {} levels", super::bounds::MAX_DEPTH)]
    TooDeep,
    /// Members that are not sorted.
    #[error("the members are not in canonical order")]
    MemberOrder,
    /// A member that stands twice.
    #[error("a member stands twice")]
    DuplicateMember,
    /// A member that payloads don't have.
    #[error("a member that passports don't have")]
    UnknownMember,
    /// A member that each payload must have is absent.
    #[error("`{0}` is missing")]
    Missing(Member),
    /// A member's value has the wrong type.
    #[error("`{0}` has the wrong type")]
    WrongType(Member),
    /// A member's value is empty, too long, too large, or holds control characters.
    #[error("`{0}` is out of bounds")]
    OutOfBounds(Member),
}

/// A member of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    /// `aud`
    Aud,
    /// `cap`
    Cap,
    /// `cap.action`
    CapAction,
    /// `cap.limit`
    CapLimit,
    /// `cap.template`
    CapTemplate,
    /// `cnf`
    Cnf,
    /// `cnf.jkt`
    CnfJkt,
    /// `cnf.uid`
    CnfUid,
    /// `ctx`
    Ctx,
    /// `epoch`
    Epoch,
    /// `exp`
    Exp,
    /// `iat`
    Iat,
    /// `iss`
    Iss,
    /// `jti`
    Jti,
    /// `kid`
    Kid,
    /// `nbf`
    Nbf,
    /// `nonce`
    Nonce,
    /// `par`
    Par,
    /// `par.iat`
    ParIat,
    /// `par.jti`
    ParJti,
    /// `par.kid`
    ParKid,
    /// `scopes`
    Scopes,
    /// `sub`
    Sub,
}

impl Member {
    /// Its name, with the path to it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aud => "aud",
            Self::Cap => "cap",
            Self::CapAction => "cap.action",
            Self::CapLimit => "cap.limit",
            Self::CapTemplate => "cap.template",
            Self::Cnf => "cnf",
            Self::CnfJkt => "cnf.jkt",
            Self::CnfUid => "cnf.uid",
            Self::Ctx => "ctx",
            Self::Epoch => "epoch",
            Self::Exp => "exp",
            Self::Iat => "iat",
            Self::Iss => "iss",
            Self::Jti => "jti",
            Self::Kid => "kid",
            Self::Nbf => "nbf",
            Self::Nonce => "nonce",
            Self::Par => "par",
            Self::ParIat => "par.iat",
            Self::ParJti => "par.jti",
            Self::ParKid => "par.kid",
            Self::Scopes => "scopes",
            Self::Sub => "sub",
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The claims of a payload, borrowed from its bytes; see [`Claims`] for what each means. Made by [`scan`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct View<'a> {
    /// Issuer.
    pub iss: Text<'a>,
    /// Subject.
    pub sub: Text<'a>,
    /// Audiences; may be empty.
    pub aud: Texts<'a>,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires, seconds since 1970.
    pub exp: i64,
    /// Not valid before, seconds since 1970.
    pub nbf: Option<i64>,
    /// The passport's id.
    pub jti: Text<'a>,
    /// Scopes; may be empty.
    pub scopes: Texts<'a>,
    /// A value to be accepted once.
    pub nonce: Option<Text<'a>>,
    /// The issuing service's own object, as its canonical JSON.
    pub ctx: Option<&'a str>,
    /// The key's name as it stands; [`KidRef::parse`] reads it.
    pub kid: &'a str,
    /// The tenant's epoch at issue.
    pub epoch: u64,
    /// The template that bounded the issue.
    pub template: Text<'a>,
    /// The one action that it is for.
    pub action: Option<Text<'a>>,
    /// How many times it may be accepted.
    pub limit: Option<u64>,
    /// The thumbprint of the holder's key.
    pub cnf_jkt: Option<&'a str>,
    /// The user who alone may present it.
    pub cnf_uid: Option<u32>,
    /// The passport that this one, a ticket, was made from.
    pub par: Option<ParentView<'a>>,
}

/// Reads a payload.
///
/// # Errors
/// Says what is wrong and at which byte; nothing of a payload that is refused can be used.
pub fn scan(payload: &[u8]) -> Result<View<'_>, Refused> {
    let mut cursor = Cursor::new(payload)?;
    let mut found = found::Found::default();
    let mut members = Members::open(&mut cursor, 1)?;
    while let Some(name) = members.next(&mut cursor)? {
        found.member(name, &mut cursor)?;
    }
    cursor.end()?;
    found.finish(payload.len())
}

/// Whether `document` is a JSON object in canonical form, within the bounds on integers and depth that payloads have.
///
/// # Errors
/// Says what is wrong and at which byte.
pub fn is_canonical(document: &[u8]) -> Result<(), Refused> {
    let mut cursor = Cursor::new(document)?;
    cursor.object(1)?;
    cursor.end()
}

impl View<'_> {
    /// Whether only the daemon may accept this passport: accepting it takes something, or it is bound to a user.
    pub const fn needs_daemon(&self) -> bool {
        self.takes() || self.cnf_uid.is_some()
    }

    /// Whether accepting it takes something: it is to be accepted a number of times, or once, as every ticket, or with a proof,
    /// and only the daemon can count, remember and ask.
    pub const fn takes(&self) -> bool {
        self.limit.is_some() || self.nonce.is_some() || self.cnf_jkt.is_some() || self.par.is_some()
    }

    /// The claims as an owned value, whose canonical bytes are the scanned ones.
    ///
    /// # Errors
    /// If `kid` is not a kid.
    pub fn to_claims(&self) -> Result<Claims, KidError> {
        let text = |text: Text<'_>| text.decode().into_owned();
        Ok(Claims {
            iss: text(self.iss),
            sub: text(self.sub),
            aud: self.aud.iter().map(text).collect(),
            iat: self.iat,
            exp: self.exp,
            nbf: self.nbf,
            jti: text(self.jti),
            scopes: self.scopes.iter().map(text).collect(),
            nonce: self.nonce.map(text),
            // Canonical JSON is JSON, and the scanner bounded its depth: this can't fail.
            ctx: self.ctx.and_then(|ctx| serde_json::from_str(ctx).ok()),
            kid: KidRef::parse(self.kid)?.to_kid(),
            epoch: self.epoch,
            cap: Cap { template: text(self.template), action: self.action.map(text), limit: self.limit },
            cnf_jkt: self.cnf_jkt.map(str::to_owned),
            cnf_uid: self.cnf_uid,
            par: self.par.map(ParentView::to_parent).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
