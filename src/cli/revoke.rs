//! `revoke` and `epoch`.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::Path;

use serde_json::{Value, json};

use super::admin::{Said, say, status_document};
use super::args::{EpochCommand, Revoke, Sure};
use super::context::Context;
use super::error::{CliError, Exit};
use super::input::{self, Given, Slot};
use super::progress::Extent;
use super::text::plain;
use crate::client::{AdminClient, ClientError};
use crate::policy::Operation;
use crate::wire::{AdminOk, AdminOp, Revocation};

/// Revocations of one request, as many as the daemon takes.
const STRIDE: usize = 256;
/// The longest word that is typed, in bytes.
const MAX_TYPED: u64 = 300;

pub(super) async fn revoke(context: &mut Context<'_>, revoke: Revoke) -> Result<Exit, CliError> {
    let Revoke { what, tenant, exp, before, sure } = revoke;
    if let Some(path) = what.input {
        return presented(context, &path, &sure).await;
    }
    if let Some(kid) = what.kid {
        return compromise(context, &kid, &sure).await;
    }
    let tenant = tenant.unwrap_or_default();
    if let Some(path) = what.file {
        let (name, bytes) = context.read(&path)?;
        let ids = ids(&name, &bytes)?;
        let all = format!("{} passports of tenant {}", ids.len(), plain(&tenant));
        if !revokes(context, &all, &tenant, Operation::RevokeAny, &sure).await? {
            return Ok(Exit::Ok);
        }
        return revoke_all(context, &tenant, &ids, &sure.reason).await;
    }
    let (all, word, one) = match (&what.jti, &what.sub) {
        (Some(jti), _) => {
            (format!("passport {} of tenant {}", plain(jti), plain(&tenant)), None, Revocation::Id { jti, exp })
        }
        (None, sub) => {
            let sub = sub.as_deref().unwrap_or_default();
            let until = before.map_or_else(|| "now".to_owned(), |before| before.to_string());
            let all =
                format!("every passport of subject {}, tenant {}, issued until {until}", plain(sub), plain(&tenant));
            (all, Some(sub), Revocation::Subject { sub, before })
        }
    };
    let sure_of_one = Sure { yes: sure.yes || word.is_none(), ..sure };
    if !revokes(context, &all, word.unwrap_or_default(), Operation::RevokeAny, &sure_of_one).await? {
        return Ok(Exit::Ok);
    }
    let admin = context.admin().await?;
    let new = ask(&admin, &tenant, vec![one], &sure_of_one.reason).await?;
    let text = if new > 0 { format!("revoked {all}") } else { format!("revoked before: {all}") };
    say(context, &Said { text, json: json!({"revoked": new}) })
}

/// A passport that a service presents.
async fn presented(context: &mut Context<'_>, path: &Path, sure: &Sure) -> Result<Exit, CliError> {
    let (name, bytes) = context.read(path)?;
    let Given::One(Slot::Passport(passport)) = input::passports(&name, &bytes)? else {
        return Err(CliError::input(
            &name,
            "expected one passport; revoke several one by one, or by --file with their ids",
        ));
    };
    if sure.dry_run {
        let text = format!("would revoke the passport in {}", plain(&name));
        return say(context, &Said { text, json: json!({"would_revoke": 1}) });
    }
    let new = context.client().await?.revoke(&passport).await?;
    let text = if new { "revoked" } else { "revoked before, or expired" }.to_owned();
    say(context, &Said { text, json: json!({"revoked": u8::from(new)}) })
}

