//! `audit test-append`: has the daemon write a record.

use serde_json::json;

use crate::cli::admin::{Said, say};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::wire::{AdminOk, AdminOp};

pub(super) async fn run(context: &mut Context<'_>, reason: &str) -> Result<Exit, CliError> {
    let AdminOk::Recorded { seq } = context.admin().await?.ask(AdminOp::TestAppend { reason }).await? else {
        return Err(CliError::Answer("no number of a record".to_owned()));
    };
    let text = format!(
        "record {seq} is durable; where the journal is forwarded, look for: journalctl -t passportd PASSPORT_SEQ={seq}"
    );
    say(context, &Said { text, json: json!({"seq": seq}) })
}
