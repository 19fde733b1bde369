//! `state …` and `ceremony clock-reset`: what is done to the state's file, without a daemon.

use std::fs::File;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::admin::{Said, say};
use super::args::{Certain, ClockReset, StateCommand};
use super::context::Context;
use super::error::{CliError, Exit};
use super::owner::become_owner_of;
use super::progress::Extent;
use super::text::plain;
use crate::audit::PlaceError;
use crate::clock::Moment;
use crate::log::durable;
use crate::state::{self, Backup, By, Snapshot, StateError};

/// The longest reason, in bytes: an audit record has room for it.
const MAX_REASON: usize = 256;
/// The longest word that is typed, in bytes.
const MAX_TYPED: u64 = 300;

pub(super) fn run(context: &mut Context<'_>, command: StateCommand, now: Moment) -> Result<Exit, CliError> {
    match command {
        StateCommand::Check { file } => check(context, file),
        StateCommand::Export { from, out } => export(context, from, &out),
        StateCommand::Import { input, to } => import(context, &input, &to),
        StateCommand::Restore { from, sure } => restore(context, &from, &sure, now),
    }
}

/// The file that was named, or the configuration's.
fn place(context: &Context<'_>, named: Option<PathBuf>) -> Result<PathBuf, CliError> {
    named.map_or_else(|| Ok(context.configuration()?.config.state.path.clone()), Ok)
}

fn failed(error: &StateError) -> CliError {
    let remedy = match error {
        StateError::Place(PlaceError::InUse { .. }) => "; stop the daemon first, or name a copy of the file",
        _ => "",
    };
    CliError::Failed(format!("{error}{remedy}"))
}

fn shown(path: &Path) -> String {
    plain(&path.display().to_string())
}

fn check(context: &mut Context<'_>, file: Option<PathBuf>) -> Result<Exit, CliError> {
    let path = place(context, file)?;
    let progress = context.out.progress("reading the state", Extent::Unknown);
    let looked = state::look(&path);
    drop(progress);
    let snapshot = looked.map_err(|error| failed(&error))?;
    let Snapshot { generation, audit_seq, mark, .. } = snapshot;
    let (keys, pending) = (snapshot.keys.len(), snapshot.pending.len());
    let text = format!(
        "{}: every page and row is as it was written; keys {keys}, generation {generation}, newest audit record {audit_seq}",
        shown(&path)
    );
    let json = json!({
        "file": path, "ok": true, "keys": keys, "generation": generation, "audit_seq": audit_seq, "mark": mark,
        "pending": pending,
    });
    say(context, &Said { text, json })
}

fn export(context: &mut Context<'_>, from: Option<PathBuf>, out: &Path) -> Result<Exit, CliError> {
    let path = place(context, from)?;
    let progress = context.out.progress("reading the state", Extent::Unknown);
    let mut bytes = Vec::new();
    let exported = state::export(&path, &mut bytes);
    drop(progress);
    let lines = exported.map_err(|error| failed(&error))?;
    if out == Path::new("-") {
        return context.out.bytes(&bytes).map(|()| Exit::Ok);
    }
    durable::create(out, &bytes, 0o600).map_err(|why| CliError::File { path: out.to_owned(), why })?;
    let text = format!("exported {lines} rows of {} to {}", shown(&path), shown(out));
    say(context, &Said { text, json: json!({"exported": lines, "file": out}) })
}

fn import(context: &mut Context<'_>, input: &Path, to: &Path) -> Result<Exit, CliError> {
    let progress = context.out.progress("importing", Extent::Unknown);
    let imported = if input == Path::new("-") {
        become_owner_of(to)?;
        state::import(to, Path::new("stdin"), &mut BufReader::new(&mut context.stdin))
    } else {
        let file = File::open(input).map_err(|why| CliError::File { path: input.to_owned(), why })?;
        become_owner_of(to)?;
        state::import(to, input, &mut BufReader::new(file))
    };
    drop(progress);
    let snapshot = match imported {
        Err(StateError::Text { path, what }) => return Err(CliError::input(&path.display().to_string(), what)),
        other => other.map_err(|error| failed(&error))?,
    };
    let Snapshot { generation, audit_seq, .. } = snapshot;
    let text = format!("imported {}: generation {generation}, newest audit record {audit_seq}", shown(to));
    say(context, &Said { text, json: json!({"file": to, "generation": generation, "audit_seq": audit_seq}) })
}