async fn compromise(context: &mut Context<'_>, kid: &str, sure: &Sure) -> Result<Exit, CliError> {
    let all = format!("everything that key {} signed", plain(kid));
    if !revokes(context, &all, kid, Operation::Compromise, sure).await? {
        return Ok(Exit::Ok);
    }
    match context.admin().await?.ask(AdminOp::Compromise { kid, reason: &sure.reason }).await? {
        AdminOk::Done => {
            let stops = stopped(context, kid).await.map_or_else(String::new, |of| {
                format!("; no key signs for {} now, so nothing is issued there", plain(&of))
            });
            let text = format!("revoked {all}; it signs no more{stops}");
            say(context, &Said { text, json: json!({"compromised": kid, "issuing_stopped": !stops.is_empty()}) })
        }
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

/// The tenant and purpose of a passport key that no other signs for now, if the daemon says so.
async fn stopped(context: &mut Context<'_>, kid: &str) -> Option<String> {
    let status = status_document(&context.admin().await.ok()?).await.ok()?;
    let (kind, _) = kid.rsplit_once('/')?;
    let text = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let passports = |key: &&Value| text(key, "role") == "passport" && text(key, "kid").starts_with(&format!("{kind}/"));
    let keys: Vec<_> = status.get("keys")?.as_array()?.iter().filter(passports).collect();
    let none_signs = !keys.is_empty() && !keys.iter().any(|key| text(key, "state") == "active");
    none_signs.then(|| kind.split_once('/').map_or(kind, |(_, of)| of).to_owned())
}

pub(super) async fn epoch(context: &mut Context<'_>, command: EpochCommand) -> Result<Exit, CliError> {
    match command {
        EpochCommand::List => {
            let epochs = status_document(&context.admin().await?).await?;
            let epochs = epochs.pointer("/state/epochs").cloned().unwrap_or_else(|| json!({}));
            if context.out.is_json() {
                return context.out.json(&epochs).map(|()| Exit::Ok);
            }
            let none = serde_json::Map::new();
            let rows = epochs
                .as_object()
                .unwrap_or(&none)
                .iter()
                .map(|(tenant, epoch)| vec![plain(tenant), epoch.to_string()]);
            let rows: Vec<_> = rows.collect();
            context.out.table(&["tenant", "epoch"], rows).map(|()| Exit::Ok)
        }
        EpochCommand::Bump { tenant, sure } => {
            let all = format!("every passport of tenant {} that was issued until now", plain(&tenant));
            if !revokes(context, &all, &tenant, Operation::BumpEpoch, &sure).await? {
                return Ok(Exit::Ok);
            }
            let op = AdminOp::BumpEpoch { tenant: &tenant, reason: &sure.reason };
            let AdminOk::EpochBumped { epoch } = context.admin().await?.ask(op).await? else {
                return Err(ClientError::WrongAnswer.into());
            };
            let text = format!("revoked {all}; its epoch is {epoch}");
            say(context, &Said { text, json: json!({"tenant": tenant, "epoch": epoch}) })
        }
    }
}

/// What is to be done, and in which words it is asked for.
pub(super) struct Aim<'a> {
    /// Before `all`, in a dry run.
    pub(super) would: &'a str,
    /// Before `all`, in the question.
    pub(super) does: &'a str,
    /// The end of it, if the answer is another.
    pub(super) undone: &'a str,
    /// What it is.
    pub(super) all: &'a str,
    /// What is typed to go on.
    pub(super) word: &'a str,
    /// What the policy has to allow.
    pub(super) operation: Operation,
}

/// The same for what is revoked.
async fn revokes(
    context: &mut Context<'_>,
    all: &str,
    word: &str,
    operation: Operation,
    sure: &Sure,
) -> Result<bool, CliError> {
    let (would, does, undone) = ("would revoke", "this revokes", "nothing was revoked");
    go_on(context, &Aim { would, does, undone, all, word, operation }, sure.dry_run, sure.yes).await
}

/// Whether to do it: not in a dry run, which only says what would be done, nor before somebody has typed the word.
pub(super) async fn go_on(
    context: &mut Context<'_>,
    aim: &Aim<'_>,
    dry_run: bool,
    yes: bool,
) -> Result<bool, CliError> {
    let Aim { would, does, undone, all, word, operation } = aim;
    if dry_run {
        let admin = context.admin().await?;
        let AdminOk::WhoAmI(identity) = admin.ask(AdminOp::WhoAmI).await? else {
            return Err(ClientError::WrongAnswer.into());
        };
        let may = identity.operations.iter().any(|name| name == operation.name());
        let not = if may { "" } else { "; but the policy does not let this user" };
        let name = would.replace(' ', "_");
        say(context, &Said { text: format!("{would} {all}{not}"), json: json!({name: all, "may": may}) })?;
        return Ok(false);
    }
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("{does} {all}; give --yes to do so, or --dry-run")));
    }
    context.out.error(&format!("{does} {all}; type {} to go on: ", plain(word)));
    let mut typed = Vec::new();
    let line = BufReader::new(&mut context.stdin).take(MAX_TYPED).read_until(b'\n', &mut typed);
    line.map_err(|why| CliError::File { path: "stdin".into(), why })?;
    if typed.trim_ascii() == word.as_bytes() {
        return Ok(true);
    }
    Err(CliError::Failed(format!("{undone}: that is not what was to be typed")))
}

