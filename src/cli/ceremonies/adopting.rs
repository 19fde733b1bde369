//! `ceremony plan adopt`, done at once.

use super::super::args::Adopt;
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::hsm::{Use, ceremony, pin, put_to_use};
use super::super::text::plain;
use crate::wire::ceremony::{PlanKind, Request};

pub(super) async fn adopt(context: &mut Context<'_>, adopt: &Adopt) -> Result<Exit, CliError> {
    let request = Request {
        plan: PlanKind::Adopt,
        tenant: Some(adopt.key.tenant.clone()),
        purpose: Some(adopt.key.purpose.clone()),
        cka_id: Some(adopt.cka_id.clone()),
        dry_run: adopt.dry_run,
        ..Request::default()
    };
    let pin = pin(&adopt.key.pin)?;
    let report = ceremony(context, &request, Some(&pin))?;
    if !adopt.dry_run {
        return put_to_use(context, &report, &Use { activate: false, unknown_of: None, became: "adopted" }).await;
    }
    if context.out.is_json() {
        return context.out.json(&report).map(|()| Exit::Ok);
    }
    for key in report.keys.iter().filter(|key| key.made_now) {
        let (kid, id) = (plain(&key.kid), plain(&key.cka_id));
        context.out.line(&format!("the key with CKA_ID {id} is fit and would be {kid}; nothing was changed"))?;
    }
    for warning in &report.warnings {
        context.out.note(&format!("warning: {}", plain(warning)));
    }
    Ok(Exit::Ok)
}
