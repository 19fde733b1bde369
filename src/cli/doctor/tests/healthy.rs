//! A daemon with which all is well, as facts.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::facts::*;
use crate::config::{Config, Loaded, SignerBounds, Sources, TenantBounds};
use crate::passport::hex;
use crate::policy::{Overflow, Policy, PolicyFile, SystemNames};
use crate::wire::{Identity, Limits, Welcome};

pub(super) const CONFIG: &str = "\
[server]
socket_group = \"clients\"
user = \"passportd\"
metrics_addr = \"127.0.0.1:9909\"
[passport]
issuer = \"host.example\"
[hsm]
uri = \"pkcs11:token=t\"
module = \"/usr/lib/m.so\"
";

pub(super) const POLICY: &str = "\
[[peer]]
name = \"web\"
uid = 33
allow = [\"issue\", \"verify\"]
templates = [\"demo\"]
[[template]]
name = \"demo\"
tenant = \"t1\"
purpose = \"auth\"
subjects = [\"*\"]
max_ttl_s = 60
";

pub(super) fn loaded(text: &str) -> Loaded {
    let environment = [("PASSPORT_CONFIG".into(), text.into())];
    Config::load(&Sources::new(None, environment)).unwrap()
}

pub(super) fn policy(text: &str) -> Policy {
    let files = vec![PolicyFile { name: "10.toml".to_owned(), bytes: text.as_bytes().to_vec() }];
    Policy::from_files(Path::new("/etc/p"), files, &SystemNames, Overflow { uid: 65534, gid: 65534 }).unwrap()
}

pub(super) fn bounds(tenant: &str) -> SignerBounds {
    let purposes = vec!["auth".to_owned()];
    let tenant =
        TenantBounds { name: tenant.to_owned(), purposes, max_ttl_s: 60, rate_per_s: 1, seal_namespaces: Vec::new() };
    SignerBounds { tenants: vec![tenant], max_iat_drift_s: 60 }
}

pub(super) fn there(kind: Kind, uid: u32, gid: u32, mode: u32) -> Found {
    Found::There(Stat { kind, uid, gid, mode, len: 2048 })
}

fn socket(name: &str, key: &str, mode: Option<u32>) -> Socket {
    Socket {
        name: name.to_owned(),
        key: key.to_owned(),
        path: PathBuf::from(format!("/run/p/{}.sock", name.replace(' ', "-"))),
        parent: true,
        sure: true,
        found: there(Kind::Socket, 900, 800, 0o660),
        group_name: Some("clients".to_owned()),
        knock: mode.map_or(Knock::NotTried, |_| Knock::Answers { uid: 900, pid: 42 }),
        mode,
        group: mode.map(|_| ("clients".to_owned(), Some(800))),
        owners: Some(vec![0, 900]),
    }
}

fn directory(name: &'static str, key: &'static str, owner: u32, free_mib: Option<u64>) -> Directory {
    let path = PathBuf::from(format!("/var/lib/p/{}", name.replace(' ', "-")));
    let made = name != "hsm state";
    let found = there(Kind::Directory, owner, owner, 0o700);
    Directory { name, key, path, found, made, owner, written: made, free_mib }
}

fn account(key: &str, kind: &'static str, name: &str, id: Option<u32>) -> Account {
    Account { key: key.to_owned(), kind, name: name.to_owned(), id: Ok(id) }
}

fn said(listener: &str) -> Said {
    let limits = Limits { max_frame: 1 << 20, max_msg_bytes: 4096, max_batch: 512, max_in_flight: 256 };
    let server = concat!("passportd/", env!("CARGO_PKG_VERSION")).to_owned();
    let listed = |items: &[&str]| items.iter().map(ToString::to_string).collect();
    Said {
        welcome: Welcome { wire: 1, server, issuer: "host.example".to_owned(), limits },
        identity: Identity {
            uid: 33,
            gid: 33,
            pid: 7,
            groups: Vec::new(),
            listener: listener.to_owned(),
            rules: listed(&["web"]),
            operations: listed(&["issue", "verify"]),
            templates: listed(&["demo"]),
            audiences: Vec::new(),
        },
    }
}

pub(super) fn report_of(conditions: &Value) -> Value {
    let holds = conditions.as_array().unwrap().iter().all(|one| one["ok"] == true);
    json!({"issue_ready": holds, "verify_ready": true, "conditions": conditions})
}

/// A daemon with which all is well.
pub(super) fn healthy() -> Facts {
    let (loaded, policy) = (loaded(CONFIG), policy(POLICY));
    let health = report_of(&json!([{"name": "hsm", "ok": true, "detail": ""}]));
    let status = json!({
        "signer": {"up": true, "token": "t 01", "module": "SoftHSM 2.6"},
        "health": health,
        "config": {"hash": hex::encode(&loaded.hash)},
        "policy": {"hash": hex::encode(&policy.hash())},
    });
    let settings = Settings {
        config: Read::Good(loaded),
        policy: Some(Read::Good(policy)),
        bounds: Some(Read::Good(bounds("t1"))),
        accounts: vec![
            account("server.user", "user", "passportd", Some(900)),
            account("server.socket_group", "group", "clients", Some(800)),
        ],
    };
    let files = Files {
        module: Module::Chain(vec![("/usr/lib/m.so".into(), 0, 0o644), ("/usr/lib".into(), 0, 0o755)]),
        pin: Pin {
            configured: true,
            places: vec![("/etc/p/pin".into(), there(Kind::File, 0, 0, 0o400))],
            unfit: None,
            owner: 901,
        },
        pin_note: ("/var/lib/p/hsm-state/signer/pin.json".into(), Found::Missing, 901),
        directories: vec![
            directory("state", "state.path", 900, Some(9000)),
            directory("ledger", "audit.dir", 900, Some(9000)),
            directory("hsm state", "hsm.state_dir", 901, None),
            directory("signer dir", "below hsm.state_dir", 901, None),
        ],
        state: ("/var/lib/p/state/state.redb".into(), there(Kind::File, 900, 900, 0o600)),
        newest_record: Ok(Some(990)),
        module_config: Some(("/etc/p/m.conf".into(), there(Kind::File, 0, 0, 0o644))),
        unread: Some(Unread { user: "passportd".to_owned(), refused: Vec::new() }),
        key_list: KeyList {
            path: "/var/lib/p/hsm-state/keys.json".into(),
            found: there(Kind::File, 901, 901, 0o600),
            keys: Read::Good(3),
            owner: 901,
        },
        ledger: Read::Good(7),
        rows: Read::Good(5),
    };
    let daemon = Daemon {
        service: Ok(said("main")),
        admin: Ok(said("admin")),
        status: Ok(status),
        port: Port::Asked { address: "127.0.0.1:9909".parse().unwrap(), answer: Ok((200, health.to_string())) },
        process: Some(Process { pid: 42, program: Ok("/usr/bin/passportd".to_owned()), descriptors: Some(2048) }),
    };
    Facts {
        now: 1000,
        uid: 0,
        settings,
        sockets: vec![
            socket("socket", "server.socket", Some(0o660)),
            socket("admin socket", "server.admin_socket", Some(0o660)),
            socket("signer socket", "hsm.socket", None),
            socket("ceremony", "hsm.ceremony_socket", None),
        ],
        files: Some(files),
        daemon,
        host: Host { kernel: "6.12.0".to_owned(), landlock: 6, peer_pidfd: true, systemd: Some(Some(252)) },
    }
}
