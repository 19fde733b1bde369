use serde_json::json;

use super::*;
use crate::cli::out::Screen;

fn drawn(status: &Value, width: Option<u16>) -> String {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let screen = Screen { terminal: width.is_some(), width, ..Screen::default() };
    show(&mut Out::new(&mut stdout, &mut stderr, screen, None), status).unwrap();
    assert!(stderr.is_empty(), "all of it is on the screen");
    String::from_utf8(stdout).unwrap()
}

fn key(kid: &str, state: &str) -> Value {
    json!({"kid": kid, "role": "passport", "state": state, "created": 1_700_000_000, "public": "ab".repeat(32)})
}

fn sample() -> Value {
    json!({
        "version": "0.1.0", "wire": 1, "issuer": "host.example", "mode": "hsm",
        "started": 1_767_323_045, "uptime_s": 93_784, "phase": "serving", "issue_paused": false,
        "health": {"issue_ready": false, "verify_ready": true, "conditions": [
            {"name": "hsm", "ok": false, "detail": "no answer for 3 s"}, {"name": "audit", "ok": true, "detail": ""},
            {"name": "policy", "ok": true, "detail": ""},
        ]},
        "policy": {"hash": "ab".repeat(32), "dir": "/etc/passportd/policy.d", "peers": 2, "templates": 3},
        "config": {"source": "/etc/passportd/passportd.toml", "hash": "cd".repeat(32), "warnings": ["x is deprecated"]},
        "keys": [
            {"kid": "ed25519/demo/auth/v1", "role": "passport", "state": "active", "created": 1_700_000_000},
            {"kid": "seal/demo/v1", "role": "seal", "state": "active", "created": "2026-01-02T03:04:05Z", "x": 1},
        ],
        "signer": {"up": false, "why": "restarting", "module": "/usr/lib/softhsm/libsofthsm2.so", "token": "dev",
                   "sessions": 1, "signatures": 12, "refused": 0, "queued": 0, "stuck": 0},
        "audit": {"seq": 17, "hash": "ef".repeat(32), "healthy": false, "trouble": "disk full", "journald": true},
        "connections": {"services": 3, "admins": 1},
        "sandbox": {"landlock": "full", "no_new_privs": true, "notes": []},
        "processes": {"front": {"pid": 7, "rss_kib": 12_400, "cpu_us": 1_234_567}, "signer": {"rss_kib": 9000, "cpu_us": 5}},
    })
}

