//! The JSON documents of the daemon for tests, as the real one writes them.

use std::sync::atomic::{AtomicBool, Ordering};

use passportd::clock::Moment;
use passportd::statement::{Checkpoint, Counted, Note, VerifierKey, origin};
use passportd::verify::Keyring;
use passportd::wire::sealed::{NONCE, SealKid, Sealed, TAG};
use passportd::wire::{Condition, Cursor, Event, Health, Watched, What};
use serde_json::{Value, json};

use super::{ISSUER, KID, State};

/// Sealed in form alone; the bytes are text, so that pages can show them.
pub(crate) fn sealed(kid: &str, plain: &[u8]) -> Vec<u8> {
    [Sealed::header(SealKid::parse(kid).unwrap()), vec![b'n'; NONCE], plain.to_vec(), vec![b't'; TAG]].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// It begins where it always does, and then everything happens once.
pub(super) fn watched(after: Option<Cursor>) -> Watched {
    let cursor = |seq| Cursor { life: [7; 16], wants: [8; 32], seq };
    let Some(after) = after else { return Watched::Begin { cursor: cursor(5) } };
    if after.seq > 5 {
        return Watched::Lagged { missed: 7, cursor: cursor(40) };
    }
    let key = What::Key { kid: KID.into(), state: "active".into() };
    let subject = What::RevokedSubject { sub: "alice\u{1b}".into(), before: 1_700_000_000, until: 1_700_004_800 };
    let whats = [
        (Some("t1"), key),
        (Some("t1"), What::RevokedId { jti: "01985b2c".into(), until: 1_700_004_800 }),
        (Some("t1"), subject),
        (Some("t1"), What::RevokedKey { kid: KID.into() }),
        (Some("t1"), What::Epoch { epoch: 4 }),
        (None, What::Policy { hash: [1; 32] }),
        (None, What::Draining { on: true }),
        (None, What::Draining { on: false }),
    ];
    let event = |(seq, (tenant, what)): (u64, (Option<&str>, What))| Event {
        seq,
        at_ms: 1_700_000_000_123,
        tenant: tenant.map(str::to_owned),
        what,
    };
    Watched::Events { events: (6..).zip(whats).map(event).collect(), cursor: cursor(13) }
}

/// When each key was made.
pub(super) const CREATED: i64 = 1_690_000_000;

fn key(kid: &str, role: &str, state: &str, public: Option<&str>) -> Value {
    json!({
        "kid": kid, "role": role, "state": state, "public": public, "created": CREATED, "staged_at": 1_690_000_001,
        "activated_at": 1_690_000_002, "retired_at": null, "compromised_at": null, "destroyed_at": null, "confirmed_at": null,
        "activate_from": null, "rotate_by": (role == "passport").then_some(1_692_592_001), "verifies_until": null,
        "rollback_to": null, "rollback_until": null,
    })
}

fn sandbox() -> Value {
    json!({
        "role": "front", "uid": 997, "gid": 997, "capabilities_empty": true, "no_new_privs": true, "dumpable": false, "amnesia": false,
        "landlock": "full, abi 4", "notes": [],
    })
}

/// Those that the real one has without journald, in its order; details are for admins.
pub(super) fn health(state: &State, with_details: bool) -> Health {
    let is = |flag: &AtomicBool| flag.load(Ordering::SeqCst);
    let paused = state.paused.lock().unwrap().as_ref().map(|reason| format!("paused: {reason}"));
    let hsm =
        is(&state.unready).then(|| "the HSM has not answered for 12 s; see `journalctl -u passportd-signer`".into());
    let drained = is(&state.drained).then(|| "drained by an admin".to_owned());
    let good = ["policy", "audit", "state", "clock", "keys"].map(|name| (name, None));
    let all = [("hsm", hsm)].into_iter().chain(good).chain([("issuing", paused), ("serving", drained)]);
    let condition = |(name, trouble): (&str, Option<String>)| {
        let ok = trouble.is_none();
        Condition { name: name.into(), ok, detail: trouble.filter(|_| with_details).unwrap_or_default() }
    };
    let conditions: Vec<_> = all.map(condition).collect();
    let verify_ready = !is(&state.drained);
    Health { issue_ready: conditions.iter().all(|one| one.ok), verify_ready, conditions }
}

pub(super) fn status(state: &State) -> String {
    let health = health(state, true);
    let conditions: Vec<_> =
        health.conditions.iter().map(|one| json!({"name": one.name, "ok": one.ok, "detail": one.detail})).collect();
    let ready = !state.unready.load(Ordering::SeqCst);
    let phase = if health.verify_ready { "serving" } else { "draining" };
    let status = json!({
        "version": "0.1.0", "wire": 1, "issuer": ISSUER, "mode": "hsm", "durable": "over restarts",
        "started": 1_699_900_000, "uptime_s": 100_000,
        "phase": phase, "issue_paused": *state.paused.lock().unwrap(),
        "health": {
            "issue_ready": health.issue_ready, "verify_ready": health.verify_ready, "conditions": conditions,
        },
        "policy": {"hash": "ab".repeat(32), "dir": "/etc/passportd/policy.d", "peers": 12, "templates": 7},
        "config": {"source": "/etc/passportd/passportd.toml", "hash": "cd".repeat(32), "warnings": []},
        "keys": [
            key("ed25519/t0/audit/v1", "audit", "active", Some(&"22".repeat(32))),
            key(KID, "passport", "active", Some(&"11".repeat(32))),
            key("hmac-sha256/t1/seal/v1", "seal", "active", None),
        ],
        "signer": {
            "up": ready, "why": (!ready).then_some("no answer"), "module": "/usr/lib/softhsm/libsofthsm2.so",
            "token": "passportd", "sessions": 3, "signatures": 1_234_567, "refused": 0, "queued": 0, "stuck": 0,
        },
        "audit": {
            "seq": 987_654, "hash": "ef".repeat(32), "healthy": true, "trouble": null, "journald": true,
            "room": {"bytes": 98_765_432, "segments": 17, "free_bytes": 53_687_091_200_u64, "days_left": 212},
            "checkpoint": {"records": 987_600, "time": 1_699_999_800, "kid": "ed25519/t0/audit/v1", "trouble": null},
        },
        "state": {"revoked_ids": 12_345, "revoked_subjects": 6, "rows": 23_456, "epochs": {}},
        "tickets": {"ttl_s": 60, "until": null, "active": 7},
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
        "type": "passportd/attestation/v1", "signed": false, "unsigned_because": "the HSM does not sign", "at": now.unix(), "version": "0.1.0", "wire": 1,
        "issuer": ISSUER, "mode": "hsm", "config_hash": "cd".repeat(32), "policy_hash": "ab".repeat(32),
        "jwks_etag": hex(keyring.etag()),
        "keys": [
            key("ed25519/t0/audit/v1", "audit", "active", Some(&"22".repeat(32))),
            key(KID, "passport", "active", Some(&hex(public))),
            key("hmac-sha256/t1/seal/v1", "seal", "active", None),
        ],
        "hsm": {
            "module": "/usr/lib/softhsm/libsofthsm2.so", "token": "passportd",
            "keys": [{"kid": KID, "usable": true, "problem": ""}],
        },
        "audit_head": {"seq": 987_654, "hash": "ef".repeat(32)},
        "sandbox": sandbox(),
    });
    statement.to_string()
}

/// A checkpoint by nobody's key.
pub(super) fn checkpoint() -> String {
    let counts = vec![Counted { kid: "ed25519/t1/auth/v1".to_owned(), signed: 7, recorded: 7 }];
    let checkpoint = Checkpoint {
        origin: origin("passportd.example"),
        size: 42,
        root: [1; 32],
        head: [2; 32],
        time: 1_700_000_000,
        counts,
    };
    let key = VerifierKey { name: "ed25519/t1/audit/v1".to_owned(), public: [3; 32] };
    Note::signed(checkpoint.text(), &key, &[4; 64]).to_string()
}
