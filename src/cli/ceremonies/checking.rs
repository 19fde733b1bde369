//! `ceremony verify`: what an auditor runs, with nothing but files.

use serde_json::json;

use super::super::args::TranscriptVerify;
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::text::{plain, time};
use super::running::beside;
use super::{create, page, steps, text};
use crate::statement::transcript::examine;
use crate::statement::{Signed, VerifierKey};

pub(super) fn verify(context: &mut Context<'_>, wish: &TranscriptVerify) -> Result<Exit, CliError> {
    let (_, document) = text(context, &wish.transcript)?;
    let (name, signature) = text(context, &beside(&wish.transcript, ".sig"))?;
    let signed: Signed = serde_json::from_str(&signature).map_err(|why| CliError::input(&name, why.to_string()))?;
    let keys = match &wish.keys {
        None => None,
        Some(path) => {
            let (name, keys) = text(context, path)?;
            Some(VerifierKey::parse_all(&keys).map_err(|why| CliError::input(&name, why.to_string()))?)
        }
    };
    let (read, findings) = examine(&document, &signed, keys.as_deref());
    let ok = findings.iter().all(|one| one.ok);
    let exit = if ok { Exit::Ok } else { Exit::NotValid };
    if let (Some(path), Some(read)) = (&wish.html, &read) {
        create(path, page::html(read, &signed, &findings).as_bytes(), 0o644)?;
    }
    if context.out.is_json() {
        return context.out.json(&json!({"ok": ok, "findings": findings})).map(|()| exit);
    }
    if let Some(read) = &read {
        let (begun, who) = (time(read.begun), read.operator_uid);
        context.out.line(&format!("plan {}, carried out at {begun} by uid {who}:", plain(&read.plan.id)))?;
        for line in steps(&read.plan) {
            context.out.line(&line)?;
        }
    }
    for finding in &findings {
        let line = format!("{} {} {}", context.out.mark(finding.ok), plain(&finding.what), plain(&finding.detail));
        context.out.line(&line)?;
    }
    Ok(exit)
}