#[test]
fn the_whole_status_is_this() {
    insta::assert_snapshot!(drawn(&sample(), None), @"
    ready       issue NO, verify yes
    FAIL hsm    no answer for 3 s
    ok   audit policy
    warning     x is deprecated
    running     serving, up 1 d 2 h, since 2026-01-02T03:04:05Z
    daemon      passportd 0.1.0, wire 1, mode hsm
    issuer      host.example
    signer      DOWN, restarting, stuck 0, queued 0, refused 0, sessions 1, signatu…
    HSM         token dev, /usr/lib/softhsm/libsofthsm2.so
    audit       NOT HEALTHY: nothing is issued, disk full, seq 17, efefefefefefefef
    connections services 3, admins 1
    policy      abababababababab, peers 2, templates 3, /etc/passportd/policy.d
    config      cdcdcdcdcdcdcdcd, /etc/passportd/passportd.toml
    processes   front pid 7 12.1 MiB 1.23 s CPU, signer 8.7 MiB 0.00 s CPU
    sandbox     landlock full, no_new_privs

    KID                   ROLE      STATE        CREATED
    ed25519/demo/auth/v1  passport  active       2023-11-14T22:13:20Z
    seal/demo/v1          seal      active       2026-01-02T03:04:05Z
    ");
}

/// As long as it gets: every condition fails at length, names are at their limits, and a key was made every day.
fn worst() -> Value {
    let long = |n: usize| "long-".repeat(n);
    let mut status = sample();
    status["issuer"] = json!(long(50));
    status["issue_paused"] = json!(format!("incident 4711: {}", long(30)));
    status["phase"] = json!("draining");
    status["health"]["verify_ready"] = json!(false);
    let names = ["hsm", "policy", "audit", "state", "clock", "keys", "serving", "issuing"];
    let failing = names.map(|name| json!({"name": name, "ok": false, "detail": long(40)}));
    status["health"]["conditions"] = json!(failing);
    status["config"]["warnings"] = json!([long(40), "another"]);
    status["config"]["source"] = json!(format!("/srv/{}", long(40)));
    status["policy"]["dir"] = json!(format!("/srv/{}", long(40)));
    status["signer"]["why"] = json!(long(40));
    status["signer"]["module"] = json!(format!("/usr/lib/{}", long(40)));
    status["audit"]["trouble"] = json!(long(40));
    status["sandbox"]["notes"] = json!([long(40)]);
    let kid = |n: usize| format!("ed25519/{}.{}/{}/v{n}", "t".repeat(32), "i".repeat(32), "p".repeat(32));
    let mut keys: Vec<_> = (1..400).map(|n| key(&kid(n), "destroyed")).collect();
    keys.push(key(&kid(400), "active"));
    keys.push(key(&kid(401), "compromised"));
    status["keys"] = json!(keys);
    status
}

#[test]
fn it_fits_a_screen_whatever_it_says() {
    for status in [sample(), worst()] {
        for width in [None, Some(40), Some(80), Some(100)] {
            let text = drawn(&status, width);
            assert!(text.lines().count() < 24, "{} lines:\n{text}", text.lines().count());
            let columns = usize::from(width.unwrap_or(80));
            assert!(text.lines().all(|line| line.chars().count() <= columns), "{text}");
        }
    }
    let text = drawn(&worst(), Some(80));
    let line = |n: usize| text.lines().nth(n).unwrap();
    assert!(line(0).starts_with("ready       issue NO, verify NO, issuing PAUSED: incident 4711"), "{text}");
    assert!(line(1).starts_with("FAIL hsm") && line(6).starts_with("FAIL keys serving issuing"), "{text}");
    // Nothing gives way to the keys that are no longer used, and those in use are seen.
    assert!(text.contains("/v401") && text.contains("/v400") && text.contains("399 more: "), "{text}");
}

#[test]
fn all_keys_are_shown_where_there_is_room() {
    let mut status = sample();
    status["keys"] = json!((1..=3).map(|n| key(&format!("ed25519/t1/auth/v{n}"), "active")).collect::<Vec<_>>());
    let text = drawn(&status, Some(80));
    assert!(text.contains("/v1") && text.contains("/v3") && !text.contains(" more: "), "{text}");
}

#[test]
fn a_remedy_is_not_cut_off() {
    let mut status = sample();
    let detail = "the HSM has not answered for 12 s; look at `journalctl -u passportd-signer` and restart it";
    status["health"]["conditions"][0]["detail"] = json!(detail);
    let text = drawn(&status, Some(80));
    let shown: Vec<_> = text.lines().skip(1).take(2).collect();
    let expected = [
        "FAIL hsm    the HSM has not answered for 12 s; look at `journalctl -u",
        "            passportd-signer` and restart it",
    ];
    assert_eq!(shown, expected, "{text}");
    assert_eq!(broken("éé éé", 3), ("éé".into(), "éé".into()));
    assert_eq!(broken("ééééé", 3), ("ééé".into(), "éé".into()));
    assert_eq!(broken("ééé", 3), ("ééé".into(), String::new()));
}

#[test]
fn a_kid_keeps_its_version() {
    assert_eq!(cut_middle("ed25519/tenant/purpose/v12", 15), "ed25519…ose/v12");
    assert_eq!(cut_middle("short", 5), "short");
    assert_eq!(cut("a longer line", 5), "a lo…");
}

#[test]
fn a_daemon_that_says_less_or_else_is_shown_too() {
    assert_eq!(drawn(&json!({}), None), "");
    let little = json!({"signer": null, "keys": [], "uptime_s": 59, "policy": []});
    assert_eq!(drawn(&little, None), "running     up 59 s\n");
    let evil = json!({"issuer": "a\u{1b}[2J", "issue_paused": "incident 42"});
    assert_eq!(drawn(&evil, None), "ready       issuing PAUSED: incident 42\nissuer      a\\u{1b}[2J\n");
}
