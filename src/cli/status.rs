//! The daemon's status on one screen: a line or two for each part, then the keys.

use serde_json::Value;

use super::error::CliError;
use super::out::Out;
use super::text::{cell, plain};

/// Lists of names end after this many, with the count of the rest.
const MAX_NAMES: usize = 6;
/// How much of a hash tells one from another for a reader; `--output json` has all of it.
const SHORT_HASH: usize = 16;
/// Columns of the table of keys; whatever else a key says is in the JSON.
const KEY_COLUMNS: [&str; 4] = ["kid", "role", "state", "created"];

/// Draws the status.
pub(super) fn show(out: &mut Out<'_>, status: &Value) -> Result<(), CliError> {
    out.pairs(lines(status))?;
    let warnings = status.pointer("/config/warnings").and_then(Value::as_array);
    for warning in warnings.into_iter().flatten() {
        out.note(&format!("warning: {}", cell(warning)));
    }
    let conditions = status.pointer("/health/conditions").and_then(Value::as_array);
    for one in conditions.into_iter().flatten() {
        let text = |name| one.get(name).map(cell).unwrap_or_default();
        let ok = one.get("ok").and_then(Value::as_bool).unwrap_or(false);
        let line = format!("{} {:<8} {}", out.mark(ok), text("name"), text("detail"));
        out.line(line.trim_end())?;
    }
    let keys = status.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty());
    if let Some(keys) = keys {
        out.line("")?;
        let column = |key: &Value, name: &str| match key.get(name) {
            Some(Value::Number(seconds)) => seconds.as_i64().map(when).unwrap_or_default(),
            other => other.map(cell).unwrap_or_default(),
        };
        out.table(&KEY_COLUMNS, keys.iter().map(|key| KEY_COLUMNS.map(|name| column(key, name)).to_vec()))?;
    }
    Ok(())
}

/// Seconds since 1970 as RFC 3339.
fn when(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

fn lines(status: &Value) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut push = |name, parts: Vec<Option<String>>| {
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        if !text.is_empty() {
            lines.push((name, text));
        }
    };
    let part = |pointer: &str, label: &str| part(status, pointer, label);
    push("daemon", vec![part("/version", "passportd "), part("/wire", "wire "), part("/mode", "mode ")]);
    push("issuer", vec![part("/issuer", "")]);
    push("running", vec![part("/phase", ""), uptime(status), since(status)]);
    push("ready", vec![ready(status, "issue"), ready(status, "verify"), paused(status)]);
    push(
        "policy",
        vec![
            hash(status, "/policy/hash"),
            part("/policy/dir", ""),
            count(status, "/policy/peers", "peers"),
            count(status, "/policy/templates", "templates"),
        ],
    );
    push("config", vec![hash(status, "/config/hash"), part("/config/source", "")]);
    push("signer", signer(status));
    push(
        "audit",
        vec![part("/audit/seq", "seq "), hash(status, "/audit/hash"), healthy(status), part("/audit/trouble", "")],
    );
    push("connections", vec![part("/connections/services", "services "), part("/connections/admins", "admins ")]);
    push("front", process(status, "front"));
    push("signer process", process(status, "signer"));
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

/// `peers 3`, or the first names, whichever the daemon gives.
fn count(status: &Value, pointer: &str, noun: &str) -> Option<String> {
    match status.pointer(pointer)? {
        Value::Array(names) if names.iter().all(Value::is_string) && !names.is_empty() => {
            let mut shown: Vec<_> = names.iter().take(MAX_NAMES).map(cell).collect();
            if names.len() > MAX_NAMES {
                shown.push(format!("{} more", names.len() - MAX_NAMES));
            }
            Some(format!("{noun}: {}", shown.join(" ")))
        }
        Value::Array(items) => Some(format!("{noun} {}", items.len())),
        Value::Object(members) => Some(format!("{noun} {}", members.len())),
        other => Some(format!("{noun} {}", cell(other))),
    }
}

fn signer(status: &Value) -> Vec<Option<String>> {
    let up = status.pointer("/signer/up").and_then(Value::as_bool);
    let state = up.map(|up| if up { "up".to_owned() } else { "DOWN".to_owned() });
    let counts = [
        ("sessions", "sessions "),
        ("signatures", "signatures "),
        ("refused", "refused "),
        ("queued", "queued "),
        ("stuck", "stuck "),
    ];
    let mut parts = vec![
        state,
        part(status, "/signer/why", ""),
        part(status, "/signer/token", "token "),
        part(status, "/signer/module", ""),
    ];
    parts.extend(counts.map(|(name, label)| part(status, &format!("/signer/{name}"), label)));
    parts
}

fn healthy(status: &Value) -> Option<String> {
    let healthy = status.pointer("/audit/healthy")?.as_bool()?;
    Some(if healthy { "healthy".to_owned() } else { "NOT HEALTHY: nothing is issued".to_owned() })
}

fn process(status: &Value, name: &str) -> Vec<Option<String>> {
    let number = |member: &str| status.pointer(&format!("/processes/{name}/{member}"))?.as_u64();
    vec![
        number("pid").map(|pid| format!("pid {pid}")),
        number("rss_kib").map(|kib| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024)),
        number("cpu_us").map(|micros| format!("{}.{:02} s CPU", micros / 1_000_000, micros % 1_000_000 / 10_000)),
    ]
}

