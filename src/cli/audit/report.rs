//! `audit report`.

use serde_json::json;

use super::super::args::{ReportAudit, VerifyAudit};
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::text::plain;
use super::page;
use super::verify::{anchored, check};
use crate::audit::reading::filter::Filter;
use crate::audit::reading::tally::Tally;
use crate::clock::Moment;
use crate::log::durable;

/// It names subjects and users.
const MODE: u32 = 0o600;

pub(super) fn run(context: &mut Context<'_>, asked: ReportAudit, now: Moment) -> Result<Exit, CliError> {
    let ReportAudit { records, believe, checkpoints, since, until, out } = asked;
    let [since, until] = [since, until].map(|when| when.map(|when| when.text(now)));
    if since.is_some() && until.is_some() && since >= until {
        return Err(CliError::Usage("--until is not after --since".to_owned()));
    }
    let period = Filter { since: since.clone(), until: until.clone(), ..Filter::default() };
    let mut tally = Tally::of(period);
    let asked = VerifyAudit { records, believe, checkpoints, begin_at: None, frontier: None, strict: false };
    let checked = check(context, &asked, &mut |record| tally.add(record))?;
    let wrong = checked.outcome.as_ref().err().map(|bad| bad.what.clone());
    let unproven = checked.outcome.as_ref().map(|verified| checked.unproven(verified)).unwrap_or_default();
    let report = page::Report {
        period: (since, until),
        made: now,
        tally: &tally,
        checked: &checked,
        wrong: wrong.as_deref(),
        unproven: &unproven,
    };
    let fails = |why| CliError::File { path: out.clone(), why };
    durable::replace(&out, report.html().as_bytes(), MODE).map_err(fails)?;
    if context.out.is_json() {
        context.out.json(&json!({
            "ok": wrong.is_none(), "wrong": wrong, "not_proven": unproven, "page": out,
            "anchored_by": checked.anchor().map(ToString::to_string), "tally": tally,
        }))?;
    } else {
        let path = plain(&out.display().to_string());
        let records = match (&tally.first, &tally.last) {
            (Some((first, _)), Some((last, _))) => format!("{} records, seq {first}-{last}", tally.records),
            _ => "no records of that time".to_owned(),
        };
        match &wrong {
            Some(wrong) => {
                let loud = context.out.loud("NOT VALID");
                context.out.line(&format!("{loud}: {}", plain(wrong)))?;
            }
            None => {
                let mark = context.out.mark(true);
                context.out.line(&format!("{mark}{records}, {}", anchored(checked.anchor())))?;
            }
        }
        for one in &unproven {
            context.out.line(&format!("    not proven: {}", plain(one)))?;
        }
        context.out.line(&format!("the page is {path}"))?;
    }
    Ok(if wrong.is_some() { Exit::NotValid } else { Exit::Ok })
}
