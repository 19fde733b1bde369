//! The policy's files.

use std::fs;

use super::table::{By, CONFIG, Mistake, check, mode, put, set};
use super::workshop::Workshop;

/// One more file, beside a good one.
fn more(shop: &Workshop, text: &str) {
    put(&shop.path("policy.d/20-more.toml"), text);
}

const POLICY: &[Mistake] = &[
    Mistake {
        what: "the directory is not there",
        role: "front",
        by: By::Tester,
        spoil: |shop| fs::remove_dir_all(shop.path("policy.d")).unwrap(),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d: No such file", "create it, or correct [policy] dir"],
    },
    Mistake {
        what: "the directory is not absolute",
        role: "front",
        by: By::Tester,
        spoil: |shop| set(shop, "policy.dir", "policy.d"),
        code: CONFIG,
        finds: "config",
        says: &["/passportd.toml:", "`policy.dir`: expected an absolute path"],
    },
    Mistake {
        what: "the front's user can't read it",
        role: "front",
        by: By::Front,
        spoil: |shop| mode(&shop.path("policy.d"), 0o700),
        code: CONFIG,
        finds: "readable",
        says: &["/policy.d", "Permission denied", "the front's user must be able to read it"],
    },
    Mistake {
        what: "others may write it",
        role: "front",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("policy.d/00-start.toml"), 0o666),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/00-start.toml: group or others may write to it", "chmod go-w"],
    },
    Mistake {
        what: "not TOML",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = x\n"),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/20-more.toml:2:8: not valid TOML: ", "; mend it there: text stands in quotes"],
    },
    Mistake {
        what: "not TOML, under `run`",
        role: "run",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = x\n"),
        code: CONFIG,
        finds: "policy",
        says: &[
            "/policy.d/20-more.toml:2:8: not valid TOML: ",
            "; mend it there: text stands in quotes",
            "not started again service=\"front\"",
        ],
    },
    Mistake {
        what: "a key that does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"x\"\nuid = 1\nalow = [\"issue\"]\n"),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/20-more.toml:4:1: unknown field `alow`, expected one of ", "`allow`"],
    },
    Mistake {
        what: "a user that does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"x\"\nuser = \"no-such-user\"\n"),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/20-more.toml:3:8: there is no user \"no-such-user\"; create it, or remove the rule"],
    },
    Mistake {
        what: "a group that does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"x\"\ngroups = [\"no-such-group\"]\n"),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/20-more.toml:3:11: there is no group \"no-such-group\"; create it, or remove the rule"],
    },
    Mistake {
        what: "an operation that does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"x\"\nuid = 1\nallow = [\"verfy\"]\n"),
        code: CONFIG,
        finds: "policy",
        says: &[
            "/policy.d/20-more.toml:4:10: there is no operation \"verfy\"",
            "did you mean `verify`?",
            "there are ping,",
        ],
    },
    Mistake {
        what: "a template that does not exist",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"x\"\nuid = 1\ntemplates = [\"dem\"]\n"),
        code: CONFIG,
        finds: "policy",
        says: &[
            "/policy.d/20-more.toml:4:14: there is no [[template]] named \"dem\"",
            "did you mean `demo`?",
            "add one",
        ],
    },
    Mistake {
        what: "a rule that would mean everybody",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"x\"\nallow = [\"issue\"]\n"),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/20-more.toml:2:8: a rule needs a condition: user, uid, "],
    },
    Mistake {
        what: "a name that is taken",
        role: "front",
        by: By::Tester,
        spoil: |shop| more(shop, "[[peer]]\nname = \"tester\"\nuid = 1\n"),
        code: CONFIG,
        finds: "policy",
        says: &["/policy.d/20-more.toml:2:8: the name \"tester\" is taken in 00-start.toml; choose another"],
    },
];

#[test]
fn the_rules() {
    check(POLICY);
}
