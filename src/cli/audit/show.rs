//! `audit show`, `audit export`.

use std::collections::VecDeque;

use super::super::args::{Conditions, ExportAudit, ShowAudit};
use super::super::context::Context;
use super::super::error::{CliError, Exit};
use super::super::progress::Extent;
use super::super::text::{escaped, plain};
use super::{ledger, open};
use crate::audit::reading::chain::{Start, Trouble, walk};
use crate::audit::reading::filter::Filter;
use crate::audit::reading::line::Record;
use crate::audit::reading::segments::Directory;
use crate::audit::reading::source::{Lines, Piece};
use crate::clock::Moment;
use crate::log::Fault;

/// The filter that these conditions are.
pub(super) fn filter(asked: &Conditions, now: Moment) -> Filter {
    Filter {
        events: asked.event.clone(),
        outcomes: asked.outcome.clone(),
        uids: asked.uid.clone(),
        sub: asked.sub.clone(),
        jti: asked.jti.clone(),
        kid: asked.kid.clone(),
        reasons: asked.reason.clone(),
        corr_id: asked.corr_id.clone(),
        first: asked.seq.map_or(0, |span| span.first),
        last: asked.seq.and_then(|span| span.last),
        since: asked.since.map(|when| when.text(now)),
        until: asked.until.map(|when| when.text(now)),
    }
}

pub(super) fn show(context: &mut Context<'_>, asked: &ShowAudit, now: Moment) -> Result<Exit, CliError> {
    let filter = filter(&asked.conditions, now);
    let dir = if asked.records.files.is_empty() { ledger(context, asked.records.dir.as_deref())? } else { "".into() };
    let progress = context.out.progress("reading records", Extent::Unknown);
    let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
    let mut lines = open(&mut context.stdin, &dir, &asked.records, filter.first)?;
    let (mut found, mut line) = (VecDeque::<Vec<u8>>::new(), Vec::new());
    let (mut matched, mut strange) = (0_u64, 0_u64);
    loop {
        match lines.next(&mut line)? {
            Piece::End => break,
            Piece::Begins(_) => {}
            Piece::Line => match Record::look(&line) {
                Ok(record) if filter.wants(&record) => {
                    matched += 1;
                    if found.len() == limit {
                        found.pop_front();
                    }
                    found.push_back(line.clone());
                }
                Ok(record) if filter.is_past(record.seq) => break,
                Ok(_) => {}
                Err(_) => strange += 1,
            },
            Piece::Corrupt(_) => {
                strange += 1;
                break;
            }
            Piece::Overlong | Piece::Torn(_) | Piece::Beyond(_) | Piece::Forged { .. } => strange += 1,
        }
    }
    drop((progress, lines));
    if context.out.is_json() {
        for line in &found {
            context.out.line(&escaped(&String::from_utf8_lossy(line)))?;
        }
    } else {
        let rows = found.iter().filter_map(|line| Some(row(&Record::look(line).ok()?)));
        context.out.table(&["seq", "time", "event", "outcome", "uid", "what"], rows)?;
    }
    let hidden = matched.saturating_sub(u64::try_from(found.len()).unwrap_or(u64::MAX));
    if hidden > 0 {
        context.out.note(&format!("{hidden} older ones are not shown; see --limit"));
    }
    if strange > 0 {
        context.out.note(&format!("{strange} lines are no records; see `passportctl audit verify`"));
    }
    Ok(Exit::Ok)
}

fn row(record: &Record<'_>) -> Vec<String> {
    let mut what = Vec::new();
    let texts = [
        ("reason", record.reason.as_deref()),
        ("sub", record.sub.as_deref()),
        ("kid", record.kid.as_deref()),
        ("template", record.template.as_deref()),
        ("action", record.action.as_deref()),
        ("aud", record.aud.as_deref()),
        ("jti", record.jti.as_deref()),
        ("detail", record.detail.as_deref()),
    ];
    for (name, text) in texts {
        let Some(text) = text else { continue };
        // A text with blanks could look like the next member.
        let bare = !text.is_empty() && !text.contains([' ', '"', '=']);
        what.push(format!("{name}={}", plain(&if bare { text.to_owned() } else { format!("{text:?}") })));
    }
    let uid = record.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
    let first = [record.seq.to_string(), plain(&record.time), plain(&record.event), plain(&record.outcome), uid];
    first.into_iter().chain([what.join(" ")]).collect()
}

/// What is written at once, in bytes.
const CHUNK: usize = 256 << 10;

pub(super) fn export(context: &mut Context<'_>, asked: &ExportAudit) -> Result<Exit, CliError> {
    let dir = ledger(context, asked.dir.as_deref())?;
    let mut lines = Directory::open(&dir, asked.after.saturating_add(1))?;
    let first = lines.base().first;
    if asked.after.saturating_add(1) < first {
        context.out.note(&format!("records {}-{} were removed by the rules of retention", asked.after + 1, first - 1));
    }
    let (mut chunk, mut cursor, mut left) = (Vec::new(), asked.after, asked.limit.unwrap_or(u64::MAX));
    let mut written = Ok(());
    let out = &mut context.out;
    let walked = walk(&mut lines, Start::Anywhere, &mut |record, line| {
        if record.seq <= asked.after {
            return true;
        }
        if left == 0 {
            return false;
        }
        chunk.extend_from_slice(line);
        chunk.push(b'\n');
        (cursor, left) = (record.seq, left - 1);
        if chunk.len() >= CHUNK {
            written = out.bytes(&chunk);
            chunk.clear();
        }
        left > 0 && written.is_ok() && !out.is_closed()
    });
    written?;
    context.out.bytes(&chunk)?;
    let damage = match walked {
        Ok(_) => None,
        Err(Trouble::Read(error)) => return Err(error.into()),
        // What is just being written comes with the next call.
        Err(Trouble::Damage(damage)) => Some(damage).filter(|damage| !matches!(damage.fault, Fault::Torn { .. })),
    };
    context.out.error(&format!("next: {cursor}\n"));
    if let Some(damage) = damage {
        context.out.note(&plain(&damage.to_string()));
        return Ok(Exit::NotValid);
    }
    Ok(Exit::Ok)
}
