//! `inspect`: what a passport says, without trust. Offline, and nothing in here can make a passport valid: what is read
//! goes to a screen and nowhere else.
//!
//! | part | what it does |
//! |---|---|
//! | [`read`] | takes a passport apart, as leniently as it can |
//! | [`suspect`] | names what is wrong with it |

mod read;
mod suspect;

use serde_json::{Map, Value, json};

use super::args::Inspect;
use super::context::Context;
use super::error::{CliError, Exit};
use super::text::{self, leaves, plain};
use crate::clock::Moment;
use read::Found;
use suspect::{TIMES, Times};

const NOTICE: &str = "NOT VERIFIED";
const MEANING: &str = "whoever wrote this passport chose every word below";

pub(super) fn run(context: &mut Context<'_>, inspect: &Inspect) -> Result<Exit, CliError> {
    let (name, bytes) = context.read(&inspect.file)?;
    let found = read::read(&name, &bytes)?;
    let now = Moment::now();
    let wrong = suspect::all(&found, now);
    if context.out.is_json() {
        context.out.json(&document(&found, &wrong, now))?;
    } else {
        show(context, &found, &wrong, now)?;
    }
    // It could be read. Whether it is valid is not asked here, so no exit code says so.
    Ok(Exit::Ok)
}

fn document(found: &Found, wrong: &[String], now: Moment) -> Value {
    let mut times = Map::new();
    let given = Times::of(&found.claims);
    for (name, at) in TIMES.into_iter().zip(given.all()) {
        if let Some(at) = at {
            let seconds = at.saturating_sub(now.unix());
            times.insert(name.to_owned(), json!({"at": text::time(at), "from_now_s": seconds}));
        }
    }
    json!({
        "verified": false,
        "notice": format!("{NOTICE}: {MEANING}"),
        "form": found.form.name(),
        "header": found.header,
        "claims": found.claims,
        "times": times,
        "signature_bytes": found.signature.len(),
        "needs_daemon": suspect::needs_daemon(&found.payload),
        "wrong": wrong,
    })
}

fn show(context: &mut Context<'_>, found: &Found, wrong: &[String], now: Moment) -> Result<(), CliError> {
    let notice = context.out.loud(NOTICE);
    context.out.line(&format!("{notice}: {MEANING}"))?;
    let mut pairs = vec![("form".to_owned(), found.form.name().to_owned())];
    // The passport's own words stand behind a prefix, so that none of its members passes for one of ours.
    let said = |prefix: &str, value: &Value| {
        leaves(value).into_iter().map(|(name, value)| (format!("{prefix}.{name}"), value)).collect::<Vec<_>>()
    };
    pairs.extend(said("header", &found.header));
    let times = Times::of(&found.claims);
    for (name, value) in said("claims", &found.claims) {
        let at = TIMES.into_iter().zip(times.all()).find(|(time, _)| name == format!("claims.{time}"));
        let value = at.and_then(|(_, at)| at).map_or(value, |at| format!("{}, {}", text::time(at), relative(at, now)));
        pairs.push((name, value));
    }
    pairs.push(("signature".to_owned(), format!("{} bytes, not checked", found.signature.len())));
    if suspect::needs_daemon(&found.payload) == Some(true) {
        pairs.push((
            "accepted by".to_owned(),
            "the daemon alone: it counts, remembers, or asks who presents it".to_owned(),
        ));
    }
    context.out.pairs(pairs)?;
    for one in wrong {
        let mark = context.out.loud("looks wrong");
        context.out.line(&format!("{mark}: {}", plain(one)))?;
    }
    if wrong.is_empty() {
        context.out.line("nothing looks wrong, which proves nothing: `passportctl verify` judges")?;
    }
    Ok(())
}

/// `in 9 min 50 s`, `3 d 2 h ago`.
fn relative(at: i64, now: Moment) -> String {
    let seconds = at.saturating_sub(now.unix());
    let span = span(seconds.unsigned_abs());
    match seconds {
        0 => "now".to_owned(),
        1.. => format!("in {span}"),
        _ => format!("{span} ago"),
    }
}

/// The two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seen_from_now() {
        let now = Moment::from_unix(1_000_000);
        for (at, text) in [
            (1_000_000, "now"),
            (1_000_590, "in 9 min 50 s"),
            (999_999, "1 s ago"),
            (1_000_000 - 93_784, "1 d 2 h ago"),
            (1_007_260, "in 2 h 1 min"),
            (i64::MAX, "in 106751991167289 d 1 h"),
        ] {
            assert_eq!(relative(at, now), text);
        }
        assert!(relative(i64::MIN, now).ends_with(" ago"));
    }
}
