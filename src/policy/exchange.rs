//! Whether a peer may have a ticket for a passport. What the passport itself allows is not policy's business: a ticket says no
//! more than its passport, and no more than its template would let anybody have now.

use super::{
    decide::{Decision, Denial, DenyCode, Rights, quoted},
    issue::{check_form, outside},
    operation::Operation,
    peer::Rule,
    template::Template,
};
use crate::wire::PassportForm;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeWish<'a> {
    /// The template that the passport was issued from.
    pub template: &'a str,
    /// The tenant whose key signed it.
    pub tenant: &'a str,
    /// The purpose of that key.
    pub purpose: &'a str,
    /// For whom the ticket is.
    pub aud: &'a str,
    /// What it allows.
    pub scopes: &'a [String],
    /// In which form.
    pub form: PassportForm,
}

impl Rights {
    /// Whether the peer may have this ticket; the longest lifetime that its template allows, in seconds.
    pub fn decide_exchange(&self, wish: &ExchangeWish<'_>) -> Decision<u64> {
        self.ticket(wish).into()
    }

    fn ticket(&self, wish: &ExchangeWish<'_>) -> Result<u64, Denial> {
        self.allowed(Operation::Exchange)?;
        let template = self.exchangeable(wish)?;
        if !template.audiences.is_empty() && !template.audiences.iter().any(|aud| aud == wish.aud) {
            return Err(outside(template, DenyCode::BadAud, "audiences", wish.aud));
        }
        if let Some(gone) = wish.scopes.iter().find(|scope| !template.scopes.contains(scope)) {
            return Err(outside(template, DenyCode::ScopeDenied, "scopes", gone));
        }
        check_form(template, wish.form)?;
        if wish.form == PassportForm::Jws && !template.offline_risk {
            let (name, file) = (&template.name, &template.file);
            let rule = format!(
                "a ticket is accepted once, which nobody can know who verifies a JWS without the daemon, and template \
                 {name:?} ({file}) does not say `offline_risk = true`"
            );
            return Err(Denial { code: DenyCode::ScopeDenied, rule });
        }
        Ok(template.max_ttl_s)
    }

    /// The template, if a rule lets the peer have tickets for its passports. One that has moved to another tenant or purpose is
    /// another template.
    fn exchangeable(&self, wish: &ExchangeWish<'_>) -> Result<&Template, Denial> {
        let template = self.exchange_template(wish.template)?;
        if template.tenant == wish.tenant && template.purpose == wish.purpose {
            return Ok(template);
        }
        let (name, file, tenant, purpose) = (&template.name, &template.file, wish.tenant, wish.purpose);
        let rule = format!(
            "the passport is of tenant {tenant:?} and purpose {purpose:?}, for which template {name:?} ({file}) is no more"
        );
        Err(Denial { code: DenyCode::OpDenied, rule })
    }

    /// The template of that name, if a rule lets the peer have tickets for its passports.
    pub(super) fn exchange_template(&self, name: &str) -> Result<&Template, Denial> {
        self.rules().flat_map(Rule::exchange_templates).find(|template| template.name == name).ok_or_else(|| {
            let what = format_args!("lets it have tickets for passports from template {}", quoted(name));
            self.deny(DenyCode::OpDenied, what, "exchange_templates")
        })
    }
}
