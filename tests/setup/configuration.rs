//! `passportd.toml` and the environment.

use std::fs;

use super::table::{By, CONFIG, Mistake, check, give, mode, put, set};
use super::workshop::Workshop;

const FILE: &[Mistake] = &[
    Mistake {
        what: "no configuration",
        role: "run",
        by: By::Tester,
        spoil: |shop| fs::remove_file(shop.path("passportd.toml")).unwrap(),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml: cannot be read: No such file", "create it, or correct the path", "--config"],
    },
    Mistake {
        what: "a configuration that the front's user can't read",
        role: "front",
        by: By::Front,
        spoil: |shop| mode(&shop.path("passportd.toml"), 0o600),
        code: CONFIG,
        finds: "readable",
        says: &[
            "/passportd.toml: cannot be read: Permission denied",
            "the user of this process must be able to read it",
        ],
    },
    Mistake {
        what: "others may write the configuration",
        role: "front",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("passportd.toml"), 0o666),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml: has mode 0666", "chmod go-w"],
    },
    Mistake {
        what: "the configuration is somebody else's",
        role: "front",
        by: By::Root,
        spoil: |shop| give(&shop.path("passportd.toml"), shop.front().unwrap().0),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml: belongs to uid ", "it must belong to root: chown root"],
    },
    Mistake {
        what: "a directory in the configuration's place",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            fs::remove_file(shop.path("passportd.toml")).unwrap();
            fs::create_dir(shop.path("passportd.toml")).unwrap();
        },
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml: is not a regular file; move it away, and write one"],
    },
    Mistake {
        what: "not TOML",
        role: "front",
        by: By::Tester,
        spoil: |shop| put(&shop.path("passportd.toml"), "[server]\nsocket = /run/x.sock\n"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:2:10: not valid TOML: ", "; mend it there: text stands in quotes"],
    },
];

const KEYS: &[Mistake] = &[
    Mistake {
        what: "a key that does not exist",
        role: "run",
        by: By::Tester,
        spoil: |shop| set(shop, "server.sokcet", "/x"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "unknown key `server.sokcet` (did you mean `socket`?)"],
    },
    Mistake {
        what: "a section that does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "sever.socket", "/x"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "unknown key `sever` (did you mean `server`?)"],
    },
    Mistake {
        what: "a value of another type",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "limits.max_batch", "many"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`limits.max_batch`: expected a whole number from 1 to 8192"],
    },
    Mistake {
        what: "a value out of range",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "limits.max_batch", 0),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`limits.max_batch`: expected a whole number from 1 to 8192"],
    },
    Mistake {
        what: "a mode in decimal",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "server.socket_mode", 660),
        code: CONFIG,
        finds: "config",
        says: &[
            "/passportd.toml:",
            "`server.socket_mode`: expected permission bits in octal as text, such as \"0660\"",
        ],
    },
    Mistake {
        what: "a mode of a later release",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "security.pq_mode", "require"),
        code: CONFIG,
        finds: "config",
        says: &["`security.pq_mode`: \"require\" is not yet available in this release; expected \"off\""],
    },
    Mistake {
        what: "no issuer",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "passport.issuer", ""),
        code: CONFIG,
        finds: "config",
        says: &["`passport.issuer` is not set: write the name of this issuer under [passport], such as issuer = "],
    },
    Mistake {
        what: "settings that contradict each other",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            set(shop, "passport.default_ttl_s", 7200);
            set(shop, "passport.max_ttl_s", 3600);
        },
        code: CONFIG,
        finds: "config",
        says: &["passport.default_ttl_s is more than passport.max_ttl_s (passport.default_ttl_s: /", "passportd.toml:"],
    },
    Mistake {
        what: "two faults at once: both are named",
        role: "front",
        by: By::Tester,
        spoil: |shop| {
            set(shop, "server.sokcet", "/x");
            set(shop, "limits.rps", -1);
        },
        code: CONFIG,
        finds: "config",
        says: &["unknown key `server.sokcet`", "`limits.rps`: expected a whole number from 1 to 10000000"],
    },
];

#[test]
fn the_file() {
    check(FILE);
}

#[test]
fn its_keys_and_values() {
    check(KEYS);
}

#[test]
fn variables_that_mean_nothing_or_too_much() {
    let shop = Workshop::new();
    let before = shop.files();
    for (name, value, says) in [
        ("AUTH_DEV_BYPASS", "1", "there is no way to bypass authentication"),
        ("AUTH_DEV_BYPASS", "0", "unset it"),
        ("MY_AUTH_DEV_BYPASS_TOO", "1", "unset it"),
        ("PASSPORT_MAX_BTACH", "7", "is not known (did you mean `PASSPORT_MAX_BATCH`?)"),
        ("PASSPORT__LIMITS__MAX_BTACH", "7", "is not known (did you mean `max_batch`?)"),
        ("PASSPORT__HSM__MODULE", "/tmp/evil.so", "only from the root-owned file"),
        ("PASSPORT__SECURITY__REQUIRE_AUD", "false", "only from the root-owned file"),
        ("PASSPORT_MAX_BATCH", "none", "`limits.max_batch`: expected a whole number"),
    ] {
        for role in ["front", "signer", "run", "ceremony"] {
            let ended = shop.start(role, &[(name, value)]);
            assert_eq!(ended.status.and_then(|status| status.code()), Some(CONFIG), "{role} {name}: {}", ended.said);
            let named = format!("environment variable {name}");
            assert!(ended.said.contains(&named) && ended.said.contains(says), "{role} {name}: {}", ended.said);
            assert!(!ended.said.contains("evil"), "no message repeats a value: {}", ended.said);
        }
    }
    assert_eq!(shop.files(), before);
}
