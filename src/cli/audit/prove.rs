//! `audit prove`, `audit verify-proof`, `audit keys`.

use std::path::Path;

use serde_json::{Value, json};

use super::super::admin::status_document;
use super::super::args::{AuditKeys, Prove};
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::progress::Extent;
use super::super::text::plain;
use super::{keys as believed, ledger, open};
use crate::audit::reading::anchors::{self, Anchor, AnchorError};
use crate::audit::reading::checks::Bad;
use crate::audit::reading::proofs::{Proof, ProofError, consistency, inclusion};
use crate::log::Base;
use crate::passport::hex;
use crate::statement::VerifierKey;

pub(super) fn prove(context: &mut Context<'_>, asked: &Prove) -> Result<Exit, CliError> {
    let keys = believed(&asked.believe)?;
    let mut paths = asked.checkpoints.clone();
    if paths.is_empty() {
        paths.push(context.configuration()?.config.audit.checkpoint_dir());
    }
    let shown = match anchors::anchors(&paths, &keys) {
        Ok(anchors) => anchors.list,
        Err(AnchorError::Read(error)) => return Err(error.into()),
        Err(error) => return refused(context, &error.to_string()),
    };
    let over = |size: u64| {
        let found = shown.iter().rev().find(|anchor| anchor.checkpoint.size == size);
        found.ok_or_else(|| CliError::Usage(format!("there is no checkpoint over {size} records{}", sizes(&shown))))
    };
    let newest = || shown.last().ok_or_else(|| CliError::Usage("there is no checkpoint in what was given".to_owned()));
    let to = asked.to.map_or_else(newest, over)?;
    let from = asked.from.map(over).transpose()?;
    let dir = if asked.records.files.is_empty() { ledger(context, asked.records.dir.as_deref())? } else { "".into() };
    let progress = context.out.progress("reading records", Extent::Unknown);
    let mut lines = open(&mut context.stdin, &dir, &asked.records, 0)?;
    let base = lines.base().cloned().unwrap_or(Base::GENESIS);
    let proof = match from {
        Some(from) => consistency(&mut lines, &base, (&from.checkpoint, &from.note), (&to.checkpoint, &to.note)),
        None => inclusion(&mut lines, &base, asked.seq.unwrap_or_default(), (&to.checkpoint, &to.note)),
    };
    drop((progress, lines));
    match proof {
        Ok(proof) => context.out.json(&proof).map(|()| Exit::Ok),
        Err(ProofError::Bad(Bad::Read(error))) => Err(error.into()),
        Err(ProofError::Absent(what)) => Err(CliError::Usage(what)),
        Err(error) => refused(context, &error.to_string()),
    }
}

/// Some of the sizes that there are, for somebody who has typed another.
fn sizes(shown: &[Anchor]) -> String {
    let newest: Vec<_> = shown.iter().rev().take(5).map(|anchor| anchor.checkpoint.size.to_string()).collect();
    if newest.is_empty() { String::new() } else { format!("; the newest are over {}", newest.join(", ")) }
}

fn refused(context: &mut Context<'_>, what: &str) -> Result<Exit, CliError> {
    context.out.note(&plain(what));
    Ok(Exit::NotValid)
}

pub(super) fn verify(context: &mut Context<'_>, proof: &Path, believe: &AuditKeys) -> Result<Exit, CliError> {
    let keys = believed(believe)?;
    if keys.is_empty() {
        return Err(CliError::Usage("a proof is worth what its checkpoint is: give --keys".to_owned()));
    }
    let (name, bytes) = context.read(proof)?;
    let proof: Proof =
        serde_json::from_slice(&bytes).map_err(|error| CliError::input(&name, format!("not a proof: {error}")))?;
    let (ok, what) = match proof.verify(&keys) {
        Ok(what) => (true, what),
        Err(error) => (false, error.to_string()),
    };
    if context.out.is_json() {
        context.out.json(&json!({"ok": ok, "what": what}))?;
    } else {
        let mark = if ok { context.out.mark(true).to_owned() } else { context.out.loud("NOT VALID:") + " " };
        context.out.line(&format!("{mark}{}", plain(&what)))?;
    }
    Ok(if ok { Exit::Ok } else { Exit::NotValid })
}

pub(super) async fn keys(context: &mut Context<'_>, file: Option<&Path>) -> Result<Exit, CliError> {
    let keys = match file {
        Some(path) => anchors::keys(path)?,
        None => told(&status_document(&context.admin().await?).await?)?,
    };
    if context.out.is_json() {
        let all: Vec<_> = keys.iter().map(|key| json!({"kid": key.name, "vkey": key.vkey()})).collect();
        return context.out.json(&json!({"keys": all})).map(|()| Exit::Ok);
    }
    for key in &keys {
        context.out.line(&plain(&key.vkey()))?;
    }
    Ok(Exit::Ok)
}

/// The audit keys of a daemon's status, the destroyed ones included: what they signed is still to be checked.
fn told(statement: &Value) -> Result<Vec<VerifierKey>, CliError> {
    let mut keys = Vec::new();
    for key in statement.get("keys").and_then(Value::as_array).into_iter().flatten() {
        let member = |name: &str| key.get(name).and_then(Value::as_str);
        if member("role") != Some("audit") {
            continue;
        }
        let public = member("public").and_then(hex::decode_exactly);
        let (Some(kid), Some(public)) = (member("kid"), public) else {
            return Err(CliError::Answer("an audit key without a public part".to_owned()));
        };
        keys.push(VerifierKey { name: kid.to_owned(), public });
    }
    if keys.is_empty() { Err(CliError::Failed("the daemon has no audit key".to_owned())) } else { Ok(keys) }
}
