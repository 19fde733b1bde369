//! What the scanner has found of a payload so far.

use super::{
    super::bounds::{
        MAX_ACTION, MAX_AUD, MAX_AUD_LEN, MAX_ISS, MAX_JTI, MAX_NONCE, MAX_SCOPE_LEN, MAX_SCOPES, MAX_SUB,
        MAX_TEMPLATE, NO_UID, is_thumbprint,
    },
    super::kid::KidRef,
    super::parent::ParentView,
    Fault, Member, Refused, Text, Texts, View,
    cursor::{Cursor, Elements, Members},
};

/// The members that were read; those that must be there are options until the end.
#[derive(Default)]
pub(super) struct Found<'a> {
    iss: Option<Text<'a>>,
    sub: Option<Text<'a>>,
    aud: Option<Texts<'a>>,
    iat: Option<u64>,
    exp: Option<u64>,
    nbf: Option<u64>,
    jti: Option<Text<'a>>,
    scopes: Option<Texts<'a>>,
    nonce: Option<Text<'a>>,
    ctx: Option<&'a str>,
    kid: Option<&'a str>,
    epoch: Option<u64>,
    template: Option<Text<'a>>,
    action: Option<Text<'a>>,
    limit: Option<u64>,
    cnf_jkt: Option<&'a str>,
    cnf_uid: Option<u32>,
    par: Option<ParentView<'a>>,
}

impl<'a> Found<'a> {
    /// Reads the value of the payload's member `name`, at which the cursor stands.
    pub(super) fn member(&mut self, name: Text<'a>, cursor: &mut Cursor<'a>) -> Result<(), Refused> {
        match name.plain() {
            Some("aud") => self.aud = Some(texts(cursor, Member::Aud, MAX_AUD, MAX_AUD_LEN)?),
            Some("cap") => self.cap(cursor)?,
            Some("cnf") => self.cnf(cursor)?,
            Some("ctx") => self.ctx = Some(object(cursor, Member::Ctx)?),
            Some("epoch") => self.epoch = Some(number(cursor, Member::Epoch, 0)?),
            Some("exp") => self.exp = Some(number(cursor, Member::Exp, 0)?),
            Some("iat") => self.iat = Some(number(cursor, Member::Iat, 0)?),
            Some("iss") => self.iss = Some(text(cursor, Member::Iss, MAX_ISS)?),
            Some("jti") => self.jti = Some(text(cursor, Member::Jti, MAX_JTI)?),
            Some("kid") => self.kid = Some(plain(cursor, Member::Kid)?),
            Some("nbf") => self.nbf = Some(number(cursor, Member::Nbf, 0)?),
            Some("nonce") => self.nonce = Some(text(cursor, Member::Nonce, MAX_NONCE)?),
            Some("par") => self.par = Some(parent(cursor)?),
            Some("scopes") => self.scopes = Some(texts(cursor, Member::Scopes, MAX_SCOPES, MAX_SCOPE_LEN)?),
            Some("sub") => self.sub = Some(text(cursor, Member::Sub, MAX_SUB)?),
            _ => return cursor.refuse(Fault::UnknownMember),
        }
        Ok(())
    }

