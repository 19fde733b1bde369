//! `audit checkpoint`: has the daemon sign what its ledger holds now.

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::statement::{Checkpoint, Note};
use crate::wire::{AdminOk, AdminOp};

pub(super) async fn run(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let AdminOk::Checkpoint(text) = context.admin().await?.ask(AdminOp::Checkpoint).await? else {
        return Err(CliError::Answer("no checkpoint".to_owned()));
    };
    let wrong = |why: String| CliError::Answer(format!("the daemon's checkpoint: {why}"));
    let note = Note::parse(text.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let checkpoint = Checkpoint::parse(note.text()).map_err(|error| wrong(error.to_string()))?;
    if context.out.is_json() {
        let document =
            json!({"records": checkpoint.size, "time": checkpoint.time, "origin": checkpoint.origin, "note": text});
        return context.out.json(&document).map(|()| Exit::Ok);
    }
    // As it is, since others read it: it has no control characters but newlines.
    text.lines().try_for_each(|line| context.out.line(line))?;
    Ok(Exit::Ok)
}