fn restore(context: &mut Context<'_>, from: &Path, sure: &Certain, now: Moment) -> Result<Exit, CliError> {
    let path = place(context, None)?;
    let by = by(sure, now)?;
    let backup = Backup::read(from).map_err(|error| failed(&error))?;
    become_owner_of(&path)?;
    let looked = state::restore(&path, &backup, &by, true).map_err(|error| failed(&error))?;
    let Snapshot { audit_seq, generation, .. } = looked.backup;
    let all = format!(
        "the state {} by the backup {} (generation {generation}, newest audit record {audit_seq}), and revokes every passport",
        shown(&path),
        shown(from)
    );
    if sure.dry_run {
        let json = json!({"would_restore": from, "generation": generation, "audit_seq": audit_seq});
        return say(context, &Said { text: format!("would replace {all}"), json });
    }
    confirmed(context, &format!("replaces {all}"), "restore", sure)?;
    let restored = state::restore(&path, &backup, &by, false).map_err(|error| failed(&error))?;
    let aside =
        restored.aside.as_deref().map_or_else(String::new, |aside| format!("; the old one is {}", shown(aside)));
    let text = format!("restored {} from {}{aside}; the next start revokes every passport", shown(&path), shown(from));
    say(context, &Said { text, json: json!({"restored": path, "aside": restored.aside, "audit_seq": audit_seq}) })
}

pub(super) fn clock_reset(context: &mut Context<'_>, reset: &ClockReset, now: Moment) -> Result<Exit, CliError> {
    let path = place(context, None)?;
    let sure = &reset.sure;
    let by = by(sure, now)?;
    become_owner_of(&path)?;
    let known = state::reset_clock(&path, &by, true).map_err(|error| failed(&error))?;
    let now = now.unix();
    let off = if known >= now {
        format!("{} s behind the newest time that is known", known.saturating_sub(now))
    } else {
        format!("{} s after the newest time that is known", now.saturating_sub(known))
    };
    let all = format!("the clock, which stands {off}, for right, and revokes every passport");
    if sure.dry_run {
        let json = json!({"would_reset": path, "from": known, "to": now});
        return say(context, &Said { text: format!("would take {all}"), json });
    }
    confirmed(context, &format!("takes {all}"), "reset", sure)?;
    state::reset_clock(&path, &by, false).map_err(|error| failed(&error))?;
    let text = format!("the clock is right, says {}; the next start revokes every passport", shown(&path));
    say(context, &Said { text, json: json!({"reset": path, "from": known, "to": now}) })
}

fn by(sure: &Certain, now: Moment) -> Result<By, CliError> {
    if sure.reason.len() > MAX_REASON {
        return Err(CliError::Usage(format!("--reason is longer than {MAX_REASON} bytes")));
    }
    Ok(By { uid: nix::unistd::getuid().as_raw(), now, reason: sure.reason.clone() })
}

/// Refuses unless it was typed, or said before.
fn confirmed(context: &mut Context<'_>, all: &str, word: &str, sure: &Certain) -> Result<(), CliError> {
    if sure.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(CliError::Usage(format!("this {all}; give --yes to do so, or --dry-run")));
    }
    context.out.error(&format!("this {all}; type {word} to go on: "));
    let mut typed = Vec::new();
    let line = BufReader::new(&mut context.stdin).take(MAX_TYPED).read_until(b'\n', &mut typed);
    line.map_err(|why| CliError::File { path: "stdin".into(), why })?;
    if typed.trim_ascii() == word.as_bytes() {
        return Ok(());
    }
    Err(CliError::Failed("nothing was done: that is not what was to be typed".to_owned()))
}
