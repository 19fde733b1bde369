//! `ceremony run`: shows, asks, has it done, tells the daemon, and keeps the transcript. The ceremony process decides; nothing
//! here is trusted by it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::admin::{Said, say, status_document};
use super::super::args::Run;
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::hsm::{ceremony, pin, stage_when_seen};
use super::super::keys::activate_in_time;
use super::super::text::plain;
use super::{page, plan_of, steps, text};
use crate::client::AdminClient;
use crate::log::durable;
use crate::secret::Pin;
use crate::statement::plan::{Opened, Step};
use crate::statement::transcript::{Daemon, DaemonStep, StepDone, examine};
use crate::wire::AdminOp;
use crate::wire::ceremony::{PlanKind, Report, Request, SealedTranscript};

/// The longest word that is typed, in bytes.
const MAX_TYPED: usize = 300;
/// A transcript is for everybody to check.
const MODE: u32 = 0o644;

pub(super) async fn run(context: &mut Context<'_>, wish: &Run) -> Result<Exit, CliError> {
    let opened = plan_of(context, &wish.plan)?;
    let mut approvals = Vec::with_capacity(wish.approvals.len());
    for path in &wish.approvals {
        approvals.push(text(context, path)?.1.trim().to_owned());
    }
    context.out.note(&format!("{opened} for {}:", plain(&opened.plan.issuer)));
    for line in steps(&opened.plan) {
        context.out.note(&line);
    }
    for step in opened.plan.steps.iter().filter(|_| !wish.yes) {
        if let Some(word) = step.asks_for() {
            sure(context, &step.words(), &word)?;
        }
    }
    let pin = if wish.own_pad { None } else { Some(pin(&wish.pin)?) };
    let request = Request { plan: PlanKind::Run, document: Some(opened.text.clone()), approvals, ..Request::default() };
    let report = match ceremony(context, &request, pin.as_ref()) {
        // Nothing is done again. Its transcript may never have arrived.
        Err(CliError::Ceremony(why)) if why.starts_with("spent: ") => return kept(context, wish, &opened, &why),
        other => other?,
    };
    for warning in &report.warnings {
        context.out.note(&format!("warning: {}", plain(warning)));
    }
    if let Some(backup) = &report.backup {
        context.out.note(&format!("the HSM's store was copied to {} first", plain(backup)));
    }
    for note in report.steps.iter().flat_map(|step| &step.notes) {
        context.out.note(&plain(note));
    }
    let daemon =
        if wish.offline { None } else { at_the_daemon(context, &opened, &report.steps, wish.activate).await? };
    let transcript = seal(context, &opened, daemon, pin.as_ref())?;
    write(context, wish, &opened, &report, &transcript)
}

/// Whether to go on, by the word that has to be typed.
fn sure(context: &mut Context<'_>, what: &str, word: &str) -> Result<(), CliError> {
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("this can't be undone: {}; give --yes to do so", plain(what))));
    }
    context.out.error(&format!("this can't be undone: {}; type {} to go on: ", plain(what), plain(word)));
    let mut typed = Vec::new();
    // Byte by byte: what comes after the line is for the next question.
    while typed.len() < MAX_TYPED {
        let mut byte = [0; 1];
        let read = context.stdin.read(&mut byte).map_err(|why| CliError::File { path: "stdin".into(), why })?;
        if read == 0 || byte == *b"\n" {
            break;
        }
        typed.extend(byte);
    }
    if typed.trim_ascii() == word.as_bytes() {
        return Ok(());
    }
    Err(CliError::Failed("nothing was done: that is not what was to be typed".to_owned()))
}

