//! Ping, version, whoami, health, keys.

use serde_json::{Value, json};

use super::args::{Keys, Where};
use super::context::Context;
use super::error::{CliError, Exit};
use super::text::plain;
use crate::client::{self, ClientError};
use crate::passport::{Jwk, etag, hex, parse_jwks, thumbprint};
use crate::wire::{AdminOk, AdminOp, Health, Identity, KeySet};

pub(super) async fn ping(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let start = std::time::Instant::now();
    client.ping().await?;
    let micros = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    if context.out.is_json() {
        context.out.json(&json!({"ok": true, "us": micros}))?;
    } else {
        context.out.line(&format!("pong in {micros} us"))?;
    }
    Ok(Exit::Ok)
}

pub(super) async fn version(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let client = context.client().await?;
    let (version, limits) = (client.version().await?, client.welcome().await?.limits);
    let ours = concat!("passportctl/", env!("CARGO_PKG_VERSION"));
    let document = json!({
        "server": version.server, "wire": version.wire, "issuer": version.issuer, "client": ours,
        "limits": {
            "max_frame": limits.max_frame, "max_msg_bytes": limits.max_msg_bytes, "max_batch": limits.max_batch,
            "max_in_flight": limits.max_in_flight,
        },
    });
    show(context, &document)
}

pub(super) async fn whoami(context: &mut Context<'_>, from: Where) -> Result<Exit, CliError> {
    let identity = if from.admin {
        match context.admin().await?.ask(AdminOp::WhoAmI).await? {
            AdminOk::WhoAmI(identity) => identity,
            _ => return Err(ClientError::WrongAnswer.into()),
        }
    } else {
        context.client().await?.whoami().await?
    };
    let Identity { uid, gid, pid, groups, listener, rules, operations, templates, audiences } = identity;
    let document = json!({
        "uid": uid, "gid": gid, "pid": pid, "groups": groups, "listener": listener, "rules": rules,
        "operations": operations, "templates": templates, "audiences": audiences,
    });
    if context.out.is_json() {
        return context.out.json(&document).map(|()| Exit::Ok);
    }
    let unnamed = rules.is_empty();
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { plain(&items.join(", ")) };
    let numbers = groups.iter().map(ToString::to_string).collect();
    context.out.pairs([
        ("uid", uid.to_string()),
        ("gid", gid.to_string()),
        ("pid", pid.to_string()),
        ("groups", list(numbers)),
        ("listener", plain(&listener)),
        ("rules", list(rules)),
        ("operations", list(operations)),
        ("templates", list(templates)),
        ("audiences", list(audiences)),
    ])?;
    if unnamed {
        context.out.note("no policy rule names this peer, so it may do nothing; ask the operator for a rule");
    }
    Ok(Exit::Ok)
}

pub(super) async fn health(context: &mut Context<'_>, from: Where) -> Result<Exit, CliError> {
    let health = if from.admin {
        match context.admin().await?.ask(AdminOp::Health).await? {
            AdminOk::Health(health) => health,
            _ => return Err(ClientError::WrongAnswer.into()),
        }
    } else {
        context.client().await?.health().await?
    };
    let exit = if health.issue_ready && health.verify_ready { Exit::Ok } else { Exit::Failed };
    if context.out.is_json() {
        return context.out.json(&health_json(&health)).map(|()| exit);
    }
    for (name, ready) in [("issue", health.issue_ready), ("verify", health.verify_ready)] {
        let line = format!("{} {name}", context.out.mark(ready));
        context.out.line(&line)?;
    }
    for one in &health.conditions {
        let line = format!("{} {:<8} {}", context.out.mark(one.ok), plain(&one.name), plain(&one.detail));
        context.out.line(line.trim_end())?;
    }
    Ok(exit)
}

fn health_json(health: &Health) -> Value {
    let conditions: Vec<_> =
        health.conditions.iter().map(|one| json!({"name": one.name, "ok": one.ok, "detail": one.detail})).collect();
    json!({"issue_ready": health.issue_ready, "verify_ready": health.verify_ready, "conditions": conditions})
}

pub(super) async fn keys(context: &mut Context<'_>, keys: Keys) -> Result<Exit, CliError> {
    if let Some(file) = &keys.publish {
        return super::publish::run(context, file).await;
    }
    match context.client().await?.keys(keys.etag).await? {
        client::Keys::NotModified { max_age_s } if context.out.is_table_asked_for() => {
            context.out.line(&format!("not modified; good for {max_age_s} s"))?;
        }
        client::Keys::NotModified { max_age_s } => {
            context.out.json(&json!({"not_modified": true, "max_age_s": max_age_s}))?;
        }
        client::Keys::Set(set) => key_set(context, &set)?,
    }
    Ok(Exit::Ok)
}

/// The keys of a set that is what it says.
pub(super) fn checked(set: &KeySet) -> Result<Vec<Jwk>, CliError> {
    if etag(&set.jwks) != set.etag {
        return Err(CliError::Answer("the ETag of the key set is not BLAKE3 of its bytes".to_owned()));
    }
    parse_jwks(&set.jwks).map_err(|error| CliError::Answer(error.to_string()))
}

fn key_set(context: &mut Context<'_>, set: &KeySet) -> Result<(), CliError> {
    let keys = checked(set)?;
    if !context.out.is_table_asked_for() {
        context.out.bytes(&set.jwks)?;
        // In a pipe the bytes stay exact, so that their BLAKE3 is the ETag.
        return if context.out.is_terminal() { context.out.bytes(b"\n") } else { Ok(()) };
    }
    let rows = keys.iter().map(|key| vec![key.kid.to_string(), thumbprint(&key.public), hex::encode(&key.public)]);
    context.out.table(&["kid", "thumbprint (RFC 7638)", "public key"], rows)?;
    context.out.line(&format!("etag {}, good for {} s", hex::encode(&set.etag), set.max_age_s))
}

/// A JSON document, or its leaves as a table.
pub(super) fn show(context: &mut Context<'_>, document: &Value) -> Result<Exit, CliError> {
    if context.out.is_json() {
        context.out.json(document)?;
    } else {
        context.out.pairs(super::text::leaves(document))?;
    }
    Ok(Exit::Ok)
}
