//! From a `[[template]]` table to a template: bounds kept, and nothing taken that can't be held.

use std::{collections::BTreeMap, sync::Arc};

use toml::Spanned;

use super::{
    error::PolicyError,
    file::{Strings, TemplateTable},
    source::Source,
    template::{Bind, Need, Pattern, Template},
};
use crate::passport::{bounds, kid};
use crate::wire::PassportForm;

/// The longest lifetime that a template may allow: 366 days, in seconds.
const MAX_TTL_S: u64 = 366 * 86_400;

/// Checks a `[[template]]`.
pub(super) fn template(
    source: &Source<'_>,
    table: &TemplateTable,
    seen: &mut BTreeMap<String, Arc<str>>,
) -> Result<Template, PolicyError> {
    let name = source.unique(&table.name, seen)?;
    for (text, fits, error) in [
        (&table.tenant, kid::is_tenant(table.tenant.get_ref()), kid::KidError::Tenant),
        (&table.purpose, kid::is_purpose(table.purpose.get_ref()), kid::KidError::Purpose),
    ] {
        if !fits {
            return Err(source.wrong(&text.span(), error.to_string()));
        }
    }
    let (max_ttl_s, default_ttl_s) = lifetimes(source, table)?;
    let scopes = source.strings(&table.scopes, bounds::MAX_SCOPE_LEN)?;
    if let Some(more) = table.default_scopes.iter().find(|scope| !scopes.contains(scope.get_ref())) {
        return Err(source.wrong(&more.span(), "a default scope must be one of `scopes`"));
    }
    if let Some(first) = table.default_scopes.get(bounds::MAX_SCOPES) {
        return Err(source.wrong(&first.span(), format!("a passport has at most {} scopes", bounds::MAX_SCOPES)));
    }
    let (limit, nonce) = (limit(source, table.limit.as_ref())?, need(source, table.nonce.as_ref())?);
    let (proof, bind) = (need(source, table.proof.as_ref())?, bind(source, table.bind.as_ref())?);
    let needs_daemon = limit.is_some() || nonce != Need::None || proof != Need::None || bind != Bind::None;
    Ok(Template {
        name,
        file: Arc::clone(&source.name),
        tenant: table.tenant.get_ref().clone(),
        purpose: table.purpose.get_ref().clone(),
        subjects: subjects(source, &table.subjects)?,
        audiences: source.strings(&table.audiences, bounds::MAX_AUD_LEN)?,
        default_scopes: source.strings(&table.default_scopes, bounds::MAX_SCOPE_LEN)?,
        scopes,
        actions: source.strings(&table.actions, bounds::MAX_ACTION)?,
        max_ttl_s,
        default_ttl_s,
        forms: forms(source, table, needs_daemon)?,
        limit,
        nonce,
        proof,
        bind,
        offline_risk: table.offline_risk == Some(true),
    })
}

fn limit(source: &Source<'_>, limit: Option<&Spanned<u32>>) -> Result<Option<u32>, PolicyError> {
    if let Some(zero) = limit.filter(|limit| *limit.get_ref() == 0) {
        return Err(source.wrong(&zero.span(), "`limit` must be at least 1; without it passports have no limit"));
    }
    Ok(limit.map(|limit| *limit.get_ref()))
}

/// Whether passports have a nonce, or a key that must be proven.
fn need(source: &Source<'_>, need: Option<&Spanned<String>>) -> Result<Need, PolicyError> {
    need.map_or(Ok(Need::None), |text| {
        let wrong = || source.wrong(&text.span(), "this must be \"none\", \"optional\" or \"required\"");
        Need::by_name(text.get_ref()).ok_or_else(wrong)
    })
}

/// To whom passports are bound.
fn bind(source: &Source<'_>, bind: Option<&Spanned<String>>) -> Result<Bind, PolicyError> {
    bind.map_or(Ok(Bind::None), |text| {
        let wrong = || source.wrong(&text.span(), "this must be \"none\" or \"peer\"");
        Bind::by_name(text.get_ref()).ok_or_else(wrong)
    })
}

/// The forms in which passports are issued: envelopes, if nothing is said.
///
/// Whoever verifies a JWS without asking a daemon can't know what was taken by others, and looks at no proof and no user. So
/// where passports may have a limit, a nonce, a key or a user, somebody must have said that this is known.
fn forms(source: &Source<'_>, table: &TemplateTable, needs_daemon: bool) -> Result<Vec<PassportForm>, PolicyError> {
    let Some(list) = &table.forms else { return Ok(vec![PassportForm::Envelope]) };
    source.bounded(list.get_ref())?;
    if list.get_ref().is_empty() {
        return Err(source.wrong(&list.span(), "a template without `forms` can issue nothing; remove the line"));
    }
    let form = |text: &Spanned<String>| {
        let wrong = || source.wrong(&text.span(), "this must be \"envelope\" or \"jws\"");
        let form = PassportForm::by_name(text.get_ref()).ok_or_else(wrong)?;
        if form == PassportForm::Jws && needs_daemon && table.offline_risk != Some(true) {
            let message = "who verifies a JWS without the daemon can't honour the template's `limit`, `nonce`, \
                           `proof` or `bind`; remove \"jws\", or say `offline_risk = true`";
            return Err(source.wrong(&text.span(), message));
        }
        Ok(form)
    };
    list.get_ref().iter().map(form).collect()
}

/// The longest and the usual lifetime.
fn lifetimes(source: &Source<'_>, table: &TemplateTable) -> Result<(u64, Option<u64>), PolicyError> {
    let max = *table.max_ttl_s.get_ref();
    if !(1..=MAX_TTL_S).contains(&max) {
        return Err(source.wrong(&table.max_ttl_s.span(), format!("`max_ttl_s` must be from 1 to {MAX_TTL_S}")));
    }
    match &table.default_ttl_s {
        Some(usual) if !(1..=max).contains(usual.get_ref()) => {
            Err(source.wrong(&usual.span(), "`default_ttl_s` must be from 1 to `max_ttl_s`"))
        }
        usual => Ok((max, usual.as_ref().map(|usual| *usual.get_ref()))),
    }
}

/// The subject patterns, of which there must be one.
fn subjects(source: &Source<'_>, list: &Spanned<Strings>) -> Result<Vec<Pattern>, PolicyError> {
    source.bounded(list.get_ref())?;
    if list.get_ref().is_empty() {
        return Err(source.wrong(&list.span(), "a template without `subjects` can issue nothing; use [\"*\"] for any"));
    }
    let pattern = |text: &Spanned<String>| {
        source.identifier(text, bounds::MAX_SUB)?;
        Pattern::parse(text.get_ref()).map_err(|why| source.wrong(&text.span(), why))
    };
    list.get_ref().iter().map(pattern).collect()
}
