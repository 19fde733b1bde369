//! Mistakes of set-up: each has its exit code, and a message that says what is wrong, where, and what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml::Value;

use super::proc;
use super::workshop::Workshop;

/// `EX_CONFIG`: starting again does not help.
const CONFIG: i32 = 78;
/// It may pass by itself.
const OTHER: i32 = 1;

struct Mistake {
    what: &'static str,
    role: &'static str,
    spoil: fn(&Workshop),
    code: i32,
    /// All of these must be in the message: what, where, and what to do.
    says: &'static [&'static str],
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set(key: &'static str, value: impl Into<Value>) -> impl Fn(&Workshop) {
    let value = value.into();
    move |shop| shop.set(&[(key, value.clone())])
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn newest_segment(shop: &Workshop) -> std::path::PathBuf {
    let mut all: Vec<_> = fs::read_dir(shop.path("ledger")).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    all.sort();
    all.pop().unwrap()
}

const MODULE: &[Mistake] = &[
    Mistake {
        what: "the module is not there",
        role: "signer",
        spoil: |shop| set("hsm.module", "/usr/lib/no-such-module.so")(shop),
        code: CONFIG,
        says: &["/usr/lib/no-such-module.so", "set hsm.module"],
    },
    Mistake {
        what: "others may change the module",
        role: "signer",
        spoil: |shop| {
            fs::copy("/usr/lib/softhsm/libsofthsm2.so", shop.path("module.so")).unwrap();
            mode(&shop.path("module.so"), 0o777);
            set("hsm.module", text(&shop.path("module.so")))(shop);
        },
        code: CONFIG,
        says: &["module.so", "mode 0777", "chmod go-w"],
    },
    Mistake {
        what: "the module is no library",
        role: "signer",
        spoil: |shop| set("hsm.module", "/etc/passwd")(shop),
        code: CONFIG,
        says: &["/etc/passwd", "not a PKCS#11 module", "set hsm.module"],
    },
    Mistake {
        what: "no module",
        role: "signer",
        spoil: |shop| set("hsm.module", "")(shop),
        code: CONFIG,
        says: &["`hsm.module` is not set", "absolute path"],
    },
    Mistake {
        what: "no token of that label: it may be an HSM that is not up yet",
        role: "signer",
        spoil: |shop| set("hsm.uri", "pkcs11:token=wrong-label")(shop),
        code: OTHER,
        says: &["wrong-label", "passportd-test", "correct hsm.uri"],
    },
];

const PIN: &[Mistake] = &[
    Mistake {
        what: "everybody may read the PIN",
        role: "signer",
        spoil: |shop| mode(&shop.path("pin"), 0o644),
        code: CONFIG,
        says: &["pin", "0644", "0400"],
    },
    Mistake {
        what: "the PIN's file is not there",
        role: "signer",
        spoil: |shop| fs::remove_file(shop.path("pin")).unwrap(),
        code: CONFIG,
        says: &["[hsm] pin_file", "/pin"],
    },
    Mistake {
        what: "no PIN is configured",
        role: "signer",
        spoil: |shop| set("hsm.pin_file", "")(shop),
        code: CONFIG,
        says: &["no PIN is configured", "set [hsm] pin_file"],
    },
    Mistake {
        what: "the PIN's file is empty",
        role: "signer",
        spoil: |shop| {
            mode(&shop.path("pin"), 0o600);
            put(&shop.path("pin"), "\n");
        },
        code: CONFIG,
        says: &["pin", "empty"],
    },
];

const FILES: &[Mistake] = &[
    Mistake {
        what: "others may write the bounds",
        role: "signer",
        spoil: |shop| mode(&shop.path("signer.toml"), 0o666),
        code: CONFIG,
        says: &["signer.toml", "mode 0666", "chmod go-w"],
    },
    Mistake {
        what: "the bounds name no tenant",
        role: "signer",
        spoil: |shop| put(&shop.path("signer.toml"), "tenant = []\n"),
        code: CONFIG,
        says: &["signer.toml:1:", "expected 1 to"],
    },
    Mistake {
        what: "the bounds are not there",
        role: "signer",
        spoil: |shop| fs::remove_file(shop.path("signer.toml")).unwrap(),
        code: CONFIG,
        says: &["signer.toml", "cannot be read"],
    },
    Mistake {
        what: "a slip in the policy",
        role: "front",
        spoil: |shop| put(&shop.path("policy.d/20-more.toml"), "[[peer]]\nname = \"x\"\nuid = 1\nalow = [\"issue\"]\n"),
        code: CONFIG,
        says: &["20-more.toml:4:", "alow"],
    },
    Mistake {
        what: "an unknown user in the policy",
        role: "front",
        spoil: |shop| put(&shop.path("policy.d/20-more.toml"), "[[peer]]\nname = \"x\"\nuser = \"no-such-user\"\n"),
        code: CONFIG,
        says: &["20-more.toml:3:", "no-such-user"],
    },
    Mistake {
        what: "others may write the policy",
        role: "front",
        spoil: |shop| mode(&shop.path("policy.d/00-start.toml"), 0o666),
        code: CONFIG,
        says: &["00-start.toml"],
    },
    Mistake {
        what: "others may write the configuration",
        role: "front",
        spoil: |shop| mode(&shop.path("passportd.toml"), 0o666),
        code: CONFIG,
        says: &["passportd.toml", "chmod go-w"],
    },
    Mistake {
        what: "no configuration",
        role: "run",
        spoil: |shop| fs::remove_file(shop.path("passportd.toml")).unwrap(),
        code: CONFIG,
        says: &["passportd.toml", "cannot be read"],
    },
];

const SETTINGS: &[Mistake] = &[
    Mistake {
        what: "an unknown user",
        role: "front",
        spoil: |shop| set("server.user", "no-such-user")(shop),
        code: CONFIG,
        says: &["no-such-user", "create it"],
    },
    Mistake {
        what: "an unknown group",
        role: "front",
        spoil: |shop| set("server.socket_group", "no-such-group")(shop),
        code: CONFIG,
        says: &["no-such-group", "create it"],
    },
    Mistake {
        what: "no issuer",
        role: "front",
        spoil: |shop| set("passport.issuer", "")(shop),
        code: CONFIG,
        says: &["`passport.issuer` is not set", "[passport]"],
    },
    Mistake {
        what: "an unknown key",
        role: "run",
        spoil: |shop| set("server.sokcet", "/x")(shop),
        code: CONFIG,
        says: &["passportd.toml:", "unknown key `server.sokcet`"],
    },
    Mistake {
        what: "a mode of later",
        role: "front",
        spoil: |shop| set("security.pq_mode", "require")(shop),
        code: CONFIG,
        says: &["security.pq_mode"],
    },
    Mistake {
        what: "a file in the socket's place",
        role: "front",
        spoil: |shop| {
            drop(fs::remove_file(shop.path("passportd.sock")));
            put(&shop.path("passportd.sock"), "precious");
        },
        code: CONFIG,
        says: &["passportd.sock exists and is not a socket", "move it away"],
    },
    Mistake {
        what: "a socket in no directory",
        role: "front",
        spoil: |shop| set("server.socket", "/nonexistent/p.sock")(shop),
        code: CONFIG,
        says: &["/nonexistent/p.sock", "does its directory exist"],
    },
    Mistake {
        what: "an address of another host",
        role: "front",
        spoil: |shop| set("server.metrics_addr", "203.0.113.7:9909")(shop),
        code: CONFIG,
        says: &["203.0.113.7:9909", "configure another address"],
    },
];

const STORES: &[Mistake] = &[
    Mistake {
        what: "a record was changed",
        role: "front",
        spoil: |shop| {
            let path = newest_segment(shop);
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replacen("alice", "mallo", 1)).unwrap();
        },
        code: CONFIG,
        says: &["audit ledger", ".jsonl", "line ", "not repaired"],
    },
    Mistake {
        what: "the ledger is gone",
        role: "front",
        spoil: |shop| fs::remove_file(newest_segment(shop)).unwrap(),
        code: CONFIG,
        says: &["ledger"],
    },
    Mistake {
        what: "something else in the ledger's directory",
        role: "front",
        spoil: |shop| put(&shop.path("ledger/notes.txt"), "x"),
        code: CONFIG,
        says: &["notes.txt", "move it elsewhere"],
    },
    Mistake {
        what: "the state is gone",
        role: "front",
        spoil: |shop| fs::remove_file(shop.path("front/state.redb")).unwrap(),
        code: CONFIG,
        says: &["state.redb", "restore it from a backup"],
    },
    Mistake {
        what: "the state is damaged",
        role: "front",
        spoil: |shop| {
            let path = shop.path("front/state.redb");
            let mut bytes = fs::read(&path).unwrap();
            bytes[..4096].fill(0x5a);
            fs::write(&path, bytes).unwrap();
        },
        code: CONFIG,
        says: &["state.redb", "damaged"],
    },
    Mistake {
        what: "others may look into the ledger's directory and write there",
        role: "front",
        spoil: |shop| mode(&shop.path("ledger"), 0o777),
        code: CONFIG,
        says: &["ledger", "chmod"],
    },
];

