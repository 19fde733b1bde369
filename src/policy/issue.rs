//! Whether a peer may have the passport that it wishes for, and on what terms.

use super::{
    decide::{Decision, Denial, DenyCode, Rights, quoted},
    operation::Operation,
    template::{Bind, Need, Template},
};
use crate::passport::Presenter;
use crate::wire::PassportForm;

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct IssueWish<'a> {
    /// The template to issue from.
    pub template: &'a str,
    /// The subject.
    pub sub: &'a str,
    /// The audiences; none to have the default.
    pub aud: &'a [&'a str],
    /// The scopes; none to have the template's default.
    pub scopes: &'a [&'a str],
    /// The action.
    pub action: Option<&'a str>,
    /// The lifetime in seconds; none to have the default. More than the bounds allow is cut to what they allow.
    pub ttl_s: Option<u64>,
    /// How many seconds after its issue the passport becomes valid.
    pub nbf_offset_s: Option<u64>,
    /// How often it may be accepted; none to have as often as the template allows.
    pub limit: Option<u32>,
    /// A value to be accepted once.
    pub nonce: Option<&'a str>,
    /// The thumbprint of the holder's key.
    pub jkt: Option<&'a str>,
    /// In which form.
    pub form: PassportForm,
    /// The user to whom it is bound.
    pub uid: Option<u32>,
}

/// The bounds that the configuration sets on every template.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// The issuer, which may be an audience where a template lists it.
    pub issuer: &'a str,
    /// The lifetime in seconds where neither wish nor template says one.
    pub default_ttl_s: u64,
    /// The longest lifetime in seconds.
    pub max_ttl_s: u64,
    /// Whether a passport must have an audience.
    pub require_aud: bool,
}

/// What the passport shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The template.
    pub template: String,
    /// The tenant whose key signs.
    pub tenant: String,
    /// The purpose of the key that signs.
    pub purpose: String,
    /// The subject.
    pub sub: String,
    /// The audiences.
    pub aud: Vec<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// The action.
    pub action: Option<String>,
    /// The lifetime in seconds: `exp` = `iat` + this.
    pub ttl_s: u64,
    /// `nbf` = `iat` + this.
    pub nbf_offset_s: Option<u64>,
    /// How often it may be accepted.
    pub limit: Option<u64>,
    /// A value to be accepted once.
    pub nonce: Option<String>,
    /// The thumbprint of the holder's key.
    pub jkt: Option<String>,
    /// The user to whom it is bound.
    pub uid: Option<u32>,
}

impl Rights {
    /// Whether the peer may have the passport that it wishes for, and on what terms.
    pub fn decide_issue(&self, wish: &IssueWish<'_>, bounds: &Bounds<'_>) -> Decision<Terms> {
        self.terms(wish, bounds).into()
    }

    /// The terms, as a result.
    fn terms(&self, wish: &IssueWish<'_>, bounds: &Bounds<'_>) -> Result<Terms, Denial> {
        self.allowed(Operation::Issue)?;
        let template = self.template(wish.template)?;
        self.check_subject(template, wish.sub)?;
        check_form(template, wish.form)?;
        let ttl_s = ttl(template, wish, bounds)?;
        Ok(Terms {
            template: template.name.clone(),
            tenant: template.tenant.clone(),
            purpose: template.purpose.clone(),
            sub: wish.sub.to_owned(),
            aud: audiences(template, wish, bounds)?,
            scopes: scopes(template, wish)?,
            action: action(template, wish)?,
            ttl_s,
            nbf_offset_s: wish.nbf_offset_s,
            limit: limit(template, wish)?,
            nonce: needed(template, "nonce", template.nonce, wish.nonce)?,
            jkt: needed(template, "proof", template.proof, wish.jkt)?,
            uid: self.bound_to(template, wish.uid)?,
        })
    }

    /// The user to whom the passport is bound: the one wished for, else the peer's own.
    fn bound_to(&self, template: &Template, wish: Option<u32>) -> Result<Option<u32>, Denial> {
        let (name, file) = (&template.name, &template.file);
        match (template.bind, wish) {
            (Bind::None, None) => Ok(None),
            (Bind::None, Some(uid)) => {
                let rule = format!("`bind` of template {name:?} ({file}) is not \"peer\", and uid {uid} was asked for");
                Err(Denial { code: DenyCode::ScopeDenied, rule })
            }
            (Bind::Peer, Some(nobody)) if self.presenter(wish) == Presenter::Nobody => {
                let rule =
                    format!("all strangers share uid {nobody}, so no passport is bound to it (template {name:?})");
                Err(Denial { code: DenyCode::ScopeDenied, rule })
            }
            (Bind::Peer, wish) => Ok(Some(wish.unwrap_or_else(|| self.uid()))),
        }
    }

    /// Whether the template allows the peer to speak of the subject.
    fn check_subject(&self, template: &Template, sub: &str) -> Result<(), Denial> {
        let fits = |user| template.subjects.iter().any(|pattern| pattern.matches(sub, user));
        if fits(None) || self.users().any(|user| fits(Some(user))) {
            Ok(())
        } else {
            Err(outside(template, DenyCode::ScopeDenied, "subjects", sub))
        }
    }
}

