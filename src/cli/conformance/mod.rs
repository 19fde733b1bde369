//! `conformance`: a running daemon held against `docs/WIRE.md`, by cases that are data.
//!
//! `tests/conformance` holds the cases and says how they are written; the Python client runs the same
//! (`clients/python/conformance.py`). What a case needs that this daemon's policy does not give makes it skipped, with the
//! reason; the exit code counts failures alone.

mod case;
mod exchanging;
mod line;
mod matching;
mod messages;
mod replies;
mod run;
mod suite;
mod survey;
mod values;
mod watching;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::args::Conformance;
use super::context::Context;
use super::error::{CliError, Exit};
use super::progress::Extent;
use super::text::plain;
use crate::clock::Moment;
use line::Door;
use run::{Interruption, Outcome, Runner};
use survey::Survey;

pub(super) async fn run(context: &mut Context<'_>, options: Conformance) -> Result<Exit, CliError> {
    let cases = match &options.cases {
        Some(dir) => suite::of_directory(dir)?,
        None => suite::embedded()?,
    };
    let cases = suite::only(cases, &options.only)?;
    let progress = context.out.progress("trying cases", Extent::Items(cases.len()));
    let survey = Survey::take(context, &options).await?;
    let runner = Runner {
        doors: doors(context, &options)?,
        survey,
        disruptive: options.disruptive,
        via: options.via,
        patience: context.global.patience(),
        max_wait: options.max_wait,
    };
    let watched = Interruption::watched();
    let mut interruption = watched.map_err(|error| CliError::Failed(format!("can't watch for signals: {error}")))?;
    let mut report = Report::default();
    for case in &cases {
        let outcome = runner.run(case, Moment::now(), &mut interruption).await;
        report.take(context, &case.name, &case.shows, outcome)?;
        progress.advance(1);
    }
    drop(progress);
    report.end(context)
}

/// Admins' operations are what is spoken behind further doors whose names begin so.
const ADMIN_DOORS: &str = "admin-";

fn doors(context: &Context<'_>, options: &Conformance) -> Result<BTreeMap<String, Door>, CliError> {
    let further = |(name, path): &(String, PathBuf)| {
        let admin = name.starts_with(ADMIN_DOORS);
        (name.clone(), Door { path: path.clone(), admin })
    };
    let mut doors: BTreeMap<_, _> = options.door.iter().map(further).collect();
    doors.insert("service".to_owned(), Door { path: context.socket()?, admin: false });
    doors.insert("admin".to_owned(), Door { path: context.admin_socket()?, admin: true });
    Ok(doors)
}

/// The cases so far; each is shown when it is done.
#[derive(Default)]
struct Report {
    cases: Vec<Value>,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Report {
    fn take(&mut self, context: &mut Context<'_>, name: &str, shows: &str, outcome: Outcome) -> Result<(), CliError> {
        let (count, word, mark, detail) = match outcome {
            Outcome::Ok => (&mut self.passed, "ok", context.out.mark(true), String::new()),
            Outcome::Fail(why) => (&mut self.failed, "fail", context.out.mark(false), why),
            Outcome::Skipped(why) => (&mut self.skipped, "skipped", "skip", why),
            Outcome::Interrupted(why) => return Err(CliError::Failed(format!("{name}: {why}"))),
        };
        *count += 1;
        if context.out.is_json() {
            self.cases.push(json!({"name": name, "shows": shows, "outcome": word, "detail": detail}));
            return Ok(());
        }
        let detail = if detail.is_empty() { detail } else { format!(": {}", plain(&detail)) };
        context.out.line(&format!("{mark} {}{detail}", plain(name)))
    }

    fn end(self, context: &mut Context<'_>) -> Result<Exit, CliError> {
        let Self { cases, passed, failed, skipped } = self;
        if context.out.is_json() {
            let document =
                json!({"ok": failed == 0, "passed": passed, "failed": failed, "skipped": skipped, "cases": cases});
            context.out.json(&document)?;
        } else {
            context.out.line(&format!("{passed} ok, {failed} failed, {skipped} skipped"))?;
        }
        Ok(if failed == 0 { Exit::Ok } else { Exit::Failed })
    }
}
