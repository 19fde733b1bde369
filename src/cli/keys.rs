//! `key …`: the lives of keys.

use std::time::Duration;

use serde_json::{Value, json};

use super::admin::{Said, activate, activated, done, say, seals, stage, status_document};
use super::args::{Firm, KeyCommand};
use super::context::Context;
use super::error::{CliError, Exit};
use super::progress::Extent;
use super::revoke::{Aim, go_on};
use super::text::{plain, time};
use crate::client::{AdminClient, ClientError};
use crate::policy::Operation;
use crate::wire::{AdminOp, Code, Problem};

/// The longest that a key is waited for in one piece; then it is asked for again.
const MAX_WAIT_MS: u32 = 60_000;

pub(super) async fn run(context: &mut Context<'_>, command: KeyCommand) -> Result<Exit, CliError> {
    match command {
        KeyCommand::Stage { kid } => {
            let staged = stage(&context.admin().await?, &kid).await?;
            say(context, &staged)
        }
        KeyCommand::Activate { kid, now: true, reason, .. } => {
            let reason = reason.unwrap_or_default();
            let admin = context.admin().await?;
            let active = activate(&admin, AdminOp::ActivateNow { kid: &kid, reason: &reason }).await?;
            say(context, &active)
        }
        KeyCommand::Activate { kid, wait: true, .. } => {
            let admin = context.admin().await?;
            let progress = context.out.progress("waiting until verifiers have the key", Extent::Unknown);
            let active = activate_in_time(&admin, &kid).await;
            drop(progress);
            say(context, &active?)
        }
        KeyCommand::Activate { kid, .. } => {
            let active = activate(&context.admin().await?, AdminOp::Activate { kid: &kid }).await?;
            say(context, &active)
        }
        KeyCommand::List => list(context).await,
        KeyCommand::Rollback { tenant, purpose, sure } => rollback(context, &tenant, &purpose, &sure).await,
        KeyCommand::Confirm { kid } => {
            let text = format!("confirmed {}: there is no way back to the key before it", plain(&kid));
            done(context, AdminOp::Confirm { kid: &kid }, &text).await
        }
        KeyCommand::Destroyed { kid, dry_run, yes } => {
            let aim = Aim {
                would: "would record",
                does: "this records for good",
                undone: "nothing was recorded",
                all: &format!("that {} is destroyed", plain(&kid)),
                word: &kid,
                operation: Operation::Destroy,
            };
            if !go_on(context, &aim, dry_run, yes).await? {
                return Ok(Exit::Ok);
            }
            let text = format!("{} is destroyed; its id is never used again", plain(&kid));
            done(context, AdminOp::Destroyed { kid: &kid }, &text).await
        }
    }
}

/// Whether it is too early for a key, and how long it is until then.
fn too_early(error: &CliError) -> Option<Duration> {
    let CliError::Client(ClientError::Problem(Problem { code: Code::NotReady, retry_after_ms, .. })) = error else {
        return None;
    };
    retry_after_ms.map(|millis| Duration::from_millis(millis.clamp(100, MAX_WAIT_MS).into()))
}

/// Activates a key, once verifiers have had the time to fetch it.
pub(super) async fn activate_in_time(admin: &AdminClient, kid: &str) -> Result<Said, CliError> {
    loop {
        match activate(admin, AdminOp::Activate { kid }).await {
            Err(error) => match too_early(&error) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            },
            Ok(said) => return Ok(said),
        }
    }
}

async fn rollback(context: &mut Context<'_>, tenant: &str, purpose: &str, sure: &Firm) -> Result<Exit, CliError> {
    let word = format!("{tenant}/{purpose}");
    let aim = Aim {
        would: "would have",
        does: "this has",
        undone: "nothing was rolled back",
        all: &format!("the key before sign again for {}, and the one that signs never again", plain(&word)),
        word: &word,
        operation: Operation::Rollback,
    };
    if !go_on(context, &aim, sure.dry_run, sure.yes).await? {
        return Ok(Exit::Ok);
    }
    let op = AdminOp::Rollback { tenant, purpose, reason: &sure.reason };
    let (kid, retired) = activated(context.admin().await?.ask(op).await?)?;
    let old = retired.as_deref().unwrap_or("none");
    let text = format!("rolled back: {kid} signs again; {old} retires: it still verifies and never signs again");
    say(context, &Said { text, json: json!({"activated": kid, "retired": retired}) })
}

