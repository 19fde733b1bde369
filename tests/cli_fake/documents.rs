//! The JSON documents of the daemon for tests, as the real one writes them.

use passportd::clock::Moment;
use passportd::verify::Keyring;
use serde_json::{Value, json};

use super::{ISSUER, KID};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(kid: &str, role: &str, state: &str, public: Option<&str>) -> Value {
    json!({
        "kid": kid, "role": role, "state": state, "public": public, "created": 1_690_000_000, "staged_at": 1_690_000_001,
        "activated_at": 1_690_000_002, "retired_at": null,
    })
}

fn sandbox() -> Value {
    json!({
        "role": "front", "uid": 997, "gid": 997, "capabilities_empty": true, "no_new_privs": true, "dumpable": false,
        "landlock": "full, abi 4", "notes": [],
    })
}

pub(super) fn status(ready: bool) -> String {
    let detail = if ready { "" } else { "the HSM has not answered for 12 s; see `journalctl -u passportd-signer`" };
    let good = ["policy", "audit", "state", "clock", "keys", "serving"];
    let mut conditions = vec![json!({"name": "hsm", "ok": ready, "detail": detail})];
    conditions.extend(good.map(|name| json!({"name": name, "ok": true, "detail": ""})));
    let status = json!({
        "version": "0.1.0", "wire": 1, "issuer": ISSUER, "mode": "hsm", "started": 1_699_900_000, "uptime_s": 100_000,
        "phase": "serving", "issue_paused": false,
        "health": {"issue_ready": ready, "verify_ready": true, "conditions": conditions},
        "policy": {"hash": "ab".repeat(32), "dir": "/etc/passportd/policy.d", "peers": 12, "templates": 7},
        "config": {"source": "/etc/passportd/passportd.toml", "hash": "cd".repeat(32), "warnings": []},
        "keys": [
            key("ed25519/t0/audit/v1", "audit", "active", Some(&"22".repeat(32))),
            key(KID, "passport", "active", Some(&"11".repeat(32))),
            key("ed25519/t1/seal/v1", "seal", "active", None),
        ],
        "signer": {
            "up": ready, "why": (!ready).then_some("no answer"), "module": "/usr/lib/softhsm/libsofthsm2.so",
            "token": "passportd", "sessions": 3, "signatures": 1_234_567, "refused": 0, "queued": 0, "stuck": 0,
        },
        "audit": {"seq": 987_654, "hash": "ef".repeat(32), "healthy": true, "trouble": null, "journald": true},
        "connections": {"services": 42, "admins": 1},
        "sandbox": sandbox(),
        "processes": {
            "front": {"pid": 1, "rss_kib": 2048, "cpu_us": 7}, "signer": {"rss_kib": 1024, "cpu_us": 9},
        },
    });
    status.to_string()
}

pub(super) fn attestation(keyring: &Keyring, public: &[u8; 32], now: Moment) -> String {
    let statement = json!({
        "type": "passportd/attestation/v1", "signed": false, "at": now.unix(), "version": "0.1.0", "wire": 1,
        "issuer": ISSUER, "mode": "hsm", "config_hash": "cd".repeat(32), "policy_hash": "ab".repeat(32),
        "jwks_etag": hex(keyring.etag()),
        "keys": [
            key("ed25519/t0/audit/v1", "audit", "active", Some(&"22".repeat(32))),
            key(KID, "passport", "active", Some(&hex(public))),
            key("ed25519/t1/seal/v1", "seal", "active", None),
        ],
        "audit_head": {"seq": 987_654, "hash": "ef".repeat(32)},
        "sandbox": sandbox(),
    });
    statement.to_string()
}
