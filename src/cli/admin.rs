//! Commands on the admins' socket.

use serde_json::{Value, json};

use super::context::Context;
use super::error::{CliError, Exit};
use super::status;
use crate::client::{AdminClient, ClientError};
use crate::passport::hex;
use crate::wire::sealed::SealKid;
use crate::wire::{AdminOk, AdminOp};

pub(super) async fn status(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let document = status_document(&context.admin().await?).await?;
    if context.out.is_json() {
        context.out.json(&document)?;
    } else {
        status::show(&mut context.out, &document)?;
    }
    Ok(Exit::Ok)
}

/// What the daemon says of itself.
pub(super) async fn status_document(admin: &AdminClient) -> Result<Value, CliError> {
    match admin.ask(AdminOp::Status).await? {
        AdminOk::Status(text) => parsed(&text),
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

/// The daemon's own statement of what runs.
pub(super) async fn attestation(admin: &AdminClient) -> Result<Value, CliError> {
    match admin.ask(AdminOp::Attest).await? {
        AdminOk::Attest(text) => parsed(&text),
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

fn parsed(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|error| CliError::Answer(format!("it is not JSON: {error}")))
}

/// What happened, for people and for programs.
pub(super) struct Said {
    pub(super) text: String,
    pub(super) json: Value,
}

pub(super) fn say(context: &mut Context<'_>, said: &Said) -> Result<Exit, CliError> {
    if context.out.is_json() {
        context.out.json(&said.json)?;
    } else {
        context.out.line(&said.text)?;
    }
    Ok(Exit::Ok)
}

/// Whether a key seals instead of signing.
pub(super) fn seals(kid: &str) -> bool {
    SealKid::parse(kid).is_some()
}

pub(super) async fn stage(admin: &AdminClient, kid: &str) -> Result<Said, CliError> {
    match admin.ask(AdminOp::Stage { kid }).await? {
        AdminOk::Staged { kid, public } => {
            // A seal key has no public part, which the wire shows as zeros.
            let public = (public != [0; 32]).then(|| hex::encode(&public));
            let text = match &public {
                Some(public) => format!("staged {kid}: published, not signing yet; public key {public}"),
                None => format!("staged {kid}: from now on the tenant's newest seal key seals"),
            };
            Ok(Said { text, json: json!({"staged": kid, "public": public}) })
        }
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

/// Which key retired when another began to sign.
pub(super) fn activated(answer: AdminOk) -> Result<(String, Option<String>), CliError> {
    match answer {
        AdminOk::Activated { kid, retired } => Ok((kid, retired)),
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

pub(super) async fn activate(admin: &AdminClient, op: AdminOp<'_>) -> Result<Said, CliError> {
    let (kid, retired) = activated(admin.ask(op).await?)?;
    let before = |old: &str| match seals(old) {
        // It verifies nothing; what it has sealed has to move before it can go.
        true => {
            format!("{old} still opens what it sealed and no longer seals; passportctl reseal moves that on")
        }
        false => format!("{old} retires: it still verifies and no longer signs"),
    };
    let after = retired.as_deref().map_or_else(|| "no key had to retire".to_owned(), before);
    Ok(Said { text: format!("activated {kid}: {after}"), json: json!({"activated": kid, "retired": retired}) })
}

pub(super) async fn done(context: &mut Context<'_>, op: AdminOp<'_>, text: &str) -> Result<Exit, CliError> {
    match context.admin().await?.ask(op).await? {
        AdminOk::Done => say(context, &Said { text: text.to_owned(), json: json!({"done": true}) }),
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

pub(super) async fn pause(context: &mut Context<'_>, reason: &str) -> Result<Exit, CliError> {
    done(context, AdminOp::PauseIssue { reason }, "issuing is paused; verification goes on").await
}

pub(super) async fn resume(context: &mut Context<'_>) -> Result<Exit, CliError> {
    done(context, AdminOp::ResumeIssue, "issuing goes on").await
}

pub(super) async fn drain(context: &mut Context<'_>) -> Result<Exit, CliError> {
    done(
        context,
        AdminOp::Drain,
        "draining: no new connections, and nothing is issued; those that are there go on verifying",
    )
    .await
}

pub(super) async fn undrain(context: &mut Context<'_>) -> Result<Exit, CliError> {
    done(context, AdminOp::Undrain, "taking connections again").await
}

pub(super) async fn reload(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let AdminOk::ReloadReport {
        old_policy,
        new_policy,
        changed,
        needs_restart,
        old_config,
        new_config,
        policy_changed,
        policy_more,
    } = context.reloader().await?.ask(AdminOp::ReloadReport).await?
    else {
        return Err(ClientError::WrongAnswer.into());
    };
    if context.out.is_json() {
        let document = json!({
            "old_policy": hex::encode(&old_policy), "new_policy": hex::encode(&new_policy),
            "policy_changed": policy_changed, "policy_more": policy_more,
            "old_config": hex::encode(&old_config), "new_config": hex::encode(&new_config),
            "changed": changed, "needs_restart": needs_restart,
        });
        return context.out.json(&document).map(|()| Exit::Ok);
    }
    let from_to = |old: &[u8; 32], new: &[u8; 32]| match old == new {
        true => format!("unchanged, {}", hex::encode(new)),
        false => format!("{} (before: {})", hex::encode(new), hex::encode(old)),
    };
    let list = |keys: &[String]| if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
    let more = if policy_more > 0 { format!(" and {policy_more} more") } else { String::new() };
    context.out.pairs([
        ("policy", from_to(&old_policy, &new_policy)),
        ("rules and templates", list(&policy_changed) + &more),
        ("configuration", from_to(&old_config, &new_config)),
        ("settings now in force", list(&changed)),
        ("settings that wait for a restart", list(&needs_restart)),
    ])?;
    if !needs_restart.is_empty() {
        context.out.note("some changes take effect only after `systemctl restart passportd.target`");
    }
    Ok(Exit::Ok)
}
