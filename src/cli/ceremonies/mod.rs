//! `ceremony …`: plans, approvals, what is done with them, and what is kept of it.

mod adopting;
mod approver;
mod checking;
mod page;
mod planning;
mod running;

use std::path::Path;

use super::args::{CeremonyCommand, PlanCommand};
use super::context::Context;
use super::error::{CliError, Exit};
use crate::clock::Moment;
use crate::log::durable;
use crate::statement::plan::{Opened, Plan};

pub(super) async fn run(context: &mut Context<'_>, command: CeremonyCommand, now: Moment) -> Result<Exit, CliError> {
    match command {
        CeremonyCommand::Plan(PlanCommand::Adopt(adopt)) if adopt.out.is_none() => {
            adopting::adopt(context, &adopt).await
        }
        CeremonyCommand::Plan(plan) => planning::plan(context, plan, now).await,
        CeremonyCommand::Keygen(keygen) => approver::keygen(context, &keygen),
        CeremonyCommand::Approve(approve) => approver::approve(context, &approve, now),
        CeremonyCommand::Run(run) => running::run(context, &run).await,
        CeremonyCommand::Verify(verify) => checking::verify(context, &verify),
        CeremonyCommand::ClockReset(reset) => super::state::clock_reset(context, &reset, now),
    }
}

/// Writes a file that was not there.
fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CliError> {
    durable::create(path, bytes, mode).map_err(|why| CliError::File { path: path.to_owned(), why })
}

/// A file that has to be text.
fn text(context: &mut Context<'_>, path: &Path) -> Result<(String, String), CliError> {
    let (name, bytes) = context.read(path)?;
    let text = String::from_utf8(bytes).map_err(|_| CliError::input(&name, "it is not text"))?;
    Ok((name, text))
}

/// The plan of a file.
fn plan_of(context: &mut Context<'_>, path: &Path) -> Result<Opened, CliError> {
    let (name, text) = text(context, path)?;
    Plan::open(&text).map_err(|why| CliError::input(&name, why.to_string()))
}

/// What a plan does, line by line.
fn steps(plan: &Plan) -> impl Iterator<Item = String> {
    plan.steps.iter().enumerate().map(|(at, step)| format!("  {}. {}", at + 1, super::text::plain(&step.words())))
}