/// Has the daemon stage, activate, revoke and strike off what the steps were about; none where they are not about the daemon. What is done
/// already is not done again.
async fn at_the_daemon(
    context: &mut Context<'_>,
    opened: &Opened,
    done: &[StepDone],
    and_activate: bool,
) -> Result<Option<Daemon>, CliError> {
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (step, done) in opened.plan.steps.iter().zip(done) {
        for key in &done.keys {
            wanted.push(("stage", &key.kid));
            if and_activate || matches!(step, Step::Init { .. }) {
                wanted.push(("activate", &key.kid));
            }
        }
        // The daemon revokes what a passport key has signed; of the others it keeps nothing that could be.
        if let Step::Compromise { kid } = step
            && kid.starts_with("ed25519/")
            && !kid.contains("/audit/")
        {
            wanted.push(("compromise", kid));
        }
        // Seal keys are in no table of the daemon's.
        if let Step::Destroy { kid, .. } = step
            && kid.starts_with("ed25519/")
        {
            wanted.push(("destroyed", kid));
        }
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let again = |error: &CliError| {
        CliError::Failed(format!(
            "the HSM's part is done, and the daemon does not go along: {error}; when it does, run this again with the same plan, \
             or with --offline for a transcript without it"
        ))
    };
    let admin = context.admin().await.map_err(|error| again(&error))?;
    let mut daemon = Daemon { audit_before: seq(&admin).await, ..Daemon::default() };
    let known = status_document(&admin).await.unwrap_or(Value::Null);
    for (op, kid) in wanted {
        if !is_done(&known, op, kid) {
            let said = one(&admin, op, kid, &opened.plan.id).await.map_err(|error| again(&error))?;
            context.out.note(&plain(&said));
        }
        daemon.did.push(DaemonStep { op: op.to_owned(), kid: kid.to_owned(), audit_seq: seq(&admin).await });
    }
    daemon.audit_after = seq(&admin).await;
    Ok(Some(daemon))
}

/// Whether a run that was cut short has come so far.
fn is_done(status: &Value, op: &str, kid: &str) -> bool {
    let keys = status.get("keys").and_then(Value::as_array).into_iter().flatten();
    let state = keys.filter(|key| key.get("kid").and_then(Value::as_str) == Some(kid)).find_map(|key| key.get("state"));
    match (op, state.and_then(Value::as_str)) {
        ("stage", Some(_)) => true,
        ("activate", Some(state)) => state != "staged",
        // One that it never knew has nothing to be struck off.
        ("destroyed", state) => state.is_none_or(|state| state == "destroyed"),
        _ => false,
    }
}

async fn one(admin: &AdminClient, op: &str, kid: &str, id: &str) -> Result<String, CliError> {
    match op {
        "stage" => stage_when_seen(admin, kid).await,
        "activate" => activate_in_time(admin, kid).await.map(|said| said.text),
        "destroyed" => {
            admin.ask(AdminOp::Destroyed { kid }).await?;
            Ok(format!("{kid} is destroyed; its id is never used again"))
        }
        _ => {
            let reason = format!("ceremony {id}");
            admin.ask(AdminOp::Compromise { kid, reason: &reason }).await?;
            Ok(format!("all that {kid} has signed is revoked"))
        }
    }
}

/// The sequence number of the newest audit record.
async fn seq(admin: &AdminClient) -> Option<u64> {
    status_document(admin).await.ok()?.pointer("/audit/seq")?.as_u64()
}

fn seal(
    context: &mut Context<'_>,
    opened: &Opened,
    daemon: Option<Daemon>,
    pin: Option<&Pin>,
) -> Result<SealedTranscript, CliError> {
    let request = Request { plan: PlanKind::Seal, document: Some(opened.text.clone()), daemon, ..Request::default() };
    let report = ceremony(context, &request, pin)?;
    report.transcript.map(|made| *made).ok_or_else(|| CliError::Answer("it has no transcript".to_owned()))
}

/// A plan that was carried out before: its transcript, once more, and the refusal.
fn kept(context: &mut Context<'_>, wish: &Run, opened: &Opened, why: &str) -> Result<Exit, CliError> {
    let refused = || CliError::Ceremony(why.to_owned());
    let transcript = seal(context, opened, None, None).map_err(|_| refused())?;
    let path = place(wish, opened);
    files(&path, &transcript)?;
    context.out.note(&format!("its transcript is in {}", plain(&path.display().to_string())));
    Err(refused())
}

fn place(wish: &Run, opened: &Opened) -> PathBuf {
    wish.transcript.clone().unwrap_or_else(|| format!("{}.json", opened.plan.id).into())
}

/// The name of a file, and more.
pub(super) fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

fn files(path: &Path, made: &SealedTranscript) -> Result<(), CliError> {
    let put = |path: &Path, bytes: &[u8]| {
        durable::replace(path, bytes, MODE).map_err(|why| CliError::File { path: path.to_owned(), why })
    };
    let signed = serde_json_canonicalizer::to_vec(&made.signed).map_err(|why| CliError::Failed(why.to_string()))?;
    put(path, made.document.as_bytes())?;
    put(&beside(path, ".sig"), &signed)?;
    let (read, findings) = examine(&made.document, &made.signed, None);
    if let Some(wrong) = findings.iter().find(|one| !one.ok) {
        return Err(CliError::Failed(format!(
            "the transcript does not hold: {}: {}",
            wrong.what,
            plain(&wrong.detail)
        )));
    }
    let read = read.ok_or_else(|| CliError::Answer("its transcript is none".to_owned()))?;
    put(&beside(path, ".html"), page::html(&read, &made.signed, &findings).as_bytes())
}

fn write(
    context: &mut Context<'_>,
    wish: &Run,
    opened: &Opened,
    report: &Report,
    made: &SealedTranscript,
) -> Result<Exit, CliError> {
    let path = place(wish, opened);
    files(&path, made)?;
    let keys: Vec<&str> = report.steps.iter().flat_map(|step| &step.keys).map(|key| key.kid.as_str()).collect();
    let mut lines: Vec<String> = keys.iter().map(|kid| format!("made {}", plain(kid))).collect();
    let shown = plain(&path.display().to_string());
    lines.push(format!("done; the transcript is {shown}, signed by {}", plain(&made.signed.kid)));
    let rotated = opened.plan.steps.iter().any(|step| matches!(step, Step::Rotate { .. } | Step::Adopt { .. }));
    if rotated && !wish.activate {
        for kid in &keys {
            lines.push(format!("once verifiers have fetched the key set: passportctl key activate {}", plain(kid)));
        }
    }
    let json = json!({"plan": opened.plan.id, "keys": keys, "transcript": path, "signed_by": made.signed.kid});
    say(context, &Said { text: lines.join("\n"), json })
}
