//! `doctor`: everything that can be set up wrong, one line each with its remedy.
//!
//! Facts are gathered in one place ([`gather`], [`inside`], [`reader`], [`ask`]) and judged in another ([`settings`], [`files`],
//! [`kept`], [`daemon`], [`host`]), by functions that ask nobody, so that every bad fact can be shown to them. It needs no daemon, since one
//! that does not start is the usual reason to call it, and no root: what a user may not see is reported as skipped.

mod ask;
mod daemon;
mod facts;
mod files;
mod gather;
mod host;
mod inside;
mod kept;
mod reader;
mod settings;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::json;

use super::context::Context;
use super::error::{CliError, Exit};
use super::out::Out;
use super::progress::Extent;
use super::text::plain;
use facts::Facts;

/// What to do where nothing serves.
const START: &str = "start it: systemctl start passportd.target (without systemd: passportd run); if it ends, \
                     journalctl -u 'passportd*' says why";

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// It could not be looked at.
    Skipped,
    /// It works, and is worth a look.
    Warn,
    /// It does not work, or lets somebody in.
    Fail,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skip",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    status: Status,
    /// What was found, and where.
    detail: String,
    /// What to do; never empty where a check fails or warns.
    remedy: String,
}

impl Check {
    fn new(status: Status, name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, detail: detail.into(), remedy: remedy.into() }
    }

    fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self::new(Status::Ok, name, detail, "")
    }

    fn warn(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Warn, name, detail, remedy)
    }

    fn fail(name: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Fail, name, detail, remedy)
    }

    fn skipped(name: &str, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(Status::Skipped, name, format!("skipped: {}", why.into()), remedy)
    }

    fn line(&self, width: usize) -> String {
        let remedy = if self.remedy.is_empty() { String::new() } else { format!("; {}", plain(&self.remedy)) };
        format!("{:<width$} {}{remedy}", plain(&self.name), plain(&self.detail))
    }
}

/// Looks at everything. Exits 0 unless a check fails.
pub(super) async fn run(context: &mut Context<'_>) -> Result<Exit, CliError> {
    let progress = context.out.progress("looking", Extent::Unknown);
    let facts = gather::all(context).await;
    drop(progress);
    report(&mut context.out, &judge(&facts))
}

/// Every check, in the order in which one depends on the other.
fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = settings::judge(&facts.settings, facts.uid);
    if let Some(found) = &facts.files {
        checks.extend(files::judge(found, facts.uid, facts.now));
    }
    checks.extend(facts.sockets.iter().map(|socket| files::socket(socket, facts.uid)));
    checks.extend(daemon::judge(&facts.daemon, &facts.settings));
    checks.extend(host::judge(&facts.host));
    checks
}

fn report(out: &mut Out<'_>, checks: &[Check]) -> Result<Exit, CliError> {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let failed = count(Status::Fail);
    let exit = if failed == 0 { Exit::Ok } else { Exit::Failed };
    if out.is_json() {
        return out.json(&json!({"ok": failed == 0, "checks": checks})).map(|()| exit);
    }
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
    for check in checks {
        let mark = match check.status {
            Status::Ok => out.mark(true).to_owned(),
            Status::Fail => out.mark(false).to_owned(),
            other => format!("{:<4}", other.word()),
        };
        out.line(format!("{mark} {}", check.line(width)).trim_end())?;
    }
    let (warnings, skipped) = (count(Status::Warn), count(Status::Skipped));
    out.line(&format!("{} checks: failed {failed}, warnings {warnings}, skipped {skipped}", checks.len()))?;
    Ok(exit)
}
