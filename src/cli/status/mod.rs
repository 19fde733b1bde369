//! The daemon's status on one screen: a line or two for each part, then the keys.

use serde_json::Value;

use super::error::CliError;
use super::exchanging;
use super::out::Out;
use super::text::{cell, plain};

/// A terminal of 80 × 24, with a line left for the prompt that follows.
const LINES: usize = 23;
/// Columns where the terminal does not say.
const WIDTH: usize = 80;
/// Columns of names.
const NAMES: usize = 11;
/// Lines of conditions that don't hold; the rest is counted.
const MAX_FAILING: usize = 5;
/// With so few of them, each has a second line: the remedy stands at the end.
const MAX_TALKING: usize = 3;
/// Lines of keys that there is always room for, the header among them.
const MIN_KEYS: usize = 4;
/// How much of a hash tells one from another for a reader; `--output json` has all of it.
const SHORT_HASH: usize = 16;
/// Columns of the table of keys after the kid, with their widths; whatever else a key says is in the JSON.
const KEY_COLUMNS: [(&str, usize); 3] = [("role", 8), ("state", 11), ("created", 20)];
/// Stands for what there is no room for.
const CUT: char = '…';

/// Draws the status: what can't be done and why, then what runs, then the keys, on one screen. Nothing wraps; what is
/// cut is marked, and `--output json` has all of it.
pub(super) fn show(out: &mut Out<'_>, status: &Value) -> Result<(), CliError> {
    let width = out.width().unwrap_or(WIDTH);
    let mut text = String::new();
    for line in screen(out, status, width) {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    out.bytes(text.as_bytes())
}

fn screen(out: &Out<'_>, status: &Value, width: usize) -> Vec<String> {
    let mut lines = verdict(out, status, width);
    let keys = status.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // A blank line and the least that is shown of the keys.
    let reserved = if keys.is_empty() { 0 } else { 1 + MIN_KEYS.min(keys.len() + 1) };
    let room = LINES.saturating_sub(lines.len() + reserved);
    let rows = parts(status).into_iter().take(room);
    lines.extend(rows.map(|(name, text)| cut(&format!("{name:<NAMES$} {text}"), width)));
    if !keys.is_empty() {
        lines.push(String::new());
        lines.extend(key_table(keys, LINES.saturating_sub(lines.len()), width));
    }
    lines
}

/// What the reader came for: whether it works, and if not, why.
fn verdict(out: &Out<'_>, status: &Value, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let parts: Vec<_> = [ready(status, "issue"), ready(status, "verify"), paused(status), draining(status)]
        .into_iter()
        .flatten()
        .collect();
    if !parts.is_empty() {
        lines.push(cut(&format!("{:<NAMES$} {}", "ready", parts.join(", ")), width));
    }
    let conditions = status.pointer("/health/conditions").and_then(Value::as_array);
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    let (good, bad): (Vec<_>, Vec<_>) =
        conditions.iter().partition(|one| one.get("ok").and_then(Value::as_bool).unwrap_or(false));
    let text = |one: &Value, name: &str| one.get(name).map(cell).unwrap_or_default();
    // Colours take no columns, so the mark is put on after the line was cut.
    let marked = |ok: bool, text: &str| format!("{} {}", out.mark(ok), cut(text, width.saturating_sub(5)));
    for one in bad.iter().take(MAX_FAILING) {
        let said = format!("{:<6} {}", text(one, "name"), text(one, "detail"));
        let (line, rest) = broken(&said, width.saturating_sub(5));
        if bad.len() <= MAX_TALKING && !rest.is_empty() {
            lines.push(marked(false, &line));
            lines.push(cut(&format!("{:<NAMES$} {rest}", ""), width));
        } else {
            lines.push(marked(false, &said));
        }
    }
    if bad.len() > MAX_FAILING {
        let rest: Vec<_> = bad.iter().skip(MAX_FAILING).map(|one| text(one, "name")).collect();
        lines.push(marked(false, &rest.join(" ")));
    }
    if !good.is_empty() {
        lines.push(marked(true, &good.iter().map(|one| text(one, "name")).collect::<Vec<_>>().join(" ")));
    }
    let warnings = status.pointer("/config/warnings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if let Some(first) = warnings.first() {
        let name = if warnings.len() > 1 { format!("{} warnings", warnings.len()) } else { "warning".to_owned() };
        lines.push(cut(&format!("{name:<NAMES$} {}", cell(first)), width));
    }
    lines
}

/// The keys, those in use first, in at most `room` lines.
fn key_table(keys: &[Value], room: usize, width: usize) -> Vec<String> {
    let state = |key: &Value| key.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
    let rank = |key: &&Value| match state(key).as_str() {
        "compromised" => 0,
        "active" => 1,
        "staged" => 2,
        "retired" => 3,
        "expired" => 4,
        _ => 5,
    };
    let mut sorted: Vec<_> = keys.iter().collect();
    sorted.sort_by_key(rank);
    // The header, and the line that counts the rest.
    let shown = if sorted.len() < room { sorted.len() } else { room.saturating_sub(2) };
    let others: usize = KEY_COLUMNS.iter().map(|(_, columns)| columns + 2).sum();
    let kid = |key: &Value| key.get("kid").map(cell).unwrap_or_default();
    let longest = sorted.iter().take(shown).map(|key| kid(key).chars().count()).max().unwrap_or_default();
    let first = longest.max(3).min(width.saturating_sub(others));
    let row = |kid: &str, cells: [String; 3]| {
        let mut line = format!("{:<first$}", cut_middle(kid, first));
        for ((_, columns), text) in KEY_COLUMNS.into_iter().zip(cells) {
            line.push_str(&format!("  {:<columns$}", cut(&text, columns)));
        }
        line
    };
    let mut lines = vec![row("KID", KEY_COLUMNS.map(|(name, _)| name.to_uppercase()))];
    let column = |key: &Value, name: &str| match key.get(name) {
        Some(Value::Number(seconds)) => seconds.as_i64().map(when).unwrap_or_default(),
        other => other.map(cell).unwrap_or_default(),
    };
    lines.extend(sorted.iter().take(shown).map(|key| row(&kid(key), KEY_COLUMNS.map(|(name, _)| column(key, name)))));
    if shown < sorted.len() {
        lines.push(format!("{} more: passportctl status --output json | jq .keys", sorted.len() - shown));
    }
    lines.iter().map(|line| cut(line.trim_end(), width)).collect()
}

/// As many words as `width` characters hold, and the rest.
fn broken(text: &str, width: usize) -> (String, String) {
    let fits = text.char_indices().nth(width).map_or(text, |(at, _)| text.get(..at).unwrap_or(text));
    if fits.len() == text.len() {
        return (text.to_owned(), String::new());
    }
    let at = fits.rfind(' ').unwrap_or(fits.len());
    let (line, rest) = text.split_at_checked(at).unwrap_or((text, ""));
    (line.to_owned(), rest.trim_start().to_owned())
}

/// At most `width` characters, the end cut off.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain([CUT]).collect()
}