async fn list(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let status = status_document(&context.admin().await?).await?;
    let keys = status.get("keys").cloned().unwrap_or_else(|| json!([]));
    if context.out.is_json() {
        return context.out.json(&keys).map(|()| Exit::Ok);
    }
    let rows = keys.as_array().into_iter().flatten().map(|key| {
        let text = |name: &str| plain(key.get(name).and_then(Value::as_str).unwrap_or_default());
        vec![text("kid"), text("role"), text("state"), since(key), next(key)]
    });
    let rows: Vec<_> = rows.collect();
    context.out.table(&["kid", "role", "state", "since", "next"], rows).map(|()| Exit::Ok)
}

fn at(key: &Value, name: &str) -> Option<i64> {
    key.get(name).and_then(Value::as_i64)
}

/// Since when it is what it is.
fn since(key: &Value) -> String {
    let name = match key.get("state").and_then(Value::as_str).unwrap_or_default() {
        "staged" => "staged_at",
        "active" => "activated_at",
        "retired" => "retired_at",
        "expired" => "verifies_until",
        "compromised" => "compromised_at",
        "destroyed" => "destroyed_at",
        _ => return String::new(),
    };
    at(key, name).map(time).unwrap_or_default()
}

/// What is to come, and when.
fn next(key: &Value) -> String {
    let by = |what: &str, name: &str| at(key, name).map(|seconds| format!("{what} {}", time(seconds)));
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let steps = match text("state").unwrap_or_default() {
        "staged" => vec![by("can be activated from", "activate_from")],
        "active" => vec![
            by("rotate by", "rotate_by"),
            text("rollback_to").map(|back| format!("confirm, or roll back to {}", plain(back))),
            by("which is possible until", "rollback_until"),
        ],
        "retired" if text("kid").is_some_and(seals) => vec![Some("opens what it sealed".to_owned())],
        "retired" => vec![by("verifies until", "verifies_until")],
        "expired" | "compromised" => vec![Some("can be destroyed".to_owned())],
        _ => Vec::new(),
    };
    steps.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_depends_on_the_state() {
        let key = |state: &str| {
            json!({
                "kid": "ed25519/t1/auth/v2", "state": state, "activate_from": 10, "rotate_by": 20, "verifies_until": 30,
                "rollback_to": "ed25519/t1/auth/v1", "rollback_until": 40,
            })
        };
        for (state, says) in [
            ("staged", "can be activated from 1970-01-01T00:00:10Z (10)"),
            (
                "active",
                "rotate by 1970-01-01T00:00:20Z (20); confirm, or roll back to ed25519/t1/auth/v1; which is possible until \
                 1970-01-01T00:00:40Z (40)",
            ),
            ("retired", "verifies until 1970-01-01T00:00:30Z (30)"),
            ("expired", "can be destroyed"),
            ("compromised", "can be destroyed"),
            ("destroyed", ""),
        ] {
            assert_eq!(next(&key(state)), says);
        }
        // An older daemon says none of it.
        assert_eq!(next(&json!({"state": "active"})), "");
        assert_eq!(since(&json!({"state": "active"})), "");
    }

    #[test]
    fn only_a_key_that_comes_too_early_is_waited_for() {
        let problem = |code, after| CliError::Client(ClientError::Problem(Problem::new(code).after_ms(after)));
        assert_eq!(too_early(&problem(Code::NotReady, 2500)), Some(Duration::from_millis(2500)));
        assert_eq!(too_early(&problem(Code::NotReady, 600_000)), Some(Duration::from_secs(60)));
        assert_eq!(too_early(&problem(Code::Busy, 2500)), None);
        assert_eq!(too_early(&CliError::Client(ClientError::Problem(Problem::new(Code::OpDenied)))), None);
    }
}
