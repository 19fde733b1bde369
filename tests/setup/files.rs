//! The signer's files and directories.

use std::fs;

use super::table::{By, CONFIG, Mistake, check, give, mode, put, set, text};
use super::workshop::Workshop;

/// Lets the signer start as its own user, to whom systemd would give the PIN and a directory for its socket.
fn as_unit(shop: &Workshop) {
    let (uid, _) = shop.signer().unwrap();
    give(&shop.path("pin"), uid);
    let dir = shop.path("link");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(uid), shop.front().map(|(_, gid)| gid)).unwrap();
    mode(&dir, 0o2755);
    set(shop, "hsm.socket", text(&dir.join("signer.sock")));
}

const FILES: &[Mistake] = &[
    Mistake {
        what: "the bounds are not there",
        role: "signer",
        by: By::Tester,
        spoil: |shop| fs::remove_file(shop.path("signer.toml")).unwrap(),
        code: CONFIG,
        finds: "bounds",
        says: &["/signer.toml: cannot be read: No such file", "create it, or correct the path where it is named"],
    },
    Mistake {
        what: "others may write the bounds",
        role: "signer",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("signer.toml"), 0o666),
        code: CONFIG,
        finds: "bounds",
        says: &["/signer.toml: has mode 0666", "chmod go-w"],
    },
    Mistake {
        what: "the bounds name no tenant",
        role: "signer",
        by: By::Tester,
        spoil: |shop| put(&shop.path("signer.toml"), "tenant = []\n"),
        code: CONFIG,
        finds: "bounds",
        says: &["/signer.toml:1:10: expected 1 to 1024 tenants"],
    },
    Mistake {
        what: "a slip in the bounds",
        role: "signer",
        by: By::Tester,
        spoil: |shop| put(&shop.path("signer.toml"), "[[tenant]]\nname = \"t1\"\nmax_ttl = 60\n"),
        code: CONFIG,
        finds: "bounds",
        says: &[
            "/signer.toml:3:1: unknown field `max_ttl`, expected one of ",
            "`max_ttl_s`",
            "; a tenant is [[tenant]], with name = ",
        ],
    },
    Mistake {
        what: "the bounds are not TOML",
        role: "signer",
        by: By::Tester,
        spoil: |shop| put(&shop.path("signer.toml"), "[[tenant]]\nname = t1\nmax_ttl_s = 60\n"),
        code: CONFIG,
        finds: "bounds",
        says: &["/signer.toml:2:8: not valid TOML: ", "; mend it there: text stands in quotes"],
    },
    Mistake {
        what: "the signer's directory is not there",
        role: "signer",
        by: By::Tester,
        spoil: |shop| fs::remove_dir_all(shop.path("state")).unwrap(),
        code: CONFIG,
        finds: "hsm state",
        says: &["/state: No such file", "the signer role needs it: create it, or correct the setting that names it"],
    },
    Mistake {
        what: "the signer's own directory can't be made",
        role: "signer",
        by: By::Signer,
        spoil: |shop| {
            as_unit(shop);
            fs::remove_dir_all(shop.path("state/signer")).unwrap();
            mode(&shop.path("state"), 0o500);
        },
        code: CONFIG,
        finds: "signer dir",
        says: &[
            "[hsm] state_dir ",
            "/state/signer: can't create it: Permission denied",
            "make it yourself, and give it to the signer's user, ",
            "([server] hsm_user)",
        ],
    },
    Mistake {
        what: "the signer's own directory is somebody else's",
        role: "signer",
        by: By::Root,
        spoil: |shop| give(&shop.path("state/signer"), shop.front().unwrap().0),
        code: CONFIG,
        finds: "signer dir",
        says: &["/state/signer/signatures: Permission denied", "run: mkdir -p ", "/state/signer && chown -R "],
    },
    Mistake {
        what: "the signer may not use its own directory",
        role: "signer",
        by: By::Root,
        spoil: |shop| mode(&shop.path("state/signer"), 0o000),
        code: CONFIG,
        finds: "signer dir",
        says: &["/state/signer/signatures: Permission denied", " && chmod -R u=rwX,go= "],
    },
    Mistake {
        what: "the list of keys is of a later version",
        role: "signer",
        by: By::Tester,
        spoil: |shop| {
            let path = shop.path("state/keys.json");
            let text = fs::read_to_string(&path).unwrap();
            put(&path, &text.replacen("\"layout\": 1", "\"layout\": 2", 1));
        },
        code: CONFIG,
        finds: "key list",
        says: &["/state/keys.json: layout 2 is not the one that this version knows", "use the passportd that wrote it"],
    },
    Mistake {
        what: "others may read the list of keys",
        role: "signer",
        by: By::Tester,
        spoil: |shop| mode(&shop.path("state/keys.json"), 0o644),
        code: CONFIG,
        finds: "key list",
        says: &["/state/keys.json: ", "mode 0644; it must be a file of uid ", "chmod 0600"],
    },
    Mistake {
        what: "the token's store is not there",
        role: "signer",
        by: By::Tester,
        spoil: |shop| fs::remove_dir_all(shop.path("store")).unwrap(),
        code: CONFIG,
        finds: "store",
        says: &["/store: No such file", "the signer role needs it: create it, or correct the setting that names it"],
    },
];

#[test]
fn the_signers_files() {
    check(FILES);
}