async fn revoke_all(
    context: &mut Context<'_>,
    tenant: &str,
    ids: &[(String, Option<i64>)],
    reason: &str,
) -> Result<Exit, CliError> {
    let admin = context.admin().await?;
    let progress = context.out.progress("revoking", Extent::Items(ids.len()));
    let (mut new, mut done) = (0_u64, 0);
    for part in ids.chunks(STRIDE) {
        let what = part.iter().map(|(jti, exp)| Revocation::Id { jti, exp: *exp }).collect();
        let asked = ask(&admin, tenant, what, reason).await;
        new += u64::from(asked.map_err(|error| {
            CliError::Failed(format!(
                "{done} of {} are revoked, the rest is not; run it again for them: {error}",
                ids.len()
            ))
        })?);
        done += part.len();
        progress.advance(part.len());
    }
    drop(progress);
    let text = format!("revoked {done} passports of tenant {}; new: {new}", plain(tenant));
    say(context, &Said { text, json: json!({"revoked": new, "asked": done}) })
}

async fn ask(admin: &AdminClient, tenant: &str, what: Vec<Revocation<'_>>, reason: &str) -> Result<u32, CliError> {
    match admin.ask(AdminOp::Revoke { tenant, what, reason }).await? {
        AdminOk::Revoked { new } => Ok(new),
        _ => Err(ClientError::WrongAnswer.into()),
    }
}

/// An id on each line, and its `exp` behind it.
fn ids(name: &str, bytes: &[u8]) -> Result<Vec<(String, Option<i64>)>, CliError> {
    let text = std::str::from_utf8(bytes).map_err(|_| CliError::input(name, "it is not UTF-8"))?;
    let mut ids = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(jti) = words.next() else { continue };
        let exp = words.next().map(str::parse).transpose();
        let wrong =
            || CliError::input(name, format!("line {}: expected an id, and behind it its exp or nothing", at + 1));
        let exp = exp.map_err(|_| wrong())?;
        if words.next().is_some() {
            return Err(wrong());
        }
        ids.push((jti.to_owned(), exp));
    }
    if ids.is_empty() { Err(CliError::input(name, "it names no passport")) } else { Ok(ids) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_an_id_on_each_line_and_its_exp_behind_it() {
        let read = |text: &str| ids("f", text.as_bytes());
        let given = read("a\n\n  b 17\r\nc\t-1\n").unwrap();
        assert_eq!(given, [("a".to_owned(), None), ("b".to_owned(), Some(17)), ("c".to_owned(), Some(-1))]);
        for (text, words) in
            [("", "names no passport"), ("\n \n", "names no"), ("a\nb x", "line 2"), ("a 1 2", "line 1")]
        {
            assert!(read(text).unwrap_err().to_string().contains(words), "{text:?}");
        }
        assert!(ids("f", b"\xff").unwrap_err().to_string().contains("not UTF-8"));
    }
}
