//! `config check` and `config print`.

use serde_json::{Value, json};

use super::args::ConfigCommand;
use super::context::Context;
use super::error::{CliError, Exit};
use super::text::plain;
use crate::config::{Row, print};
use crate::passport::hex;

pub(super) fn run(context: &mut Context<'_>, command: &ConfigCommand) -> Result<Exit, CliError> {
    match command {
        ConfigCommand::Check => check(context),
        ConfigCommand::Print => show(context),
    }
}

fn check(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let loaded = match context.configuration() {
        Err(CliError::Config(error)) if context.out.is_json() => {
            let faults: Vec<_> = error.faults.iter().map(ToString::to_string).collect();
            context.out.json(&json!({"ok": false, "faults": faults, "warnings": []}))?;
            return Ok(Exit::Failed);
        }
        other => other?,
    };
    if context.out.is_json() {
        let document =
            json!({"ok": true, "faults": [], "warnings": loaded.warnings, "hash": hex::encode(&loaded.hash)});
        return context.out.json(&document).map(|()| Exit::Ok);
    }
    for warning in &loaded.warnings {
        context.out.note(&format!("warning: {warning}"));
    }
    context.out.line(&format!("the configuration is good; hash {}", hex::encode(&loaded.hash)))?;
    Ok(Exit::Ok)
}

fn show(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let loaded = context.configuration()?;
    let rows = print(&loaded);
    if context.out.is_json() {
        let rows: Vec<_> = rows.iter().map(row).collect();
        return context.out.json(&rows).map(|()| Exit::Ok);
    }
    for warning in &loaded.warnings {
        context.out.note(&format!("warning: {warning}"));
    }
    let cells = rows.into_iter().map(|Row { key, value, origin, note }| {
        vec![key, plain(&value), origin.to_string(), note.unwrap_or_default().to_owned()]
    });
    context.out.table(&["key", "value", "from", "note"], cells)?;
    Ok(Exit::Ok)
}

fn row(row: &Row) -> Value {
    json!({"key": row.key, "value": row.value, "origin": row.origin.to_string(), "note": row.note})
}