/// The denial of a value that the template's list `key` does not hold.
pub(super) fn outside(template: &Template, code: DenyCode, key: &str, value: &str) -> Denial {
    let (name, file, value) = (&template.name, &template.file, quoted(value));
    Denial { code, rule: format!("`{key}` of template {name:?} ({file}) does not hold {value}") }
}

/// Whether the template has this form.
pub(super) fn check_form(template: &Template, form: PassportForm) -> Result<(), Denial> {
    if template.forms.contains(&form) {
        return Ok(());
    }
    Err(outside(template, DenyCode::ScopeDenied, "forms", form.name()))
}

/// The audiences: those wished for, else the template's only one, else the issuer if the template lists it. A passport
/// without an audience is for everybody, so only a template that lists none may give one, and only where no audience
/// is demanded.
fn audiences(template: &Template, wish: &IssueWish<'_>, bounds: &Bounds<'_>) -> Result<Vec<String>, Denial> {
    let allowed = &template.audiences;
    if let Some(wrong) = wish.aud.iter().find(|aud| !allowed.iter().any(|allowed| allowed == *aud)) {
        return Err(outside(template, DenyCode::BadAud, "audiences", wrong));
    }
    match allowed.as_slice() {
        _ if !wish.aud.is_empty() => Ok(wish.aud.iter().map(ToString::to_string).collect()),
        [only] => Ok(vec![only.clone()]),
        several if several.iter().any(|aud| aud == bounds.issuer) => Ok(vec![bounds.issuer.to_owned()]),
        [] if !bounds.require_aud => Ok(Vec::new()),
        _ => Err(Denial {
            code: DenyCode::BadAud,
            rule: format!(
                "the request names no audience, and `audiences` of template {:?} ({}) neither holds exactly one nor the \
                 issuer {:?}",
                template.name, template.file, bounds.issuer
            ),
        }),
    }
}

/// The scopes: those wished for, else the template's default.
fn scopes(template: &Template, wish: &IssueWish<'_>) -> Result<Vec<String>, Denial> {
    if let Some(wrong) = wish.scopes.iter().find(|scope| !template.scopes.iter().any(|allowed| allowed == *scope)) {
        return Err(outside(template, DenyCode::ScopeDenied, "scopes", wrong));
    }
    if wish.scopes.is_empty() {
        return Ok(template.default_scopes.clone());
    }
    Ok(wish.scopes.iter().map(ToString::to_string).collect())
}

/// The action.
fn action(template: &Template, wish: &IssueWish<'_>) -> Result<Option<String>, Denial> {
    match wish.action {
        Some(wrong) if !template.actions.iter().any(|action| action == wrong) => {
            Err(outside(template, DenyCode::ScopeDenied, "actions", wrong))
        }
        action => Ok(action.map(str::to_owned)),
    }
}

/// The limit: the one wished for, which is no more than the template's; else the template's.
fn limit(template: &Template, wish: &IssueWish<'_>) -> Result<Option<u64>, Denial> {
    match (wish.limit, template.limit) {
        (Some(wished), allowed) if wished == 0 || allowed.is_none_or(|allowed| wished > allowed) => {
            let (name, file) = (&template.name, &template.file);
            let allows = allowed.map_or_else(|| "there is no `limit`".to_owned(), |most| format!("`limit` is {most}"));
            let rule = format!("{allows} in template {name:?} ({file}), and {wished} was asked for");
            Err(Denial { code: DenyCode::ScopeDenied, rule })
        }
        (wished, allowed) => Ok(wished.or(allowed).map(u64::from)),
    }
}

/// What the template forbids, leaves open or demands.
fn needed(template: &Template, key: &str, need: Need, wish: Option<&str>) -> Result<Option<String>, Denial> {
    let (name, file) = (&template.name, &template.file);
    match (need, wish) {
        (Need::None, Some(_)) => {
            let rule = format!("`{key}` of template {name:?} ({file}) is \"none\", and one was asked for");
            Err(Denial { code: DenyCode::ScopeDenied, rule })
        }
        (Need::Required, None) => {
            let rule = format!("`{key}` of template {name:?} ({file}) is \"required\", and none was asked for");
            Err(Denial { code: DenyCode::Lacking, rule })
        }
        (_, wish) => Ok(wish.map(str::to_owned)),
    }
}

/// The lifetime, cut to what template and configuration allow; validity must begin before it ends.
fn ttl(template: &Template, wish: &IssueWish<'_>, bounds: &Bounds<'_>) -> Result<u64, Denial> {
    let wished = wish.ttl_s.or(template.default_ttl_s).unwrap_or(bounds.default_ttl_s);
    let ttl = wished.min(template.max_ttl_s).min(bounds.max_ttl_s);
    let offset = wish.nbf_offset_s.unwrap_or(0);
    if ttl > offset {
        return Ok(ttl);
    }
    let rule = format!("a lifetime of {ttl} s that begins after {offset} s is empty (template {:?})", template.name);
    Err(Denial { code: DenyCode::Malformed, rule })
}