    /// Reads `cap`.
    fn cap(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Refused> {
        must_start(cursor, b'{', Member::Cap)?;
        let mut members = Members::open(cursor, 2)?;
        while let Some(name) = members.next(cursor)? {
            match name.plain() {
                Some("action") => self.action = Some(text(cursor, Member::CapAction, MAX_ACTION)?),
                Some("limit") => self.limit = Some(number(cursor, Member::CapLimit, 1)?),
                Some("template") => self.template = Some(text(cursor, Member::CapTemplate, MAX_TEMPLATE)?),
                _ => return cursor.refuse(Fault::UnknownMember),
            }
        }
        Ok(())
    }

    /// Reads `cnf`, which without `jkt` and `uid` would confirm nothing.
    fn cnf(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Refused> {
        must_start(cursor, b'{', Member::Cnf)?;
        let mut members = Members::open(cursor, 2)?;
        while let Some(name) = members.next(cursor)? {
            let at = cursor.at();
            match name.plain() {
                Some("jkt") => {
                    let jkt = plain(cursor, Member::CnfJkt)?;
                    if !is_thumbprint(jkt) {
                        return Err(Refused::new(Fault::OutOfBounds(Member::CnfJkt), at));
                    }
                    self.cnf_jkt = Some(jkt);
                }
                Some("uid") => {
                    let uid = u32::try_from(number(cursor, Member::CnfUid, 0)?).ok().filter(|uid| *uid != NO_UID);
                    self.cnf_uid = Some(uid.ok_or(Refused::new(Fault::OutOfBounds(Member::CnfUid), at))?);
                }
                _ => return cursor.refuse(Fault::UnknownMember),
            }
        }
        let nothing = self.cnf_jkt.is_none() && self.cnf_uid.is_none();
        if nothing { cursor.refuse(Fault::Missing(Member::Cnf)) } else { Ok(()) }
    }

    /// The claims, if all that must be there are; `at` is the end of the payload.
    pub(super) fn finish(self, at: usize) -> Result<View<'a>, Refused> {
        let missing = |member| Refused::new(Fault::Missing(member), at);
        Ok(View {
            iss: self.iss.ok_or_else(|| missing(Member::Iss))?,
            sub: self.sub.ok_or_else(|| missing(Member::Sub))?,
            aud: self.aud.ok_or_else(|| missing(Member::Aud))?,
            iat: seconds(self.iat.ok_or_else(|| missing(Member::Iat))?),
            exp: seconds(self.exp.ok_or_else(|| missing(Member::Exp))?),
            nbf: self.nbf.map(seconds),
            jti: self.jti.ok_or_else(|| missing(Member::Jti))?,
            scopes: self.scopes.ok_or_else(|| missing(Member::Scopes))?,
            nonce: self.nonce,
            ctx: self.ctx,
            kid: self.kid.ok_or_else(|| missing(Member::Kid))?,
            epoch: self.epoch.ok_or_else(|| missing(Member::Epoch))?,
            template: self.template.ok_or_else(|| missing(Member::CapTemplate))?,
            action: self.action,
            limit: self.limit,
            cnf_jkt: self.cnf_jkt,
            cnf_uid: self.cnf_uid,
            par: self.par,
        })
    }
}

/// Reads `par`, of which nothing may be missing.
fn parent<'a>(cursor: &mut Cursor<'a>) -> Result<ParentView<'a>, Refused> {
    must_start(cursor, b'{', Member::Par)?;
    let (mut iat, mut jti, mut kid) = (None, None, None);
    let mut members = Members::open(cursor, 2)?;
    while let Some(name) = members.next(cursor)? {
        let at = cursor.at();
        match name.plain() {
            Some("iat") => iat = Some(seconds(number(cursor, Member::ParIat, 0)?)),
            Some("jti") => jti = Some(text(cursor, Member::ParJti, MAX_JTI)?),
            Some("kid") => {
                let text = plain(cursor, Member::ParKid)?;
                KidRef::parse(text).map_err(|_| Refused::new(Fault::OutOfBounds(Member::ParKid), at))?;
                kid = Some(text);
            }
            _ => return cursor.refuse(Fault::UnknownMember),
        }
    }
    match (iat, jti, kid) {
        (Some(iat), Some(jti), Some(kid)) => Ok(ParentView { iat, jti, kid }),
        (None, ..) => cursor.refuse(Fault::Missing(Member::ParIat)),
        (_, None, _) => cursor.refuse(Fault::Missing(Member::ParJti)),
        (.., None) => cursor.refuse(Fault::Missing(Member::ParKid)),
    }
}

/// A number that was read, and is therefore at most 2^53 − 1, as a `NumericDate`.
const fn seconds(number: u64) -> i64 {
    number.cast_signed()
}

/// Makes sure that the value at the cursor starts with `byte`, which tells its type.
fn must_start(cursor: &Cursor<'_>, byte: u8, member: Member) -> Result<(), Refused> {
    match cursor.peek() {
        Some(found) if found == byte => Ok(()),
        Some(b'"' | b'{' | b'[' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => cursor.refuse(Fault::WrongType(member)),
        Some(_) => cursor.refuse(Fault::Unexpected),
        None => cursor.refuse(Fault::Truncated),
    }
}

/// Reads an identifier.
fn text<'a>(cursor: &mut Cursor<'a>, member: Member, max: usize) -> Result<Text<'a>, Refused> {
    must_start(cursor, b'"', member)?;
    let at = cursor.at();
    let text = cursor.string()?;
    if text.is_identifier(max) { Ok(text) } else { Err(Refused::new(Fault::OutOfBounds(member), at)) }
}

/// Reads a string whose alphabet needs no escapes.
fn plain<'a>(cursor: &mut Cursor<'a>, member: Member) -> Result<&'a str, Refused> {
    must_start(cursor, b'"', member)?;
    let at = cursor.at();
    cursor.string()?.plain().ok_or(Refused::new(Fault::OutOfBounds(member), at))
}

/// Reads an array of identifiers.
fn texts<'a>(cursor: &mut Cursor<'a>, member: Member, most: usize, max: usize) -> Result<Texts<'a>, Refused> {
    must_start(cursor, b'[', member)?;
    let mut elements = Elements::open(cursor, 2)?;
    let (start, mut count, mut end) = (cursor.at(), 0, cursor.at());
    while elements.next(cursor)? {
        if count == most {
            return cursor.refuse(Fault::OutOfBounds(member));
        }
        text(cursor, member, max)?;
        count += 1;
        end = cursor.at();
    }
    Ok(Texts::new(cursor.between(start, end), count))
}

/// Reads an integer from `min` to 2^53 − 1.
fn number(cursor: &mut Cursor<'_>, member: Member, min: u64) -> Result<u64, Refused> {
    if !matches!(cursor.peek(), Some(b'-' | b'0'..=b'9')) {
        must_start(cursor, b'0', member)?;
    }
    let at = cursor.at();
    let out_of_bounds = Refused::new(Fault::OutOfBounds(member), at);
    u64::try_from(cursor.integer()?).ok().filter(|number| *number >= min).ok_or(out_of_bounds)
}

/// Reads an object and hands back its bytes.
fn object<'a>(cursor: &mut Cursor<'a>, member: Member) -> Result<&'a str, Refused> {
    must_start(cursor, b'{', member)?;
    let start = cursor.at();
    cursor.object(2)?;
    Ok(cursor.between(start, cursor.at()))
}
