//! `attest`: the daemon's statement of what runs, and what of such a statement can be checked.
//!
//! A check can show that one contradicts itself, a key set or a configuration; who wrote it shows the signature of an audit key.
//! [`mod@check`] is pure; this part fetches what it compares with.

mod check;
mod signature;

use serde_json::{Value, json};

use super::admin::attestation;
use super::args::Attest;
use super::context::Context;
use super::error::{CliError, Exit};
use super::service::{checked, show};
use super::text::plain;
use crate::audit::reading::anchors;
use crate::client::Keys;
use crate::clock::Moment;
use crate::passport::parse_jwks;
use crate::policy::{Overflow, Policy, SystemNames};
use check::{Against, Check, Configured, KeySet, Outcome};

pub(super) async fn run(context: &mut Context<'_>, attest: &Attest) -> Result<Exit, CliError> {
    let Some(file) = &attest.verify else {
        let document = attestation(&context.admin().await?).await?;
        if context.out.is_json_in_a_pipe() {
            return context.out.json(&document).map(|()| Exit::Ok);
        }
        return show(context, &document);
    };
    let (name, bytes) = context.read(file)?;
    let statement: Value =
        serde_json::from_slice(&bytes).map_err(|error| CliError::input(&name, format!("not JSON: {error}")))?;
    if statement.get("type").and_then(Value::as_str) != Some(check::TYPE) {
        return Err(CliError::input(&name, format!("not a statement: its `type` is not \"{}\"", check::TYPE)));
    }
    let mut against = against(context, attest).await?;
    if let Some(file) = &attest.keys {
        against.audit_keys = anchors::keys(file)?;
    }
    let checks = check::all(&statement, &against, Moment::now());
    judged(context, &checks, attest.allow_unsigned)
}

/// What the statement is compared with: the given key set or the running daemon, and the configuration if one is named.
async fn against(context: &mut Context<'_>, attest: &Attest) -> Result<Against, CliError> {
    let (keys, issuer) = match &attest.jwks {
        Some(file) => {
            let (from, jwks) = context.read(file)?;
            let keys = parse_jwks(&jwks).map_err(|error| CliError::input(&from, error.to_string()))?;
            (KeySet { from, jwks, keys }, None)
        }
        None => {
            let client = context.client().await.map_err(|error| match error {
                CliError::Client(error) => {
                    CliError::Failed(format!("{error}; to check without a daemon, give its key set: --jwks FILE"))
                }
                other => other,
            })?;
            let Keys::Set(set) = client.keys(None).await? else {
                return Err(CliError::Answer("`not modified` without an ETag".to_owned()));
            };
            let keys = checked(&set)?;
            let from = "the running daemon".to_owned();
            (KeySet { from, jwks: set.jwks, keys }, Some(client.welcome().await?.issuer))
        }
    };
    Ok(Against { keys, issuer, configured: configured(context)?, audit_keys: Vec::new() })
}

fn configured(context: &Context<'_>) -> Result<Option<Configured>, CliError> {
    let Some(file) = &context.global.config else { return Ok(None) };
    let loaded = context.configuration()?;
    let dir = &loaded.config.policy.dir;
    let policy = Overflow::read()
        .and_then(|overflow| Policy::load(dir, &SystemNames, overflow))
        .map(|policy| policy.hash())
        .map_err(|error| error.to_string());
    Ok(Some(Configured {
        file: file.display().to_string(),
        hash: loaded.hash,
        issuer: loaded.config.passport.issuer.clone(),
        dir: dir.display().to_string(),
        policy,
    }))
}

const MEANING: &str = "nothing below proves who wrote this statement, or when";

fn judged(context: &mut Context<'_>, checks: &[Check], allow_unsigned: bool) -> Result<Exit, CliError> {
    let contradicted = checks.iter().any(|check| check.outcome == Outcome::Contradicted);
    let signed = check::is_signed(checks);
    let exit = if contradicted || !(signed || allow_unsigned) { Exit::NotValid } else { Exit::Ok };
    let unproven = check::unproven(checks);
    if context.out.is_json() {
        let rows: Vec<_> = checks
            .iter()
            .map(|check| json!({"name": check.name, "outcome": check.outcome.name(), "detail": check.detail}))
            .collect();
        let document = json!({
            "verified": signed && !contradicted, "signed": signed, "contradicted": contradicted, "checks": rows, "not_proven": unproven,
        });
        return context.out.json(&document).map(|()| exit);
    }
    match (signed, contradicted) {
        (true, false) => context.out.line("SIGNED, and nothing contradicts it")?,
        (true, true) => {
            let head = context.out.loud("CONTRADICTED");
            context.out.line(&format!("{head}: it is signed, and what it says is not so, or not any more"))?;
        }
        (false, _) => {
            let words = if contradicted { "CONTRADICTED, and NOT PROVEN" } else { "NOT PROVEN" };
            let head = context.out.loud(words);
            context.out.line(&format!("{head}: {MEANING}"))?;
        }
    }
    for Check { name, outcome, detail } in checks {
        let mark = match outcome {
            Outcome::Holds => context.out.mark(true),
            Outcome::Contradicted => context.out.mark(false),
            Outcome::NotChecked => "-   ",
        };
        context.out.line(format!("{mark} {name:<10} {}", plain(detail)).trim_end())?;
    }
    for one in unproven {
        context.out.line(&format!("not proven: {one}"))?;
    }
    if !contradicted && !signed && !allow_unsigned {
        context.out.note("exit code 3, because no signature was checked; --allow-unsigned makes it 0");
    }
    Ok(exit)
}