fn sandbox(status: &Value) -> Vec<Option<String>> {
    let members = status.get("sandbox").and_then(Value::as_object);
    let said = members.into_iter().flatten().filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()));
    said.map(|(name, value)| Some(format!("{} {}", plain(name), cell(value)))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::out::Screen;

    fn drawn(status: &Value, width: Option<u16>) -> String {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let screen = Screen { terminal: width.is_some(), width, colour: false };
        show(&mut Out::new(&mut stdout, &mut stderr, screen, None), status).unwrap();
        String::from_utf8(stdout).unwrap()
    }

    fn sample() -> Value {
        json!({
            "version": "0.1.0", "wire": 1, "issuer": "host.example", "mode": "hsm",
            "started": 1_767_323_045, "uptime_s": 93_784, "phase": "serving", "issue_paused": false,
            "health": {"issue_ready": false, "verify_ready": true, "conditions": [
                {"name": "hsm", "ok": false, "detail": "no answer for 3 s"}, {"name": "audit", "ok": true, "detail": ""},
            ]},
            "policy": {"hash": "ab".repeat(32), "dir": "/etc/passportd/policy.d", "peers": ["web", "ops"], "templates": 3},
            "config": {"source": "/etc/passportd/passportd.toml", "hash": "cd".repeat(32)},
            "keys": [
                {"kid": "ed25519/demo/auth/v1", "role": "passport", "state": "active", "created": 1_700_000_000},
                {"kid": "seal/demo/v1", "role": "seal", "state": "active", "created": "2026-01-02T03:04:05Z", "x": 1},
            ],
            "signer": {"up": false, "why": "restarting", "module": "/usr/lib/softhsm/libsofthsm2.so", "token": "dev",
                       "sessions": 1, "signatures": 12, "refused": 0, "queued": 0, "stuck": 0},
            "audit": {"seq": 17, "hash": "ef".repeat(32), "healthy": false, "trouble": "disk full"},
            "connections": {"services": 3, "admins": 1},
            "sandbox": {"landlock": "full", "no_new_privs": true, "notes": []},
            "processes": {"front": {"pid": 7, "rss_kib": 12_400, "cpu_us": 1_234_567}, "signer": {"rss_kib": 9000, "cpu_us": 5}},
        })
    }

    #[test]
    fn the_whole_status_is_this() {
        insta::assert_snapshot!(drawn(&sample(), None), @"
        daemon          passportd 0.1.0, wire 1, mode hsm
        issuer          host.example
        running         serving, up 1 d 2 h, since 2026-01-02T03:04:05Z
        ready           issue NO, verify yes
        policy          abababababababab, /etc/passportd/policy.d, peers: web ops, templates 3
        config          cdcdcdcdcdcdcdcd, /etc/passportd/passportd.toml
        signer          DOWN, restarting, token dev, /usr/lib/softhsm/libsofthsm2.so, sessions 1, signatures 12, refused 0, queued 0, stuck 0
        audit           seq 17, efefefefefefefef, NOT HEALTHY: nothing is issued, disk full
        connections     services 3, admins 1
        front           pid 7, 12.1 MiB, 1.23 s CPU
        signer process  8.7 MiB, 0.00 s CPU
        sandbox         landlock full, no_new_privs true
        FAIL hsm      no answer for 3 s
        ok   audit

        KID                   ROLE      STATE   CREATED
        ed25519/demo/auth/v1  passport  active  2023-11-14T22:13:20Z
        seal/demo/v1          seal      active  2026-01-02T03:04:05Z
        ");
    }

    #[test]
    fn it_fits_a_screen() {
        let text = drawn(&sample(), Some(80));
        assert!(text.lines().count() <= 30, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn a_daemon_that_says_less_or_else_is_shown_too() {
        assert_eq!(drawn(&json!({}), None), "");
        assert_eq!(
            drawn(&json!({"signer": null, "keys": [], "uptime_s": 59, "policy": []}), None),
            "running  up 59 s\n"
        );
        let evil = json!({"issuer": "a\u{1b}[2J", "issue_paused": "incident 42"});
        assert_eq!(drawn(&evil, None), "issuer  a\\u{1b}[2J\nready   issuing PAUSED: incident 42\n");
    }
}