#[test]
fn every_mistake_is_named_with_its_place_and_remedy() {
    let shop = Workshop::new();
    let mut wrong = Vec::new();
    for table in [MODULE, PIN, FILES, SETTINGS, STORES] {
        for mistake in table {
            shop.with(mistake.spoil, |shop| {
                let ended = shop.start(mistake.role, &[]);
                let code = ended.status.and_then(|status| status.code());
                let missing: Vec<_> = mistake.says.iter().filter(|says| !ended.said.contains(**says)).collect();
                if code != Some(mistake.code) || !missing.is_empty() {
                    wrong
                        .push(format!("{}: code {code:?}, not said: {missing:?}, said:\n{}", mistake.what, ended.said));
                }
            });
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_taken_port_is_named_and_may_come_free() {
    let shop = Workshop::new();
    let addr = proc::metrics_addr(shop.dir());
    let held = TcpListener::bind(&addr).unwrap();
    let ended = shop.start("front", &[]);
    assert_eq!(ended.status.and_then(|status| status.code()), Some(OTHER), "{}", ended.said);
    for says in [addr.as_str(), "[server] metrics_addr", "configure another address"] {
        assert!(ended.said.contains(says), "{says}: {}", ended.said);
    }
    drop(held);
}

#[test]
fn variables_that_mean_nothing_or_too_much_are_refused() {
    let shop = Workshop::new();
    for (name, value, says) in [
        ("AUTH_DEV_BYPASS", "1", "there is no way to bypass authentication"),
        ("AUTH_DEV_BYPASS", "0", "unset it"),
        ("MY_AUTH_DEV_BYPASS_TOO", "1", "unset it"),
        ("PASSPORT_MAX_BTACH", "7", "is not known"),
        ("PASSPORT__HSM__MODULE", "/tmp/evil.so", "only from the root-owned file"),
        ("PASSPORT__SECURITY__REQUIRE_AUD", "false", "only from the root-owned file"),
        ("PASSPORT_MAX_BATCH", "none", "max_batch"),
    ] {
        for role in ["front", "signer", "run", "ceremony"] {
            let ended = shop.start(role, &[(name, value)]);
            assert_eq!(ended.status.and_then(|status| status.code()), Some(CONFIG), "{role} {name}: {}", ended.said);
            assert!(ended.said.contains(name) && ended.said.contains(says), "{role} {name}: {}", ended.said);
        }
    }
}