/// At most `width` characters, the middle cut out: a kid ends in its version.
fn cut_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let (front, back) = (width / 2, width.saturating_sub(width / 2 + 1));
    text.chars().take(front).chain([CUT]).chain(text.chars().skip(length - back)).collect()
}

/// Seconds since 1970 as RFC 3339.
fn when(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// What runs, a line for each part, the most telling first: the last give way where there is no room.
fn parts(status: &Value) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut push = |name, parts: Vec<Option<String>>| {
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if !text.is_empty() {
            lines.push((name, text));
        }
    };
    let part = |pointer: &str, label: &str| part(status, pointer, label);
    push("running", vec![part("/phase", ""), uptime(status), since(status)]);
    push("daemon", vec![part("/version", "passportd "), part("/wire", "wire "), part("/mode", "mode ")]);
    push("issuer", vec![part("/issuer", "")]);
    push("signer", signer(status));
    push("HSM", vec![part("/signer/token", "token "), part("/signer/module", "")]);
    push(
        "audit",
        vec![healthy(status), part("/audit/trouble", ""), part("/audit/seq", "seq "), hash(status, "/audit/hash")],
    );
    push("tickets", vec![exchanging::in_force(status)]);
    push("connections", vec![part("/connections/services", "services "), part("/connections/admins", "admins ")]);
    push(
        "policy",
        vec![
            hash(status, "/policy/hash"),
            count(status, "/policy/peers", "peers"),
            count(status, "/policy/templates", "templates"),
            part("/policy/dir", ""),
        ],
    );
    push("config", vec![hash(status, "/config/hash"), part("/config/source", "")]);
    push("processes", vec![process(status, "front"), process(status, "signer")]);
    push("sandbox", sandbox(status));
    lines
}

fn part(status: &Value, pointer: &str, label: &str) -> Option<String> {
    match status.pointer(pointer) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(value) => Some(format!("{label}{}", cell(value))),
    }
}

fn hash(status: &Value, pointer: &str) -> Option<String> {
    let text = plain(status.pointer(pointer)?.as_str()?);
    Some(text.chars().take(SHORT_HASH).collect())
}

fn uptime(status: &Value) -> Option<String> {
    let seconds = status.get("uptime_s")?.as_u64()?;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    Some(match (days, hours, minutes) {
        (0, 0, 0) => format!("up {seconds} s"),
        (0, 0, minutes) => format!("up {minutes} min"),
        (0, hours, minutes) => format!("up {hours} h {minutes} min"),
        (days, hours, _) => format!("up {days} d {hours} h"),
    })
}

fn since(status: &Value) -> Option<String> {
    match status.get("started")? {
        Value::Number(seconds) => Some(format!("since {}", seconds.as_i64().map(when)?)),
        other => Some(format!("since {}", cell(other))),
    }
}

fn ready(status: &Value, what: &str) -> Option<String> {
    let ready = status.pointer(&format!("/health/{what}_ready"))?.as_bool()?;
    Some(format!("{what} {}", if ready { "yes" } else { "NO" }))
}

fn paused(status: &Value) -> Option<String> {
    match status.get("issue_paused")? {
        Value::Bool(false) | Value::Null => None,
        Value::Bool(true) => Some("issuing PAUSED".to_owned()),
        why => Some(format!("issuing PAUSED: {}", cell(why))),
    }
}

fn draining(status: &Value) -> Option<String> {
    (status.get("phase")?.as_str()? == "draining").then(|| "DRAINING: no new connections".to_owned())
}

/// `peers 3`, of a number or of a list.
fn count(status: &Value, pointer: &str, noun: &str) -> Option<String> {
    Some(match status.pointer(pointer)? {
        Value::Array(items) => format!("{noun} {}", items.len()),
        other => format!("{noun} {}", cell(other)),
    })
}

fn signer(status: &Value) -> Vec<Option<String>> {
    let up = status.pointer("/signer/up").and_then(Value::as_bool);
    let state = up.map(|up| if up { "up".to_owned() } else { "DOWN".to_owned() });
    let mut parts = vec![state, part(status, "/signer/why", "")];
    let counts = ["stuck", "queued", "refused", "sessions", "signatures"];
    parts.extend(counts.map(|name| part(status, &format!("/signer/{name}"), &format!("{name} "))));
    parts
}

fn healthy(status: &Value) -> Option<String> {
    let healthy = status.pointer("/audit/healthy")?.as_bool()?;
    Some(if healthy { "healthy".to_owned() } else { "NOT HEALTHY: nothing is issued".to_owned() })
}

fn process(status: &Value, name: &str) -> Option<String> {
    let number = |member: &str| status.pointer(&format!("/processes/{name}/{member}"))?.as_u64();
    let parts = [
        number("pid").map(|pid| format!("pid {pid}")),
        number("rss_kib").map(|kib| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)),
        number("cpu_us").map(|micros| format!("{}.{:02} s CPU", micros / 1_000_000, micros % 1_000_000 / 10_000)),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("{name} {}", parts.join(" ")))
}

/// What confines it; of what is switched, only its name, with a mark where it is off.
fn sandbox(status: &Value) -> Vec<Option<String>> {
    let members = status.get("sandbox").and_then(Value::as_object);
    // Who it is stands in the JSON.
    let said = members.into_iter().flatten().filter(|(name, _)| !["role", "uid", "gid"].contains(&name.as_str()));
    let word = |(name, value): (&String, &Value)| match value {
        Value::Bool(true) => Some(plain(name)),
        Value::Bool(false) => Some(format!("NOT {}", plain(name))),
        Value::Array(list) if list.is_empty() => None,
        value => Some(format!("{} {}", plain(name), cell(value))),
    };
    said.map(word).collect()
}

#[cfg(test)]
mod tests;
